//! The phases of a rule, and the finer steps shown to those who wait.

use serde::{Deserialize, Serialize};

/// Where a rule stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "phase", content = "reason")]
pub enum Phase {
    /// All routes lead to the waker, all machines are stopped.
    Asleep,
    /// The machines are being started.
    Starting,
    /// The machines run and are not healthy yet.
    Checking,
    /// Healthy; the routes are being flipped to the backend.
    Switching,
    /// All routes lead to the backend.
    Awake,
    /// The routes lead to the waker; requests that were on the way get their answers before the stop.
    Settling,
    /// The stop is under way.
    Stopping,
    /// A wake did not succeed; the reason in words.
    Failed(String),
    /// Something has to be put right by hand; the problem in words.
    Misconfigured(String),
}

impl Phase {
    /// The value of `X-Autostopping-Phase`.
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Asleep => "asleep",
            Phase::Starting => "starting",
            Phase::Checking => "checking",
            Phase::Switching => "switching",
            Phase::Awake => "awake",
            Phase::Settling => "settling",
            Phase::Stopping => "stopping",
            Phase::Failed(_) => "failed",
            Phase::Misconfigured(_) => "misconfigured",
        }
    }

    /// The sentence that comes with a phase that has one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Phase::Failed(reason) | Phase::Misconfigured(reason) => Some(reason),
            Phase::Asleep
            | Phase::Starting
            | Phase::Checking
            | Phase::Switching
            | Phase::Awake
            | Phase::Settling
            | Phase::Stopping => None,
        }
    }
}

/// What is happening right now, as the page tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Nothing is under way.
    Resting,
    /// A machine that was being stopped has to come to rest before it can start.
    WaitingForStop,
    /// The machine is asked to start.
    Starting,
    /// The machine boots.
    Booting,
    /// The load balancer checks the machine's health.
    HealthChecks { healthy: u32, needed: u32 },
    /// The route is being switched to the machine.
    Switching,
    /// Requests reach the machine.
    Serving,
    /// The machine is asked to stop, or stops.
    Stopping,
}
