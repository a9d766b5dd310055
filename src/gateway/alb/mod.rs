//! Application Load Balancers.
//!
//! R keeps its priority, conditions, transforms and authenticate-* actions always; only its final action changes. What
//! authenticates is written as R has it at that moment, not as the original had it: a login that was changed while the
//! rule slept stays changed.

mod actions;
#[cfg(feature = "cli")]
mod adopt;
mod conditions;
mod forwarded;
mod health;
mod homes;
mod park;
mod read;
#[cfg(feature = "cli")]
mod settings;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Mutex;

use crate::aws::{Lazy, fault};
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::rule::{Action, GroupId, RouteId, final_action, pointed_at_waker, with_final};
use crate::domain::seen::GroupHealth;
use crate::domain::table::{Listener, ListenerRule, RouteTable, TAG_IDLE};
use crate::domain::time::Timestamp;
use crate::gateway::Gateway;
use homes::Homes;

const DESCRIBE_RULES: &str = "elasticloadbalancing:DescribeRules";
const MODIFY_RULE: &str = "elasticloadbalancing:ModifyRule";

/// The adapter to the listeners that are watched.
#[derive(Debug)]
pub struct Alb {
    client: Lazy<aws_sdk_elasticloadbalancingv2::Client>,
    listeners: Vec<String>,
    wakers: Vec<GroupId>,
    /// Which waker serves which load balancer, once it is known for all.
    homes: Mutex<Option<Homes>>,
    /// The target type of each group; AWS cannot change it.
    types: Mutex<HashMap<GroupId, String>>,
}

impl Alb {
    /// `listeners` are ARNs; `wakers` the waker target groups by ARN or name, one per load balancer. A single one serves
    /// every listener.
    /// Makes no call.
    pub fn new(
        client: Lazy<aws_sdk_elasticloadbalancingv2::Client>,
        listeners: Vec<String>,
        wakers: Vec<GroupId>,
    ) -> Self {
        Alb {
            client,
            listeners,
            wakers,
            homes: Mutex::default(),
            types: Mutex::default(),
        }
    }

    /// R's actions now.
    async fn actions_of(&self, route: &RouteId) -> Result<Vec<Action>, Fault> {
        let call = self.client.describe_rules().rule_arns(&route.0);
        let answer = call.send().await.map_err(|error| fault(DESCRIBE_RULES, error))?;
        let rule = answer.rules().iter().find(|rule| rule.rule_arn() == Some(&route.0));
        let rule = rule.ok_or_else(|| not_found(DESCRIBE_RULES, route))?;
        Ok(rule.actions().iter().map(actions::from_sdk).collect())
    }

    /// Whether it is opted in by its tags as they are now.
    async fn is_managed_now(&self, route: &RouteId) -> Result<bool, Fault> {
        let tags = read::tags_of(&self.client, vec![route.0.clone()]).await?;
        Ok(tags.values().any(|tags| tags.contains_key(TAG_IDLE)))
    }

    /// The table may be older than a release, after which nobody would lead the route back or delete its P.
    async fn must_be_managed(&self, operation: &str, route: &RouteId) -> Result<(), Fault> {
        match self.is_managed_now(route).await? {
            true => Ok(()),
            false => {
                let words = format!("{route} is no longer managed");
                Err(Fault::new(FaultKind::Conflict, operation, words))
            }
        }
    }

    /// Only the actions are sent: what is left out of ModifyRule stays as it is.
    async fn write(&self, route: &RouteId, actions: &[Action]) -> Result<(), Fault> {
        let actions: Result<Vec<_>, _> = actions
            .iter()
            .map(|action| actions::to_sdk(MODIFY_RULE, action))
            .collect();
        let call = self.client.modify_rule().rule_arn(&route.0).set_actions(Some(actions?));
        call.send().await.map(drop).map_err(|error| fault(MODIFY_RULE, error))
    }

    /// Whether it forwards to wakers and nothing else.
    fn wakes(&self, action: &Action) -> bool {
        let groups = action.groups();
        !groups.is_empty() && groups.iter().all(|(group, _)| group.is_among(&self.wakers))
    }

