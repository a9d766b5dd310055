//! By hand: what a person does to the machines in EC2's console changes what is wanted, and nothing else is mistaken for it.
//!
//! Seen red: with `CLOCKS_DIFFER` at 0 (our own start, written down by EC2 a moment later, wakes a rule commanded asleep);
//! with `left_stopped` forgotten at our next start (the machine its owner stopped is started again); with `wanted_since`
//! the moment of noticing (a start between a stop by hand and our noticing it is stopped again).

mod model;

use proxymanager::domain::phase::Phase;
use proxymanager::domain::plan::{Action, plan};
use proxymanager::domain::record::Record;
use proxymanager::domain::rule::Side;
use proxymanager::domain::seen::{Power, Stimulus, Wanted};

use model::{Luck, STALEST, STOPPING_TAKES, Shape, Time, World, at};

/// A machine as EC2 shows it, and what we remember of our own calls, in seconds before now; what is wanted after a Tick.
struct Row {
    what: &'static str,
    wanted: (Wanted, Time),
    last_start: Option<Time>,
    last_stop: Option<Time>,
    power: Power,
    launched: Option<Time>,
    changed_by_user: Option<Time>,
    fell_back: bool,
    after: Wanted,
}

const ROW: Row = Row {
    what: "",
    wanted: (Wanted::Asleep, 9000),
    last_start: None,
    last_stop: None,
    power: Power::Stopped,
    launched: Some(20_000),
    changed_by_user: None,
    fell_back: false,
    after: Wanted::Asleep,
};

const SLEEPS: (Wanted, Time) = (Wanted::Asleep, 9000);
const WAKES: (Wanted, Time) = (Wanted::Awake, 9000);

fn rows() -> Vec<Row> {
    let started = Row {
        wanted: SLEEPS,
        power: Power::Running,
        last_stop: Some(8000),
        ..ROW
    };
    let stopped = Row {
        wanted: WAKES,
        power: Power::Stopped,
        last_start: Some(8990),
        after: Wanted::Awake,
        ..ROW
    };
    vec![
        Row {
            what: "started by hand long after our stop",
            launched: Some(100),
            after: Wanted::Awake,
            ..started
        },
        Row {
            what: "and still pending",
            power: Power::Pending,
            launched: Some(2),
            after: Wanted::Awake,
            ..started
        },
        Row {
            what: "started by hand as soon as our stop was through",
            wanted: (Wanted::Asleep, 400),
            last_stop: Some(60),
            launched: Some(30),
            after: Wanted::Awake,
            ..started
        },
        Row {
            what: "running since before our stop: the stop is not visible yet",
            last_stop: Some(5),
            ..started
        },
        Row {
            what: "running since before our stop, which had no effect",
            last_stop: Some(500),
            ..started
        },
        Row {
            what: "EC2 does not say since when",
            launched: None,
            ..started
        },
        Row {
            what: "our own start, overtaken by a command, by EC2's clock a little later",
            wanted: (Wanted::Asleep, 10),
            last_start: Some(12),
            last_stop: Some(8000),
            launched: Some(7),
            ..started
        },
        Row {
            what: "our own start, half a minute later by EC2's clock",
            wanted: (Wanted::Asleep, 100),
            last_start: Some(110),
            last_stop: Some(8000),
            launched: Some(80),
            ..started
        },
        Row {
            what: "our start, our stop, then a start by hand, all within two minutes",
            wanted: (Wanted::Asleep, 100),
            last_start: Some(110),
            last_stop: Some(70),
            launched: Some(20),
            after: Wanted::Awake,
            ..started
        },
        Row {
            what: "terminated",
            power: Power::Terminated,
            launched: Some(100),
            ..started
        },
        Row {
            what: "stopped by hand",
            changed_by_user: Some(300),
            after: Wanted::Asleep,
            ..stopped
        },
        Row {
            what: "and still stopping",
            power: Power::Stopping,
            changed_by_user: Some(3),
            after: Wanted::Asleep,
            ..stopped
        },
        Row {
            what: "stopped before our start: the start is not visible yet",
            changed_by_user: Some(8995),
            ..stopped
        },
        Row {
            what: "our own stop, by EC2's clock half a minute after the wish to wake",
            wanted: (Wanted::Awake, 20),
            last_start: None,
            last_stop: Some(25),
            changed_by_user: Some(0),
            power: Power::Stopping,
            ..stopped
        },
        Row {
            what: "stopped by no user",
            changed_by_user: None,
            ..stopped
        },
        Row {
            what: "fell back to stopped",
            fell_back: true,
            changed_by_user: Some(300),
            ..stopped
        },
        Row {
            what: "running again although its stop by hand is the last thing said",
            power: Power::Running,
            changed_by_user: Some(300),
            ..stopped
        },
    ]
}

