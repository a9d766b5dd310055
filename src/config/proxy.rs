//! `config.toml` of the proxy VM: where it listens, where it keeps its memory, what it is called.

mod tls;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::domain::record::DESCRIBE_IS_STALE_FOR;

use super::environment::DEFAULT_IDLE_MIN;
use super::file::{FileErrors, Section, Walk};
use super::proxy_rules::host;
use super::tags;
pub use tls::{Pair, Tls};

/// Ports of its own: the status page, and what Envoy reports to.
pub const DEFAULT_PROXY_PORT: u16 = 8093;
pub const DEFAULT_USAGE_PORT: u16 = 8094;
/// The dynamic ports (RFC 6335, 6).
pub const DEFAULT_PORT_RANGE: RangeInclusive<u16> = 49152..=65535;
/// Where the daemon remembers, unless told otherwise.
pub const DEFAULT_LEDGER: &str = "/var/lib/proxymanager";
const DEFAULT_CONTROL: &str = "/run/proxymanager/control.sock";
const DEFAULT_XDS: &str = "/run/proxymanager/xds.sock";
const DEFAULT_RULES: &str = "rules.d";
/// Envoy applies a flip before it answers, so only what was on the way has to arrive.
const DEFAULT_SETTLE: Duration = Duration::from_secs(60);
/// Load reports come every few seconds.
const DEFAULT_METRICS_DELAY: Duration = Duration::from_secs(30);

const KEYS: [&str; 25] = [
    "accountID",
    "accessPointID",
    "proxyPort",
    "usageTrackingPort",
    "statusAddress",
    "listen",
    "httpPorts",
    "httpsPorts",
    "redirectToHTTPS",
    "portRange",
    "tls",
    "hostedZone",
    "address",
    "region",
    "ledger",
    "rules",
    "controlSocket",
    "xdsSocket",
    "settle",
    "idleMin",
    "metricsDelay",
    "describeDelay",
    "log",
    "apiURL",
    "authToken",
];
/// Read so that a configuration that has them loads.
const NOT_USED: [(&str, &str); 2] = [
    ("apiURL", "it is not needed; remove it"),
    (
        "authToken",
        "it is not needed, the role of this machine is the credential; remove it",
    ),
];

/// 0 lets the kernel choose.
const ANY_PORT: RangeInclusive<u16> = 0..=65535;
const SETTLES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const DELAYS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(30 * 60);
const IDLE_MINS: RangeInclusive<Duration> = Duration::from_secs(1)..=tags::IDLE_MAX;

/// What `config.toml` says, with defaults where it says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Shown on the status page; not a credential.
    pub account: Option<String>,
    pub access_point: Option<String>,
    pub proxy_port: u16,
    pub usage_port: u16,
    /// Where the status page is served.
    pub status_address: IpAddr,
    /// Where Envoy listens; at least one.
    pub listen: Vec<IpAddr>,
    pub http_ports: Vec<u16>,
    /// Served when there is a certificate.
    pub https_ports: Vec<u16>,
    /// Plain HTTP is answered with a redirect to HTTPS: the first HTTP port's to the first HTTPS port, the second's to the
    /// second, and those that have none to the first.
    pub redirect: bool,
    /// From which listening ports are allotted.
    pub port_range: RangeInclusive<u16>,
    /// The first one is shown to clients that name no host, or one that none is for.
    pub tls: Vec<Tls>,
    /// The hosted zone of Route 53 in which the rules' hosts get their records.
    pub hosted_zone: Option<String>,
    /// By what clients reach this machine: what those records lead to, and what `connect` shows. Without it, the address that
    /// EC2 says it has.
    pub address: Option<RecordTarget>,
    /// Without it, `AWS_REGION` decides.
    pub region: Option<String>,
    /// The folder in which the proxy remembers. A table that several proxies share would need each to know of the connections
    /// through the others before it stops anything, so there is none.
    pub ledger: PathBuf,
    /// The folder of the rule files.
    pub rules: PathBuf,
    pub control_socket: PathBuf,
    pub xds_socket: PathBuf,
    pub settle: Duration,
    pub idle_min: Duration,
    pub metrics_delay: Duration,
    /// How long what a service says of a machine may be older than what was just asked of it.
    pub describe_delay: Duration,
    pub log: String,
    /// Sentences about keys that are read and not used.
    pub warnings: Vec<String>,
}

