//! Every state that two wakers, two sweepers, an operator, a user and an outsider can reach within small budgets, from the
//! moments that matter: about to be found idle, about to stop, asleep, about to flip. They take the single steps of the
//! shipped driver with the shipped `plan`, outcomes and lease, and are judged by the world's truth.
//!
//! Seen red: with the proof left out or begun at the flip (in use and stopped); with `down_lately` ignored, with health not asked
//! for and with `last_stop` taken back after a lost answer (I1); with `asked` not noted before the call and with the settling
//! counted from the wish (I2); with the lease of another unheeded (I8); with R's action not noted before
//! the flip and with ticks that wake (I6); with R's action kept nowhere (I10).

#[path = "stateright_model/envoy.rs"]
mod envoy;
mod model;
#[path = "stateright_model/play.rs"]
mod play;
#[path = "stateright_model/telling.rs"]
mod telling;

use std::collections::BTreeSet;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use play::{Budget, Move, Play, Sight};
use telling::{beginnings, story};

/// All that can happen within these budgets from any of the beginnings.
struct Site {
    left: Budget,
    fence: bool,
}

fn innocent(of: &str, play: &Play) -> bool {
    !play.world.violations.iter().any(|violation| violation.contains(of))
}

fn is(phase: &str, play: &Play) -> bool {
    play.record().snapshot.phase.name() == phase
}

impl Model for Site {
    type State = Play;
    type Action = Move;

    fn init_states(&self) -> Vec<Play> {
        let plays = beginnings().into_iter().map(|mut world| {
            (world.fence, world.leases) = (self.fence, self.fence);
            Play::new(world, self.left)
        });
        plays.collect()
    }

    fn actions(&self, play: &Play, moves: &mut Vec<Move>) {
        play.moves(moves);
    }

    fn next_state(&self, play: &Play, next: Move) -> Option<Play> {
        Some(play.after(next))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let no_crossing = Property::always("I7: no opposite actions at once", |_, play| innocent("I7", play));
        if !self.fence {
            return vec![no_crossing];
        }
        vec![
            no_crossing,
            Property::always("I1: only to what is healthy", |_, play| innocent("I1", play)),
            Property::always("I2: flip, settle, stop", |_, play| innocent("I2", play)),
            Property::always("I4: ticks do not wake", |_, play| innocent("I4", play)),
            Property::always("I5: a later look", |_, play| innocent("I5", play)),
            Property::always("I8: stop under the lease", |_, play| innocent("I8", play)),
            Property::always("I10: the original is kept", |_, play| innocent("I10", play)),
            Property::always("what is used is not stopped", |_, play| {
                innocent("stopped as idle", play)
            }),
            Property::always("I6: it ends as wanted", |_, play: &Play| {
                !play.is_at_its_end() || play.ends_well().is_ok()
            }),
            Property::sometimes("asleep", |_, play| is("asleep", play)),
            Property::sometimes("starting", |_, play| is("starting", play)),
            Property::sometimes("checking", |_, play| is("checking", play)),
            Property::sometimes("switching", |_, play| is("switching", play)),
            Property::sometimes("awake", |_, play| is("awake", play)),
            Property::sometimes("settling", |_, play| is("settling", play)),
            Property::sometimes("stopping", |_, play| is("stopping", play)),
            Property::sometimes("failed", |_, play| is("failed", play)),
            Property::sometimes("stopped late", |_, play: &Play| play.seen == Some(Sight::StopLate)),
            Property::sometimes("overtaken", |_, play: &Play| play.seen == Some(Sight::Overtaken)),
            Property::sometimes("found used", |_, play: &Play| play.seen == Some(Sight::FoundUsed)),
            Property::sometimes("parked twice", |_, play: &Play| play.world.routes[0].parked.len() == 2),
        ]
    }
}

#[test]
fn nothing_that_may_happen_breaks_a_promise() {
    let crowd = Budget {
        requests: 2,
        ticks: 2,
        switches: 1,
        ..Budget::default()
    };
    let trouble = Budget {
        requests: 1,
        ticks: 2,
        troubles: 1,
        visits: 1,
        ..Budget::default()
    };
    let trouble_between_two = Budget {
        requests: 1,
        ticks: 1,
        switches: 1,
        troubles: 1,
        ..Budget::default()
    };
    let more_trouble = Budget {
        ticks: 3,
        troubles: 2,
        ..Budget::default()
    };
    let old_news = Budget {
        requests: 1,
        ticks: 1,
        commands: 1,
        troubles: 1,
        old_news: true,
        ..Budget::default()
    };
    let (mut states, mut sights, mut all_sights) = (0, BTreeSet::new(), BTreeSet::new());
    for left in [crowd, trouble, trouble_between_two, more_trouble, old_news] {
        let site = Site { left, fence: true };
        let sights_of_site: BTreeSet<_> = site
            .properties()
            .into_iter()
            .filter(|property| property.expectation == Expectation::Sometimes)
            .map(|property| property.name)
            .collect();
        let checker = site
            .checker()
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        states += checker.unique_state_count();
        for (name, path) in checker.discoveries() {
            assert!(sights_of_site.contains(name), "not {name}:\n{}", story(path));
            sights.insert(name);
        }
        all_sights = sights_of_site;
    }
    assert_eq!(sights, all_sights);
    assert!(states > 100_000, "only {states} states");
}

/// The same world, in which nobody heeds another's lease and no write is conditional.
#[test]
fn without_the_fence_opposite_actions_cross() {
    let left = Budget {
        requests: 1,
        ticks: 1,
        switches: 2,
        ..Budget::default()
    };
    let site = Site { left, fence: false };
    let checker = site.checker().threads(1).spawn_bfs().join();
    let crossing = checker.discoveries().into_values().next();
    let story = story(crossing.expect("the fence must be what keeps them apart"));
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write("tests/stateright_model/without_the_fence.txt", &story).unwrap();
    }
    // WRITE_GOLDEN=1 writes it anew.
    assert_eq!(story, include_str!("stateright_model/without_the_fence.txt"));
}
