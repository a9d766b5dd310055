//! What the AWS adapters share: settings, clients, how an error is sorted, how many calls run at once.

mod bounded;
mod clients;
mod faults;
mod settings;
#[cfg(test)]
pub(crate) mod wire;

pub(crate) use bounded::at_once;
pub use clients::Clients;
pub(crate) use faults::{fault, incomplete};
pub use settings::{AwsSettings, Endpoints, SettingError};
