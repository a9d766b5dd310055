//! Attributes of items, and what becomes of an error.

use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::str::FromStr;

use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::AttributeValue;

use crate::domain::fault::{Fault, FaultKind};
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

/// Sorts an error of DynamoDB. What is not in the list may or may not have had its effect.
///
/// Source: DynamoDB developer guide, "Error handling with DynamoDB".
pub(super) fn fault<E, R>(operation: &str, error: SdkError<E, R>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: Debug + Send + Sync + 'static,
{
    let kind = match error.code() {
        Some("ProvisionedThroughputExceededException" | "ThrottlingException" | "RequestLimitExceeded") => {
            FaultKind::Throttled
        }
        Some("AccessDeniedException" | "UnrecognizedClientException") => FaultKind::Denied,
        Some("ResourceNotFoundException") => FaultKind::NotFound,
        Some(_) | None => FaultKind::Other,
    };
    let message = match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => DisplayErrorContext(&error).to_string(),
    };
    Fault::new(kind, operation, message)
}
