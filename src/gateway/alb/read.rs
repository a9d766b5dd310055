//! Reading all listeners: their rules, tags and wakers.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_elasticloadbalancingv2::types as sdk;

use super::{Alb, actions, conditions};
use crate::aws::fault;
use crate::domain::fault::Fault;
use crate::domain::record::SCHEMA;
use crate::domain::rule::RouteId;
use crate::domain::table::{Listener, ListenerRule, RouteTable};
use crate::domain::time::Timestamp;

/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTags.html>
const ARNS_A_CALL: usize = 20;
/// <https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/guide/ingress/annotations/#resource-tags>
const CONTROLLER_TAG: &str = "elbv2.k8s.aws/cluster";

type Tags = HashMap<String, BTreeMap<String, String>>;

impl Alb {
    pub(super) async fn read_table(&self, now: Timestamp) -> Result<RouteTable, Fault> {
        let call = self
            .client
            .describe_listeners()
            .set_listener_arns(Some(self.listeners.clone()));
        let described = call
            .send()
            .await
            .map_err(|error| fault("elasticloadbalancing:DescribeListeners", error))?;
        let facts = self.facts(&self.wakers).await?;
        let mut rules = Vec::new();
        for listener in described.listeners() {
            rules.push(self.rules_of(listener.listener_arn().unwrap_or_default()).await?);
        }
        let balancers = described
            .listeners()
            .iter()
            .filter_map(sdk::Listener::load_balancer_arn);
        let mut arns: Vec<String> = balancers.map(str::to_owned).collect();
        arns.sort();
        arns.dedup();
        arns.extend(
            rules
                .iter()
                .flatten()
                .filter(|rule| rule.is_default() != Some(true))
                .filter_map(|rule| rule.rule_arn.clone()),
        );
        let tags = self.tags(&arns).await?;
        let listeners = described.listeners().iter().zip(&rules).map(|(listener, rules)| {
            let balancer = listener.load_balancer_arn().unwrap_or_default();
            let serves = |waker: &&crate::domain::rule::GroupId| {
                facts
                    .get(waker)
                    .is_some_and(|facts| facts.load_balancers.iter().any(|arn| arn == balancer))
            };
            // A waker that no rule names yet belongs to no load balancer; when it is the only one there is no doubt.
            let only = if let [only] = &self.wakers[..] {
                Some(only)
            } else {
                None
            };
            Listener {
                arn: listener.listener_arn().unwrap_or_default().to_owned(),
                load_balancer: balancer.to_owned(),
                port: listener
                    .port()
                    .and_then(|port| u16::try_from(port).ok())
                    .unwrap_or_default(),
                waker: self.wakers.iter().find(serves).or(only).cloned(),
                controller: tags.get(balancer).and_then(|tags| tags.get(CONTROLLER_TAG)).cloned(),
                rules: sorted(rules.iter().map(|rule| rule_from_sdk(rule, &tags)).collect()),
            }
        });
        Ok(RouteTable {
            schema: SCHEMA,
            read_at: now,
            listeners: listeners.collect(),
            names: BTreeMap::new(),
        })
    }

    /// All rules of a listener, now.
    pub(super) async fn rules_of(&self, listener: &str) -> Result<Vec<sdk::Rule>, Fault> {
        let mut rules = Vec::new();
        let mut marker = None;
        loop {
            let call = self
                .client
                .describe_rules()
                .listener_arn(listener)
                .page_size(400)
                .set_marker(marker);
            let answer = call
                .send()
                .await
                .map_err(|error| fault("elasticloadbalancing:DescribeRules", error))?;
            rules.extend_from_slice(answer.rules());
            marker = answer
                .next_marker()
                .filter(|marker| !marker.is_empty())
                .map(str::to_owned);
            if marker.is_none() {
                return Ok(rules);
            }
        }
    }

    pub(super) async fn tags(&self, arns: &[String]) -> Result<Tags, Fault> {
        let mut tags = Tags::new();
        for arns in arns.chunks(ARNS_A_CALL) {
            let call = self.client.describe_tags().set_resource_arns(Some(arns.to_vec()));
            let answer = call
                .send()
                .await
                .map_err(|error| fault("elasticloadbalancing:DescribeTags", error))?;
            for description in answer.tag_descriptions() {
                let of_one = description.tags().iter();
                let of_one = of_one.map(|tag| {
                    (
                        tag.key().unwrap_or_default().to_owned(),
                        tag.value().unwrap_or_default().to_owned(),
                    )
                });
                tags.insert(
                    description.resource_arn().unwrap_or_default().to_owned(),
                    of_one.collect(),
                );
            }
        }
        Ok(tags)
    }
}

fn rule_from_sdk(rule: &sdk::Rule, tags: &Tags) -> ListenerRule {
    let arn = rule.rule_arn().unwrap_or_default();
    ListenerRule {
        arn: RouteId(arn.to_owned()),
        priority: rule.priority().and_then(|priority| priority.parse().ok()),
        conditions: conditions::from_sdk(rule.conditions()),
        actions: actions::from_sdk(rule.actions()),
        transforms: rule
            .transforms()
            .iter()
            .map(|transform| {
                transform
                    .r#type()
                    .map_or_else(String::new, |kind| kind.as_str().to_owned())
            })
            .collect(),
        tags: tags.get(arn).cloned().unwrap_or_default(),
    }
}

fn sorted(mut rules: Vec<ListenerRule>) -> Vec<ListenerRule> {
    rules.sort_by_key(|rule| rule.priority.unwrap_or(u32::MAX));
    rules
}
