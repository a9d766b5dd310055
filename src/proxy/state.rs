//! What Envoy must find again after a restart of the daemon: which side each rule is on, its generation, the ports it
//! listens at. Pure; written to the disk before Envoy is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::config::discovered::Tagged;
use crate::domain::rule::{ResourceId, RuleName, Side};

/// The file in the daemon's folder.
pub const FILE: &str = "proxy.json";
const SCHEMA: u32 = 1;

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    schema: u32,
    rules: BTreeMap<RuleName, Stand>,
    /// Ports that were given to a rule which is gone, the one that has been free for longest first.
    freed: VecDeque<u16>,
    /// Where machines were last found: a restart tells Envoy the same as before, whether or not AWS answers.
    #[serde(default)]
    hosts: BTreeMap<ResourceId, String>,
    /// The machines that a rule's tag filters last found, for the same reason.
    #[serde(default)]
    tagged: BTreeMap<RuleName, Vec<ResourceId>>,
    /// What last opted itself in by its tags, for the same reason.
    #[serde(default)]
    discovered: Vec<Tagged>,
    /// The tags by which machines are in use, or last were.
    #[serde(default)]
    last_tags: Vec<Tagged>,
    /// The machines of each rule there is.
    #[serde(default)]
    machines: BTreeMap<RuleName, BTreeSet<ResourceId>>,
    /// Machines that were a rule's: connections that came for it may still be open to them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    left: BTreeMap<RuleName, BTreeSet<ResourceId>>,
    /// The hosts of each certificate that Envoy has been told of: it keeps them with their keys when this daemon cannot read them.
    #[serde(default)]
    certificates: BTreeMap<String, Vec<String>>,
}

/// Where a rule stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stand {
    side: Side,
    generation: u64,
    /// The allotted listening port of each of its machine's ports.
    #[serde(default)]
    ports: BTreeMap<u16, u16>,
    /// Generations go on where they were when a rule comes back: Envoy never forgets a name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
}

impl Default for State {
    fn default() -> Self {
        State {
            schema: SCHEMA,
            rules: BTreeMap::new(),
            freed: VecDeque::new(),
            hosts: BTreeMap::new(),
            tagged: BTreeMap::new(),
            discovered: Vec::new(),
            last_tags: Vec::new(),
            machines: BTreeMap::new(),
            left: BTreeMap::new(),
            certificates: BTreeMap::new(),
        }
    }
}

/// There is no port left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "all ports of portRange {first}-{last} are taken: {rule} gets none for its port {port}; widen the range or remove rules"
)]
pub struct NoPort {
    pub rule: RuleName,
    pub port: u16,
    pub first: u16,
    pub last: u16,
}

