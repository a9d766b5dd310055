//! What the proxy stands for at this moment: its rules, what is remembered of them, what Envoy has been told.

mod machines;
mod ports;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{self, Clock, SystemClock};
use crate::compute::kinds::Kinds;
use crate::config::discovered::Tagged;
use crate::config::proxy::ProxyConfig;
use crate::config::proxy_rules::ProxyRule;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::rule::{ResourceId, RouteId, RuleName, Side};
use crate::domain::table::RouteTable;
use crate::domain::time::Timestamp;
use crate::gateway::envoy::{Certificate, NotAcked, Plane, Version};
use crate::ledger::folder::Folder;

use super::prober::Prober;
use super::state::{self, NoPort, State};

use self::machines::note_machines;
use self::ports::name_of;

/// What stands for the daemon among the target groups.
pub const WAKER: &str = "envoy:waker";
/// The header by which a held request is matched to its rule again; a client's own is taken away.
pub const RULE_HEADER: &str = "x-autostopping-rule";
/// How long Envoy may take to acknowledge a flip; within the time of an action.
const ACK: Duration = Duration::from_secs(8);
/// While Envoy is not there or refuses, it is asked about this often.
const PAUSE: Duration = Duration::from_secs(1);

/// The gateway and the metrics of the proxy. Clones share everything.
#[derive(Debug, Clone)]
pub struct Front {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ProxyConfig,
    folder: Arc<Folder>,
    compute: Kinds,
    prober: Prober,
    /// Started after this, because what it asks needs this.
    plane: OnceLock<Plane>,
    now: Mutex<Now>,
    /// What was open when Envoy was last asked.
    open: Mutex<Option<(Timestamp, BTreeSet<RuleName>)>>,
    changes: watch::Sender<u64>,
}

/// What changes, all under one lock, so that views are published in the order in which they were made.
#[derive(Debug, Clone, Default)]
struct Now {
    rules: BTreeMap<RuleName, Arc<ProxyRule>>,
    /// Since when each of them is in use without a break.
    since: BTreeMap<RuleName, Timestamp>,
    state: State,
    certificates: Vec<Certificate>,
    /// Rules without all of their ports, and why.
    missing: Vec<NoPort>,
    /// Machines that checks find unwell.
    unwell: BTreeSet<ResourceId>,
    /// Rules of which nobody knows where Envoy leads: it has not acknowledged their last flip, maybe one of an earlier daemon.
    unsure: BTreeSet<RuleName>,
    /// As the core read it last.
    last_read: Option<RouteTable>,
}

impl Front {
    /// With the state that the folder has.
    ///
    /// # Errors
    /// A sentence.
    pub fn open(config: ProxyConfig, folder: Arc<Folder>, compute: Kinds) -> Result<Self, String> {
        let bytes = folder
            .get(state::FILE)
            .map_err(|error| format!("{}: {error}", state::FILE))?;
        let state = bytes.map_or_else(|| Ok(State::default()), |bytes| State::read(&bytes))?;
        let now = Now {
            unsure: state.sides().map(|(rule, _)| rule.clone()).collect(),
            state,
            ..Now::default()
        };
        let inner = Inner {
            config,
            folder,
            compute,
            prober: Prober::default(),
            plane: OnceLock::new(),
            now: Mutex::new(now),
            open: Mutex::default(),
            changes: watch::Sender::new(0),
        };
        Ok(Front { inner: Arc::new(inner) })
    }

    /// The control plane through which Envoy is told; once.
    pub fn connect(&self, plane: Plane) {
        let _ = self.inner.plane.set(plane);
    }

    pub fn plane(&self) -> Option<&Plane> {
        self.inner.plane.get()
    }

    pub fn config(&self) -> &ProxyConfig {
        &self.inner.config
    }

