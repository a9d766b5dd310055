//! Rules, their routes and what a route forwards to, in AWS's own JSON shape.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::policy::Policy;

/// The identity of a rule: the value of `autostopping:name`, or the name of the backend's first target group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleName(pub String);

/// The ARN of a managed listener rule, R.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RouteId(pub String);

/// What is started and stopped: an EC2 instance id such as `i-0123456789abcdef0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceId(pub String);

/// The ARN of a target group; a waker's may be its name alone where the environment says so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub String);

macro_rules! displayed_as_its_text {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
displayed_as_its_text!(RuleName RouteId ResourceId GroupId);

impl GroupId {
    /// The group's name, which no other of its account and Region has (Elastic Load Balancing API reference,
    /// CreateTargetGroup). `arn:...:targetgroup/NAME/ID`; what is no ARN is a name.
    pub fn name(&self) -> &str {
        self.0.split('/').nth(1).unwrap_or(&self.0)
    }

    /// Whether this group is one of these, each given by its ARN or by its name.
    pub fn is_among(&self, groups: &[GroupId]) -> bool {
        groups
            .iter()
            .any(|group| self == group || (group.is_name() && group.0 == self.name()))
    }

    /// Whether this is a name and no ARN.
    pub fn is_name(&self) -> bool {
        !self.0.contains([':', '/'])
    }
}

/// One thing that sleeps and wakes as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    pub name: RuleName,
    pub policy: Policy,
    /// What its tags, its conditions or its neighbours have against it. What only a look can tell is found by `plan`.
    pub problems: Vec<Problem>,
}

/// The two places a route can lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Backend,
    Waker,
}

/// One action of a listener rule, as `aws elbv2 describe-rules` prints it. The types are ours because the SDK's cannot be
/// stored; every field AWS documents is kept, so that writing it back changes nothing.
///
/// Source: Elastic Load Balancing API reference, `Action`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Action {
    /// `forward`, `authenticate-oidc`, `authenticate-cognito`, `jwt-validation`, `redirect` or `fixed-response`.
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<i32>,
    /// AWS shows it beside `forward_config` when there is just one group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_group_arn: Option<GroupId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_config: Option<Forward>,
    /// The configuration of any other kind, verbatim under AWS's name for it (`AuthenticateOidcConfig`, ...).
    #[serde(flatten)]
    pub rest: Config,
}

/// The part of an [`Action`] nobody here looks into.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Config(pub serde_json::Map<String, serde_json::Value>);

/// Where a forward action sends requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Forward {
    #[serde(default)]
    pub target_groups: Vec<WeightedGroup>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_group_stickiness_config: Option<Stickiness>,
}

/// A target group and its share of the requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WeightedGroup {
    pub target_group_arn: GroupId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
}

/// Stickiness between target groups.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Stickiness {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i32>,
}

/// The action a request ends in: the last by `Order`. The ones before it authenticate.
pub fn final_action(actions: &[Action]) -> Option<&Action> {
    actions.iter().max_by_key(|action| action.order.unwrap_or(i32::MAX))
}

/// R's actions with the final one forwarding to `waker` instead; what authenticates stays in front, in its order.
pub fn pointed_at_waker(actions: &[Action], waker: &GroupId) -> Vec<Action> {
    with_final(actions, &forward_to(waker, None))
}

/// R's actions with another final one, in the place and order of the old.
pub fn with_final(actions: &[Action], replacement: &Action) -> Vec<Action> {
    let last = final_action(actions);
    let is_last = |action: &Action| last.is_some_and(|last| std::ptr::eq(last, action));
    actions
        .iter()
        .map(|action| {
            if is_last(action) {
                Action {
                    order: action.order,
                    ..replacement.clone()
                }
            } else {
                action.clone()
            }
        })
        .collect()
}

fn forward_to(group: &GroupId, order: Option<i32>) -> Action {
    Action {
        kind: "forward".to_owned(),
        order,
        target_group_arn: None,
        forward_config: Some(Forward {
            target_groups: vec![WeightedGroup {
                target_group_arn: group.clone(),
                weight: None,
            }],
            target_group_stickiness_config: None,
        }),
        rest: Config::default(),
    }
}

impl Action {
    /// The groups it forwards to with their weights; empty for every other kind. A missing weight counts as 1.
    pub fn groups(&self) -> Vec<(GroupId, i32)> {
        match (&self.forward_config, &self.target_group_arn) {
            (Some(forward), _) if !forward.target_groups.is_empty() => forward
                .target_groups
                .iter()
                .map(|g| (g.target_group_arn.clone(), g.weight.unwrap_or(1)))
                .collect(),
            (_, Some(group)) => vec![(group.clone(), 1)],
            _ => Vec::new(),
        }
    }

