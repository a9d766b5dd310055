//! The environment of the function, which the command line reads too.

mod arn;

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::domain::policy;
use crate::domain::rule::GroupId;

use super::branding::{self, Branding, Colour};
use super::text::{allowed_durations, allowed_numbers, duration, nearest, number};
use super::{BadValue, ConfigErrors, Lookup};
use arn::{Kind, LISTENER, WAKER_GROUP};

/// ARNs of the watched listeners, comma-separated. Required.
pub const LISTENERS: &str = "AUTOSTOPPING_LISTENERS";
/// `dynamodb:TABLE`, or `memory`. Required.
pub const LEDGER: &str = "AUTOSTOPPING_LEDGER";
/// The waker target groups by ARN or name, one per load balancer, comma-separated. Required. A template needs the name:
/// the group's ARN is made after the function that stands behind it, and so cannot be in the function's environment.
pub const WAKER: &str = "AUTOSTOPPING_WAKER";
/// How long a request is held at most.
pub const HOLD_LIMIT: &str = "AUTOSTOPPING_HOLD_LIMIT";
/// How many requests are held at once at most, over all environments of the function.
pub const MAX_HELD: &str = "AUTOSTOPPING_MAX_HELD";
/// Between the flip to the waker and the stop.
pub const SETTLE: &str = "AUTOSTOPPING_SETTLE";
/// How much of the newest metrics is ignored because it may be incomplete.
pub const METRICS_DELAY: &str = "AUTOSTOPPING_METRICS_DELAY";
/// The shortest `autostopping:idle` that is accepted.
pub const IDLE_MIN: &str = "AUTOSTOPPING_IDLE_MIN";
/// A picture on the pages, as a data URI.
pub const LOGO: &str = "AUTOSTOPPING_LOGO";
/// The pages' colour, as `#rrggbb`.
pub const COLOR: &str = "AUTOSTOPPING_COLOR";
/// A text on the pages.
pub const MESSAGE: &str = "AUTOSTOPPING_MESSAGE";
/// What is logged: a level, or `TARGET=LEVEL` comma-separated.
pub const LOG: &str = "AUTOSTOPPING_LOG";

/// Whether metrics are written: `off`, `totals`, or `rules`.
pub const METRICS: &str = "AUTOSTOPPING_METRICS";

const PREFIX: &str = "AUTOSTOPPING_";
const ALL: [&str; 13] = [
    LISTENERS,
    LEDGER,
    WAKER,
    HOLD_LIMIT,
    MAX_HELD,
    SETTLE,
    METRICS_DELAY,
    IDLE_MIN,
    LOGO,
    COLOR,
    MESSAGE,
    LOG,
    METRICS,
];

pub const DEFAULT_HOLD_LIMIT: Duration = Duration::from_secs(20);
pub const DEFAULT_MAX_HELD: u32 = 50;
pub const DEFAULT_SETTLE: Duration = Duration::from_secs(5 * 60);
pub const DEFAULT_IDLE_MIN: Duration = Duration::from_secs(5 * 60);
pub const DEFAULT_LOG: &str = "info";

/// The load balancer gives a silent connection up after 60 s unless told otherwise, and whether that binds a function
/// that has not answered yet is undocumented: answer well before it, since at the limit a last look and the 2 s after a
/// flip may still come on top. Below 1 s holding is pointless; to hold nothing, set
/// `AUTOSTOPPING_MAX_HELD` to 0.
const HOLD_LIMITS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(50);
/// A held request occupies an environment of its own, and an account runs 1,000 at once unless it asked for more
/// (Lambda quotas, concurrent executions).
const HELD: RangeInclusive<u32> = 0..=1000;
/// Zero would leave requests that are on the way without an answer; more than an hour only costs machine time.
const SETTLES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// Zero is for a cloud whose metrics are never late; points later than half an hour mean an outage, not a delay.
const METRICS_DELAYS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(30 * 60);
/// Its upper end is that of `autostopping:idle`: beyond it no tag could be right.
const IDLE_MINS: RangeInclusive<Duration> = Duration::from_secs(1)..=super::tags::IDLE_MAX;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What the environment says, with defaults where it says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Listener ARNs of Application Load Balancers, all of one Region; at least one, none twice.
    pub listeners: Vec<String>,
    pub ledger: LedgerChoice,
    /// Target groups in the same Region, by ARN or name; at least one, none twice.
    pub wakers: Vec<GroupId>,
    pub hold_limit: Duration,
    /// 0: no request is held.
    pub max_held: u32,
    pub settle: Duration,
    pub metrics_delay: Duration,
    pub idle_min: Duration,
    pub branding: Branding,
    /// A filter `tracing_subscriber` accepts.
    pub log: String,
    pub metrics: MetricsChoice,
}

/// Which metrics are written to the log for CloudWatch to take up. Each is a custom metric, priced by the hour in which it
/// is written, so none is unless somebody wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsChoice {
    Off,
    /// Of all rules together.
    Totals,
    /// Of each rule too.
    Rules,
}

