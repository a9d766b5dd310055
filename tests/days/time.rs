//! Virtual time and the tasks that live in it: everything runs at one moment until nothing can go on, then time steps to
//! the next moment somebody sleeps for. A run depends on its seed alone.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use proxymanager::clock::Clock;
use proxymanager::domain::time::Timestamp;

/// Milliseconds of virtual time since 1970.
pub type Moment = i64;

pub const SECOND: Moment = 1_000;
pub const MINUTE: Moment = 60 * SECOND;
pub const HOUR: Moment = 60 * MINUTE;
pub const DAY: Moment = 24 * HOUR;

/// A Monday, 00:00 UTC.
pub const BEGIN: Moment = 1_767_571_200 * SECOND;

/// How long the driver sleeps, in the runtime's time, while somebody else has a lease.
const PATIENCE: Moment = 150;

pub fn stamp(at: Moment) -> Timestamp {
    Timestamp::from_millisecond(at).expect("a virtual moment is a moment")
}

pub fn moment(at: Timestamp) -> Moment {
    at.as_millisecond()
}

/// The virtual clock. Clones are one clock.
#[derive(Clone)]
pub struct Time(Arc<Shared>);

struct Shared {
    now: AtomicI64,
    slept: AtomicU64,
    /// The task that runs just now.
    current: AtomicU64,
    sleepers: Mutex<BTreeMap<(Moment, u64), Sleeper>>,
}

struct Sleeper {
    task: u64,
    waker: Waker,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    /// Tasks that begin at this moment. A run has one thread, so its tasks may be what cannot be sent to another.
    static BORN: RefCell<Vec<Task>> = const { RefCell::new(Vec::new()) };
}

/// Ready at its moment.
pub struct Sleep {
    time: Time,
    until: Moment,
    asleep: Option<u64>,
}

impl Time {
    pub fn new() -> Self {
        Time(Arc::new(Shared {
            now: AtomicI64::new(BEGIN),
            slept: AtomicU64::new(0),
            current: AtomicU64::new(0),
            sleepers: Mutex::default(),
        }))
    }

    pub fn moment(&self) -> Moment {
        self.0.now.load(Ordering::Relaxed)
    }

    pub fn sleep(&self, span: Moment) -> Sleep {
        self.sleep_until(self.moment() + span)
    }

    pub fn sleep_until(&self, until: Moment) -> Sleep {
        Sleep {
            time: self.clone(),
            until,
            asleep: None,
        }
    }

    /// Begins a task at this moment.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        BORN.with_borrow_mut(|born| born.push(Box::pin(task)));
    }
}

impl Clock for Time {
    fn now(&self) -> Timestamp {
        stamp(self.moment())
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.time.moment() >= self.until {
            return Poll::Ready(());
        }
        if self.asleep.is_none() {
            let shared = &self.time.0;
            let number = shared.slept.fetch_add(1, Ordering::Relaxed);
            let sleeper = Sleeper {
                task: shared.current.load(Ordering::Relaxed),
                waker: context.waker().clone(),
            };
            lock(&shared.sleepers).insert((self.until, number), sleeper);
            self.asleep = Some(number);
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.asleep {
            lock(&self.time.0.sleepers).remove(&(self.until, number));
        }
    }
}

/// What runs in the virtual time.
pub struct Tasks {
    time: Time,
    /// For the time-outs of the driver, which are in real time and never pass here.
    runtime: tokio::runtime::Runtime,
    tasks: BTreeMap<u64, Task>,
    next: u64,
    ready: Arc<Mutex<VecDeque<u64>>>,
    /// Those in a sleep of the driver's own, until when.
    patient: BTreeMap<u64, Moment>,
    /// Those of them whose real sleep is over already.
    rested: BTreeSet<u64>,
}

struct Bell {
    task: u64,
    ready: Arc<Mutex<VecDeque<u64>>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        lock(&self.ready).push_back(self.task);
    }
}

impl Tasks {
    pub fn new(time: &Time) -> Self {
        // Of a run before this one.
        drop(BORN.take());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        Tasks {
            time: time.clone(),
            runtime: runtime.expect("a runtime for time-outs"),
            tasks: BTreeMap::new(),
            next: 0,
            ready: Arc::default(),
            patient: BTreeMap::new(),
            rested: BTreeSet::new(),
        }
    }

    /// Lets everything happen up to this moment.
    pub fn run_until(&mut self, end: Moment) {
        loop {
            self.settle();
            let sleeper = lock(&self.time.0.sleepers).keys().next().map(|(at, _)| *at);
            let next = sleeper.into_iter().chain(self.patient.values().copied()).min();
            let now = next.map_or(end, |next| next.min(end));
            self.time.0.now.store(now, Ordering::Relaxed);
            if next.is_none_or(|next| next > end) {
                return;
            }
            self.wake(now);
        }
    }

    /// Runs one future to its end, and everything else meanwhile.
    pub fn block_on<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&result);
        self.time.spawn(async move {
            let value = future.await;
            *slot.borrow_mut() = Some(value);
        });
        for _ in 0..100_000 {
            self.run_until(self.time.moment() + SECOND / 10);
            if let Some(value) = result.borrow_mut().take() {
                return value;
            }
        }
        panic!("it does not end");
    }

    fn wake(&mut self, now: Moment) {
        let due: Vec<Sleeper> = {
            let mut sleepers = lock(&self.time.0.sleepers);
            let later = sleepers.split_off(&(now + 1, 0));
            std::mem::replace(&mut *sleepers, later).into_values().collect()
        };
        due.into_iter().for_each(|sleeper| sleeper.waker.wake());
        let patient: Vec<u64> = self
            .patient
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(task, _)| *task)
            .collect();
        for task in patient {
            while !self.rested.remove(&task) {
                self.runtime
                    .block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
                self.sort_ready();
            }
            self.patient.remove(&task);
            lock(&self.ready).push_back(task);
        }
    }

    /// A patient one that is rung for has slept enough in real time, and waits for the virtual one.
    fn sort_ready(&mut self) {
        let (patient, rested) = (&self.patient, &mut self.rested);
        lock(&self.ready).retain(|task| {
            let waits = patient.contains_key(task);
            if waits {
                rested.insert(*task);
            }
            !waits
        });
    }

    fn settle(&mut self) {
        loop {
            for task in BORN.take() {
                self.next += 1;
                self.tasks.insert(self.next, task);
                lock(&self.ready).push_back(self.next);
            }
            self.sort_ready();
            let Some(number) = lock(&self.ready).pop_front() else {
                return;
            };
            let Some(task) = self.tasks.get_mut(&number) else {
                continue;
            };
            let bell = Arc::new(Bell {
                task: number,
                ready: Arc::clone(&self.ready),
            });
            self.time.0.current.store(number, Ordering::Relaxed);
            let _inside = self.runtime.enter();
            let polled = task.as_mut().poll(&mut Context::from_waker(&Waker::from(bell)));
            let sleeps = || {
                lock(&self.time.0.sleepers)
                    .values()
                    .any(|sleeper| sleeper.task == number)
            };
            match polled {
                Poll::Ready(()) => drop(self.tasks.remove(&number)),
                Poll::Pending if sleeps() || lock(&self.ready).contains(&number) => {}
                Poll::Pending => drop(self.patient.insert(number, self.time.moment() + PATIENCE)),
            }
        }
    }
}

pub fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().expect("nothing panics while it holds this")
}
