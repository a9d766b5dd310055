//! One look at one rule: lease, observe, plan, apply.

use std::time::Duration;

/// The longest that one call of an adapter may take, retries included. The lease is longer than that.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(8);
