//! `rules.d/*.toml` of the proxy VM: one rule a file. Its policy is said in the words of the tags, without their prefix,
//! and read by [`tags`], so that it means the same as on a load balancer.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use crate::domain::path::PathPrefix;
use crate::domain::rule::{Problem, ResourceId, RuleName};

use super::file::{FileError, FileErrors, Section, Walk};
use super::proxy::ProxyConfig;
use super::tags;

/// How long somebody waits for a rule at most, unless it says otherwise. A database takes longer to start.
pub const DEFAULT_WAKE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
pub const DEFAULT_DATABASE_WAKE_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// As long as a wake is given by the tags' default.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(15 * 60);

const KEYS: [&str; 5] = ["name", "resources", "http", "tcp", "wake-timeout"];
const HTTP_KEYS: [&str; 6] = ["hosts", "path", "port", "tls", "http2", "check"];
const TCP_KEYS: [&str; 3] = ["port", "listen", "protocol"];
const PORTS: RangeInclusive<u16> = 1..=65535;
const WAKE_TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=tags::IDLE_MAX;

/// A rule as its file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRule {
    pub name: RuleName,
    /// Its policy, by the names of the tags; [`tags::policy`] reads it without a problem.
    pub tags: BTreeMap<String, String>,
    /// At least one.
    pub resources: Vec<Wanted>,
    pub http: Vec<HttpRoute>,
    pub tcp: Vec<TcpRoute>,
    /// How long somebody who came while it slept is kept waiting.
    pub wake_timeout: Duration,
}

/// What a rule runs on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// `i-...`, `rds:NAME`, `rds-cluster:NAME` or `program:COMMAND`.
    One(ResourceId),
    /// All EC2 instances that have all of these tags.
    Tagged(BTreeMap<String, String>),
}

/// A way in by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRoute {
    /// In lower case; `*.example.com` stands for everything below.
    pub hosts: Vec<String>,
    /// `/`, or the beginning of whole segments.
    pub path: String,
    /// Of the machine.
    pub port: u16,
    /// Whether the machine speaks TLS there.
    pub tls: bool,
    /// Whether the machine speaks HTTP/2 there, as servers of gRPC do.
    pub http2: bool,
    /// Healthy is what answers a GET of this path with less than 500; without it, what accepts a connection.
    pub check: Option<String>,
}

/// A way in by TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpRoute {
    /// Of the machine.
    pub port: u16,
    /// Where the proxy listens; allotted from the range when it is not said.
    pub listen: Option<u16>,
    pub protocol: Protocol,
}

/// What is spoken, as far as `connect` has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Ssh,
    Rdp,
    Postgres,
    Mysql,
    Other,
}

impl Protocol {
    const WORDS: [(&'static str, Protocol); 5] = [
        ("ssh", Protocol::Ssh),
        ("rdp", Protocol::Rdp),
        ("postgres", Protocol::Postgres),
        ("mysql", Protocol::Mysql),
        ("other", Protocol::Other),
    ];

    /// What is usually spoken at a port (IANA, Service Name and Transport Protocol Port Number Registry).
    pub(super) fn at(port: u16) -> Self {
        match port {
            22 => Protocol::Ssh,
            3389 => Protocol::Rdp,
            5432 => Protocol::Postgres,
            3306 => Protocol::Mysql,
            _ => Protocol::Other,
        }
    }

    /// Its word in a rule file.
    pub fn word(self) -> &'static str {
        let mut words = Protocol::WORDS.iter();
        words
            .find(|(_, protocol)| *protocol == self)
            .map_or("other", |(word, _)| word)
    }

    /// The protocol of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        let mut words = Protocol::WORDS.iter();
        words.find(|(known, _)| *known == word).map(|(_, protocol)| *protocol)
    }
}

impl ProxyRule {
    /// Reads the text of a rule file. The rule's name is the file's, unless it says another.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read(file: &Path, text: &str, config: &ProxyConfig) -> Result<Self, FileErrors> {
        let stem = file
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        Walk::through(&file.display().to_string(), text, |walk, root| {
            read(walk, root, &stem, config)
        })
    }
}

fn read<'t>(walk: &mut Walk<'t>, root: Section<'t>, stem: &str, config: &ProxyConfig) -> ProxyRule {
    let is_name = |text: &str| tags::is_name(text).map(|()| text.to_owned());
    let name = match root.has("name") {
        true => walk.read(root, "name", tags::ALLOWED_NAMES, is_name),
        false => is_name(stem).or_else(|| {
            walk.lacks(format!(
                "the file's name {stem:?} is no rule's name: give it a name = \"...\" of {}",
                tags::ALLOWED_NAMES
            ));
            None
        }),
    };
    let name = RuleName(name.unwrap_or_default());
    let resources = resources(walk, root);
    let http: Vec<_> = walk
        .sections(root, "http")
        .into_iter()
        .map(|section| http(walk, section))
        .collect();
    let tcp: Vec<_> = walk
        .sections(root, "tcp")
        .into_iter()
        .map(|section| tcp(walk, section, config))
        .collect();
    if http.is_empty() && tcp.is_empty() && !root.has("http") && !root.has("tcp") {
        walk.lacks("there is no way in: add [[http]] with hosts and port, or [[tcp]] with port");
    }
    let is_database = |one: &Wanted| matches!(one, Wanted::One(id) if id.0.starts_with("rds"));
    let usual = match resources.iter().any(is_database) {
        true => DEFAULT_DATABASE_WAKE_TIMEOUT,
        false => DEFAULT_WAKE_TIMEOUT,
    };
    let wake_timeout = walk.duration(root, "wake-timeout", &WAKE_TIMEOUTS).unwrap_or(usual);
    let tags = policy(walk, root, &name, wake_timeout, config);
    let known: Vec<_> = KEYS.into_iter().chain(tags::policy_words()).collect();
    walk.strangers(root, &known);
    ProxyRule {
        name,
        tags,
        resources,
        http,
        tcp,
        wake_timeout,
    }
}

