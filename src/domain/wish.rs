//! What is wanted, and what changes it: a request, a command, somebody's hand on the machine, a wake given up.

use std::time::Duration;

use super::look::Look;
use super::plan::EventKind;
use super::record::Record;
use super::rule::{Problem, Side};
use super::seen::{Power, ResourceSeen, Stimulus, Wanted};
use super::time::{Timestamp, after, since};

pub(super) fn decide(look: &mut Look<'_>, stimulus: &Stimulus, problems: &[Problem]) {
    if !look.record.adopted {
        take_what_is(look);
    }
    by_hand(look);
    give_up(look);
    match stimulus {
        Stimulus::Request { who } => {
            if problems.iter().all(Problem::may_wake) {
                want(look, Wanted::Awake, format!("request from {who}"));
                look.record.last_request = Some(look.now);
            }
        }
        Stimulus::Command {
            wanted: Wanted::Asleep, ..
        } if !problems.is_empty() => {}
        Stimulus::Command { wanted, who } => {
            want(look, *wanted, format!("command of {who}"));
            if *wanted == Wanted::Awake {
                look.record.last_request = Some(look.now);
            }
        }
        Stimulus::Tick | Stimulus::StateChange => {}
    }
}

fn want(look: &mut Look<'_>, wanted: Wanted, by: String) {
    if look.record.wanted == wanted && look.record.adopted {
        return;
    }
    let kind = match wanted {
        Wanted::Awake => EventKind::WakeWanted,
        Wanted::Asleep => EventKind::SleepWanted,
    };
    look.event(kind, by.clone());
    let record = &mut look.record;
    record.wanted = wanted;
    record.adopted = true;
    record.wanted_since = look.now;
    record.wanted_by = by;
    record.failure = None;
    record.deadline_at = match wanted {
        Wanted::Awake => Some(after(look.now, look.rule.policy.deadline)),
        Wanted::Asleep => None,
    };
}

/// A rule without a record is taken as it is found. One whose machine runs is awake, wherever its routes lead: without
/// memory nobody can tell that the machine is not in use.
fn take_what_is(look: &mut Look<'_>) {
    let Ok(machines) = &look.seen.resources else { return };
    look.record.adopted = true;
    let at_rest = machines
        .iter()
        .all(|m| matches!(m.power, Power::Stopped | Power::Stopping | Power::Terminated));
    if look.all_routes_on(Side::Waker) && at_rest && !look.seen.routes.is_empty() {
        look.record.wanted = Wanted::Asleep;
    } else if !look.all_routes_on(Side::Backend) {
        look.record.deadline_at = Some(after(look.now, look.rule.policy.deadline));
    }
}

fn by_hand(look: &mut Look<'_>) {
    let Ok(machines) = &look.seen.resources else { return };
    let mut present = machines.iter().filter(|m| m.power != Power::Terminated).peekable();
    if present.peek().is_none() {
        return;
    }
    match look.record.wanted {
        Wanted::Awake => {
            if present.all(|m| stopped_by_hand(&look.record, m)) {
                want(look, Wanted::Asleep, "stopped by hand".to_owned());
            }
        }
        Wanted::Asleep => {
            let launched = present
                .filter(|m| started_by_hand(&look.record, m))
                .filter_map(|m| m.launched)
                .max();
            if let Some(launched) = launched {
                want(look, Wanted::Awake, "started by hand".to_owned());
                look.record.last_request = Some(launched.min(look.now));
            }
        }
    }
}

/// At rest, by a user's call later than our last start and than the wish to be awake.
pub(super) fn stopped_by_hand(record: &Record, machine: &ResourceSeen) -> bool {
    matches!(machine.power, Power::Stopped | Power::Stopping)
        && machine.fell_back.is_none()
        && machine.changed_by_user.is_some_and(|at| {
            later_than(
                at,
                [record.last_start, record.last_stop, Some(record.wanted_since)],
                STOP_GRAIN,
            )
        })
}

/// Up, and launched later than our last stop and than the wish to be asleep.
fn started_by_hand(record: &Record, machine: &ResourceSeen) -> bool {
    matches!(machine.power, Power::Pending | Power::Running)
        && machine.launched.is_some_and(|at| {
            later_than(
                at,
                [record.last_start, record.last_stop, Some(record.wanted_since)],
                START_GRAIN,
            )
        })
}

/// EC2 writes its times by a clock of its own.
fn later_than<const N: usize>(at: Timestamp, ours: [Option<Timestamp>; N], grain: Duration) -> bool {
    ours.into_iter().flatten().all(|our| at > after(our, grain))
}

/// EC2 writes whole seconds. Taking our own start for somebody's keeps a machine running: a small error on the safe side.
const START_GRAIN: Duration = Duration::from_secs(1);
/// Taking our own stop for somebody's would forget a request, so the clocks may differ by a minute.
const STOP_GRAIN: Duration = Duration::from_secs(60);

/// A wake that failed, and for which nobody asks any more, ends: never billing and a page for ever.
fn give_up(look: &mut Look<'_>) {
    let unasked = look.record.last_request.unwrap_or(look.record.wanted_since);
    let waking = look.record.wanted == Wanted::Awake && !look.all_routes_on(Side::Backend);
    if waking && look.overdue() && since(look.now, unasked) >= look.rule.policy.idle {
        want(
            look,
            Wanted::Asleep,
            "the wake failed and nobody asked for it any more".to_owned(),
        );
    }
}
