//! What a refused AWS call says: status, code, message.

use std::fmt;

/// An AWS error answer, independent of the protocol it is written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status of the answer.
    pub status: u16,
    /// AWS's error code, such as `RuleNotFound`.
    pub code: String,
    /// The sentence beside it.
    pub message: String,
}

impl Failure {
    /// A caller's mistake: status 400.
    pub fn refused(code: &str, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            code: code.to_owned(),
            message: message.into(),
        }
    }

    /// AWS's own trouble, which SDKs retry: status 500 or 503.
    pub fn trouble(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code, self.status, self.message)
    }
}

impl std::error::Error for Failure {}
