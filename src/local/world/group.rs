//! Target groups: settings, targets, and the calls that change them.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{Failure, Health, HealthState, Power, World};

/// What a group's targets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    Instance,
    Lambda,
    Ip,
}

impl TargetKind {
    /// AWS's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Lambda => "lambda",
            Self::Ip => "ip",
        }
    }
}

/// The health check of a group. Interval 5 to 300 s, thresholds 2 to 10 on AWS; tests may use less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    pub enabled: bool,
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    /// Successes in a row that an unhealthy target needs.
    pub healthy: u32,
    /// Failures in a row that a target needs to become unhealthy.
    pub unhealthy: u32,
    /// Answers that pass: AWS's `Matcher.HttpCode`, such as `200`, `200,302` or `200-399`.
    pub codes: String,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            enabled: true,
            path: "/".to_owned(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            healthy: 5,
            unhealthy: 2,
            codes: "200".to_owned(),
        }
    }
}

impl HealthCheck {
    /// Whether an answer with this status passes.
    pub fn passes(&self, status: u16) -> bool {
        self.codes.split(',').any(|part| match part.trim().split_once('-') {
            Some((low, high)) => {
                low.parse().is_ok_and(|l: u16| status >= l) && high.parse().is_ok_and(|h: u16| status <= h)
            }
            None => part.trim().parse() == Ok(status),
        })
    }
}

/// A registered target.
#[derive(Debug, Clone)]
pub struct Target {
    /// Instance id, function ARN or address.
    pub id: String,
    /// `None` for a function.
    pub port: Option<u16>,
    pub health: Health,
}

/// A target group.
#[derive(Debug, Clone)]
pub struct TargetGroup {
    pub arn: String,
    pub name: String,
    pub kind: TargetKind,
    /// `HTTP` or `HTTPS`; a group of functions has none.
    pub protocol: String,
    /// 0 for a group of functions.
    pub port: u16,
    pub check: HealthCheck,
    /// Attributes by AWS's keys, such as `lambda.multi_value_headers.enabled`.
    pub attributes: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    pub targets: Vec<Target>,
}

impl TargetGroup {
    /// Whether an attribute is `true`.
    pub fn flag(&self, attribute: &str) -> bool {
        self.attributes.get(attribute).is_some_and(|value| value == "true")
    }

    fn deregistration_delay(&self) -> Duration {
        let seconds = self
            .attributes
            .get("deregistration_delay.timeout_seconds")
            .and_then(|value| value.parse().ok());
        Duration::from_secs(seconds.unwrap_or(300))
    }
}

impl World {
    /// `CreateTargetGroup`. Returns the ARN. The same name with the same settings is the same group, as on AWS.
    pub fn create_target_group(
        &mut self,
        name: &str,
        kind: TargetKind,
        protocol: &str,
        port: u16,
        check: HealthCheck,
    ) -> Result<String, Failure> {
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || name.len() > 32 || !name.chars().all(valid) {
            let message = format!("Target group name '{name}' must be 1 to 32 letters, digits or hyphens");
            return Err(Failure::refused("ValidationError", message));
        }
        if let Some(there) = self.groups.iter().find(|group| group.name == name) {
            let same = there.kind == kind && there.port == port && there.protocol == protocol && there.check == check;
            let message = format!("A target group with the same name '{name}' exists, but with different settings");
            return if same {
                Ok(there.arn.clone())
            } else {
                Err(Failure::refused("DuplicateTargetGroupName", message))
            };
        }
        let id = self.hex(16);
        let arn = self.elb_arn(&format!("targetgroup/{name}/{id}"));
        let delay = ("deregistration_delay.timeout_seconds".to_owned(), "300".to_owned());
        let multi = ("lambda.multi_value_headers.enabled".to_owned(), "false".to_owned());
        self.groups.push(TargetGroup {
            arn: arn.clone(),
            name: name.to_owned(),
            kind,
            protocol: protocol.to_owned(),
            port,
            check,
            attributes: BTreeMap::from([if kind == TargetKind::Lambda { multi } else { delay }]),
            tags: BTreeMap::new(),
            targets: Vec::new(),
        });
        Ok(arn)
    }

