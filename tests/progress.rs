//! What those who wait are told: the percentage never falls within a wake, the time left is said only when it is known, overdue is told apart from
//! unknown, and estimates are made of real starts.
//!
//! Seen red: with `elapsed` counted from `wanted_since` for a rule that died while awake; with every flip back taken for a
//! wake (the next cold start is then shown as 95 % after two seconds).

mod model;

use std::time::Duration;

use proxymanager::domain::phase::Phase;
use proxymanager::domain::progress::progress;
use proxymanager::domain::record::Record;
use proxymanager::domain::seen::{Power, Wanted};

use model::{Shape, Time, World, at};

fn told(world: &World) -> (Option<u8>, Option<Duration>, Phase) {
    let record = world.stored.as_ref().unwrap();
    let progress = progress(at(world.now), record);
    (progress.percent, progress.eta, record.snapshot.phase.clone())
}

/// Watches a wake every second until it is awake; all that was told.
fn watch(world: &mut World, longest: Time) -> Vec<(Option<u8>, Option<Duration>, Phase)> {
    let mut all = vec![told(world)];
    for _ in 0..longest {
        world.run(1, 0, |_, _| {});
        all.push(told(world));
        if all.last().is_some_and(|(_, _, phase)| *phase == Phase::Awake) {
            break;
        }
    }
    all
}

fn cycle(world: &mut World) -> Vec<(Option<u8>, Option<Duration>, Phase)> {
    world.command(Wanted::Asleep);
    world.run(600, 0, |_, _| {});
    world.request();
    watch(world, 100)
}

#[test]
fn the_first_wake_promises_nothing_and_the_next_ones_keep_their_promise() {
    let mut world = Shape::double().awake();
    let first = cycle(&mut world);
    for (percent, eta, phase) in &first {
        if *phase != Phase::Awake {
            assert_eq!((*percent, *eta), (None, None));
        }
    }
    assert_eq!(first.last().map(|last| last.0), Some(Some(100)));
    for _ in 0..10 {
        let all = cycle(&mut world);
        let percents: Vec<_> = all.iter().filter_map(|(percent, _, _)| *percent).collect();
        assert!(percents.is_sorted(), "{percents:?}");
        assert!(percents[0] < 10 && percents.contains(&100), "{percents:?}");
        let etas: Vec<_> = all.iter().filter_map(|(_, eta, _)| *eta).collect();
        assert!(etas.is_sorted_by(|one, next| one >= next), "{etas:?}");
        // As long as it takes it always takes.
        assert!(
            all.iter()
                .any(|(_, eta, _)| eta.is_some_and(|eta| eta > Duration::from_secs(10)))
        );
    }
    assert_eq!(world.stored.as_ref().unwrap().wakes.len(), 8);
}

#[test]
fn overdue_is_said_and_not_counted_down() {
    let mut world = Shape::single().awake();
    cycle(&mut world);
    world.command(Wanted::Asleep);
    world.run(600, 0, |_, _| {});
    world.machines[0].app_works = false;
    world.request();
    let all = watch(&mut world, 500);
    let percents: Vec<_> = all.iter().filter_map(|(percent, _, _)| *percent).collect();
    assert!(percents.is_sorted() && percents.last() == Some(&95));
    let typical = 40;
    let overdue = |phase: &Phase| (!matches!(phase, Phase::Failed(_))).then_some(Duration::ZERO);
    assert!(all.iter().skip(typical).all(|(_, eta, phase)| *eta == overdue(phase)));
    assert!(
        matches!(all.last(), Some((None, None, Phase::Failed(_)))),
        "{:?}",
        all.last()
    );
}

#[test]
fn what_flips_back_while_it_settles_is_no_measure_of_a_start() {
    let mut world = Shape::single().awake();
    cycle(&mut world);
    let before = world.stored.as_ref().unwrap().wakes.clone();
    for _ in 0..6 {
        world.command(Wanted::Asleep);
        world.run(30, 0, |_, _| {});
        world.request();
        world.run(3, 0, |_, _| {});
        assert_eq!(told(&world).2, Phase::Awake);
    }
    assert_eq!(world.stored.as_ref().unwrap().wakes, before);
}

#[test]
fn the_time_of_a_wake_begins_with_it() {
    let mut world = Shape::single().awake();
    cycle(&mut world);
    world.run(4000, 0, |_, _| {});
    world.machines[0].power = Power::Stopped;
    world.machines[0].running_since = None;
    world.changed();
    world.run(62, 0, |_, _| {});
    let all = watch(&mut world, 100);
    assert!(all.iter().all(|(percent, _, _)| percent.is_some()));
    assert!(all[0].0.is_some_and(|percent| percent < 50), "{:?}", all[0]);
    let record: &Record = world.stored.as_ref().unwrap();
    assert!(record.wakes.iter().all(|took| *took < 120), "{:?}", record.wakes);
}
