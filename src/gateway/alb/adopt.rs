//! What an operator writes: tags, target groups, listener rules. Each call may be made again after an interruption.

use std::collections::BTreeMap;

use aws_sdk_elasticloadbalancingv2::error::ProvideErrorMetadata;
use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, Matcher, ProtocolEnum, Tag, TargetDescription, TargetTypeEnum,
};

use super::park::CREATE_RULE;
use super::{Alb, conditions};
use crate::aws::{fault, incomplete};
use crate::domain::account::{NewGroup, NewRoute};
use crate::domain::fault::Fault;
use crate::domain::rule::{GroupId, ResourceId, RouteId};

const ADD_TAGS: &str = "elasticloadbalancing:AddTags";
const REMOVE_TAGS: &str = "elasticloadbalancing:RemoveTags";
const CREATE_GROUP: &str = "elasticloadbalancing:CreateTargetGroup";
const REGISTER: &str = "elasticloadbalancing:RegisterTargets";

/// The health check of a new group: the shortest that AWS allows, since a wake waits for it. Source: Elastic Load Balancing
/// API reference, `CreateTargetGroup`.
const INTERVAL_SECONDS: i32 = 5;
const TIMEOUT_SECONDS: i32 = 4;
const SUCCESSES: i32 = 2;

impl Alb {
    /// Adds these tags to a listener rule, or gives them new values.
    ///
    /// # Errors
    /// What AWS refuses.
    pub async fn tag(&self, route: &RouteId, tags: &BTreeMap<String, String>) -> Result<(), Fault> {
        if tags.is_empty() {
            // Without tags the call would be refused.
            return Ok(());
        }
        let call = self
            .client
            .add_tags()
            .resource_arns(&route.0)
            .set_tags(Some(sdk_tags(tags)));
        call.send().await.map(drop).map_err(|error| fault(ADD_TAGS, error))
    }

    /// Removes the tags with these keys from a listener rule; no error for those it does not have.
    ///
    /// # Errors
    /// What AWS refuses.
    pub async fn untag(&self, route: &RouteId, keys: Vec<String>) -> Result<(), Fault> {
        if keys.is_empty() {
            return Ok(());
        }
        let call = self
            .client
            .remove_tags()
            .resource_arns(&route.0)
            .set_tag_keys(Some(keys));
        call.send().await.map(drop).map_err(|error| fault(REMOVE_TAGS, error))
    }

    /// Makes a target group of instances, or finds the one that was made with the same settings.
    ///
    /// # Errors
    /// A `Conflict` when there is one of this name with other settings; others as AWS answers.
    pub async fn create_group(&self, new: &NewGroup) -> Result<GroupId, Fault> {
        let call = self
            .client
            .create_target_group()
            .name(&new.name)
            .target_type(TargetTypeEnum::Instance)
            .protocol(ProtocolEnum::from(new.protocol.as_str()))
            .port(i32::from(new.port))
            .set_vpc_id(new.vpc.clone())
            .health_check_path(&new.path)
            .health_check_interval_seconds(INTERVAL_SECONDS)
            .health_check_timeout_seconds(TIMEOUT_SECONDS)
            .healthy_threshold_count(SUCCESSES)
            .unhealthy_threshold_count(SUCCESSES)
            .matcher(Matcher::builder().http_code(&new.codes).build());
        let answer = call.send().await.map_err(|error| fault(CREATE_GROUP, error))?;
        let arn = answer
            .target_groups()
            .first()
            .and_then(|group| group.target_group_arn());
        let arn = arn.ok_or_else(|| incomplete(CREATE_GROUP, "the target group's ARN"))?;
        Ok(GroupId(arn.to_owned()))
    }

    /// Registers instances on the group's port; no error for those that are registered.
    ///
    /// # Errors
    /// What AWS refuses; an instance that does not run among it.
    pub async fn register(&self, group: &GroupId, machines: &[ResourceId]) -> Result<(), Fault> {
        let targets = machines.iter().map(|id| TargetDescription::builder().id(&id.0).build());
        let call = self.client.register_targets().target_group_arn(&group.0);
        let call = call.set_targets(Some(targets.collect()));
        call.send().await.map(drop).map_err(|error| fault(REGISTER, error))
    }

    /// Makes a listener rule. None when its priority is taken: by somebody else, or by this very call, whose answer was
    /// lost before it was sent again.
    ///
    /// # Errors
    /// What AWS refuses.
    pub async fn create_route(&self, new: &NewRoute) -> Result<Option<RouteId>, Fault> {
        let forward = Action::builder()
            .r#type(ActionTypeEnum::Forward)
            .target_group_arn(&new.group.0);
        let call = self
            .client
            .create_rule()
            .listener_arn(&new.listener)
            .priority(i32::try_from(new.priority).unwrap_or(i32::MAX))
            .set_conditions(Some(conditions::of_site(&new.host, new.path.as_deref())))
            .actions(forward.build())
            .set_tags(Some(sdk_tags(&new.tags)));
        match call.send().await {
            Ok(answer) => {
                let arn = answer.rules().first().and_then(|rule| rule.rule_arn());
                let arn = arn.ok_or_else(|| incomplete(CREATE_RULE, "the rule's ARN"))?;
                Ok(Some(RouteId(arn.to_owned())))
            }
            Err(error) if error.code() == Some("PriorityInUse") => Ok(None),
            Err(error) => Err(fault(CREATE_RULE, error)),
        }
    }
}

fn sdk_tags(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter()
        .map(|(key, value)| Tag::builder().key(key).value(value).build())
        .collect()
}