impl State {
    /// Reads what [`State::written`] wrote.
    ///
    /// # Errors
    /// A sentence: guessing would give ports away twice.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let state: State = serde_json::from_slice(bytes).map_err(|error| format!("{FILE} cannot be read: {error}"))?;
        match state.schema {
            schema if schema <= SCHEMA => Ok(state),
            later => Err(format!(
                "{FILE} has schema {later}, this version reads up to {SCHEMA}: finish the upgrade, or roll back"
            )),
        }
    }

    /// As it lies on the disk.
    pub fn written(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// All rules ever heard of, with the sides they are on.
    pub fn sides(&self) -> impl Iterator<Item = (&RuleName, Side)> {
        self.rules.iter().map(|(rule, stand)| (rule, stand.side))
    }

    /// The side a rule is on; one never heard of sleeps.
    pub fn side(&self, rule: &RuleName) -> Side {
        self.rules.get(rule).map_or(Side::Waker, |stand| stand.side)
    }

    /// Its generation, from 1.
    pub fn generation(&self, rule: &RuleName) -> u64 {
        self.rules.get(rule).map_or(1, |stand| stand.generation)
    }

    /// Puts a rule on a side. Going to sleep raises the generation; what is there already changes nothing.
    pub fn flip(&mut self, rule: &RuleName, side: Side) {
        let stand = self.stand(rule);
        if side == Side::Waker && stand.side == Side::Backend {
            stand.generation += 1;
        }
        stand.side = side;
    }

    /// Ends a wait: who comes from now on rings anew. Nothing for a rule that is awake.
    pub fn give_up(&mut self, rule: &RuleName) {
        let stand = self.stand(rule);
        if stand.side == Side::Waker {
            stand.generation += 1;
        }
    }

    /// The allotted listening port of a rule's machine's port.
    pub fn port(&self, rule: &RuleName, target: u16) -> Option<u16> {
        self.rules.get(rule)?.ports.get(&target).copied()
    }

    /// Allots a port to each of these, keeping what they have, and frees what nobody wants any more. A rule that got none
    /// does not harm the others. `fixed` are ports that rules ask for themselves.
    pub fn allot(
        &mut self,
        range: &RangeInclusive<u16>,
        wanted: &BTreeMap<RuleName, BTreeSet<u16>>,
        fixed: &BTreeSet<u16>,
    ) -> Vec<NoPort> {
        for (rule, stand) in &mut self.rules {
            let keeps = wanted.get(rule);
            let usable = |port: &u16| range.contains(port) && !fixed.contains(port);
            // A rule that is gone keeps its ports while there are others: it may be back in a moment.
            let freed = stand.ports.extract_if(.., |target, port| {
                !keeps.is_none_or(|keeps| keeps.contains(target)) || !usable(port)
            });
            self.freed.extend(freed.map(|(_, port)| port));
            if keeps.is_none() && !stand.gone {
                flip_of_gone(stand);
            }
            stand.gone = keeps.is_none();
        }
        self.freed.retain(|port| range.contains(port));
        let mut missing = Vec::new();
        for (rule, targets) in wanted {
            for target in targets {
                if self.port(rule, *target).is_some() {
                    continue;
                }
                match self.free(range, fixed) {
                    Some(port) => drop(self.stand(rule).ports.insert(*target, port)),
                    None => missing.push(NoPort {
                        rule: rule.clone(),
                        port: *target,
                        first: *range.start(),
                        last: *range.end(),
                    }),
                }
            }
            self.stand(rule).gone = false;
        }
        missing
    }

    /// A port nobody ever had, else the one that has been free for longest, else one of a rule that is gone: somebody may still
    /// have the address noted.
    fn free(&mut self, range: &RangeInclusive<u16>, fixed: &BTreeSet<u16>) -> Option<u16> {
        let taken: BTreeSet<u16> = self
            .rules
            .values()
            .flat_map(|stand| stand.ports.values().copied())
            .collect();
        let open = |port: &u16| !taken.contains(port) && !fixed.contains(port);
        let fresh = range.clone().find(|port| open(port) && !self.freed.contains(port));
        if let Some(port) = fresh.or_else(|| self.freed.iter().copied().find(open)) {
            self.freed.retain(|freed| *freed != port);
            return Some(port);
        }
        let mut gone = self.rules.values_mut().filter(|stand| stand.gone);
        gone.find_map(|stand| stand.ports.pop_first()).map(|(_, port)| port)
    }

    /// Where a machine was last found.
    pub fn host(&self, machine: &ResourceId) -> Option<&str> {
        self.hosts.get(machine).map(String::as_str)
    }

    /// Notes where a machine is; whether that is news.
    pub fn note_host(&mut self, machine: &ResourceId, host: &str) -> bool {
        self.hosts.insert(machine.clone(), host.to_owned()).as_deref() != Some(host)
    }

    /// The machines that a rule's tag filters last found.
    pub fn tagged(&self, rule: &RuleName) -> &[ResourceId] {
        self.tagged.get(rule).map_or(&[], Vec::as_slice)
    }

    pub fn note_tagged(&mut self, rule: &RuleName, found: Vec<ResourceId>) {
        self.tagged.insert(rule.clone(), found);
    }

    /// What last opted itself in by its tags.
    pub fn discovered(&self) -> &[Tagged] {
        &self.discovered
    }

    pub fn note_discovered(&mut self, found: Vec<Tagged>) {
        self.discovered = found;
    }

    /// The tags by which machines are in use.
    pub fn last_tags(&self) -> &[Tagged] {
        &self.last_tags
    }

    pub fn note_last_tags(&mut self, last: Vec<Tagged>) {
        self.last_tags = last;
    }

    /// Machines that were a rule's, until nothing is open for it any more.
    pub fn left(&self) -> &BTreeMap<RuleName, BTreeSet<ResourceId>> {
        &self.left
    }

    /// Takes in the machines of all rules there are. What a rule has no more it has left, also while no daemon was there.
    pub fn note_machines(&mut self, machines: BTreeMap<RuleName, BTreeSet<ResourceId>>) {
        let none = BTreeSet::new();
        for (rule, had) in std::mem::take(&mut self.machines) {
            let has = machines.get(&rule).unwrap_or(&none);
            let mut lost = had.difference(has).cloned().peekable();
            if lost.peek().is_some() {
                self.left.entry(rule).or_default().extend(lost);
            }
        }
        self.machines = machines;
    }

    pub fn forget_left(&mut self, rule: &RuleName) {
        self.left.remove(rule);
    }

    /// The hosts of each certificate that Envoy has been told of.
    pub fn certificates(&self) -> &BTreeMap<String, Vec<String>> {
        &self.certificates
    }

    pub fn note_certificates(&mut self, hosts: BTreeMap<String, Vec<String>>) {
        self.certificates = hosts;
    }

    fn stand(&mut self, rule: &RuleName) -> &mut Stand {
        self.rules.entry(rule.clone()).or_insert(Stand {
            side: Side::Waker,
            generation: 1,
            ports: BTreeMap::new(),
            gone: false,
        })
    }
}

/// A rule that is taken away leaves Envoy without its cluster, and who waited for it is let go; should it come back, it is
/// looked at anew, and rung for by another name.
fn flip_of_gone(stand: &mut Stand) {
    stand.generation += 1;
    stand.side = Side::Waker;
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
