//! What must never be, by the truth of the world.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::rule::{ResourceId, RuleName, Side};
use crate::domain::seen::Power;
use crate::domain::time::since;
use crate::gateway::envoy::model::{Happened, Millis};
use crate::proxy::state::State;

use super::world::{Inner, time};

/// What happened so shortly before a call that nobody could have known when it was decided.
const UNKNOWABLE: Millis = 12_000;
/// How often records are looked at.
const RECORDS: Millis = 3_000;

/// What is true of a rule, whatever the daemon believes.
#[derive(Debug, Default)]
pub struct OfRule {
    pub machines: Vec<ResourceId>,
    /// Since when its file says so.
    pub since: Millis,
    /// All that were ever its machines: what was begun for them may still be on its way.
    pub all_machines: BTreeSet<ResourceId>,
    pub idle: Millis,
    pub settle: Millis,
    /// Since when no new connection can reach its machine.
    out_of_reach_since: Option<Millis>,
    /// When somebody last did what may wake it: a connection, a command.
    pub asked: Option<Millis>,
    /// When it was last put to sleep by a command, and not asked for since.
    pub told_to_sleep: Option<Millis>,
    /// When a connection to its machine was last open.
    used: Option<Millis>,
    /// The highest generation it was ever at, and the ports it has.
    generation: u64,
    ports: BTreeMap<u16, u16>,
}

impl OfRule {
    /// Whether its file has been what it is for longer than what was decided by an earlier one takes.
    fn is_known(&self, now: Millis) -> bool {
        self.since == 0 || now - self.since > UNKNOWABLE
    }
}

/// What is known of the rules, and what was found wrong.
#[derive(Debug, Default)]
pub struct Truth {
    pub rules: BTreeMap<RuleName, OfRule>,
    /// By client: its rule, and since when it is open.
    pub clients: BTreeMap<u64, (RuleName, Option<Millis>)>,
    pub wrong: Vec<String>,
    /// What has been seen at least once.
    pub sights: BTreeSet<&'static str>,
    stored: Option<Vec<u8>>,
    /// When the records were last looked at.
    recorded: Millis,
}

impl Inner {
    fn wrong(&mut self, what: String) {
        let at = self.now as f64 / 1000.0;
        self.truth.wrong.push(format!("at {at}: {what}"));
    }

    fn see(&mut self, sight: &'static str) {
        self.truth.sights.insert(sight);
    }

    /// What Envoy has done since, and how everything stands.
    pub fn judge(&mut self) {
        let now = self.now;
        let happened = self.envoy.happened();
        for happened in happened {
            match happened {
                Happened::Delivered(cluster) => self.judge_delivered(&cluster),
                Happened::CameBack(cluster) => self.wrong(format!("I10: {cluster} is there again under its old name")),
                Happened::Opened { client, rule, host } => {
                    let machine = self.machines.get(&Inner::at(&host));
                    let stopping = machine.is_some_and(|machine| machine.we_stop);
                    let serves = machine.is_some_and(|machine| machine.serves(now));
                    let known = self.truth.rules.get(&rule).is_some_and(|rule| rule.is_known(now));
                    if stopping && known {
                        self.wrong(format!(
                            "I1: a connection for {rule} is led to {host}, which we are stopping"
                        ));
                    }
                    if !serves {
                        // The site's own error.
                        self.envoy.leave(client);
                        self.truth.clients.remove(&client);
                        continue;
                    }
                    self.see("served");
                    if let Some((_, opened)) = self.truth.clients.get_mut(&client) {
                        *opened = Some(now);
                    }
                }
                Happened::LetGo(client) => {
                    self.see("let go");
                    self.truth.clients.remove(&client);
                }
            }
        }
        let names: Vec<RuleName> = self.truth.rules.keys().cloned().collect();
        for name in names {
            let reached = !self.envoy.leads(&name).is_empty();
            let open = self
                .truth
                .clients
                .values()
                .any(|(rule, opened)| *rule == name && opened.is_some());
            let Some(rule) = self.truth.rules.get_mut(&name) else {
                continue;
            };
            rule.out_of_reach_since = if reached {
                None
            } else {
                rule.out_of_reach_since.or(Some(now))
            };
            if open {
                rule.used = Some(now);
            }
        }
        if now >= self.truth.recorded + RECORDS {
            self.truth.recorded = now;
            self.judge_records();
        }
    }

