//! Between the flip of an idle rule and the stop: every minute from the idle decision to one after the flip is proven to be
//! without a request, or the machine is not stopped.
//!
//! Seen red: with the proof left out, begun at the flip or ended with its minute; with `give_in` left out; with a machine that is
//! down started for a gap; with a wake that was given up not asked whether it is used.

mod model;

use proxymanager::domain::fault::FaultKind;
use proxymanager::domain::phase::Phase;
use proxymanager::domain::plan::Plan;
use proxymanager::domain::rule::Side;
use proxymanager::domain::seen::{Power, Stimulus, Wanted};

use model::calls::name;
use model::traffic::{MINUTE, found_idle};
use model::{Fate, Luck, Shape, Time, World};

const IDLE: Time = 600;
const DELAY: Time = 180;
/// A rule awake since 0 and never used is found idle and flipped then.
const FLIP: Time = IDLE + DELAY;
/// All is settled and proven: the minute after the flip's is old enough to be complete.
const PROVEN: Time = FLIP + 2 * MINUTE + DELAY;

fn flipped() -> World {
    let mut world = Shape::single().in_use();
    world.live(FLIP + 1, &[]);
    assert_eq!((world.record().wanted, world.is_on(0)), (Wanted::Asleep, Side::Waker));
    world
}

fn stops(plans: &[(Time, Plan)]) -> Vec<Time> {
    let stops = |plan: &Plan| plan.actions.iter().any(|action| name(action) == "stop");
    plans
        .iter()
        .filter(|(_, plan)| stops(plan))
        .map(|(at, _)| *at)
        .collect()
}

#[test]
fn it_stops_when_the_minute_after_the_flip_is_proven() {
    let mut world = flipped();
    let stops = stops(&world.live(3000, &[]));
    assert_eq!(stops.len(), 1);
    assert!((PROVEN..PROVEN + MINUTE).contains(&stops[0]), "{stops:?}");
    assert_eq!(world.machines[0].power, Power::Stopped);
}

#[test]
fn a_request_between_the_decision_and_the_flip_wakes_it_again() {
    // As late as in the seconds in which the load balancer still sends requests the old way.
    for asked in [IDLE + 5, IDLE + 100, FLIP - 1, FLIP + 30, FLIP + 119] {
        let mut world = Shape::single().in_use();
        world.live(FLIP, &[]);
        let minute = asked / MINUTE * MINUTE;
        world.traffic().requests.insert((0, minute));
        // It is to be seen no sooner than the delay allows.
        let plans = world.live(FLIP + 1, &[]);
        assert!(found_idle(&plans).is_some());
        let plans = world.live(PROVEN + MINUTE, &[]);
        assert!(stops(&plans).is_empty(), "asked at {asked}");
        assert_eq!(
            (world.record().wanted, world.is_on(0)),
            (Wanted::Awake, Side::Backend),
            "asked at {asked}"
        );
        assert_eq!(world.machines[0].power, Power::Running);
        world.assert_innocent();
    }
}

#[test]
fn a_request_two_minutes_after_the_flip_cannot_have_come_by_it() {
    let mut world = flipped();
    world.traffic().requests.insert((0, FLIP + 2 * MINUTE));
    assert_eq!(stops(&world.live(PROVEN + MINUTE, &[])).len(), 1);
}

#[test]
fn a_gap_wakes_it_again() {
    for silent in [IDLE, FLIP - MINUTE, FLIP] {
        let mut world = flipped();
        world.traffic().silent.insert(silent);
        let plans = world.live(PROVEN + MINUTE, &[]);
        assert!(stops(&plans).is_empty(), "silent at {silent}");
        assert_eq!((world.record().wanted, world.is_on(0)), (Wanted::Awake, Side::Backend));
    }
}

#[test]
fn late_metrics_and_refused_ones_are_waited_for() {
    for refused in [false, true] {
        let mut world = flipped();
        if refused {
            world.traffic().refuses = Some(FaultKind::Throttled);
        } else {
            world.traffic().delay = 1500;
        }
        let plans = world.live(PROVEN + 1000, &[]);
        assert!(stops(&plans).is_empty());
        assert!(plans.iter().all(|(_, plan)| plan.phase == Phase::Settling));
        world.traffic().refuses = None;
        let plans = world.live(PROVEN + 3000, &[]);
        assert_eq!(stops(&plans).len(), 1, "{:?}", world.record());
        assert_eq!(
            (world.record().snapshot.phase.clone(), &world.record().kept_by),
            (Phase::Asleep, &None)
        );
    }
}

#[test]
fn a_busy_machine_wakes_it_again_and_an_unknown_load_is_waited_for() {
    for (bytes, wanted) in [(Some(9_000_000), Wanted::Awake), (None, Wanted::Asleep)] {
        let mut world = flipped();
        world.traffic().network.insert(0, bytes);
        assert!(stops(&world.live(PROVEN + 600, &[])).is_empty());
        assert_eq!(world.record().wanted, wanted);
    }
}

