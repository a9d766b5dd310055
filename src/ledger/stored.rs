//! The stored form: JSON text with a number for its schema beside it. All adapters write and refuse the same.
//!
//! What a schema means: fields may be added to it as long as they have a default (`#[serde(default)]`) and losing them in
//! a roll-back does no harm; everything else is a new schema. An older schema stays readable.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::domain::plan::Event;
use crate::domain::record::SCHEMA;

use super::LedgerError;

/// The text of an item. `item` names it in errors.
pub(super) fn encode<T: Serialize>(item: &str, value: &T) -> Result<String, LedgerError> {
    serde_json::to_string(value).map_err(|error| unreadable(item, error))
}

/// What the text of an item says, unless a later version wrote it.
pub(super) fn decode<T: DeserializeOwned>(item: &str, schema: u32, body: &str) -> Result<T, LedgerError> {
    known(item, schema)?;
    serde_json::from_str(body).map_err(|error| unreadable(item, error))
}

/// Refuses what a later version wrote.
pub(super) fn known(item: &str, schema: u32) -> Result<(), LedgerError> {
    if schema <= SCHEMA {
        return Ok(());
    }
    Err(LedgerError::Newer {
        item: item.to_owned(),
        found: schema,
        known: SCHEMA,
    })
}

pub(super) fn unreadable(item: &str, why: impl ToString) -> LedgerError {
    LedgerError::Unreadable {
        item: item.to_owned(),
        why: why.to_string(),
    }
}

/// Where an event stands in a rule's history: sorts by time, then by its place among those appended with it. Made from
/// the event alone, so that appending it again after a lost answer leaves one entry.
pub(super) fn event_key(place: usize, event: &Event, body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    let nonce: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    // Nine digits always: without them `:00Z` would sort after `:00.5Z`.
    format!("{:.9}#{place:03}-{nonce}", event.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::EventKind;
    use crate::domain::record::Record;
    use crate::domain::rule::RuleName;
    use crate::domain::table::RouteTable;
    use crate::domain::today::DailyWakes;

    /// As schema 1 was first released. Never change these texts: they lie in people's tables.
    const RECORD: &str = include_str!("stored/record-1.json");
    const TABLE: &str = include_str!("stored/table-1.json");
    const EVENT: &str = r#"{"at":"2026-01-01T00:00:00Z","kind":"woke","why":"192.0.2.1 asked"}"#;

    #[test]
    fn the_first_schema_stays_readable() {
        let record: Record = decode("record", 1, RECORD).unwrap();
        assert_eq!((record.rule.clone(), record.version), (RuleName("site".to_owned()), 7));
        assert_eq!(
            (record.originals.len(), record.flips.len(), record.wakes.len()),
            (1, 1, 2)
        );
        assert_eq!(record.woken_today, DailyWakes::default(), "nobody counted then");
        assert!(record.lease.is_some() && record.failure().is_some() && record.adopted);
        let table: RouteTable = decode("table", 1, TABLE).unwrap();
        assert_eq!(table.listeners[0].rules.len(), 2);
        let event: Event = decode("event", 1, EVENT).unwrap();
        assert_eq!(event.kind, EventKind::Woke);
    }

    #[test]
    fn a_field_of_a_later_version_with_the_same_schema_is_passed_over() {
        let longer = RECORD.replacen('{', "{\"of_a_later_version\": \"2026-01-01T00:00:00Z\",", 1);
        assert_eq!(decode::<Record>("record", 1, &longer), decode("record", 1, RECORD));
    }

    #[test]
    fn a_problem_that_only_later_code_knows_is_passed_over() {
        let mut later: serde_json::Value = serde_json::from_str(RECORD).unwrap();
        let problems = later["snapshot"]["problems"].as_array_mut().unwrap();
        problems.push(serde_json::json!({ "of-a-later-version": { "why": "unknown" } }));
        assert_eq!(
            decode::<Record>("record", 1, &later.to_string()),
            decode("record", 1, RECORD)
        );
    }

    #[test]
    fn a_later_schema_is_refused_before_its_text_is_looked_at() {
        let error = decode::<Record>("rule#site", SCHEMA + 1, "not even JSON").unwrap_err();
        let expected = LedgerError::Newer {
            item: "rule#site".to_owned(),
            found: SCHEMA + 1,
            known: SCHEMA,
        };
        assert_eq!(error, expected);
    }

    #[test]
    fn what_is_not_ours_is_refused_by_name() {
        for body in ["", "{}", "[]", "{\"schema\":1", "\u{0}"] {
            let error = decode::<Record>("rule#site", 1, body).unwrap_err();
            assert!(
                matches!(&error, LedgerError::Unreadable { item, .. } if item == "rule#site"),
                "{error}"
            );
        }
    }

    #[test]
    fn keys_sort_by_time_and_place_and_repeat_themselves() {
        let event = |at: &str, why: &str| Event {
            at: at.parse().unwrap(),
            kind: EventKind::Woke,
            why: why.to_owned(),
            took: None,
        };
        let whole = event("2026-01-01T00:00:00Z", "z");
        let half = event("2026-01-01T00:00:00.5Z", "a");
        let keys = [
            event_key(0, &whole, "z"),
            event_key(1, &whole, "a"),
            event_key(0, &half, "a"),
        ];
        assert!(keys.is_sorted(), "{keys:?}");
        assert!(keys[0].starts_with("2026-01-01T00:00:00.000000000Z#000-"), "{keys:?}");
        assert_eq!(event_key(0, &whole, "z"), keys[0]);
        assert_ne!(event_key(0, &whole, "y"), keys[0]);
    }
}
