//! Lambda: one environment per concurrent request up to a limit, then throttled; environments reused and reaped. Each runs
//! one version with one code, so that an invocation under way ends undisturbed by what is uploaded meanwhile.

mod environment;
mod package;
mod runtime;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use tokio::{sync::Semaphore, time::Instant};

use super::{clock::Clock, log::Log, process::Processes, world::Running};
use environment::Environment;
pub use package::NotTaken;
use package::Packages;

/// The function and its limits.
#[derive(Debug, Clone)]
pub struct Function {
    pub arn: String,
    pub name: String,
    /// The code it is deployed with.
    pub bootstrap: PathBuf,
    /// Environment variables beside those that Lambda sets.
    pub env: Vec<(String, String)>,
    pub region: String,
    pub timeout: Duration,
    /// How long INIT may take; 10 s on AWS.
    pub init: Duration,
    /// Reserved concurrency.
    pub concurrency: usize,
    /// Environments unused for this long are ended.
    pub reap: Duration,
    /// Whether an environment stands still between invocations, as on AWS.
    pub freeze: bool,
}

impl Function {
    /// What the SDK needs to call the local cloud, and would have from the role of a function.
    fn credentials(&self) -> [(&'static str, &str); 5] {
        [
            ("AWS_REGION", &self.region),
            ("AWS_DEFAULT_REGION", &self.region),
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("AWS_SESSION_TOKEN", "local"),
        ]
    }
}

/// Why an invocation has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// No environment is free and the limit is reached, or throttling is switched on.
    #[error("throttled")]
    Throttled,
    /// The function said so, died, or never started; with what it said.
    #[error("function error: {0}")]
    Function(String),
    /// No answer within the function's time-out.
    #[error("timed out after {0:.2} seconds")]
    TimedOut(f64),
}

/// What happened so far.
#[derive(Debug, Default, Serialize)]
pub struct Figures {
    pub invocations: u64,
    pub throttled: u64,
    pub failed: u64,
    pub timed_out: u64,
    pub started: u64,
    pub idle: u64,
    pub busy: u64,
    /// How many invocations each code has answered in each version, as `VERSION DIGEST`.
    pub answered: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Counts {
    invocations: AtomicU64,
    throttled: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    started: AtomicU64,
    busy: AtomicU64,
    answered: Mutex<BTreeMap<String, u64>>,
}

/// The environments of one function.
#[derive(Debug)]
pub struct Lambda {
    function: Function,
    clock: Clock,
    log: Arc<Log>,
    processes: Processes,
    packages: Packages,
    idle: Mutex<Vec<Environment>>,
    places: Semaphore,
    counts: Counts,
}

impl Lambda {
    /// What a command line needs in its environment to see what the function sees.
    pub fn environment(&self) -> BTreeMap<&str, &str> {
        let own = self
            .function
            .env
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        self.function.credentials().into_iter().chain(own).collect()
    }

    pub fn new(function: Function, clock: Clock, log: Arc<Log>, processes: Processes) -> Self {
        let places = Semaphore::new(function.concurrency);
        Self {
            packages: Packages::new(&function.bootstrap),
            function,
            clock,
            log,
            processes,
            idle: Mutex::default(),
            places,
            counts: Counts::default(),
        }
    }

    pub fn function(&self) -> &Function {
        &self.function
    }

    /// The digest of the code that the function is deployed with.
    pub fn first_code(&self) -> String {
        package::digest_of_file(&self.function.bootstrap)
    }

    /// Takes a zip and returns the digest of its code, as `UpdateFunctionCode` does.
    ///
    /// # Errors
    /// What AWS refuses it with.
    pub fn take_package(&self, zip: &[u8]) -> Result<String, NotTaken> {
        self.packages.take(zip, &self.processes)
    }

    /// Invokes one version of the function. Has to run to its end once begun, which `Shared::invoke` sees to.
    pub async fn invoke(&self, running: &Running, event: Bytes, throttled: bool) -> Result<Bytes, Error> {
        self.counts.invocations.fetch_add(1, Relaxed);
        let place = if throttled {
            None
        } else {
            self.places.try_acquire().ok()
        };
        let Some(_place) = place else {
            self.counts.throttled.fetch_add(1, Relaxed);
            return Err(Error::Throttled);
        };
        self.counts.busy.fetch_add(1, Relaxed);
        let result = self.invoke_in_place(running, event).await;
        self.counts.busy.fetch_sub(1, Relaxed);
        match &result {
            Err(Error::TimedOut(_)) => self.counts.timed_out.fetch_add(1, Relaxed),
            Err(_) => self.counts.failed.fetch_add(1, Relaxed),
            Ok(_) => 0,
        };
        if let Err(error) = &result {
            self.log.output("lambda", &error.to_string());
        }
        result
    }

    async fn invoke_in_place(&self, running: &Running, event: Bytes) -> Result<Bytes, Error> {
        let timeout = self.function.timeout;
        let mut environment = match self.take_idle(running) {
            Some(environment) => environment,
            None => match self.start(running, self.function.init).await {
                Ok(environment) => environment,
                // As on AWS a failed INIT is tried once more as part of the invocation, under the function's time-out.
                Err(_) => self.start(running, timeout).await.map_err(Error::Function)?,
            },
        };
        let deadline = self.clock.now() + timeout;
        match environment.invoke(event, deadline.as_millisecond(), timeout).await {
            Ok(answer) => {
                let Running { version, code } = &environment.running;
                *lock(&self.counts.answered)
                    .entry(format!("{version} {code}"))
                    .or_default() += 1;
                self.put_idle(environment);
                Ok(answer)
            }
            // The runtime reported the error and lives on; a dead or stuck one is not used again.
            Err(error @ Error::Function(_)) if !environment.has_ended() => {
                self.put_idle(environment);
                Err(error)
            }
            Err(error) => {
                environment.end().await;
                Err(error)
            }
        }
    }

    async fn start(&self, running: &Running, limit: Duration) -> Result<Environment, String> {
        self.counts.started.fetch_add(1, Relaxed);
        let bootstrap = self.packages.bootstrap(&running.code);
        Environment::start(&self.function, running, &bootstrap, limit, &self.processes, &self.log).await
    }

    fn take_idle(&self, running: &Running) -> Option<Environment> {
        loop {
            let mut idle = self.idle();
            let newest = idle.iter().rposition(|environment| environment.running == *running)?;
            let mut environment = idle.remove(newest);
            drop(idle);
            if !environment.has_ended() {
                return Some(environment);
            }
        }
    }

    fn put_idle(&self, mut environment: Environment) {
        environment.used = Instant::now();
        self.idle().push(environment);
    }

    /// Ends the environments that were not used for long.
    pub fn reap(&self) {
        let reap = self.function.reap;
        self.idle().retain(|environment| environment.used.elapsed() < reap);
    }

    /// Ends every idle environment, as a new version of the function does.
    pub fn forget(&self) {
        self.idle().clear();
    }

    pub fn figures(&self) -> Figures {
        let Counts {
            invocations,
            throttled,
            failed,
            timed_out,
            started,
            busy,
            answered,
        } = &self.counts;
        Figures {
            invocations: invocations.load(Relaxed),
            throttled: throttled.load(Relaxed),
            failed: failed.load(Relaxed),
            timed_out: timed_out.load(Relaxed),
            started: started.load(Relaxed),
            idle: self.idle().len() as u64,
            busy: busy.load(Relaxed),
            answered: lock(answered).clone(),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Environment>> {
        lock(&self.idle)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
