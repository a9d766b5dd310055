//! Logs, as JSON for CloudWatch Logs or as lines for people.

use tracing_subscriber::EnvFilter;

/// Logs to standard output as one JSON object a line, which is what Lambda hands to CloudWatch Logs.
pub fn json(level: &str) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_current_span(false)
        .with_ansi(false)
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
