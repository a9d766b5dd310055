//! What Envoy shall do, in the words of the design. A [`View`] is whole: what is not in it is taken away.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::domain::rule::{RuleName, Side};

/// Everything Envoy is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    pub edge: Edge,
    /// In any order; names differ.
    pub rules: Vec<RuleView>,
}

/// What all rules share: the HTTP listeners, their certificates, limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edge {
    pub listeners: Vec<HttpListener>,
    /// The first one is shown to a client that names no host, or one that none of them is for.
    pub certificates: Vec<Certificate>,
    pub limits: Limits,
}

/// A port for HTTP/1 and HTTP/2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpListener {
    /// Unique, for example `https`; what [`HttpWay::listeners`] names.
    pub name: String,
    pub address: SocketAddr,
    /// Whether clients speak TLS. Without any certificate in the [`Edge`] such a listener is left out.
    pub tls: bool,
    /// Every request is sent on to `https://` on this port, whatever the rules say. It wakes nothing.
    pub redirect_to_https: Option<u16>,
    /// Reverse proxies in front of this one whose `X-Forwarded-For` is believed; 0 when clients connect directly.
    pub trusted_hops: u32,
}

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Unique.
    pub name: String,
    /// The hosts whose clients are shown it, `www.example.com` or `*.example.com`. One that an earlier certificate has too is
    /// left to that.
    pub hosts: Vec<String>,
    /// The certificate and its issuers, PEM. Empty, it is the one that Envoy has by this name; without any, its clients are
    /// turned away until there is one.
    pub chain_pem: Vec<u8>,
    /// The private key, PEM.
    pub key_pem: Vec<u8>,
}

/// Shows nothing of the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("name", &self.name)
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

/// Limits of the edge, per connection unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// All request headers together, KiB (Envoy: at most 8192).
    pub headers_kib: u32,
    /// How many request headers.
    pub headers: u32,
    /// Until a client has sent its request's headers.
    pub headers_timeout: Duration,
    /// A client connection with no request under way is closed after this.
    pub idle_timeout: Duration,
    /// Until a machine has accepted a connection.
    pub connect_timeout: Duration,
    /// Buffered bytes of one connection for HTTP before reading pauses.
    pub buffer: u32,
    /// The same for TCP: with little of it a single stream is a third slower.
    pub tcp_buffer: u32,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// The longest time the [`Judge`](super::Judge) may take for one request.
    pub longest_hold: Duration,
    /// How long about a request is held while the daemon is not there to judge it; then it is answered 503.
    pub away: Duration,
    /// Connections and requests one rule may have at once.
    pub per_rule: u32,
}

impl Default for Limits {
    /// The edge settings that Envoy's "Configuring Envoy as an edge proxy" recommends, where it names any.
    fn default() -> Self {
        Limits {
            headers_kib: 60,
            headers: 100,
            headers_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(3600),
            connect_timeout: Duration::from_secs(5),
            buffer: 32 * 1024,
            // Envoy's default.
            tcp_buffer: 1024 * 1024,
            streams: 100,
            longest_hold: Duration::from_secs(3600),
            away: Duration::from_secs(60),
            per_rule: 100_000,
        }
    }
}

/// One rule as Envoy knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleView {
    pub name: RuleName,
    /// Raised at each sleep and whenever a wait is given up; stored before it is published. Envoy rings only once for each.
    pub generation: u64,
    /// While this is the waker, Envoy has no cluster of the rule.
    pub side: Side,
    pub endpoints: Vec<Endpoint>,
    pub http: Vec<HttpWay>,
    pub tcp: Vec<TcpWay>,
    /// How long a TCP connection may wait for the rule to wake.
    pub wake_timeout: Duration,
}

/// A machine or a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub host: Host,
    /// Its share, 1 to 128; 1 unless there is a reason.
    pub weight: u32,
    /// Whether the daemon's own check finds it well. One that is not is used only when none is.
    pub healthy: bool,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    Address(IpAddr),
    /// A DNS name, looked up by Envoy every few seconds (a database that fails over changes its address).
    Name(String),
}

/// A way in by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpWay {
    /// Host names without port: `www.example.com`, `*.example.com`, or `*`. No two rules have one host and prefix.
    pub hosts: Vec<String>,
    /// Starts with `/`. It matches whole segments: `/a` is `/a` and `/a/b`, not `/ab`.
    pub prefix: String,
    /// Names of [`HttpListener`]s.
    pub listeners: Vec<String>,
    /// The endpoints' port.
    pub target_port: u16,
    pub upstream: Upstream,
}

/// How a machine is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Upstream {
    pub tls: Option<UpstreamTls>,
    /// HTTP/2, as gRPC needs it; otherwise HTTP/1.1.
    pub http2: bool,
}

/// TLS towards the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamTls {
    /// The server name asked for; without one, the host of the request.
    pub sni: Option<String>,
    /// Who must have signed the machine's certificate, PEM; without it any certificate will do.
    pub authority_pem: Option<Vec<u8>>,
}

/// A way in by TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpWay {
    pub listen: SocketAddr,
    /// The endpoints' port.
    pub target_port: u16,
    /// Who may connect; empty: everybody. Others are closed at once and wake nothing.
    pub allow: Vec<IpNet>,
}

/// A rule wants to be woken by TCP: somebody waits at the current generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    pub rule: RuleName,
    pub generation: u64,
}

/// A held request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedRequest {
    pub rule: RuleName,
    pub generation: u64,
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// As sent, with the port if there is one.
    pub host: String,
    /// With the query.
    pub path: String,
    /// Names in small letters; several values of one name are joined by commas.
    pub headers: BTreeMap<String, String>,
    /// The client, as [`HttpListener::trusted_hops`] lets it be known.
    pub source: Option<IpAddr>,
}

/// What becomes of a held request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the backend. Only to be said once the rule's side is the backend and Envoy has
    /// [acknowledged](super::Plane::acked) that.
    Go,
    /// It is answered.
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
}