#[test]
fn what_counts_as_by_hand() {
    let now = at(0);
    let ago = |seconds: Option<Time>| seconds.map(|seconds| at(-seconds));
    for row in rows() {
        let shape = Shape::single();
        let world = shape.asleep();
        let record = Record {
            wanted_since: at(-row.wanted.1),
            last_start: ago(row.last_start),
            last_stop: ago(row.last_stop),
            originals: world.stored.clone().unwrap().originals,
            ..shape.record(row.wanted.0)
        };
        let mut seen = world.observe(record, [0; 3]);
        let machine = &mut seen.resources.as_mut().unwrap()[0];
        machine.power = row.power;
        machine.launched = ago(row.launched);
        machine.changed_by_user = ago(row.changed_by_user);
        machine.fell_back = row.fell_back.then(|| "Client.InternalError".to_owned());
        for stimulus in [Stimulus::Tick, Stimulus::StateChange] {
            let made = plan(now, &shape.rule(), &seen, &stimulus);
            assert_eq!(made.record.wanted, row.after, "{}", row.what);
        }
        // Somebody who asks always has the last word.
        let made = plan(
            now,
            &shape.rule(),
            &seen,
            &Stimulus::Request {
                who: "somebody".to_owned(),
            },
        );
        if row.power != Power::Terminated {
            assert_eq!(made.record.wanted, Wanted::Awake, "{}", row.what);
        }
    }
}

fn by_hand(world: &mut World, machine: usize, start: bool) {
    let now = world.now;
    let machine = world.machine(machine);
    if start {
        machine.start(now)
    } else {
        machine.stop(now)
    }
    machine.by_hand = Some((now, start));
    world.changed();
}

fn wanted(world: &World) -> Wanted {
    world.stored.as_ref().unwrap().wanted
}

#[test]
fn a_start_by_hand_brings_the_site_up_and_a_stop_by_hand_puts_up_the_page() {
    for (skew, age) in [(0, 0), (2, 0), (-2, 0), (0, STALEST), (2, 30)] {
        let mut world = World {
            skew,
            ..Shape::double().asleep()
        };
        world.run(70, age, |_, _| {});
        by_hand(&mut world, 1, true);
        world.run(240, age, |_, _| {});
        assert_eq!(wanted(&world), Wanted::Awake);
        assert!((0..2).all(|route| world.is_on(route) == Side::Backend));
        for machine in 0..2 {
            by_hand(&mut world, machine, false);
        }
        world.run(240, age, |_, _| {});
        assert_eq!(wanted(&world), Wanted::Asleep);
        assert!((0..2).all(|route| world.is_on(route) == Side::Waker));
        assert!(world.machines.iter().all(|m| m.power == Power::Stopped));
        world.assert_innocent();
    }
}

#[test]
fn one_of_several_stopped_by_hand_stays_stopped_until_the_rule_has_slept() {
    let mut world = Shape::double().awake();
    world.run(120, 0, |_, _| {});
    by_hand(&mut world, 0, false);
    world.run(400, 0, |_, _| {});
    assert_eq!(
        (wanted(&world), world.machines[0].power),
        (Wanted::Awake, Power::Stopped)
    );
    // The other one dies and is started again. That start is no reason to start the first.
    world.machines[1].power = Power::Stopped;
    world.machines[1].running_since = None;
    world.changed();
    for age in [0, STALEST, 0] {
        world.run(400, age, |world, _| assert_eq!(world.machines[0].power, Power::Stopped));
    }
    assert_eq!(world.machines[1].power, Power::Running);
    assert_eq!(world.is_on(0), Side::Backend);
    world.command(Wanted::Asleep);
    world.run(500, 0, |_, _| {});
    world.request();
    assert!(world.machines.iter().all(|m| m.power == Power::Pending));
    world.assert_innocent();
}

#[test]
fn its_owner_starting_it_again_ends_that() {
    let mut world = Shape::double().awake();
    world.run(120, 0, |_, _| {});
    by_hand(&mut world, 0, false);
    world.run(200, 0, |_, _| {});
    by_hand(&mut world, 0, true);
    world.run(100, 0, |_, _| {});
    assert!(world.stored.as_ref().unwrap().left_stopped.is_empty());
    // From now on it is started like the others when it dies.
    world.machines[0].power = Power::Stopped;
    world.machines[0].running_since = None;
    world.machines[0].changed_by_user = None;
    world.changed();
    world.run(120, 0, |_, _| {});
    assert_eq!(world.machines[0].power, Power::Running);
}