    /// Whether it forwards to any of these groups.
    pub fn forwards_to_any(&self, wakers: &[GroupId]) -> bool {
        self.groups().iter().any(|(group, _)| group.is_among(wakers))
    }
}

/// Why a rule is not, or only half, managed. Shown by name in `status` and on the page; such a rule is never stopped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    #[error("the tag {key} = {value:?} cannot be read: {allowed}")]
    UnreadableTag {
        key: String,
        value: String,
        allowed: String,
    },
    #[error("the tag {key} is unknown: {allowed}")]
    UnknownTag { key: String, allowed: String },
    #[error("the tag {key} is not supported by this version yet: remove it")]
    UnsupportedTag { key: String },
    #[error("the tag {key} differs between the rule's routes ({one:?} and {other:?}): give all of them the same value")]
    ContradictingTags { key: String, one: String, other: String },
    #[error("none of its listener rules is there any more: its machines are left as they are")]
    NoRoutes,
    #[error("its backend has no registered targets: register the instances with the target group")]
    NoTargets,
    #[error("the instance {instance} is terminated or unknown: deregister it, or register its successor")]
    Terminated { instance: ResourceId },
    #[error(
        "the instance {instance} belongs to the Auto Scaling group {group}, which would replace it when it stops: detach it"
    )]
    InAutoScalingGroup { instance: ResourceId, group: String },
    #[error(
        "the instance {instance} also belongs to the rule {other}: give both the same autostopping:name, or each its own instance"
    )]
    SharedInstance { instance: ResourceId, other: RuleName },
    #[error(
        "the instance {instance} is also reachable through {by}, so it could be in use unseen: deregister it there, or do not manage it"
    )]
    SecondWay { instance: ResourceId, by: String },
    #[error(
        "the listener rules {one} and {other} have the same conditions, so the second never gets a request: delete or change one"
    )]
    SameConditions { one: RouteId, other: RouteId },
    #[error("the conditions of {route} cannot be read: {why}")]
    UnreadableConditions { route: RouteId, why: String },
    #[error(
        "the final action of {route} is {kind}, and only a forward action can sleep and wake: remove the autostopping tags"
    )]
    NotAForward { route: RouteId, kind: String },
    #[error("{route} forwards to a waker target group and to others at once: forward it to the backend alone")]
    MixedForward { route: RouteId },
    #[error("{route} is the listener's default rule, which has no conditions: put a managed rule in front of it")]
    DefaultRule { route: RouteId },
    #[error(
        "the backend of {route} is also reachable through {by}, so it could be in use unseen: give both one autostopping:name"
    )]
    AlsoReachable { route: RouteId, by: RouteId },
    #[error("the target group {group} has targets of type {kind}: only instance targets can be started and stopped")]
    TargetType { group: GroupId, kind: String },
    #[error(
        "the load balancer belongs to the AWS Load Balancer Controller of cluster {cluster}, which deletes foreign rules"
    )]
    ForeignController { cluster: String },
    #[error("{listener} has no waker target group: add one of this load balancer's to AUTOSTOPPING_WAKER")]
    NoWaker { listener: String },
    #[error(
        "whom {key} lets in cannot be judged behind {load_balancer}: {why}. Its attribute routing.http.xff_header_processing.mode has to be append"
    )]
    UnknownAddresses {
        key: String,
        load_balancer: String,
        why: String,
    },
    #[error(
        "the original action of {route} is in neither the rule, the parked rule nor the ledger: set the listener rule's action by hand"
    )]
    OriginalLost { route: RouteId },
}

impl Problem {
    /// Whether a request may still wake the rule. Not when waking is impossible, and not when an unreadable tag could be
    /// the one that says who may wake.
    pub fn may_wake(&self) -> bool {
        match self {
            Problem::ContradictingTags { .. }
            | Problem::UnsupportedTag { .. }
            | Problem::Terminated { .. }
            | Problem::InAutoScalingGroup { .. }
            | Problem::SharedInstance { .. }
            | Problem::SecondWay { .. }
            | Problem::SameConditions { .. }
            | Problem::AlsoReachable { .. } => true,
            Problem::UnreadableTag { .. }
            | Problem::UnknownTag { .. }
            | Problem::NoRoutes
            | Problem::NoTargets
            | Problem::UnreadableConditions { .. }
            | Problem::NotAForward { .. }
            | Problem::MixedForward { .. }
            | Problem::DefaultRule { .. }
            | Problem::TargetType { .. }
            | Problem::ForeignController { .. }
            | Problem::NoWaker { .. }
            | Problem::UnknownAddresses { .. }
            | Problem::OriginalLost { .. } => false,
        }
    }
}
