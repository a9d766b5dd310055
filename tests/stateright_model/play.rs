//! What may happen next to two who wake and two who sweep, and what it comes to.

use proxymanager::domain::fault::FaultKind;
use proxymanager::domain::phase::Phase;
use proxymanager::domain::plan::Action;
use proxymanager::domain::record::Record;
use proxymanager::domain::rule::Side;
use proxymanager::domain::seen::{Power, Stimulus, Wanted};
use proxymanager::domain::time::Timestamp;

use crate::model::calls::name;
use crate::model::{Actor, Fate, Luck, STALEST, Stage, Time, World, at};

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub requests: u8,
    pub ticks: u8,
    /// How often somebody comes before the one who could go on, or time passes before he does.
    pub switches: u8,
    pub troubles: u8,
    pub visits: u8,
    pub commands: u8,
    /// Whether every look sees what was a minute ago.
    pub old_news: bool,
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
    /// An operator puts the rule to sleep.
    Command,
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

pub fn time(time: Timestamp) -> Time {
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
            commands,
            old_news,
        } = self.left;
        let free = |index: usize| self.running.is_none_or(|running| running == index) || switches > 0;
        let now = self.world.now;
        let lease = self.record().lease.as_ref();
        let due = time(self.record().next_check) <= now && lease.is_none_or(|lease| time(lease.until) <= now);
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
                        if troubles > 0 && !old_news {
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
        if commands > 0 && self.running.is_none() && self.actors[2].is_none() {
            moves.push(Move::Command);
        }
        let more = requests + ticks + commands > 0;
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
            Move::Begin(_) | Move::Command | Move::Step(_) | Move::Wait | Move::Calm | Move::Visit
        ) {
            play.left.troubles -= 1;
        }
        match next {
            Move::Begin(index) => play.begin(index, stimulus(index), 0),
            Move::BeginStale(index) => play.begin(index, stimulus(index), STALEST),
            Move::Command => {
                let who = "an operator".to_owned();
                let wanted = Wanted::Asleep;
                play.begin(2, Stimulus::Command { wanted, who }, 0);
            }
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
        if play.left.troubles == 0 && !play.left.old_news && !play.actors.iter().flatten().any(stale) {
            // Nobody will look back any more.
            play.world.keeps_past = false;
            play.world.past.clear();
        }
        play
    }

    fn begin(&mut self, index: usize, stimulus: Stimulus, age: Time) {
        let Budget {
            requests,
            ticks,
            commands,
            old_news,
            ..
        } = &mut self.left;
        let age = if *old_news { STALEST } else { age };
        *match stimulus {
            Stimulus::Request { .. } => requests,
            Stimulus::Command { .. } | Stimulus::KeepAwake { .. } => commands,
            Stimulus::Tick | Stimulus::StateChange => ticks,
        } -= 1;
        let luck = Luck {
            ages: [age; 3],
            takes: CALL_TAKES,
            fates: Vec::new(),
        };
        self.actors[index] = Some(Actor::new(index, stimulus, luck));
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
        self.left.requests + self.left.ticks + self.left.commands == 0 && self.at_work().next().is_none()
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
