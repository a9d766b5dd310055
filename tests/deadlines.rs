//! I6: once requested a rule is awake, or failed with a reason, by the deadline, and asleep again when nobody asks; whatever
//! goes wrong, whatever the age of what is seen. And no trouble makes a busy loop.
//!
//! Seen red: with one failure remembered for all kinds instead of one for each; with `starts` left out of the patience; with
//! `give_up` counting from the last request alone, and with no `give_up`; with the park repeated before a Describe can show
//! it; with no turn for the second route; with a failed look that stays.

mod model;

use proptest::collection::vec;
use proptest::prelude::*;

use proxymanager::domain::fault::FaultKind;
use proxymanager::domain::phase::Phase;
use proxymanager::domain::policy::Needed;
use proxymanager::domain::record::Attempt;
use proxymanager::domain::rule::Side;
use proxymanager::domain::seen::{Power, Wanted};

use model::story::{Teller, runner, turn};
use model::{Fate, STALEST, Shape, Time, World};

const DEADLINE: Time = 15 * 60;

const KINDS: [FaultKind; 6] = [
    FaultKind::Throttled,
    FaultKind::Denied,
    FaultKind::NoCapacity,
    FaultKind::NotFound,
    FaultKind::Conflict,
    FaultKind::Other,
];

type Trouble = Box<dyn Fn(&mut World)>;

/// All that can be wrong for good with a wake, and its name.
fn troubles() -> Vec<(String, Trouble)> {
    let mut all: Vec<(String, Trouble)> = Vec::new();
    for call in ["start", "park", "flip to backend"] {
        let mut fates: Vec<Fate> = KINDS
            .iter()
            .flat_map(|kind| [Fate::Refused(*kind), Fate::Halfway(*kind)])
            .collect();
        fates.push(Fate::QuestionLost);
        for fate in fates {
            let trouble = move |world: &mut World| {
                world.denials.insert(call, fate);
                // P is what a refused park is about.
                for route in &mut world.routes {
                    route.parked.clear();
                }
            };
            all.push((format!("{call} {fate:?}"), Box::new(trouble)));
        }
    }
    for kind in KINDS {
        let both = move |world: &mut World| {
            for call in ["start", "park"] {
                world.denials.insert(call, Fate::Refused(kind));
            }
            for route in &mut world.routes {
                route.parked.clear();
            }
        };
        all.push((format!("start and park {kind:?}"), Box::new(both)));
        all.push((
            format!("machines {kind:?}"),
            Box::new(move |world| world.blind_machines = Some(kind)),
        ));
        all.push((
            format!("health {kind:?}"),
            Box::new(move |world| world.blind_health = Some(kind)),
        ));
    }
    for told in [true, false] {
        let falls = move |world: &mut World| world.machines.iter_mut().for_each(|m| m.falls_back = Some(told));
        all.push((format!("falls back, told: {told}"), Box::new(falls)));
    }
    all.push((
        "unhealthy".to_owned(),
        Box::new(|world| world.machines.iter_mut().for_each(|m| m.app_works = false)),
    ));
    all
}

fn shapes() -> [Shape; 3] {
    [Shape::single(), Shape::double(), Shape::weighted_groups()]
}

fn count(world: &World, call: &str) -> u32 {
    world.counts.get(call).copied().unwrap_or(0)
}

