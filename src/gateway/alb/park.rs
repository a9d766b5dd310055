//! The parked rule, P: it keeps R's backend in use, and so its health checks alive, while R points at the waker.

use std::collections::BTreeSet;

use aws_sdk_elasticloadbalancingv2::error::ProvideErrorMetadata;
use aws_sdk_elasticloadbalancingv2::types::Tag;

use super::read::{rules_of, tags_of};
use super::{Alb, MODIFY_RULE, actions, conditions, listener_of};
use crate::aws::fault;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::rule::{Action, RouteId};
use crate::domain::table::{ListenerRule, RouteTable, TAG_PARKS};

pub(super) const CREATE_RULE: &str = "elasticloadbalancing:CreateRule";
const DELETE_RULE: &str = "elasticloadbalancing:DeleteRule";
/// Parked rules come after all others, counted down from the last priority there is.
const LAST_PRIORITY: u32 = 50_000;
/// A priority that was free when we looked may be taken when we write, and then we look again; this often.
const LOOKS: usize = 5;

/// What became of one attempt to make P right.
enum Attempt {
    Done,
    /// Somebody else, or an earlier send of the same call, was faster: look again.
    Overtaken(Fault),
}

impl Alb {
    pub(super) async fn park_action(&self, table: &RouteTable, route: &RouteId, backend: &Action) -> Result<(), Fault> {
        let listener = listener_of(table, route, CREATE_RULE)?.arn.as_str();
        // P has no action but the final one, and needs no login: nobody reaches it.
        let backend = Action {
            order: Some(1),
            ..backend.clone()
        };
        let mut taken = BTreeSet::new();
        let mut last = None;
        for _ in 0..LOOKS {
            let rules = rules_of(&self.client, listener).await?;
            let mut copies = match self.copies(table, route, &rules).await {
                // One of the rules was deleted since.
                Err(fault) if fault.kind == FaultKind::NotFound => {
                    last = Some(fault);
                    continue;
                }
                copies => copies?,
            };
            let attempt = match keeper(&copies, &backend) {
                Some(place) => self.refresh(&copies.swap_remove(place), &backend).await?,
                None => self.create(listener, route, &backend, &rules, &mut taken).await?,
            };
            if let Attempt::Overtaken(fault) = attempt {
                last = Some(fault);
                continue;
            }
            copies.extend(self.strays(table, route, listener).await?);
            for surplus in &copies {
                self.delete(surplus).await?;
            }
            return Ok(());
        }
        let words = format!("no parked rule for {route} after {LOOKS} looks");
        Err(last.unwrap_or_else(|| Fault::new(FaultKind::Conflict, CREATE_RULE, words)))
    }

    /// The rules of R's listener that are parked for R, by their tags as they are now. The table only saves questions: a
    /// rule it knows as another's is not asked about, nor one it does not know that looks like no parked rule.
    async fn copies(
        &self,
        table: &RouteTable,
        route: &RouteId,
        rules: &[ListenerRule],
    ) -> Result<Vec<ListenerRule>, Fault> {
        let might_be = |rule: &&ListenerRule| match table.find(&rule.arn) {
            Some((_, known)) if known.parks().is_some() => known.parks() == Some(&route.0),
            Some(_) | None => conditions::look_parked(&rule.conditions),
        };
        let candidates: Vec<_> = rules
            .iter()
            .filter(|rule| rule.priority.is_some() && rule.arn != *route)
            .filter(might_be)
            .cloned()
            .collect();
        self.ours(route, candidates).await
    }

    /// Copies on other listeners, which only a hand can have made.
    async fn strays(&self, table: &RouteTable, route: &RouteId, listener: &str) -> Result<Vec<ListenerRule>, Fault> {
        let mut strays = Vec::new();
        for other in table.listeners.iter().filter(|other| other.arn != listener) {
            for rule in other.rules.iter().filter(|rule| rule.parks() == Some(&route.0)) {
                match self.ours(route, vec![rule.clone()]).await {
                    Ok(found) => strays.extend(found),
                    Err(fault) if fault.kind == FaultKind::NotFound => {}
                    Err(fault) => return Err(fault),
                }
            }
        }
        Ok(strays)
    }

