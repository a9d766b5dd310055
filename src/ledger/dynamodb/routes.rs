//! The route table, and who renews it.
//!
//! It lies in parts with keys `routes#GENERATION#PART`, since DynamoDB allows 400 KB an item; the *head* (`sk` = `routes`)
//! says when it was read and names the generation, which is a digest of the table's content. So:
//!
//! - A table that is read again and has not changed costs the write of a small head, and one that knows the generation
//!   already costs the read of one. Reads and writes are priced by size.
//! - A writer writes all parts of a new generation and only then turns the head to it, in one conditional write that a
//!   later `read_at` wins. Parts are never changed, so readers never see half of one table and half of another.
//! - Nobody deletes parts: they expire after a day, and are written again in good time while they are needed. Those of a
//!   table that nobody renewed for a day are gone: then there is no table, which is what so old a one is worth.

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use sha2::{Digest, Sha256};

use std::sync::PoisonError;
use std::time::Duration;

use crate::aws::fault;
use crate::domain::record::SCHEMA;
use crate::domain::table::RouteTable;
use crate::domain::time::{Timestamp, after};
use crate::ledger::stored::{decode, encode, known, unreadable};
use crate::ledger::{LedgerError, StoredTable};

use super::DynamoDb;
use super::item::{Item, expires, keys, nanoseconds, number, read_number, read_text, text};

const PK: &str = "table";
const HEAD: &str = "routes";
const CLAIM: &str = "claim";
const NAME: &str = "table routes";
/// An attribute of the head that versions before it neither read nor write.
const SWEPT_AT: &str = "swept_at";

/// Bytes of JSON in one item: DynamoDB's 400 KB (409,600 bytes; developer guide, "Quotas") less room for names and keys.
const PART: usize = 390_000;
/// Until parts expire.
const PARTS_LAST: Duration = Duration::from_secs(24 * 3600);
/// How often a reader begins again. A table is renewed every few seconds at most, and read in a fraction of one.
const READINGS: usize = 4;

/// Where the parts of a table lie.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    generation: String,
    count: usize,
    /// Seconds since the epoch.
    expire: i64,
}

/// The last table that was loaded or stored, so that its parts need not be read again.
#[derive(Debug)]
pub(super) struct Cached {
    parts: Parts,
    /// As of its own reading; the head says when it was last read.
    table: RouteTable,
}

impl Parts {
    fn prefix(generation: &str) -> String {
        format!("{HEAD}#{generation}#")
    }

    fn key(generation: &str, part: usize) -> String {
        format!("{}{part:05}", Self::prefix(generation))
    }

    fn of(head: &Item) -> Result<Parts, LedgerError> {
        Ok(Parts {
            generation: read_text(head, NAME, "generation")?.to_owned(),
            count: read_number(head, NAME, "parts")?,
            expire: read_number(head, NAME, "parts_expire")?,
        })
    }

    /// Whether they last well beyond the next reading.
    fn last(&self, now: Timestamp) -> bool {
        self.expire - now.as_second() > PARTS_LAST.as_secs() as i64 / 2
    }
}

impl DynamoDb {
    pub(super) async fn load_routes(&self) -> Result<Option<StoredTable>, LedgerError> {
        for _ in 0..READINGS {
            let Some(head) = self.get(PK, HEAD).await? else {
                return Ok(None);
            };
            let schema = read_number(&head, NAME, "schema")?;
            known(NAME, schema)?;
            let version: u64 = read_number(&head, NAME, "read_at")?;
            let read_at = moment(version)?;
            let swept_at = match head.contains_key(SWEPT_AT) {
                true => Some(moment(read_number(&head, NAME, SWEPT_AT)?)?),
                false => None,
            };
            let parts = Parts::of(&head)?;
            let table = match self.cached(&parts.generation) {
                Some(table) => table,
                None => match self.parts(&parts).await? {
                    Some(body) => decode::<RouteTable>(NAME, schema, &body)?,
                    None => continue,
                },
            };
            let table = RouteTable {
                read_at,
                swept_at,
                ..table
            };
            self.remember(parts, &table);
            return Ok(Some(StoredTable { version, table }));
        }
        Ok(None)
    }

    fn cached(&self, generation: &str) -> Option<RouteTable> {
        let cached = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let same = cached.as_ref().filter(|cached| cached.parts.generation == generation);
        same.map(|cached| cached.table.clone())
    }

    fn remember(&self, parts: Parts, table: &RouteTable) {
        let mut cached = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.as_ref().is_none_or(|cached| cached.parts != parts) {
            let table = table.clone();
            *cached = Some(Cached { parts, table });
        }
    }

