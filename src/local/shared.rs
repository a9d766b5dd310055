//! What the servers of one local cloud share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{clock::Clock, instances::Instances, lambda::Lambda, log::Log, process::Processes, world::World};

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

    /// The world, locked: no await while it is held.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
