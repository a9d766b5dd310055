//! What a look found: facts, each known or not.

use super::activity::Counted;
use super::fault::Fault;
use super::policy::Needed;
use super::record::Record;
use super::rule::{Action, GroupId, ResourceId, RouteId, Side};
use super::time::Timestamp;

/// Why we look now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stimulus {
    /// Somebody asked for the site, and may wake it.
    Request { who: String },
    /// The schedule, or a page's poll: look, never wake.
    Tick,
    /// AWS says that a machine of this rule changed its state.
    StateChange,
    /// An operator's word.
    Command { wanted: Wanted, who: String },
    /// An operator's word that the rule is not idle before `until`; none takes it back.
    KeepAwake { until: Option<Timestamp>, who: String },
}

/// What a rule shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    Awake,
    Asleep,
}

/// A fact, or the reason why it could not be had.
pub type Fact<T> = Result<T, Fault>;

/// Everything known of one rule at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Seen {
    /// What the ledger remembers.
    pub record: Record,
    pub routes: Vec<RouteSeen>,
    /// In the order of their ids; a registered instance that EC2 does not know is [`Power::Terminated`].
    pub resources: Fact<Vec<ResourceSeen>>,
    /// The target groups behind the routes.
    pub health: Fact<Vec<GroupHealth>>,
    /// What was counted, when something was asked.
    pub counted: Option<Counted>,
}

/// A route, R, and its parked rule, P.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteSeen {
    pub id: RouteId,
    /// As described, which right after our own write may still be the old.
    pub side: Side,
    /// R's actions as described.
    pub actions: Vec<Action>,
    pub parked: Parked,
}

/// The parked rules found for one route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Parked {
    Missing,
    One(Vec<Action>),
    /// The answer to a `CreateRule` got lost and it was sent again.
    Many(Vec<Vec<Action>>),
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResourceSeen {
    pub id: ResourceId,
    pub power: Power,
    /// EC2's `LaunchTime`: when it was last started.
    pub launched: Option<Timestamp>,
    /// The time in EC2's `StateTransitionReason`, when it has one: when a user's call last changed the state.
    pub changed_by_user: Option<Timestamp>,
    /// EC2's `StateReason` when it tells of a start that fell through.
    pub fell_back: Option<String>,
    /// The Auto Scaling group that would replace it.
    pub scaling_group: Option<String>,
    /// Another rule that owns it.
    pub other_owner: Option<super::rule::RuleName>,
    /// The ARN of what else leads to it, past its rule.
    pub other_way: Option<String>,
}

impl ResourceSeen {
    /// Nothing but its state is known.
    pub fn bare(id: ResourceId, power: Power) -> Self {
        ResourceSeen {
            id,
            power,
            launched: None,
            changed_by_user: None,
            fell_back: None,
            scaling_group: None,
            other_owner: None,
            other_way: None,
        }
    }
}

/// The states of a machine; EC2's `shutting-down` counts as terminated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    Pending,
    Running,
    Stopping,
    Stopped,
    Terminated,
}

/// A target group of the backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupHealth {
    pub id: GroupId,
    /// Whether any of its requests go there (its weight is not 0).
    pub weighted: bool,
    /// `instance`, or a type that cannot be managed.
    pub target_type: String,
    pub targets: Vec<TargetSeen>,
}

/// A registered target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetSeen {
    pub resource: ResourceId,
    pub healthy: bool,
    /// AWS's state and reason in its own words, such as `unhealthy (Target.Timeout)`.
    pub words: String,
}

impl Needed {
    /// The number out of `registered`.
    pub fn of(self, registered: u32) -> u32 {
        match self {
            Needed::AtLeast(least) => least.min(registered),
            Needed::All => registered,
        }
    }
}