    /// The parts put together; none when one is missing.
    async fn parts(&self, parts: &Parts) -> Result<Option<String>, LedgerError> {
        let (mut body, mut found, mut start) = (String::new(), 0, None);
        loop {
            let request = self.client.query().table_name(&self.table).consistent_read(true);
            let answer = request
                .key_condition_expression("pk = :pk AND begins_with(sk, :parts)")
                .expression_attribute_values(":pk", text(PK))
                .expression_attribute_values(":parts", text(Parts::prefix(&parts.generation)))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| fault("dynamodb:Query", error))?;
            for item in answer.items.unwrap_or_default() {
                body.push_str(read_text(&item, NAME, "body")?);
                found += 1;
            }
            start = answer.last_evaluated_key;
            if start.is_none() {
                return Ok((found == parts.count).then_some(body));
            }
        }
    }

    pub(super) async fn store_routes(&self, table: &RouteTable) -> Result<(), LedgerError> {
        let timeless = RouteTable {
            read_at: Timestamp::UNIX_EPOCH,
            swept_at: None,
            ..table.clone()
        };
        let body = encode(NAME, &timeless)?;
        let digest = Sha256::digest(body.as_bytes());
        let generation: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let there = {
            let cached = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
            let parts = cached.as_ref().map(|cached| cached.parts.clone());
            parts.filter(|parts| parts.generation == generation && parts.last(table.read_at))
        };
        let parts = match there {
            Some(parts) => parts,
            None => self.put_parts(&body, generation, table.read_at).await?,
        };
        match self.turn_head(table, &parts).await {
            Ok(()) => self.remember(parts, table),
            // A later table is there: just as well.
            Err(LedgerError::Lost) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Makes this the table unless a later one is there ([`LedgerError::Lost`]).
    async fn turn_head(&self, table: &RouteTable, parts: &Parts) -> Result<(), LedgerError> {
        let request = self.client.put_item().table_name(&self.table);
        let request = request.set_item(Some(keys(PK, HEAD)));
        let request = match table.swept_at {
            Some(swept_at) => request.item(SWEPT_AT, nanoseconds(swept_at)),
            None => request,
        };
        let request = request
            .item("read_at", nanoseconds(table.read_at))
            .item("schema", number(table.schema))
            .item("generation", text(&parts.generation))
            .item("parts", number(parts.count))
            .item("parts_expire", number(parts.expire))
            .condition_expression("attribute_not_exists(pk) OR (read_at <= :read_at AND #schema <= :known)")
            .expression_attribute_names("#schema", "schema")
            .expression_attribute_values(":read_at", nanoseconds(table.read_at))
            .expression_attribute_values(":known", number(SCHEMA))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                    if let Some(head) = failed.item() {
                        known(NAME, read_number(head, NAME, "schema")?)?;
                    }
                    Err(LedgerError::Lost)
                }
                Some(_) | None => Err(fault("dynamodb:PutItem", error).into()),
            },
        }
    }

    async fn put_parts(&self, body: &str, generation: String, read_at: Timestamp) -> Result<Parts, LedgerError> {
        let pieces = cut(body, PART);
        let expire = after(read_at, PARTS_LAST);
        let parts = Parts {
            count: pieces.len(),
            expire: expire.as_second(),
            generation,
        };
        for (part, piece) in pieces.into_iter().enumerate() {
            let request = self.client.put_item().table_name(&self.table);
            request
                .set_item(Some(keys(PK, &Parts::key(&parts.generation, part))))
                .item("body", text(piece))
                .item("expires", expires(expire))
                .send()
                .await
                .map_err(|error| fault("dynamodb:PutItem", error))?;
        }
        Ok(parts)
    }

    pub(super) async fn claim_routes(
        &self,
        owner: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, LedgerError> {
        let nonce = format!("{:016x}", fastrand::u64(..));
        let request = self.client.put_item().table_name(&self.table);
        let request = request
            .set_item(Some(keys(PK, CLAIM)))
            .item("owner", text(owner))
            .item("nonce", text(&nonce))
            .item("until", nanoseconds(until))
            .item("expires", expires(after(until, PARTS_LAST)))
            .condition_expression("attribute_not_exists(pk) OR #until <= :now")
            .expression_attribute_names("#until", "until")
            .expression_attribute_values(":now", nanoseconds(now))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                // One's own nonce: the first attempt came through and its answer got lost.
                Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                    let there = failed.item().map(|item| read_text(item, "table claim", "nonce"));
                    Ok(there == Some(Ok(&nonce)))
                }
                Some(_) | None => Err(fault("dynamodb:PutItem", error).into()),
            },
        }
    }
}

fn moment(nanoseconds: u64) -> Result<Timestamp, LedgerError> {
    Timestamp::from_nanosecond(nanoseconds.into()).map_err(|error| unreadable(NAME, error))
}

/// Pieces of at most `most` bytes, cut between characters.
fn cut(text: &str, most: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(rest.floor_char_boundary(most));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_between_characters_and_nothing_is_lost() {
        let text = "aé€𝄞".repeat(50);
        for most in 4..40 {
            let pieces = cut(&text, most);
            assert_eq!(pieces.concat(), text);
            assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= most));
        }
        assert!(cut("", 4).is_empty());
    }

    #[test]
    fn keys_of_parts_sort_in_their_order() {
        let keys: Vec<_> = (0..11).map(|part| Parts::key("x", part)).collect();
        assert!(keys.is_sorted() && keys.iter().all(|key| key.starts_with(&Parts::prefix("x"))));
    }
}
