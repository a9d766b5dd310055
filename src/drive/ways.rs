//! Other ways to a machine than through its rule. What is in use through one of them cannot be seen, so a machine that has
//! one is never stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Driver;
use crate::activity::Metrics;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::rule::{GroupId, ResourceId, final_action};
use crate::domain::table::{PendingWays, RouteTable, Ways};
use crate::domain::time::{Timestamp, since};
use crate::gateway::Gateway;
use crate::ledger::{Ledger, LedgerError};

/// All target groups of the account are gone through this often: it takes a call for each.
const WAYS_AGE: Duration = Duration::from_secs(3600);
/// An older reading is no reason to stop a machine.
const WAYS_LAST: Duration = Duration::from_secs(3 * 3600);
/// How many groups are read at once: ELBv2 answers 40 Describe calls in a burst and 10 a second after that.
const GROUPS_A_READING: usize = 20;
/// How many readings a stop waits for.
const READINGS: usize = 3;

impl<C: Compute, G: Gateway, M: Metrics, L: Ledger, K: Clock> Driver<C, G, M, L, K> {
    /// The machines that rules of the watched listeners lead to which are not managed: they are few, so they are asked for
    /// before every stop. With the listener rule or default action that leads there.
    pub(super) async fn ways_here(&self, table: &RouteTable) -> Result<BTreeMap<ResourceId, String>, Fault> {
        let mut strangers: BTreeMap<GroupId, String> = BTreeMap::new();
        let rules = table.listeners.iter().flat_map(|listener| &listener.rules);
        for rule in rules.filter(|rule| !rule.is_managed() && rule.parks().is_none()) {
            for (group, _) in final_action(&rule.actions)
                .map(|action| action.groups())
                .unwrap_or_default()
            {
                if !group.is_among(&self.settings.wakers) {
                    strangers.entry(group).or_insert_with(|| rule.arn.0.clone());
                }
            }
        }
        let groups: Vec<_> = strangers.keys().map(|group| (group.clone(), true)).collect();
        let health = self.gateway.health(&groups).await?;
        let mut ways = BTreeMap::new();
        for group in health {
            for target in group.targets {
                ways.insert(target.resource, strangers[&group.id].clone());
            }
        }
        Ok(ways)
    }

    /// Goes through all other target groups of the account that serve a load balancer, once an hour, and through some of
    /// them each time: a call for each is more than AWS answers at once.
    ///
    /// # Errors
    /// When the ledger cannot be written. What AWS refuses leaves the last reading in place.
    pub(super) async fn renew_ways(&self, table: RouteTable) -> Result<RouteTable, LedgerError> {
        let now = self.clock.now();
        if table
            .ways
            .as_ref()
            .is_some_and(|ways| since(now, ways.read_at) < WAYS_AGE)
        {
            return Ok(table);
        }
        match self.read_ways(&table, now).await {
            Ok(ways) => {
                let table = RouteTable {
                    ways: Some(ways),
                    ..table
                };
                self.ledger.store_table(&table).await?;
                Ok(table)
            }
            Err(fault) => {
                tracing::warn!(%fault, "other target groups could not be read; their last reading stays");
                Ok(table)
            }
        }
    }

    /// The table with a reading that a stop may rest on, if there can be one now.
    pub(super) async fn ways_before_stop(
        &self,
        mut table: RouteTable,
    ) -> Result<(RouteTable, Result<(), Fault>), LedgerError> {
        for _ in 0..READINGS {
            let read_at = table.ways.as_ref().map(|ways| ways.read_at);
            if read_at.is_some_and(|read_at| since(self.clock.now(), read_at) < WAYS_LAST) {
                return Ok((table, Ok(())));
            }
            table = self.renew_ways(table).await?;
        }
        let words = "the account's other target groups are not all read yet";
        let fault = Fault::new(FaultKind::Conflict, "elasticloadbalancing:DescribeTargetHealth", words);
        Ok((table, Err(fault)))
    }

    async fn read_ways(&self, table: &RouteTable, now: Timestamp) -> Result<Ways, Fault> {
        let rules = || table.listeners.iter().flat_map(|listener| &listener.rules);
        let managed = rules().filter(|rule| rule.is_managed() || rule.parks().is_some());
        let ours: BTreeSet<GroupId> = managed
            .filter_map(|rule| final_action(&rule.actions))
            .flat_map(|action| action.groups())
            .map(|(group, _)| group)
            .collect();
        let before = table.ways.clone();
        let (last, mut machines) = match before.as_ref().and_then(|ways| ways.pending.clone()) {
            Some(pending) => (Some(pending.last), pending.machines),
            None => (None, BTreeMap::new()),
        };
        let others: BTreeSet<GroupId> = self.gateway.groups().await?.into_iter().collect();
        let left = others
            .difference(&ours)
            .filter(|group| !group.is_among(&self.settings.wakers))
            .filter(|group| last.as_ref().is_none_or(|last| *group > last));
        let slice: Vec<GroupId> = left.take(GROUPS_A_READING).cloned().collect();
        for group in &slice {
            match self.gateway.health(&[(group.clone(), true)]).await {
                Ok(health) => machines.extend(
                    health
                        .into_iter()
                        .flat_map(|group| group.targets)
                        .map(|target| (target.resource, group.clone())),
                ),
                // Deleted since it was listed.
                Err(fault) if fault.kind == FaultKind::NotFound => {}
                Err(fault) => return Err(fault),
            }
        }
        let groups = self.gateway.unwatched(table).await?.into_iter().collect();
        Ok(match slice.last() {
            Some(last) if slice.len() == GROUPS_A_READING => Ways {
                read_at: before.as_ref().map_or(Timestamp::UNIX_EPOCH, |ways| ways.read_at),
                machines: before.map(|ways| ways.machines).unwrap_or_default(),
                groups,
                pending: Some(PendingWays {
                    last: last.clone(),
                    machines,
                }),
            },
            Some(_) | None => Ways {
                read_at: now,
                machines,
                groups,
                pending: None,
            },
        })
    }
}
