//! The daemon's edges in tests. What it asks of the clock, of machines and of the network is answered by a world that the test
//! plays, if there is one on this thread; everything between those edges is what ships.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::fault::Fault;
use crate::domain::rule::{ResourceId, RuleName};
use crate::domain::seen::ResourceSeen;
use crate::domain::time::Timestamp;

/// An answer that may take its time.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What there is outside of the daemon.
pub trait World: Send + Sync {
    fn now(&self) -> Timestamp;
    fn instant(&self) -> tokio::time::Instant;
    fn sleep(&self, span: Duration) -> Later<()>;
    fn describe(&self, ids: &[ResourceId]) -> Later<Result<Vec<ResourceSeen>, Fault>>;
    fn start(&self, ids: &[ResourceId]) -> Later<Result<(), Fault>>;
    fn stop(&self, ids: &[ResourceId]) -> Later<Result<(), Fault>>;
    /// Where machines are.
    fn hosts(&self, ids: &[ResourceId]) -> Vec<(ResourceId, String)>;
    /// Whether somebody accepts connections there.
    fn probe(&self, host: &str, port: u16) -> Later<Result<(), String>>;
    /// What Envoy's admin interface counts.
    fn active(&self) -> Later<io::Result<BTreeMap<RuleName, u64>>>;
}

thread_local! {
    static WORLD: RefCell<Option<Arc<dyn World>>> = const { RefCell::new(None) };
}

/// The world of this thread.
pub fn world() -> Option<Arc<dyn World>> {
    WORLD.with_borrow(Option::clone)
}

/// Plays this world on this thread until it is dropped.
pub struct Playing(());

impl Playing {
    pub fn begin(world: Arc<dyn World>) -> Self {
        WORLD.set(Some(world));
        Playing(())
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        WORLD.set(None);
    }
}
