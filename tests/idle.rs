//! When an awake rule is idle: not before its requests are known, and known to be none, for the whole of `idle`. Missing is
//! never zero.
//!
//! Seen red: with missing points taken for zero, the newest minutes taken in, a request beyond the known minutes overlooked,
//! the known minutes counted to the best group's end, the load of a fresh machine taken for idle, `last_use`, `last_request`
//! or `keep_awake_until` ignored, counted minutes asked for again, and the pause after a refusal ignored.

mod model;

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::btree_set;
use proptest::prelude::*;

use proxymanager::domain::activity::{Activity, GroupActivity, Question};
use proxymanager::domain::fault::FaultKind;
use proxymanager::domain::phase::Phase;
use proxymanager::domain::plan::{Plan, plan};
use proxymanager::domain::record::Attempt;
use proxymanager::domain::seen::{Power, Stimulus, Wanted};

use model::story::runner;
use model::traffic::{MINUTE, Traffic, floor, found_idle};
use model::{Shape, Time, World, at};

const IDLE: Time = 600;
const DELAY: Time = 180;

/// The first look at which a rule last used in that minute may be found idle.
fn soonest(last_minute: Time) -> Time {
    last_minute + MINUTE + IDLE + DELAY
}

#[test]
fn not_before_idle_after_the_last_use() {
    for last in [30, 59, 60, 400, 1000, 1019] {
        let mut world = Shape::single().in_use();
        let plans = world.live(2500, &[25, last / 2 + 15, last]);
        let found = found_idle(&plans).unwrap();
        let soonest = soonest(floor(last, MINUTE));
        assert!(
            (soonest..=soonest + MINUTE).contains(&found),
            "used at {last}, idle at {found}"
        );
        assert_eq!(world.machines[0].power, Power::Stopped, "used at {last}");
        world.assert_innocent();
    }
}

#[test]
fn a_request_to_the_waker_and_a_command_are_uses() {
    for command in [false, true] {
        let mut world = Shape::single().in_use();
        world.live(700, &[]);
        if command {
            world.command(Wanted::Awake);
        } else {
            world.request();
        }
        let found = found_idle(&world.live(3000, &[])).unwrap();
        assert!(found >= 700 + IDLE + DELAY, "{found}");
    }
}

#[test]
fn the_newest_minutes_are_ignored() {
    // Whatever the newest minutes show: they may not be complete, so they neither prove nor disprove anything.
    let mut world = Shape::single().in_use();
    world.live(IDLE + DELAY - 1, &[]);
    assert_eq!(world.question(world.record()), None);
    world.advance(1);
    let asked = world.question(world.record()).unwrap();
    assert_eq!((asked.from, asked.until), (at(0), at(IDLE)));
    assert_eq!(found_idle(&world.live(IDLE + DELAY + MINUTE, &[])), Some(IDLE + DELAY));
}

#[test]
fn without_points_at_the_end_it_waits() {
    let mut world = Shape::single().in_use();
    world.rule.policy.busy_network = None;
    world.traffic().delay = 800;
    let plans = world.live(1399, &[]);
    assert_eq!(found_idle(&plans), None);
    let why = world.record().kept_by.clone().unwrap();
    assert!(why.contains("HealthyHostCount"), "{why}");
    // They come late, and are not taken for use.
    assert!(found_idle(&world.live(1800, &[])).is_some());
}

#[test]
fn a_gap_in_the_middle_counts_as_use() {
    let mut world = Shape::single().in_use();
    world.traffic().silent = [240, 300].into();
    let found = found_idle(&world.live(2500, &[])).unwrap();
    assert!((soonest(300)..=soonest(300) + MINUTE).contains(&found), "{found}");
}

