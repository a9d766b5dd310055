//! Where the plays begin, and how one is told.

use std::time::Duration;

use stateright::Path;

use crate::model::calls::name;
use crate::model::drive::Acting;
use crate::model::{Shape, Stage, Time, World};
use crate::play::{Move, Play};

/// The shape of the site: two routes to one machine.
fn shape() -> Shape {
    Shape {
        routes: vec![vec![(0, 1)], vec![(0, 1)]],
        groups: vec![vec![0]],
        // Shorter than a Describe may be stale, as in the local cloud.
        settle: 3,
        idle: 300,
        ..Shape::single()
    }
}

/// Moments from which everything of interest is a few looks away.
pub fn beginnings() -> [World; 4] {
    let mut world = shape().up();
    world.rule.policy.metrics_delay = Duration::from_secs(60);
    world.rule.policy.busy_network = None;
    world.traffic();
    world.tick();
    let at_ = |until: Time, world: &mut World| {
        world.live(until, &[]);
        world.counts.clear();
        world.in_flight.clear();
        world.clone()
    };
    let due = at_(360, &mut world);
    let settled = at_(540, &mut world);
    let asleep = at_(1200, &mut world);
    world.request();
    let ready = at_(1217, &mut world);
    [due, settled, asleep, ready]
}

/// A move as a line of a story.
fn told(before: &Play, next: Move, after: &Play) -> String {
    let who = |index: usize| format!("{} {}", if index < 2 { "waker" } else { "sweeper" }, index % 2 + 1);
    let did = |index: usize| {
        let stage = after.actors[index].as_ref().map(|actor| &actor.stage);
        match (before.actors[index].as_ref().map(|actor| &actor.stage), stage) {
            (None, _) => "reads the ledger".to_owned(),
            (Some(Stage::Loaded(_)), Some(Stage::Leased(_))) => "takes the lease".to_owned(),
            (Some(Stage::Leased(_)), Some(Stage::Acting(acting))) => format!("looks, and wants to {}", wanted(acting)),
            (Some(Stage::Acting(acting)), Some(Stage::Answered(..))) => {
                format!("begins to {}", name(&acting.actions[acting.next]))
            }
            (Some(Stage::Answered(..)), Some(_)) => "notes the outcome".to_owned(),
            (Some(_), None) => "is done".to_owned(),
            (Some(_), Some(_)) => "goes on".to_owned(),
        }
    };
    match next {
        Move::Begin(index) | Move::Step(index) => format!("{} {}", who(index), did(index)),
        Move::BeginStale(index) => format!("{} reads the ledger, and will see old news", who(index)),
        Move::Fated(index, fate) => format!("{} {} ({fate:?})", who(index), did(index)),
        Move::Command => "an operator says sleep; sweeper 1 reads the ledger".to_owned(),
        Move::Crash(index) => format!("{} dies", who(index)),
        Move::Wait => format!("{} s pass", after.world.now - before.world.now),
        Move::Calm => "three minutes pass".to_owned(),
        Move::Visit => "somebody uses the second route".to_owned(),
        Move::Rewrite => "somebody rewrites the first route".to_owned(),
        Move::DeleteParked => "somebody deletes a parked rule".to_owned(),
        Move::DoubleParked => "a parked rule is there twice".to_owned(),
    }
}

fn wanted(acting: &Acting) -> String {
    acting.actions.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// The story of a path, a line for each move, and what was wrong in the end.
pub fn story(path: Path<Play, Move>) -> String {
    let steps = path.into_vec();
    let begun = &steps[0].0;
    let mut lines = vec![format!("The rule is {}.", begun.record().snapshot.phase.name())];
    for two in steps.windows(2) {
        let (Some(next), after) = (two[0].1, &two[1].0) else {
            continue;
        };
        lines.push(told(&two[0].0, next, after));
    }
    if let Some((last, _)) = steps.last() {
        lines.extend(last.world.violations.iter().cloned());
        lines.extend(
            Some(last)
                .filter(|last| last.is_at_its_end())
                .and_then(|last| last.ends_well().err()),
        );
    }
    lines.join("\n") + "\n"
}
