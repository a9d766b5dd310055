//! How far a wake has come, in steps, percent and seconds, as honestly as what is known allows.

use std::time::Duration;

use super::phase::{Phase, Step};
use super::policy::Needed;
use super::record::Record;
use super::seen::{GroupHealth, Power, Seen};
use super::time::{Timestamp, since};

/// What the page shows beside the phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// 0 to 99 while under way, 100 when there; none when nothing is known to measure against.
    pub percent: Option<u8>,
    /// None when unknown; zero when the wake takes longer than usual already.
    pub eta: Option<Duration>,
    pub elapsed: Duration,
}

/// Progress by the median of this rule's last wakes.
pub fn progress(now: Timestamp, record: &Record) -> Progress {
    let elapsed = since(now, record.waking_since.unwrap_or(record.wanted_since));
    match (&record.snapshot.phase, typical(&record.wakes)) {
        (Phase::Awake, _) => Progress {
            percent: Some(100),
            eta: Some(Duration::ZERO),
            elapsed,
        },
        (Phase::Starting | Phase::Checking | Phase::Switching, Some(typical)) if elapsed < typical => {
            let percent = elapsed.as_millis() * 95 / typical.as_millis().max(1);
            Progress {
                percent: u8::try_from(percent).ok(),
                eta: Some(typical - elapsed),
                elapsed,
            }
        }
        (Phase::Starting | Phase::Checking | Phase::Switching, Some(_)) => Progress {
            percent: Some(95),
            eta: Some(Duration::ZERO),
            elapsed,
        },
        _ => Progress {
            percent: None,
            eta: None,
            elapsed,
        },
    }
}

fn typical(wakes: &[u32]) -> Option<Duration> {
    let mut sorted = wakes.to_vec();
    sorted.sort_unstable();
    sorted
        .get(sorted.len() / 2)
        .map(|seconds| Duration::from_secs(u64::from(*seconds).max(1)))
}

/// The step under way.
pub(super) fn step(phase: &Phase, needed: Needed, seen: &Seen) -> Step {
    let machines = seen.resources.as_deref().unwrap_or_default();
    match phase {
        Phase::Asleep | Phase::Misconfigured(_) => Step::Resting,
        Phase::Settling | Phase::Stopping => Step::Stopping,
        Phase::Switching => Step::Switching,
        Phase::Awake => Step::Serving,
        Phase::Starting | Phase::Checking | Phase::Failed(_) => {
            if machines.iter().any(|m| m.power == Power::Stopping) {
                Step::WaitingForStop
            } else if machines.iter().any(|m| m.power == Power::Stopped) {
                Step::Starting
            } else if machines.iter().any(|m| m.power == Power::Pending) {
                Step::Booting
            } else {
                let (healthy, registered) = count(seen.health.as_deref().unwrap_or_default());
                Step::HealthChecks {
                    healthy,
                    needed: needed.of(registered).max(1),
                }
            }
        }
    }
}

fn count(groups: &[GroupHealth]) -> (u32, u32) {
    let targets = || {
        groups
            .iter()
            .filter(|group| group.weighted)
            .flat_map(|group| &group.targets)
    };
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (
        number(targets().filter(|target| target.healthy).count()),
        number(targets().count()),
    )
}

/// Why a running machine does not count as healthy, in AWS's words.
pub(super) fn unhealthy_in_words(groups: &[GroupHealth]) -> String {
    let mut words: Vec<_> = groups
        .iter()
        .flat_map(|group| &group.targets)
        .filter(|target| !target.healthy)
        .map(|target| format!("{} is {}", target.resource, target.words))
        .collect();
    words.sort();
    words.dedup();
    if words.is_empty() {
        return "The machine runs and is not ready to serve in time.".to_owned();
    }
    format!(
        "The machine runs and did not become healthy in time: {}.",
        words.join(", ")
    )
}