/// What a rule of the proxy says unless it is told otherwise.
pub(super) fn defaults(name: &RuleName, wake_timeout: Duration) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::from([
        // Envoy sees every connection, so the machine's own traffic has nothing to add.
        (tags::BUSY_NETWORK.to_owned(), "off".to_owned()),
        // Held requests cost nothing here, and go on with their bodies.
        (tags::HOLD.to_owned(), "wait".to_owned()),
        (tags::NAME.to_owned(), name.0.clone()),
    ]);
    if wake_timeout > DEFAULT_DEADLINE {
        tags.insert(
            tags::DEADLINE.to_owned(),
            humantime::format_duration(wake_timeout).to_string(),
        );
    }
    tags
}

/// The policy as tags, checked by the one reader of them.
fn policy<'t>(
    walk: &mut Walk<'t>,
    root: Section<'t>,
    name: &RuleName,
    wake_timeout: Duration,
    config: &ProxyConfig,
) -> BTreeMap<String, String> {
    let mut tags = defaults(name, wake_timeout);
    for word in tags::policy_words().filter(|word| root.has(word)) {
        if let Some(said) = walk.said(root, word) {
            tags.insert(format!("{}{word}", tags::PREFIX), said.text);
        }
    }
    let (_, problems) = tags::policy(&tags, config.settle, config.idle_min);
    for problem in problems {
        let (key, allowed) = match problem {
            Problem::UnreadableTag { key, allowed, .. } => (key, allowed),
            Problem::UnsupportedTag { key } => (
                key,
                "nothing yet: this version does not act on it; remove it".to_owned(),
            ),
            // The name was read before, and no other key of ours gets here.
            _ => continue,
        };
        let word = key.strip_prefix(tags::PREFIX).unwrap_or(&key);
        match walk.said(root, word) {
            Some(said) => walk.refuse(&said, allowed),
            None if word == "name" => {}
            None => walk.missing(root, word, &allowed),
        }
    }
    tags
}

const RESOURCES: &str =
    "\"i-0123456789abcdef0\", \"rds:NAME\", \"rds-cluster:NAME\", \"program:COMMAND\" or { tag = { KEY = \"VALUE\" } }";

fn resources<'t>(walk: &mut Walk<'t>, root: Section<'t>) -> Vec<Wanted> {
    let mut all = BTreeSet::new();
    let elements = walk.list(root, "resources");
    if elements.is_empty() {
        walk.missing(root, "resources", RESOURCES);
    }
    for element in elements {
        let found = match element.section("resources") {
            Some(section) => tagged(walk, section),
            None => {
                let said = element.said();
                let one = resource(&said.text);
                if one.is_none() {
                    walk.refuse(&said, RESOURCES);
                }
                one.map(Wanted::One)
            }
        };
        all.extend(found);
    }
    all.into_iter().collect()
}

fn tagged<'t>(walk: &mut Walk<'t>, section: Section<'t>) -> Option<Wanted> {
    walk.strangers(section, &["tag"]);
    let Some(wanted) = walk
        .list(section, "tag")
        .first()
        .and_then(|element| element.section("resources.tag"))
    else {
        walk.at(section, "resources: allowed is { tag = { KEY = \"VALUE\" } }");
        return None;
    };
    let keys: Vec<&str> = wanted.keys().collect();
    let tags: BTreeMap<_, _> = keys
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), walk.said(wanted, key)?.text)))
        .collect();
    if tags.is_empty() {
        walk.at(
            section,
            "resources: a tag filter without tags would mean every machine; allowed is { tag = { KEY = \"VALUE\" } }",
        );
        return None;
    }
    Some(Wanted::Tagged(tags))
}

/// Ids as AWS gives them: 8 or 17 hexadecimal digits (Amazon EC2 user guide, "Resource IDs"); names of databases are 1 to
/// 63 letters, digits and hyphens (Amazon RDS API reference, CreateDBInstance).
fn resource(text: &str) -> Option<ResourceId> {
    let database = |name: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&name.len()) && name.bytes().all(fits) && name.as_bytes()[0].is_ascii_alphabetic()
    };
    let right = match text.split_once(':') {
        Some(("rds" | "rds-cluster", name)) => database(name),
        Some(("program", command)) => !command.trim().is_empty() && !command.contains('\0'),
        _ => text.strip_prefix("i-").is_some_and(|digits| {
            matches!(digits.len(), 8 | 17) && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        }),
    };
    right.then(|| ResourceId(text.to_owned()))
}

