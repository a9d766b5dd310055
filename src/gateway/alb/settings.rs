//! What only an operator asks: settings of target groups, limits of the account, what is opted in where nobody watches.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::types;

use super::Alb;
use super::read::{DESCRIBE_GROUPS, rules_of, tags_of};
use crate::aws::{fault, incomplete};
use crate::domain::account::{GroupSettings, Limits};
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::rule::GroupId;
use crate::domain::table::{ListenerRule, RouteTable};

const DESCRIBE_LIMITS: &str = "elasticloadbalancing:DescribeAccountLimits";
/// No limit is documented; this is that of its sister calls.
const ARNS_PER_DESCRIBE: usize = 20;

/// Names of limits. Source: Elastic Load Balancing API reference, `Limit`.
const RULES: &str = "rules-per-application-load-balancer";
const GROUPS: &str = "target-groups-per-application-load-balancer";

impl Alb {
    /// The settings of these groups; one that does not exist is left out.
    ///
    /// # Errors
    /// What AWS refuses.
    pub async fn settings_of(&self, groups: &[GroupId]) -> Result<BTreeMap<GroupId, GroupSettings>, Fault> {
        let mut found = BTreeMap::new();
        for groups in groups.chunks(ARNS_PER_DESCRIBE) {
            match self.described(groups).await {
                Ok(settings) => found.extend(settings),
                // One that is gone must not hide the others.
                Err(fault) if fault.kind == FaultKind::NotFound => {
                    for group in groups {
                        match self.described(std::slice::from_ref(group)).await {
                            Ok(settings) => found.extend(settings),
                            Err(fault) if fault.kind == FaultKind::NotFound => {}
                            Err(fault) => return Err(fault),
                        }
                    }
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(found)
    }

    /// The group of this name.
    ///
    /// # Errors
    /// What AWS refuses.
    pub async fn group_named(&self, name: &str) -> Result<Option<GroupSettings>, Fault> {
        let answer = self.client.describe_target_groups().names(name).send().await;
        match answer.map_err(|error| fault(DESCRIBE_GROUPS, error)) {
            Ok(answer) => answer.target_groups().first().map(settings).transpose(),
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// What the account allows.
    ///
    /// # Errors
    /// What AWS refuses.
    pub async fn limits(&self) -> Result<Limits, Fault> {
        let mut limits = Limits::default();
        let mut pages = self.client.describe_account_limits().into_paginator().send();
        while let Some(page) = pages.next().await {
            for limit in page.map_err(|error| fault(DESCRIBE_LIMITS, error))?.limits() {
                let max = limit.max().and_then(|max| max.parse().ok());
                match limit.name() {
                    Some(RULES) => limits.rules = max,
                    Some(GROUPS) => limits.groups = max,
                    Some(_) | None => {}
                }
            }
        }
        Ok(limits)
    }

    /// Listener rules that are opted in on listeners of the table's load balancers which nobody watches.
    ///
    /// # Errors
    /// What AWS refuses.
    pub async fn opted_in_unwatched(&self, table: &RouteTable) -> Result<Vec<ListenerRule>, Fault> {
        let mut found = Vec::new();
        for listener in self.unwatched_listeners(table).await? {
            let mut rules = rules_of(&self.client, &listener).await?;
            let mut tags = tags_of(&self.client, rules.iter().map(|rule| rule.arn.0.clone()).collect()).await?;
            for rule in &mut rules {
                rule.tags = tags.remove(&rule.arn.0).unwrap_or_default();
            }
            found.extend(rules.into_iter().filter(ListenerRule::is_managed));
        }
        Ok(found)
    }

    async fn described(&self, groups: &[GroupId]) -> Result<Vec<(GroupId, GroupSettings)>, Fault> {
        let arns = groups.iter().map(|group| group.0.clone()).collect();
        let call = self.client.describe_target_groups().set_target_group_arns(Some(arns));
        let answer = call.send().await.map_err(|error| fault(DESCRIBE_GROUPS, error))?;
        let read = answer.target_groups().iter().map(settings);
        read.map(|settings| settings.map(|settings| (settings.id.clone(), settings)))
            .collect()
    }
}

fn settings(group: &types::TargetGroup) -> Result<GroupSettings, Fault> {
    let lacks = |what: &str| incomplete(DESCRIBE_GROUPS, what);
    let seconds = group
        .health_check_interval_seconds()
        .and_then(|seconds| u64::try_from(seconds).ok());
    let successes = group
        .healthy_threshold_count()
        .and_then(|count| u32::try_from(count).ok());
    Ok(GroupSettings {
        id: GroupId(
            group
                .target_group_arn()
                .ok_or_else(|| lacks("a target group's ARN"))?
                .to_owned(),
        ),
        name: group.target_group_name().unwrap_or_default().to_owned(),
        kind: group
            .target_type()
            .map(|kind| kind.as_str().to_owned())
            .unwrap_or_default(),
        protocol: group.protocol().map(|protocol| protocol.as_str().to_owned()),
        port: group
            .port()
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port > 0),
        vpc: group.vpc_id().map(str::to_owned),
        checked: group.health_check_enabled().unwrap_or(true),
        interval: Duration::from_secs(seconds.unwrap_or_default()),
        successes: successes.unwrap_or_default(),
    })
}