/// Where the shared memory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerChoice {
    DynamoDb {
        table: String,
    },
    /// Within this process: only where there is a single one.
    Memory,
}

/// As it is written in the environment.
impl fmt::Display for LedgerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerChoice::DynamoDb { table } => write!(f, "dynamodb:{table}"),
            LedgerChoice::Memory => f.write_str("memory"),
        }
    }
}

impl Settings {
    /// Reads and checks all values.
    ///
    /// # Errors
    /// All that is wrong, in the order of the documentation. A variable with our prefix that is not known is wrong: it is
    /// a slip of the pen, and what it was meant to change would silently stay as it is.
    pub fn read(lookup: &impl Lookup) -> Result<Self, ConfigErrors> {
        let mut reader = Reader {
            lookup,
            bad: Vec::new(),
        };
        let listeners = reader.arns(LISTENERS, &LISTENER);
        let ledger = reader.ledger();
        let wakers = reader.arns(WAKER, &WAKER_GROUP);
        reader.one_region(&listeners, &wakers);
        let settings = Settings {
            listeners,
            ledger,
            wakers: wakers.into_iter().map(GroupId).collect(),
            hold_limit: reader.duration(HOLD_LIMIT, DEFAULT_HOLD_LIMIT, &HOLD_LIMITS),
            max_held: reader.number(MAX_HELD, DEFAULT_MAX_HELD, &HELD),
            settle: reader.duration(SETTLE, DEFAULT_SETTLE, &SETTLES),
            metrics_delay: reader.duration(METRICS_DELAY, policy::METRICS_DELAY, &METRICS_DELAYS),
            idle_min: reader.duration(IDLE_MIN, DEFAULT_IDLE_MIN, &IDLE_MINS),
            branding: reader.branding(),
            log: reader.log(),
            metrics: reader.metrics(),
        };
        reader.unknown_keys();
        if reader.bad.is_empty() {
            Ok(settings)
        } else {
            Err(ConfigErrors(reader.bad))
        }
    }
}

/// What the environment says of the pages' looks alone.
///
/// # Errors
/// All that is wrong with it.
pub fn branding(lookup: &impl Lookup) -> Result<Branding, ConfigErrors> {
    let mut reader = Reader {
        lookup,
        bad: Vec::new(),
    };
    let branding = reader.branding();
    if reader.bad.is_empty() {
        Ok(branding)
    } else {
        Err(ConfigErrors(reader.bad))
    }
}

/// Notes what is wrong and goes on with a stand-in, which nobody gets to see.
struct Reader<'a, L> {
    lookup: &'a L,
    bad: Vec<BadValue>,
}

