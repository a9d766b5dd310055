//! `autostopping:wakes-per-day`: only what a request starts is counted and refused, whoever asks and however many at once.
//!
//! Seen red: with nobody refused; with a rule counted that is only brought back.

mod model;

use model::{Shape, Time, World, at};
use proxymanager::domain::phase::Phase;
use proxymanager::domain::seen::{Power, Wanted};
use proxymanager::domain::time::Timestamp;
use proxymanager::domain::today;

const DAY: Time = 86_400;

fn limited(mut world: World, most: u32) -> World {
    world.rule.policy.wakes_per_day = Some(most);
    world
}

fn woken_today(world: &World) -> u32 {
    let record = world.stored.as_ref().expect("a record");
    record.woken_today.on(at(world.now))
}

/// Until when a request is refused without a look.
fn used_up(world: &World) -> Option<Timestamp> {
    let record = world.stored.as_ref().expect("a record");
    today::used_up(at(world.now), &world.rule, record)
}

fn sleep(world: &mut World) {
    world.command(Wanted::Asleep);
    world.run(900, 0, |_, _| {});
    assert_eq!(world.machines[0].power, Power::Stopped);
}

#[test]
fn a_request_beyond_them_starts_nothing_until_tomorrow() {
    let mut world = limited(Shape::single().asleep(), 2);
    for times in 1..=2 {
        // One wake is one, however many ask for it.
        for _ in 0..5 {
            world.request();
        }
        world.run(600, 0, |_, _| {});
        assert_eq!((woken_today(&world), world.machines[0].power), (times, Power::Running));
        sleep(&mut world);
    }
    assert!(used_up(&world).is_some());
    let refused = world.request().expect("a look");
    assert_eq!((refused.phase, refused.record.wanted), (Phase::Asleep, Wanted::Asleep));
    assert!(refused.actions.is_empty() && refused.events.is_empty());
    assert_eq!((woken_today(&world), world.machines[0].power), (2, Power::Stopped));
    world.advance(DAY);
    world.request();
    assert_eq!((woken_today(&world), world.machines[0].power), (1, Power::Pending));
}

#[test]
fn a_command_is_neither_counted_nor_refused() {
    let mut world = limited(Shape::single().asleep(), 1);
    world.request();
    world.run(600, 0, |_, _| {});
    sleep(&mut world);
    world.command(Wanted::Awake);
    assert_eq!((woken_today(&world), world.machines[0].power), (1, Power::Pending));
}

#[test]
fn who_brings_back_what_is_not_stopped_yet_is_not_counted() {
    let mut world = limited(Shape::single().asleep(), 1);
    world.request();
    world.run(600, 0, |_, _| {});
    world.command(Wanted::Asleep);
    world.run(100, 0, |_, _| {});
    let settling = world.stored.as_ref().map(|record| record.snapshot.phase.clone());
    assert_eq!(
        (settling, world.machines[0].power),
        (Some(Phase::Settling), Power::Running)
    );
    // Nor is it turned away before anybody has looked at the machines.
    assert_eq!(used_up(&world), None);
    let back = world.request().expect("a look");
    assert_eq!((back.record.wanted, woken_today(&world)), (Wanted::Awake, 1));
}

#[test]
fn without_the_tag_nothing_is_counted() {
    let mut world = Shape::single().asleep();
    world.request();
    assert_eq!((woken_today(&world), world.machines[0].power), (0, Power::Pending));
}
