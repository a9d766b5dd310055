//! The ledger in one DynamoDB table: string keys `pk` and `sk`, TTL attribute `expires`, billed on demand.
//!
//! | pk | sk | what |
//! |---|---|---|
//! | `rule#NAME` | `record` | the rule's record |
//! | `rule#NAME` | `event#TIME#NONCE` | history, expires |
//! | `table` | `claim` | who renews the route table |
//! | `table` | `part#NNN` | the route table, in parts: an item holds at most 400 KB |
//! | `machine#ID` | `claim#RULE` | a rule that starts and stops this machine |
//! | `held` | `window#N` | how many requests were held in this window, expires |

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

use super::memory::window_number;
use super::{KEEP_HISTORY, Ledger, LedgerError, StoredTable};
use crate::aws::fault;
use crate::domain::fault::FaultKind;
use crate::domain::plan::Event;
use crate::domain::record::{Record, SCHEMA};
use crate::domain::rule::{ResourceId, RuleName};
use crate::domain::table::RouteTable;
use crate::domain::time::{Timestamp, after};

/// A part of the route table. DynamoDB allows 400 KB an item, names and numbers included.
const PART: usize = 300 * 1024;

/// The adapter to one table.
#[derive(Debug, Clone)]
pub struct DynamoDb {
    client: Client,
    table: String,
}

type Item = HashMap<String, AttributeValue>;

impl DynamoDb {
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        DynamoDb {
            client,
            table: table.into(),
        }
    }

    async fn get(&self, pk: &str, sk: &str) -> Result<Option<Item>, LedgerError> {
        let call = self.client.get_item().table_name(&self.table).consistent_read(true);
        let answer = call.key("pk", text(pk)).key("sk", text(sk)).send().await;
        Ok(answer.map_err(|error| fault("dynamodb:GetItem", error))?.item)
    }

    /// All items of a partition whose sort key starts so, strongly consistent.
    async fn query(&self, pk: &str, start: &str) -> Result<Vec<Item>, LedgerError> {
        let mut items = Vec::new();
        let mut from = None;
        loop {
            let call = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .set_exclusive_start_key(from);
            let call = call.key_condition_expression("pk = :pk AND begins_with(sk, :start)");
            let call = call
                .expression_attribute_values(":pk", text(pk))
                .expression_attribute_values(":start", text(start));
            let answer = call.send().await.map_err(|error| fault("dynamodb:Query", error))?;
            items.extend(answer.items.unwrap_or_default());
            from = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() {
                return Ok(items);
            }
        }
    }

    async fn put(&self, item: Item) -> Result<(), LedgerError> {
        let call = self.client.put_item().table_name(&self.table).set_item(Some(item));
        call.send()
            .await
            .map(drop)
            .map_err(|error| fault("dynamodb:PutItem", error).into())
    }

    async fn delete(&self, pk: &str, sk: &str) -> Result<(), LedgerError> {
        let call = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("pk", text(pk))
            .key("sk", text(sk));
        call.send()
            .await
            .map(drop)
            .map_err(|error| fault("dynamodb:DeleteItem", error).into())
    }
}

impl Ledger for DynamoDb {
    async fn load(&self, rule: &RuleName) -> Result<Option<Record>, LedgerError> {
        let pk = format!("rule#{rule}");
        let Some(item) = self.get(&pk, "record").await? else {
            return Ok(None);
        };
        let found = number(&item, "schema").unwrap_or(0);
        let known = u64::from(SCHEMA);
        if found > known {
            return Err(LedgerError::Newer {
                item: pk,
                found: u32::try_from(found).unwrap_or(u32::MAX),
                known: SCHEMA,
            });
        }
        read(&pk, &item).map(Some)
    }

    async fn store(&self, record: &Record) -> Result<u64, LedgerError> {
        let version = record.version + 1;
        let stored = Record {
            version,
            ..record.clone()
        };
        let body = serde_json::to_string(&stored).map_err(|why| unreadable(&format!("rule#{}", record.rule), why))?;
        let call = self.client.put_item().table_name(&self.table);
        let call = call
            .item("pk", text(format!("rule#{}", record.rule)))
            .item("sk", text("record"))
            .item("version", figure(version))
            .item("schema", figure(SCHEMA))
            .item("phase", text(record.snapshot.phase.name()))
            .item("body", text(body));
        let call = match record.version {
            0 => call.condition_expression("attribute_not_exists(pk)"),
            last => call
                .condition_expression("attribute_not_exists(pk) OR version = :v")
                .expression_attribute_values(":v", figure(last)),
        };
        call.send()
            .await
            .map_err(|error| lost_or(fault("dynamodb:PutItem", error)))?;
        Ok(version)
    }

