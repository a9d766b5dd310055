//! Whether anything changed since the last look, told without asking for the health of targets.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::record::Record;
use super::rule::Rule;
use super::seen::{ResourceSeen, RouteSeen};
use super::time::Timestamp;

/// A digest of what was seen of a rule. Equal ones are as good as a look for a rule at rest.
pub fn digest(rule: &Rule, routes: &[RouteSeen], machines: &[ResourceSeen]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (rule, routes).hash(&mut hasher);
    for machine in machines {
        // Who else claims a machine, or leads to it, is not in an answer of EC2.
        let bare = ResourceSeen {
            other_owner: None,
            other_way: None,
            ..machine.clone()
        };
        bare.hash(&mut hasher);
    }
    hasher.finish()
}

/// Whether a Tick has nothing to do for this rule.
pub fn rests(now: Timestamp, record: &Record, digest: u64) -> bool {
    record.adopted && record.digest == Some(digest) && record.rests_until.is_some_and(|until| now < until)
}
