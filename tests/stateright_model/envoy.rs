//! The same with Envoy for a gateway, where it differs from a load balancer: a flip is stored, told and acknowledged in three
//! steps, a connection may come by the old way until Envoy has taken it, connections wait, load reports are late, and the daemon
//! may die between any two steps and come back with Envoy or without.
//!
//! Seen red: with the settling ignored (I2, I6) and with health not asked for (I6).

use std::collections::BTreeSet;
use std::time::Duration;

use proxymanager::domain::phase::Phase;
use proxymanager::domain::plan::Action;
use proxymanager::domain::rule::Side;
use proxymanager::domain::seen::{Power, Stimulus, Wanted};
use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use crate::model::calls::name;
use crate::model::{Actor, Fate, Luck, Shape, Stage, Time, World};
use crate::play::time;

/// How long a call takes; Envoy has a flip in half of it.
const CALL_TAKES: Time = 5;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Play {
    world: World,
    /// The one task that looks at the rule.
    actor: Option<Actor>,
    /// Daemons so far, by their leases; none at work while it is down.
    daemon: usize,
    up: bool,
    left: Budget,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Budget {
    ticks: u8,
    connects: u8,
    commands: u8,
    troubles: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    Tick,
    /// Who waits has rung.
    Ring,
    Command,
    Step,
    Fated(Fate),
    /// The daemon dies; what it has told arrives, or is lost.
    Dies(bool),
    /// It is back, with Envoy connected at once or a good while later.
    Returns(bool),
    Connect,
    Wait,
    Calm,
}

impl Play {
    fn phase(&self) -> &Phase {
        &self.world.record().snapshot.phase
    }

    fn waits(&self) -> bool {
        self.world.envoy.as_ref().is_some_and(|envoy| envoy.waits)
    }

    fn next_action(&self) -> Option<&Action> {
        match &self.actor.as_ref()?.stage {
            Stage::Acting(acting) => acting.actions.get(acting.next),
            _ => None,
        }
    }

    fn moves(&self, moves: &mut Vec<Move>) {
        let Budget {
            ticks,
            connects,
            commands,
            troubles,
        } = self.left;
        let answer_awaited = self.actor.as_ref().is_some_and(|actor| actor.waits(self.world.now));
        if !self.up {
            moves.push(Move::Returns(true));
            moves.push(Move::Returns(false));
        } else if self.actor.is_none() {
            let lease = self.world.record().lease.as_ref();
            let free = lease.is_none_or(|lease| time(lease.until) <= self.world.now);
            let due = time(self.world.record().next_check) <= self.world.now;
            if free && due && ticks > 0 {
                moves.push(Move::Tick);
            }
            if free && self.waits() && self.world.record().wanted == Wanted::Asleep {
                moves.push(Move::Ring);
            }
            if free && commands > 0 {
                moves.push(Move::Command);
            }
            if (!free || !due) && ticks > 0 {
                moves.push(Move::Wait);
            }
            if ticks > 0 && *self.phase() == Phase::Settling {
                moves.push(Move::Calm);
            }
        } else if answer_awaited {
            moves.push(Move::Wait);
        } else {
            moves.push(Move::Step);
            match self.next_action() {
                Some(Action::FlipToWaker { .. } | Action::FlipToBackend { .. }) if troubles > 0 => {
                    moves.push(Move::Fated(Fate::Late));
                }
                Some(Action::Start { .. }) if troubles > 0 => moves.push(Move::Fated(Fate::AnswerLost)),
                _ => {}
            }
        }
        let told = self.world.envoy.as_ref().is_some_and(|envoy| envoy.told.is_some());
        if self.up && troubles > 0 && (self.actor.is_some() || told) {
            moves.push(Move::Dies(true));
            if told {
                moves.push(Move::Dies(false));
            }
        }
        if connects > 0 && !self.waits() {
            moves.push(Move::Connect);
        }
    }

    fn after(&self, next: Move) -> Play {
        let mut play = self.clone();
        let left = &mut play.left;
        match next {
            Move::Tick | Move::Calm => left.ticks -= 1,
            Move::Command => left.commands -= 1,
            Move::Connect => left.connects -= 1,
            Move::Fated(_) | Move::Dies(_) => left.troubles -= 1,
            Move::Ring | Move::Step | Move::Returns(_) | Move::Wait => {}
        }
        let who = || "somebody".to_owned();
        match next {
            Move::Tick => play.begin(Stimulus::Tick),
            Move::Ring => play.begin(Stimulus::Request { who: who() }),
            Move::Command => play.begin(Stimulus::Command {
                wanted: Wanted::Asleep,
                who: who(),
            }),
            Move::Step => play.step(Fate::Well),
            Move::Fated(fate) => play.step(fate),
            Move::Dies(arrives) => {
                (play.actor, play.up) = (None, false);
                play.world.daemon_ends(arrives);
            }
            Move::Returns(connected) => {
                play.up = true;
                play.daemon += 1;
                play.world.daemon_returns(if connected { 1 } else { 100 });
                if connected {
                    // Nothing is looked at before Envoy has what it is told.
                    play.world.advance(1);
                }
            }
            Move::Connect => play.world.connect(),
            Move::Wait => play.wait(),
            Move::Calm => {
                let until = play.world.now + 180;
                play.world.live(until, &[]);
            }
        }
        play.world.counts.clear();
        play.world.past.clear();
        play
    }

    fn begin(&mut self, stimulus: Stimulus) {
        let luck = Luck {
            takes: CALL_TAKES,
            ..Luck::good()
        };
        self.actor = Some(Actor::new(self.daemon, stimulus, luck));
        self.step(Fate::Well);
    }

    fn step(&mut self, fate: Fate) {
        let Some(actor) = &mut self.actor else { return };
        actor.luck.fates = vec![fate];
        actor.step(&mut self.world);
        // What only another's step can make a difference to is one step.
        while matches!(&actor.stage, Stage::Loaded(_) | Stage::Observed(..)) {
            actor.step(&mut self.world);
        }
        actor.last = None;
        actor.luck.fates.clear();
        if actor.is_over() {
            self.actor = None;
        }
    }

    fn wait(&mut self) {
        let world = &mut self.world;
        let record = world.record();
        let lease = record.lease.as_ref().map_or(0, |lease| time(lease.until));
        let moments = [time(record.next_check), lease, world.next_event()];
        let next = moments.into_iter().filter(|moment| *moment > world.now).min();
        world.advance(next.map_or(60, |next| next.min(world.now + 600) - world.now));
    }

    fn is_at_its_end(&self) -> bool {
        self.left.ticks + self.left.commands + self.left.connects == 0 && self.actor.is_none() && self.up
    }

    /// Whether who waits is served by the schedule and his ring alone, and what nobody uses sleeps.
    fn ends_well(&self) -> Result<(), String> {
        let mut world = self.world.clone();
        let begun = world.now;
        let (waits, told_off) = (self.waits(), world.record().wanted == Wanted::Asleep);
        if waits && told_off {
            let lease = world.record().lease.as_ref().map_or(0, |lease| time(lease.until));
            world.advance((lease - world.now).max(0));
            world.request();
        }
        sweep(&mut world, begun + 400);
        let phase = world.record().snapshot.phase.clone();
        if waits && world.envoy.as_ref().is_some_and(|envoy| envoy.waits) {
            return Err(format!("I6: somebody still waits after 400 s, {phase:?}"));
        }
        sweep(&mut world, begun + 4000);
        let (phase, power) = (&world.record().snapshot.phase, world.machines[0].power);
        if *phase != Phase::Asleep || power != Power::Stopped || world.is_on(0) != Side::Waker {
            let last = (&world.envoy, &world.record().failures);
            return Err(format!("I6: unused, and at last {phase:?}, {power:?}, {last:?}"));
        }
        world.violations.first().map_or(Ok(()), |first| Err(first.clone()))
    }
}

/// The looks of the rule's task: a rule at rest is looked at each minute.
fn sweep(world: &mut World, until: Time) {
    while world.now < until {
        let record = world.record();
        let lease = record.lease.as_ref().map_or(0, |lease| time(lease.until));
        let rests = record.rests_until.map_or(0, time).min(world.now + 60);
        let due = time(record.next_check).max(lease).max(rests).clamp(world.now, until);
        world.advance(due - world.now);
        world.tick();
        world.advance(1);
    }
}

/// About to be found idle, about to stop, asleep, about to flip.
fn beginnings() -> [World; 4] {
    let shape = Shape {
        settle: 3,
        idle: 300,
        ..Shape::single()
    };
    let mut world = shape.up();
    world.rule.policy.metrics_delay = Duration::from_secs(10);
    world.rule.policy.describe_delay = Duration::from_secs(5);
    world.rule.policy.busy_network = None;
    // Nothing is seen but what is.
    world.keeps_past = false;
    world.past.clear();
    world.traffic().delay = 5;
    world = world.behind_envoy();
    world.tick();
    let at_ = |until: Time, world: &mut World| {
        world.live(until, &[]);
        world.counts.clear();
        world.in_flight.clear();
        world.clone()
    };
    let due = at_(310, &mut world);
    let settled = at_(480, &mut world);
    let asleep = at_(1200, &mut world);
    world.request();
    let ready = at_(1217, &mut world);
    [due, settled, asleep, ready]
}

struct Proxy(Budget);

fn innocent(of: &str, play: &Play) -> bool {
    !play.world.violations.iter().any(|violation| violation.contains(of))
}

impl Model for Proxy {
    type State = Play;
    type Action = Move;

    fn init_states(&self) -> Vec<Play> {
        let play = |world| Play {
            world,
            actor: None,
            daemon: 0,
            up: true,
            left: self.0,
        };
        beginnings().into_iter().map(play).collect()
    }

    fn actions(&self, play: &Play, moves: &mut Vec<Move>) {
        play.moves(moves);
    }

    fn next_state(&self, play: &Play, next: Move) -> Option<Play> {
        Some(play.after(next))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I1: only to what is healthy", |_, play| innocent("I1", play)),
            Property::always("I2: flip, settle, stop", |_, play| innocent("I2", play)),
            Property::always("I4: ticks do not wake", |_, play| innocent("I4", play)),
            Property::always("I5: a later look", |_, play| innocent("I5", play)),
            Property::always("I7: no opposite actions at once", |_, play| innocent("I7", play)),
            Property::always("I8: stop under the lease", |_, play| innocent("I8", play)),
            Property::always("I10: the original is kept", |_, play| innocent("I10", play)),
            Property::always("what is used is not stopped", |_, play| {
                innocent("stopped as idle", play)
            }),
            Property::always("I6: it ends as wanted", |_, play: &Play| {
                !play.is_at_its_end() || play.ends_well().is_ok()
            }),
            Property::sometimes("asleep", |_, play: &Play| play.phase().name() == "asleep"),
            Property::sometimes("starting", |_, play: &Play| play.phase().name() == "starting"),
            Property::sometimes("awake", |_, play: &Play| play.phase().name() == "awake"),
            Property::sometimes("settling", |_, play: &Play| play.phase().name() == "settling"),
            Property::sometimes("stopping", |_, play: &Play| play.phase().name() == "stopping"),
            Property::sometimes("waiting", |_, play: &Play| play.waits()),
            Property::sometimes("by the old way", |_, play: &Play| {
                let stored = play.world.envoy.as_ref().map(|envoy| envoy.stored);
                stored == Some(Side::Waker) && play.world.is_on(0) == Side::Backend
            }),
        ]
    }
}

