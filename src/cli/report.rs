//! A rule as the command line shows it.

use serde_json::{Value, json};

use crate::domain::phase::Phase;
use crate::domain::plan::{Event, EventKind};
use crate::domain::record::Record;
use crate::domain::rule::RuleName;
use crate::domain::seen::Wanted;
use crate::domain::time::{Timestamp, since};
use crate::rules::Managed;

/// What a script gets.
pub fn json(now: Timestamp, managed: &Managed, record: &Record) -> Value {
    let snapshot = &record.snapshot;
    json!({
        "rule": managed.rule.name,
        "phase": snapshot.phase.name(),
        "reason": snapshot.phase.reason(),
        "wanted": record.wanted,
        "wanted_since": record.wanted_since,
        "wanted_by": record.wanted_by,
        "last_request": record.last_request,
        "awake_since": record.awake_since,
        "last_use": record.last_use,
        "keep_awake_until": record.keep_awake_until,
        "kept_by": record.kept_by,
        "woken_today": record.woken_today.on(now),
        "wakes_per_day": managed.rule.policy.wakes_per_day,
        "idle_seconds": managed.rule.policy.idle.as_secs(),
        "dry_run": managed.rule.policy.dry_run,
        "routes": managed.routes.iter().map(|route| json!({
            "rule_arn": route,
            "side": if snapshot.switched { "backend" } else { "waker" },
            "last_flip": record.flips.get(route),
        })).collect::<Vec<_>>(),
        "resources": snapshot.resources,
        "problems": snapshot.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "failure": record.failure(),
        "wakes_seconds": record.wakes,
        "next_check": record.next_check,
    })
}

/// The phase with how long it has been wanted so.
pub fn phase(now: Timestamp, record: &Record) -> String {
    let name = record.snapshot.phase.name();
    match record.snapshot.phase {
        Phase::Asleep | Phase::Awake => format!("{name} for {}", short(since(now, record.wanted_since))),
        _ => name.to_owned(),
    }
}

/// Two units are enough for people.
pub fn short(duration: std::time::Duration) -> String {
    let text = humantime::format_duration(std::time::Duration::from_secs(duration.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// To the second, in UTC.
pub fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}

pub fn wanted(wanted: Wanted) -> &'static str {
    match wanted {
        Wanted::Awake => "awake",
        Wanted::Asleep => "asleep",
    }
}

/// An event as a script gets it.
pub fn event(rule: &RuleName, event: &Event) -> Value {
    json!({ "rule": rule, "at": event.at, "what": event.kind, "why": event.why })
}

pub fn what(kind: EventKind) -> &'static str {
    match kind {
        EventKind::WakeWanted => "wake wanted",
        EventKind::SleepWanted => "sleep wanted",
        EventKind::Woke => "woke",
        EventKind::Slept => "slept",
        EventKind::Failed => "failed",
        EventKind::Released => "released",
        EventKind::KeptAwake => "keep awake",
    }
}
