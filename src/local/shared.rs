//! What the servers of one local cloud share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{
    clock::Clock,
    instances::Instances,
    lambda::{self, Lambda},
    log::Log,
    process::Processes,
    world::World,
};

/// The state of one local cloud.
#[derive(Debug)]
pub struct Shared {
    pub clock: Clock,
    pub log: Arc<Log>,
    pub processes: Processes,
    pub lambda: Lambda,
    pub instances: Instances,
    world: Mutex<World>,
}

impl Shared {
    pub fn new(
        clock: Clock,
        log: Arc<Log>,
        processes: Processes,
        lambda: Lambda,
        instances: Instances,
        world: World,
    ) -> Self {
        Self {
            clock,
            log,
            processes,
            lambda,
            instances,
            world: Mutex::new(world),
        }
    }

    /// Invokes the function as it is registered, by its alias.
    pub async fn invoke(self: &Arc<Self>, event: Bytes) -> Result<Bytes, lambda::Error> {
        let arn = self.lambda.function().arn.clone();
        self.invoke_behind(&arn, event).await.1
    }

    /// Invokes what an ARN of the function leads to at this moment, or has it throttled when that is switched on; with the
    /// version that was invoked. The function runs on when the caller leaves, as on AWS.
    pub async fn invoke_behind(self: &Arc<Self>, arn: &str, event: Bytes) -> (String, Result<Bytes, lambda::Error>) {
        let (running, throttled) = {
            let mut world = self.world();
            let (function, qualifier) = match arn.match_indices(':').nth(6) {
                Some((end, _)) => (&arn[..end], Some(&arn[end + 1..])),
                None => (arn, None),
            };
            let running = world.code_behind(self.clock.now(), function, qualifier);
            (running, world.faults.lambda_throttle)
        };
        let running = match running {
            Ok(running) => running,
            Err(failure) => return (String::new(), Err(lambda::Error::Function(failure.message))),
        };
        let version = running.version.clone();
        let shared = Arc::clone(self);
        let task = tokio::spawn(async move { shared.lambda.invoke(&running, event, throttled).await });
        let ended = || Err(lambda::Error::Function("the cloud is ending".to_owned()));
        (version, task.await.unwrap_or_else(|_| ended()))
    }

    /// The world, locked: no await while it is held.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
