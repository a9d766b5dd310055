//! I3: every action applied twice equals once, a second look does no more than the first, and a crash after any step of any
//! plan comes to the same end as no crash.
//!
//! Seen red: with `last_start`, `last_stop` or `asked` not noted before the call (the second look starts or stops again; a stop
//! comes although a flip whose maker died was made); with `ready` not asking for health.

mod model;

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};

use proxymanager::domain::plan::{Action, Plan, plan};
use proxymanager::domain::rule::{Action as ListenerAction, Side};
use proxymanager::domain::seen::{Power, Stimulus, Wanted};

use model::calls::name;
use model::story::{Teller, runner, turn};
use model::{Fate, Luck, STALEST, Shape, World, at};

/// Worlds in the middle of things: those that random histories end in.
fn worlds() -> Vec<World> {
    let mut runner = runner(1);
    let turns = vec(turn(), 1..25);
    let shapes = [Shape::single(), Shape::double(), Shape::weighted_groups()];
    let mut worlds: Vec<World> = shapes
        .iter()
        .flat_map(|shape| [shape.up(), shape.asleep(), shape.awake()])
        .collect();
    for shape in &shapes {
        let mut settled = shape.awake();
        settled.command(Wanted::Asleep);
        settled.advance(shape.settle as model::Time + 1);
        worlds.push(settled);
    }
    for shape in shapes.iter().cycle().take(60) {
        let mut teller = Teller::new(if worlds.len().is_multiple_of(2) {
            shape.awake()
        } else {
            shape.asleep()
        });
        for turn in turns.new_tree(&mut runner).unwrap().current() {
            teller.tell(&turn);
        }
        teller.end_of_trouble();
        worlds.push(teller.world);
    }
    worlds
}

fn stimuli() -> [Stimulus; 4] {
    let who = || "somebody".to_owned();
    [
        Stimulus::Tick,
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

/// The powers of the machines, each route with its actions and the number of its parked copies, and what is wanted.
type End = (Vec<Power>, Vec<(Side, Vec<ListenerAction>, usize)>, Option<Wanted>);

/// What the world has come to, without its times.
fn end(world: &World) -> End {
    let routes = (0..world.routes.len()).map(|index| {
        let side = world.is_on(index);
        // P is put right while R points at the waker.
        let parked = if side == Side::Waker {
            world.routes[index].parked.len()
        } else {
            1
        };
        (side, world.routes[index].actions.clone(), parked)
    });
    (
        world.machines.iter().map(|m| m.power).collect(),
        routes.collect(),
        world.stored.as_ref().map(|record| record.wanted),
    )
}

fn planned(world: &World, stimulus: &Stimulus) -> Plan {
    let record = world
        .stored
        .clone()
        .unwrap_or_else(|| world.shape.record(Wanted::Awake));
    plan(at(world.now), &world.rule, &world.observe(record, [0; 3]), stimulus)
}

#[test]
fn applied_twice_is_applied_once() {
    let mut tried = BTreeSet::new();
    for world in worlds() {
        for stimulus in stimuli() {
            let actions = planned(&world, &stimulus).actions;
            let (mut once, mut each_twice, mut all_twice) = (world.clone(), world.clone(), world.clone());
            for action in &actions {
                tried.insert(name(action));
                let outcome = once.effect(0, action);
                assert_eq!(each_twice.effect(0, action), outcome);
                assert_eq!(each_twice.effect(0, action), outcome);
                assert_eq!(all_twice.effect(0, action), outcome);
            }
            for action in &actions {
                all_twice.effect(0, action).unwrap();
            }
            assert_eq!(
                (&once.machines, &once.routes),
                (&each_twice.machines, &each_twice.routes)
            );
            assert_eq!((&once.machines, &once.routes), (&all_twice.machines, &all_twice.routes));
        }
    }
    assert_eq!(tried.len(), 5, "{tried:?}");
}

#[test]
fn a_second_look_does_nothing_again() {
    for mut world in worlds() {
        for stimulus in stimuli() {
            let Some(first) = world.look(stimulus.clone(), Luck::good()) else {
                continue;
            };
            // What is shown may still be how it was before.
            for ages in [[0; 3], [1; 3], [STALEST; 3]] {
                world.advance(1);
                let second = world.look(stimulus.clone(), Luck { ages, ..Luck::good() }).unwrap();
                let again = |action: &&Action| match action {
                    Action::Park { .. } => false,
                    Action::FlipToWaker { .. }
                    | Action::FlipToBackend { .. }
                    | Action::Start { .. }
                    | Action::Stop { .. } => first.actions.iter().any(|before| name(before) == name(action)),
                };
                let repeated: Vec<_> = second.actions.iter().filter(again).collect();
                assert!(repeated.is_empty(), "{ages:?}: {repeated:?}");
            }
        }
    }
}

#[test]
fn a_crash_after_any_step_comes_to_the_same_end() {
    let mut crashed_with = BTreeSet::new();
    for world in worlds() {
        for stimulus in stimuli() {
            let mut whole = world.clone();
            whole.look(stimulus.clone(), Luck::good());
            whole.run(1000, 0, |_, _| {});
            let steps = 6 + 2 * planned(&world, &stimulus).actions.len();
            for fate in [Fate::Well, Fate::AnswerLost] {
                for step in 1..steps {
                    let mut cut = world.clone();
                    let luck = Luck {
                        fates: vec![Fate::Well, fate],
                        ..Luck::good()
                    };
                    if let Some(plan) = cut.look_and_crash(stimulus.clone(), luck, step) {
                        crashed_with.extend(plan.actions.iter().map(name));
                    }
                    // Whoever asked asks again, when the lease of the dead has run out.
                    cut.advance(41);
                    cut.look(stimulus.clone(), Luck::good());
                    cut.run(1000, 0, |_, _| {});
                    assert_eq!(end(&cut), end(&whole), "{stimulus:?} cut after {step}");
                    let new: Vec<_> = cut
                        .violations
                        .iter()
                        .filter(|v| !world.violations.contains(v))
                        .collect();
                    assert!(new.is_empty(), "{new:?}");
                }
            }
        }
    }
    assert_eq!(crashed_with.len(), 5, "{crashed_with:?}");
}

#[test]
fn a_flip_whose_maker_died_is_reckoned_with() {
    // As short a settling as the local cloud's, so that nothing but the note of the flip keeps the stop from coming.
    for age in [45, STALEST] {
        let mut world = Shape {
            settle: 3,
            ..Shape::single()
        }
        .asleep();
        world.request();
        world.run(14, 0, |_, _| {});
        while world.is_on(0) == Side::Waker {
            // Dead right after the call, in the fifth step.
            world.advance(1);
            world.look_and_crash(Stimulus::Tick, Luck::good(), 5);
        }
        world.advance(41);
        for _ in 0..4 {
            // Still shown the waker, from before the flip.
            let asleep = Stimulus::Command {
                wanted: Wanted::Asleep,
                who: "somebody".to_owned(),
            };
            world.look(
                asleep,
                Luck {
                    ages: [age, 0, 0],
                    ..Luck::good()
                },
            );
            world.advance(4);
        }
        world.assert_innocent();
        world.run(200, 0, |_, _| {});
        world.assert_innocent();
        assert_eq!((world.is_on(0), world.machines[0].power), (Side::Waker, Power::Stopped));
    }
}
