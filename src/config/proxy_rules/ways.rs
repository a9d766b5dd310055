//! `[[http]]` and `[[tcp]]`: the ways in.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::config::file::{Section, Walk};
use crate::config::proxy::ProxyConfig;
use crate::domain::path::PathPrefix;

const HTTP_KEYS: [&str; 6] = ["hosts", "path", "port", "tls", "http2", "check"];
const TCP_KEYS: [&str; 3] = ["port", "listen", "protocol"];
const PORTS: RangeInclusive<u16> = 1..=65535;

/// A way in by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRoute {
    /// In lower case; `*.example.com` stands for everything below.
    pub hosts: Vec<String>,
    /// `/`, or the beginning of whole segments, without a slash at its end: `/app` is `/app` and `/app/x`, and so is what was
    /// written as `/app/`.
    pub path: String,
    /// Of the machine.
    pub port: u16,
    /// Whether the machine speaks TLS there.
    pub tls: bool,
    /// Whether the machine speaks HTTP/2 there, as servers of gRPC do.
    pub http2: bool,
    /// Healthy is what answers a GET of this path with less than 500, over TLS where that is said; without it, what accepts a
    /// connection. Not with HTTP/2: a server of gRPC answers no GET, and would never be healthy.
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
    pub fn at(port: u16) -> Self {
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

pub(super) fn http<'t>(walk: &mut Walk<'t>, section: Section<'t>) -> HttpRoute {
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
        text => PathPrefix::new(text).map(|_| text.trim_end_matches('/').to_owned()),
    };
    let http2 = walk.truth(section, "http2").unwrap_or(false);
    let checks = match http2 {
        true => {
            "nothing with http2 = true, since a server of gRPC answers no GET: remove it, and what accepts a connection is healthy"
        }
        false => "a path to GET, such as /health",
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
        http2,
        check: walk.read(section, "check", checks, |text| {
            let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
            (!http2 && text.starts_with('/') && text.bytes().all(fits)).then(|| text.to_owned())
        }),
    }
}

pub(super) fn tcp<'t>(walk: &mut Walk<'t>, section: Section<'t>, config: &ProxyConfig) -> TcpRoute {
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
