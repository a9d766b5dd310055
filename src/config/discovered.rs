//! Rules of the proxy out of the tags of machines and databases: what a file in `rules.d` says, said on the machine itself.
//! Pure.
//!
//! | tag | value |
//! |---|---|
//! | `autostopping:proxy` | `true`, or the `accessPointID` of the one proxy that shall serve it |
//! | `autostopping:tcp` | ports, separated by spaces; a database's own when there is none |
//! | `autostopping:host` | host names, separated by spaces |
//! | `autostopping:http` | the machine's port for those hosts; 80 |
//! | `autostopping:check` | a path that is answered when the machine is healthy |
//! | `autostopping:wake-timeout` | how long a client is held at most |
//!
//! Everything else is the policy, with the tags of listener rules. Machines with one `autostopping:name` are one rule.
//!
//! A proxy's own machine has the tag `autostopping:access-point` with its `accessPointID`, by which proxies of one Region know of
//! each other: `true` would be served by all of them, and each would stop what is in use by way of another.

mod settle;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::domain::path::PathPrefix;
use crate::domain::rule::{ResourceId, RuleName};

use super::proxy_rules::{self, HttpRoute, Protocol, ProxyRule, TcpRoute, Wanted};
use super::tags;
use super::text::{allowed_durations, allowed_numbers, duration, number};

/// Opts a machine or database in.
pub const PROXY: &str = "autostopping:proxy";
/// Says of a machine that it is a proxy, and which.
pub const ACCESS_POINT: &str = "autostopping:access-point";
const TCP: &str = "autostopping:tcp";
const HOST: &str = "autostopping:host";
const HTTP: &str = "autostopping:http";
const CHECK: &str = "autostopping:check";
const WAKE_TIMEOUT: &str = "autostopping:wake-timeout";
/// Those that are about ways in, which the policy's reader does not know.
const WAYS: [&str; 6] = [PROXY, TCP, HOST, HTTP, CHECK, WAKE_TIMEOUT];

const PORTS: RangeInclusive<u16> = 1..=65535;
const WAKE_TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=tags::IDLE_MAX;
const HTTP_PORT: u16 = 80;

/// A machine or database with its tags.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tagged {
    pub id: ResourceId,
    pub tags: BTreeMap<String, String>,
    /// Of a database: its own port.
    pub port: Option<u16>,
    /// Of a database: the cluster with which it starts and stops.
    pub cluster: Option<String>,
}

/// What this proxy is, as far as it matters to the tags.
#[derive(Debug, Clone, Copy)]
pub struct Here<'a> {
    /// `accessPointID`.
    pub access_point: Option<&'a str>,
    /// The machine it runs on, when that is one of EC2.
    pub machine: Option<&'a ResourceId>,
    pub settle: Duration,
    pub idle_min: Duration,
}

pub use settle::{Discovered, discovered};

/// Whether a machine is for this proxy; `proxies` are the `accessPointID`s of the others in the Region.
///
/// # Errors
/// A sentence when nobody can tell.
fn opted(tagged: &Tagged, proxies: &[&str], here: &Here<'_>) -> Result<bool, String> {
    let opted = tagged.tags.get(PROXY).map(|value| value.trim());
    let one = match opted {
        None | Some("false") => return Ok(false),
        Some("") => return Err(unreadable(PROXY, "", "true, or the accessPointID of a proxy")),
        Some("true") => proxies.first(),
        Some(name) if Some(name) == here.access_point => proxies.iter().find(|other| **other == name),
        Some(_) => return Ok(false),
    };
    match one {
        None => Ok(true),
        Some(twin) if Some(*twin) == here.access_point => Err(format!(
            "another machine in this Region is the proxy {twin} too: give each its own accessPointID"
        )),
        Some(other) => Err(format!(
            "the proxy {other:?} is in this Region too, and {PROXY} = true would be for both: say which one by its accessPointID"
        )),
    }
}

/// The rule of one machine by its tags.
fn rule(tagged: &Tagged, here: &Here<'_>) -> Result<ProxyRule, Vec<String>> {
    if let Some(cluster) = &tagged.cluster {
        return Err(vec![format!(
            "it belongs to the cluster {cluster} and starts and stops with it: tag the cluster instead"
        )]);
    }
    let mut reader = Reader {
        tagged,
        problems: Vec::new(),
    };
    let is_database = tagged.id.0.starts_with("rds");
    let tcp = reader.tcp();
    let http = reader.http(is_database);
    if tcp.is_empty() && http.is_empty() && reader.problems.is_empty() {
        let problem = format!("there is no way in: add {TCP} = 22, or {HOST} = app.example.com");
        reader.problems.push(problem);
    }
    let usual = match is_database {
        true => proxy_rules::DEFAULT_DATABASE_WAKE_TIMEOUT,
        false => proxy_rules::DEFAULT_WAKE_TIMEOUT,
    };
    let wake_timeout = reader.read(WAKE_TIMEOUT, &allowed_durations(&WAKE_TIMEOUTS), |text| {
        duration(text, &WAKE_TIMEOUTS)
    });
    let wake_timeout = wake_timeout.unwrap_or(usual);
    let name = name(tagged);
    let pressed = tagged.tags.contains_key(HOST);
    let tags = reader.policy(&name, wake_timeout, pressed, here);
    match reader.problems.is_empty() {
        false => Err(reader.problems),
        true => Ok(ProxyRule {
            name,
            tags,
            resources: vec![Wanted::One(tagged.id.clone())],
            http,
            tcp,
            wake_timeout,
        }),
    }
}

