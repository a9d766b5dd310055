//! The parked rule P: no request meets it, and it keeps a backend's action and so its health checks alive.

use std::collections::BTreeSet;

use aws_sdk_elasticloadbalancingv2::types as sdk;

use super::{Alb, actions, conflict, same_destination};
use crate::aws::fault;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::rule::{Action, RouteId, final_action};
use crate::domain::table::{RouteTable, TAG_PARKS};

/// A name that cannot exist. <https://www.rfc-editor.org/rfc/rfc6761#section-6.4>
const HOST: &str = "parked.invalid";
/// An address that nobody has. <https://www.rfc-editor.org/rfc/rfc5737>
const SOURCE: &str = "192.0.2.1/32";
/// Its value is random, so that not even somebody who knows the rest can meet the rule.
const HEADER: &str = "X-Autostopping-Parked";
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/listener-rules.html>
const LAST_PRIORITY: u32 = 50_000;
/// Somebody else may take a priority between our look and our write.
const ATTEMPTS: usize = 5;

impl Alb {
    pub(super) async fn ensure_parked(
        &self,
        table: &RouteTable,
        route: &RouteId,
        actions: &[Action],
    ) -> Result<(), Fault> {
        let (listener, _) = table
            .find(route)
            .ok_or_else(|| conflict(route, "it is not there any more"))?;
        let last = final_action(actions).ok_or_else(|| conflict(route, "it has no action to park"))?;
        if last.forwards_to_any(&self.wakers) {
            return Err(conflict(route, "an action that forwards to a waker is never parked"));
        }
        let keep = [Action {
            order: Some(1),
            ..last.clone()
        }];
        let rules = self.rules_of(&listener.arn).await?;
        let copies = self.copies(&rules, route).await?;
        let Some((first, surplus)) = copies.split_first() else {
            return self.create_parked(&listener.arn, route, &keep, &rules).await;
        };
        for copy in surplus {
            let call = self.client.delete_rule().rule_arn(copy.rule_arn().unwrap_or_default());
            call.send()
                .await
                .map_err(|error| fault("elasticloadbalancing:DeleteRule", error))?;
        }
        if same_destination(&actions::from_sdk(first.actions()), &keep) {
            return Ok(());
        }
        self.modify(&RouteId(first.rule_arn().unwrap_or_default().to_owned()), &keep)
            .await
    }

    /// The parked rules of a route among these, told by their tag.
    async fn copies<'r>(&self, rules: &'r [sdk::Rule], route: &RouteId) -> Result<Vec<&'r sdk::Rule>, Fault> {
        let parked: Vec<_> = rules.iter().filter(|rule| is_parked(rule)).collect();
        let arns: Vec<_> = parked.iter().filter_map(|rule| rule.rule_arn.clone()).collect();
        let tags = self.tags(&arns).await?;
        let parks = |rule: &&sdk::Rule| {
            let tags = rule.rule_arn().and_then(|arn| tags.get(arn));
            tags.and_then(|tags| tags.get(TAG_PARKS)) == Some(&route.0)
        };
        Ok(parked.into_iter().filter(parks).collect())
    }

    async fn create_parked(
        &self,
        listener: &str,
        route: &RouteId,
        keep: &[Action],
        rules: &[sdk::Rule],
    ) -> Result<(), Fault> {
        let taken: BTreeSet<u32> = rules.iter().filter_map(|rule| rule.priority()?.parse().ok()).collect();
        let free = (1..=LAST_PRIORITY).rev().filter(|priority| !taken.contains(priority));
        let secret = format!("{:032x}", fastrand::u128(..));
        for priority in free.take(ATTEMPTS) {
            let call = self
                .client
                .create_rule()
                .listener_arn(listener)
                .priority(i32::try_from(priority).unwrap_or(i32::MAX));
            let call = call
                .set_conditions(Some(nobody(&secret)))
                .set_actions(Some(actions::to_sdk(keep)?))
                .tags(sdk::Tag::builder().key(TAG_PARKS).value(&route.0).build());
            match call
                .send()
                .await
                .map_err(|error| fault("elasticloadbalancing:CreateRule", error))
            {
                Ok(_) => return Ok(()),
                Err(fault) if fault.message.starts_with("PriorityInUse") => {}
                Err(fault) => return Err(fault),
            }
        }
        Err(Fault::new(
            FaultKind::Conflict,
            "elasticloadbalancing:CreateRule",
            "no free priority was found for the parked rule",
        ))
    }
}

/// Conditions that no request meets together.
fn nobody(secret: &str) -> Vec<sdk::RuleCondition> {
    let host = sdk::HostHeaderConditionConfig::builder().values(HOST).build();
    let source = sdk::SourceIpConditionConfig::builder().values(SOURCE).build();
    let header = sdk::HttpHeaderConditionConfig::builder()
        .http_header_name(HEADER)
        .values(secret)
        .build();
    let condition = sdk::RuleCondition::builder;
    vec![
        condition().field("host-header").host_header_config(host).build(),
        condition().field("source-ip").source_ip_config(source).build(),
        condition().field("http-header").http_header_config(header).build(),
    ]
}

fn is_parked(rule: &sdk::Rule) -> bool {
    rule.conditions().iter().any(|condition| {
        condition
            .http_header_config()
            .and_then(|config| config.http_header_name())
            == Some(HEADER)
    })
}
