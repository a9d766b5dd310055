//! The tags of a listener rule: what they are called, what they may say, and how those of several routes come together.
//!
//! A tag's value has at most 256 of letters, digits, space and `_.:/=+-@` (Elastic Load Balancing API reference, `Tag`), so
//! lists are separated by spaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use crate::domain::path::PathPrefix;
use crate::domain::policy::{Hold, Needed, Policy, StopKind};
use crate::domain::rule::{Problem, RouteId};
use crate::domain::table::{TAG_ALLOW, TAG_IDLE, TAG_PARKS};

use super::text::{allowed_durations, allowed_numbers, duration, nearest, number};

/// What the names of all our tags begin with.
pub const PREFIX: &str = "autostopping:";

/// Without use for this long, the rule sleeps. Makes a listener rule a managed one.
pub const IDLE: &str = TAG_IDLE;
/// The rule's identity: routes with one name are one rule.
pub const NAME: &str = "autostopping:name";
/// `page` or `wait`.
pub const HOLD: &str = "autostopping:hold";
/// How many healthy targets a wake needs, or `all`.
pub const HEALTHY: &str = "autostopping:healthy";
/// A wake that takes longer has failed.
pub const DEADLINE: &str = "autostopping:deadline";
/// Bytes a minute that count as use, or `off`.
pub const BUSY_NETWORK: &str = "autostopping:busy-network";
/// Percent that count as use, or `off`.
pub const BUSY_CPU: &str = "autostopping:busy-cpu";
/// `stop` or `hibernate`.
pub const STOP: &str = "autostopping:stop";
/// `true` or `false`.
pub const DRY_RUN: &str = "autostopping:dry-run";
/// Networks that may wake it.
pub const ALLOW: &str = TAG_ALLOW;
/// Path prefixes that wake it.
pub const WAKE_PATHS: &str = "autostopping:wake-paths";
/// Path prefixes that do not wake it.
pub const NEVER_WAKE_PATHS: &str = "autostopping:never-wake-paths";
/// `true` or `false`: only the button on the page wakes it.
pub const CONFIRM: &str = "autostopping:confirm";
/// How many times a day requests may wake it, or `off`.
pub const WAKES_PER_DAY: &str = "autostopping:wakes-per-day";
pub const SCHEDULE: &str = "autostopping:schedule";
pub const DEPENDS_ON: &str = "autostopping:depends-on";
pub const ALSO: &str = "autostopping:also";
/// On a parked rule: the ARN of its R.
pub const PARKS: &str = TAG_PARKS;
/// On an instance: that we may start and stop it.
pub const MANAGED: &str = "autostopping:managed";

const ALL: [&str; 19] = [
    IDLE,
    NAME,
    HOLD,
    HEALTHY,
    DEADLINE,
    BUSY_NETWORK,
    BUSY_CPU,
    STOP,
    DRY_RUN,
    ALLOW,
    WAKE_PATHS,
    NEVER_WAKE_PATHS,
    CONFIRM,
    WAKES_PER_DAY,
    SCHEDULE,
    DEPENDS_ON,
    ALSO,
    PARKS,
    MANAGED,
];
/// In the documentation, but not acted on yet: a rule that relies on one of these is not stopped.
const NOT_YET: [&str; 3] = [SCHEDULE, DEPENDS_ON, ALSO];

/// What the policy of a rule is made of, without the prefix: what a rule file of the proxy may say of it.
#[cfg(feature = "proxy")]
pub(super) fn policy_words() -> impl Iterator<Item = &'static str> {
    let not_policy = [NAME, PARKS, MANAGED];
    ALL.into_iter()
        .filter(move |key| !not_policy.contains(key))
        .map(|key| &key[PREFIX.len()..])
}

/// The longest `autostopping:idle`.
pub const IDLE_MAX: Duration = Duration::from_secs(24 * 3600);

/// A day is far beyond any boot; less than a second no machine can make.
const DEADLINES: RangeInclusive<Duration> = Duration::from_secs(1)..=IDLE_MAX;
/// A target group has at most 1,000 targets (Elastic Load Balancing, "Quotas for your Application Load Balancers").
const HEALTHY_TARGETS: RangeInclusive<u32> = 0..=1000;
/// 0 bytes would be met by silence, and the rule would never sleep; what is meant by it is `off`.
const BUSY_BYTES: RangeInclusive<u64> = 1..=u64::MAX;
/// 0 percent likewise.
const BUSY_PERCENT: RangeInclusive<u8> = 1..=100;
/// A rule that sleeps after five minutes cannot be woken more often in a day than this; 0 would mean never, which
/// `autostopping:allow` says better.
const DAILY_WAKES: RangeInclusive<u32> = 1..=288;
const NAME_LENGTHS: RangeInclusive<usize> = 1..=128;

