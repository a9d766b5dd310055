//! The lease: the right to act on one rule, for a limited time.

use super::{Ledger, LedgerError};
use crate::domain::record::{Lease, Record};
use crate::domain::time::Timestamp;

/// Takes the lease by writing the record as it was read, with `owner` in it. Returns the record as it is stored now.
///
/// # Errors
/// [`LedgerError::Lost`] when somebody else has the lease or wrote in between.
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
    let leased = Record {
        lease: Some(Lease {
            owner: owner.to_owned(),
            until,
        }),
        ..record.clone()
    };
    let version = ledger.store(&leased).await?;
    Ok(Record { version, ..leased })
}
