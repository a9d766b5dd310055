//! The one place that reads the clock.

use crate::domain::time::Timestamp;

/// Where the time comes from: the system's clock, or a test's.
pub trait Clock: Sync {
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