    fn judge_records(&mut self) {
        let names: Vec<RuleName> = self.truth.rules.keys().cloned().collect();
        for (name, record) in names
            .iter()
            .filter_map(|name| Some((name, self.record(name)?)))
            .collect::<Vec<_>>()
        {
            if record.adopted && record.next_check <= record.snapshot.at {
                self.wrong(format!("I5: {name} is not looked at again"));
            }
            self.see(record.snapshot.phase.name());
        }
    }

    /// I1: its machine has been found well by a check of this life, and is not one that we are stopping.
    fn judge_delivered(&mut self, cluster: &str) {
        let now = self.now;
        let Some((name, _)) = cluster.rsplit_once('@') else {
            return;
        };
        let name = RuleName(name.to_owned());
        let Some(rule) = self.truth.rules.get(&name) else {
            return;
        };
        let found = rule.machines.iter().filter_map(|id| Some((id, self.machines.get(id)?)));
        let touched = |by_hand: Option<Millis>| by_hand.is_some_and(|at| now - at <= UNKNOWABLE);
        // A flip that Envoy refuses is taken back: what led there before still does, by its old name.
        let mut led = self.envoy.leads(&name);
        led.remove(cluster);
        let news = |id: &ResourceId| !led.values().any(|host| *host == Inner::host(id));
        let found = found.filter(|(id, _)| news(id));
        let bad = found.filter(|(id, m)| !m.seen_well && !touched(m.by_hand) || m.we_stop || self.is_being_stopped(id));
        let bad = bad.map(|machine| format!("{machine:?}")).next();
        if let Some(bad) = bad {
            self.wrong(format!("I1: Envoy is led to {cluster}: {bad}"));
        }
        self.see("delivered");
    }

    /// I4: somebody asked for it since it was last out of reach, but for what was known too late.
    pub fn judge_start(&mut self, id: &ResourceId, crosses: bool) {
        let stopped = self
            .machines
            .get(id)
            .is_some_and(|machine| machine.power == Power::Stopped);
        let rules = self.truth.rules.iter();
        let owners = rules.filter(|(_, rule)| rule.all_machines.contains(id));
        let asked = owners.filter_map(|(_, rule)| rule.asked).max();
        let machine = self.machines.get(id);
        let downs = machine.and_then(|machine| machine.by_user.filter(|_| machine.we_stop));
        let since = downs.unwrap_or(0).saturating_sub(UNKNOWABLE);
        if stopped && asked.is_none_or(|asked| asked < since) {
            self.wrong(format!("I4: {id} is started and nobody asked for it since {since}"));
        }
        if crosses {
            self.wrong(format!("I7: a start of {id} crosses a stop"));
        }
        self.see("started");
    }

    /// I2, I7, I8, I9: nobody is led there, nobody is there, for as long as it takes; and its one owner stops it.
    pub fn judge_stop(&mut self, id: &ResourceId) {
        let now = self.now;
        if self
            .machines
            .get(id)
            .is_none_or(|machine| machine.power != Power::Running)
        {
            return;
        }
        let by_hand = self.machines.get(id).and_then(|machine| machine.by_hand);
        let rules = self.truth.rules.iter();
        let owners = rules.filter(|(_, rule)| rule.is_known(now) && rule.machines.contains(id));
        let owners = owners.map(|(name, _)| name.clone());
        let owners: Vec<RuleName> = owners.collect();
        if owners.len() > 1 {
            self.wrong(format!("I8: {id} is stopped, which {owners:?} share"));
        }
        // One that has lost it lately may still be at it.
        let rules = self.truth.rules.iter();
        let lately = rules
            .filter(|(_, rule)| rule.machines.contains(id) || rule.all_machines.contains(id) && !rule.is_known(now));
        let (mut leases, mut known) = (0, true);
        for (name, rule) in lately {
            let lease = self.record(name).and_then(|record| record.lease);
            leases += usize::from(lease.is_some_and(|lease| time(now) < lease.until));
            known &= rule.is_known(now);
        }
        if leases == 0 || leases > 1 && known {
            self.wrong(format!("I8: {id} is stopped and {leases} leases are held"));
        }
        let host = Inner::host(id);
        let open = self.envoy.clients_of(&host);
        for name in &owners {
            let Some(rule) = self.truth.rules.get(name) else {
                continue;
            };
            let told = rule.told_to_sleep.is_some();
            let touched = by_hand.is_some_and(|at| now - at <= rule.idle + rule.settle + UNKNOWABLE);
            let (idle, settle, used) = (rule.idle, rule.settle, rule.used);
            match rule.out_of_reach_since {
                None => self.wrong(format!("I2: {id} is stopped while Envoy leads to it")),
                Some(since) if now - since < settle => {
                    self.wrong(format!("I2: {id} is stopped {} ms after the flip", now - since));
                }
                Some(_) => {}
            }
            if told || touched {
                continue;
            }
            if !open.is_empty() {
                self.wrong(format!("a stop of {id} cuts {open:?}, by nobody's word"));
            } else if used.is_some_and(|used| now - used < idle) {
                self.wrong(format!(
                    "I9: {id} is stopped {} ms after its last use",
                    now - used.unwrap_or(0)
                ));
            }
        }
        self.see("stopped");
    }

