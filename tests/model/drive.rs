//! The steps of the real driver, one at a time, so that others can come between any two of them and any can be the last.

use proxymanager::domain::fault::Fault;
use proxymanager::domain::outcome;
use proxymanager::domain::plan::{Action, Plan, plan};
use proxymanager::domain::record::{Lease, Record};
use proxymanager::domain::seen::{Seen, Stimulus, Wanted};
use proxymanager::domain::time::after;

use super::{Fate, Time, World, at};

pub const LEASE: Time = 40;
/// An action takes at most 12 s and the write after it 8 s.
const NEEDED_TO_BEGIN: Time = 20;

/// What the world has in store for one look.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Luck {
    /// The age of what is seen of routes, machines and health.
    pub ages: [Time; 3],
    /// Of the first actions; all later ones go well.
    pub fates: Vec<Fate>,
    /// How long each action takes.
    pub takes: Time,
}

impl Luck {
    pub fn good() -> Self {
        Luck {
            ages: [0; 3],
            fates: Vec::new(),
            takes: 0,
        }
    }

    pub fn fates(fates: &[Fate]) -> Self {
        Luck {
            fates: fates.to_vec(),
            ..Luck::good()
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor {
    pub id: usize,
    pub stimulus: Stimulus,
    pub luck: Luck,
    pub stage: Stage,
    pub last: Option<Box<Plan>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stage {
    Begin,
    Loaded(Box<Record>),
    Leased(Box<Record>),
    /// And when the look began: what it shows may be older than that, but not younger than it seems.
    Observed(Box<Seen>, Time),
    Acting(Box<Acting>),
    Answered(Box<Acting>, Result<(), Fault>, Time),
    Finish(Box<Record>),
    Done,
    /// Another one had the lease or wrote first.
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Acting {
    pub seen: Seen,
    pub record: Record,
    pub actions: Vec<Action>,
    pub next: usize,
}

impl Actor {
    pub fn new(id: usize, stimulus: Stimulus, luck: Luck) -> Self {
        Actor {
            id,
            stimulus,
            luck,
            stage: Stage::Begin,
            last: None,
        }
    }

    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Done | Stage::Lost)
    }

    /// Whether it waits for an answer that is not there yet.
    pub fn waits(&self, now: Time) -> bool {
        matches!(&self.stage, Stage::Answered(_, _, ends) if *ends > now)
    }

    /// One step.
    pub fn step(&mut self, world: &mut World) {
        let now = at(world.now);
        let stage = std::mem::replace(&mut self.stage, Stage::Lost);
        self.stage = match stage {
            Stage::Begin => {
                let fresh = || Record::new(world.rule.name.clone(), now);
                Stage::Loaded(Box::new(world.stored.clone().unwrap_or_else(fresh)))
            }
            Stage::Loaded(record) => {
                let free = !world.leases || !record.leased_to_another(now, &owner(self.id));
                let lease = Lease {
                    owner: owner(self.id),
                    until: after(now, std::time::Duration::from_secs(LEASE as u64)),
                };
                let mut record = Record {
                    lease: Some(lease),
                    ..*record
                };
                if free && world.store(&mut record) {
                    Stage::Leased(Box::new(record))
                } else {
                    Stage::Lost
                }
            }
            Stage::Leased(record) => Stage::Observed(Box::new(world.observe(*record, self.luck.ages)), world.now),
            Stage::Observed(seen, then) => self.plan(world, *seen, then),
            Stage::Acting(acting) => self.act(world, *acting),
            Stage::Answered(acting, outcome, ends) if ends > world.now => Stage::Answered(acting, outcome, ends),
            Stage::Answered(acting, outcome, _) => answered(world, *acting, &outcome),
            Stage::Finish(record) => {
                let mut record = Record { lease: None, ..*record };
                if world.store(&mut record) {
                    Stage::Done
                } else {
                    Stage::Lost
                }
            }
            over @ (Stage::Done | Stage::Lost) => over,
        };
    }

    fn plan(&mut self, world: &mut World, seen: Seen, then: Time) -> Stage {
        if left(&seen.record, world.now) < NEEDED_TO_BEGIN {
            return Stage::Lost;
        }
        let plan = plan(at(then), &world.rule, &seen, &self.stimulus);
        world.judge_plan(at(then), &seen, &self.stimulus, &plan);
        self.last = Some(Box::new(plan.clone()));
        let mut record = plan.record;
        if plan.actions.is_empty() {
            return Stage::Finish(Box::new(record));
        }
        if !world.store(&mut record) {
            return Stage::Lost;
        }
        Stage::Acting(Box::new(Acting {
            seen,
            record,
            actions: plan.actions,
            next: 0,
        }))
    }

    fn act(&mut self, world: &mut World, acting: Acting) -> Stage {
        let Some(action) = acting.actions.get(acting.next) else {
            return Stage::Finish(Box::new(settle_snapshot(world, acting)));
        };
        if left(&acting.record, world.now) < NEEDED_TO_BEGIN {
            return Stage::Finish(Box::new(settle_snapshot(world, acting)));
        }
        let fate = if self.luck.fates.is_empty() {
            Fate::Well
        } else {
            self.luck.fates.remove(0)
        };
        let outcome = world.call(self.id, &action.clone(), fate, self.luck.takes);
        let ends = world.now + self.luck.takes;
        Stage::Answered(Box::new(acting), outcome, ends)
    }
}

pub fn owner(actor: usize) -> String {
    format!("actor {actor}")
}

fn left(record: &Record, now: Time) -> Time {
    record
        .lease
        .as_ref()
        .map_or(0, |lease| lease.until.as_second() - at(now).as_second())
}

fn answered(world: &mut World, mut acting: Acting, outcome: &Result<(), Fault>) -> Stage {
    let action = acting.actions[acting.next].clone();
    outcome::applied(at(world.now), &mut acting.record, &acting.seen.record, &action, outcome);
    acting.next += 1;
    match outcome {
        Ok(()) => Stage::Acting(Box::new(acting)),
        Err(_) => Stage::Finish(Box::new(settle_snapshot(world, acting))),
    }
}

/// The phase after what was just done: from the same facts, with the new memory.
fn settle_snapshot(world: &World, acting: Acting) -> Record {
    let seen = Seen {
        record: acting.record.clone(),
        ..acting.seen
    };
    let next = plan(at(world.now), &world.rule, &seen, &Stimulus::Tick);
    if next.actions.is_empty() {
        return next.record;
    }
    Record {
        snapshot: next.record.snapshot,
        ..acting.record
    }
}

impl World {
    /// A conditional write, and the record's new version.
    pub fn store(&mut self, record: &mut Record) -> bool {
        let version = self.stored.as_ref().map_or(0, |stored| stored.version);
        if self.fence && version != record.version {
            return false;
        }
        record.version += 1;
        self.stored = Some(record.clone());
        self.judge_originals();
        true
    }

    /// A whole look with nobody between; the plan, unless somebody else had the lease.
    pub fn look(&mut self, stimulus: Stimulus, luck: Luck) -> Option<Plan> {
        self.look_and_crash(stimulus, luck, usize::MAX)
    }

    /// As `look`, and dead after that many steps.
    pub fn look_and_crash(&mut self, stimulus: Stimulus, luck: Luck, steps: usize) -> Option<Plan> {
        let mut actor = Actor::new(100, stimulus, luck);
        let mut done = 0;
        while !actor.is_over() && done < steps {
            if actor.waits(self.now) {
                self.advance(1);
            } else {
                actor.step(self);
                done += 1;
            }
        }
        actor.last.map(|plan| *plan)
    }

    pub fn request(&mut self) -> Option<Plan> {
        self.look(
            Stimulus::Request {
                who: "a test".to_owned(),
            },
            Luck::good(),
        )
    }

    pub fn tick(&mut self) -> Option<Plan> {
        self.look(Stimulus::Tick, Luck::good())
    }

    pub fn command(&mut self, wanted: Wanted) -> Option<Plan> {
        self.look(
            Stimulus::Command {
                wanted,
                who: "a test".to_owned(),
            },
            Luck::good(),
        )
    }

    /// Looks whenever one is due, for that long, with every Describe of this age. What `every` says of each plan holds.
    pub fn run(&mut self, seconds: Time, age: Time, mut every: impl FnMut(&World, &Plan)) {
        let end = self.now + seconds;
        while self.now < end {
            let due = self
                .stored
                .as_ref()
                .map_or(self.now, |record| record.next_check.as_second() - at(0).as_second());
            let lease = self.stored.as_ref().and_then(|record| record.lease.as_ref());
            let free = lease.map_or(self.now, |lease| lease.until.as_second() - at(0).as_second());
            let next = due.max(free).max(self.now).min(end);
            self.advance(next - self.now);
            if let Some(plan) = self.look(
                Stimulus::Tick,
                Luck {
                    ages: [age; 3],
                    ..Luck::good()
                },
            ) {
                every(self, &plan);
            }
            self.advance(1);
        }
    }
}