#[test]
fn a_request_to_the_waker_flips_back_at_once() {
    for after in [1, 100, PROVEN - FLIP - 1] {
        let mut world = flipped();
        world.live(FLIP + after, &[]);
        let plan = world.request().unwrap();
        assert_eq!(plan.actions.iter().map(name).collect::<Vec<_>>(), ["flip to backend"]);
        assert_eq!(
            (world.is_on(0), &world.record().snapshot.phase),
            (Side::Backend, &Phase::Awake)
        );
        // And it takes a whole `idle` again.
        assert!(found_idle(&world.live(3000, &[])).unwrap() >= FLIP + after + IDLE + DELAY);
    }
}

#[test]
fn what_a_command_puts_to_sleep_needs_no_proof() {
    let mut world = Shape::single().in_use();
    world.traffic().refuses = Some(FaultKind::Denied);
    world.live(100, &[50]);
    world.command(Wanted::Asleep);
    let stops = stops(&world.live(1000, &[]));
    assert!((400..=460).contains(&stops[0]), "{stops:?}");
}

#[test]
fn clocks_may_differ_by_a_minute() {
    for skew in [-60, 60] {
        for visit in 0..=10 {
            let mut world = Shape::single().in_use();
            world.traffic().skew = skew;
            // One visit, from well before the decision until just before the flip.
            let visit = FLIP - 30 * visit;
            let plans = world.live(3000, &[visit]);
            world.assert_innocent();
            assert_eq!(stops(&plans).len(), 1, "skew {skew}, visit at {visit}");
            assert!(stops(&plans)[0] >= visit + IDLE, "skew {skew}, visit at {visit}");
        }
    }
}

/// A sleep that AWS refuses, and how often it was asked for until then.
fn refused(action: &'static str, kind: FaultKind, until: Time) -> (World, Vec<Time>) {
    let mut world = Shape::single().in_use();
    world.denials.insert(action, Fate::Refused(kind));
    let plans = world.live(until, &[]);
    let asks = |plan: &Plan| plan.actions.iter().any(|one| name(one) == action);
    let asked = plans.iter().filter(|(_, plan)| asks(plan)).map(|(at, _)| *at);
    (world, asked.collect())
}

#[test]
fn a_sleep_that_aws_refuses_leaves_it_awake_and_says_why() {
    for (action, kind) in [
        ("stop", FaultKind::Denied),
        ("park", FaultKind::Conflict),
        ("flip to waker", FaultKind::Denied),
    ] {
        let first = if action == "stop" { PROVEN } else { FLIP };
        let (world, asked) = refused(action, kind, first + MINUTE + 60);
        assert_eq!(asked.len(), 1, "{action}: {asked:?}");
        assert_eq!(
            (world.record().wanted, world.is_on(0)),
            (Wanted::Awake, Side::Backend),
            "{action}"
        );
        assert_eq!(world.record().snapshot.phase, Phase::Awake, "{action}");
        assert!(
            world
                .record()
                .kept_by
                .as_ref()
                .unwrap()
                .contains("cannot be put to sleep"),
            "{action}"
        );
        assert!(world.record().failures.values().any(|failure| failure.lasting));
        let (mut world, asked) = refused(action, kind, first + 5 * IDLE);
        assert!((2..=5).contains(&asked.len()), "{action}: {asked:?}");
        assert!(
            asked.windows(2).all(|two| two[1] - two[0] >= IDLE),
            "{action}: {asked:?}"
        );
        // Allowed again, it sleeps.
        world.denials.clear();
        world.live(world.now + 3 * IDLE, &[]);
        assert_eq!(world.machines[0].power, Power::Stopped, "{action}");
    }
}

#[test]
fn what_somebody_stopped_while_it_settled_is_not_started_for_a_gap() {
    // The second is on its way down when the proof comes.
    for stopped in [FLIP + 100, PROVEN - 5] {
        let mut world = flipped();
        world.traffic().silent.insert(FLIP);
        world.live(stopped, &[]);
        world.machines[0].stop(stopped);
        world.machines[0].by_hand = Some((stopped, false));
        world.changed();
        let plans = world.live(3000, &[]);
        let names: Vec<_> = plans.iter().flat_map(|(_, plan)| &plan.actions).map(name).collect();
        assert!(names.is_empty(), "I4: {names:?}");
        assert_eq!(world.record().snapshot.phase, Phase::Asleep);
        assert_eq!(world.question(world.record()), None, "what sleeps has nothing to prove");
    }
}

#[test]
fn a_wake_given_up_for_one_route_does_not_stop_what_the_other_is_used_for() {
    let mut world = Shape::double().asleep();
    world.traffic();
    world.request();
    while world.is_on(0) == Side::Waker {
        world.advance(1);
        // The first of the two flips goes well.
        let fates = [Fate::Well, Fate::Refused(FaultKind::Denied)];
        world.look(Stimulus::Tick, Luck::fates(&fates));
    }
    assert_eq!(world.is_on(1), Side::Waker);
    world
        .denials
        .insert("flip to backend", Fate::Refused(FaultKind::Denied));
    // Rarely enough to miss the settling, and often enough never to be idle.
    let plans = world.live(1830, &[700, 1260]);
    let given_up = |plan: &Plan| plan.events.iter().any(|event| event.why.contains("nobody asked"));
    assert!(plans.iter().any(|(_, plan)| given_up(plan)));
    assert!(stops(&plans).is_empty(), "{:?}", stops(&plans));
    // Without any use it does sleep.
    assert_eq!(stops(&world.live(6000, &[])).len(), 1);
}
