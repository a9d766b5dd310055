//! The route table, and who renews it.
//!
//! DynamoDB allows 400 KB an item. A table that fits lies whole in the *head* (`sk` = `routes`), so that a request costs one
//! read. A larger one is cut into parts with keys `routes#GENERATION#PART`, and the head names the generation. This is how
//! readers never see half of one table and half of another:
//!
//! - A writer makes a new generation, writes all its parts, and only then turns the head to it, in one conditional write
//!   that a later `read_at` wins. The loser takes its own parts away, the winner those that the head named before.
//! - A reader gets the head, then its parts. Parts are never changed; if one is missing, the head has turned meanwhile,
//!   and the reader begins again.
//! - Parts left behind by a crash expire after a day. So do those of a table that nobody renewed for a day: then there is
//!   no table, which is what so old a one is worth.

use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};

use std::time::Duration;

use crate::aws::fault;
use crate::domain::record::SCHEMA;
use crate::domain::table::RouteTable;
use crate::domain::time::{Timestamp, after};
use crate::ledger::stored::{decode, encode, known};
use crate::ledger::{LedgerError, StoredTable};

use super::DynamoDb;
use super::item::{Item, expires, keys, nanoseconds, number, read_number, read_text, text};

const PK: &str = "table";
const HEAD: &str = "routes";
const CLAIM: &str = "claim";
const NAME: &str = "table routes";

/// Bytes of JSON in one item: DynamoDB's 400 KB (409,600 bytes; developer guide, "Quotas") less room for names and keys.
const PART: usize = 390_000;
/// Until parts that nobody needs expire.
const PARTS_LAST: Duration = Duration::from_secs(24 * 3600);
/// How often a reader begins again. A table is renewed every few seconds at most, and read in a fraction of one.
const READINGS: usize = 4;

/// Where the parts of a table lie.
struct Parts {
    generation: String,
    count: usize,
}

impl Parts {
    fn prefix(&self) -> String {
        format!("{HEAD}#{}#", self.generation)
    }

    fn key(&self, part: usize) -> String {
        format!("{}{part:05}", self.prefix())
    }