    /// Envoy's own interface.
    pub fn admin_socket(&self) -> PathBuf {
        self.inner.config.xds_socket.with_file_name("envoy-admin.sock")
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.inner.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn rule(&self, name: &RuleName) -> Option<Arc<ProxyRule>> {
        self.now().rules.get(name).cloned()
    }

    /// Since when a rule is in use without a break; what came before is nobody's use of it, whatever was reported.
    pub fn in_use_since(&self, name: &RuleName) -> Option<Timestamp> {
        self.now().since.get(name).copied()
    }

    pub fn rules(&self) -> Vec<Arc<ProxyRule>> {
        self.now().rules.values().cloned().collect()
    }

    /// Where the proxy listens for a rule's machine's port.
    pub fn port(&self, rule: &ProxyRule, target: u16) -> Option<u16> {
        let fixed = rule.tcp.iter().find(|way| way.port == target)?.listen;
        fixed.or_else(|| self.now().state.port(&rule.name, target))
    }

    pub fn missing(&self) -> Vec<NoPort> {
        self.now().missing.clone()
    }

    pub fn generation(&self, rule: &RuleName) -> u64 {
        self.now().state.generation(rule)
    }

    pub fn side(&self, rule: &RuleName) -> Side {
        self.now().state.side(rule)
    }

    /// Whether Envoy is known to do what it shall with this rule.
    pub fn is_sure(&self, rule: &RuleName) -> bool {
        let mut now = self.now();
        if now.unsure.contains(rule) && self.plane().is_some_and(|plane| plane.is_settled_for(rule)) {
            now.unsure.remove(rule);
        }
        !now.unsure.contains(rule)
    }

    /// Ends when Envoy is known to do what it shall with this rule.
    pub async fn sure(&self, rule: &RuleName) {
        while !self.is_sure(rule) {
            let settled = match self.plane() {
                Some(plane) => plane.settled_for(rule).await.is_ok(),
                None => false,
            };
            if !settled {
                clock::sleep(PAUSE).await;
            }
        }
    }

    /// Counts what is changed here.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Whether Envoy leads what came for this generation of a rule to its machines.
    pub fn leads_to_backend(&self, rule: &RuleName, generation: u64) -> bool {
        self.side(rule) == Side::Backend && self.generation(rule) == generation && self.is_sure(rule)
    }

    /// Puts other rules in the place of those there are, and says which have changed. What stays keeps its side, its generation
    /// and its ports. `last_tags` are the tags by which machines are in use.
    ///
    /// # Errors
    /// When it cannot be remembered; then nothing is changed.
    pub fn set_rules(&self, rules: Vec<ProxyRule>, last_tags: Vec<Tagged>) -> Result<Vec<RuleName>, Fault> {
        let rules: BTreeMap<_, _> = rules
            .into_iter()
            .map(|rule| (rule.name.clone(), Arc::new(rule)))
            .collect();
        let allotted = |rule: &ProxyRule| {
            rule.tcp
                .iter()
                .filter(|way| way.listen.is_none())
                .map(|way| way.port)
                .collect()
        };
        let wanted = rules
            .iter()
            .map(|(name, rule)| (name.clone(), allotted(rule)))
            .collect();
        let fixed = rules
            .values()
            .flat_map(|rule| &rule.tcp)
            .filter_map(|way| way.listen)
            .collect();
        let range = self.inner.config.port_range.clone();
        let mut changed = Vec::new();
        self.change(|now| {
            now.missing = now.state.allot(&range, &wanted, &fixed);
            now.state.note_last_tags(last_tags);
            let since = |rule| now.since.get(rule).copied().unwrap_or_else(|| SystemClock.now());
            now.since = rules.keys().map(|rule| (rule.clone(), since(rule))).collect();
            let other = |(name, rule): (&RuleName, &Arc<ProxyRule>)| now.rules.get(name).is_some_and(|had| had != rule);
            let others = rules.iter().filter(|rule| other(*rule));
            changed = others.map(|(name, _)| name.clone()).collect();
            now.rules = rules;
            note_machines(now);
        })?;
        Ok(changed)
    }

    pub fn set_certificates(&self, certificates: Vec<Certificate>) -> Result<(), Fault> {
        let hosts = certificates.iter().map(|one| (one.name.clone(), one.hosts.clone()));
        let hosts = hosts.collect();
        self.change(|now| {
            now.state.note_certificates(hosts);
            now.certificates = certificates;
        })?;
        Ok(())
    }

    /// The hosts of the certificates that Envoy has been told of, by their names.
    pub fn certificates(&self) -> BTreeMap<String, Vec<String>> {
        self.now().state.certificates().clone()
    }

    /// Ends the wait of all who rang for this generation.
    ///
    /// # Errors
    /// When it cannot be remembered.
    pub fn give_up(&self, rule: &RuleName, generation: u64) -> Result<(), Fault> {
        self.change(|now| {
            if now.state.generation(rule) == generation {
                now.state.give_up(rule);
            }
        })?;
        Ok(())
    }

    /// Changes what is remembered: on the disk first, then here, then in Envoy.
    fn change(&self, work: impl FnOnce(&mut Now)) -> Result<Option<Version>, Fault> {
        let mut now = self.now();
        let mut next = now.clone();
        work(&mut next);
        if next.state != now.state {
            let written = self.inner.folder.put(state::FILE, &next.state.written());
            written.map_err(|error| Fault::new(FaultKind::Conflict, "proxy:remember", error.to_string()))?;
        }
        let flipped = next.state.sides().filter(|(rule, side)| now.state.side(rule) != *side);
        next.unsure.extend(flipped.map(|(rule, _)| rule.clone()));
        *now = next;
        self.inner.changes.send_modify(|count| *count = count.wrapping_add(1));
        Ok(self.publish(&now))
    }

    fn publish(&self, now: &Now) -> Option<Version> {
        let plane = self.inner.plane.get()?;
        Some(plane.publish(&self.view(now)))
    }

    /// Tells Envoy what there is, for the first time.
    pub fn begin(&self) -> Option<Version> {
        self.publish(&self.now())
    }

    async fn flip(&self, route: &RouteId, side: Side) -> Result<(), Fault> {
        const FLIP: &str = "envoy:flip";
        let name =
            name_of(&route.0).ok_or_else(|| Fault::new(FaultKind::NotFound, FLIP, format!("{route} is no route")))?;
        if self.rule(&name).is_none() {
            return Err(Fault::new(
                FaultKind::NotFound,
                FLIP,
                format!("{name} is no rule any more"),
            ));
        }
        let before = self.side(&name);
        self.change(|now| now.state.flip(&name, side))?;
        let Some(plane) = self.plane() else {
            return Err(Fault::new(FaultKind::Conflict, FLIP, "Envoy is not told anything yet"));
        };
        // What it has not acknowledged it may get at any moment.
        match clock::timeout(ACK, plane.settled_for(&name)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                if before != side && matches!(error, NotAcked::Rejected(_)) {
                    // Half of it would be neither. One that was on that side already, and of which nobody knew whether Envoy had
                    // heard, stays: the machines of one that is asleep may be down.
                    self.change(|now| now.state.flip(&name, before))?;
                }
                Err(Fault::new(FaultKind::Other, FLIP, error.to_string()))
            }
            Err(_) => Err(Fault::new(
                FaultKind::Other,
                FLIP,
                "Envoy does not acknowledge it in time",
            )),
        }
    }
}
