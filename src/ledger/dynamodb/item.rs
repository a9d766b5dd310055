//! Attributes of items, and what becomes of an error.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::domain::time::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::stored::unreadable;

/// An item, or a part of one.
pub(super) type Item = HashMap<String, AttributeValue>;

/// The key of an item.
pub(super) fn keys(pk: &str, sk: &str) -> Item {
    HashMap::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))])
}

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: impl Display) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A point in time to compare by; DynamoDB's numbers keep 38 digits, these need 19.
pub(super) fn nanoseconds(at: Timestamp) -> AttributeValue {
    number(at.as_nanosecond())
}

/// The value of `expires`: whole seconds since the epoch, as DynamoDB's time to live wants them.
pub(super) fn expires(at: Timestamp) -> AttributeValue {
    number(at.as_second())
}

/// A text attribute. `item` names the item in errors.
pub(super) fn read_text<'i>(item: &'i Item, name: &str, attribute: &str) -> Result<&'i str, LedgerError> {
    match item.get(attribute) {
        Some(AttributeValue::S(text)) => Ok(text),
        Some(_) => Err(unreadable(name, format!("{attribute} is not a text"))),
        None => Err(unreadable(name, format!("it has no {attribute}"))),
    }
}

/// A number attribute.
pub(super) fn read_number<T: FromStr>(item: &Item, name: &str, attribute: &str) -> Result<T, LedgerError> {
    let digits = match item.get(attribute) {
        Some(AttributeValue::N(digits)) => digits,
        Some(_) => return Err(unreadable(name, format!("{attribute} is not a number"))),
        None => return Err(unreadable(name, format!("it has no {attribute}"))),
    };
    digits
        .parse()
        .map_err(|_| unreadable(name, format!("{attribute} is {digits}")))
}
