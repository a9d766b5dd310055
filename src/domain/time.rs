//! Points in time and durations. The core never reads a clock: every function that needs the time takes it as `now`.

use std::time::Duration;

pub use jiff::Timestamp;

/// `t + d`, or the end of time when that cannot be written down.
pub fn after(t: Timestamp, d: Duration) -> Timestamp {
    t.checked_add(d).unwrap_or(Timestamp::MAX)
}

/// `t - d`, or the beginning of time when that cannot be written down.
pub fn before(t: Timestamp, d: Duration) -> Timestamp {
    t.checked_sub(d).unwrap_or(Timestamp::MIN)
}

/// How long ago `t` was; zero when it lies in the future (two machines' clocks may differ).
pub fn since(now: Timestamp, t: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(t)).unwrap_or(Duration::ZERO)
}

/// How long it is until `t`; zero when it has passed.
pub fn until(now: Timestamp, t: Timestamp) -> Duration {
    since(t, now)
}

/// `base * 2^attempts`, at most `most`.
pub fn backoff(base: Duration, most: Duration, attempts: u32) -> Duration {
    base.saturating_mul(1_u32.checked_shl(attempts).unwrap_or(u32::MAX))
        .min(most)
}
