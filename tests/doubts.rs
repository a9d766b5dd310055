//! What must not be concluded from a Describe that may be older than our last call, or from a call that had no clear answer.
//!
//! Seen red: each test with the one note or check it is about taken out (`last_down`, the remembered original after our own
//! write, one machine only in `surely_without_effect`, arrival with nothing up, sleep with a start in doubt, no machines
//! while their groups cannot be read, `asked` after a lost answer).

mod model;

use proxymanager::domain::fault::FaultKind;
use proxymanager::domain::phase::Phase;
use proxymanager::domain::plan::{EventKind, plan};
use proxymanager::domain::rule::Side;
use proxymanager::domain::seen::{Power, Stimulus, Wanted};

use model::story::{Teller, Turn};
use model::{Fate, Luck, STALEST, Shape, Time, World, at};

fn seen_at(ages: [Time; 3]) -> Luck {
    Luck { ages, ..Luck::good() }
}

fn asleep() -> Stimulus {
    Stimulus::Command {
        wanted: Wanted::Asleep,
        who: "somebody".to_owned(),
    }
}

#[test]
fn the_health_of_a_former_life_is_no_health() {
    let mut teller = Teller::new(Shape::single().awake());
    teller.world.advance(70);
    teller.tell(&Turn::Hand(0, false));
    teller.world.advance(23);
    teller.world.look(asleep(), Luck::good());
    teller.world.request();
    assert_eq!(teller.world.machines[0].power, Power::Pending);
    // Shown up and healthy as it was before its owner stopped it.
    teller.world.look(Stimulus::Tick, seen_at([0, STALEST, 34]));
    assert_eq!(teller.world.is_on(0), Side::Waker);
    teller.world.assert_innocent();
}

#[test]
fn an_original_from_before_our_own_write_is_none() {
    let mut teller = Teller::new(Shape::double().awake());
    teller.world.advance(70);
    teller.tell(&Turn::Rewrite(1));
    teller.world.advance(1);
    teller.world.look(asleep(), Luck::good());
    // The maker of the flip back dies before its first call, and the next look shows R from before its owner's change.
    teller.world.look_and_crash(
        Stimulus::Request {
            who: "somebody".to_owned(),
        },
        Luck::good(),
        4,
    );
    teller.world.look(asleep(), seen_at([2, 0, 0]));
    teller.world.assert_innocent();
    teller.world.run(400, 0, |_, _| {});
    teller.assert_asleep();
}

#[test]
fn a_call_refused_for_one_machine_may_have_reached_the_other() {
    let mut world = Shape::double().awake();
    world.run(70, 0, |_, _| {});
    world.command(Wanted::Asleep);
    world.advance(301);
    world.look(Stimulus::Tick, Luck::fates(&[Fate::Halfway(FaultKind::Denied)]));
    assert_eq!(world.machines[0].power, Power::Stopping);
    // Somebody asks, and both are still shown up and healthy.
    world.advance(2);
    world.look(
        Stimulus::Request {
            who: "somebody".to_owned(),
        },
        seen_at([0, 10, 10]),
    );
    assert_eq!(world.is_on(0), Side::Waker);
}

#[test]
fn a_start_without_an_answer_is_no_arrival() {
    let mut world = Shape::single().awake();
    world.run(70, 0, |_, _| {});
    world.machines[0].power = Power::Stopped;
    world.machines[0].running_since = None;
    world.changed();
    world.look(Stimulus::Tick, Luck::fates(&[Fate::QuestionLost]));
    world.advance(3);
    let next = world.tick().unwrap();
    assert_ne!(next.phase, Phase::Awake);
    assert!(next.events.iter().all(|event| event.kind != EventKind::Woke));
    assert!(next.record.deadline_at.is_some());
}

#[test]
fn a_route_that_leads_there_is_no_arrival_while_nothing_runs() {
    let mut teller = Teller::new(Shape::single().asleep());
    teller.world.advance(70);
    // Both by hand, before anybody looked.
    teller.tell(&Turn::Rewrite(0));
    teller.tell(&Turn::Hand(0, true));
    teller.world.advance(2);
    let next = teller.world.tick().unwrap();
    assert_eq!((next.phase, next.record.wanted), (Phase::Starting, Wanted::Awake));
    assert!(next.events.iter().all(|event| event.kind != EventKind::Woke));
    teller.world.run(100, 0, |_, _| {});
    teller.assert_awake();
}

#[test]
fn a_start_that_is_not_visible_yet_is_no_sleep() {
    let mut world = Shape::single().asleep();
    world.run(70, 0, |_, _| {});
    world.request();
    world.advance(2);
    let next = world.look(asleep(), seen_at([0, 10, 10])).unwrap();
    assert_eq!(next.phase, Phase::Stopping);
    world.run(500, 0, |_, _| {});
    assert_eq!(world.machines[0].power, Power::Stopped);
    world.assert_innocent();
}

#[test]
fn no_machines_are_no_news_while_their_groups_cannot_be_read() {
    let shape = Shape::single();
    let mut world = shape.awake();
    world.blind_health = Some(FaultKind::Denied);
    for wanted in [Wanted::Awake, Wanted::Asleep] {
        let mut seen = world.observe(shape.record(wanted), [0; 3]);
        seen.resources = Ok(Vec::new());
        let made = plan(at(world.now), &world.rule, &seen, &Stimulus::Tick);
        assert!(made.actions.is_empty(), "{made:#?}");
    }
}

#[test]
fn a_flip_without_an_answer_holds_back_the_stop() {
    for age in [20, 45, STALEST] {
        let mut world = Shape {
            settle: 3,
            ..Shape::single()
        }
        .asleep();
        world.request();
        world.run(14, 0, |_, _| {});
        while world.is_on(0) == Side::Waker {
            world.advance(1);
            world.look(Stimulus::Tick, Luck::fates(&[Fate::AnswerLost]));
        }
        world.advance(10);
        for _ in 0..4 {
            world.look(asleep(), seen_at([age, 0, 0]));
            world.advance(4);
        }
        world.assert_innocent();
    }
}

#[test]
fn worlds_begin_innocent() {
    let all: [fn(&Shape) -> World; 3] = [Shape::up, Shape::asleep, Shape::awake];
    all.iter().for_each(|begin| begin(&Shape::double()).assert_innocent());
}
