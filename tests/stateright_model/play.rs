//! What may happen next to two who wake and two who sweep, and what it comes to.

use proxymanager::domain::fault::FaultKind;
use proxymanager::domain::phase::Phase;
use proxymanager::domain::plan::Action;
use proxymanager::domain::record::Record;
use proxymanager::domain::rule::Side;
use proxymanager::domain::seen::{Power, Stimulus, Wanted};
use proxymanager::domain::time::Timestamp;

use crate::model::calls::name;
use crate::model::drive::Acting;
use crate::model::{Actor, Fate, Luck, STALEST, Shape, Stage, Time, World, at};

/// How long a call takes, and how long at most.
const CALL_TAKES: Time = 5;
const LATEST: Time = 12;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Play {
    pub world: World,
    /// Two wakers, then two sweepers. None is resting.
    pub actors: [Option<Actor>; 4],
    /// Whoever took the last step and could take another.
    pub running: Option<usize>,
    pub left: Budget,
    /// Something interesting that just happened.
    pub seen: Option<Sight>,
}

/// What is left to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budget {
    pub requests: u8,
    pub ticks: u8,
    /// How often somebody comes before the one who could go on, or time passes before he does.
    pub switches: u8,
    pub troubles: u8,
    pub visits: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sight {
    /// A stop took its effect as late as it may.
    StopLate,
    /// Somebody found that another was faster.
    Overtaken,
    /// What was being put to sleep turned out to be used.
    FoundUsed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    Begin(usize),
    BeginStale(usize),
    Step(usize),
    /// A step whose call ends in this way.
    Fated(usize, Fate),
    Crash(usize),
    /// To the next moment in which something happens.
    Wait,
    /// Three minutes of settling, with nobody about but the schedule.
    Calm,
    /// Somebody uses the second route.
    Visit,
    Rewrite,
    DeleteParked,
    DoubleParked,
}

fn time(time: Timestamp) -> Time {
    time.as_second() - at(0).as_second()
}

fn stimulus(actor: usize) -> Stimulus {
    match actor {
        0 | 1 => Stimulus::Request {
            who: "somebody".to_owned(),
        },
        _ => Stimulus::Tick,
    }
}

fn next_action(actor: &Actor) -> Option<&Action> {
    match &actor.stage {
        Stage::Acting(acting) => acting.actions.get(acting.next),
        _ => None,
    }
}

impl Play {
    pub fn new(world: World, left: Budget) -> Self {
        Play {
            world,
            actors: [None, None, None, None],
            running: None,
            left,
            seen: None,
        }
    }

    pub fn record(&self) -> &Record {
        self.world.record()
    }

    fn at_work(&self) -> impl Iterator<Item = (usize, &Actor)> {
        let present = self.actors.iter().enumerate();
        present.filter_map(|(index, actor)| Some((index, actor.as_ref()?)))
    }

    pub fn moves(&self, moves: &mut Vec<Move>) {
        let Budget {
            requests,
            ticks,
            switches,
            troubles,
            visits,
        } = self.left;
        let free = |index: usize| self.running.is_none_or(|running| running == index) || switches > 0;
        let due = time(self.record().next_check) <= self.world.now;
        for index in 0..4 {
            match &self.actors[index] {
                None => {
                    let kind = if index < 2 { requests } else { ticks };
                    // The two of a kind are alike, so the first begins first.
                    let second = index % 2 == 1 && self.actors[index - 1].is_none();
                    // The schedule comes whenever it likes, but only what is due or being looked at makes a difference.
                    let useful = index < 2 || due || self.at_work().next().is_some();
                    if kind > 0 && !second && useful && free(index) {
                        moves.push(Move::Begin(index));
                        if troubles > 0 {
                            moves.push(Move::BeginStale(index));
                        }
                    }
                }
                Some(actor) if actor.waits(self.world.now) => {}
                Some(actor) if free(index) => {
                    moves.push(Move::Step(index));
                    if troubles == 0 {
                        continue;
                    }
                    if !matches!(actor.stage, Stage::Begin | Stage::Loaded(_)) {
                        moves.push(Move::Crash(index));
                    }
                    match next_action(actor) {
                        Some(Action::Stop { .. }) => {
                            moves.push(Move::Fated(index, Fate::Late));
                            moves.push(Move::Fated(index, Fate::LateAndLost));
                        }
                        Some(Action::Start { .. }) => {
                            moves.push(Move::Fated(index, Fate::Refused(FaultKind::NoCapacity)));
                        }
                        Some(_) => moves.push(Move::Fated(index, Fate::AnswerLost)),
                        None => {}
                    }
                }
                Some(_) => {}
            }
        }
        let more = requests + ticks > 0;
        let idle = self.at_work().next().is_none();
        let waiting = self.at_work().any(|(_, actor)| actor.waits(self.world.now));
        if self.running.is_some() && switches > 0 || self.running.is_none() && (waiting || idle && more && !due) {
            moves.push(Move::Wait);
        }
        if idle && ticks > 0 && self.record().snapshot.phase == Phase::Settling {
            moves.push(Move::Calm);
        }
        if visits > 0 && self.world.is_on(1) == Side::Backend && (more || !idle) {
            moves.push(Move::Visit);
        }
        if troubles > 0 && more && self.running.is_none() {
            moves.push(Move::Rewrite);
            let [in_route, _, in_ledger] = self.world.copies_of_original(0);
            if !self.world.routes[0].parked.is_empty() && (in_route || in_ledger) {
                moves.push(Move::DeleteParked);
                moves.push(Move::DoubleParked);
            }
        }
    }