    /// The group, if there is one.
    pub fn target_group(&self, arn: &str) -> Option<&TargetGroup> {
        self.groups.iter().find(|group| group.arn == arn)
    }

    /// The group, or `TargetGroupNotFound`.
    pub fn require_group(&self, arn: &str) -> Result<&TargetGroup, Failure> {
        self.target_group(arn).ok_or_else(|| group_not_found(arn))
    }

    /// The group to change its settings, or `TargetGroupNotFound`.
    pub fn target_group_mut(&mut self, arn: &str) -> Result<&mut TargetGroup, Failure> {
        self.groups
            .iter_mut()
            .find(|group| group.arn == arn)
            .ok_or_else(|| group_not_found(arn))
    }

    /// All groups, oldest first.
    pub fn target_groups(&self) -> &[TargetGroup] {
        &self.groups
    }

    /// `DeleteTargetGroup`: refused while a rule names the group.
    pub fn delete_target_group(&mut self, arn: &str) -> Result<(), Failure> {
        if !self.balancers_of(arn).is_empty() {
            let message = format!("Target group '{arn}' is currently in use by a listener or a rule");
            return Err(Failure::refused("ResourceInUse", message));
        }
        self.groups.retain(|group| group.arn != arn);
        Ok(())
    }

    /// `RegisterTargets`: refuses an instance that is not running, as AWS does. `port` `None` is the group's port.
    pub fn register_targets(
        &mut self,
        now: Timestamp,
        arn: &str,
        targets: &[(String, Option<u16>)],
    ) -> Result<(), Failure> {
        let kind = self.require_group(arn)?.kind;
        if kind == TargetKind::Instance {
            for (id, _) in targets {
                if self
                    .instance(id)
                    .is_none_or(|instance| instance.life().power != Power::Running)
                {
                    let message =
                        format!("The following targets are not in a running state and cannot be registered: '{id}'");
                    return Err(Failure::refused("InvalidTarget", message));
                }
            }
        }
        self.enrol(now, arn, targets)
    }

    /// Registers targets whatever their state: an instance that was registered while it ran and was stopped since.
    pub fn enrol(&mut self, now: Timestamp, arn: &str, targets: &[(String, Option<u16>)]) -> Result<(), Failure> {
        let group = self.target_group_mut(arn)?;
        for (id, port) in targets {
            let port = (group.kind != TargetKind::Lambda).then(|| port.unwrap_or(group.port));
            match group
                .targets
                .iter_mut()
                .find(|target| target.id == *id && target.port == port)
            {
                Some(there) if there.health.state == HealthState::Draining => there.health = Health::fresh(now),
                Some(_) => {}
                None => group.targets.push(Target {
                    id: id.clone(),
                    port,
                    health: Health::fresh(now),
                }),
            }
        }
        self.settle_health(now);
        Ok(())
    }

    /// `DeregisterTargets`: the targets drain for the group's delay, then they are gone.
    pub fn deregister_targets(
        &mut self,
        now: Timestamp,
        arn: &str,
        targets: &[(String, Option<u16>)],
    ) -> Result<(), Failure> {
        let group = self.target_group_mut(arn)?;
        let until = now + group.deregistration_delay();
        for (id, port) in targets {
            for target in &mut group.targets {
                if target.id == *id && (port.is_none() || target.port == *port) {
                    target.health.drain(until);
                }
            }
        }
        self.advance_targets(now);
        Ok(())
    }

    /// ARNs of the load balancers that have a rule naming the group: what makes it "in use".
    pub fn balancers_of(&self, group: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for rule in &self.rules {
            if rule
                .view()
                .actions
                .iter()
                .any(|action| super::group_arns(action).iter().any(|arn| arn == group))
            {
                let listener = self.listeners.iter().find(|listener| listener.arn == rule.listener);
                let balancer = listener.map(|listener| listener.balancer.clone());
                found.extend(balancer.filter(|balancer| !found.contains(balancer)));
            }
        }
        found
    }
}

pub(super) fn group_not_found(arn: &str) -> Failure {
    Failure::refused("TargetGroupNotFound", format!("Target group '{arn}' not found"))
}
