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

    /// Invokes the function with `event`, or has it throttled when that is switched on. The function runs on when the
    /// caller leaves, as on AWS.
    pub async fn invoke(self: &Arc<Self>, event: Bytes) -> Result<Bytes, lambda::Error> {
        let shared = Arc::clone(self);
        let throttled = self.world().faults.lambda_throttle;
        let task = tokio::spawn(async move { shared.lambda.invoke(event, throttled).await });
        task.await
            .unwrap_or_else(|_| Err(lambda::Error::Function("the cloud is ending".to_owned())))
    }

    /// The world, locked: no await while it is held.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