fn told(path: stateright::Path<Play, Move>) -> String {
    let steps = path.into_vec();
    let mut lines: Vec<String> = steps
        .iter()
        .filter_map(|(play, next)| {
            let doing = play.next_action().map(name).unwrap_or_default();
            Some(format!(
                "{:>5} {:<12} {:?} {doing}",
                play.world.now,
                play.phase().name(),
                (*next)?
            ))
        })
        .collect();
    if let Some((last, _)) = steps.last() {
        lines.extend(last.world.violations.iter().cloned());
        lines.extend(last.is_at_its_end().then(|| last.ends_well().err()).flatten());
    }
    lines.join("\n")
}

#[test]
fn nothing_that_may_happen_behind_envoy_breaks_a_promise() {
    let budgets = [
        Budget {
            ticks: 2,
            connects: 1,
            troubles: 1,
            ..Budget::default()
        },
        Budget {
            ticks: 1,
            connects: 1,
            commands: 1,
            troubles: 1,
        },
    ];
    let (mut states, mut sights, mut all) = (0, BTreeSet::new(), BTreeSet::new());
    for budget in budgets {
        let proxy = Proxy(budget);
        let properties = proxy.properties();
        let sometimes = properties.iter().filter(|it| it.expectation == Expectation::Sometimes);
        all = sometimes.map(|property| property.name).collect();
        let checker = proxy
            .checker()
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        states += checker.unique_state_count();
        for (name, path) in checker.discoveries() {
            assert!(all.contains(name), "not {name}:\n{}", told(path));
            sights.insert(name);
        }
    }
    println!("{states} states");
    assert_eq!(sights, all);
    assert!(states > 5_000, "only {states} states");
}