    pub fn after(&self, next: Move) -> Play {
        let mut play = self.clone();
        play.seen = None;
        if let Move::Begin(index) | Move::BeginStale(index) | Move::Step(index) | Move::Fated(index, _) = next {
            play.left.switches -= u8::from(self.running.is_some_and(|running| running != index));
        }
        if !matches!(
            next,
            Move::Begin(_) | Move::Step(_) | Move::Wait | Move::Calm | Move::Visit
        ) {
            play.left.troubles -= 1;
        }
        match next {
            Move::Begin(index) => play.begin(index, 0),
            Move::BeginStale(index) => play.begin(index, STALEST),
            Move::Step(index) => play.step(index, Fate::Well),
            Move::Fated(index, fate) => play.step(index, fate),
            Move::Crash(index) => {
                play.actors[index] = None;
                play.running = play.running.filter(|running| *running != index);
            }
            Move::Wait => {
                play.left.switches -= u8::from(play.running.is_some());
                play.wait();
            }
            Move::Calm => {
                play.left.ticks -= 1;
                let until = play.world.now + 180;
                play.world.live(until, &[]);
            }
            Move::Visit => {
                play.left.visits -= 1;
                play.world.visit(1);
            }
            Move::Rewrite => {
                let (now, actions) = (play.world.now, play.world.shape.actions(0, 1));
                let route = &mut play.world.routes[0];
                route.owners = actions[1].clone();
                route.actions = actions;
                route.rewritten_at = Some(now);
                play.world.changed();
            }
            Move::DeleteParked => {
                play.world.routes[0].parked.clear();
                play.world.changed();
            }
            Move::DoubleParked => {
                let parked = &mut play.world.routes[0].parked;
                parked.push(parked[0].clone());
                play.world.changed();
            }
        }
        play.world.counts.clear();
        let proved_used = |play: &Play| play.record().wanted_by.starts_with("requests arrived");
        if proved_used(&play) && !proved_used(self) {
            play.seen = Some(Sight::FoundUsed);
        }
        let stale = |actor: &Actor| actor.luck.ages != [0; 3];
        if play.left.troubles == 0 && !play.actors.iter().flatten().any(stale) {
            // Nobody will look back any more.
            play.world.keeps_past = false;
            play.world.past.clear();
        }
        play
    }

    fn begin(&mut self, index: usize, age: Time) {
        let left = if index < 2 {
            &mut self.left.requests
        } else {
            &mut self.left.ticks
        };
        *left -= 1;
        let luck = Luck {
            ages: [age; 3],
            takes: CALL_TAKES,
            fates: Vec::new(),
        };
        self.actors[index] = Some(Actor::new(index, stimulus(index), luck));
        self.step(index, Fate::Well);
    }

