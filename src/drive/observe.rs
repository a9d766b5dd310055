//! What is there: routes from the table, health from the target groups, machines from EC2.

use super::{Driver, Effort};
use crate::activity::Metrics;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::domain::activity::Counted;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::record::Record;
use crate::domain::rule::{Action, GroupId, Problem, ResourceId, RouteId, RuleName, Side, final_action};
use crate::domain::seen::{GroupHealth, Parked, RouteSeen, Seen};
use crate::domain::table::RouteTable;
use crate::gateway::Gateway;
use crate::ledger::{Ledger, LedgerError};
use crate::rules::{Managed, Rules, side};

/// What a look found, and the route table it was read from.
pub(super) struct Observed {
    /// The rule as its tags are in that table.
    pub(super) managed: Managed,
    pub(super) seen: Seen,
    pub(super) table: RouteTable,
}

impl<C: Compute, G: Gateway, M: Metrics, L: Ledger, K: Clock> Driver<C, G, M, L, K> {
    pub(super) async fn observe(
        &self,
        managed: &Managed,
        record: &Record,
        effort: Effort,
        known: Option<&Counted>,
    ) -> Result<Observed, LedgerError> {
        let table = self.table().await?;
        // Released while this look waited for its lease: what was found before that is no reason to act.
        let rules = self.rules_of(&table);
        let managed = rules.get(&managed.rule.name).ok_or(LedgerError::Lost)?.clone();
        let mut seen = self
            .observe_with(&managed, &rules, record, &table, claimed(record, effort))
            .await?;
        // Somebody waits: whether the rule is idle is a question for the schedule.
        if effort != Effort::Snapshot {
            seen.counted = self.counted(&managed, record, &table, &seen.routes, known).await;
        }
        Ok(Observed { managed, seen, table })
    }

    /// As `observe`, with the routes and their tags read now and all other claims on the machines asked for again. None
    /// when the rule is no longer managed.
    pub(super) async fn observe_before_stop(
        &self,
        name: &RuleName,
        record: &Record,
        counted: Option<Counted>,
    ) -> Result<Option<Observed>, LedgerError> {
        let before = self.ledger.load_table().await?.map(|stored| stored.table);
        let table = self.read_table(before.as_ref(), None).await?;
        let (table, read) = self.ways_before_stop(table).await?;
        let rules = Rules::new(&table, &self.settings);
        let Some(managed) = rules.get(name).cloned() else {
            return Ok(None);
        };
        let mut seen = self.observe_with(&managed, &rules, record, &table, None).await?;
        seen.counted = counted;
        let known = match self.unused(record, &seen).await {
            Ok(()) => read.and(self.ways_here(&table).await),
            Err(fault) => Err(fault),
        };
        match known {
            Ok(here) => add_ways(&mut seen, |machine| here.get(machine).cloned()),
            // Without an answer nobody can tell that the machines are not in use.
            Err(fault) => seen.health = Err(fault),
        }
        Ok(Some(Observed { managed, seen, table }))
    }

    /// An error when the gateway itself still sees use. What sleeps by an operator's word does so whoever is there.
    async fn unused(&self, record: &Record, seen: &Seen) -> Result<(), Fault> {
        let (false, Ok(groups)) = (record.by_command(), &seen.health) else {
            return Ok(());
        };
        let groups: Vec<GroupId> = groups.iter().map(|group| group.id.clone()).collect();
        match self.gateway.under_way(&groups).await? {
            None | Some(0) => Ok(()),
            Some(many) => {
                let words = format!("{many} requests or connections are still under way");
                Err(Fault::new(FaultKind::Conflict, "gateway:under-way", words))
            }
        }
    }

    async fn observe_with(
        &self,
        managed: &Managed,
        rules: &Rules,
        record: &Record,
        table: &RouteTable,
        claimed: Option<&[ResourceId]>,
    ) -> Result<Seen, LedgerError> {
        let (mut seen, machines) = self.facts(managed, record, table, &[]).await;
        if let Ok(found) = &mut seen.resources
            && claimed != Some(&machines)
        {
            let no_longer: Vec<_> = record
                .snapshot
                .resources
                .iter()
                .filter(|id| !machines.contains(id))
                .cloned()
                .collect();
            let exists = |other: &RuleName| rules.get(other).is_some();
            let others = self
                .ledger
                .own(&managed.rule.name, &machines, &no_longer, &exists)
                .await?;
            for (machine, other) in found.iter_mut().zip(others) {
                machine.other_owner = other;
            }
        }
        Ok(seen)
    }

