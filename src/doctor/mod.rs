//! What is wrong, or soon will be, and how to mend it: findings from facts. `gather` is the only part that asks anybody.

mod facts;
mod function;
mod gather;
mod problems;
#[cfg(feature = "proxy")]
pub mod proxy;
mod rules;
mod system;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use facts::{Facts, Unseen, WakerFacts};
pub use gather::gather;
pub use rules::slow_check;

use crate::domain::time::Timestamp;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Something does not work: a wake fails, or a machine is never stopped.
    Error,
    /// It works worse than it could, or will not work for long.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// What kind of finding it is; scripts may rely on it.
    pub code: &'static str,
    /// A rule's name, or the ARN or name of what else it is about.
    pub of: String,
    pub what: String,
    pub fix: String,
}

impl Finding {
    fn new(severity: Severity, code: &'static str, of: impl Into<String>, what: String, fix: String) -> Self {
        Finding {
            severity,
            code,
            of: of.into(),
            what,
            fix,
        }
    }
}

/// Everything that is wrong, what matters most first.
pub fn findings(now: Timestamp, facts: &Facts) -> Vec<Finding> {
    let mut found = system::findings(now, facts);
    found.extend(function::findings(facts));
    found.extend(rules::findings(facts));
    found.sort_by(|one, other| (one.severity, &one.of, one.code).cmp(&(other.severity, &other.of, other.code)));
    found.dedup();
    found
}