    /// Envoy says again who once came; nobody can tell whether he is still there.
    pub fn ring_again(&mut self) {
        let now = self.now;
        for name in self.envoy.rung() {
            if let Some(rule) = self.truth.rules.get_mut(&name) {
                rule.asked = Some(now);
            }
        }
    }

    /// A client leaves, from its wait or from its machine.
    pub fn leave(&mut self, client: u64) {
        self.envoy.leave(client);
        let now = self.now;
        if let Some((name, Some(_))) = self.truth.clients.remove(&client)
            && let Some(rule) = self.truth.rules.get_mut(&name)
        {
            rule.used = Some(now);
        }
    }

    /// Whoever was connected to a machine that goes down is no more.
    pub fn break_connections(&mut self, id: &ResourceId) {
        let host = Inner::host(id);
        for client in self.envoy.clients_of(&host) {
            self.envoy.leave(client);
            self.truth.clients.remove(&client);
        }
    }

    /// I10: generations only rise, ports stay and are nobody else's, and what Envoy was told is on the disk.
    pub fn judge_stored(&mut self, bytes: Option<Vec<u8>>) {
        if bytes.is_none() || bytes == self.truth.stored {
            return;
        }
        let state = bytes.as_deref().map(State::read);
        self.truth.stored = bytes;
        let Some(Ok(state)) = state else {
            self.wrong("I10: what is remembered cannot be read".to_owned());
            return;
        };
        let mut wrong = Vec::new();
        let mut taken: BTreeMap<u16, RuleName> = BTreeMap::new();
        for (name, rule) in &mut self.truth.rules {
            let generation = state.generation(name);
            if generation < rule.generation {
                wrong.push(format!("I10: {name} is at {generation} after {}", rule.generation));
            }
            rule.generation = generation;
            for target in [22, 5432] {
                let Some(port) = state.port(name, target) else { continue };
                let before = rule.ports.insert(target, port);
                if before.is_some_and(|before| before != port) {
                    wrong.push(format!("I10: {name} has moved from port {before:?} to {port}"));
                }
                if let Some(other) = taken.insert(port, name.clone()) {
                    wrong.push(format!("I10: port {port} is {other}'s and {name}'s"));
                }
            }
            let told = self.envoy.generations(name);
            if told.iter().any(|told| *told > generation) {
                wrong.push(format!("I10: Envoy has {name} at {told:?}, the disk at {generation}"));
            }
            if state.side(name) == Side::Backend {
                self.truth.sights.insert("on the backend");
            }
        }
        for what in wrong {
            self.wrong(what);
        }
    }

    /// Seconds since the record's last decision, for messages.
    pub fn told(&self, name: &RuleName) -> String {
        self.record(name).map_or_else(
            || "never looked at".to_owned(),
            |record| {
                let ago = since(record.snapshot.at, record.wanted_since).as_secs();
                format!(
                    "wanted {:?} for {ago} s by {:?}, {:?}, failures {:?}",
                    record.wanted, record.wanted_by, record.snapshot.phase, record.failures
                )
            },
        )
    }
}