#[test]
fn every_trouble_is_named_by_the_deadline_and_ends_in_sleep() {
    let mut failed = 0;
    for shape in shapes() {
        for age in [0, STALEST] {
            for (name, trouble) in troubles() {
                let mut world = shape.asleep();
                trouble(&mut world);
                world.changed();
                world.violations.clear();
                world.request();
                let mut looks = 0;
                world.run(DEADLINE + 10, age, |_, _| looks += 1);
                // No busy loop, neither of calls nor of looks.
                for call in ["start", "park", "flip to backend"] {
                    assert!(
                        count(&world, call) <= 12,
                        "{name}: {call} {} times",
                        count(&world, call)
                    );
                }
                assert!(looks <= 460, "{name}: {looks} looks");
                world.run(120, age, |_, plan| match &plan.phase {
                    Phase::Failed(reason) => {
                        failed += 1;
                        assert!(reason.len() > 10, "{name}: {reason}");
                    }
                    // The next attempt.
                    Phase::Awake | Phase::Switching => {}
                    phase @ (Phase::Asleep
                    | Phase::Starting
                    | Phase::Checking
                    | Phase::Settling
                    | Phase::Stopping
                    | Phase::Misconfigured(_)) => panic!("{name}, {age}: {phase:?} after the deadline"),
                });
                // With nobody asking it ends, by itself, as soon as AWS lets it.
                let since = world.now;
                world.run(shape.idle as Time + 60, age, |_, _| {});
                let awake = world
                    .routes
                    .iter()
                    .enumerate()
                    .all(|(route, _)| world.is_on(route) == Side::Backend);
                let wanted = world.stored.as_ref().map(|record| record.wanted);
                assert!(
                    awake || wanted == Some(Wanted::Asleep),
                    "{name}, {age}: {wanted:?} at {since}"
                );
                if !awake {
                    let mut teller = Teller::new(world);
                    teller.end_of_trouble();
                    teller.world.run(900, age, |_, _| {});
                    teller.assert_asleep();
                }
            }
        }
    }
    assert!(failed > 100);
}

#[test]
fn a_failed_wake_recovers_when_the_trouble_ends() {
    for shape in shapes() {
        for (name, trouble) in troubles() {
            let mut world = shape.asleep();
            trouble(&mut world);
            world.changed();
            world.request();
            world.run(DEADLINE + 60, 0, |_, _| {});
            let mut teller = Teller::new(world);
            teller.end_of_trouble();
            // The longest pause between two attempts is five minutes.
            teller.world.run(420, 0, |_, _| {});
            assert_eq!(
                teller.world.stored.as_ref().map(|r| &r.snapshot.phase),
                Some(&Phase::Awake),
                "{name}"
            );
            teller.assert_awake();
            assert!(
                teller.world.stored.as_ref().unwrap().failures.is_empty() || name.contains("back"),
                "{name}"
            );
        }
    }
}

