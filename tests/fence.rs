//! I7: two wakers and two sleepers at one rule, interleaved at every step in every order, with crashes and leases that run
//! out: no stop ever overlaps a start or a flip to the backend of somebody else.
//!
//! Seen red: `without_the_version_condition_they_cross` is the same search with the condition taken out, and has to find a
//! crossing. With `leased_to_another` always saying no, `no_stop_crosses_a_wake` fails.

mod model;

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use proxymanager::domain::seen::{Power, Stimulus, Wanted};

use model::calls::name;
use model::drive::LEASE;
use model::{Actor, HEALTHY_AFTER, Luck, Shape, Stage, Time, World, at};

const CALL_TAKES: Time = 5;

#[derive(Clone)]
struct State {
    world: World,
    actors: Vec<Actor>,
    crashes_left: u8,
    leases_may_run_out: u8,
}

#[derive(Debug, Clone, Copy)]
enum Move {
    Step(usize),
    Crash(usize),
    CallsEnd,
    LeasesRunOut,
}

fn stimulus(actor: usize) -> Stimulus {
    let who = "somebody".to_owned();
    match actor {
        0 | 1 => Stimulus::Request { who },
        _ => Stimulus::Command {
            wanted: Wanted::Asleep,
            who,
        },
    }
}

fn begun(actor: usize) -> Actor {
    Actor::new(
        actor,
        stimulus(actor),
        Luck {
            takes: CALL_TAKES,
            ..Luck::good()
        },
    )
}

/// Settled and about to be stopped, while two want it up: a stop and a flip back are both one look away.
fn beginning(fence: bool) -> State {
    let mut shape = Shape::single();
    shape.settle = 0;
    let mut world = shape.asleep();
    world.machines[0].power = Power::Running;
    world.machines[0].running_since = Some(-HEALTHY_AFTER - 600);
    world.machines[0].we_stop = false;
    world.stored.as_mut().unwrap().settling_since = Some(at(-600));
    world.fence = fence;
    world.keeps_past = false;
    world.past.clear();
    world.changed();
    State {
        world,
        actors: (0..4).map(begun).collect(),
        crashes_left: 1,
        leases_may_run_out: 1,
    }
}

impl State {
    fn moves(&self) -> Vec<Move> {
        let now = self.world.now;
        let mut moves = Vec::new();
        for (index, actor) in self.actors.iter().enumerate() {
            // The two of a kind are alike, so the first begins first.
            let second = index % 2 == 1 && actor.stage == Stage::Begin && self.actors[index - 1].stage == Stage::Begin;
            if !actor.is_over() && !actor.waits(now) && !second {
                moves.push(Move::Step(index));
            }
            // Before it has the lease, a crash is no different from never going on.
            let matters = matches!(
                actor.stage,
                Stage::Leased(_) | Stage::Acting(_) | Stage::Answered(..) | Stage::Finish(_)
            );
            if matters && self.crashes_left > 0 {
                moves.push(Move::Crash(index));
            }
        }
        if self.world.in_flight.is_empty() {
            if self.leases_may_run_out > 0 {
                moves.push(Move::LeasesRunOut);
            }
        } else {
            // A call ends before its lease does: the one assumption.
            moves.push(Move::CallsEnd);
        }
        moves
    }

    fn after(&self, next: Move) -> State {
        let mut state = self.clone();
        match next {
            Move::Step(index) => {
                let actor = &mut state.actors[index];
                actor.step(&mut state.world);
                if matches!(actor.stage, Stage::Observed(..)) {
                    actor.step(&mut state.world);
                }
                actor.last = None;
                if actor.is_over() {
                    actor.stage = Stage::Done;
                }
            }
            Move::Crash(index) => {
                state.crashes_left -= 1;
                state.actors[index].stage = Stage::Done;
            }
            Move::CallsEnd => state.world.advance(CALL_TAKES),
            Move::LeasesRunOut => {
                state.leases_may_run_out -= 1;
                state.world.advance(LEASE + 1);
            }
        }
        state.world.counts.clear();
        state
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        // What never changes here is left out.
        let world = &self.world;
        (
            world.now,
            &world.machines,
            &world.routes,
            &world.stored,
            &world.in_flight,
        )
            .hash(&mut hasher);
        (self.crashes_left, self.leases_may_run_out).hash(&mut hasher);
        for actor in &self.actors {
            actor.stage.hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// How many states are within reach, and the calls made there.
type Searched = (usize, BTreeSet<&'static str>);

/// All states within reach, and the names of the calls made there; or the way to the first violation that counts.
fn search(fence: bool, counts: fn(&str) -> bool) -> Result<Searched, (Vec<Move>, String)> {
    let beginning = beginning(fence);
    let mut visited = HashSet::from([beginning.fingerprint()]);
    let mut open = vec![(beginning, Vec::new())];
    let mut calls = BTreeSet::new();
    while let Some((state, way)) = open.pop() {
        for next in state.moves() {
            let mut reached = state.after(next);
            calls.extend(reached.world.in_flight.iter().map(|call| name(&call.action)));
            let mut way = way.clone();
            way.push(next);
            if let Some(violation) = reached.world.violations.iter().find(|violation| counts(violation)) {
                return Err((way, violation.clone()));
            }
            reached.world.violations.clear();
            if visited.insert(reached.fingerprint()) {
                open.push((reached, way));
            }
        }
    }
    Ok((visited.len(), calls))
}

#[test]
fn no_stop_crosses_a_wake() {
    match search(true, |_| true) {
        Ok((states, calls)) => {
            assert!(states > 10_000, "only {states} states");
            assert!(calls.contains("stop") && calls.contains("flip to backend"), "{calls:?}");
        }
        Err((way, violation)) => panic!("{violation} by {way:?}"),
    }
}

#[test]
fn without_the_version_condition_they_cross() {
    let crossed = |violation: &str| violation.contains("I7");
    let found = search(false, crossed);
    assert!(found.is_err(), "the fence must be what keeps them apart");
}
