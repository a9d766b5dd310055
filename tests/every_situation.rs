//! I4 and I5 over all situations of a small rule: every combination of what is wanted, power, routes, health, knowledge, age of
//! our own calls and stimulus. Also: which actions may stand beside which, and what a dry run keeps to itself.
//!
//! Seen red: with `take_what_is` adopting a rule at rest as wanted awake (I4); with a stop that has not seen all routes on the
//! waker (I2); with `ready` not asking for running machines or for health (I1); with a stop while the target groups cannot
//! be read (I9); with `withhold` keeping the planned record (dry run). `next_check` without its shortest pause is caught by
//! the search in `fence.rs`, which settles in no time (I5).

mod model;

use proxymanager::domain::fault::FaultKind;
use proxymanager::domain::phase::Phase;
use proxymanager::domain::plan::{Action, Plan, plan};
use proxymanager::domain::record::{Attempt, Failure, Flip, Record};
use proxymanager::domain::rule::{Problem, Rule, Side, pointed_at_waker};
use proxymanager::domain::seen::{
    GroupHealth, Parked, Power, ResourceSeen, RouteSeen, Seen, Stimulus, TargetSeen, Wanted,
};

use model::calls::fault;
use model::{Shape, at, waker};

const POWERS: [Power; 5] = [
    Power::Pending,
    Power::Running,
    Power::Stopping,
    Power::Stopped,
    Power::Terminated,
];
const SIDES: [Side; 2] = [Side::Backend, Side::Waker];
/// Our calls: never, a moment ago, within the time a Describe may be stale, and long ago.
const AGES: [Option<i64>; 4] = [None, Some(1), Some(45), Some(4000)];

fn stimuli() -> Vec<Stimulus> {
    let who = || "somebody".to_owned();
    vec![
        Stimulus::Tick,
        Stimulus::StateChange,
        Stimulus::Request { who: who() },
        Stimulus::Command {
            wanted: Wanted::Awake,
            who: who(),
        },
        Stimulus::Command {
            wanted: Wanted::Asleep,
            who: who(),
        },
    ]
}

/// Settled before a Describe can be trusted to show our flip.
fn quick(shape: Shape) -> Shape {
    Shape { settle: 30, ..shape }
}

fn machine(index: usize, power: Power) -> ResourceSeen {
    ResourceSeen {
        id: proxymanager::domain::rule::ResourceId(format!("i-{index}")),
        power,
        launched: Some(at(-20_000)),
        changed_by_user: matches!(power, Power::Stopped | Power::Stopping).then(|| at(-9000)),
        fell_back: None,
        scaling_group: None,
        other_owner: None,
        other_way: None,
    }
}

fn route(shape: &Shape, index: usize, side: Side, parked: bool) -> RouteSeen {
    let original = shape.actions(index, 0);
    RouteSeen {
        id: proxymanager::domain::rule::RouteId(format!("rule/{index}")),
        side,
        actions: match side {
            Side::Backend => original.clone(),
            Side::Waker => pointed_at_waker(&original, &waker()),
        },
        parked: if parked {
            Parked::One(vec![original[1].clone()])
        } else {
            Parked::Missing
        },
    }
}

/// All situations of a rule of this shape; `visit` is told all of them.
fn situations(shapes: &[Shape], mut visit: impl FnMut(&Rule, Seen)) {
    for shape in shapes {
        let (machines, routes) = (shape.groups[0].len(), shape.routes.len());
        let rule = shape.rule();
        let powers: Vec<Vec<Power>> = if machines == 1 {
            POWERS.iter().map(|p| vec![*p]).collect()
        } else {
            POWERS
                .iter()
                .flat_map(|p| POWERS.iter().map(move |q| vec![*p, *q]))
                .collect()
        };
        let sides: Vec<Vec<Side>> = if routes == 1 {
            SIDES.iter().map(|s| vec![*s]).collect()
        } else {
            SIDES
                .iter()
                .flat_map(|s| SIDES.iter().map(move |t| vec![*s, *t]))
                .collect()
        };
        // With two machines the ages that matter are the recent ones.
        let ages: &[Option<i64>] = if machines == 1 { &AGES } else { &[None, Some(45)] };
        for record in records(shape, ages) {
            for powers in &powers {
                for sides in &sides {
                    for health in [None, Some(false), Some(true)] {
                        for known in [true, false] {
                            // What is not known cannot make a difference.
                            if !known && powers[0] != Power::Running {
                                continue;
                            }
                            let facts = (powers.as_slice(), sides.as_slice(), health, known);
                            visit(&rule, seen(shape, record.clone(), facts));
                        }
                    }
                }
            }
        }
    }
}

