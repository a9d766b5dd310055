//! The tags of a listener rule, which are all the policy there is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::{between, duration};
use crate::domain::policy::{Hold, Needed, Policy, StopKind};
use crate::domain::rule::{Problem, RouteId};
pub use crate::domain::table::{TAG_IDLE as IDLE, TAG_PARKS as PARKS};

/// All our tags begin so.
pub const PREFIX: &str = "autostopping:";
pub const NAME: &str = "autostopping:name";
pub const HOLD: &str = "autostopping:hold";
pub const HEALTHY: &str = "autostopping:healthy";
pub const DEADLINE: &str = "autostopping:deadline";
pub const BUSY_NETWORK: &str = "autostopping:busy-network";
pub const BUSY_CPU: &str = "autostopping:busy-cpu";
pub const STOP: &str = "autostopping:stop";
pub const DRY_RUN: &str = "autostopping:dry-run";
pub const ALLOW: &str = "autostopping:allow";
pub const SCHEDULE: &str = "autostopping:schedule";
pub const DEPENDS_ON: &str = "autostopping:depends-on";
pub const ALSO: &str = "autostopping:also";

const KNOWN: [&str; 13] = [
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
    SCHEDULE,
    DEPENDS_ON,
    ALSO,
];

const LONGEST_IDLE: Duration = Duration::from_secs(24 * 3600);
const SHORTEST_DEADLINE: Duration = Duration::from_secs(10);
const LONGEST_DEADLINE: Duration = Duration::from_secs(6 * 3600);

/// Reads the policy of a rule. What cannot be read is a problem that names the tag, and stays at its default.
pub fn policy(tags: &BTreeMap<String, String>, settle: Duration, idle_min: Duration) -> (Policy, Vec<Problem>) {
    let mut policy = Policy::new(idle_min, settle);
    let mut problems = Vec::new();
    for (key, value) in tags.iter().filter(|(key, _)| key.starts_with(PREFIX)) {
        if let Err(problem) = read(&mut policy, key, value.trim(), idle_min) {
            problems.push(problem);
        }
    }
    (policy, problems)
}

fn read(policy: &mut Policy, key: &str, value: &str, idle_min: Duration) -> Result<(), Problem> {
    let bad = |allowed: String| Problem::UnreadableTag {
        key: key.to_owned(),
        value: value.to_owned(),
        allowed,
    };
    let is_one_of = |words: &str| bad(format!("allowed is {words}"));
    match key {
        IDLE => {
            policy.idle = duration(value, idle_min, LONGEST_IDLE).ok_or_else(|| bad(between(idle_min, LONGEST_IDLE)))?
        }
        DEADLINE => {
            let read = duration(value, SHORTEST_DEADLINE, LONGEST_DEADLINE);
            policy.deadline = read.ok_or_else(|| bad(between(SHORTEST_DEADLINE, LONGEST_DEADLINE)))?;
        }
        NAME if value.is_empty() => return Err(bad("allowed is any name that is not empty".to_owned())),
        NAME | PARKS => {}
        HOLD => {
            policy.hold = match value {
                "page" => Hold::Page,
                "wait" => Hold::Wait,
                _ => return Err(is_one_of("page or wait")),
            }
        }
        HEALTHY => {
            policy.healthy = match (value, value.parse()) {
                ("all", _) => Needed::All,
                (_, Ok(number)) => Needed::AtLeast(number),
                (_, Err(_)) => return Err(is_one_of("a whole number or all")),
            }
        }
        BUSY_NETWORK => {
            policy.busy_network = match (value, value.parse()) {
                ("off", _) => None,
                (_, Ok(bytes)) => Some(bytes),
                (_, Err(_)) => return Err(is_one_of("a whole number of bytes a minute, or off")),
            }
        }
        BUSY_CPU => {
            policy.busy_cpu = match (value, value.parse()) {
                ("off", _) => None,
                (_, Ok(percent @ 1..=100)) => Some(percent),
                (_, Ok(_) | Err(_)) => return Err(is_one_of("a percentage from 1 to 100, or off")),
            }
        }
        STOP => {
            policy.stop = match value {
                "stop" => StopKind::Stop,
                "hibernate" => StopKind::Hibernate,
                _ => return Err(is_one_of("stop or hibernate")),
            }
        }
        DRY_RUN => policy.dry_run = value.parse().map_err(|_| is_one_of("true or false"))?,
        ALLOW => {
            let networks: Option<Vec<_>> = value.split_ascii_whitespace().map(network).collect();
            let networks = networks.filter(|networks| !networks.is_empty());
            policy.allow = networks.ok_or_else(|| {
                is_one_of("addresses and CIDRs separated by spaces, such as 192.0.2.0/24 2001:db8::/32")
            })?;
        }
        SCHEDULE | DEPENDS_ON | ALSO => return Err(Problem::UnsupportedTag { key: key.to_owned() }),
        _ => {
            return Err(Problem::UnknownTag {
                key: key.to_owned(),
                allowed: format!("the tags are {}", KNOWN.join(", ")),
            });
        }
    }
    Ok(())
}

