//! Many records in few calls.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::KeysAndAttributes;

use crate::aws::fault;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::record::Record;
use crate::domain::rule::RuleName;
use crate::ledger::LedgerError;

use super::DynamoDb;
use super::item::{Item, keys, read_text};

/// The most keys of one BatchGetItem. Source: Amazon DynamoDB API reference.
const KEYS_PER_CALL: usize = 100;
/// DynamoDB may leave keys unanswered, above 16 MB or when throttled; they are asked for again after a pause.
const ROUNDS: usize = 5;
const PAUSE: Duration = Duration::from_millis(100);
const BATCH_GET: &str = "dynamodb:BatchGetItem";

impl DynamoDb {
    pub(super) async fn load_records(
        &self,
        rules: &[RuleName],
    ) -> Result<Vec<Result<Option<Record>, LedgerError>>, LedgerError> {
        let mut found: HashMap<String, Item> = HashMap::new();
        for batch in rules.chunks(KEYS_PER_CALL) {
            let wanted = batch.iter().map(|rule| keys(&Self::rule_key(rule), "record"));
            self.get_all(wanted.collect(), &mut found).await?;
        }
        let record = |rule: &RuleName| {
            let key = Self::rule_key(rule);
            found.get(&key).map(|item| Self::record(&key, item)).transpose()
        };
        Ok(rules.iter().map(record).collect())
    }

    async fn get_all(&self, mut wanted: Vec<Item>, found: &mut HashMap<String, Item>) -> Result<(), LedgerError> {
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(PAUSE * 2_u32.pow(round as u32 - 1)).await;
            }
            let asked = KeysAndAttributes::builder()
                .set_keys(Some(wanted))
                .consistent_read(true);
            let asked = asked.build().map_err(|error| fault_of(&error.to_string()))?;
            let call = self.client.batch_get_item().request_items(&self.table, asked);
            let answer = call.send().await.map_err(|error| fault(BATCH_GET, error))?;
            for item in answer.responses.unwrap_or_default().into_values().flatten() {
                found.insert(read_text(&item, "a record", "pk")?.to_owned(), item);
            }
            let left = answer.unprocessed_keys.unwrap_or_default().into_values();
            wanted = left.flat_map(|left| left.keys).collect();
            if wanted.is_empty() {
                return Ok(());
            }
        }
        Err(Fault::new(
            FaultKind::Throttled,
            BATCH_GET,
            format!("{} keys were left unprocessed", wanted.len()),
        )
        .into())
    }
}

fn fault_of(why: &str) -> LedgerError {
    Fault::new(FaultKind::Other, BATCH_GET, why).into()
}
