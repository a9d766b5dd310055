//! The one place that reads the clock, and where the daemon waits for it.

#[cfg(feature = "aws")]
use std::future::Future;
#[cfg(feature = "aws")]
use std::time::Duration;

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
        #[cfg(all(test, feature = "proxy"))]
        if let Some(world) = crate::played::world() {
            return world.now();
        }
        Timestamp::now()
    }
}

/// A clock that nobody sets.
#[cfg(feature = "proxy")]
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn instant() -> tokio::time::Instant {
    #[cfg(test)]
    if let Some(world) = crate::played::world() {
        return world.instant();
    }
    tokio::time::Instant::now()
}

/// It took too long.
#[cfg(feature = "aws")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late;

/// Ends after this time.
#[cfg(feature = "aws")]
pub async fn sleep(span: Duration) {
    #[cfg(all(test, feature = "proxy"))]
    if let Some(world) = crate::played::world() {
        return world.sleep(span).await;
    }
    tokio::time::sleep(span).await;
}

/// What comes of this work, if it is done within this time; otherwise the work is dropped.
///
/// # Errors
/// When it was not done in time.
#[cfg(feature = "aws")]
pub async fn timeout<T>(span: Duration, work: impl Future<Output = T>) -> Result<T, Late> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = sleep(span) => Err(Late),
    }
}