    /// What AWS says, and the ids of the machines it says it of. Writes nothing. `made` are groups that need no asking: they
    /// are to be made.
    pub(super) async fn facts(
        &self,
        managed: &Managed,
        record: &Record,
        table: &RouteTable,
        made: &[GroupHealth],
    ) -> (Seen, Vec<ResourceId>) {
        let routes = self.routes(managed, table);
        let groups = backend(&routes, record, &self.settings.wakers);
        let is_made = |group: &GroupId| made.iter().any(|made| made.id == *group);
        let there: Vec<_> = groups.iter().filter(|(group, _)| !is_made(group)).cloned().collect();
        let health = self.gateway.health(&there).await;
        let health = health.map(|seen| seen.into_iter().chain(made.iter().cloned()).collect::<Vec<_>>());
        let mut machines: Vec<ResourceId> = match &health {
            Ok(groups) => groups
                .iter()
                .flat_map(|group| &group.targets)
                .map(|target| target.resource.clone())
                .collect(),
            Err(_) => record.snapshot.resources.clone(),
        };
        machines.sort();
        machines.dedup();
        let mut seen = Seen {
            record: record.clone(),
            routes,
            resources: self.compute.describe(&machines).await,
            health,
            counted: None,
        };
        if let Some(ways) = &table.ways {
            let own = |group: &GroupId| groups.iter().any(|(known, _)| known == group);
            let unwatched = ways.groups.iter().find(|(group, _)| own(group));
            let unwatched = unwatched.map(|(_, route)| route.0.clone());
            add_ways(&mut seen, |machine| {
                // A group that became this rule's since the reading is no other way.
                let other = ways.machines.get(machine).filter(|group| !own(group));
                other.map(|group| group.0.clone()).or_else(|| unwatched.clone())
            });
        }
        (seen, machines)
    }

    pub(super) fn routes(&self, managed: &Managed, table: &RouteTable) -> Vec<RouteSeen> {
        let routes = managed.routes.iter();
        routes.filter_map(|route| self.route(table, route)).collect()
    }

    pub(super) fn route(&self, table: &RouteTable, id: &RouteId) -> Option<RouteSeen> {
        let (_, rule) = table.find(id)?;
        let side = side(rule, &self.settings.wakers);
        Some(RouteSeen {
            id: id.clone(),
            side,
            actions: rule.actions.clone(),
            parked: table.parked(id),
        })
    }
}

pub(super) fn add_ways(seen: &mut Seen, way: impl Fn(&ResourceId) -> Option<String>) {
    for machine in seen.resources.iter_mut().flatten() {
        if let Some(way) = way(&machine.id) {
            machine.other_way = Some(way);
        }
    }
}

/// The machines whose claims need no asking: nothing changed since they were claimed, and nobody else did.
fn claimed(record: &Record, effort: Effort) -> Option<&[ResourceId]> {
    let shared = |problem: &Problem| matches!(problem, Problem::SharedInstance { .. });
    let undisputed = effort != Effort::Inspect && !record.snapshot.problems.iter().any(shared);
    undisputed.then_some(record.snapshot.resources.as_slice())
}

/// The target groups behind the routes, each with whether it has a share of the requests: from R while it leads there,
/// else from the ledger, else from P.
pub(super) fn backend(routes: &[RouteSeen], record: &Record, wakers: &[GroupId]) -> Vec<(GroupId, bool)> {
    let mut groups: Vec<(GroupId, bool)> = Vec::new();
    for route in routes {
        let parked = match &route.parked {
            Parked::Missing => None,
            Parked::One(actions) => Some(actions),
            Parked::Many(copies) => copies.first(),
        };
        let actions = match route.side {
            Side::Backend => Some(&route.actions),
            Side::Waker => record.originals.get(&route.id).or(parked),
        };
        for (group, weight) in actions
            .and_then(|actions| final_action(actions))
            .map(Action::groups)
            .unwrap_or_default()
        {
            match groups.iter_mut().find(|(known, _)| *known == group) {
                Some((_, weighted)) => *weighted |= weight > 0,
                None if group.is_among(wakers) => {}
                None => groups.push((group, weight > 0)),
            }
        }
    }
    groups
}
