//! The shipped ledger in memory, counted, with the last text of each item kept read: reading is what 30 days would mostly
//! spend their time with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proxymanager::domain::plan::Event;
use proxymanager::domain::record::Record;
use proxymanager::domain::rule::{ResourceId, RuleName};
use proxymanager::domain::table::RouteTable;
use proxymanager::domain::time::Timestamp;
use proxymanager::ledger::memory::Memory;
use proxymanager::ledger::{Ledger, LedgerError, StoredTable};

use super::time::lock;

#[derive(Clone, Default)]
pub struct Counted {
    memory: Memory,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    records: BTreeMap<RuleName, Record>,
    table: Option<RouteTable>,
    counts: BTreeMap<&'static str, u64>,
    changes: u64,
}

impl Counted {
    fn count(&self, call: &'static str) {
        *lock(&self.kept).counts.entry(call).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.kept).counts.clone()
    }

    pub fn forget_counts(&self) {
        lock(&self.kept).counts.clear();
    }

    /// How often a record was written that says something new.
    pub fn changes(&self) -> u64 {
        lock(&self.kept).changes
    }

    pub fn record(&self, rule: &str) -> Option<Record> {
        lock(&self.kept).records.get(&RuleName(rule.to_owned())).cloned()
    }

    pub fn records(&self) -> Vec<Record> {
        lock(&self.kept).records.values().cloned().collect()
    }
}

impl Ledger for Counted {
    async fn load(&self, rule: &RuleName) -> Result<Option<Record>, LedgerError> {
        self.count("ledger:load");
        Ok(lock(&self.kept).records.get(rule).cloned())
    }

    async fn load_all(&self, rules: &[RuleName]) -> Result<Vec<Result<Option<Record>, LedgerError>>, LedgerError> {
        self.count("ledger:load_all");
        let kept = lock(&self.kept);
        Ok(rules.iter().map(|rule| Ok(kept.records.get(rule).cloned())).collect())
    }

    async fn store(&self, record: &Record) -> Result<u64, LedgerError> {
        self.count("ledger:store");
        let version = self.memory.store(record).await?;
        let mut kept = lock(&self.kept);
        let same = kept
            .records
            .get(&record.rule)
            .is_some_and(|before| before.same_as(record));
        kept.changes += u64::from(!same);
        let record = Record {
            version,
            ..record.clone()
        };
        kept.records.insert(record.rule.clone(), record);
        Ok(version)
    }

    async fn load_table(&self) -> Result<Option<StoredTable>, LedgerError> {
        self.count("ledger:load_table");
        let table = lock(&self.kept).table.clone();
        Ok(table.map(|table| StoredTable {
            version: u64::try_from(table.read_at.as_nanosecond()).unwrap_or_default(),
            table,
        }))
    }

    async fn claim_table(&self, owner: &str, now: Timestamp, until: Timestamp) -> Result<bool, LedgerError> {
        self.count("ledger:claim_table");
        self.memory.claim_table(owner, now, until).await
    }

    async fn store_table(&self, table: &RouteTable) -> Result<(), LedgerError> {
        self.count("ledger:store_table");
        let newest = {
            let mut kept = lock(&self.kept);
            let newest = kept.table.as_ref().is_none_or(|stored| stored.read_at <= table.read_at);
            if newest {
                kept.table = Some(table.clone());
            }
            newest
        };
        // The memory itself is only told when, for the claim that ends with it.
        let bare = RouteTable {
            listeners: Vec::new(),
            names: BTreeMap::new(),
            loose: BTreeMap::new(),
            ways: None,
            ..table.clone()
        };
        if newest {
            self.memory.store_table(&bare).await
        } else {
            Ok(())
        }
    }

    async fn own(
        &self,
        rule: &RuleName,
        machines: &[ResourceId],
        no_longer: &[ResourceId],
        known: &(dyn Fn(&RuleName) -> bool + Sync),
    ) -> Result<Vec<Option<RuleName>>, LedgerError> {
        self.count("ledger:own");
        self.memory.own(rule, machines, no_longer, known).await
    }

    async fn claimants(&self, machine: &ResourceId) -> Result<Vec<RuleName>, LedgerError> {
        self.count("ledger:claimants");
        self.memory.claimants(machine).await
    }

    async fn enter_hold(&self, now: Timestamp, window: Duration) -> Result<u32, LedgerError> {
        self.count("ledger:enter_hold");
        self.memory.enter_hold(now, window).await
    }

    async fn append(&self, rule: &RuleName, events: &[Event]) -> Result<(), LedgerError> {
        self.count("ledger:append");
        self.memory.append(rule, events).await
    }

    async fn history(&self, rule: &RuleName, most: usize) -> Result<Vec<Event>, LedgerError> {
        self.memory.history(rule, most).await
    }
}
