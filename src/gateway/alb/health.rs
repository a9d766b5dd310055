//! Registered targets and their health.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::types::{TargetHealth, TargetHealthStateEnum};

use super::Alb;
use super::read::DESCRIBE_GROUPS;
use crate::aws::{at_once, fault, incomplete};
use crate::domain::fault::Fault;
use crate::domain::rule::{GroupId, ResourceId};
use crate::domain::seen::{GroupHealth, TargetSeen};

const DESCRIBE_HEALTH: &str = "elasticloadbalancing:DescribeTargetHealth";
/// No limit is documented; this is that of its sister calls.
const ARNS_PER_DESCRIBE: usize = 20;

impl Alb {
    pub(super) async fn health_of(&self, groups: &[(GroupId, bool)]) -> Result<Vec<GroupHealth>, Fault> {
        let types = self.types_of(groups).await?;
        let calls = groups
            .iter()
            .map(|(group, _)| targets(self.client.clone(), group.clone()));
        let targets = at_once(calls.collect::<Vec<_>>()).await;
        let seen = groups.iter().zip(targets).map(|((id, weighted), targets)| {
            let lacks = || incomplete(DESCRIBE_GROUPS, &format!("the target type of {id}"));
            Ok(GroupHealth {
                id: id.clone(),
                weighted: *weighted,
                target_type: types.get(id).ok_or_else(lacks)?.clone(),
                targets: targets?,
            })
        });
        seen.collect()
    }

    /// A page has 400 groups, an account 3,000 by default. Source: Elastic Load Balancing API reference and quotas.
    pub(super) async fn groups_in_use(&self) -> Result<Vec<GroupId>, Fault> {
        let mut pages = self.client.describe_target_groups().into_paginator().send();
        let mut groups = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| fault(DESCRIBE_GROUPS, error))?;
            let in_use = page
                .target_groups()
                .iter()
                .filter(|group| !group.load_balancer_arns().is_empty());
            groups.extend(in_use.filter_map(|group| Some(GroupId(group.target_group_arn()?.to_owned()))));
        }
        Ok(groups)
    }

    async fn types_of(&self, groups: &[(GroupId, bool)]) -> Result<BTreeMap<GroupId, String>, Fault> {
        let known = self.types.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let new: Vec<_> = groups
            .iter()
            .filter(|(group, _)| !known.contains_key(group))
            .map(|(group, _)| group.0.clone())
            .collect();
        let mut types: BTreeMap<_, _> = known.into_iter().collect();
        for arns in new.chunks(ARNS_PER_DESCRIBE) {
            let call = self
                .client
                .describe_target_groups()
                .set_target_group_arns(Some(arns.to_vec()));
            let answer = call.send().await.map_err(|error| fault(DESCRIBE_GROUPS, error))?;
            let mut remembered = self.types.lock().unwrap_or_else(PoisonError::into_inner);
            for group in answer.target_groups() {
                if let (Some(arn), Some(kind)) = (group.target_group_arn(), group.target_type()) {
                    let (id, kind) = (GroupId(arn.to_owned()), kind.as_str().to_owned());
                    remembered.insert(id.clone(), kind.clone());
                    types.insert(id, kind);
                }
            }
        }
        Ok(types)
    }
}

async fn targets(client: Client, group: GroupId) -> Result<Vec<TargetSeen>, Fault> {
    let call = client.describe_target_health().target_group_arn(&group.0);
    let answer = call.send().await.map_err(|error| fault(DESCRIBE_HEALTH, error))?;
    let seen = answer.target_health_descriptions().iter().map(|described| {
        let id = described.target().and_then(|target| target.id());
        let id = id.ok_or_else(|| incomplete(DESCRIBE_HEALTH, &format!("a target of {group}")))?;
        let health = described.target_health();
        Ok(TargetSeen {
            resource: ResourceId(id.to_owned()),
            healthy: health.and_then(TargetHealth::state) == Some(&TargetHealthStateEnum::Healthy),
            words: health.map_or_else(|| "unknown".to_owned(), words),
        })
    });
    seen.collect()
}

fn words(health: &TargetHealth) -> String {
    let state = health.state().map_or("unknown", TargetHealthStateEnum::as_str);
    match health.reason() {
        Some(reason) => format!("{state} ({})", reason.as_str()),
        None => state.to_owned(),
    }
}