fn seen(shape: &Shape, record: Record, facts: (&[Power], &[Side], Option<bool>, bool)) -> Seen {
    let (powers, sides, healthy, known) = facts;
    let machines: Vec<_> = powers
        .iter()
        .enumerate()
        .map(|(index, power)| machine(index, *power))
        .collect();
    let parked = record.flips.len().is_multiple_of(2);
    let targets = machines.iter().map(|m| TargetSeen {
        resource: m.id.clone(),
        healthy: healthy == Some(true),
        words: "unhealthy (Target.Timeout)".to_owned(),
    });
    let health = GroupHealth {
        id: Shape::group(0),
        weighted: true,
        target_type: "instance".to_owned(),
        targets: targets.collect(),
    };
    let blind = |operation| fault(FaultKind::Throttled, operation);
    Seen {
        record,
        routes: sides
            .iter()
            .enumerate()
            .map(|(index, side)| route(shape, index, *side, parked))
            .collect(),
        resources: if known {
            Ok(machines)
        } else {
            Err(blind("ec2:DescribeInstances"))
        },
        health: healthy
            .map(|_| vec![health])
            .ok_or_else(|| blind("elasticloadbalancing:DescribeTargetHealth")),
        counted: None,
    }
}

fn records(shape: &Shape, ages: &[Option<i64>]) -> Vec<Record> {
    let mut records = vec![
        Record::new(shape.rule().name, at(-30)),
        Record::new(shape.rule().name, at(-4000)),
    ];
    for wanted in [Wanted::Awake, Wanted::Asleep] {
        let deadlines: &[Option<i64>] = match wanted {
            Wanted::Awake => &[None, Some(-5), Some(500)],
            Wanted::Asleep => &[None],
        };
        for deadline in deadlines {
            for start in ages {
                for stop in ages {
                    for flip in ages {
                        for failing in [
                            None,
                            Some((Attempt::Start, 20)),
                            Some((Attempt::Flip, 20)),
                            Some((Attempt::Stop, -3)),
                        ] {
                            let mut record = shape.record(wanted);
                            record.deadline_at = deadline.map(at);
                            record.waking_since = record.deadline_at.map(|_| at(-400));
                            record.settling_since = flip.filter(|_| wanted == Wanted::Asleep).map(|ago| at(-ago));
                            record.last_start = start.map(|ago| at(-ago));
                            record.last_stop = stop.map(|ago| at(-ago));
                            for index in 0..shape.routes.len() {
                                let id = route(shape, index, Side::Waker, true).id;
                                record.originals.insert(id.clone(), shape.actions(index, 0));
                                if let Some(ago) = flip {
                                    let side = if index == 0 { Side::Waker } else { Side::Backend };
                                    record.flips.insert(id, Flip { side, at: at(-ago) });
                                }
                            }
                            if let Some((of, retry)) = failing {
                                let reason = "refused".to_owned();
                                let failure = Failure {
                                    lasting: false,
                                    kind: None,
                                    of,
                                    reason,
                                    at: at(-10),
                                    attempts: 1,
                                    retry_at: at(retry),
                                };
                                record.failures.insert(of, failure);
                            }
                            records.push(record);
                        }
                    }
                }
            }
        }
    }
    records
}

fn emits(plan: &Plan, what: fn(&Action) -> bool) -> bool {
    plan.actions.iter().any(what)
}

fn is_start(action: &Action) -> bool {
    matches!(action, Action::Start { .. })
}

fn is_stop(action: &Action) -> bool {
    matches!(action, Action::Stop { .. })
}

fn is_flip_to_backend(action: &Action) -> bool {
    matches!(action, Action::FlipToBackend { .. })
}

