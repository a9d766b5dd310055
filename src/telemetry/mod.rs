//! Logs and metrics: JSON for CloudWatch, lines for people.

mod json;

use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::JsonFields;

use crate::config::environment::MetricsChoice;

/// The target of the events that are metrics: each becomes one line in CloudWatch's embedded metric format. A number is a
/// metric; `rule` is its dimension.
pub const METRICS: &str = "metrics";

/// Logs to standard output as one JSON object a line, which is what Lambda hands to CloudWatch Logs, with the keys that
/// Powertools for AWS Lambda use. `function` and `version` name the running function.
pub fn json(level: &str, metrics: MetricsChoice, function: Option<String>) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let wanted = match metrics {
        MetricsChoice::Off => "metrics=off",
        MetricsChoice::Totals | MetricsChoice::Rules => "metrics=info",
    };
    let filter = filter.add_directive(wanted.parse().expect("the directive is written above"));
    let _ = tracing_subscriber::fmt()
        .fmt_fields(JsonFields::new())
        .event_format(json::Lines::new(metrics, function))
        .with_env_filter(filter)
        .try_init();
}

/// Logs to standard error for people, so that standard output holds results alone.
pub fn human(level: &str) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("warn"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .try_init();
}

/// Calls of AWS by this process, each attempt of them.
#[derive(Debug, Default)]
pub struct Calls {
    attempts: AtomicU64,
    throttled: AtomicU64,
}

/// All of this process.
pub static CALLS: Calls = Calls {
    attempts: AtomicU64::new(0),
    throttled: AtomicU64::new(0),
};

impl Calls {
    pub fn note(&self, throttled: bool) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        self.throttled.fetch_add(u64::from(throttled), Ordering::Relaxed);
    }

    /// Attempts and throttled ones since this was last asked.
    pub fn take(&self) -> (u64, u64) {
        (
            self.attempts.swap(0, Ordering::Relaxed),
            self.throttled.swap(0, Ordering::Relaxed),
        )
    }
}