/// Reads a rule's tags; those of others are ignored. Whatever cannot be used is a problem that names its tag, with the
/// default in its place: a rule with such a problem is shown and never stopped.
pub fn policy(tags: &BTreeMap<String, String>, settle: Duration, idle_min: Duration) -> (Policy, Vec<Problem>) {
    let mut reader = Reader {
        tags,
        problems: Vec::new(),
    };
    let idles = idle_min..=IDLE_MAX;
    let idle = reader.required(IDLE, &allowed_durations(&idles), |text| duration(text, &idles));
    let Policy {
        hold,
        healthy,
        deadline,
        busy_network,
        busy_cpu,
        stop,
        dry_run,
        confirm,
        wakes_per_day,
        metrics_delay,
        metrics_period,
        describe_delay,
        ..
    } = Policy::new(IDLE_MAX, settle);
    let policy = Policy {
        idle: idle.unwrap_or(IDLE_MAX),
        hold: reader.read(HOLD, "page or wait", hold_kind).unwrap_or(hold),
        healthy: reader
            .read(HEALTHY, &or(allowed_numbers(&HEALTHY_TARGETS), "all"), needed)
            .unwrap_or(healthy),
        deadline: reader
            .read(DEADLINE, &allowed_durations(&DEADLINES), |text| {
                duration(text, &DEADLINES)
            })
            .unwrap_or(deadline),
        busy_network: reader
            .read(
                BUSY_NETWORK,
                &or("a number of bytes a minute, 1 or more".to_owned(), "off"),
                |text| or_off(text, |text| number(text, &BUSY_BYTES)),
            )
            .unwrap_or(busy_network),
        busy_cpu: reader
            .read(BUSY_CPU, &or(allowed_numbers(&BUSY_PERCENT), "off"), |text| {
                or_off(text, |text| number(text, &BUSY_PERCENT))
            })
            .unwrap_or(busy_cpu),
        stop: reader.read(STOP, "stop or hibernate", stop_kind).unwrap_or(stop),
        dry_run: reader.read(DRY_RUN, "true or false", truth).unwrap_or(dry_run),
        allow: reader.read(ALLOW, ALLOWED_NETWORKS, networks).unwrap_or_default(),
        wake_paths: reader.read(WAKE_PATHS, ALLOWED_PATHS, prefixes).unwrap_or_default(),
        never_wake_paths: reader
            .read(NEVER_WAKE_PATHS, ALLOWED_PATHS, prefixes)
            .unwrap_or_default(),
        confirm: reader.read(CONFIRM, "true or false", truth).unwrap_or(confirm),
        wakes_per_day: reader
            .read(WAKES_PER_DAY, &or(allowed_numbers(&DAILY_WAKES), "off"), |text| {
                or_off(text, |text| number(text, &DAILY_WAKES))
            })
            .unwrap_or(wakes_per_day),
        settle,
        metrics_delay,
        metrics_period,
        describe_delay,
    };
    if let Some(both) = policy
        .wake_paths
        .iter()
        .find(|path| policy.never_wake_paths.contains(path))
    {
        let allowed = format!("{both} is in {WAKE_PATHS} too: leave it in one of them");
        reader.refuse(NEVER_WAKE_PATHS, &allowed);
    }
    reader.read(NAME, ALLOWED_NAMES, is_name);
    reader.strangers();
    (policy, reader.problems)
}

/// The tags of a rule from those of its routes. A tag that only some of them have counts for all. Where two differ, the
/// value of the route whose ARN comes first stands in, and the contradiction is a problem; for the tags that say who may wake
/// the rule one that keeps everybody from it, since either value could let in whom the other keeps out.
pub fn merge(mut routes: Vec<(RouteId, BTreeMap<String, String>)>) -> (BTreeMap<String, String>, Vec<Problem>) {
    // AWS promises no order, and which value wins must not depend on luck.
    routes.sort();
    let mut merged: BTreeMap<String, String> = BTreeMap::new();
    let mut contradicting: BTreeMap<String, Problem> = BTreeMap::new();
    for (key, other) in routes
        .into_iter()
        .flat_map(|(_, tags)| tags)
        .filter(|(key, _)| is_ours(key))
    {
        match merged.get(&key) {
            None => {
                merged.insert(key, other);
            }
            Some(one) if *one == other => {}
            Some(one) => {
                let one = one.clone();
                contradicting
                    .entry(key.clone())
                    .or_insert_with(|| contradiction(key, one, other));
            }
        }
    }
    (merged, contradicting.into_values().collect())
}

fn contradiction(key: String, one: String, other: String) -> Problem {
    if [ALLOW, WAKE_PATHS, NEVER_WAKE_PATHS, CONFIRM].contains(&key.as_str()) {
        let allowed = format!("another of the rule's routes says {other:?}; give all of them the same value");
        return Problem::UnreadableTag {
            key,
            value: one,
            allowed,
        };
    }
    Problem::ContradictingTags { key, one, other }
}

