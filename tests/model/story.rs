//! Random histories: what may happen, and its telling.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use proxymanager::domain::fault::FaultKind;
use proxymanager::domain::plan::Plan;
use proxymanager::domain::rule::Side;
use proxymanager::domain::seen::{Power, Seen, Stimulus, Wanted};

use proxymanager::domain::time::Timestamp;

use super::calls::name;
use super::{Actor, Fate, Luck, STALEST, Time, World};

#[derive(Debug, Clone)]
pub enum Turn {
    Wait(Time),
    /// A whole look, with nobody between; dead after some steps, perhaps.
    Look(Stimulus, Luck, Option<usize>),
    /// One of two actors begins, or takes steps.
    Begin(usize, Stimulus, Luck),
    Steps(usize, usize),
    /// Looks with good luck for a while.
    Calm(Time),
    Hand(usize, bool),
    App(usize, bool),
    FallsBack(usize, Option<bool>),
    Rewrite(usize),
    DeleteParked(usize),
    DoubleParked(usize),
    LoseLedger,
    Blind(Option<FaultKind>, bool),
}

pub fn fault_kind() -> impl Strategy<Value = FaultKind> {
    use FaultKind::{Conflict, Denied, NoCapacity, NotFound, Other, Throttled};
    prop::sample::select(vec![Throttled, Denied, NoCapacity, NotFound, Conflict, Other])
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Well),
        1 => fault_kind().prop_map(Fate::Refused),
        1 => fault_kind().prop_map(Fate::Halfway),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::QuestionLost),
        1 => Just(Fate::Late),
        1 => Just(Fate::LateAndLost),
    ]
}

fn luck() -> impl Strategy<Value = Luck> {
    let age = || prop_oneof![2 => Just(0), 2 => 0..=STALEST, 1 => Just(STALEST)];
    let fates = prop_oneof![2 => Just(Vec::new()), 1 => vec(fate(), 1..5)];
    ([age(), age(), age()], fates, 0..=12_i64).prop_map(|(ages, fates, takes)| Luck { ages, fates, takes })
}

fn stimulus() -> impl Strategy<Value = Stimulus> {
    let who = || "somebody".to_owned();
    prop_oneof![
        3 => Just(Stimulus::Tick),
        1 => Just(Stimulus::StateChange),
        2 => Just(Stimulus::Request { who: who() }),
        1 => Just(Stimulus::Command { wanted: Wanted::Awake, who: who() }),
        2 => Just(Stimulus::Command { wanted: Wanted::Asleep, who: who() }),
    ]
}

pub fn turn() -> impl Strategy<Value = Turn> {
    let kind = || prop_oneof![3 => Just(None), 1 => fault_kind().prop_map(Some)];
    prop_oneof![
        6 => (1..=70_i64).prop_map(Turn::Wait),
        2 => (200..=700_i64).prop_map(Turn::Calm),
        12 => (stimulus(), luck(), prop_oneof![5 => Just(None), 1 => (0..12_usize).prop_map(Some)])
            .prop_map(|(stimulus, luck, crash)| Turn::Look(stimulus, luck, crash)),
        3 => (0..2_usize, stimulus(), luck()).prop_map(|(actor, stimulus, luck)| Turn::Begin(actor, stimulus, luck)),
        6 => (0..2_usize, 1..6_usize).prop_map(|(actor, steps)| Turn::Steps(actor, steps)),
        2 => (0..2_usize, any::<bool>()).prop_map(|(machine, start)| Turn::Hand(machine, start)),
        2 => (0..2_usize, any::<bool>()).prop_map(|(machine, works)| Turn::App(machine, works)),
        2 => (0..2_usize, prop_oneof![1 => Just(None), 1 => any::<bool>().prop_map(Some)])
            .prop_map(|(machine, how)| Turn::FallsBack(machine, how)),
        1 => (0..2_usize).prop_map(Turn::Rewrite),
        1 => (0..2_usize).prop_map(Turn::DeleteParked),
        1 => (0..2_usize).prop_map(Turn::DoubleParked),
        1 => Just(Turn::LoseLedger),
        1 => (kind(), any::<bool>()).prop_map(|(kind, machines)| Turn::Blind(kind, machines)),
    ]
}

