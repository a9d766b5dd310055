//! The ledger in one DynamoDB table, shared by all environments of the function and by the command line.
//!
//! The table has the string keys `pk` and `sk` and expires items by `expires` (seconds since the epoch). Its items:
//!
//! | `pk` | `sk` | what |
//! |---|---|---|
//! | `rule#NAME` | `record` | a rule's record; `version` is the fence |
//! | `rule#NAME` | `event#TIME#PLACE-DIGEST` | one entry of its history; expires after `KEEP_HISTORY` |
//! | `table` | `routes`, `routes#GENERATION#PART` | the route table, see `routes` |
//! | `table` | `claim` | who renews the route table; expires |
//! | `machine#ID` | `claim#RULE` | that a rule claims a machine |
//! | `held` | number of a window | how many held requests entered in it; expires |
//!
//! Permissions: `GetItem`, `BatchGetItem`, `PutItem`, `UpdateItem`, `DeleteItem` and `Query` on the table. Every read is strongly
//! consistent. A retry of the SDK after a lost answer is harmless everywhere: a fenced write is then [`LedgerError::Lost`],
//! a claim knows itself by a nonce, an entry of the history and a claim on a machine are the same item again, and a held
//! request counts twice rather than not at all.

mod batch;
mod claims;
mod item;
mod routes;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::ReturnValue;

use crate::aws::fault;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::plan::Event;
use crate::domain::record::{Record, SCHEMA};
use crate::domain::rule::{ResourceId, RuleName};
use crate::domain::table::RouteTable;
use crate::domain::time::{Timestamp, after};
use crate::drive::CALL_TIMEOUT;

use self::item::{expires, keys, number, read_number, read_text, text};
use super::stored::{decode, encode, event_key};
use super::{KEEP_HISTORY, Ledger, LedgerError, StoredTable, hold_window};

/// One table of DynamoDB. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DynamoDb {
    client: Client,
    table: String,
    /// The route table as last seen.
    routes: Arc<Mutex<Option<routes::Cached>>>,
}

impl DynamoDb {
    /// `table` is the table's name or ARN. Nothing is asked of AWS yet.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        DynamoDb {
            client,
            table: table.into(),
            routes: Arc::default(),
        }
    }

    fn rule_key(rule: &RuleName) -> String {
        format!("rule#{rule}")
    }

    async fn get(&self, pk: &str, sk: &str) -> Result<Option<item::Item>, LedgerError> {
        let request = self.client.get_item().table_name(&self.table);
        let request = request.set_key(Some(keys(pk, sk))).consistent_read(true);
        let answer = request.send().await.map_err(|error| fault("dynamodb:GetItem", error))?;
        Ok(answer.item)
    }

    async fn load_record(&self, rule: &RuleName) -> Result<Option<Record>, LedgerError> {
        let key = Self::rule_key(rule);
        let Some(item) = self.get(&key, "record").await? else {
            return Ok(None);
        };
        Self::record(&key, &item).map(Some)
    }

    fn record(key: &str, item: &item::Item) -> Result<Record, LedgerError> {
        // Before anything else is read: what a later version wrote may lack the rest.
        let schema = read_number(item, key, "schema")?;
        super::stored::known(key, schema)?;
        let version = read_number(item, key, "version")?;
        let record: Record = decode(key, schema, read_text(item, key, "body")?)?;
        Ok(Record { version, ..record })
    }

    async fn store_record(&self, record: &Record) -> Result<u64, LedgerError> {
        let key = Self::rule_key(&record.rule);
        let version = record.version + 1;
        let phase = record.snapshot.phase.name();
        let wanted = match record.wanted {
            crate::domain::seen::Wanted::Awake => "awake",
            crate::domain::seen::Wanted::Asleep => "asleep",
        };
        let request = self.client.put_item().table_name(&self.table);
        let request = request
            .set_item(Some(keys(&key, "record")))
            .item("version", number(version))
            .item("schema", number(record.schema))
            .item("body", text(encode(&key, record)?))
            .item("wanted", text(wanted))
            .item("phase", text(phase));
        let request = match record.version {
            0 => request.condition_expression("attribute_not_exists(pk)"),
            known => request
                .condition_expression("attribute_not_exists(pk) OR version = :v")
                .expression_attribute_values(":v", number(known)),
        };
        match request.send().await {
            Ok(_) => Ok(version),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(_)) => Err(LedgerError::Lost),
                Some(_) | None => Err(fault("dynamodb:PutItem", error).into()),
            },
        }
    }

    async fn enter(&self, now: Timestamp, window: Duration) -> Result<u32, LedgerError> {
        let current = hold_window(now, window);
        let request = self.client.update_item().table_name(&self.table);
        let answer = request
            .set_key(Some(keys("held", &current.to_string())))
            .update_expression("ADD entered :one SET expires = :expires")
            .expression_attribute_values(":one", number(1))
            // An hour more than it is needed, for clocks that differ.
            .expression_attribute_values(":expires", expires(after(now, window * 2 + Duration::from_secs(3600))))
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await
            .map_err(|error| fault("dynamodb:UpdateItem", error))?;
        let entered: u32 = read_number(&answer.attributes.unwrap_or_default(), "held", "entered")?;
        // After the write: of two who enter at once, at least one counts both.
        let before = match self.get("held", &(current - 1).to_string()).await? {
            Some(item) => read_number(&item, "held", "entered")?,
            None => 0,
        };
        Ok(entered.saturating_add(before))
    }

    async fn append_events(&self, rule: &RuleName, events: &[Event]) -> Result<(), LedgerError> {
        let key = Self::rule_key(rule);
        for (place, event) in events.iter().enumerate() {
            let body = encode("event", event)?;
            let sk = format!("event#{}", event_key(place, event, &body));
            let request = self.client.put_item().table_name(&self.table);
            let request = request
                .set_item(Some(keys(&key, &sk)))
                .item("schema", number(SCHEMA))
                .item("body", text(body))
                .item("expires", expires(after(event.at, KEEP_HISTORY)));
            request.send().await.map_err(|error| fault("dynamodb:PutItem", error))?;
        }
        Ok(())
    }

    async fn newest_events(&self, rule: &RuleName, most: usize) -> Result<Vec<Event>, LedgerError> {
        let key = Self::rule_key(rule);
        let mut events = Vec::new();
        let mut start = None;
        while events.len() < most {
            let missing = i32::try_from(most - events.len()).unwrap_or(i32::MAX);
            let request = self.client.query().table_name(&self.table).consistent_read(true);
            let answer = request
                .key_condition_expression("pk = :pk AND begins_with(sk, :event)")
                .expression_attribute_values(":pk", text(&key))
                .expression_attribute_values(":event", text("event#"))
                .scan_index_forward(false)
                .limit(missing)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| fault("dynamodb:Query", error))?;
            for item in answer.items.unwrap_or_default() {
                let name = format!("{key} {}", read_text(&item, &key, "sk")?);
                let schema = read_number(&item, &name, "schema")?;
                events.push(decode(&name, schema, read_text(&item, &name, "body")?)?);
            }
            start = answer.last_evaluated_key;
            if start.is_none() {
                break;
            }
        }
        Ok(events)
    }
}

