//! Target health: unused, initial, healthy, unhealthy, draining, with AWS's thresholds.

use std::time::Duration;

use jiff::Timestamp;

use super::{Power, Target, TargetKind, World};

/// AWS's states of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthState {
    Unused,
    Initial,
    Healthy,
    Unhealthy,
    Draining,
    Unavailable,
}

impl HealthState {
    /// AWS's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
            Self::Unavailable => "unavailable",
        }
    }
}

/// How one health check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The target answered with this status.
    Status(u16),
    /// No connection, or no HTTP.
    Failed,
    /// No answer in time.
    TimedOut,
}

/// A health check to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub group: String,
    pub target: String,
    pub port: u16,
    pub path: String,
    pub timeout: Duration,
}

/// The health of one target in one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub state: HealthState,
    /// AWS's reason code, such as `Target.NotInUse`; empty when healthy.
    pub reason: &'static str,
    pub description: String,
    passed: u32,
    failed: u32,
    next: Timestamp,
    drains_until: Option<Timestamp>,
}

impl Health {
    /// The health of a target that was registered just now.
    pub(super) fn fresh(now: Timestamp) -> Self {
        let mut health = Self {
            state: HealthState::Unused,
            reason: "",
            description: String::new(),
            passed: 0,
            failed: 0,
            next: now,
            drains_until: None,
        };
        health.not_in_use();
        health
    }

    pub(super) fn drain(&mut self, until: Timestamp) {
        self.state = HealthState::Draining;
        self.reason = "Target.DeregistrationInProgress";
        self.description = "Target deregistration is in progress".to_owned();
        self.drains_until = Some(until);
    }

    fn not_in_use(&mut self) {
        self.turn(
            HealthState::Unused,
            "Target.NotInUse",
            "Target group is not configured to receive traffic from the load balancer",
        );
    }

    fn turn(&mut self, state: HealthState, reason: &'static str, description: &str) {
        if (self.state, self.reason) != (state, reason) {
            self.state = state;
            self.reason = reason;
            self.description = description.to_owned();
            self.passed = 0;
            self.failed = 0;
        }
    }
}

impl World {
    /// Brings every target's health in line with what its group and its instance are: called after each change.
    pub(super) fn settle_health(&mut self, now: Timestamp) {
        let used: Vec<bool> = self
            .groups
            .iter()
            .map(|group| !self.balancers_of(&group.arn).is_empty())
            .collect();
        let Self { groups, instances, .. } = self;
        for (group, used) in groups.iter_mut().zip(used) {
            for target in &mut group.targets {
                let health = &mut target.health;
                let running = group.kind != TargetKind::Instance
                    || instances
                        .get(&target.id)
                        .is_some_and(|instance| instance.life().power == Power::Running);
                if health.state == HealthState::Draining {
                    continue;
                }
                if !used {
                    health.not_in_use();
                } else if !running {
                    let why = "Target is in the stopped state";
                    health.turn(HealthState::Unused, "Target.InvalidState", why);
                } else if group.kind == TargetKind::Lambda && !group.check.enabled {
                    let why = "Health checks are not enabled for this target";
                    health.turn(HealthState::Unavailable, "Target.HealthCheckDisabled", why);
                } else if matches!(health.state, HealthState::Unused | HealthState::Unavailable) {
                    health.turn(
                        HealthState::Initial,
                        "Elb.InitialHealthChecking",
                        "Initial health checks in progress",
                    );
                    health.next = now;
                }
            }
        }
    }

    /// Drained targets go.
    pub(super) fn advance_targets(&mut self, now: Timestamp) {
        for group in &mut self.groups {
            group
                .targets
                .retain(|target| target.health.drains_until.is_none_or(|until| until > now));
        }
    }

    /// The health checks that are due. Each is handed out once; its outcome goes to [`World::probed`].
    pub fn due_probes(&mut self, now: Timestamp) -> Vec<Probe> {
        let mut due = Vec::new();
        for group in self.groups.iter_mut().filter(|group| group.kind != TargetKind::Lambda) {
            for target in &mut group.targets {
                let checked = matches!(
                    target.health.state,
                    HealthState::Initial | HealthState::Healthy | HealthState::Unhealthy
                );
                if checked && target.health.next <= now {
                    target.health.next = now + group.check.interval;
                    due.push(Probe {
                        group: group.arn.clone(),
                        target: target.id.clone(),
                        port: target.port.unwrap_or(group.port),
                        path: group.check.path.clone(),
                        timeout: group.check.timeout,
                    });
                }
            }
        }
        due
    }

    /// A health check has ended. A target that is new or was stopped needs the group's healthy threshold too: AWS
    /// documents one success for a newly *registered* target and nothing for a restarted one, so this is the slower.
    pub fn probed(&mut self, probe: &Probe, outcome: Outcome) {
        let Some(group) = self.groups.iter_mut().find(|group| group.arn == probe.group) else {
            return;
        };
        let check = group.check.clone();
        let found = group
            .targets
            .iter_mut()
            .find(|target| target.id == probe.target && target.port == Some(probe.port));
        let Some(Target { health, .. }) = found else { return };
        // An answer that arrives after the target was stopped or taken out of use says nothing.
        if !matches!(
            health.state,
            HealthState::Initial | HealthState::Healthy | HealthState::Unhealthy
        ) {
            return;
        }
        let (reason, description) = match outcome {
            Outcome::Status(status) if check.passes(status) => {
                health.passed += 1;
                health.failed = 0;
                if health.passed >= check.healthy {
                    health.turn(HealthState::Healthy, "", "");
                }
                return;
            }
            Outcome::Status(status) => (
                "Target.ResponseCodeMismatch",
                format!("Health checks failed with these codes: [{status}]"),
            ),
            Outcome::Failed => ("Target.FailedHealthChecks", "Health checks failed".to_owned()),
            Outcome::TimedOut => ("Target.Timeout", "Request timed out".to_owned()),
        };
        health.failed += 1;
        health.passed = 0;
        if health.failed >= check.unhealthy {
            health.turn(HealthState::Unhealthy, reason, &description);
        }
    }
}