/// The same histories in every run; PROPTEST_CASES asks for more of them. A failing one is printed, shrunk.
pub fn runner(cases: u32) -> TestRunner {
    let asked = Config::default();
    let cases = if asked.cases == 256 { cases } else { asked.cases };
    let config = Config {
        cases,
        failure_persistence: None,
        ..asked
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Which machine was last touched by hand, and so whose Describes may mislead.
pub struct Teller {
    pub world: World,
    pub actors: [Option<Actor>; 2],
    pub edition: i32,
    pub plans: Vec<Plan>,
}

impl Teller {
    pub fn new(world: World) -> Self {
        Teller {
            world,
            actors: [None, None],
            edition: 0,
            plans: Vec::new(),
        }
    }

    pub fn tell(&mut self, turn: &Turn) {
        let world = &mut self.world;
        let now = world.now;
        let hand_was_long_ago = |m: &super::Machine| m.by_hand.is_none_or(|(at, _)| now - at > 70);
        match turn {
            Turn::Wait(seconds) => world.advance(*seconds),
            Turn::Calm(seconds) => {
                let plans = &mut self.plans;
                world.run(*seconds, 0, |_, plan| plans.push(plan.clone()));
            }
            Turn::Look(stimulus, luck, crash) => {
                let plan = world.look_and_crash(stimulus.clone(), luck.clone(), crash.unwrap_or(usize::MAX));
                self.plans.extend(plan);
            }
            Turn::Begin(actor, stimulus, luck) => {
                // Begun anew while at work is a crash.
                self.actors[*actor] = Some(Actor::new(*actor, stimulus.clone(), luck.clone()));
            }
            Turn::Steps(actor, steps) => {
                for _ in 0..*steps {
                    if let Some(actor) = &mut self.actors[*actor] {
                        if actor.waits(world.now) {
                            world.advance(1);
                        }
                        actor.step(world);
                    }
                }
            }
            Turn::Hand(machine, start) => {
                if let Some(machine) = world.machines.get_mut(*machine) {
                    match (machine.power, start) {
                        (Power::Stopped, true) if hand_was_long_ago(machine) => machine.start(now),
                        (Power::Running, false) if hand_was_long_ago(machine) => machine.stop(now),
                        _ => return,
                    }
                    machine.by_hand = Some((now, *start));
                }
                world.changed();
            }
            Turn::App(machine, works) => {
                if let Some(machine) = world.machines.get_mut(*machine) {
                    machine.app_works = *works;
                }
                world.changed();
            }
            Turn::FallsBack(machine, how) => {
                if let Some(machine) = world.machines.get_mut(*machine) {
                    machine.falls_back = *how;
                }
            }
            Turn::Rewrite(route) => {
                if *route < world.routes.len() {
                    self.edition += 1;
                    let actions = world.shape.actions(*route, self.edition);
                    let route = &mut world.routes[*route];
                    route.owners = actions[1].clone();
                    route.actions = actions;
                    route.rewritten_at = Some(now);
                    world.changed();
                }
            }
            Turn::DeleteParked(route) => {
                // One copy at a time can get lost.
                if *route < world.routes.len() {
                    let [in_route, _, in_ledger] = world.copies_of_original(*route);
                    if in_route || in_ledger {
                        world.routes[*route].parked.clear();
                        world.changed();
                    }
                }
            }
            Turn::DoubleParked(route) => {
                if let Some(route) = world.routes.get_mut(*route)
                    && let Some(parked) = route.parked.first().cloned()
                {
                    route.parked.push(parked);
                }
                world.changed();
            }
            Turn::LoseLedger => {
                let elsewhere = |route| {
                    let [in_route, in_parked, _] = world.copies_of_original(route);
                    in_route || in_parked
                };
                // An actor at work would bring it back, and its lease would be gone.
                let at_work = self.actors.iter().flatten().any(|actor| !actor.is_over());
                // A rule changed within the minute before, so that nobody can see how it is, is another accident.
                let then = world.view_of(STALEST).routes;
                let since = world.past.iter().filter(|(at, _)| now - at <= STALEST);
                let changed = since.map(|(_, view)| &view.routes).any(|routes| *routes != then);
                if (0..world.routes.len()).all(elsewhere) && !at_work && !changed {
                    world.stored = None;
                }
            }
            Turn::Blind(kind, machines) => {
                *(if *machines {
                    &mut world.blind_machines
                } else {
                    &mut world.blind_health
                }) = *kind;
            }
        }
    }

    /// From here on AWS behaves, and nobody interferes.
    pub fn end_of_trouble(&mut self) {
        self.actors = [None, None];
        let world = &mut self.world;
        world.blind_machines = None;
        world.blind_health = None;
        world.denials.clear();
        for machine in &mut world.machines {
            machine.app_works = true;
            machine.falls_back = None;
        }
        world.changed();
        world.advance(70);
    }

    pub fn assert_awake(&self) {
        let world = &self.world;
        let phase = world.stored.as_ref().map(|record| &record.snapshot);
        for route in 0..world.routes.len() {
            assert_eq!(world.is_on(route), Side::Backend, "{phase:?}");
            assert_eq!(
                *super::judge_final(&world.routes[route].actions),
                world.routes[route].owners
            );
        }
        assert!(world.machines.iter().any(|m| m.power == Power::Running), "{phase:?}");
    }

    pub fn assert_asleep(&self) {
        let world = &self.world;
        let phase = world.stored.as_ref().map(|record| &record.snapshot);
        for route in 0..world.routes.len() {
            assert_eq!(world.is_on(route), Side::Waker, "{phase:?}");
            assert_eq!(world.copies_of_original(route), [false, true, true], "{phase:?}");
            assert_eq!(world.routes[route].parked.len(), 1);
        }
        assert!(
            world.machines.iter().all(|m| m.power == Power::Stopped),
            "{phase:?} {:?}",
            world.machines
        );
    }
}

impl World {
    /// What every plan keeps to, whatever it was shown.
    pub fn judge_plan(&mut self, now: Timestamp, seen: &Seen, stimulus: &Stimulus, plan: &Plan) {
        // What somebody overtook will never be stored, and so never be done.
        if self
            .stored
            .as_ref()
            .is_some_and(|stored| stored.version != seen.record.version)
        {
            return;
        }
        if plan.next_check <= now {
            self.violations
                .push(format!("I5: next check at {} at {now}", plan.next_check));
        }
        let woke = plan.record.wanted == Wanted::Awake && (seen.record.wanted == Wanted::Asleep);
        // What is being put to sleep as idle turns out to be in use, and has not been stopped yet.
        let proven_used = seen.record.prove_from.is_some() && self.machines.iter().any(|m| m.power == Power::Running);
        let may_wake = match stimulus {
            _ if proven_used => true,
            Stimulus::Request { .. } | Stimulus::Command { .. } => true,
            Stimulus::KeepAwake { .. } => false,
            Stimulus::Tick | Stimulus::StateChange => self
                .machines
                .iter()
                .any(|m| m.by_hand.is_some_and(|(at, start)| start && self.now - at <= 7200)),
        };
        if woke && !may_wake {
            self.violations.push(format!(
                "I4: woken by {stimulus:?} at {}: {}",
                self.now, plan.record.wanted_by
            ));
        }
        let names: Vec<_> = plan.actions.iter().map(name).collect();
        if names.contains(&"stop") && names.iter().any(|name| *name != "stop" && *name != "park") {
            self.violations.push(format!("I2: one plan with {names:?}"));
        }
    }
}