/// Where DNS names shall lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordTarget {
    /// A and AAAA records.
    Addresses(BTreeSet<IpAddr>),
    /// A CNAME record.
    Name(String),
}

impl RecordTarget {
    /// One name or address of it, for a command line.
    pub fn one(&self) -> Option<String> {
        match self {
            RecordTarget::Addresses(addresses) => addresses.first().map(ToString::to_string),
            RecordTarget::Name(name) => Some(name.clone()),
        }
    }
}

impl ProxyConfig {
    /// The HTTPS port to which this one of `httpPorts`, counted from 0, is redirected; none when nothing is.
    pub fn redirect_of(&self, place: usize) -> Option<u16> {
        let ports = self
            .https_ports
            .iter()
            .filter(|_| self.redirect && !self.tls.is_empty());
        ports.clone().nth(place).or(ports.clone().next()).copied()
    }

    /// Reads the text of a configuration file. Relative paths are taken from the folder that the file is in.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read(file: &Path, text: &str) -> Result<Self, FileErrors> {
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        Walk::through(&file.display().to_string(), text, |walk, section| {
            read(walk, section, &folder)
        })
    }
}

fn read<'t>(walk: &mut Walk<'t>, root: Section<'t>, folder: &Path) -> ProxyConfig {
    let path = |walk: &mut Walk<'t>, key, default: &str| {
        let text = walk.read(root, key, "a path", |text| (!text.is_empty()).then(|| text.to_owned()));
        folder.join(text.as_deref().unwrap_or(default))
    };
    let name = |walk: &mut Walk<'t>, key| {
        let allowed = "1 to 128 letters, digits and _.:/-";
        walk.read(root, key, allowed, |text| is_id(text).then(|| text.to_owned()))
    };
    let config = ProxyConfig {
        account: name(walk, "accountID"),
        access_point: name(walk, "accessPointID"),
        proxy_port: walk.number(root, "proxyPort", &ANY_PORT).unwrap_or(DEFAULT_PROXY_PORT),
        usage_port: walk
            .number(root, "usageTrackingPort", &ANY_PORT)
            .unwrap_or(DEFAULT_USAGE_PORT),
        status_address: walk
            .read(
                root,
                "statusAddress",
                "an IP address of this machine, such as 127.0.0.1",
                |text| text.parse().ok(),
            )
            .unwrap_or(IpAddr::from([127, 0, 0, 1])),
        listen: addresses(walk, root),
        http_ports: ports(walk, root, "httpPorts", &[80]),
        https_ports: ports(walk, root, "httpsPorts", &[443]),
        redirect: walk.truth(root, "redirectToHTTPS").unwrap_or(false),
        port_range: walk
            .read(root, "portRange", "FIRST-LAST, such as 49152-65535", port_range)
            .unwrap_or(DEFAULT_PORT_RANGE),
        tls: tls::read(walk, root, folder),
        hosted_zone: name(walk, "hostedZone"),
        address: address(walk, root),
        region: walk.read(root, "region", "a Region such as eu-central-1", |text| {
            is_region(text).then(|| text.to_owned())
        }),
        ledger: walk
            .read(root, "ledger", "file:FOLDER", |text| ledger(text, folder))
            .unwrap_or_else(|| PathBuf::from(DEFAULT_LEDGER)),
        rules: path(walk, "rules", DEFAULT_RULES),
        control_socket: path(walk, "controlSocket", DEFAULT_CONTROL),
        xds_socket: path(walk, "xdsSocket", DEFAULT_XDS),
        settle: walk.duration(root, "settle", &SETTLES).unwrap_or(DEFAULT_SETTLE),
        idle_min: walk.duration(root, "idleMin", &IDLE_MINS).unwrap_or(DEFAULT_IDLE_MIN),
        metrics_delay: walk
            .duration(root, "metricsDelay", &DELAYS)
            .unwrap_or(DEFAULT_METRICS_DELAY),
        describe_delay: walk
            .duration(root, "describeDelay", &DELAYS)
            .unwrap_or(DESCRIBE_IS_STALE_FOR),
        log: walk
            .read(root, "log", "off, error, warn, info, debug or trace", |text| {
                let levels = ["off", "error", "warn", "info", "debug", "trace"];
                levels.contains(&text).then(|| text.to_owned())
            })
            .unwrap_or_else(|| "info".to_owned()),
        warnings: NOT_USED
            .into_iter()
            .filter(|(key, _)| root.has(key))
            .map(|(key, why)| format!("{key} is not used: {why}"))
            .collect(),
    };
    walk.strangers(root, &KEYS);
    one_port_each(walk, root, &config);
    if config.hosted_zone.is_some() && config.access_point.is_none() {
        walk.lacks("hostedZone needs accessPointID, by which this proxy knows its own records from those of others");
    }
    if config.redirect && config.tls.is_empty() {
        walk.lacks("redirectToHTTPS = true needs a certificate: add [[tls]]");
    }
    config
}

