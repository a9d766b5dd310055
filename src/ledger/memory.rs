//! The ledger within one process: for tests and for the local cloud. Everything but the route table is kept as text, as it would
//! be in a database, so that what cannot be stored there cannot be stored here either.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::plan::Event;
use crate::domain::record::Record;
use crate::domain::rule::{ResourceId, RuleName};
use crate::domain::table::RouteTable;
use crate::domain::time::{Timestamp, since};

use super::stored::{decode, encode, event_key, known};
use super::{KEEP_HISTORY, Ledger, LedgerError, StoredTable, hold_window};

/// Clones share one memory.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<RuleName, Item>,
    /// Every look and every held request asks for it.
    table: Option<RouteTable>,
    /// Until when the renewal of the table is claimed.
    claim: Option<Timestamp>,
    /// Who claims a machine.
    claims: BTreeMap<ResourceId, Vec<RuleName>>,
    /// Held requests that entered, by window.
    held: BTreeMap<i128, u32>,
    history: BTreeMap<RuleName, BTreeMap<String, (Timestamp, String)>>,
}

#[derive(Debug)]
struct Item {
    version: u64,
    schema: u32,
    body: String,
}

impl Memory {
    /// An empty one.
    pub fn new() -> Self {
        Memory::default()
    }

    /// Takes in a record that was kept elsewhere, as it was written.
    #[cfg(feature = "proxy")]
    pub(super) fn keep(&self, rule: RuleName, version: u64, schema: u32, body: &str) {
        let body = body.to_owned();
        self.state().records.insert(rule, Item { version, schema, body });
    }

    #[cfg(feature = "proxy")]
    pub(super) fn keep_event(&self, rule: RuleName, key: String, at: Timestamp, body: &str) {
        let mut state = self.state();
        state
            .history
            .entry(rule)
            .or_default()
            .insert(key, (at, body.to_owned()));
    }

    #[cfg(feature = "proxy")]
    pub(super) fn has_event(&self, rule: &RuleName, key: &str) -> bool {
        let state = self.state();
        state.history.get(rule).is_some_and(|history| history.contains_key(key))
    }

    /// The version of a rule's record.
    #[cfg(feature = "proxy")]
    pub(super) fn version(&self, rule: &RuleName) -> Option<u64> {
        self.state().records.get(rule).map(|item| item.version)
    }

    #[cfg(feature = "proxy")]
    pub(super) fn claims(&self) -> BTreeMap<ResourceId, Vec<RuleName>> {
        self.state().claims.clone()
    }

    #[cfg(feature = "proxy")]
    pub(super) fn set_claims(&self, claims: BTreeMap<ResourceId, Vec<RuleName>>) {
        self.state().claims = claims;
    }

    /// Every write below is one step, so what a panicking test left behind is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger for Memory {
    async fn load(&self, rule: &RuleName) -> Result<Option<Record>, LedgerError> {
        let state = self.state();
        let Some(item) = state.records.get(rule) else {
            return Ok(None);
        };
        let record: Record = decode(&format!("rule#{rule}"), item.schema, &item.body)?;
        Ok(Some(Record {
            version: item.version,
            ..record
        }))
    }

    async fn load_all(&self, rules: &[RuleName]) -> Result<Vec<Result<Option<Record>, LedgerError>>, LedgerError> {
        let mut records = Vec::with_capacity(rules.len());
        for rule in rules {
            records.push(self.load(rule).await);
        }
        Ok(records)
    }

    async fn store(&self, record: &Record) -> Result<u64, LedgerError> {
        let mut state = self.state();
        let stored = state.records.get(&record.rule).map(|item| item.version);
        if stored.is_some_and(|version| version != record.version) {
            return Err(LedgerError::Lost);
        }
        let version = record.version + 1;
        let body = encode(&format!("rule#{}", record.rule), record)?;
        let schema = record.schema;
        let item = Item { version, schema, body };
        state.records.insert(record.rule.clone(), item);
        Ok(version)
    }

    async fn load_table(&self) -> Result<Option<StoredTable>, LedgerError> {
        let Some(table) = self.state().table.clone() else {
            return Ok(None);
        };
        known("table", table.schema)?;
        let version = u64::try_from(table.read_at.as_nanosecond()).unwrap_or_default();
        Ok(Some(StoredTable { version, table }))
    }

    async fn claim_table(&self, _owner: &str, now: Timestamp, until: Timestamp) -> Result<bool, LedgerError> {
        let mut state = self.state();
        let free = state.claim.is_none_or(|claimed| claimed <= now);
        if free {
            state.claim = Some(until);
        }
        Ok(free)
    }

    async fn store_table(&self, table: &RouteTable) -> Result<(), LedgerError> {
        let mut state = self.state();
        if let Some(stored) = &state.table {
            known("table", stored.schema)?;
        }
        if state
            .table
            .as_ref()
            .is_none_or(|stored| stored.read_at <= table.read_at)
        {
            state.table = Some(table.clone());
        }
        Ok(())
    }

    async fn own(
        &self,
        rule: &RuleName,
        machines: &[ResourceId],
        _no_longer: &[ResourceId],
        known: &(dyn Fn(&RuleName) -> bool + Sync),
    ) -> Result<Vec<Option<RuleName>>, LedgerError> {
        let mut state = self.state();
        // Of all others: whoever died between a claim and its record does not know of it.
        state.claims.retain(|machine, claims| {
            claims.retain(|claimant| claimant != rule || machines.contains(machine));
            !claims.is_empty()
        });
        let mut claim = |machine: &ResourceId| {
            let claims = state.claims.entry(machine.clone()).or_default();
            claims.retain(|claimant| claimant == rule || known(claimant));
            if !claims.contains(rule) {
                claims.push(rule.clone());
                claims.sort();
            }
            claims.iter().find(|claimant| *claimant != rule).cloned()
        };
        Ok(machines.iter().map(&mut claim).collect())
    }

    async fn claimants(&self, machine: &ResourceId) -> Result<Vec<RuleName>, LedgerError> {
        let state = self.state();
        Ok(state.claims.get(machine).cloned().unwrap_or_default())
    }

    async fn enter_hold(&self, now: Timestamp, window: Duration) -> Result<u32, LedgerError> {
        let mut state = self.state();
        let current = hold_window(now, window);
        *state.held.entry(current).or_default() += 1;
        state.held.retain(|number, _| *number >= current - 1);
        let entered = |number| state.held.get(&number).copied().unwrap_or_default();
        Ok(entered(current) + entered(current - 1))
    }

    async fn append(&self, rule: &RuleName, events: &[Event]) -> Result<(), LedgerError> {
        let mut state = self.state();
        let history = state.history.entry(rule.clone()).or_default();
        for (place, event) in events.iter().enumerate() {
            let body = encode("event", event)?;
            history.insert(event_key(place, event, &body), (event.at, body));
            history.retain(|_, (at, _)| since(event.at, *at) < KEEP_HISTORY);
        }
        Ok(())
    }

    async fn history(&self, rule: &RuleName, most: usize) -> Result<Vec<Event>, LedgerError> {
        let state = self.state();
        let newest_first = state.history.get(rule).into_iter().flatten().rev();
        newest_first
            .take(most)
            .map(|(key, (_, body))| decode(&format!("rule#{rule} event#{key}"), 1, body))
            .collect()
    }
}