    async fn load_table(&self) -> Result<Option<StoredTable>, LedgerError> {
        let mut parts = Vec::new();
        for item in self.query("table", "part#").await? {
            let (Some(version), Some(of)) = (number(&item, "version"), number(&item, "of")) else {
                continue;
            };
            parts.push((version, of, string(&item, "body").unwrap_or_default().to_owned()));
        }
        // The parts are written one by one: a half-written newer table shows as parts of two versions, and is no table.
        let Some(&(version, of, _)) = parts.first() else {
            return Ok(None);
        };
        let whole: Vec<_> = parts
            .iter()
            .take_while(|part| part.0 == version)
            .map(|part| part.2.as_str())
            .collect();
        if whole.len() as u64 != of {
            return Ok(None);
        }
        let table: RouteTable = serde_json::from_str(&whole.concat()).map_err(|why| unreadable("table", why))?;
        if table.schema > SCHEMA {
            return Err(LedgerError::Newer {
                item: "table".to_owned(),
                found: table.schema,
                known: SCHEMA,
            });
        }
        Ok(Some(StoredTable { version, table }))
    }

    async fn claim_table(&self, owner: &str, now: Timestamp, until: Timestamp) -> Result<bool, LedgerError> {
        let call = self.client.put_item().table_name(&self.table);
        let call = call
            .item("pk", text("table"))
            .item("sk", text("claim"))
            .item("owner", text(owner))
            .item("until", figure(until.as_millisecond()))
            .condition_expression("attribute_not_exists(pk) OR #owner = :owner OR #until <= :now")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_names("#until", "until")
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":now", figure(now.as_millisecond()));
        match call
            .send()
            .await
            .map_err(|error| lost_or(fault("dynamodb:PutItem", error)))
        {
            Ok(_) => Ok(true),
            Err(LedgerError::Lost) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn store_table(&self, table: &RouteTable) -> Result<(), LedgerError> {
        let body = serde_json::to_string(table).map_err(|why| unreadable("table", why))?;
        let parts = pieces(&body, PART);
        let version = u64::try_from(table.read_at.as_millisecond()).unwrap_or(0);
        for (index, part) in parts.iter().enumerate() {
            let call = self.client.put_item().table_name(&self.table);
            let call = call
                .item("pk", text("table"))
                .item("sk", text(format!("part#{index:03}")))
                .item("version", figure(version))
                .item("of", figure(parts.len()))
                .item("body", text(*part))
                .condition_expression("attribute_not_exists(pk) OR version <= :v")
                .expression_attribute_values(":v", figure(version));
            match call
                .send()
                .await
                .map_err(|error| lost_or(fault("dynamodb:PutItem", error)))
            {
                Ok(_) => {}
                // Somebody has read the listeners later than we did: theirs stays.
                Err(LedgerError::Lost) => break,
                Err(error) => return Err(error),
            }
        }
        self.delete("table", "claim").await
    }

    async fn own(
        &self,
        rule: &RuleName,
        machines: &[ResourceId],
        no_longer: &[ResourceId],
        known: &(dyn Fn(&RuleName) -> bool + Sync),
    ) -> Result<Vec<Option<RuleName>>, LedgerError> {
        for machine in no_longer {
            self.delete(&format!("machine#{machine}"), &format!("claim#{rule}"))
                .await?;
        }
        let mut others = Vec::with_capacity(machines.len());
        for machine in machines {
            let pk = format!("machine#{machine}");
            let claim = [("pk", text(&pk)), ("sk", text(format!("claim#{rule}")))];
            self.put(claim.map(|(key, value)| (key.to_owned(), value)).into())
                .await?;
            let mut other = None;
            for item in self.query(&pk, "claim#").await? {
                let Some(claimant) = string(&item, "sk").and_then(|sk| sk.strip_prefix("claim#")) else {
                    continue;
                };
                let claimant = RuleName(claimant.to_owned());
                if claimant == *rule {
                    continue;
                }
                if known(&claimant) {
                    other.get_or_insert(claimant);
                } else {
                    self.delete(&pk, &format!("claim#{claimant}")).await?;
                }
            }
            others.push(other);
        }
        Ok(others)
    }

    async fn enter_hold(&self, now: Timestamp, window: Duration) -> Result<u32, LedgerError> {
        let this = window_number(now, window);
        let call = self.client.update_item().table_name(&self.table);
        let call = call
            .key("pk", text("held"))
            .key("sk", text(format!("window#{this}")))
            .update_expression("SET held = if_not_exists(held, :none) + :one, expires = :expires")
            .expression_attribute_values(":none", figure(0))
            .expression_attribute_values(":one", figure(1))
            .expression_attribute_values(":expires", figure(after(now, 10 * window).as_second()))
            .return_values(aws_sdk_dynamodb::types::ReturnValue::UpdatedNew);
        let answer = call.send().await.map_err(|error| fault("dynamodb:UpdateItem", error))?;
        let ours = answer
            .attributes
            .as_ref()
            .and_then(|item| number(item, "held"))
            .unwrap_or(0);
        let before = self.get("held", &format!("window#{}", this - 1)).await?;
        let before = before.as_ref().and_then(|item| number(item, "held")).unwrap_or(0);
        Ok(u32::try_from(ours + before).unwrap_or(u32::MAX))
    }

    async fn append(&self, rule: &RuleName, events: &[Event]) -> Result<(), LedgerError> {
        for event in events {
            let body = serde_json::to_string(event).map_err(|why| unreadable("event", why))?;
            let nonce = fastrand::u32(..);
            let item = [
                ("pk", text(format!("rule#{rule}"))),
                ("sk", text(format!("event#{:.3}#{nonce:08x}", event.at))),
                ("expires", figure(after(event.at, KEEP_HISTORY).as_second())),
                ("body", text(body)),
            ];
            self.put(item.map(|(key, value)| (key.to_owned(), value)).into())
                .await?;
        }
        Ok(())
    }

    async fn history(&self, rule: &RuleName, most: usize) -> Result<Vec<Event>, LedgerError> {
        let pk = format!("rule#{rule}");
        let call = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .scan_index_forward(false);
        let call = call
            .limit(i32::try_from(most).unwrap_or(i32::MAX))
            .key_condition_expression("pk = :pk AND begins_with(sk, :start)")
            .expression_attribute_values(":pk", text(&pk))
            .expression_attribute_values(":start", text("event#"));
        let answer = call.send().await.map_err(|error| fault("dynamodb:Query", error))?;
        answer
            .items
            .unwrap_or_default()
            .iter()
            .map(|item| read(&pk, item))
            .collect()
    }
}

fn lost_or(fault: crate::domain::fault::Fault) -> LedgerError {
    match fault.kind {
        FaultKind::Conflict => LedgerError::Lost,
        FaultKind::Throttled | FaultKind::Denied | FaultKind::NoCapacity | FaultKind::NotFound | FaultKind::Other => {
            LedgerError::Fault(fault)
        }
    }
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn figure(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn string<'a>(item: &'a Item, key: &str) -> Option<&'a str> {
    item.get(key)?.as_s().ok().map(String::as_str)
}

fn number(item: &Item, key: &str) -> Option<u64> {
    item.get(key)?.as_n().ok()?.parse().ok()
}

fn read<T: serde::de::DeserializeOwned>(name: &str, item: &Item) -> Result<T, LedgerError> {
    serde_json::from_str(string(item, "body").unwrap_or_default()).map_err(|why| unreadable(name, why))
}

fn unreadable(item: &str, why: impl ToString) -> LedgerError {
    LedgerError::Unreadable {
        item: item.to_owned(),
        why: why.to_string(),
    }
}

/// Pieces of at most `most` bytes, cut between characters.
fn pieces(mut body: &str, most: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    while body.len() > most {
        let (piece, rest) = body.split_at(body.floor_char_boundary(most));
        pieces.push(piece);
        body = rest;
    }
    pieces.push(body);
    pieces
}