/// No port twice, and none of the fixed ones among those that are allotted.
fn one_port_each<'t>(walk: &mut Walk<'t>, root: Section<'t>, config: &ProxyConfig) {
    let https = if config.tls.is_empty() {
        &[][..]
    } else {
        &config.https_ports
    };
    let http = config.http_ports.iter().map(|port| ("httpPorts", *port));
    let own = [
        ("proxyPort", config.proxy_port),
        ("usageTrackingPort", config.usage_port),
    ];
    let all: Vec<_> = own
        .into_iter()
        .chain(http)
        .chain(https.iter().map(|port| ("httpsPorts", *port)))
        .collect();
    for (at, (key, port)) in all.iter().enumerate() {
        let earlier = all[..at].iter().find(|(_, other)| other == port && *port > 0);
        let what = match earlier {
            Some((other, _)) => format!("{key}: the port {port} is in {other} too: give each its own"),
            None if config.port_range.contains(port) => {
                let (first, last) = (config.port_range.start(), config.port_range.end());
                format!(
                    "{key}: the port {port} lies in portRange {first}-{last}, from which rules get theirs: move one of them"
                )
            }
            None => continue,
        };
        match walk.said(root, key) {
            Some(said) => walk.tell(&said, what),
            None => walk.lacks(what),
        }
    }
}

fn addresses<'t>(walk: &mut Walk<'t>, root: Section<'t>) -> Vec<IpAddr> {
    let mut all = Vec::new();
    for element in walk.list(root, "listen") {
        let said = element.said();
        match said.text.parse() {
            Ok(address) => all.push(address),
            Err(_) => walk.refuse(
                &said,
                "IP addresses of this machine such as 10.0.0.5, or 0.0.0.0 for all of them",
            ),
        }
    }
    if all.is_empty() {
        all.push(IpAddr::from([0, 0, 0, 0]));
    }
    all
}

fn ports<'t>(walk: &mut Walk<'t>, root: Section<'t>, key: &str, default: &[u16]) -> Vec<u16> {
    if !root.has(key) {
        return default.to_vec();
    }
    let mut all = Vec::new();
    for element in walk.list(root, key) {
        let said = element.said();
        match said.text.parse() {
            Ok(port) if port > 0 => all.push(port),
            Ok(_) | Err(_) => walk.refuse(&said, "ports from 1 to 65535"),
        }
    }
    all
}

fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (1..=last).contains(&first).then_some(first..=last)
}

fn ledger(text: &str, folder: &Path) -> Option<PathBuf> {
    let path = text.strip_prefix("file:").filter(|path| !path.is_empty())?;
    Some(folder.join(path))
}

fn address<'t>(walk: &mut Walk<'t>, root: Section<'t>) -> Option<RecordTarget> {
    walk.read(
        root,
        "address",
        "addresses such as [\"192.0.2.1\", \"2001:db8::1\"], or a name such as \"proxy.example.com\"",
        |text| {
            let addresses: Result<BTreeSet<IpAddr>, _> = text.split_whitespace().map(str::parse).collect();
            match addresses {
                Ok(addresses) if !addresses.is_empty() => Some(RecordTarget::Addresses(addresses)),
                Ok(_) => None,
                Err(_) => host(text)
                    .filter(|name| {
                        name.contains('.')
                            && name.ends_with(|last: char| last.is_ascii_alphabetic())
                            && !name.starts_with('*')
                    })
                    .map(RecordTarget::Name),
            }
        },
    )
}

fn is_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:/-".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(fits)
}

fn is_region(text: &str) -> bool {
    let word = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    text.len() <= 32 && text.split('-').count() >= 3 && text.split('-').all(word)
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