#[test]
fn every_plan_is_total_and_keeps_its_promises() {
    let now = at(0);
    let mut phases = std::collections::BTreeSet::new();
    let mut visited = 0_u32;
    situations(&[quick(Shape::single()), quick(Shape::double())], |rule, seen| {
        for stimulus in stimuli() {
            visited += 1;
            let made = plan(now, rule, &seen, &stimulus);
            let told = || format!("{stimulus:?} {seen:#?} {made:#?}");
            phases.insert(made.phase.name());
            assert!(made.next_check > now, "I5: {}", told());
            assert!(
                made.phase.reason().is_none_or(|why| !why.is_empty()),
                "a phase without its reason: {}",
                told()
            );
            // I4: a look alone never wakes.
            let looks = matches!(stimulus, Stimulus::Tick | Stimulus::StateChange);
            let (before, after) = (seen.record.wanted, made.record.wanted);
            if looks && seen.record.adopted && before == Wanted::Asleep {
                assert_eq!(after, Wanted::Asleep, "I4: {}", told());
            }
            if looks && (before == Wanted::Asleep || !seen.record.adopted) {
                let at_rest = seen
                    .resources
                    .iter()
                    .flatten()
                    .all(|m| !matches!(m.power, Power::Pending | Power::Running));
                assert!(!at_rest || !emits(&made, is_start), "I4: {}", told());
            }
            // Towards one thing only.
            match after {
                Wanted::Awake => assert!(!emits(&made, is_stop), "{}", told()),
                Wanted::Asleep => {
                    assert!(
                        !emits(&made, is_start) && !emits(&made, is_flip_to_backend),
                        "{}",
                        told()
                    );
                }
            }
            // I2: nothing is flipped in the plan that stops, and every route was seen on the waker.
            if emits(&made, is_stop) {
                assert!(
                    seen.routes.iter().all(|route| route.side == Side::Waker),
                    "I2: {}",
                    told()
                );
                assert!(
                    made.actions
                        .iter()
                        .all(|a| is_stop(a) || matches!(a, Action::Park { .. })),
                    "I2: {}",
                    told()
                );
                assert!(seen.health.is_ok(), "I9: {}", told());
            }
            // I1: what is flipped to runs, is healthy, and was not asked to stop a moment ago.
            if emits(&made, is_flip_to_backend) {
                let healthy = |t: &TargetSeen| {
                    let runs = |m: &ResourceSeen| m.id == t.resource && m.power == Power::Running;
                    t.healthy && seen.resources.iter().flatten().any(runs)
                };
                assert!(
                    seen.health
                        .iter()
                        .flatten()
                        .flat_map(|group| &group.targets)
                        .any(healthy),
                    "I1: {}",
                    told()
                );
                assert!(
                    made.record.last_stop.is_none_or(|stop| at(-60) >= stop),
                    "I1: {}",
                    told()
                );
            }
            // What cannot be seen is left alone.
            if seen.resources.is_err() {
                assert!(made.actions.is_empty(), "I9: {}", told());
            }
            // The record is stored before the actions, so each has left its note there.
            if emits(&made, is_start) {
                assert_eq!(made.record.last_start, Some(now));
            }
            if emits(&made, is_stop) {
                assert_eq!(made.record.last_stop, Some(now));
            }
        }
    });
    assert!(visited > 300_000, "{visited}");
    let all = [
        "asleep",
        "awake",
        "checking",
        "failed",
        "misconfigured",
        "settling",
        "starting",
        "stopping",
        "switching",
    ];
    assert_eq!(phases.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn a_dry_run_does_nothing_and_remembers_only_what_it_saw() {
    let now = at(0);
    let mut withheld = 0;
    situations(&[quick(Shape::single())], |rule, seen| {
        let mut dry = rule.clone();
        dry.policy.dry_run = true;
        for stimulus in stimuli() {
            let (wet, made) = (plan(now, rule, &seen, &stimulus), plan(now, &dry, &seen, &stimulus));
            assert!(made.actions.is_empty());
            assert_eq!(made.withheld, wet.actions);
            assert!(made.next_check > now);
            withheld += made.withheld.len();
            let unchanged = Record {
                snapshot: seen.record.snapshot.clone(),
                next_check: seen.record.next_check,
                rests_until: seen.record.rests_until,
                awake_since: seen.record.awake_since,
                last_use: seen.record.last_use,
                counted_until: seen.record.counted_until,
                kept_by: seen.record.kept_by.clone(),
                ..made.record.clone()
            };
            assert_eq!(unchanged, seen.record);
        }
    });
    assert!(withheld > 1000);
}

#[test]
fn a_misconfigured_rule_is_shown_and_never_stopped() {
    let now = at(0);
    let broken = Problem::UnreadableTag {
        key: "autostopping:idle".to_owned(),
        value: "soon".to_owned(),
        allowed: "5m to 24h".to_owned(),
    };
    let other = proxymanager::domain::rule::RuleName("other".to_owned());
    let shared = Problem::SharedInstance {
        instance: machine(0, Power::Running).id,
        other,
    };
    situations(&[quick(Shape::single())], |rule, seen| {
        for (problem, may_wake) in [(&broken, false), (&shared, true)] {
            let rule = Rule {
                problems: vec![problem.clone()],
                ..rule.clone()
            };
            for stimulus in stimuli() {
                let made = plan(now, &rule, &seen, &stimulus);
                assert!(!emits(&made, is_stop), "I9: {made:#?}");
                assert!(may_wake || made.actions.is_empty(), "{made:#?}");
                if made.record.wanted == Wanted::Asleep || made.phase == Phase::Awake {
                    assert!(made.phase != Phase::Awake, "{made:#?}");
                    assert!(made.actions.is_empty(), "{made:#?}");
                }
                assert!(made.record.snapshot.problems.contains(problem));
            }
        }
    });
}
