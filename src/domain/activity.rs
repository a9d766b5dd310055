//! What metrics can show of a rule's use.

use std::collections::{BTreeMap, BTreeSet};

use super::rule::{GroupId, ResourceId};
use super::time::Timestamp;

/// What to ask the metrics about one rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// The target groups behind the rule.
    pub groups: Vec<Backend>,
    /// The machines whose load may count as use; empty when no veto is on.
    pub machines: Vec<ResourceId>,
    /// The start of the first minute that matters. Whole minutes.
    pub from: Timestamp,
    /// The end of the last minute that is old enough to be complete. Whole minutes, after `from`.
    pub until: Timestamp,
}

/// A target group and the load balancer it serves: its metrics have both for dimensions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    pub group: GroupId,
    /// Its ARN.
    pub load_balancer: String,
}

/// The answer: what was counted, and which minutes are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Activity {
    pub groups: BTreeMap<GroupId, GroupActivity>,
    pub machines: BTreeMap<ResourceId, Load>,
}

/// One target group, by the starts of its minutes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct GroupActivity {
    /// Requests (`RequestCount`, `Sum`). A minute without any has no point, which alone proves nothing.
    pub requests: BTreeMap<Timestamp, u64>,
    /// The minutes for which `HealthyHostCount` has a point: in them the metrics were alive.
    pub alive: BTreeSet<Timestamp>,
}

/// One machine, by the starts of five-minute periods. A period without a point is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Load {
    /// `NetworkIn` and `NetworkOut` together, bytes in five minutes; a period that lacks one of the two is left out.
    pub network: BTreeMap<Timestamp, u64>,
    /// `CPUUtilization`, the mean of five minutes in percent, rounded up.
    pub cpu: BTreeMap<Timestamp, u8>,
}

/// The points of machines lie this far apart with EC2's basic monitoring.
pub const MACHINE_PERIOD: std::time::Duration = std::time::Duration::from_secs(300);