#[test]
fn nothing_sleeps_during_an_outage_of_the_metrics_and_what_is_idle_does_after_it() {
    const DAY: Time = 24 * 3600;
    for refused in [false, true] {
        let mut world = Shape::single().in_use();
        if refused {
            world.traffic().refuses = Some(FaultKind::Denied);
        } else {
            world.traffic().silent = (0..DAY).step_by(60).collect();
        }
        let plans = world.live(DAY, &[]);
        assert_eq!(found_idle(&plans), None);
        assert!(plans.iter().all(|(_, plan)| plan.actions.is_empty()));
        assert!(world.record().kept_by.is_some());
        world.traffic().refuses = None;
        let found = found_idle(&world.live(DAY + 3 * IDLE, &[])).unwrap();
        // What could not be asked is still there to be asked; what was never written is use.
        let soonest = if refused { DAY } else { DAY + IDLE + DELAY };
        assert!((soonest..=soonest + 6 * MINUTE).contains(&found), "{found}");
        assert_eq!(world.record().kept_by, None);
    }
}

/// One look in `world` with these minutes as answer.
fn shown(world: &World, activity: Activity) -> Plan {
    let mut seen = world.observe(world.record().clone(), [0; 3]);
    seen.counted.as_mut().unwrap().answer = Ok(activity);
    plan(at(world.now), &world.rule, &seen, &Stimulus::Tick)
}

fn group(requests: &[Time], alive: impl IntoIterator<Item = Time>) -> GroupActivity {
    GroupActivity {
        requests: requests.iter().map(|minute| (at(*minute), 1)).collect(),
        alive: alive.into_iter().map(at).collect(),
    }
}

fn all() -> impl Iterator<Item = Time> {
    (0..IDLE).step_by(60)
}

/// Due, and quiet as far as one can tell.
fn due(shape: &Shape) -> World {
    let mut world = shape.in_use();
    world.rule.policy.busy_network = None;
    world.live(IDLE + DELAY, &[]);
    world
}

#[test]
fn what_the_minutes_prove() {
    let one = Shape::single();
    let two = Shape {
        routes: vec![vec![(0, 1), (1, 1)]],
        groups: vec![vec![0], vec![0]],
        ..Shape::single()
    };
    let (mine, other) = (Shape::group(0), Shape::group(1));
    let table = [
        ("all proven", &one, vec![(mine.clone(), group(&[], all()))], true),
        ("no points at all", &one, vec![(mine.clone(), group(&[], []))], false),
        ("no answer for the group", &one, vec![], false),
        (
            "the points of another group",
            &one,
            vec![(other.clone(), group(&[], all()))],
            false,
        ),
        (
            "requests without points",
            &one,
            vec![(mine.clone(), group(&[120], []))],
            false,
        ),
        (
            "a request in the first minute",
            &one,
            vec![(mine.clone(), group(&[0], all()))],
            false,
        ),
        (
            "a request in the last minute",
            &one,
            vec![(mine.clone(), group(&[540], all()))],
            false,
        ),
        (
            "one of two groups",
            &two,
            vec![(mine.clone(), group(&[], all()))],
            false,
        ),
        (
            "a request to the second",
            &two,
            vec![(mine.clone(), group(&[], all())), (other.clone(), group(&[0], all()))],
            false,
        ),
        (
            "both",
            &two,
            vec![(mine, group(&[], all())), (other, group(&[], all()))],
            true,
        ),
    ];
    for (what, shape, groups, idle) in table {
        let world = due(shape);
        let activity = Activity {
            groups: groups.into_iter().collect(),
            machines: BTreeMap::new(),
        };
        let made = shown(&world, activity);
        assert_eq!(made.record.wanted == Wanted::Asleep, idle, "{what}");
        assert!(idle || made.actions.is_empty(), "{what}");
    }
}

#[test]
fn a_group_whose_points_come_later_is_waited_for() {
    let shape = Shape {
        routes: vec![vec![(0, 1), (1, 1)]],
        groups: vec![vec![0], vec![0]],
        ..Shape::single()
    };
    let late = group(&[], (0..300).step_by(60));
    let activity = Activity {
        groups: [(Shape::group(0), group(&[], all())), (Shape::group(1), late)].into(),
        machines: BTreeMap::new(),
    };
    let record = shown(&due(&shape), activity).record;
    let until = record.counted_until;
    assert_eq!(
        (record.wanted, record.last_use, until),
        (Wanted::Awake, None, Some(at(300)))
    );
}

