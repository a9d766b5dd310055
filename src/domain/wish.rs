//! What is wanted, and what changes it: a request, a command, somebody's hand on the machine, a wake given up.

use std::time::Duration;

use super::activity::floor;
use super::look::Look;
use super::phase::Phase;
use super::plan::EventKind;
use super::record::{Attempt, COMMAND, Record};
use super::rule::{Problem, Side};
use super::seen::{Power, ResourceSeen, Stimulus, Wanted};
use super::time::{Timestamp, after, before, since};

pub(super) fn decide(look: &mut Look<'_>, stimulus: &Stimulus, problems: &[Problem]) {
    if !look.record.adopted {
        take_what_is(look);
    }
    by_hand(look);
    give_up(look);
    give_in(look);
    if problems.is_empty() {
        look.count();
    }
    match stimulus {
        Stimulus::Request { who } => {
            if problems.iter().all(Problem::may_wake) && within_the_day(look) {
                want(look, Wanted::Awake, format!("request from {who}"));
                look.record.last_request = Some(look.now);
            }
        }
        Stimulus::Command {
            wanted: Wanted::Asleep, ..
        } if !problems.is_empty() => {}
        Stimulus::Command { wanted, who } => {
            want(look, *wanted, format!("{COMMAND}{who}"));
            if *wanted == Wanted::Asleep {
                look.record.keep_awake_until = None;
            }
            if *wanted == Wanted::Awake {
                look.record.last_request = Some(look.now);
            }
        }
        Stimulus::KeepAwake { until, who } => keep_awake(look, *until, who),
        Stimulus::Tick | Stimulus::StateChange => {}
    }
}

/// Counts a wake by a request, and says whether it may be. Not of these is what brings back a rule whose machine was not
/// stopped yet: it starts nothing, and somebody may be in the middle of using it.
fn within_the_day(look: &mut Look<'_>) -> bool {
    let Some(most) = look.rule.policy.wakes_per_day else {
        return true;
    };
    let stopped = look
        .record
        .last_stop
        .is_some_and(|stop| stop >= look.record.wanted_since);
    let runs = |machine: &ResourceSeen| machine.power == Power::Running;
    let still_up = !stopped && look.machines().is_ok_and(|machines| machines.iter().any(runs));
    if look.record.wanted == Wanted::Awake || still_up {
        return true;
    }
    match look.record.woken_today.one_more(look.now, most) {
        Some(counted) => {
            look.record.woken_today = counted;
            true
        }
        None => false,
    }
}

pub(super) fn want(look: &mut Look<'_>, wanted: Wanted, by: String) {
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
    record.starts = 0;
    record.left_stopped.clear();
    record.failures.clear();
    record.settling_since = None;
    record.awake_since = None;
    record.last_use = None;
    record.counted_until = None;
    record.prove_from = None;
    record.kept_by = None;
    match wanted {
        Wanted::Awake => wake_begins(look),
        Wanted::Asleep => {
            record.waking_since = None;
            record.deadline_at = None;
        }
    }
}

/// A wake is under way from now on, and has its time.
pub(super) fn wake_begins(look: &mut Look<'_>) {
    look.record.awake_since = None;
    look.record.waking_since = Some(look.now);
    look.record.deadline_at = Some(after(look.now, look.rule.policy.deadline));
}

/// A rule without a record is taken as it is found. One whose machine runs is awake, wherever its routes lead: without
/// memory nobody can tell that the machine is not in use. One at rest is asleep, wherever its routes lead: nobody asked.
fn take_what_is(look: &mut Look<'_>) {
    let Ok(machines) = look.machines() else { return };
    if look.seen.routes.is_empty() || machines.is_empty() {
        return;
    }
    let at_rest = machines
        .iter()
        .all(|m| matches!(m.power, Power::Stopped | Power::Stopping | Power::Terminated));
    look.record.adopted = true;
    if at_rest {
        look.record.wanted = Wanted::Asleep;
    } else if look.all_routes_on(Side::Backend) {
        // It serves as its owner left it: what is stopped of it is so on purpose.
        let stopped = machines
            .iter()
            .filter(|m| matches!(m.power, Power::Stopped | Power::Stopping));
        for machine in stopped {
            let at = machine.changed_by_user.unwrap_or(look.now);
            look.record.left_stopped.insert(machine.id.clone(), at);
        }
    } else {
        // The memory that got lost may have been of a stop under way.
        look.record.last_stop = Some(look.now);
        wake_begins(look);
    }
}

fn by_hand(look: &mut Look<'_>) {
    let Ok(machines) = &look.seen.resources else { return };
    let present = || machines.iter().filter(|m| m.power != Power::Terminated);
    if present().next().is_none() {
        return;
    }
    match look.record.wanted {
        Wanted::Awake => {
            for machine in machines {
                remember_left_stopped(&mut look.record, machine);
            }
            if present().all(|m| look.stays_stopped(m)) {
                let stopped = look.record.left_stopped.values().max().copied();
                want(look, Wanted::Asleep, "stopped by hand".to_owned());
                // Not the moment we noticed: a start by hand may have come between.
                look.record.wanted_since = stopped.unwrap_or(look.now).min(look.now);
            }
        }
        Wanted::Asleep => {
            let joined = present().any(|m| joined_running(&look.record, m));
            let launched = present()
                .filter(|m| started_by_hand(&look.record, m))
                .filter_map(|m| m.launched)
                .max();
            if joined {
                want(look, Wanted::Awake, "a running machine was registered".to_owned());
            } else if let Some(launched) = launched {
                want(look, Wanted::Awake, "started by hand".to_owned());
                look.record.wanted_since = launched.min(look.now);
                look.record.last_request = Some(launched.min(look.now));
            }
        }
    }
}

