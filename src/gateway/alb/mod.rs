//! The Application Load Balancer: read its rules, park, flip.

mod actions;
mod conditions;
mod park;
mod read;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::types::{TargetHealthDescription, TargetHealthStateEnum};

use super::Gateway;
use crate::aws::fault;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::rule::{Action, GroupId, ResourceId, RouteId, final_action, pointed_at_waker, with_final};
use crate::domain::seen::{GroupHealth, TargetSeen};
use crate::domain::table::RouteTable;
use crate::domain::time::Timestamp;

/// The adapter to Elastic Load Balancing.
#[derive(Debug)]
pub struct Alb {
    client: Client,
    /// The watched listeners.
    listeners: Vec<String>,
    wakers: Vec<GroupId>,
    /// What never changes during a target group's life: its target type and its load balancers.
    groups: Mutex<BTreeMap<GroupId, GroupFacts>>,
}

#[derive(Debug, Clone)]
struct GroupFacts {
    target_type: String,
    load_balancers: Vec<String>,
}

impl Alb {
    pub fn new(client: Client, listeners: Vec<String>, wakers: Vec<GroupId>) -> Self {
        Alb {
            client,
            listeners,
            wakers,
            groups: Mutex::default(),
        }
    }

    /// Target type and load balancers of each group, asked for once in this process.
    async fn facts(&self, groups: &[GroupId]) -> Result<BTreeMap<GroupId, GroupFacts>, Fault> {
        let known = || self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: Vec<String> = groups
            .iter()
            .filter(|group| !known().contains_key(group))
            .map(ToString::to_string)
            .collect();
        // https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTargetGroups.html: pages of 400.
        for arns in missing.chunks(100) {
            let call = self
                .client
                .describe_target_groups()
                .set_target_group_arns(Some(arns.to_vec()));
            let answer = call
                .send()
                .await
                .map_err(|error| fault("elasticloadbalancing:DescribeTargetGroups", error))?;
            for group in answer.target_groups() {
                let facts = GroupFacts {
                    target_type: group
                        .target_type()
                        .map_or_else(|| "instance".to_owned(), |kind| kind.as_str().to_owned()),
                    load_balancers: group.load_balancer_arns().to_vec(),
                };
                known().insert(GroupId(group.target_group_arn().unwrap_or_default().to_owned()), facts);
            }
        }
        let all = known().clone();
        Ok(all)
    }

    /// R's actions as they are now.
    async fn actions_now(&self, route: &RouteId) -> Result<Vec<Action>, Fault> {
        let call = self.client.describe_rules().rule_arns(&route.0);
        let answer = call
            .send()
            .await
            .map_err(|error| fault("elasticloadbalancing:DescribeRules", error))?;
        let rule = answer.rules().first();
        let rule = rule.ok_or_else(|| {
            Fault::new(
                FaultKind::NotFound,
                "elasticloadbalancing:DescribeRules",
                route.to_string(),
            )
        })?;
        Ok(actions::from_sdk(rule.actions()))
    }

    /// Only the actions are sent: conditions and transforms that a `ModifyRule` does not name stay as they are.
    async fn modify(&self, route: &RouteId, actions: &[Action]) -> Result<(), Fault> {
        let actions = actions::to_sdk(actions)?;
        let call = self.client.modify_rule().rule_arn(&route.0).set_actions(Some(actions));
        call.send()
            .await
            .map(drop)
            .map_err(|error| fault("elasticloadbalancing:ModifyRule", error))
    }

    fn leads_to_waker(&self, actions: &[Action]) -> bool {
        final_action(actions).is_some_and(|action| action.forwards_to_any(&self.wakers))
    }
}

impl Gateway for Alb {
    async fn read(&self, now: Timestamp) -> Result<RouteTable, Fault> {
        self.read_table(now).await
    }