    /// Those of the candidates whose tag names R.
    async fn ours(&self, route: &RouteId, mut candidates: Vec<ListenerRule>) -> Result<Vec<ListenerRule>, Fault> {
        let arns: Vec<_> = candidates.iter().map(|rule| rule.arn.0.clone()).collect();
        let mut tags = tags_of(&self.client, arns).await?;
        for rule in &mut candidates {
            rule.tags = tags.remove(&rule.arn.0).unwrap_or_default();
        }
        candidates.retain(|rule| rule.parks() == Some(&route.0));
        match candidates.iter().find(|rule| rule.is_managed()) {
            Some(both) => {
                let words = format!("{} is tagged both as managed and as parked: remove one tag", both.arn);
                Err(Fault::new(FaultKind::Conflict, CREATE_RULE, words))
            }
            None => Ok(candidates),
        }
    }

    pub(super) async fn delete_parked(&self, parked: &ListenerRule, route: &RouteId) -> Result<(), Fault> {
        match self.ours(route, vec![parked.clone()]).await {
            Ok(copies) => {
                for copy in &copies {
                    self.delete(copy).await?;
                }
                Ok(())
            }
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    async fn create(
        &self,
        listener: &str,
        route: &RouteId,
        backend: &Action,
        rules: &[ListenerRule],
        taken: &mut BTreeSet<u32>,
    ) -> Result<Attempt, Fault> {
        taken.extend(rules.iter().filter_map(|rule| rule.priority));
        let free = (1..=LAST_PRIORITY).rev().find(|priority| !taken.contains(priority));
        let Some(priority) = free.and_then(|priority| i32::try_from(priority).ok()) else {
            let words = format!("no priority is free on {listener}");
            return Err(Fault::new(FaultKind::Conflict, CREATE_RULE, words));
        };
        let call = self
            .client
            .create_rule()
            .listener_arn(listener)
            .priority(priority)
            .set_conditions(Some(conditions::parked(fastrand::u64(..))))
            .actions(actions::to_sdk(CREATE_RULE, backend)?)
            .tags(Tag::builder().key(TAG_PARKS).value(&route.0).build());
        match call.send().await {
            Ok(_) => Ok(Attempt::Done),
            // Taken by a stranger, or by this very call, whose answer was lost before it was sent again: the next look
            // tells. Should that look be stale, there are two copies until the next park.
            Err(error) if error.code() == Some("PriorityInUse") => {
                taken.extend(free);
                Ok(Attempt::Overtaken(fault(CREATE_RULE, error)))
            }
            Err(error) => Err(fault(CREATE_RULE, error)),
        }
    }

    async fn refresh(&self, parked: &ListenerRule, backend: &Action) -> Result<Attempt, Fault> {
        let conditions_right = conditions::are_parked(&parked.conditions);
        if conditions_right && actions::same(&parked.actions, std::slice::from_ref(backend)) {
            return Ok(Attempt::Done);
        }
        let conditions = (!conditions_right).then(|| conditions::parked(fastrand::u64(..)));
        let call = self
            .client
            .modify_rule()
            .rule_arn(&parked.arn.0)
            .set_conditions(conditions)
            .actions(actions::to_sdk(MODIFY_RULE, backend)?);
        match call.send().await.map_err(|error| fault(MODIFY_RULE, error)) {
            Ok(_) => Ok(Attempt::Done),
            Err(fault) if fault.kind == FaultKind::NotFound && fault.message.starts_with("RuleNotFound") => {
                Ok(Attempt::Overtaken(fault))
            }
            Err(fault) => Err(fault),
        }
    }

    async fn delete(&self, rule: &ListenerRule) -> Result<(), Fault> {
        let call = self.client.delete_rule().rule_arn(&rule.arn.0);
        match call.send().await.map_err(|error| fault(DELETE_RULE, error)) {
            Err(fault) if fault.kind != FaultKind::NotFound => Err(fault),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Which copy stays: one that is right already, else the last by priority.
fn keeper(copies: &[ListenerRule], backend: &Action) -> Option<usize> {
    let right = |rule: &ListenerRule| {
        conditions::are_parked(&rule.conditions) && actions::same(&rule.actions, std::slice::from_ref(backend))
    };
    (0..copies.len()).max_by_key(|place| (right(&copies[*place]), copies[*place].priority))
}
