//! The shared memory: one record per rule, the route table, the owners of the machines, the history.

#[cfg(feature = "aws")]
pub mod dynamodb;
#[cfg(feature = "proxy")]
pub mod file;
#[cfg(feature = "proxy")]
pub mod folder;
pub mod lease;
pub mod memory;
mod stored;

use std::future::Future;
use std::time::Duration;

use crate::domain::fault::Fault;
use crate::domain::plan::Event;
use crate::domain::record::Record;
use crate::domain::rule::{ResourceId, RuleName};
use crate::domain::table::RouteTable;
use crate::domain::time::Timestamp;

/// Why the ledger did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Somebody else wrote first. Nothing was written.
    #[error("somebody else wrote this item first")]
    Lost,
    /// The item was written by a later version of this program. It is left alone.
    #[error("{item} has schema {found}, this version reads up to {known}: finish the upgrade, or roll back both")]
    Newer { item: String, found: u32, known: u32 },
    /// The item is not what this program writes. It is left alone.
    #[error("{item} cannot be read: {why}")]
    Unreadable { item: String, why: String },
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The route table as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredTable {
    /// Its `read_at` in nanoseconds since the epoch: grows with every newer table.
    pub version: u64,
    pub table: RouteTable,
}

/// The port to the shared memory. Reads are strongly consistent. An adapter never blocks longer than
/// [`crate::drive::CALL_TIMEOUT`], retries included.
pub trait Ledger: Sync {
    /// The record of a rule; none before the first look.
    fn load(&self, rule: &RuleName) -> impl Future<Output = Result<Option<Record>, LedgerError>> + Send;

    /// The records of these rules, in their order. One that cannot be read keeps no other from it.
    fn load_all(
        &self,
        rules: &[RuleName],
    ) -> impl Future<Output = Result<Vec<Result<Option<Record>, LedgerError>>, LedgerError>> + Send;

    /// Writes the whole record if the stored version is still `record.version` (0: if there is none), and returns
    /// the new version, one higher. Otherwise [`LedgerError::Lost`]. A write whose answer was lost and that is sent
    /// again is [`LedgerError::Lost`] too: the caller has to look again.
    fn store(&self, record: &Record) -> impl Future<Output = Result<u64, LedgerError>> + Send;

    /// The last stored route table.
    fn load_table(&self) -> impl Future<Output = Result<Option<StoredTable>, LedgerError>> + Send;

    /// Tries to become the one who renews the route table: true for one caller until `until`. Nothing ends the claim before:
    /// who reads longer than that is joined by somebody else, and the later table wins.
    fn claim_table(
        &self,
        owner: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> impl Future<Output = Result<bool, LedgerError>> + Send;

    /// Stores a newly read table. The later `read_at` wins.
    fn store_table(&self, table: &RouteTable) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// Notes that `rule` claims these machines (and no others any more), and returns for each, in order, another rule that
    /// claims it too, if there is one. `known` tells whether a rule still exists: the claims of one that is gone are
    /// deleted. One item a claim (pk `machine#ID`, sk `claim#RULE`), so that both claimants learn of each other.
    fn own(
        &self,
        rule: &RuleName,
        machines: &[ResourceId],
        no_longer: &[ResourceId],
        known: &(dyn Fn(&RuleName) -> bool + Sync),
    ) -> impl Future<Output = Result<Vec<Option<RuleName>>, LedgerError>> + Send;

    /// The rules that claim a machine, in the order of their names: one read, also for a stranger's machine.
    fn claimants(&self, machine: &ResourceId) -> impl Future<Output = Result<Vec<RuleName>, LedgerError>> + Send;

    /// Enters one held request and returns how many have entered in this window and the one before it, itself included.
    /// Windows are `window` long and counted from the epoch (pk `held`, sk the window's number, an atomic counter that
    /// expires), so nothing leaks when an environment dies: with `window` at least the longest hold, the count is never
    /// less than the number held at once.
    fn enter_hold(&self, now: Timestamp, window: Duration) -> impl Future<Output = Result<u32, LedgerError>> + Send;

    /// Appends to a rule's history; entries expire after `KEEP_HISTORY`.
    fn append(&self, rule: &RuleName, events: &[Event]) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// The newest entries first.
    fn history(&self, rule: &RuleName, most: usize) -> impl Future<Output = Result<Vec<Event>, LedgerError>> + Send;
}

/// The window a moment lies in; counted from the epoch.
fn hold_window(now: Timestamp, window: Duration) -> i128 {
    let window = i128::try_from(window.as_nanos()).unwrap_or(i128::MAX);
    now.as_nanosecond().div_euclid(window.max(1))
}

/// How long history is kept: 400 days, so that a year can be compared with the one before.
pub const KEEP_HISTORY: Duration = Duration::from_secs(400 * 24 * 3600);
