//! Machines, clients and an Envoy around the daemon, in virtual time. The daemon asks it through the crate's edges; what it does
//! is judged here, by what is true here.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use crate::domain::fault::{Fault, FaultKind};
use crate::domain::record::Record;
use crate::domain::rule::{ResourceId, RuleName};
use crate::domain::seen::{Power, ResourceSeen};
use crate::domain::time::{Timestamp, after};
use crate::gateway::envoy::model::{Envoy, Millis};
use crate::ledger::memory::Memory;
use crate::played::{Later, World};

use super::judge::Truth;

const STOPPING_TAKES: Millis = 8_000;
const PENDING_TAKES: Millis = 3_000;
/// A call of EC2 takes its effect in the middle of this time.
const CALL_TAKES: Millis = 600;
const ASKING_TAKES: Millis = 40;

/// The moment from which virtual time is counted.
fn begin() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// The time of day at this moment.
pub fn time(at: Millis) -> Timestamp {
    after(begin(), Duration::from_millis(at))
}

/// What becomes of the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Refused,
    AnswerLost,
    Lost,
}

/// When the daemon dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doom {
    /// Right after something is published, which Envoy does not get.
    Published,
    /// Before or after the effect of so many calls of machines from now.
    Call(u32),
}

#[derive(Debug)]
pub struct Machine {
    pub power: Power,
    pub until: Option<Millis>,
    pub launched: Option<Millis>,
    pub by_user: Option<Millis>,
    pub running_since: Option<Millis>,
    pub works: bool,
    pub boots_in: Millis,
    pub fate: Option<Fate>,
    /// A check of the daemon has found it well in this life.
    pub seen_well: bool,
    /// The daemon has stopped it in this life.
    pub we_stop: bool,
    /// When somebody started or stopped it.
    pub by_hand: Option<Millis>,
}

impl Machine {
    fn new() -> Self {
        Machine {
            power: Power::Stopped,
            until: None,
            launched: None,
            by_user: None,
            running_since: None,
            works: true,
            boots_in: 5_000,
            fate: None,
            seen_well: false,
            we_stop: false,
            by_hand: None,
        }
    }

    pub fn serves(&self, now: Millis) -> bool {
        let up = self.running_since.is_some_and(|since| now >= since + self.boots_in);
        self.power == Power::Running && self.works && up
    }

    pub fn start(&mut self, now: Millis) {
        self.power = Power::Pending;
        self.until = Some(now + PENDING_TAKES);
        self.launched = Some(now);
        self.by_user = None;
        self.running_since = None;
        self.seen_well = false;
        self.we_stop = false;
    }

    pub fn stop(&mut self, now: Millis) {
        self.power = Power::Stopping;
        self.until = Some(now + STOPPING_TAKES);
        self.by_user = Some(now);
        self.running_since = None;
    }

    fn rest(&mut self, now: Millis) {
        self.until = None;
        match self.power {
            Power::Pending => {
                self.power = Power::Running;
                self.running_since = Some(now);
            }
            Power::Stopping => self.power = Power::Stopped,
            Power::Running | Power::Stopped | Power::Terminated => {}
        }
    }
}

pub fn machine(index: u32) -> ResourceId {
    ResourceId(format!("i-{index:017}"))
}

pub struct Inner {
    pub now: Millis,
    pub machines: BTreeMap<ResourceId, Machine>,
    pub envoy: Envoy,
    pub ledger: Memory,
    pub truth: Truth,
    pub doom: Option<Doom>,
    /// The daemon has died.
    pub dead: bool,
    sleepers: BTreeMap<(Millis, u64), Waker>,
    slept: u64,
    /// Calls on their way: they take their effect whether or not the daemon is still there.
    calls: Vec<Call>,
}

/// A call on its way.
struct Call {
    at: Millis,
    starts: bool,
    ids: Vec<ResourceId>,
    outcome: Arc<Mutex<Option<Result<(), Fault>>>>,
}

impl Inner {
    pub fn host(id: &ResourceId) -> String {
        format!("10.0.0.{}", id.0.trim_start_matches(['i', '-', '0']))
    }

    pub fn at(host: &str) -> ResourceId {
        machine(host.trim_start_matches("10.0.0.").parse().unwrap_or_default())
    }

    pub fn record(&self, rule: &RuleName) -> Option<Record> {
        use futures_util::FutureExt;
        let loaded = crate::ledger::Ledger::load(&self.ledger, rule).now_or_never()?;
        loaded.ok().flatten()
    }