#[test]
fn a_request_in_a_minute_that_is_not_proven_yet_is_a_use() {
    let mut world = due(&Shape::single());
    // Five minutes late, so that there are minutes after those that suffice.
    world.advance(300);
    let alive_until_idle = group(&[660], all());
    let activity = Activity {
        groups: [(Shape::group(0), alive_until_idle)].into(),
        machines: BTreeMap::new(),
    };
    let made = shown(&world, activity);
    assert_eq!(made.record.wanted, Wanted::Awake);
    assert_eq!(made.record.last_use, Some(at(720)));
}

/// A situation of the machines' load, told to the world, and whether the rule is idle in it.
type Burden = (&'static str, fn(&mut World), bool);

fn moves(world: &mut World, machine: usize, bytes: Option<u64>) {
    world.traffic().network.insert(machine, bytes);
}

#[test]
fn a_busy_machine_keeps_the_rule_awake() {
    // The threshold is 100,000 bytes a minute.
    let table: [Burden; 9] = [
        ("quiet", |_| {}, true),
        ("at the threshold", |w| moves(w, 0, Some(500_000)), true),
        ("above the threshold", |w| moves(w, 0, Some(500_005)), false),
        ("no points", |w| moves(w, 0, None), false),
        (
            "switched off",
            |w| {
                w.rule.policy.busy_network = None;
                moves(w, 0, None);
            },
            true,
        ),
        (
            "launched a moment ago",
            |w| w.machines[0].launched = Some(w.now - 400),
            false,
        ),
        ("the second of two is busy", |w| moves(w, 1, Some(9_000_000)), false),
        (
            "cpu at its threshold",
            |w| {
                w.rule.policy.busy_cpu = Some(10);
                w.traffic().cpu.insert(0, Some(10));
            },
            true,
        ),
        (
            "cpu above its threshold",
            |w| {
                w.rule.policy.busy_cpu = Some(10);
                w.traffic().cpu.insert(1, Some(11));
            },
            false,
        ),
    ];
    for (what, change, idle) in table {
        let mut world = Shape::double().in_use();
        world.live(IDLE + DELAY, &[]);
        change(&mut world);
        world.changed();
        let made = world.tick().unwrap();
        assert_eq!(
            made.record.wanted == Wanted::Asleep,
            idle,
            "{what}: {:?}",
            made.record.kept_by
        );
        assert_eq!(made.record.kept_by.is_none(), idle, "{what}");
        if !idle {
            // And it sleeps when that is over, without a further `idle`.
            world.rule.policy.busy_cpu = None;
            *world.traffic() = Traffic::default();
            assert!(found_idle(&world.live(IDLE + DELAY + 901, &[])).is_some(), "{what}");
        }
    }
}

#[test]
fn a_machine_that_is_down_is_not_asked_for_its_load() {
    let mut world = Shape::double().in_use();
    world.machines[1].stop(10);
    world.machines[1].by_hand = Some((10, false));
    world.traffic().network.insert(1, None);
    assert!(found_idle(&world.live(2000, &[])).is_some());
}

#[test]
fn an_operators_word_keeps_it_awake() {
    let mut world = Shape::single().in_use();
    world.stored.as_mut().unwrap().keep_awake_until = Some(at(5000));
    let found = found_idle(&world.live(6000, &[])).unwrap();
    assert!((5000..5060).contains(&found), "{found}");
}

#[test]
fn after_a_long_time_only_the_minutes_that_decide_are_asked_for() {
    let day = 24 * 3600;
    for late in [0, 3600] {
        let mut world = Shape::single().in_use();
        // The load would be late too, and keep it awake by itself.
        world.rule.policy.busy_network = None;
        world.stored.as_mut().unwrap().keep_awake_until = Some(at(day));
        world.live(day, &[]);
        let question = world.question(&world.record().clone()).unwrap();
        let asked = question.until.duration_since(question.from).as_secs();
        assert!((IDLE..=IDLE + 1800).contains(&asked), "{asked}");
        // What was not asked for is no proof, so later metrics than were asked for prove nothing.
        world.traffic().delay = late;
        let found = found_idle(&world.live(day + 300, &[]));
        assert_eq!(found.is_some(), late == 0, "{found:?}");
    }
}

#[test]
fn a_dry_run_says_so_and_stays_awake() {
    let mut world = Shape::single().in_use();
    world.rule.policy.dry_run = true;
    let plans = world.live(3000, &[]);
    let would = plans.iter().find(|(_, plan)| !plan.withheld.is_empty()).unwrap();
    assert!((soonest(-60)..=soonest(0)).contains(&would.0), "{}", would.0);
    assert!(plans.iter().all(|(_, plan)| plan.actions.is_empty()));
    assert_eq!(
        (world.record().wanted, world.machines[0].power),
        (Wanted::Awake, Power::Running)
    );
}

#[test]
fn nothing_is_asked_before_it_can_decide_and_nothing_twice() {
    let mut world = Shape::single().in_use();
    let visits: Vec<Time> = (0..40).map(|n| 100 + 70 * n).collect();
    let mut asked: Vec<(Time, Question)> = Vec::new();
    for end in (60..=4500).step_by(60) {
        let now: Vec<Time> = visits.iter().copied().filter(|v| (end - 60..end).contains(v)).collect();
        if let Some(question) = world.question(world.record()) {
            asked.push((world.now, question));
        }
        world.live(end, &now);
    }
    assert!(asked.len() > 3, "{asked:?}");
    for ((then, before), (now, next)) in asked.iter().zip(&asked[1..]) {
        let again = next.from.as_second() < before.until.as_second() - MINUTE;
        assert!(!again, "asked at {then} and again at {now}: {before:?} {next:?}");
    }
    // One question for each `idle` in which it is used, and none for the minutes in which nothing can be decided.
    let while_used: Vec<_> = asked.iter().filter(|(now, _)| *now < visits[39]).collect();
    assert!(while_used.len() <= (visits[39] / IDLE) as usize + 1, "{while_used:?}");
}

#[test]
fn metrics_that_cannot_be_read_are_asked_for_less_often() {
    let mut world = Shape::single().in_use();
    world.traffic().refuses = Some(FaultKind::Throttled);
    world.live(IDLE + DELAY + 30, &[]);
    let failure = world.record().failures[&Attempt::Count].clone();
    assert!(world.question(world.record()).is_none());
    world.advance(failure.retry_at.as_second() - at(world.now).as_second());
    assert!(world.question(world.record()).is_some());
    assert_eq!(world.record().snapshot.phase, Phase::Awake);
}

#[test]
fn whatever_was_asked_it_is_idle_only_after_proven_quiet() {
    let minutes = || btree_set((0..60_i64).prop_map(|minute| minute * MINUTE), 0..12);
    let histories = (minutes(), minutes(), 0..400_i64, prop::option::of(0..3600_i64));
    let mut decided = 0;
    let counted = std::cell::RefCell::new(&mut decided);
    runner(60)
        .run(&histories, |(requests, silent, delay, request)| {
            let mut world = Shape::single().in_use();
            let traffic = world.traffic();
            traffic.requests = requests.iter().map(|minute| (0, *minute)).collect();
            traffic.silent = silent.clone();
            traffic.delay = delay;
            let mut plans = Vec::new();
            if let Some(request) = request {
                plans.extend(world.live(request, &[]));
                world.request();
            }
            plans.extend(world.live(12_000, &[]));
            let unknown_or_used: BTreeSet<Time> = requests.union(&silent).copied().collect();
            for (now, plan) in &plans {
                if let (true, Some(from)) = (found_idle(&[(*now, plan.clone())]).is_some(), plan.record.prove_from) {
                    let from = from.as_second() - at(0).as_second();
                    let bad: Vec<_> = unknown_or_used.range(from - IDLE..from).collect();
                    prop_assert!(bad.is_empty(), "idle at {now}, quiet until {from}, but for {bad:?}");
                    prop_assert!(from >= IDLE && from + MINUTE + delay.min(DELAY) <= now + MINUTE);
                    **counted.borrow_mut() += 1;
                }
            }
            // And what is quiet does sleep in the end, whatever points were lost.
            prop_assert_eq!(&world.record().snapshot.phase, &Phase::Asleep);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert!(decided >= 60, "{decided}");
}