/// A CIDR, or an address that stands for itself.
fn network(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// The tags of all routes of a rule as one set. A tag that only some routes have counts for all.
pub fn merge(routes: Vec<(RouteId, BTreeMap<String, String>)>) -> (BTreeMap<String, String>, Vec<Problem>) {
    let mut merged: BTreeMap<String, String> = BTreeMap::new();
    let mut problems = Vec::new();
    for (key, value) in routes
        .into_iter()
        .flat_map(|(_, tags)| tags)
        .filter(|(key, _)| key.starts_with(PREFIX))
    {
        match merged.get(&key) {
            Some(one) if *one != value => {
                problems.push(Problem::ContradictingTags {
                    key,
                    one: one.clone(),
                    other: value,
                });
            }
            Some(_) => {}
            None => {
                merged.insert(key, value);
            }
        }
    }
    (merged, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTES: Duration = Duration::from_secs(300);

    fn read_all(tags: &[(&str, &str)]) -> (Policy, Vec<Problem>) {
        let tags = tags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        policy(&tags, MINUTES, MINUTES)
    }

    #[test]
    fn every_tag_is_read() {
        let (policy, problems) = read_all(&[
            (IDLE, "2h"),
            (NAME, "shop"),
            (HOLD, "wait"),
            (HEALTHY, "all"),
            (DEADLINE, "10m"),
            (BUSY_NETWORK, "off"),
            (BUSY_CPU, "5"),
            (STOP, "hibernate"),
            (DRY_RUN, "true"),
            (ALLOW, "192.0.2.7 2001:db8::/32"),
        ]);
        assert_eq!(problems, []);
        assert_eq!(
            (policy.idle, policy.hold, policy.healthy),
            (24 * MINUTES, Hold::Wait, Needed::All)
        );
        assert_eq!(
            (policy.busy_network, policy.busy_cpu, policy.stop, policy.dry_run),
            (None, Some(5), StopKind::Hibernate, true)
        );
        assert_eq!(
            policy.allow.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.0.2.7/32", "2001:db8::/32"]
        );
    }

    #[test]
    fn each_unreadable_value_names_its_tag() {
        for (key, value) in [
            (IDLE, "30"),
            (IDLE, "1s"),
            (IDLE, "25h"),
            (NAME, ""),
            (HOLD, "Page"),
            (HEALTHY, "-1"),
            (DEADLINE, "soon"),
            (BUSY_NETWORK, "1MB"),
            (BUSY_CPU, "0"),
            (STOP, "terminate"),
            (DRY_RUN, "yes"),
            (ALLOW, "10.0.0.0/33"),
            (ALLOW, ""),
        ] {
            let (_, problems) = read_all(&[(key, value)]);
            assert!(
                matches!(&problems[..], [Problem::UnreadableTag { key: named, .. }] if named == key),
                "{key} = {value:?}: {problems:?}"
            );
        }
        assert!(matches!(
            &read_all(&[("autostopping:idel", "5m")]).1[..],
            [Problem::UnknownTag { .. }]
        ));
        assert!(matches!(
            &read_all(&[(SCHEDULE, "mon-fri 08:00-19:00 Europe/Berlin")]).1[..],
            [Problem::UnsupportedTag { .. }]
        ));
        assert_eq!(read_all(&[("Name", "not ours")]).1, []);
    }

    #[test]
    fn routes_of_one_rule_agree_or_are_named() {
        let route = |n: &str, idle: &str| {
            (
                RouteId(n.to_owned()),
                BTreeMap::from([(IDLE.to_owned(), idle.to_owned())]),
            )
        };
        assert_eq!(merge(vec![route("a", "5m"), route("b", "5m")]).1, []);
        assert!(matches!(
            &merge(vec![route("a", "5m"), route("b", "6m")]).1[..],
            [Problem::ContradictingTags { .. }]
        ));
    }
}
