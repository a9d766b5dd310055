//! Other ways to a machine than through its rule. What is in use through one of them cannot be seen, so a machine that has
//! one is never stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Driver;
use crate::activity::Metrics;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::domain::fault::Fault;
use crate::domain::rule::{GroupId, ResourceId, final_action};
use crate::domain::table::{RouteTable, Ways};
use crate::domain::time::since;
use crate::gateway::Gateway;
use crate::ledger::{Ledger, LedgerError};

/// All target groups of the account are gone through this often: it takes a call for each.
const WAYS_AGE: Duration = Duration::from_secs(3600);

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
                if !self.settings.wakers.contains(&group) {
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

    /// Goes through all other target groups of the account that serve a load balancer, once an hour.
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
        match self.ways_elsewhere(&table).await {
            Ok(machines) => {
                let ways = Some(Ways { read_at: now, machines });
                let table = RouteTable { ways, ..table };
                self.ledger.store_table(&table).await?;
                Ok(table)
            }
            Err(fault) => {
                tracing::warn!(%fault, "other target groups could not be read; their last reading stays");
                Ok(table)
            }
        }
    }

    async fn ways_elsewhere(&self, table: &RouteTable) -> Result<BTreeMap<ResourceId, String>, Fault> {
        let rules = || table.listeners.iter().flat_map(|listener| &listener.rules);
        let managed = rules().filter(|rule| rule.is_managed() || rule.parks().is_some());
        let ours: Vec<GroupId> = managed
            .filter_map(|rule| final_action(&rule.actions))
            .flat_map(|action| action.groups())
            .map(|(group, _)| group)
            .chain(self.settings.wakers.iter().cloned())
            .collect();
        let others = self
            .gateway
            .groups()
            .await?
            .into_iter()
            .filter(|group| !ours.contains(group));
        let others: Vec<_> = others.map(|group| (group, true)).collect();
        let mut ways = BTreeMap::new();
        for group in self.gateway.health(&others).await? {
            for target in group.targets {
                ways.insert(target.resource, group.id.0.clone());
            }
        }
        Ok(ways)
    }
}
