//! Tags of load balancers, listeners, rules and target groups.

use std::collections::BTreeMap;

use super::{Failure, World};

impl World {
    /// The tags of an ELB resource, or the not-found error of its kind.
    pub fn elb_tags(&self, arn: &str) -> Result<&BTreeMap<String, String>, Failure> {
        let rule = self.rules.iter().find(|rule| rule.arn == arn).map(|rule| &rule.tags);
        let listener = || {
            self.listeners
                .iter()
                .find(|listener| listener.arn == arn)
                .map(|listener| &listener.tags)
        };
        let group = || {
            self.groups
                .iter()
                .find(|group| group.arn == arn)
                .map(|group| &group.tags)
        };
        let balancer = || {
            self.balancers
                .iter()
                .find(|balancer| balancer.arn == arn)
                .map(|balancer| &balancer.tags)
        };
        rule.or_else(listener)
            .or_else(group)
            .or_else(balancer)
            .ok_or_else(|| not_found(arn))
    }

    /// `AddTags`.
    pub fn add_elb_tags(&mut self, arn: &str, tags: &BTreeMap<String, String>) -> Result<(), Failure> {
        check(tags)?;
        let there = self.elb_tags_mut(arn)?;
        there.extend(tags.iter().map(|(key, value)| (key.clone(), value.clone())));
        Ok(())
    }

    /// `RemoveTags`.
    pub fn remove_elb_tags(&mut self, arn: &str, keys: &[String]) -> Result<(), Failure> {
        let there = self.elb_tags_mut(arn)?;
        there.retain(|key, _| !keys.contains(key));
        Ok(())
    }

    fn elb_tags_mut(&mut self, arn: &str) -> Result<&mut BTreeMap<String, String>, Failure> {
        let rule = self
            .rules
            .iter_mut()
            .find(|rule| rule.arn == arn)
            .map(|rule| &mut rule.tags);
        let listener = self
            .listeners
            .iter_mut()
            .find(|listener| listener.arn == arn)
            .map(|listener| &mut listener.tags);
        let group = self
            .groups
            .iter_mut()
            .find(|group| group.arn == arn)
            .map(|group| &mut group.tags);
        let balancer = self
            .balancers
            .iter_mut()
            .find(|balancer| balancer.arn == arn)
            .map(|balancer| &mut balancer.tags);
        rule.or(listener).or(group).or(balancer).ok_or_else(|| not_found(arn))
    }
}

/// AWS's rules for tags: at most 50, keys of 1 to 128 and values of at most 256 letters, digits, spaces, `_.:/=+-@`.
pub(super) fn check(tags: &BTreeMap<String, String>) -> Result<(), Failure> {
    let allowed = |text: &str| text.chars().all(|c| c.is_alphanumeric() || " _.:/=+-@".contains(c));
    if tags.len() > 50 {
        return Err(Failure::refused("TooManyTags", "A resource has at most 50 tags"));
    }
    for (key, value) in tags {
        if key.is_empty() || key.chars().count() > 128 || !allowed(key) {
            return Err(Failure::refused(
                "ValidationError",
                format!("Tag key '{key}' is not valid"),
            ));
        }
        if value.chars().count() > 256 || !allowed(value) {
            return Err(Failure::refused(
                "ValidationError",
                format!("Tag value '{value}' is not valid"),
            ));
        }
    }
    Ok(())
}

fn not_found(arn: &str) -> Failure {
    let (code, what) = match arn.split(':').nth(5).unwrap_or_default().split('/').next() {
        Some("listener-rule") => ("RuleNotFound", "Rule"),
        Some("listener") => ("ListenerNotFound", "Listener"),
        Some("targetgroup") => ("TargetGroupNotFound", "Target group"),
        _ => ("LoadBalancerNotFound", "Load balancer"),
    };
    Failure::refused(code, format!("{what} '{arn}' not found"))
}