/// Keeps the port's promise about time, however many calls `work` makes and whatever the client is configured to.
async fn in_time<T>(what: &str, work: impl Future<Output = Result<T, LedgerError>> + Send) -> Result<T, LedgerError> {
    let late = |_| Fault::new(FaultKind::Other, what, format!("no answer within {CALL_TIMEOUT:?}"));
    tokio::time::timeout(CALL_TIMEOUT, work).await.map_err(late)?
}

impl Ledger for DynamoDb {
    async fn load(&self, rule: &RuleName) -> Result<Option<Record>, LedgerError> {
        in_time("dynamodb:GetItem", self.load_record(rule)).await
    }

    async fn load_all(&self, rules: &[RuleName]) -> Result<Vec<Result<Option<Record>, LedgerError>>, LedgerError> {
        in_time("dynamodb:BatchGetItem", self.load_records(rules)).await
    }

    async fn store(&self, record: &Record) -> Result<u64, LedgerError> {
        in_time("dynamodb:PutItem", self.store_record(record)).await
    }

    async fn load_table(&self) -> Result<Option<StoredTable>, LedgerError> {
        in_time("dynamodb:GetItem", self.load_routes()).await
    }

    async fn claim_table(&self, owner: &str, now: Timestamp, until: Timestamp) -> Result<bool, LedgerError> {
        in_time("dynamodb:PutItem", self.claim_routes(owner, now, until)).await
    }

    async fn store_table(&self, table: &RouteTable) -> Result<(), LedgerError> {
        in_time("dynamodb:PutItem", self.store_routes(table)).await
    }

    async fn own(
        &self,
        rule: &RuleName,
        machines: &[ResourceId],
        no_longer: &[ResourceId],
        known: &(dyn Fn(&RuleName) -> bool + Sync),
    ) -> Result<Vec<Option<RuleName>>, LedgerError> {
        in_time(
            "dynamodb:PutItem",
            self.claim_machines(rule, machines, no_longer, known),
        )
        .await
    }

    async fn claimants(&self, machine: &ResourceId) -> Result<Vec<RuleName>, LedgerError> {
        in_time("dynamodb:Query", self.claimants_of(machine)).await
    }

    async fn enter_hold(&self, now: Timestamp, window: Duration) -> Result<u32, LedgerError> {
        in_time("dynamodb:UpdateItem", self.enter(now, window)).await
    }

    async fn append(&self, rule: &RuleName, events: &[Event]) -> Result<(), LedgerError> {
        in_time("dynamodb:PutItem", self.append_events(rule, events)).await
    }

    async fn history(&self, rule: &RuleName, most: usize) -> Result<Vec<Event>, LedgerError> {
        in_time("dynamodb:Query", self.newest_events(rule, most)).await
    }
}