#[test]
fn a_start_pressed_right_after_our_stop_wins() {
    // EC2 refuses it while the machine is stopping, so the first moment is when it has stopped.
    for later in [0, 1, 5, 40] {
        for age in [0, 20, STALEST] {
            let mut world = Shape::single().awake();
            world.command(Wanted::Asleep);
            while world.machines[0].power != Power::Stopping {
                world.run(1, 0, |_, _| {});
            }
            world.advance(STOPPING_TAKES + later);
            by_hand(&mut world, 0, true);
            world.run(300, age, |_, _| {});
            assert_eq!(wanted(&world), Wanted::Awake, "{later} {age}");
            assert_eq!(world.is_on(0), Side::Backend, "{later} {age}");
            assert_eq!(world.counts["stop"], 1);
            world.assert_innocent();
        }
    }
}

#[test]
fn a_stop_and_a_start_by_hand_before_we_noticed_leave_it_awake() {
    let mut world = Shape::single().awake();
    world.run(120, 0, |_, _| {});
    by_hand(&mut world, 0, false);
    world.advance(STOPPING_TAKES + 15);
    by_hand(&mut world, 0, true);
    world.advance(3);
    // Still shown the stop.
    world.look(
        Stimulus::Tick,
        Luck {
            ages: [10; 3],
            ..Luck::good()
        },
    );
    assert_eq!(wanted(&world), Wanted::Asleep);
    world.run(900, 0, |world, plan| {
        assert!(
            !plan.actions.iter().any(|a| matches!(a, Action::Stop { .. })),
            "{}",
            world.now
        );
    });
    assert_eq!((wanted(&world), world.is_on(0)), (Wanted::Awake, Side::Backend));
}

#[test]
fn our_own_calls_are_not_mistaken_whatever_the_clocks_say() {
    for skew in [-20, -2, 0, 2, 20] {
        for age in [0, 15, STALEST] {
            let mut world = World {
                skew,
                ..Shape::double().awake()
            };
            for _ in 0..3 {
                world.command(Wanted::Asleep);
                world.run(700, age, |world, plan| {
                    assert_eq!(plan.record.wanted, Wanted::Asleep, "{skew} {age} at {}", world.now);
                });
                assert!(world.machines.iter().all(|m| m.power == Power::Stopped));
                world.request();
                world.run(200, age, |world, plan| {
                    assert_eq!(plan.record.wanted, Wanted::Awake, "{skew} {age} at {}", world.now);
                });
                assert_eq!(world.is_on(0), Side::Backend);
            }
            // Overtaken in the middle.
            world.command(Wanted::Asleep);
            world.run(400, 0, |_, _| {});
            world.request();
            world.advance(3);
            world.command(Wanted::Asleep);
            world.run(700, age, |_, plan| {
                assert_eq!(plan.record.wanted, Wanted::Asleep, "{skew} {age}")
            });
            world.assert_innocent();
        }
    }
}

#[test]
fn a_running_machine_that_is_registered_with_a_sleeping_rule_is_not_stopped() {
    let mut world = Shape::double().asleep();
    world.run(200, 0, |_, _| {});
    assert_eq!(world.stored.as_ref().unwrap().snapshot.phase, Phase::Asleep);
    // In use since long before the rule fell asleep, and the rule's only since now.
    world.stored.as_mut().unwrap().snapshot.resources.truncate(1);
    let joined = &mut world.machines[1];
    joined.power = Power::Running;
    (joined.launched, joined.running_since) = (Some(-20_000), Some(-20_000));
    world.changed();
    world.advance(STALEST + 1);
    for _ in 0..3 {
        let plan = world.tick().unwrap();
        let stops = plan.actions.iter().any(|action| matches!(action, Action::Stop { .. }));
        assert!(
            !stops && plan.record.wanted == Wanted::Awake,
            "{:?}",
            plan.record.wanted_by
        );
        world.advance(30);
    }
}

#[test]
fn what_is_stopped_of_a_rule_that_is_first_seen_in_use_stays_stopped() {
    let mut world = Shape::double().awake();
    world.stored = None;
    world.machines[1].power = Power::Stopped;
    world.changed();
    world.advance(STALEST + 1);
    world.run(400, 0, |_, plan| {
        let starts = plan.actions.iter().any(|action| matches!(action, Action::Start { .. }));
        assert!(!starts, "a Tick wakes nothing");
    });
    assert_eq!(world.machines[1].power, Power::Stopped);
    assert_eq!(world.stored.as_ref().unwrap().snapshot.phase, Phase::Awake);
}
