//! I10: at any instant R's original final action is in R, in a P or in the ledger; whoever changes R, and when; and it is the
//! owner's newest that comes back.
//!
//! Seen red: with the flip not waiting for its park, and with the flip sent while the park is paused; with `originals` kept once
//! set (a rule changed while asleep comes back as it was before); with FlipToBackend writing all remembered actions (a
//! changed client id is lost); with P compared by its groups alone (changed stickiness is lost).

mod model;

use proxymanager::domain::fault::FaultKind;
use proxymanager::domain::plan::Action;
use proxymanager::domain::record::Record;
use proxymanager::domain::rule::{Side, final_action};
use proxymanager::domain::seen::{Stimulus, Wanted};

use model::story::{Teller, Turn};
use model::{Fate, Luck, STALEST, Shape, World};

fn sleeping(shape: &Shape) -> World {
    let mut world = shape.awake();
    world.run(70, 0, |_, _| {});
    world.command(Wanted::Asleep);
    world.run(500, 0, |_, _| {});
    assert!((0..world.routes.len()).all(|route| world.is_on(route) == Side::Waker));
    world
}

fn wakes_with_the_owners_actions(world: World) {
    let mut teller = Teller::new(world);
    teller.world.request();
    teller.world.run(400, 0, |_, _| {});
    teller.assert_awake();
    teller.world.assert_innocent();
    // And again after the next sleep.
    teller.world.command(Wanted::Asleep);
    teller.world.run(500, 0, |_, _| {});
    teller.assert_asleep();
    teller.world.assert_innocent();
}

#[test]
fn it_comes_back_as_it_was() {
    for shape in [Shape::single(), Shape::double(), Shape::weighted_groups()] {
        let before: Vec<_> = shape.awake().routes.iter().map(|route| route.actions.clone()).collect();
        let mut world = sleeping(&shape);
        for route in &world.routes {
            // What authenticates guards the waker too.
            assert_eq!(route.actions[0].kind, "authenticate-oidc");
            assert_eq!(route.parked.len(), 1);
        }
        world.request();
        world.run(300, 0, |_, _| {});
        assert_eq!(
            world
                .routes
                .iter()
                .map(|route| route.actions.clone())
                .collect::<Vec<_>>(),
            before
        );
        world.assert_innocent();
    }
}

#[test]
fn what_the_owner_changed_while_it_slept_is_the_new_original() {
    for wait in [0, 5, 30, 59, 61, 400] {
        for ages in [[0; 3], [20; 3], [STALEST; 3]] {
            let mut teller = Teller::new(sleeping(&Shape::double()));
            teller.tell(&Turn::Rewrite(0));
            teller.world.advance(wait);
            teller.world.look(Stimulus::Tick, Luck { ages, ..Luck::good() });
            teller.world.assert_innocent();
            teller.world.run(400, 0, |_, _| {});
            teller.assert_asleep();
            wakes_with_the_owners_actions(teller.world);
        }
    }
}

#[test]
fn what_the_owner_changed_right_after_the_flip_or_while_it_wakes_is_not_overwritten() {
    for after_flip in [1, 10, 40] {
        let mut teller = Teller::new(Shape::double().awake());
        teller.world.advance(70);
        teller.world.command(Wanted::Asleep);
        teller.world.advance(after_flip);
        teller.tell(&Turn::Rewrite(1));
        teller.world.request();
        teller.world.assert_innocent();
        teller.world.run(300, 0, |_, _| {});
        teller.assert_awake();
        wakes_with_the_owners_actions(teller.world);
    }
    for into_the_wake in [1, 6, 14, 17] {
        let mut teller = Teller::new(sleeping(&Shape::double()));
        teller.world.request();
        teller.world.run(into_the_wake, 0, |_, _| {});
        teller.tell(&Turn::Rewrite(1));
        teller.world.run(300, 0, |_, _| {});
        teller.assert_awake();
        wakes_with_the_owners_actions(teller.world);
    }
}