    /// Does everything that is due; whether there was anything.
    pub fn step(&mut self) -> bool {
        let now = self.now;
        let mut news = false;
        for machine in self
            .machines
            .values_mut()
            .filter(|m| m.until.is_some_and(|until| until <= now))
        {
            machine.rest(now);
            news = true;
        }
        let (arrived, tells) = self.envoy.streams().exchange(now);
        news |= arrived;
        if tells {
            news = true;
            // What is told is still on its way, and is lost.
            if self.doom == Some(Doom::Published) {
                (self.doom, self.dead) = (None, true);
                return true;
            }
        }
        if self.envoy.next() <= now {
            self.envoy.advance(now);
            news = true;
        }
        for call in self.calls.extract_if(.., |call| call.at <= now).collect::<Vec<_>>() {
            let outcome = match call.starts {
                true => self.start(&call.ids),
                false => self.stop(&call.ids),
            };
            *call.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            news = true;
        }
        if news {
            self.judge();
        }
        while let Some(entry) = self.sleepers.first_entry().filter(|entry| entry.key().0 <= now) {
            entry.remove().wake();
            news = true;
        }
        news
    }

    fn start(&mut self, ids: &[ResourceId]) -> Result<(), Fault> {
        let fault = |kind| Err(Fault::new(kind, "ec2:StartInstances", "so it is"));
        let mut outcome = Ok(());
        let now = self.now;
        for id in ids {
            let crosses = self.calls.iter().any(|call| !call.starts && call.ids.contains(id));
            self.judge_start(id, crosses);
            let Some(machine) = self.machines.get_mut(id) else {
                continue;
            };
            let fate = machine.fate.take();
            match fate {
                Some(Fate::Refused) => outcome = fault(FaultKind::NoCapacity),
                Some(Fate::Lost) => outcome = fault(FaultKind::Other),
                Some(Fate::AnswerLost) | None => match machine.power {
                    Power::Stopped => machine.start(now),
                    Power::Pending | Power::Running => {}
                    Power::Stopping | Power::Terminated => outcome = fault(FaultKind::Conflict),
                },
            }
            if fate == Some(Fate::AnswerLost) {
                outcome = fault(FaultKind::Other);
            }
        }
        outcome
    }

    fn stop(&mut self, ids: &[ResourceId]) -> Result<(), Fault> {
        let now = self.now;
        let mut outcome = Ok(());
        for id in ids {
            self.judge_stop(id);
            let Some(machine) = self.machines.get_mut(id) else {
                continue;
            };
            match machine.power {
                Power::Running => {
                    machine.stop(now);
                    machine.we_stop = true;
                }
                Power::Stopped | Power::Stopping => {}
                Power::Pending | Power::Terminated => {
                    outcome = Err(Fault::new(FaultKind::Conflict, "ec2:StopInstances", "not now"));
                }
            }
            self.break_connections(id);
        }
        outcome
    }

    /// Whether a stop of this machine is on its way.
    pub fn is_being_stopped(&self, id: &ResourceId) -> bool {
        self.calls.iter().any(|call| !call.starts && call.ids.contains(id))
    }

    pub fn next(&self) -> Millis {
        let calls = self.calls.iter().map(|call| call.at).min();
        let machines = self.machines.values().filter_map(|machine| machine.until).min();
        let sleeper = self.sleepers.keys().next().map(|(at, _)| *at);
        [calls, machines, sleeper, Some(self.envoy.next())]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Millis::MAX)
    }

    /// One of those there are.
    pub fn machine(&mut self, id: &ResourceId) -> &mut Machine {
        self.machines.get_mut(id).unwrap()
    }

    /// Somebody starts what is stopped, or stops what runs.
    pub fn by_hand(&mut self, id: &ResourceId, start: bool) {
        let now = self.now;
        let machine = self.machine(id);
        match (machine.power, start) {
            (Power::Stopped, true) => machine.start(now),
            (Power::Running, false) => machine.stop(now),
            _ => return,
        }
        machine.by_hand = Some(now);
        if !start {
            self.break_connections(id);
        }
    }
}

/// The world; clones are one.
#[derive(Clone)]
pub struct Stage {
    inner: Arc<Mutex<Inner>>,
    /// The time, for those who ask in the middle of something.
    clock: Arc<AtomicU64>,
    /// Some moment; only what lies between two is ever asked for.
    began: tokio::time::Instant,
    /// Everything that can go on at this moment has.
    pub idle: Arc<Notify>,
}