    async fn health(&self, groups: &[(GroupId, bool)]) -> Result<Vec<GroupHealth>, Fault> {
        let ids: Vec<_> = groups.iter().map(|(group, _)| group.clone()).collect();
        let facts = self.facts(&ids).await?;
        let mut seen = Vec::with_capacity(groups.len());
        for (id, weighted) in groups {
            let call = self.client.describe_target_health().target_group_arn(&id.0);
            let answer = call
                .send()
                .await
                .map_err(|error| fault("elasticloadbalancing:DescribeTargetHealth", error))?;
            let target_type = facts
                .get(id)
                .map_or_else(|| "instance".to_owned(), |facts| facts.target_type.clone());
            let targets = answer.target_health_descriptions().iter().map(target).collect();
            seen.push(GroupHealth {
                id: id.clone(),
                weighted: *weighted,
                target_type,
                targets,
            });
        }
        Ok(seen)
    }

    async fn park(&self, table: &RouteTable, route: &RouteId, actions: &[Action]) -> Result<(), Fault> {
        self.ensure_parked(table, route, actions).await
    }

    async fn flip_to_waker(&self, table: &RouteTable, route: &RouteId, actions: &[Action]) -> Result<(), Fault> {
        let waker = table.find(route).and_then(|(listener, _)| listener.waker.clone());
        let waker = waker.ok_or_else(|| conflict(route, "its load balancer has no waker target group"))?;
        let now = self.actions_now(route).await?;
        if self.leads_to_waker(&now) {
            return Ok(());
        }
        if !same_destination(&now, actions) {
            return Err(conflict(
                route,
                "somebody else has changed its actions; nothing was written",
            ));
        }
        self.modify(route, &pointed_at_waker(&now, &waker)).await
    }

    /// What authenticates is taken from R as it is now: somebody may have tightened it while the rule slept.
    async fn flip_to_backend(&self, route: &RouteId, actions: &[Action]) -> Result<(), Fault> {
        let now = self.actions_now(route).await?;
        if same_destination(&now, actions) {
            return Ok(());
        }
        if !self.leads_to_waker(&now) {
            return Err(conflict(
                route,
                "somebody else has changed its actions; nothing was written",
            ));
        }
        let last = final_action(actions).ok_or_else(|| conflict(route, "its original action is unknown"))?;
        self.modify(route, &with_final(&now, last)).await
    }
}

/// Whether two lists of actions end in the same place. AWS prints a forward to one group in two ways, so groups, weights
/// and stickiness are compared, not spelling.
fn same_destination(one: &[Action], other: &[Action]) -> bool {
    let destination =
        |actions: &[Action]| final_action(actions).map(|last| (last.kind.clone(), last.groups(), stickiness(last)));
    destination(one) == destination(other)
}

/// Off is the default, and said or not said.
fn stickiness(action: &Action) -> Option<i32> {
    let config = action
        .forward_config
        .as_ref()?
        .target_group_stickiness_config
        .as_ref()?;
    config
        .enabled
        .unwrap_or(false)
        .then_some(config.duration_seconds.unwrap_or_default())
}

fn conflict(route: &RouteId, why: &str) -> Fault {
    Fault::new(
        FaultKind::Conflict,
        "elasticloadbalancing:ModifyRule",
        format!("{route}: {why}"),
    )
}

fn target(description: &TargetHealthDescription) -> TargetSeen {
    let id = description.target().and_then(|target| target.id()).unwrap_or_default();
    let health = description.target_health();
    let state = health.and_then(|health| health.state());
    let state_text = state.map_or("unknown", TargetHealthStateEnum::as_str);
    let reason = health
        .and_then(|health| health.reason())
        .map(|reason| format!(" ({})", reason.as_str()))
        .unwrap_or_default();
    TargetSeen {
        resource: ResourceId(id.to_owned()),
        healthy: state == Some(&TargetHealthStateEnum::Healthy),
        words: format!("{state_text}{reason}"),
    }
}
