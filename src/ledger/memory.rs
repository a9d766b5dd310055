//! A ledger in this process: for tests and for one that needs no memory beyond itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Ledger, LedgerError, StoredTable};
use crate::domain::plan::Event;
use crate::domain::record::Record;
use crate::domain::rule::{ResourceId, RuleName};
use crate::domain::table::RouteTable;
use crate::domain::time::Timestamp;

/// Keeps everything until it is dropped.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Items>);

#[derive(Debug, Default)]
struct Items {
    records: BTreeMap<RuleName, Record>,
    table: Option<StoredTable>,
    claim: Option<(String, Timestamp)>,
    machines: BTreeMap<ResourceId, BTreeSet<RuleName>>,
    held: BTreeMap<i64, u32>,
    history: BTreeMap<RuleName, Vec<Event>>,
}

impl Memory {
    fn items(&self) -> MutexGuard<'_, Items> {
        // Every write below is whole before anything could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of the window that `now` lies in.
pub(super) fn window_number(now: Timestamp, window: Duration) -> i64 {
    now.as_second() / i64::try_from(window.as_secs()).unwrap_or(i64::MAX).max(1)
}

impl Ledger for Memory {
    async fn load(&self, rule: &RuleName) -> Result<Option<Record>, LedgerError> {
        Ok(self.items().records.get(rule).cloned())
    }

    async fn store(&self, record: &Record) -> Result<u64, LedgerError> {
        let mut items = self.items();
        if items.records.get(&record.rule).map_or(0, |stored| stored.version) != record.version {
            return Err(LedgerError::Lost);
        }
        let version = record.version + 1;
        items.records.insert(
            record.rule.clone(),
            Record {
                version,
                ..record.clone()
            },
        );
        Ok(version)
    }

    async fn load_table(&self) -> Result<Option<StoredTable>, LedgerError> {
        Ok(self.items().table.clone())
    }

    async fn claim_table(&self, owner: &str, now: Timestamp, until: Timestamp) -> Result<bool, LedgerError> {
        let mut items = self.items();
        let free = items
            .claim
            .as_ref()
            .is_none_or(|(holder, ends)| holder == owner || *ends <= now);
        if free {
            items.claim = Some((owner.to_owned(), until));
        }
        Ok(free)
    }

    async fn store_table(&self, table: &RouteTable) -> Result<(), LedgerError> {
        let mut items = self.items();
        items.claim = None;
        let version = items.table.as_ref().map_or(0, |stored| stored.version);
        if items
            .table
            .as_ref()
            .is_none_or(|stored| stored.table.read_at <= table.read_at)
        {
            items.table = Some(StoredTable {
                version: version + 1,
                table: table.clone(),
            });
        }
        Ok(())
    }

    async fn own(
        &self,
        rule: &RuleName,
        machines: &[ResourceId],
        no_longer: &[ResourceId],
        known: &(dyn Fn(&RuleName) -> bool + Sync),
    ) -> Result<Vec<Option<RuleName>>, LedgerError> {
        let mut items = self.items();
        for machine in no_longer {
            if let Some(claims) = items.machines.get_mut(machine) {
                claims.remove(rule);
            }
        }
        let other = |machine: &ResourceId| {
            let claims = items.machines.entry(machine.clone()).or_default();
            claims.retain(|claimant| claimant == rule || known(claimant));
            claims.insert(rule.clone());
            claims.iter().find(|claimant| *claimant != rule).cloned()
        };
        Ok(machines.iter().map(other).collect())
    }

    async fn enter_hold(&self, now: Timestamp, window: Duration) -> Result<u32, LedgerError> {
        let number = window_number(now, window);
        let mut items = self.items();
        items.held.retain(|window, _| *window >= number - 1);
        *items.held.entry(number).or_default() += 1;
        Ok(items.held.values().sum())
    }

    async fn append(&self, rule: &RuleName, events: &[Event]) -> Result<(), LedgerError> {
        self.items()
            .history
            .entry(rule.clone())
            .or_default()
            .extend_from_slice(events);
        Ok(())
    }

    async fn history(&self, rule: &RuleName, most: usize) -> Result<Vec<Event>, LedgerError> {
        let items = self.items();
        Ok(items
            .history
            .get(rule)
            .map(|events| events.iter().rev().take(most).cloned().collect())
            .unwrap_or_default())
    }
}
