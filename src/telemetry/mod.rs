//! Logs and metrics: JSON for CloudWatch, lines for people.

mod json;

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::environment::MetricsChoice;

/// The target of the events that are metrics: each becomes one line in CloudWatch's embedded metric format. A number is a
/// metric; `rule` is its dimension.
pub const METRICS: &str = "metrics";

/// Logs to standard output as one JSON object a line, which is what Lambda hands to CloudWatch Logs, with the keys that
/// Powertools for AWS Lambda use. `function` and `version` name the running function.
pub fn json(level: &str, metrics: MetricsChoice, function: Option<String>) {
    let metrics_too = match metrics {
        MetricsChoice::Off => LevelFilter::OFF,
        MetricsChoice::Totals | MetricsChoice::Rules => LevelFilter::INFO,
    };
    let filter = from(level, Level::INFO).with_target(METRICS, metrics_too);
    let lines = tracing_subscriber::fmt::layer()
        .fmt_fields(JsonFields::new())
        .event_format(json::Lines::new(metrics, function));
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init();
}

/// Logs to standard error for people, so that standard output holds results alone.
pub fn human(level: &str) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false);
    let filter = from(level, Level::WARN);
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init();
}

/// Everything from this level on.
fn from(level: &str, otherwise: Level) -> Targets {
    Targets::new().with_default(level.parse().unwrap_or(otherwise))
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