struct Reader<'a> {
    tags: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn read<T>(&mut self, key: &str, allowed: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.tags.get(key)?;
        let value = parse(text);
        if value.is_none() {
            self.problems.push(unreadable(key, text, allowed));
        }
        value
    }

    fn required<T>(&mut self, key: &str, allowed: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        if !self.tags.contains_key(key) {
            self.problems.push(unreadable(key, "", allowed));
        }
        self.read(key, allowed, parse)
    }

    /// What can be read and cannot be meant.
    fn refuse(&mut self, key: &str, allowed: &str) {
        let text = self.tags.get(key).map(String::as_str).unwrap_or_default();
        self.problems.push(unreadable(key, text, allowed));
    }

    /// Tags with our prefix that mean nothing to this version.
    fn strangers(&mut self) {
        for key in self.tags.keys().filter(|key| is_ours(key)) {
            if NOT_YET.contains(&key.as_str()) {
                self.problems.push(Problem::UnsupportedTag { key: key.clone() });
            } else if !ALL.contains(&key.as_str()) {
                self.problems.push(Problem::UnknownTag {
                    key: key.clone(),
                    allowed: meant(key),
                });
            }
        }
    }
}

fn unreadable(key: &str, value: &str, allowed: &str) -> Problem {
    Problem::UnreadableTag {
        key: key.to_owned(),
        value: value.to_owned(),
        allowed: allowed.to_owned(),
    }
}

/// Tag keys are case-sensitive; that `AutoStopping:Idle` is not ours is the kind of slip to tell rather than to overlook.
fn is_ours(key: &str) -> bool {
    key.get(..PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

fn meant(key: &str) -> String {
    let names = ALL.map(|known| &known[PREFIX.len()..]);
    match nearest(&key[PREFIX.len()..], &names) {
        Some(name) => format!("{PREFIX}{name} is probably meant"),
        None => format!("the known ones are {}", ALL.join(", ")),
    }
}

fn or(first: String, second: &str) -> String {
    format!("{first}, or {second}")
}

fn or_off<T>(text: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if text.trim() == "off" {
        Some(None)
    } else {
        parse(text).map(Some)
    }
}

fn hold_kind(text: &str) -> Option<Hold> {
    match text.trim() {
        "page" => Some(Hold::Page),
        "wait" => Some(Hold::Wait),
        _ => None,
    }
}

fn needed(text: &str) -> Option<Needed> {
    match text.trim() {
        "all" => Some(Needed::All),
        text => number(text, &HEALTHY_TARGETS).map(Needed::AtLeast),
    }
}

fn stop_kind(text: &str) -> Option<StopKind> {
    match text.trim() {
        "stop" => Some(StopKind::Stop),
        "hibernate" => Some(StopKind::Hibernate),
        _ => None,
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.trim() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

const ALLOWED_NETWORKS: &str = "one or more networks such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7, separated by spaces; without the tag, everybody";

/// Nothing at all is no list: it would mean everybody.
fn networks(text: &str) -> Option<Vec<IpNet>> {
    let one = |text: &str| {
        let net: Option<IpNet> = text.parse().ok();
        net.or_else(|| text.parse().ok().map(|address: IpAddr| address.into()))
    };
    let all: Option<BTreeSet<IpNet>> = text
        .split_whitespace()
        .map(|text| one(text).map(|net| unmapped(net.trunc())))
        .collect();
    all.filter(|networks| !networks.is_empty())
        .map(|networks| networks.into_iter().collect())
}

/// IPv4 addresses are compared as such, in whichever form they are written (`::ffff:192.0.2.7`, RFC 4291, 2.5.5.2).
fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(mapped) = net else { return net };
    let (address, bits) = (mapped.addr().to_ipv4_mapped(), mapped.prefix_len().checked_sub(96));
    address
        .zip(bits)
        .and_then(|(address, bits)| IpNet::new(address.into(), bits).ok())
        .unwrap_or(net)
}

const ALLOWED_PATHS: &str = "one or more beginnings of paths such as /app /api/v2, separated by spaces, each of whole segments as a request resolves to them: no //, no dot segments, none of % ? # * and \\";

fn prefixes(text: &str) -> Option<Vec<PathPrefix>> {
    let all: Option<BTreeSet<PathPrefix>> = text.split_whitespace().map(PathPrefix::new).collect();
    all.filter(|prefixes| !prefixes.is_empty())
        .map(|prefixes| prefixes.into_iter().collect())
}

pub(super) const ALLOWED_NAMES: &str = "1 to 128 letters (a-z, A-Z), digits and _./-, a letter or digit first";

/// No spaces, because lists of names are separated by them; ASCII, because two names that look alike must be alike.
pub(super) fn is_name(text: &str) -> Option<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte);
    let right = NAME_LENGTHS.contains(&text.len())
        && text.bytes().all(fits)
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    right.then_some(())
}

#[cfg(test)]
#[path = "tags_tests.rs"]
mod tests;
