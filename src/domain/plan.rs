//! The state machine. Level-triggered: look at what is, compare with what is wanted, emit the next actions.
//!
//! The parts: `wish` says what changes the wanted state, `look` reads the facts,
//! `transitions` goes towards what is wanted.

use std::time::Duration;

use super::look::Look;
use super::phase::Phase;
use super::policy::StopKind;
use super::progress;
use super::record::{Attempt, Record, SCHEMA, Snapshot};
use super::rule::{Action as ListenerAction, Problem, ResourceId, RouteId, Rule, Side};
use super::seen::{Seen, Stimulus, Wanted};
use super::time::{Timestamp, after};
use super::wish;

/// What to do next, and what to remember.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Plan {
    pub phase: Phase,
    /// In this order. `record` is stored before the first.
    pub actions: Vec<Action>,
    /// What would have been done, were the rule not a dry run.
    pub withheld: Vec<Action>,
    pub record: Record,
    /// Later than `now`, always.
    pub next_check: Timestamp,
    /// For the history: what changed and who or what changed it.
    pub events: Vec<Event>,
}

/// One call that changes something. Each may be applied twice: the second changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Makes sure that exactly one parked rule keeps the final one of these actions of R alive.
    Park {
        route: RouteId,
        actions: Vec<ListenerAction>,
    },
    /// Points R at the waker, if R still has these actions.
    FlipToWaker {
        route: RouteId,
        actions: Vec<ListenerAction>,
    },
    /// Gives R its original actions back.
    FlipToBackend {
        route: RouteId,
        actions: Vec<ListenerAction>,
    },
    Start {
        resources: Vec<ResourceId>,
    },
    Stop {
        resources: Vec<ResourceId>,
        kind: StopKind,
    },
}

/// A turn in the life of a rule, kept as history.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Event {
    pub at: Timestamp,
    pub kind: EventKind,
    /// Who or what, and why.
    pub why: String,
    /// Of a wake: how long it took, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    WakeWanted,
    SleepWanted,
    Woke,
    Slept,
    Failed,
    /// No longer managed.
    Released,
    /// Told to be kept awake for a while, or no longer.
    KeptAwake,
}

/// While something is expected to happen, look this often.
const SOON: Duration = Duration::from_secs(2);
/// While nothing can happen but by somebody's doing.
const LATER: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_secs(1);

/// Decides. Total: every fact that could not be had is a fault in `seen`, and comes out as a phase and a sentence.
pub fn plan(now: Timestamp, rule: &Rule, seen: &Seen, stimulus: &Stimulus) -> Plan {
    let mut look = Look {
        now,
        rule,
        seen,
        record: seen.record.clone(),
        actions: Vec::new(),
        events: Vec::new(),
    };
    if seen.resources.is_ok() && seen.health.is_ok() {
        look.record.failures.remove(&Attempt::Look);
    }
    let problems = look.problems();
    wish::decide(&mut look, stimulus, &problems);
    let phase = next(&mut look, &problems);
    let plan = finish(look, phase, problems);
    if rule.policy.dry_run {
        withhold(plan, &seen.record)
    } else {
        plan
    }
}

fn next(look: &mut Look<'_>, problems: &[Problem]) -> Phase {
    let misconfigured = || Phase::Misconfigured(problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; "));
    match look.record.wanted {
        Wanted::Asleep if problems.is_empty() => look.towards_asleep(),
        Wanted::Awake if problems.iter().all(Problem::may_wake) => match look.towards_awake() {
            Phase::Awake if !problems.is_empty() => misconfigured(),
            phase => phase,
        },
        Wanted::Asleep | Wanted::Awake => misconfigured(),
    }
}

fn finish(mut look: Look<'_>, phase: Phase, problems: Vec<Problem>) -> Plan {
    if let (Phase::Failed(why), false) = (&phase, matches!(look.record.snapshot.phase, Phase::Failed(_))) {
        look.event(EventKind::Failed, why.clone());
    }
    let next_check = next_check(&look, &phase);
    let resources = match &look.seen.resources {
        Ok(machines) => machines.iter().map(|machine| machine.id.clone()).collect(),
        Err(_) => look.record.snapshot.resources.clone(),
    };
    let step = progress::step(&phase, look.rule.policy.healthy, look.seen);
    let switched = look.all_routes_on(Side::Backend) && !look.seen.routes.is_empty();
    let snapshot = Snapshot {
        phase: phase.clone(),
        step,
        at: look.now,
        resources,
        problems,
        switched,
    };
    let record = Record {
        schema: SCHEMA,
        snapshot,
        next_check,
        rests_until: Some(rests_until(&look, &phase)),
        ..look.record
    };
    Plan {
        phase,
        actions: look.actions,
        withheld: Vec::new(),
        record,
        next_check,
        events: look.events,
    }
}

/// A dry run remembers what it saw and nothing it did not do.
fn withhold(plan: Plan, before: &Record) -> Plan {
    let Plan {
        phase,
        actions,
        record,
        next_check,
        ..
    } = plan;
    let record = Record {
        snapshot: record.snapshot,
        next_check,
        rests_until: record.rests_until,
        schema: SCHEMA,
        awake_since: before.awake_since.or(record.awake_since),
        last_use: record.last_use.or(before.last_use),
        counted_until: record.counted_until.or(before.counted_until),
        kept_by: record.kept_by,
        ..before.clone()
    };
    Plan {
        phase,
        actions: Vec::new(),
        withheld: actions,
        record,
        next_check,
        events: Vec::new(),
    }
}

fn next_check(look: &Look<'_>, phase: &Phase) -> Timestamp {
    let now = look.now;
    let later = after(now, LATER);
    let at = match phase {
        Phase::Starting | Phase::Checking | Phase::Switching | Phase::Stopping => after(now, SOON),
        Phase::Settling if look.actions.is_empty() && look.settled_at() > now => look.settled_at().min(later),
        // Settled, but for the requests that have to be counted: they come by the minute.
        Phase::Settling if look.actions.is_empty() => later,
        Phase::Settling => after(now, SOON),
        Phase::Failed(_) => {
            let retries = look.record.failures.values().map(|failure| failure.retry_at);
            let retry = retries.filter(|at| *at > now).min().unwrap_or(later);
            match look.record.wanted {
                // What failed to become healthy may yet: keep looking, less often.
                Wanted::Awake => retry.min(after(now, 3 * SOON)),
                Wanted::Asleep => retry.min(later),
            }
        }
        Phase::Asleep | Phase::Awake | Phase::Misconfigured(_) => later,
    };
    // What cannot be read is only refused more often when it is asked for more often.
    let allowed = look.pausing(&[Attempt::Look]).map_or(now, |failure| failure.retry_at);
    at.max(allowed).max(after(now, SHORTEST))
}

/// What is in motion is looked at by every Tick.
fn rests_until(look: &Look<'_>, phase: &Phase) -> Timestamp {
    match phase {
        Phase::Asleep | Phase::Awake | Phase::Misconfigured(_) if look.actions.is_empty() && !look.in_doubt(phase) => {
            look.rests_until()
        }
        Phase::Asleep
        | Phase::Awake
        | Phase::Misconfigured(_)
        | Phase::Starting
        | Phase::Checking
        | Phase::Switching
        | Phase::Settling
        | Phase::Stopping
        | Phase::Failed(_) => look.now,
    }
}
