//! Environment and tags in, typed values out. Nothing falls back silently: every bad value is named with its key, and all
//! of them at once.

pub mod environment;
pub mod tags;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Where values come from.
pub trait Lookup {
    /// The value of a key; none when it is not set or empty.
    fn get(&self, key: &str) -> Option<String>;
}

/// The environment of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Environment;

impl Lookup for Environment {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the environment"
    )]
    fn get(&self, key: &str) -> Option<String> {
        std::env::var(key).ok().filter(|value| !value.trim().is_empty())
    }
}

impl Lookup for BTreeMap<&str, &str> {
    fn get(&self, key: &str) -> Option<String> {
        BTreeMap::get(self, key)
            .map(|value| (*value).to_owned())
            .filter(|value| !value.trim().is_empty())
    }
}

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadValue {
    pub key: String,
    /// Empty when it is not set.
    pub value: String,
    /// What is allowed, in words.
    pub allowed: String,
}

/// All that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<BadValue>);

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.is_empty() {
            write!(f, "{} is not set; allowed: {}", self.key, self.allowed)
        } else {
            write!(
                f,
                "{} = {:?} cannot be used; allowed: {}",
                self.key, self.value, self.allowed
            )
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, bad) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            bad.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<BadValue> for ConfigErrors {
    fn from(bad: BadValue) -> Self {
        ConfigErrors(vec![bad])
    }
}

/// A duration with its unit, such as `90s`, `15m` or `1h 30m`, within these bounds.
fn duration(text: &str, least: Duration, most: Duration) -> Option<Duration> {
    humantime::parse_duration(text.trim())
        .ok()
        .filter(|duration| (least..=most).contains(duration))
}

/// Bounds in words.
fn between(least: Duration, most: Duration) -> String {
    let show = humantime::format_duration;
    format!(
        "a duration with its unit, from {} to {}, such as 90s or 15m",
        show(least),
        show(most)
    )
}
