//! The control plane as the daemon sees it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::delta::Patience;
use super::hub::Hub;
use super::server;
use super::view::{CheckedRequest, Ring, Verdict, View};
use crate::clock::{self, Clock};
use crate::domain::rule::RuleName;
use crate::domain::time::Timestamp;

/// Accesses that wait to be read; more are dropped.
const ACCESSES: usize = 10_000;

/// Who decides about a held request.
pub trait Judge: Send + Sync + 'static {
    /// May take as long as [`Limits::longest_hold`](super::Limits::longest_hold). Dropped when the client leaves. After a
    /// restart of the daemon Envoy asks again for a request that is still held.
    fn judge(&self, request: CheckedRequest) -> impl Future<Output = Verdict> + Send;
}

/// Where the control plane listens.
#[derive(Debug, Clone)]
pub struct Places {
    /// Unix socket for xDS, the doorbell and held requests: made anew with mode 0660.
    pub xds: PathBuf,
    /// TCP address for load reports and access logs; port 0 lets the kernel choose.
    pub usage: SocketAddr,
    /// How often Envoy reports its load.
    pub load_interval: Duration,
    /// What Envoy has refused it is told again after this: the port may be free by then.
    pub retry: Duration,
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
pub struct Plane {
    hub: Arc<Hub>,
    usage: SocketAddr,
}

impl Plane {
    /// Listens. Until the first [`Plane::publish`] nothing is told, so that Envoy keeps what it has.
    ///
    /// # Errors
    /// A socket cannot be had; said with its address.
    pub async fn start<J: Judge, C: Clock + Send + 'static>(
        places: Places,
        judge: J,
        clock: C,
    ) -> io::Result<(Plane, Signals)> {
        let (ring, rings) = mpsc::unbounded_channel();
        let (access, accesses) = mpsc::channel(ACCESSES);
        let patience = Patience {
            refused: places.retry,
            // The report in which a cluster is last seen, and one more.
            unused: places.load_interval * 2,
        };
        let hub = Arc::new(Hub::new(ring, access, patience, move || clock.now()));
        let named = |what: String| move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
        let usage = server::serve_usage(places.usage, &hub, places.load_interval)
            .await
            .map_err(named(places.usage.to_string()))?;
        // Dropped when the other socket cannot be had: then it lets go of this one.
        let plane = Plane { hub, usage };
        server::serve_control(&places.xds, &plane.hub, Arc::new(judge))
            .map_err(named(places.xds.display().to_string()))?;
        Ok((plane, Signals { rings, accesses }))
    }

    /// Without its sockets: the other end is a model of Envoy.
    #[cfg(test)]
    pub(super) fn unserved(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> (Plane, Signals, Arc<Hub>) {
        let (ring, rings) = mpsc::unbounded_channel();
        let (access, accesses) = mpsc::channel(ACCESSES);
        let patience = Patience {
            refused: Duration::from_secs(30),
            unused: Duration::from_secs(10),
        };
        let hub = Arc::new(Hub::new(ring, access, patience, now));
        let usage = SocketAddr::from(([127, 0, 0, 1], 0));
        let plane = Plane {
            hub: Arc::clone(&hub),
            usage,
        };
        (plane, Signals { rings, accesses }, hub)
    }

    /// Replaces everything that Envoy is told. The same view again changes nothing and is the same version.
    pub fn publish(&self, view: &View) -> Version {
        self.hub.publish(view)
    }

    /// Ends when Envoy has answered everything of this version or a later one; with `Rejected` when something was refused.
    /// Clusters that nothing leads to any more may still be there: they stay until their last load report has come.
    ///
    /// # Errors
    /// [`NotAcked`]. Without a connection it fails at once; when the connection is lost meanwhile, then.
    pub async fn acked(&self, version: Version) -> Result<(), NotAcked> {
        self.hub.acked(version).await
    }

    /// Ends when Envoy does with this rule what was published last, and nothing that it has accepted leads to an earlier
    /// generation of it. What is of other rules does not matter, nor a refused listener by which nobody comes.
    ///
    /// # Errors
    /// As [`Plane::acked`].
    pub async fn settled_for(&self, rule: &RuleName) -> Result<(), NotAcked> {
        self.hub.settled_for(rule).await
    }

    /// Whether [`Plane::settled_for`] is so now.
    pub fn is_settled_for(&self, rule: &RuleName) -> bool {
        self.hub.is_settled_for(rule)
    }

    /// What Envoy refuses at present.
    pub fn rejections(&self) -> Vec<Rejection> {
        self.hub.rejections()
    }

    /// Whether Envoy is connected.
    pub fn connected(&self) -> bool {
        self.hub.connected()
    }

    /// The version of the Envoy that is connected, such as `1.40.0`; to be judged by
    /// [`process::too_old`](super::process::too_old).
    pub fn envoy_version(&self) -> Option<String> {
        self.hub.envoy()
    }

    /// Why another Envoy has been turned away, while that is of interest.
    pub fn turned_away(&self) -> Option<String> {
        self.hub.turned_away()
    }

    /// What has been reported in the last 25 hours.
    pub fn note_open<'a>(&self, from: Timestamp, rules: impl Iterator<Item = &'a RuleName>) {
        let (now, at) = (self.hub.now(), clock::instant());
        self.hub.with_book(|book| book.note_open(from, now, at, rules));
    }

    pub fn loads(&self) -> Loads {
        let now = self.hub.now();
        self.hub.with_book(|book| book.read(now, clock::instant()))
    }

    /// Where load reports and access logs are taken, with the port the kernel chose.
    pub fn usage_address(&self) -> SocketAddr {
        self.usage
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.hub.close();
    }
}

impl std::fmt::Debug for Plane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plane")
            .field("usage", &self.usage)
            .finish_non_exhaustive()
    }
}

/// Load reports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loads {
    /// The time that reports cover, oldest first, without gaps. What is not in here is unknown.
    pub covered: Vec<Covered>,
    /// What was issued or in progress, oldest first; entries of one rule may overlap by a moment.
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

/// One rule in one report, or in those of a minute: requests and TCP connections alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub from: Timestamp,
    pub to: Timestamp,
    /// Begun in this time.
    pub issued: u64,
    /// Under way at the end of a report; of several reports the most.
    pub in_progress: u64,
}

/// Who uses a rule. Single requests are not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Nothing when it never got as far as a rule.
    pub rule: Option<RuleName>,
    pub kind: AccessKind,
    /// When the connection began.
    pub began: Timestamp,
    pub source: Option<IpAddr>,
    /// Since then.
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
