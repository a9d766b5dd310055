//! The route table: all listener rules of the watched listeners, as last read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::matching::Condition;
use super::rule::{Action, GroupId, ResourceId, RouteId, RuleName};
use super::seen::Parked;
use super::time::Timestamp;

/// The tag that makes a listener rule a managed route.
pub const TAG_IDLE: &str = "autostopping:idle";
/// The tag that says who may wake a rule.
pub const TAG_ALLOW: &str = "autostopping:allow";
/// The tag of a parked rule: the ARN of its R.
pub const TAG_PARKS: &str = "autostopping:parks";

/// One look at all listeners.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteTable {
    pub schema: u32,
    pub read_at: Timestamp,
    /// When a Tick last went through all rules: whether the schedule arrives. Written with the table, so that it costs no
    /// write of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swept_at: Option<Timestamp>,
    pub listeners: Vec<Listener>,
    /// The names of the managed routes as of this reading. A name made from a target group must outlive the loss of P.
    #[serde(default)]
    pub names: BTreeMap<RouteId, RuleName>,
    /// The parked rules without a managed R, and since when they have been seen so.
    #[serde(default)]
    pub loose: BTreeMap<RouteId, Timestamp>,
    /// The machines that target groups of nobody's rule lead to, as last gone through.
    #[serde(default)]
    pub ways: Option<Ways>,
}

/// Other ways to machines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ways {
    /// When all of them were last gone through; the epoch before the first time.
    pub read_at: Timestamp,
    /// A machine and the target group through which it is reachable.
    pub machines: BTreeMap<ResourceId, GroupId>,
    /// The target groups that listeners lead to which nobody watches, and the listener rule that does.
    #[serde(default)]
    pub groups: BTreeMap<GroupId, RouteId>,
    /// A reading under way.
    #[serde(default)]
    pub pending: Option<PendingWays>,
}

/// What is known of a reading so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingWays {
    /// The last target group that was read; they come in the order of their ARNs.
    pub last: GroupId,
    pub machines: BTreeMap<ResourceId, GroupId>,
}

/// One listener of an Application Load Balancer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    pub arn: String,
    pub load_balancer: String,
    pub port: u16,
    /// The waker target group of this load balancer.
    pub waker: Option<GroupId>,
    /// The Kubernetes cluster whose controller owns the load balancer.
    pub controller: Option<String>,
    /// What its load balancer does with X-Forwarded-For; none while no rule of it depends on that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded_for: Option<ForwardedFor>,
    /// By priority; the default rule comes last.
    pub rules: Vec<ListenerRule>,
}

/// What a load balancer does with X-Forwarded-For.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedFor {
    /// It adds the client's address at the end.
    Appended,
    /// What it does instead: `preserve`, which passes on whatever the client wrote, or `remove`.
    Otherwise(String),
    /// Nobody can tell; why, in words.
    Unreadable(String),
}

/// One rule of a listener, in AWS's own shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListenerRule {
    pub arn: RouteId,
    /// 1 to 50000; none for the default rule.
    pub priority: Option<u32>,
    pub conditions: Vec<Condition>,
    pub actions: Vec<Action>,
    /// The types of its transforms (`host-header-rewrite`, `url-rewrite`). They are never touched, and what the waker is
    /// handed is the rewritten request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transforms: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl ListenerRule {
    /// The R this rule is the parked copy of.
    pub fn parks(&self) -> Option<&str> {
        self.tags.get(TAG_PARKS).map(String::as_str)
    }

    pub fn is_managed(&self) -> bool {
        self.tags.contains_key(TAG_IDLE)
    }
}

impl RouteTable {
    /// The listener rule with this ARN and its listener.
    pub fn find(&self, route: &RouteId) -> Option<(&Listener, &ListenerRule)> {
        self.listeners
            .iter()
            .find_map(|listener| Some((listener, listener.rules.iter().find(|rule| rule.arn == *route)?)))
    }

    /// The parked copies of a route.
    pub fn parked(&self, route: &RouteId) -> Parked {
        let rules = self.listeners.iter().flat_map(|listener| &listener.rules);
        let mut copies: Vec<_> = rules
            .filter(|rule| rule.parks() == Some(&route.0))
            .map(|rule| rule.actions.clone())
            .collect();
        match copies.len() {
            0 => Parked::Missing,
            1 => Parked::One(copies.remove(0)),
            _ => Parked::Many(copies),
        }
    }
}
