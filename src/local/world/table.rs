//! DynamoDB-like tables: string keys `pk` and `sk`, conditional writes, a time to live in `expires`.

use std::{collections::BTreeMap, ops::Bound};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Failure, World,
    expression::{self, Names},
};

/// An item: attribute name to attribute value in DynamoDB's JSON, such as `{"S": "x"}`.
pub type Item = Map<String, Value>;
/// Partition key and sort key.
pub type Key = (String, String);

/// AWS deletes expired items "within a few days": readers have to look at `expires` themselves.
const EXPIRED_FOR: i64 = 48 * 3600;
/// The largest item, in bytes.
const ITEM_SIZE: usize = 400 * 1024;

/// One table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Whether items have a sort key beside the partition key.
    pub sorted: bool,
    items: BTreeMap<Key, Item>,
}

impl Table {
    /// The item, if there is one.
    pub fn get(&self, key: &Key) -> Option<&Item> {
        self.items.get(key)
    }

    /// All items by key.
    pub fn items(&self) -> &BTreeMap<Key, Item> {
        &self.items
    }

    /// The key in `item`: the whole item of a put, or the key of a get.
    pub fn key(&self, item: &Item) -> Result<Key, Failure> {
        let part = |name: &str| {
            let text = item.get(name).and_then(|value| value.get("S")).and_then(Value::as_str);
            let missing = "One or more parameter values were invalid: Missing the key";
            text.map(str::to_owned)
                .filter(|text| !text.is_empty())
                .ok_or_else(|| Failure::refused("ValidationException", format!("{missing} {name} in the item")))
        };
        Ok((part("pk")?, if self.sorted { part("sk")? } else { String::new() }))
    }

    /// Fails with `ConditionalCheckFailedException` when the condition does not hold for what is stored.
    pub fn check(&self, key: &Key, condition: Option<&str>, names: &Names) -> Result<(), Failure> {
        let Some(condition) = condition else { return Ok(()) };
        let empty = Item::new();
        let stored = self.items.get(key).unwrap_or(&empty);
        if expression::holds(condition, names, stored)? {
            return Ok(());
        }
        Err(Failure::refused(
            "ConditionalCheckFailedException",
            "The conditional request failed",
        ))
    }

    /// Puts a whole item. Returns the one before.
    pub fn put(&mut self, item: Item) -> Result<Option<Item>, Failure> {
        let key = self.key(&item)?;
        if Value::Object(item.clone()).to_string().len() > ITEM_SIZE {
            return Err(Failure::refused(
                "ValidationException",
                "Item size has exceeded the maximum allowed size",
            ));
        }
        Ok(self.items.insert(key, item))
    }

    /// Deletes an item. Returns it.
    pub fn delete(&mut self, key: &Key) -> Option<Item> {
        self.items.remove(key)
    }

    /// The items of one partition in order of the sort key, from after `start` on.
    pub fn partition(&self, pk: &str, start: Option<&Key>, backwards: bool) -> Vec<&Item> {
        let low = Bound::Included((pk.to_owned(), String::new()));
        let whole = self
            .items
            .range((low, Bound::Unbounded))
            .take_while(|((p, _), _)| p == pk);
        let kept = whole.filter(|(key, _)| match start {
            Some(start) if backwards => *key < start,
            Some(start) => *key > start,
            None => true,
        });
        let mut items: Vec<&Item> = kept.map(|(_, item)| item).collect();
        if backwards {
            items.reverse();
        }
        items
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        self.items.retain(|_, item| {
            let number = item
                .get("expires")
                .and_then(|value| value.get("N"))
                .and_then(Value::as_str);
            let expires = number.and_then(|number| number.parse::<i64>().ok());
            expires.is_none_or(|expires| now.as_second() < expires.saturating_add(EXPIRED_FOR))
        });
    }
}

impl World {
    /// A new table with string keys `pk` and, when `sorted`, `sk`.
    pub fn add_table(&mut self, name: &str, sorted: bool) {
        self.tables.insert(
            name.to_owned(),
            Table {
                sorted,
                items: BTreeMap::new(),
            },
        );
    }

    /// All tables by name.
    pub fn tables(&self) -> impl Iterator<Item = (&String, &Table)> {
        self.tables.iter()
    }

    /// The table, or `ResourceNotFoundException`.
    pub fn table(&mut self, name: &str) -> Result<&mut Table, Failure> {
        let message = "Requested resource not found";
        self.tables
            .get_mut(name)
            .ok_or_else(|| Failure::refused("ResourceNotFoundException", message))
    }
}

/// The key of an item as DynamoDB writes it.
pub fn key_item(key: &Key, sorted: bool) -> Value {
    if sorted {
        json!({ "pk": { "S": key.0 }, "sk": { "S": key.1 } })
    } else {
        json!({ "pk": { "S": key.0 } })
    }
}
