//! What a rule's tags ask for. Read by [`config::tags`](crate::config::tags), which knows the tags' names and defaults.

use std::time::Duration;

use ipnet::IpNet;

use super::activity::MINUTE;
use super::path::PathPrefix;
use super::record::DESCRIBE_IS_STALE_FOR;

/// How late AWS's metrics are taken to be at most. How late they can be is not documented.
pub const METRICS_DELAY: Duration = Duration::from_secs(3 * 60);

/// How a rule sleeps and wakes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Without use for this long, the rule goes to sleep.
    pub idle: Duration,
    /// What a program gets that asks while the rule sleeps.
    pub hold: Hold,
    /// How many healthy targets each group needs before traffic is sent there.
    pub healthy: Needed,
    /// A wake that takes longer has failed.
    pub deadline: Duration,
    /// Bytes a minute that count as use; `None` when off.
    pub busy_network: Option<u64>,
    /// Percent that count as use; `None` when off.
    pub busy_cpu: Option<u8>,
    pub stop: StopKind,
    /// Decide and log, never act.
    pub dry_run: bool,
    /// Who may wake it; empty means everybody.
    pub allow: Vec<IpNet>,
    /// The paths that wake it; empty means all but those of `never_wake_paths` and the usual ones.
    pub wake_paths: Vec<PathPrefix>,
    /// The paths that do not wake it.
    pub never_wake_paths: Vec<PathPrefix>,
    /// Only the button on its page wakes it.
    pub confirm: bool,
    /// How many times a day (UTC) requests may wake it; `None` when off.
    pub wakes_per_day: Option<u32>,
    /// Between the flip to the waker and the stop, for requests that were on the way (`AUTOSTOPPING_SETTLE`).
    pub settle: Duration,
    /// The newest metrics are ignored: they may be incomplete (`AUTOSTOPPING_METRICS_DELAY`).
    pub metrics_delay: Duration,
    /// The points of the metrics lie this far apart: use is known no finer.
    pub metrics_period: Duration,
    /// How long after a call of ours what the services say may still be from before it.
    pub describe_delay: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hold {
    /// Answer at once: 503 and when to come again.
    Page,
    /// Keep the request until the rule is awake, within the limits of the function.
    Wait,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Needed {
    /// At least this many, or all when fewer are registered. 0: as soon as the machines run.
    AtLeast(u32),
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StopKind {
    Stop,
    Hibernate,
}

impl Policy {
    /// Everything at its default but the one thing that has none.
    pub fn new(idle: Duration, settle: Duration) -> Self {
        Policy {
            idle,
            hold: Hold::Page,
            healthy: Needed::AtLeast(1),
            deadline: Duration::from_secs(15 * 60),
            busy_network: Some(100_000),
            busy_cpu: None,
            stop: StopKind::Stop,
            dry_run: false,
            allow: Vec::new(),
            wake_paths: Vec::new(),
            never_wake_paths: Vec::new(),
            confirm: false,
            wakes_per_day: None,
            settle,
            metrics_delay: METRICS_DELAY,
            metrics_period: MINUTE,
            describe_delay: DESCRIBE_IS_STALE_FOR,
        }
    }
}