#[test]
fn what_authenticates_may_change_while_it_sleeps() {
    let mut world = sleeping(&Shape::single());
    let changed = serde_json::json!({ "ClientId": "new" });
    world.routes[0].actions[0]
        .rest
        .0
        .insert("AuthenticateOidcConfig".to_owned(), changed.clone());
    world.changed();
    world.advance(70);
    world.request();
    world.run(300, 0, |_, _| {});
    assert_eq!(world.is_on(0), Side::Backend);
    assert_eq!(
        world.routes[0].actions[0].rest.0.get("AuthenticateOidcConfig"),
        Some(&changed)
    );
    assert_eq!(*final_action(&world.routes[0].actions).unwrap(), world.routes[0].owners);
}

#[test]
fn a_lost_doubled_or_differing_copy_is_put_right() {
    let shape = Shape::double();
    for turn in [Turn::DeleteParked(0), Turn::DoubleParked(0), Turn::LoseLedger] {
        let mut teller = Teller::new(sleeping(&shape));
        teller.world.advance(70);
        teller.tell(&turn);
        teller.world.run(130, 0, |_, _| {});
        teller.assert_asleep();
        wakes_with_the_owners_actions(teller.world);
    }
    let mut world = sleeping(&shape);
    world.routes[0].parked = vec![vec![shape.actions(1, 7)[1].clone()]];
    world.advance(70);
    world.run(130, 0, |_, _| {});
    assert_eq!(world.copies_of_original(0), [false, true, true]);
    wakes_with_the_owners_actions(world);
}

#[test]
fn a_request_right_after_the_ledger_was_lost_restores_it_from_the_parked_rules() {
    let mut teller = Teller::new(sleeping(&Shape::weighted_groups()));
    teller.world.advance(70);
    teller.tell(&Turn::LoseLedger);
    wakes_with_the_owners_actions(teller.world);
}

#[test]
fn nothing_is_flipped_that_is_not_parked() {
    for fate in [
        Fate::Refused(FaultKind::Denied),
        Fate::Refused(FaultKind::Conflict),
        Fate::QuestionLost,
    ] {
        let mut world = Shape::double().awake();
        world.run(70, 0, |_, _| {});
        world.denials.insert("park", fate);
        world.command(Wanted::Asleep);
        world.run(900, 0, |_, _| {});
        assert!((0..2).all(|route| world.is_on(route) == Side::Backend));
        assert!(!world.counts.contains_key("flip to waker"), "{:?}", world.counts);
        assert!(world.counts["park"] <= 12, "{:?}", world.counts);
        // Nor when it has died and only the page could answer.
        world.request();
        for machine in &mut world.machines {
            machine.power = proxymanager::domain::seen::Power::Stopped;
            machine.running_since = None;
            machine.falls_back = Some(true);
        }
        world.run(300, 0, |_, _| {});
        assert!(!world.counts.contains_key("flip to waker"), "{:?}", world.counts);
    }
}

#[test]
fn the_original_is_remembered_before_anything_is_touched() {
    let mut world = Shape::double().awake();
    world.run(70, 0, |_, _| {});
    // Four steps: load, lease, look, and the plan with its record stored. No call yet.
    let asleep = Stimulus::Command {
        wanted: Wanted::Asleep,
        who: "somebody".to_owned(),
    };
    let plan = world.look_and_crash(asleep, Luck::good(), 4).unwrap();
    let order: Vec<_> = plan.actions.iter().map(model::calls::name).collect();
    assert_eq!(order, ["park", "flip to waker", "park", "flip to waker"]);
    assert!(
        plan.actions
            .iter()
            .all(|action| !matches!(action, Action::FlipToBackend { .. }))
    );
    assert!((0..2).all(|route| world.copies_of_original(route) == [true, false, true]));
    let stored: Option<&Record> = world.stored.as_ref();
    assert_eq!(stored.map(|record| record.originals.len()), Some(2));
}
