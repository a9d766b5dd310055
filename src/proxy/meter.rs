//! From Envoy's load reports to the periods by which the core counts. Pure.

use std::collections::BTreeMap;

use crate::domain::activity::{Activity, GroupActivity, Question, floor, periods};
use crate::domain::rule::{GroupId, RuleName};
use crate::domain::time::{Timestamp, after};
use crate::gateway::envoy::{Covered, Loads};

/// What is known of a group besides the reports.
pub struct Known<U> {
    /// Whether what came for this rule is use of the group.
    pub users: U,
    /// Since when its rule is in use. A session from before, of the rule when it was there last, is in no report.
    pub since: Timestamp,
    /// Connections and requests under way at this moment.
    pub open: u64,
}

/// What the reports say of a question's groups. A period is alive when reports cover all of it: one in which the stream was
/// lost, or that began before the daemon did or the rule was there, proves nothing. What is open now is use of all of them.
pub fn activity<U: Fn(&RuleName) -> bool>(
    loads: &Loads,
    question: &Question,
    known: impl Fn(&GroupId) -> Option<Known<U>>,
) -> Activity {
    let period = question.period;
    let all = || periods(floor(question.from, period), question.until, period);
    let covered = |start: Timestamp| {
        let whole = |stretch: &Covered| stretch.from <= start && after(start, period) <= stretch.to;
        loads.covered.iter().any(whole)
    };
    let of = |group: &GroupId| {
        let Some(Known { users, since, open }) = known(group) else {
            return GroupActivity::default();
        };
        let mut requests: BTreeMap<Timestamp, u64> = all().filter(|_| open > 0).map(|at| (at, open)).collect();
        let theirs = loads.rules.iter().filter(|(rule, _)| users(rule));
        for report in theirs.flat_map(|(_, reports)| reports) {
            let count = report.issued + report.in_progress;
            // To the last moment inclusive: what is under way when a period begins is use of it.
            for start in all().filter(|start| report.from < after(*start, period) && *start <= report.to) {
                *requests.entry(start).or_default() += count;
            }
        }
        GroupActivity {
            requests,
            alive: all().filter(|start| since <= *start && covered(*start)).collect(),
        }
    };
    Activity {
        groups: question
            .groups
            .iter()
            .map(|backend| (backend.group.clone(), of(&backend.group)))
            .collect(),
        machines: BTreeMap::new(),
    }
}

/// When a rule was last seen in use.
pub fn last_use(loads: &Loads, rule: &RuleName) -> Option<Timestamp> {
    Some(loads.rules.get(rule)?.last()?.to)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::domain::activity::{Backend, MINUTE};
    use crate::gateway::envoy::Load;

    fn at(seconds: u64) -> Timestamp {
        after(Timestamp::UNIX_EPOCH, Duration::from_secs(seconds))
    }

    fn question(from: u64, until: u64) -> Question {
        let group = GroupId("envoy:a".to_owned());
        let load_balancer = "envoy".to_owned();
        Question {
            groups: vec![Backend { group, load_balancer }],
            machines: Vec::new(),
            network: false,
            cpu: false,
            period: MINUTE,
            from: at(from),
            until: at(until),
        }
    }

    fn load(from: u64, to: u64, issued: u64, in_progress: u64) -> Load {
        Load {
            from: at(from),
            to: at(to),
            issued,
            in_progress,
        }
    }

    fn known(since: u64, open: u64) -> Known<impl Fn(&RuleName) -> bool> {
        Known {
            users: |rule: &RuleName| rule.0 == "a",
            since: at(since),
            open,
        }
    }

    fn counted(loads: &Loads, question: &Question) -> GroupActivity {
        activity(loads, question, |_| Some(known(0, 0)))
            .groups
            .into_values()
            .next()
            .unwrap()
    }

    /// Red when a minute was known as soon as a report touched it.
    #[test]
    fn a_minute_is_known_when_all_of_it_was_reported() {
        let covered = |from, to| Covered {
            from: at(from),
            to: at(to),
        };
        let loads = Loads {
            covered: vec![covered(70, 185), covered(190, 310)],
            ..Loads::default()
        };
        let minutes = counted(&loads, &question(60, 360)).alive;
        assert_eq!(minutes, BTreeSet::from([at(120), at(240)]));
    }

    /// Red when a rule that is back was idle for the time in which it was not there: what was open then may have ended just now.
    #[test]
    fn nothing_is_known_of_the_time_before_a_rule_was_there() {
        let loads = Loads {
            covered: vec![Covered {
                from: at(0),
                to: at(600),
            }],
            ..Loads::default()
        };
        let found = activity(&loads, &question(0, 300), |_| Some(known(130, 0)));
        let group = found.groups.into_values().next().unwrap();
        assert_eq!(group.alive, BTreeSet::from([at(180), at(240)]));
    }

    /// Red when only load reports counted: a session at a cluster that is gone is in none.
    #[test]
    fn what_is_open_now_is_use_of_all_that_is_asked_for() {
        let loads = Loads::default();
        let found = activity(&loads, &question(0, 120), |_| Some(known(0, 2)));
        let group = found.groups.into_values().next().unwrap();
        assert_eq!(group.requests, BTreeMap::from([(at(0), 2), (at(60), 2)]));
        assert_eq!(group.alive, BTreeSet::new());
    }

    /// Red when only what had begun counted: a quiet session would have been cut.
    #[test]
    fn what_is_under_way_is_use_of_every_minute_it_touches() {
        let name = RuleName("a".to_owned());
        let loads = Loads {
            covered: vec![Covered {
                from: at(0),
                to: at(600),
            }],
            rules: BTreeMap::from([(
                name.clone(),
                vec![load(55, 65, 0, 1), load(115, 120, 0, 1), load(130, 140, 2, 0)],
            )]),
            lost: None,
        };
        let requests = counted(&loads, &question(0, 300)).requests;
        assert_eq!(requests, BTreeMap::from([(at(0), 1), (at(60), 2), (at(120), 3)]));
        assert_eq!(last_use(&loads, &name), Some(at(140)));
    }
}
