//! The control plane as the daemon sees it.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::view::{CheckedRequest, Ring, Verdict, View};
use crate::clock::Clock;
use crate::domain::rule::RuleName;
use crate::domain::time::Timestamp;

/// Who decides about a held request.
pub trait Judge: Send + Sync + 'static {
    /// May take as long as [`Limits::longest_hold`](super::Limits::longest_hold). Dropped when the client leaves. After a
    /// restart of the daemon Envoy asks again for a request that is still held.
    fn judge(&self, request: CheckedRequest) -> impl Future<Output = Verdict> + Send;
}

/// Where the control plane listens.
#[derive(Debug, Clone)]
pub struct Places {
    /// Unix socket for xDS, the doorbell and held requests: made anew with mode 0600.
    pub xds: PathBuf,
    /// TCP address for load reports and access logs; port 0 lets the kernel choose.
    pub usage: SocketAddr,
    /// How often Envoy reports its load.
    pub load_interval: Duration,
}

/// One [`Plane::publish`]; a later one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// Something Envoy has refused. What it had before stays in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// `listener`, `route`, `cluster`, `endpoints` or `secret`.
    pub kind: &'static str,
    pub resource: String,
    /// The rules it serves; of a shared resource none is named.
    pub rule: Option<RuleName>,
    /// Envoy's own words.
    pub words: String,
}

/// Why a version is not known to be in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAcked {
    #[error("Envoy is not connected")]
    NotConnected,
    #[error("Envoy refuses {} {}: {}", .0[0].kind, .0[0].resource, .0[0].words)]
    Rejected(Vec<Rejection>),
}

/// What the control plane has to say unasked.
#[derive(Debug)]
pub struct Signals {
    pub rings: mpsc::UnboundedReceiver<Ring>,
    pub accesses: mpsc::Receiver<Access>,
}

/// The control plane of one Envoy. Dropped, it closes its sockets; Envoy goes on with what it has.
#[derive(Debug)]
pub struct Plane {}

impl Plane {
    /// Listens. Until the first [`Plane::publish`] nothing is answered, so that Envoy keeps what it has.
    ///
    /// # Errors
    /// A socket cannot be had; said with its address.
    pub async fn start<J: Judge, C: Clock + Send + Sync + 'static>(
        places: Places,
        judge: J,
        clock: C,
    ) -> std::io::Result<(Plane, Signals)> {
        let _ = (places, Arc::new(judge), clock);
        todo!("the server")
    }

    /// Replaces everything that Envoy is told. The same view again changes nothing.
    pub fn publish(&self, view: &View) -> Version {
        let _ = view;
        todo!("the server")
    }

    /// Ends when Envoy has acknowledged everything of this version or a later one, removals included; with
    /// `Rejected` as soon as all is answered and something was refused.
    ///
    /// # Errors
    /// [`NotAcked`]. Without a connection it fails at once; when the connection is lost meanwhile, then.
    pub async fn acked(&self, version: Version) -> Result<(), NotAcked> {
        let _ = version;
        todo!("the server")
    }

    /// Like [`Plane::acked`], but only of what concerns this rule: another rule's refused listener does not matter.
    ///
    /// # Errors
    /// As [`Plane::acked`].
    pub async fn rule_acked(&self, version: Version, rule: &RuleName) -> Result<(), NotAcked> {
        let _ = (version, rule);
        todo!("the server")
    }

    /// What Envoy refuses at present.
    pub fn rejections(&self) -> Vec<Rejection> {
        todo!("the server")
    }

    /// Whether Envoy is connected.
    pub fn connected(&self) -> bool {
        todo!("the server")
    }

    /// What has been reported, oldest first, of the last 25 hours.
    pub fn loads(&self) -> Loads {
        todo!("the server")
    }

    /// Where load reports and access logs are taken, with the port the kernel chose.
    pub fn usage_address(&self) -> SocketAddr {
        todo!("the server")
    }
}

/// Load reports, by minute-independent intervals.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loads {
    /// Time that reports cover, gaps left out: consecutive reports are joined. What is not in here is unknown.
    pub covered: Vec<Covered>,
    /// Per rule, only reports in which something was issued or in progress.
    pub rules: BTreeMap<RuleName, Vec<Load>>,
    /// When the stream was lost; nothing while it is there.
    pub lost: Option<Timestamp>,
}

/// A stretch of time without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Covered {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// One rule in one report: requests and TCP connections alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub from: Timestamp,
    pub to: Timestamp,
    /// Begun in this time.
    pub issued: u64,
    /// Under way at its end.
    pub in_progress: u64,
}

/// Who uses a rule. Single requests are not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Nothing when it never got as far as a rule.
    pub rule: Option<RuleName>,
    pub kind: AccessKind,
    pub at: Timestamp,
    pub source: Option<IpAddr>,
    /// Since the beginning of the connection.
    pub lasted: Duration,
    /// From the client.
    pub received: u64,
    /// To the client.
    pub sent: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessKind {
    /// A TCP connection was accepted. It may still be waiting for its rule.
    Started,
    /// A TCP connection has reached the machine.
    Connected,
    /// It is still there.
    Periodic,
    Ended,
}