impl Stage {
    pub fn new(machines: u32) -> Self {
        let machines = (1..=machines).map(|index| (machine(index), Machine::new()));
        let inner = Inner {
            now: 0,
            machines: machines.collect(),
            envoy: Envoy::default(),
            ledger: Memory::new(),
            truth: Truth::default(),
            doom: None,
            dead: false,
            sleepers: BTreeMap::new(),
            slept: 0,
            calls: Vec::new(),
        };
        Stage {
            inner: Arc::new(Mutex::new(inner)),
            clock: Arc::default(),
            began: tokio::time::Instant::now(),
            idle: Arc::default(),
        }
    }

    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, span: Millis) -> Sleep {
        Sleep {
            stage: self.clone(),
            until: self.inner().now + span,
            number: None,
        }
    }

    /// Lets time pass until then, or until the daemon dies; whether it has.
    pub async fn live(&self, until: Millis) -> bool {
        loop {
            self.idle.notified().await;
            let mut inner = self.inner();
            let news = inner.step();
            if inner.dead {
                return true;
            }
            if news {
                continue;
            }
            let next = inner.next();
            if next > until && inner.now >= until {
                return false;
            }
            inner.now = next.clamp(inner.now, until.max(inner.now));
            self.clock.store(inner.now, Ordering::Relaxed);
        }
    }

    async fn call(self, starts: bool, ids: Vec<ResourceId>) -> Result<(), Fault> {
        self.may_die().await;
        let outcome = Arc::new(Mutex::new(None));
        {
            let mut inner = self.inner();
            let call = Call {
                at: inner.now + CALL_TAKES / 2,
                starts,
                ids,
                outcome: Arc::clone(&outcome),
            };
            inner.calls.push(call);
        }
        self.wait(CALL_TAKES / 2 + 1).await;
        self.may_die().await;
        self.wait(CALL_TAKES / 2).await;
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.take().unwrap_or(Ok(()))
    }

    /// Where a call begins and where it has had its effect, the daemon may die.
    async fn may_die(&self) {
        let dies = {
            let mut inner = self.inner();
            match inner.doom {
                Some(Doom::Call(0)) => {
                    (inner.doom, inner.dead) = (None, true);
                    true
                }
                Some(Doom::Call(left)) => {
                    inner.doom = Some(Doom::Call(left - 1));
                    false
                }
                Some(Doom::Published) | None => false,
            }
        };
        if dies {
            std::future::pending::<()>().await;
        }
    }
}

/// Ready at its moment.
struct Sleep {
    stage: Stage,
    until: Millis,
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let stage = self.stage.clone();
        let mut inner = stage.inner();
        if inner.now >= self.until {
            return Poll::Ready(());
        }
        let number = *self.number.get_or_insert_with(|| {
            inner.slept += 1;
            inner.slept
        });
        inner.sleepers.insert((self.until, number), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.stage.inner().sleepers.remove(&(self.until, number));
        }
    }
}

impl World for Stage {
    fn now(&self) -> Timestamp {
        time(self.clock.load(Ordering::Relaxed))
    }

    fn instant(&self) -> tokio::time::Instant {
        self.began + Duration::from_millis(self.clock.load(Ordering::Relaxed))
    }

    fn sleep(&self, span: Duration) -> Later<()> {
        let span = u64::try_from(span.as_millis()).unwrap_or(Millis::MAX / 2);
        Box::pin(self.wait(span.max(1)))
    }

    fn describe(&self, ids: &[ResourceId]) -> Later<Result<Vec<ResourceSeen>, Fault>> {
        let (stage, ids) = (self.clone(), ids.to_vec());
        Box::pin(async move {
            stage.wait(ASKING_TAKES).await;
            let inner = stage.inner();
            // EC2 writes whole seconds.
            let told = |at: Option<Millis>| at.map(|at| after(begin(), Duration::from_secs(at / 1000)));
            let seen = |id: &ResourceId| match inner.machines.get(id) {
                Some(machine) => ResourceSeen {
                    launched: told(machine.launched),
                    changed_by_user: told(machine.by_user),
                    ..ResourceSeen::bare(id.clone(), machine.power)
                },
                None => ResourceSeen::bare(id.clone(), Power::Terminated),
            };
            Ok(ids.iter().map(seen).collect())
        })
    }

    fn start(&self, ids: &[ResourceId]) -> Later<Result<(), Fault>> {
        Box::pin(self.clone().call(true, ids.to_vec()))
    }

    fn stop(&self, ids: &[ResourceId]) -> Later<Result<(), Fault>> {
        Box::pin(self.clone().call(false, ids.to_vec()))
    }

    fn hosts(&self, ids: &[ResourceId]) -> Vec<(ResourceId, String)> {
        ids.iter().map(|id| (id.clone(), Inner::host(id))).collect()
    }

    fn probe(&self, host: &str, _port: u16) -> Later<Result<(), String>> {
        let (stage, id) = (self.clone(), Inner::at(host));
        Box::pin(async move {
            stage.wait(ASKING_TAKES).await;
            let mut inner = stage.inner();
            let now = inner.now;
            match inner.machines.get_mut(&id) {
                Some(machine) if machine.serves(now) => {
                    machine.seen_well = true;
                    Ok(())
                }
                _ => Err("the connection is refused".to_owned()),
            }
        })
    }

    fn active(&self) -> Later<io::Result<BTreeMap<RuleName, u64>>> {
        let stage = self.clone();
        Box::pin(async move {
            stage.wait(ASKING_TAKES).await;
            Ok(stage.inner().envoy.active())
        })
    }
}