    fn step(&mut self, index: usize, fate: Fate) {
        let Play { world, actors, .. } = self;
        let Some(actor) = &mut actors[index] else { return };
        let late = matches!(fate, Fate::Late | Fate::LateAndLost);
        actor.luck.takes = if late { LATEST } else { CALL_TAKES };
        actor.luck.fates = vec![fate];
        let asleep = |world: &World| world.record().wanted == Wanted::Asleep;
        actor.step(world);
        if matches!(actor.stage, Stage::Observed(..)) {
            actor.step(world);
        }
        // What only another's step can make a difference to is one step.
        if matches!(&actor.stage, Stage::Acting(acting) if acting.next >= acting.actions.len()) {
            actor.step(world);
        }
        actor.last = None;
        self.running = Some(index);
        if actor.stage == Stage::Lost {
            self.seen = Some(Sight::Overtaken);
            // A wish to wake tries again.
            if index < 2 && asleep(world) {
                actor.stage = Stage::Begin;
            }
        }
        if actor.is_over() {
            actors[index] = None;
            self.running = None;
        } else if actor.waits(world.now) {
            self.running = None;
        } else {
            actor.luck.fates.clear();
        }
    }

    fn wait(&mut self) {
        let world = &mut self.world;
        let record = world.record();
        let moments = [
            time(record.next_check),
            record.lease.as_ref().map_or(0, |lease| time(lease.until)),
        ];
        let next = moments.into_iter().filter(|moment| *moment > world.now);
        let next = next.chain([world.next_event()]).min().unwrap_or(Time::MAX);
        let next = if next == Time::MAX { world.now + 60 } else { next };
        let late = |world: &World| {
            world
                .in_flight
                .iter()
                .any(|call| call.lands == Some(next) && name(&call.action) == "stop")
        };
        if late(world) {
            self.seen = Some(Sight::StopLate);
        }
        world.advance(next - world.now);
        self.running = None;
    }

    /// Nobody is at work, and nothing more will happen but the schedule's looks.
    pub fn is_at_its_end(&self) -> bool {
        self.left.requests + self.left.ticks == 0 && self.at_work().next().is_none()
    }

    /// Whether the schedule alone brings it to what was wanted, and without further use to sleep.
    pub fn ends_well(&self) -> Result<(), String> {
        let mut world = self.world.clone();
        world.keeps_past = false;
        world.past.clear();
        let begun = world.now;
        let wanted = world.record().wanted;
        sweep(&mut world, begun + 200);
        let phase = world.record().snapshot.phase.clone();
        let on_backend = (0..2).all(|route| world.is_on(route) == Side::Backend);
        let idle = world.record().wanted == Wanted::Asleep;
        if wanted == Wanted::Awake && !idle && (phase != Phase::Awake || !on_backend) {
            return Err(format!("I6: requested, and 200 s later {phase:?}"));
        }
        sweep(&mut world, begun + 2500);
        let phase = &world.record().snapshot.phase;
        let stopped = world.machines[0].power == Power::Stopped;
        let kept = (0..2).all(|route| world.copies_of_original(route) == [false, true, true]);
        let parked = world.routes.iter().all(|route| route.parked.len() == 1);
        if *phase != Phase::Asleep || !stopped || !kept || !parked {
            return Err(format!(
                "I6: unused, and at last {phase:?}, stopped: {stopped}, kept: {kept}, parked: {parked}"
            ));
        }
        world.violations.first().map_or(Ok(()), |first| Err(first.clone()))
    }
}

/// The schedule's looks, at what is not at rest.
fn sweep(world: &mut World, until: Time) {
    while world.now < until {
        let record = world.record();
        let lease = record.lease.as_ref().map_or(0, |lease| time(lease.until));
        let rests = record.rests_until.map_or(0, time);
        let due = time(record.next_check).max(lease).max(rests).clamp(world.now, until);
        world.advance(due - world.now);
        world.tick();
        world.advance(1);
    }
}

/// The shape of the site: two routes to one machine.
pub fn shape() -> Shape {
    Shape {
        routes: vec![vec![(0, 1)], vec![(0, 1)]],
        groups: vec![vec![0]],
        settle: 60,
        idle: 300,
        ..Shape::single()
    }
}

/// Moments from which everything of interest is a few looks away.
pub fn beginnings() -> [World; 4] {
    let mut world = shape().up();
    world.rule.policy.metrics_delay = std::time::Duration::from_secs(60);
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
pub fn told(before: &Play, next: Move, after: &Play) -> String {
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