/// Remembered by name, since a later start of the others makes the stop look like an earlier one.
fn remember_left_stopped(record: &mut Record, machine: &ResourceSeen) {
    if let Some(at) = machine.changed_by_user
        && stopped_by_hand(record, machine)
    {
        record.left_stopped.insert(machine.id.clone(), at);
    }
    let up = matches!(machine.power, Power::Pending | Power::Running);
    let left = record.left_stopped.get(&machine.id);
    // Both times are EC2's, so a Describe from before the stop cannot be mistaken for a new start.
    if left.is_some_and(|left| up && machine.launched.is_some_and(|launched| launched >= *left)) {
        record.left_stopped.remove(&machine.id);
    }
}

/// At rest, by a user's call later than any call of ours and than the wish to be awake.
fn stopped_by_hand(record: &Record, machine: &ResourceSeen) -> bool {
    let ours = [record.last_start, record.last_stop, Some(record.wanted_since)];
    matches!(machine.power, Power::Stopped | Power::Stopping)
        && machine.fell_back.is_none()
        && machine
            .changed_by_user
            .is_some_and(|at| later_than(at, &ours, CLOCKS_DIFFER))
}

/// Up, launched later than our last stop and than the wish to be asleep, and not by a start of ours that this wish
/// overtook.
fn started_by_hand(record: &Record, machine: &ResourceSeen) -> bool {
    let ours = record.last_start.filter(|start| Some(*start) > record.last_stop);
    matches!(machine.power, Power::Pending | Power::Running)
        && machine.launched.is_some_and(|at| {
            later_than(at, &[record.last_stop, Some(record.wanted_since)], WHOLE_SECONDS)
                && later_than(at, &[ours], CLOCKS_DIFFER)
        })
}

/// Up, and not one of those that the rule had when it came to rest: nothing is known of its use, whenever it was started.
fn joined_running(record: &Record, machine: &ResourceSeen) -> bool {
    matches!(machine.power, Power::Pending | Power::Running)
        && record.snapshot.phase == Phase::Asleep
        && !record.snapshot.resources.is_empty()
        && !record.snapshot.resources.contains(&machine.id)
}

fn later_than(at: Timestamp, ours: &[Option<Timestamp>], grain: Duration) -> bool {
    ours.iter().flatten().all(|our| at > after(*our, grain))
}

/// EC2 writes whole seconds. Somebody's start must not be missed for being close to our stop: it would be stopped again.
const WHOLE_SECONDS: Duration = Duration::from_secs(1);
/// EC2 writes its times by a clock of its own, when the call arrives. Taking our own stop for somebody's would forget a
/// request, taking our own start for somebody's would undo a command.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// A wake that failed, and for which nobody asks any more, ends: never billing and a page for ever.
fn give_up(look: &mut Look<'_>) {
    let Some(deadline) = look.record.deadline_at else {
        return;
    };
    let unasked = look.record.last_request.map_or(deadline, |asked| asked.max(deadline));
    if look.record.wanted == Wanted::Awake && since(look.now, unasked) >= look.rule.policy.idle && look.overdue() {
        want(
            look,
            Wanted::Asleep,
            "the wake failed and nobody asked for it any more".to_owned(),
        );
        // A route that could be flipped may be in use, whatever became of the others.
        if !look.all_surely_on(Side::Waker) {
            let unused_since = before(look.now, look.rule.policy.idle);
            look.record.prove_from = Some(floor(unused_since, look.rule.policy.metrics_period));
        }
    }
}

/// AWS refuses what a sleep takes (a permission is missing, there is no room for P) and will go on to: a rule whose machines
/// serve goes back to be awake, with the reason shown, and is asked again when it has been idle again.
fn give_in(look: &mut Look<'_>) {
    let (Wanted::Asleep, Ok(machines), Ok(health)) = (look.record.wanted, &look.seen.resources, &look.seen.health)
    else {
        return;
    };
    let kinds = [Attempt::Park, Attempt::Flip, Attempt::Stop];
    let failures = kinds.iter().filter_map(|of| look.record.failures.get(of));
    let refused = failures
        .filter(|failure| failure.lasting)
        .max_by_key(|failure| failure.at)
        .cloned();
    if let Some(refused) = refused
        && look.ready(machines, health)
    {
        let why = format!("the rule cannot be put to sleep: {}", refused.reason);
        want(look, Wanted::Awake, why.clone());
        look.record.kept_by = Some(why);
        look.record.failures.insert(refused.of, refused);
    }
}

/// It wakes nothing that sleeps, and brings back what was found idle and is not stopped yet.
fn keep_awake(look: &mut Look<'_>, until: Option<Timestamp>, who: &str) {
    let until = until.filter(|until| *until > look.now);
    if look.record.keep_awake_until == until {
        return;
    }
    let why = match until {
        Some(until) => format!("until {until:.0}, command of {who}"),
        None => format!("no longer, command of {who}"),
    };
    look.event(EventKind::KeptAwake, why);
    look.record.keep_awake_until = until;
    let found_idle = look.record.wanted == Wanted::Asleep && look.record.prove_from.is_some();
    if until.is_some() && found_idle {
        want(look, Wanted::Awake, format!("kept awake by command of {who}"));
    }
}
