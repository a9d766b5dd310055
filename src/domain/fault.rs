//! What went wrong with a call, named by what the caller can do about it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::FIRST_PAUSE;

/// A failed call. It is a fact like any other: [`plan`](crate::domain::plan::plan) turns it into a phase and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[error("{operation}: {message}")]
pub struct Fault {
    /// What can be done about it.
    pub kind: FaultKind,
    /// The call that failed, as IAM writes it: `ec2:StartInstances`.
    pub operation: String,
    /// The service's own words, with its error code.
    pub message: String,
}

/// Every error of every service sorts into one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Too many calls; the same call may pass later.
    Throttled,
    /// Not allowed; the role has to change first.
    Denied,
    /// AWS has no machine of this kind to give, or a limit of the account is reached.
    NoCapacity,
    /// The thing does not exist (any more).
    NotFound,
    /// The thing is in a state that forbids it, or somebody else was faster.
    Conflict,
    /// The thing is of a kind that never allows it; the thing has to change first.
    Unsupported,
    /// Anything else, a lost answer among them: the call may or may not have had its effect.
    Other,
}

impl Fault {
    /// A fault of the given kind.
    pub fn new(kind: FaultKind, operation: &str, message: impl Into<String>) -> Self {
        Fault {
            kind,
            operation: operation.to_owned(),
            message: message.into(),
        }
    }

    /// Whether the call surely had no effect. After a lost answer nobody knows.
    pub fn had_no_effect(&self) -> bool {
        match self.kind {
            FaultKind::Throttled
            | FaultKind::Denied
            | FaultKind::NoCapacity
            | FaultKind::NotFound
            | FaultKind::Conflict
            | FaultKind::Unsupported => true,
            FaultKind::Other => false,
        }
    }

    /// Whether the same call will be refused until somebody changes something.
    pub fn lasts(&self) -> bool {
        match self.kind {
            FaultKind::Denied | FaultKind::NoCapacity | FaultKind::NotFound | FaultKind::Unsupported => true,
            FaultKind::Throttled | FaultKind::Conflict | FaultKind::Other => false,
        }
    }

    /// The pause after a first failure of this kind. What is merely crowded or in the middle of something passes soon.
    pub fn pause(&self) -> Duration {
        match self.kind {
            FaultKind::Throttled | FaultKind::Conflict => Duration::from_secs(5),
            FaultKind::Denied
            | FaultKind::NoCapacity
            | FaultKind::NotFound
            | FaultKind::Unsupported
            | FaultKind::Other => FIRST_PAUSE,
        }
    }

    /// The fault as a sentence for the page and for `status`.
    pub fn sentence(&self) -> String {
        let Fault { operation, message, .. } = self;
        match self.kind {
            FaultKind::Throttled => format!("AWS asks to slow down ({operation}: {message})."),
            FaultKind::Denied => format!("AWS refused {operation}: the role lacks the permission ({message})."),
            FaultKind::NoCapacity => {
                format!("AWS has no capacity for this machine right now ({operation}: {message}).")
            }
            FaultKind::NotFound => format!("AWS does not know what {operation} asked for ({message})."),
            FaultKind::Conflict => format!("{operation} met a state that forbids it ({message})."),
            FaultKind::Unsupported => format!("{operation} is not possible here ({message})."),
            FaultKind::Other => format!("{operation} failed ({message})."),
        }
    }
}
