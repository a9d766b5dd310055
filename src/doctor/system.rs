//! What is wrong with everything at once: the schedule, the quotas, the listeners, and what could not be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Facts, Finding, Severity};
use crate::config::environment;
use crate::domain::fault::FaultKind;
use crate::domain::rule::{Action, final_action};
use crate::domain::seen::Parked;
use crate::domain::table::RouteTable;
use crate::domain::time::{Timestamp, since};

/// A Tick comes each minute and is noted every three at least.
const TICKS_MISSING: Duration = Duration::from_secs(6 * 60);
/// The share of a quota from which it is told. Of the 100 rules that AWS allows by default, 40 managed ones and what is
/// parked for them are this many.
const NEARLY_FULL: f64 = 0.8;

pub(super) fn findings(now: Timestamp, facts: &Facts) -> Vec<Finding> {
    let mut found = unanswered(&facts.unseen);
    if let Some(table) = &facts.table {
        found.extend(ticks(now, table));
        found.extend(quotas(facts, table));
        found.extend(listeners(facts, table));
    }
    for rule in &facts.unwatched {
        let what = format!(
            "the listener rule {} is opted in, but nobody watches its listener",
            rule.arn
        );
        let fix = format!(
            "add its listener to {}, or remove its autostopping tags",
            environment::LISTENERS
        );
        found.push(Finding::new(Severity::Error, "not-watched", &rule.arn.0, what, fix));
    }
    found
}

/// What could not be looked at.
pub(super) fn unanswered(unseen: &[super::Unseen]) -> Vec<Finding> {
    let one = |unseen: &super::Unseen| {
        let what = format!("{} was not answered: {}", unseen.operation, unseen.message);
        let (severity, code, fix) = match unseen.kind {
            FaultKind::Denied => (
                Severity::Warning,
                "permission-denied",
                format!("allow {} to the one who runs this", unseen.operation),
            ),
            _ => (Severity::Warning, "not-looked-at", "run this again".to_owned()),
        };
        Finding::new(severity, code, &unseen.operation, what, fix)
    };
    unseen.iter().map(one).collect()
}

fn ticks(now: Timestamp, table: &RouteTable) -> Option<Finding> {
    let what = match table.swept_at {
        Some(last) if since(now, last) < TICKS_MISSING => return None,
        Some(last) => format!("the last Tick was at {last:.0}: nothing falls asleep until Ticks arrive again"),
        None => "no Tick has ever arrived: nothing falls asleep".to_owned(),
    };
    let fix = "see that the schedule (EventBridge, each minute) is enabled and invokes the function's alias, and what the function logs";
    Some(Finding::new(
        Severity::Error,
        "no-ticks",
        "the schedule",
        what,
        fix.to_owned(),
    ))
}

fn quotas(facts: &Facts, table: &RouteTable) -> Vec<Finding> {
    let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
    let mut groups: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for listener in &table.listeners {
        let groups = groups.entry(&listener.load_balancer).or_default();
        let rules = rules.entry(&listener.load_balancer).or_default();
        for rule in &listener.rules {
            *rules += usize::from(rule.priority.is_some());
            // What is not parked yet will be at its first sleep.
            *rules += usize::from(rule.is_managed() && table.parked(&rule.arn) == Parked::Missing);
            let named = rule
                .actions
                .iter()
                .chain(final_action(&rule.actions))
                .flat_map(Action::groups);
            groups.extend(named.map(|(group, _)| group.0));
        }
    }
    let mut found = Vec::new();
    let mut full = |balancer: &str, what: &str, used: usize, limit: Option<usize>| {
        let Some(limit) = limit.filter(|limit| used as f64 >= *limit as f64 * NEARLY_FULL) else {
            return;
        };
        let severity = if used > limit {
            Severity::Error
        } else {
            Severity::Warning
        };
        let what = format!(
            "{used} of {limit} {what} of the load balancer are used, with those that are parked at the first sleep: a managed rule takes two"
        );
        let fix = "ask AWS for a higher quota (Service Quotas, Elastic Load Balancing), or use another load balancer";
        found.push(Finding::new(severity, "quota", balancer, what, fix.to_owned()));
    };
    for (balancer, used) in rules {
        full(balancer, "listener rules", used, facts.limits.rules);
    }
    for (balancer, named) in groups {
        full(balancer, "target groups", named.len(), facts.limits.groups);
    }
    found
}

fn listeners(facts: &Facts, table: &RouteTable) -> Vec<Finding> {
    let gone = facts
        .listeners
        .iter()
        .filter(|arn| !table.listeners.iter().any(|listener| listener.arn == **arn));
    let one = |arn: &String| {
        let what = format!("the watched listener {arn} does not exist");
        let fix = format!("take it out of {}", environment::LISTENERS);
        Finding::new(Severity::Error, "listener-gone", arn, what, fix)
    };
    gone.map(one).collect()
}
