//! The right to act on a rule: one owner at a time, for a limited time. It lies in the record itself, so that the fence of
//! the record's version is the fence of the lease too.

use crate::domain::record::{Lease, Record};
use crate::domain::time::Timestamp;

use super::{Ledger, LedgerError};

/// Takes the lease of the rule until `until`, or prolongs one's own; returns the record as it is stored now.
///
/// The clocks of two owners may differ by less than the lease is meant to outlast an action; what keeps them apart when
/// they do not is the version: whoever writes second is [`LedgerError::Lost`].
///
/// # Errors
/// [`LedgerError::Lost`] when another has it, or wrote the record since it was read; nothing was written then. Others as
/// [`Ledger::store`].
pub async fn acquire<L: Ledger>(
    ledger: &L,
    record: &Record,
    owner: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<Record, LedgerError> {
    if record.leased_to_another(now, owner) {
        return Err(LedgerError::Lost);
    }
    let lease = Lease {
        owner: owner.to_owned(),
        until,
    };
    write(ledger, record, Some(lease)).await
}

/// Gives one's lease back, with everything else in the record; returns the record as it is stored now.
///
/// # Errors
/// [`LedgerError::Lost`] when the record does not show `owner` as its owner, or was written since; nothing was written
/// then. Others as [`Ledger::store`].
pub async fn release<L: Ledger>(ledger: &L, record: &Record, owner: &str) -> Result<Record, LedgerError> {
    if record.lease.as_ref().is_none_or(|lease| lease.owner != owner) {
        return Err(LedgerError::Lost);
    }
    write(ledger, record, None).await
}

async fn write<L: Ledger>(ledger: &L, record: &Record, lease: Option<Lease>) -> Result<Record, LedgerError> {
    let record = Record {
        lease,
        ..record.clone()
    };
    let version = ledger.store(&record).await?;
    Ok(Record { version, ..record })
}