fn http<'t>(walk: &mut Walk<'t>, section: Section<'t>) -> HttpRoute {
    walk.strangers(section, &HTTP_KEYS);
    let mut hosts = BTreeSet::new();
    let elements = walk.list(section, "hosts");
    if elements.is_empty() {
        walk.missing(
            section,
            "hosts",
            "names such as [\"app.example.com\", \"*.example.com\"]",
        );
    }
    for element in elements {
        let said = element.said();
        match host(&said.text) {
            Some(host) => drop(hosts.insert(host)),
            None => walk.refuse(
                &said,
                "a host name such as app.example.com, or *.example.com for all below",
            ),
        }
    }
    let path = |text: &str| match text {
        "/" => Some(text.to_owned()),
        text => PathPrefix::new(text).map(|_| text.to_owned()),
    };
    HttpRoute {
        hosts: hosts.into_iter().collect(),
        path: walk
            .read(
                section,
                "path",
                "/, or the beginning of a path of whole segments such as /app",
                path,
            )
            .unwrap_or_else(|| "/".to_owned()),
        port: port(walk, section),
        tls: walk.truth(section, "tls").unwrap_or(false),
        http2: walk.truth(section, "http2").unwrap_or(false),
        check: walk.read(section, "check", "a path to GET, such as /health", |text| {
            let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
            (text.starts_with('/') && text.bytes().all(fits)).then(|| text.to_owned())
        }),
    }
}

fn tcp<'t>(walk: &mut Walk<'t>, section: Section<'t>, config: &ProxyConfig) -> TcpRoute {
    walk.strangers(section, &TCP_KEYS);
    let port = port(walk, section);
    let (first, last) = (config.port_range.start(), config.port_range.end());
    let allowed = format!(
        "a port from 1 to 65535 that is neither one of the proxy's own nor in portRange {first}-{last}, from which ports are allotted"
    );
    let listen = walk.read(section, "listen", &allowed, |text| {
        let port: u16 = text.parse().ok().filter(|port| *port > 0)?;
        (!config.port_range.contains(&port) && !own_ports(config).contains(&port)).then_some(port)
    });
    let words = Protocol::WORDS.map(|(word, _)| word).join(", ");
    let protocol = walk.read(section, "protocol", &format!("one of {words}"), Protocol::of_word);
    TcpRoute {
        port,
        listen,
        protocol: protocol.unwrap_or_else(|| Protocol::at(port)),
    }
}

/// The ports that rules cannot have.
fn own_ports(config: &ProxyConfig) -> BTreeSet<u16> {
    let https = config.https_ports.iter().filter(|_| !config.tls.is_empty());
    let http = config.http_ports.iter().chain(https).copied();
    http.chain([config.proxy_port, config.usage_port]).collect()
}

fn port<'t>(walk: &mut Walk<'t>, section: Section<'t>) -> u16 {
    if !section.has("port") {
        walk.missing(section, "port", "the machine's port, from 1 to 65535");
    }
    walk.number(section, "port", &PORTS).unwrap_or_default()
}

/// A host name in lower case (RFC 1123, 2.1), its first label perhaps a star.
pub fn host(text: &str) -> Option<String> {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let labels = name.strip_prefix("*.").unwrap_or(&name);
    let label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(fits) && !label.starts_with('-') && !label.ends_with('-')
    };
    (name.len() <= 253 && labels.split('.').all(label)).then_some(name)
}

/// What two rules cannot both have: a name, a host with a path, a fixed port. The later one of `rules` is told, and the
/// index says which; the rest stands.
pub fn conflicts(rules: &[(String, ProxyRule)]) -> Vec<(usize, FileError)> {
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    let mut errors = Vec::new();
    for (at, (file, rule)) in rules.iter().enumerate() {
        let name = std::iter::once(format!("the name {}", rule.name));
        let sites = rule.http.iter().flat_map(|route| {
            let site = |host: &String| format!("the host {host} with the path {}", route.path);
            route.hosts.iter().map(site).collect::<Vec<_>>()
        });
        let fixed = rule
            .tcp
            .iter()
            .filter_map(|route| route.listen)
            .map(|port| format!("the port {port}"));
        let mut refused = false;
        let mut mine: Vec<String> = Vec::new();
        for what in name.chain(sites).chain(fixed) {
            let other = taken.get(&what).map(|other| rules[*other].0.as_str());
            if let Some(other) = other.or_else(|| mine.contains(&what).then_some(file.as_str())) {
                let what = format!("{what} is in {other} already: give each rule its own");
                let error = FileError {
                    file: file.clone(),
                    line: 0,
                    what,
                };
                errors.push((at, error));
                refused = true;
            }
            mine.push(what);
        }
        // What is refused takes nothing away from the next one.
        if !refused {
            taken.extend(mine.into_iter().map(|what| (what, at)));
        }
    }
    errors
}

#[cfg(test)]
#[path = "proxy_rules_tests.rs"]
mod tests;