    /// The final one of an original's actions, which must be a forward that wakers have no part in.
    fn backend<'a>(&self, operation: &str, route: &RouteId, actions: &'a [Action]) -> Result<&'a Action, Fault> {
        let conflict = |words: String| Fault::new(FaultKind::Conflict, operation, words);
        let last = final_action(actions).ok_or_else(|| conflict(format!("{route} has no original action")))?;
        if last.forwards_to_any(&self.wakers) {
            let words = format!("the original action of {route} forwards to a waker, which is no backend");
            return Err(conflict(words));
        }
        if last.groups().is_empty() {
            let words = format!("the final action of {route} is {} and forwards to nothing", last.kind);
            return Err(conflict(words));
        }
        Ok(last)
    }
}

impl Gateway for Alb {
    async fn read(&self, now: Timestamp, known: Option<&RouteTable>) -> Result<RouteTable, Fault> {
        self.read_table(now, known).await
    }

    async fn health(&self, groups: &[(GroupId, bool)]) -> Result<Vec<GroupHealth>, Fault> {
        self.health_of(groups).await
    }

    async fn groups(&self) -> Result<Vec<GroupId>, Fault> {
        self.groups_in_use().await
    }

    async fn unwatched(&self, table: &RouteTable) -> Result<Vec<(GroupId, RouteId)>, Fault> {
        self.unwatched_routes(table).await
    }

    async fn park(&self, table: &RouteTable, route: &RouteId, actions: &[Action]) -> Result<(), Fault> {
        let backend = self.backend(park::CREATE_RULE, route, actions)?;
        self.must_be_managed(park::CREATE_RULE, route).await?;
        self.park_action(table, route, backend).await
    }

    async fn unpark(&self, parked: &ListenerRule, route: &RouteId) -> Result<(), Fault> {
        match self.actions_of(route).await {
            Ok(current) => {
                if self.is_managed_now(route).await? {
                    let words = format!("{route} is managed again");
                    return Err(Fault::new(FaultKind::Conflict, MODIFY_RULE, words));
                }
                if final_action(&current).is_some_and(|last| self.wakes(last)) {
                    self.flip_to_backend(route, &parked.actions).await?;
                }
            }
            Err(fault) if fault.kind == FaultKind::NotFound => {}
            Err(fault) => return Err(fault),
        }
        self.delete_parked(parked, route).await
    }

    async fn flip_to_waker(&self, table: &RouteTable, route: &RouteId, actions: &[Action]) -> Result<(), Fault> {
        let conflict = |words: String| Fault::new(FaultKind::Conflict, MODIFY_RULE, words);
        let listener = listener_of(table, route, MODIFY_RULE)?;
        let waker = listener
            .waker
            .as_ref()
            .ok_or_else(|| conflict(format!("{} has no waker target group", listener.arn)))?;
        let current = self.actions_of(route).await?;
        if final_action(&current)
            .is_some_and(|last| self.wakes(last) && last.forwards_to_any(std::slice::from_ref(waker)))
        {
            return Ok(());
        }
        if !actions::same(&current, actions) {
            let words = format!("somebody changed the actions of {route}, which are no longer those to be parked");
            return Err(conflict(words));
        }
        self.backend(MODIFY_RULE, route, &current)?;
        self.must_be_managed(MODIFY_RULE, route).await?;
        self.write(route, &pointed_at_waker(&current, waker)).await
    }

    async fn flip_to_backend(&self, route: &RouteId, actions: &[Action]) -> Result<(), Fault> {
        let backend = self.backend(MODIFY_RULE, route, actions)?;
        let current = self.actions_of(route).await?;
        match final_action(&current) {
            Some(last) if actions::same_action(last, backend) => Ok(()),
            Some(last) if self.wakes(last) => self.write(route, &with_final(&current, backend)).await,
            _ => {
                let words = format!("somebody changed the final action of {route}, which is no longer the waker");
                Err(Fault::new(FaultKind::Conflict, MODIFY_RULE, words))
            }
        }
    }
}

fn listener_of<'a>(table: &'a RouteTable, route: &RouteId, operation: &str) -> Result<&'a Listener, Fault> {
    let found = table.find(route).map(|(listener, _)| listener);
    found.ok_or_else(|| not_found(operation, route))
}

fn not_found(operation: &str, route: &RouteId) -> Fault {
    Fault::new(
        FaultKind::NotFound,
        operation,
        format!("there is no listener rule {route}"),
    )
}