#[test]
fn after_any_history_it_wakes_when_asked_and_sleeps_when_told() {
    for (shape, asleep) in [
        (Shape::single(), true),
        (Shape::double(), false),
        (Shape::weighted_groups(), true),
    ] {
        runner(60)
            .run(&(vec(turn(), 1..40), any::<bool>()), |(turns, wakes)| {
                let mut teller = Teller::new(if asleep { shape.asleep() } else { shape.awake() });
                turns.iter().for_each(|turn| teller.tell(turn));
                teller.end_of_trouble();
                let wanted = if wakes { Wanted::Awake } else { Wanted::Asleep };
                teller.world.command(wanted);
                teller.world.run(DEADLINE + 300, 0, |_, _| {});
                if wakes {
                    teller.assert_awake();
                } else {
                    teller.assert_asleep();
                }
                Ok(())
            })
            .unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn an_awake_rule_whose_machines_die_is_woken_again_behind_the_page() {
    for age in [0, 30] {
        let mut world = Shape::double().awake();
        world.run(120, 0, |_, _| {});
        for machine in &mut world.machines {
            machine.power = Power::Stopped;
            machine.running_since = None;
            machine.app_works = false;
        }
        world.changed();
        let died = world.now;
        world.run(150, age, |_, _| {});
        // Behind the waker's page, all of it, while it comes up.
        assert!((0..2).all(|route| world.is_on(route) == Side::Waker));
        assert!(world.machines.iter().all(|m| m.power == Power::Running));
        // Not healthy: failed at a deadline of its own.
        world.run(died + DEADLINE + 240 - world.now, age, |_, _| {});
        assert!(matches!(
            world.stored.as_ref().unwrap().snapshot.phase,
            Phase::Failed(_)
        ));
        for machine in &mut world.machines {
            machine.app_works = true;
        }
        world.run(60, age, |_, _| {});
        let record = world.stored.clone().unwrap();
        assert_eq!(record.snapshot.phase, Phase::Awake);
        // Its estimate is of this wake and not of the time since the first.
        assert!(
            record.wakes.iter().all(|took| Time::from(*took) <= world.now - died),
            "{:?}",
            record.wakes
        );
        let mut teller = Teller::new(world);
        teller.end_of_trouble();
        teller.assert_awake();
        assert!(teller.world.violations.is_empty(), "{:?}", teller.world.violations);
    }
}

#[test]
fn a_refused_park_or_flip_does_not_keep_a_machine_from_starting() {
    for call in ["park", "flip to backend"] {
        let mut world = Shape::single().asleep();
        world.routes[0].parked.clear();
        world.denials.insert(call, Fate::Refused(FaultKind::Denied));
        world.request();
        assert_eq!(world.machines[0].power, Power::Pending);
        world.run(60, 0, |_, _| {});
        assert_eq!(world.machines[0].power, Power::Running);
    }
}

#[test]
fn one_route_that_cannot_be_flipped_does_not_keep_the_other() {
    let mut world = Shape::double().asleep();
    // Deleted, or somebody's policy forbids just this one: every other call of the kind fails.
    world.request();
    world.run(14, 0, |_, _| {});
    assert!((0..2).all(|route| world.is_on(route) == Side::Waker));
    let mut refused = 0;
    for _ in 0..40 {
        world.advance(6);
        let seen = world.observe(world.stored.clone().unwrap(), [0; 3]);
        let next = proxymanager::domain::plan::plan(
            model::at(world.now),
            &world.rule.clone(),
            &seen,
            &proxymanager::domain::seen::Stimulus::Tick,
        );
        let first_is_bad = next.actions.first().is_some_and(
            |action| matches!(action, proxymanager::domain::plan::Action::FlipToBackend { route, .. } if route.0 == "rule/0"),
        );
        let fates = if first_is_bad {
            vec![Fate::Refused(FaultKind::Denied)]
        } else {
            vec![Fate::Well, Fate::Refused(FaultKind::Denied)]
        };
        refused += u32::from(first_is_bad);
        world.look(proxymanager::domain::seen::Stimulus::Tick, model::Luck::fates(&fates));
    }
    assert!(refused > 0);
    assert_eq!(world.is_on(1), Side::Backend);
    assert_eq!(world.is_on(0), Side::Waker);
}

#[test]
fn needing_all_or_more_than_there_are_or_none() {
    for (needed, healthy, wakes) in [
        (Needed::All, 1, false),
        (Needed::All, 2, true),
        (Needed::AtLeast(5), 1, false),
        (Needed::AtLeast(5), 2, true),
        (Needed::AtLeast(1), 1, true),
        (Needed::AtLeast(1), 0, false),
        (Needed::AtLeast(0), 0, true),
    ] {
        let mut world = Shape {
            needed,
            ..Shape::double()
        }
        .asleep();
        for machine in world.machines.iter_mut().skip(healthy) {
            machine.app_works = false;
        }
        world.request();
        world.run(120, 0, |_, _| {});
        assert_eq!(world.is_on(0) == Side::Backend, wakes, "{needed:?} of {healthy}");
        world.assert_innocent();
    }
}

#[test]
fn a_failed_look_is_over_when_the_next_one_succeeds() {
    let mut world = Shape::single().asleep();
    world.blind_health = Some(FaultKind::Denied);
    world.request();
    assert!(world.stored.as_ref().unwrap().failures.contains_key(&Attempt::Look));
    world.advance(3);
    world.blind_health = None;
    let plan = world.request().unwrap();
    assert!(!plan.record.failures.contains_key(&Attempt::Look));
    assert_eq!(plan.phase, Phase::Starting);
}