    /// Of a head; none when the table lies in the head itself.
    fn of(head: &Item) -> Result<Option<Parts>, LedgerError> {
        if !head.contains_key("generation") {
            return Ok(None);
        }
        let generation = read_text(head, NAME, "generation")?.to_owned();
        let count = read_number(head, NAME, "parts")?;
        Ok(Some(Parts { generation, count }))
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
            let version = read_number(&head, NAME, "read_at")?;
            let whole;
            let body = match Parts::of(&head)? {
                None => read_text(&head, NAME, "body")?,
                Some(parts) => match self.parts(&parts).await? {
                    Some(body) => {
                        whole = body;
                        &whole
                    }
                    None => continue,
                },
            };
            let table = decode(NAME, schema, body)?;
            return Ok(Some(StoredTable { version, table }));
        }
        Ok(None)
    }

    /// The parts put together; none when one is missing.
    async fn parts(&self, parts: &Parts) -> Result<Option<String>, LedgerError> {
        let (mut body, mut found, mut start) = (String::new(), 0, None);
        loop {
            let request = self.client.query().table_name(&self.table).consistent_read(true);
            let answer = request
                .key_condition_expression("pk = :pk AND begins_with(sk, :parts)")
                .expression_attribute_values(":pk", text(PK))
                .expression_attribute_values(":parts", text(parts.prefix()))
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
        let body = encode(NAME, table)?;
        let parts = if body.len() <= PART {
            None
        } else {
            Some(self.put_parts(&body, table.read_at).await?)
        };
        let turned = self.turn_head(table, &body, parts.as_ref()).await;
        match &turned {
            Ok(before) => {
                let same = |old: &Parts| parts.as_ref().is_some_and(|new| new.generation == old.generation);
                if let Some(before) = before.as_ref().filter(|before| !same(before)) {
                    self.delete_parts(before).await;
                }
            }
            // Only where it is sure that the head was not turned.
            Err(LedgerError::Lost | LedgerError::Newer { .. }) => {
                if let Some(parts) = &parts {
                    self.delete_parts(parts).await;
                }
            }
            Err(LedgerError::Unreadable { .. } | LedgerError::Fault(_)) => {}
        }
        match turned {
            // A later table is there: just as well.
            Ok(_) | Err(LedgerError::Lost) => {
                self.end_claim(table.read_at).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Makes this the table unless a later one is there ([`LedgerError::Lost`]); returns where the parts of the one
    /// before lie.
    async fn turn_head(
        &self,
        table: &RouteTable,
        body: &str,
        parts: Option<&Parts>,
    ) -> Result<Option<Parts>, LedgerError> {
        let request = self.client.put_item().table_name(&self.table);
        let request = request
            .set_item(Some(keys(PK, HEAD)))
            .item("read_at", nanoseconds(table.read_at))
            .item("schema", number(table.schema))
            .condition_expression("attribute_not_exists(pk) OR (read_at <= :read_at AND #schema <= :known)")
            .expression_attribute_names("#schema", "schema")
            .expression_attribute_values(":read_at", nanoseconds(table.read_at))
            .expression_attribute_values(":known", number(SCHEMA))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_values(ReturnValue::AllOld);
        let request = match parts {
            None => request.item("body", text(body)),
            Some(parts) => request
                .item("generation", text(&parts.generation))
                .item("parts", number(parts.count)),
        };
        match request.send().await {
            Ok(answer) => Ok(answer
                .attributes
                .as_ref()
                .and_then(|head| Parts::of(head).ok().flatten())),
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

    async fn put_parts(&self, body: &str, read_at: Timestamp) -> Result<Parts, LedgerError> {
        let generation = format!("{:016x}", fastrand::u64(..));
        let pieces = cut(body, PART);
        let count = pieces.len();
        let parts = Parts { generation, count };
        for (part, piece) in pieces.into_iter().enumerate() {
            let request = self.client.put_item().table_name(&self.table);
            request
                .set_item(Some(keys(PK, &parts.key(part))))
                .item("body", text(piece))
                .item("expires", expires(after(read_at, PARTS_LAST)))
                .send()
                .await
                .map_err(|error| fault("dynamodb:PutItem", error))?;
        }
        Ok(parts)
    }

    /// What cannot be deleted expires.
    async fn delete_parts(&self, parts: &Parts) {
        for part in 0..parts.count {
            let request = self.client.delete_item().table_name(&self.table);
            let deleted = request.set_key(Some(keys(PK, &parts.key(part)))).send().await;
            if let Err(error) = deleted {
                let fault = fault("dynamodb:DeleteItem", error);
                tracing::debug!(%fault, "parts of an old route table are left to expire");
                return;
            }
        }
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
            .item("at", nanoseconds(now))
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

    /// Ends the claim under which this table was read, but not one made since. The table is stored by now, so a claim
    /// that cannot be ended is left to run out.
    async fn end_claim(&self, read_at: Timestamp) {
        let request = self.client.delete_item().table_name(&self.table);
        let request = request
            .set_key(Some(keys(PK, CLAIM)))
            .condition_expression("attribute_not_exists(pk) OR #at <= :read_at")
            .expression_attribute_names("#at", "at")
            .expression_attribute_values(":read_at", nanoseconds(read_at));
        if let Err(error) = request.send().await {
            let lost = |error: &DeleteItemError| error.is_conditional_check_failed_exception();
            if !error.as_service_error().is_some_and(lost) {
                let fault = fault("dynamodb:DeleteItem", error);
                tracing::debug!(%fault, "the claim to the route table is left to run out");
            }
        }
    }
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
        let parts = Parts {
            generation: "x".to_owned(),
            count: 11,
        };
        let keys: Vec<_> = (0..parts.count).map(|part| parts.key(part)).collect();
        assert!(keys.is_sorted() && keys.iter().all(|key| key.starts_with(&parts.prefix())));
    }
}