/// The tag's; else the machine's `Name` where it is fit to be one; else its id.
fn name(tagged: &Tagged) -> RuleName {
    let said = tagged.tags.get(tags::NAME).map(|name| name.trim());
    let named = || {
        let name = tagged.tags.get("Name").map(|name| name.trim());
        name.filter(|name| tags::is_name(name).is_some())
    };
    let name = said.or_else(named).map(str::to_owned);
    RuleName(name.unwrap_or_else(|| tagged.id.0.replace(':', "-")))
}

struct Reader<'t> {
    tagged: &'t Tagged,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn read<T>(&mut self, key: &str, allowed: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = self.tagged.tags.get(key)?;
        let read = parse(value.trim());
        if read.is_none() {
            self.problems.push(unreadable(key, value, allowed));
        }
        read
    }

    fn tcp(&mut self) -> Vec<TcpRoute> {
        let allowed = format!("{}, or several separated by spaces", allowed_numbers(&PORTS));
        let ports = self.read(TCP, &allowed, |text| {
            let ports: Option<BTreeSet<u16>> = text.split_whitespace().map(|port| number(port, &PORTS)).collect();
            ports.filter(|ports| !ports.is_empty())
        });
        let own = || match self.tagged.tags.contains_key(TCP) {
            true => BTreeSet::new(),
            false => self.tagged.port.into_iter().collect(),
        };
        let route = |port| TcpRoute {
            port,
            listen: None,
            protocol: Protocol::at(port),
        };
        ports.unwrap_or_else(own).into_iter().map(route).collect()
    }

    fn http(&mut self, is_database: bool) -> Vec<HttpRoute> {
        if let Some(key) = [HOST, HTTP, CHECK]
            .into_iter()
            .find(|key| is_database && self.tagged.tags.contains_key(*key))
        {
            self.problems
                .push(format!("a database speaks no HTTP: remove the tag {key}"));
            return Vec::new();
        }
        let allowed = "host names such as app.example.com or *.example.com, separated by spaces";
        let hosts = self.read(HOST, allowed, |text| {
            let hosts: Option<BTreeSet<String>> = text.split_whitespace().map(proxy_rules::host).collect();
            hosts.filter(|hosts| !hosts.is_empty())
        });
        let port = self.read(HTTP, &allowed_numbers(&PORTS), |text| number(text, &PORTS));
        let check = self.read(CHECK, "a path such as /healthz", |text| {
            let right = text == "/" || PathPrefix::new(text).is_some();
            right.then(|| text.to_owned())
        });
        let Some(hosts) = hosts else {
            for key in [HTTP, CHECK] {
                if self.tagged.tags.contains_key(key) && !self.tagged.tags.contains_key(HOST) {
                    self.problems
                        .push(format!("{key} says nothing without {HOST}: add it, or remove {key}"));
                }
            }
            return Vec::new();
        };
        vec![HttpRoute {
            hosts: hosts.into_iter().collect(),
            path: "/".to_owned(),
            port: port.unwrap_or(HTTP_PORT),
            tls: false,
            http2: false,
            check,
        }]
    }

    fn policy(
        &mut self,
        name: &RuleName,
        wake_timeout: Duration,
        pressed: bool,
        here: &Here<'_>,
    ) -> BTreeMap<String, String> {
        let ours = |key: &str| {
            let start = key.get(..tags::PREFIX.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(tags::PREFIX))
        };
        let said = self.tagged.tags.iter();
        let said = said.filter(|(key, _)| ours(key) && !WAYS.contains(&key.as_str()) && *key != tags::MANAGED);
        let mut all = proxy_rules::defaults(name, wake_timeout);
        all.extend(said.map(|(key, value)| (key.clone(), value.clone())));
        let problems = proxy_rules::problems(&all, pressed, here.settle, here.idle_min);
        self.problems.extend(problems.iter().map(ToString::to_string));
        all
    }
}

fn unreadable(key: &str, value: &str, allowed: &str) -> String {
    format!("the tag {key} = {value:?} cannot be read: {allowed}")
}

#[cfg(test)]
#[path = "discovered_tests.rs"]
mod tests;
