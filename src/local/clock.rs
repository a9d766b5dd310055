//! The one place of the local cloud that reads the clock.

use jiff::Timestamp;
use tokio::time::Instant;

/// Wall time at the start, carried on by tokio's clock, so that a paused runtime pauses the cloud too.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Timestamp,
    since: Instant,
}

impl Clock {
    /// A clock that shows the time of now.
    #[allow(
        clippy::disallowed_methods,
        reason = "the world takes time as an argument; here is where it comes from"
    )]
    pub fn start() -> Self {
        Self {
            origin: Timestamp::now(),
            since: Instant::now(),
        }
    }

    /// The time of now.
    pub fn now(&self) -> Timestamp {
        self.origin + self.since.elapsed()
    }
}