impl<L: Lookup> Reader<'_, L> {
    fn bad(&mut self, key: &str, value: &str, allowed: impl Into<String>) {
        self.bad.push(BadValue {
            key: key.to_owned(),
            value: value.to_owned(),
            allowed: allowed.into(),
        });
    }

    fn duration(&mut self, key: &str, default: Duration, range: &RangeInclusive<Duration>) -> Duration {
        let Some(text) = self.lookup.get(key) else {
            return default;
        };
        duration(&text, range).unwrap_or_else(|| {
            self.bad(key, &text, allowed_durations(range));
            default
        })
    }

    fn number(&mut self, key: &str, default: u32, range: &RangeInclusive<u32>) -> u32 {
        let Some(text) = self.lookup.get(key) else {
            return default;
        };
        number(&text, range).unwrap_or_else(|| {
            self.bad(key, &text, allowed_numbers(range));
            default
        })
    }

    fn branding(&mut self) -> Branding {
        Branding {
            logo: self.read(LOGO, branding::logo, branding::LOGO_ALLOWED),
            colour: self.read(COLOR, Colour::parse, branding::COLOUR_ALLOWED),
            message: self.read(MESSAGE, branding::message, branding::MESSAGE_ALLOWED),
        }
    }

    fn read<T>(&mut self, key: &str, parse: impl Fn(&str) -> Option<T>, allowed: &str) -> Option<T> {
        let text = self.lookup.get(key)?;
        let value = parse(&text);
        if value.is_none() {
            self.bad(key, &short(&text), allowed);
        }
        value
    }

    fn metrics(&mut self) -> MetricsChoice {
        match self.lookup.get(METRICS).as_deref() {
            None | Some("off") => MetricsChoice::Off,
            Some("totals") => MetricsChoice::Totals,
            Some("rules") => MetricsChoice::Rules,
            Some(value) => {
                self.bad.push(BadValue {
                    key: METRICS.to_owned(),
                    value: value.to_owned(),
                    allowed: "off, totals or rules".to_owned(),
                });
                MetricsChoice::Off
            }
        }
    }

    fn log(&mut self) -> String {
        let Some(text) = self.lookup.get(LOG) else {
            return DEFAULT_LOG.to_owned();
        };
        let directive = |directive: &str| {
            let (target, level) = directive.rsplit_once('=').unwrap_or(("all", directive));
            let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
            !target.is_empty()
                && target.bytes().all(named)
                && LEVELS.iter().any(|known| level.eq_ignore_ascii_case(known))
        };
        let text = text.trim();
        if !text.split(',').all(directive) {
            let levels = LEVELS.join(", ");
            self.bad(LOG, text, format!("one of {levels}; or TARGET=LEVEL, comma-separated"));
        }
        text.to_owned()
    }

    fn ledger(&mut self) -> LedgerChoice {
        let text = self.lookup.get(LEDGER).unwrap_or_default();
        let text = text.trim();
        let memory = match refuses_memory(self.lookup) {
            true => "; memory is only for emulators: on Lambda each environment would remember on its own",
            false => ", or memory",
        };
        match text.strip_prefix("dynamodb:") {
            Some(table) if is_table_name(table) => LedgerChoice::DynamoDb {
                table: table.to_owned(),
            },
            None if text == "memory" && !refuses_memory(self.lookup) => LedgerChoice::Memory,
            Some(_) | None => {
                let allowed = "dynamodb:TABLE, with the table's name of 3 to 255 letters, digits and _.-";
                self.bad(LEDGER, text, format!("{allowed}{memory}"));
                LedgerChoice::Memory
            }
        }
    }

    fn arns(&mut self, key: &str, kind: &Kind) -> Vec<String> {
        let text = self.lookup.get(key).unwrap_or_default();
        let mut arns: Vec<String> = Vec::new();
        for arn in text.split(',').map(str::trim) {
            if arn::region(arn, kind).is_none() && !(kind.or_name && arn::is_group_name(arn)) {
                self.bad(key, arn, format!("{}, comma-separated", kind.example));
            } else if arns.iter().any(|known| known == arn) {
                self.bad(key, arn, "each only once");
            } else {
                arns.push(arn.to_owned());
            }
        }
        arns
    }

    /// A load balancer, its target groups and the function behind them are always in one Region, and one client serves
    /// all of them.
    fn one_region(&mut self, listeners: &[String], wakers: &[String]) {
        let regions = |arns: &[String], key: &'static str, kind: &Kind| -> Vec<(&'static str, String, String)> {
            let of = |arn: &String| Some((key, arn.clone(), arn::region(arn, kind)?.to_owned()));
            arns.iter().filter_map(of).collect()
        };
        let mut all = regions(listeners, LISTENERS, &LISTENER);
        all.extend(regions(wakers, WAKER, &WAKER_GROUP));
        let Some((_, _, first)) = all.first().cloned() else {
            return;
        };
        for (key, arn, _) in all.iter().filter(|(_, _, region)| *region != first) {
            self.bad(key, arn, format!("all in one Region, as the first listener's {first}"));
        }
    }

    fn unknown_keys(&mut self) {
        let mut keys = self.lookup.keys();
        keys.retain(|key| key.starts_with(PREFIX) && !ALL.contains(&key.as_str()));
        keys.sort();
        for key in keys {
            let value = self.lookup.get(&key).unwrap_or_default();
            let known = match nearest(&key, &ALL) {
                Some(meant) => format!("no such variable; {meant} is probably meant"),
                None => format!("no such variable; the known ones are {}", ALL.join(", ")),
            };
            self.bad(&key, &value, known);
        }
    }
}

/// The beginning of a value that may be kilobytes long.
fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Whether this is AWS Lambda and not an emulator of it.
///
/// Lambda says so with `AWS_LAMBDA_INITIALIZATION_TYPE` (Lambda developer guide, "Defined runtime environment variables";
/// Powertools for AWS Lambda detects it by the same variable). `AWS_EXECUTION_ENV = AWS_Lambda_...` says so too, but is
/// *not* defined for the `provided.*` runtimes, ours among them (same page). The official emulator started on its own sets
/// neither (probed with the one of SAM CLI). An emulator that imitates both tells itself by `AWS_SAM_LOCAL`, or by sending
/// us to an API that is not AWS's with `AWS_ENDPOINT_URL`; a VPC endpoint is AWS's and lifts nothing.
fn refuses_memory(lookup: &impl Lookup) -> bool {
    let set = |key: &str| lookup.get(key);
    let lambda = set("AWS_LAMBDA_INITIALIZATION_TYPE").is_some()
        || set("AWS_EXECUTION_ENV").is_some_and(|value| value.starts_with("AWS_Lambda_"));
    let emulated = set("AWS_SAM_LOCAL").is_some() || set("AWS_ENDPOINT_URL").is_some_and(|url| !is_of_aws(&url));
    lambda && !emulated
}

/// Whether the host of a URL is one of AWS's own (AWS General Reference, "AWS service endpoints").
fn is_of_aws(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host.split(':').next().unwrap_or_default().to_lowercase();
    ["amazonaws.com", "amazonaws.com.cn", "api.aws"]
        .iter()
        .any(|domain| host.strip_suffix(domain).is_some_and(|front| front.ends_with('.')))
}

/// DynamoDB developer guide, "Naming rules".
pub(super) fn is_table_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (3..=255).contains(&name.len()) && name.bytes().all(fits)
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
