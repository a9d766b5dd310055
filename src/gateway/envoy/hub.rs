//! What the streams of one Envoy share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::access::Ports;
use super::delta::{Patience, Said, Session, Standing, Told};
use super::doorbell::Doorbell;
use super::load::Book;
use super::plane::{Access, NotAcked, Rejection, Version};
use super::snapshot::{Kind, Snapshot};
use super::view::{Ring, View};
use crate::clock;
use crate::domain::rule::RuleName;
use crate::domain::time::Timestamp;

/// One that is turned away tries again each second or two.
const INSISTS: Duration = Duration::from_secs(10);

/// Names asked for at the doorbell of which Envoy is told that they will not come.
pub type Gone = Vec<String>;

pub struct Hub {
    state: Mutex<State>,
    /// Counts what streams have to look at: something was published, another stream is the one.
    news: watch::Sender<u64>,
    /// Counts whatever Envoy has been told or has said, for those who wait for it.
    happened: watch::Sender<u64>,
    closed: watch::Sender<bool>,
    rings: mpsc::UnboundedSender<Ring>,
    accesses: mpsc::Sender<Access>,
    patience: Patience,
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

#[derive(Default)]
struct State {
    version: u64,
    wanted: Option<Arc<Snapshot>>,
    /// The last version that Envoy has answered in full.
    settled: u64,
    streams: u64,
    /// The newest stream; an older one has been given up by Envoy, if it has not noticed itself.
    stream: Option<Stream>,
    /// What the Envoy on it says it is.
    envoy: Option<String>,
    /// When another Envoy was last turned away.
    other: Option<Instant>,
    doorbell: Doorbell,
    bell: u64,
    /// The doorbell's streams. Listeners whose doorbell is the same share one, but Envoy promises nothing of the kind.
    bells: BTreeMap<u64, mpsc::UnboundedSender<Gone>>,
    book: Book,
    ports: Ports,
}

/// A process on the other end of the socket, as far as the kernel tells.
pub type Peer = Option<i32>;

struct Stream {
    id: u64,
    peer: Peer,
    session: Session,
}

/// Another Envoy is connected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("another Envoy (process {0}) is connected to this daemon already; one daemon serves one Envoy")]
pub struct Taken(i32);

impl Hub {
    pub fn new(
        rings: mpsc::UnboundedSender<Ring>,
        accesses: mpsc::Sender<Access>,
        patience: Patience,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Hub {
        Hub {
            state: Mutex::default(),
            news: watch::Sender::new(0),
            happened: watch::Sender::new(0),
            closed: watch::Sender::new(false),
            rings,
            accesses,
            patience,
            now: Box::new(now),
        }
    }

    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Ends when the plane is dropped.
    pub async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender is ours.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    pub fn publish(&self, view: &View) -> Version {
        let snapshot = Arc::new(Snapshot::of(view));
        let mut state = self.state();
        state.ports = Ports::of(view);
        let rings = state.doorbell.publish(view);
        self.ring(rings);
        // The same again is no new version, and is not waited for.
        if state.wanted.as_ref() != Some(&snapshot) {
            state.version += 1;
            state.wanted = Some(Arc::clone(&snapshot));
            if let Some(stream) = &mut state.stream {
                stream.session.publish(snapshot);
            }
        }
        let version = Version(state.version);
        self.settle(&mut state);
        drop(state);
        count(&self.news);
        count(&self.happened);
        version
    }

    /// Ends when Envoy has answered all of this version or a later one.
    pub async fn acked(&self, version: Version) -> Result<(), NotAcked> {
        self.answered(|state, session| {
            let refused = || Some(session.rejections()).filter(|refused| !refused.is_empty());
            (state.settled >= version.0).then(|| refused().map_or(Ok(()), |refused| Err(NotAcked::Rejected(refused))))
        })
        .await
    }

    pub async fn settled_for(&self, rule: &RuleName) -> Result<(), NotAcked> {
        self.answered(|_, session| match session.standing(rule) {
            Standing::Pending => None,
            Standing::Settled => Some(Ok(())),
            Standing::Refused(refused) => Some(Err(NotAcked::Rejected(refused))),
        })
        .await
    }

    pub fn is_settled_for(&self, rule: &RuleName) -> bool {
        let state = self.state();
        let stream = state.stream.as_ref();
        stream.is_some_and(|stream| stream.session.standing(rule) == Standing::Settled)
    }

    async fn answered(
        &self,
        answer: impl Fn(&State, &Session) -> Option<Result<(), NotAcked>> + Send,
    ) -> Result<(), NotAcked> {
        let mut happened = self.happened.subscribe();
        loop {
            happened.mark_unchanged();
            {
                let state = self.state();
                let Some(stream) = &state.stream else {
                    return Err(NotAcked::NotConnected);
                };
                if let Some(answer) = answer(&state, &stream.session) {
                    return answer;
                }
            }
            if happened.changed().await.is_err() {
                return Err(NotAcked::NotConnected);
            }
        }
    }

    pub fn rejections(&self) -> Vec<Rejection> {
        let state = self.state();
        let stream = state.stream.as_ref();
        stream.map(|stream| stream.session.rejections()).unwrap_or_default()
    }

    pub fn envoy(&self) -> Option<String> {
        let state = self.state();
        state.stream.as_ref().and(state.envoy.clone())
    }

    /// Why another Envoy has been turned away.
    pub fn turned_away(&self) -> Option<String> {
        let state = self.state();
        state.other.filter(insists)?;
        let here = state.stream.as_ref()?.peer?;
        Some(Taken(here).to_string())
    }

    pub fn connected(&self) -> bool {
        self.state().stream.is_some()
    }

    /// A new stream of resources; an older one of the same Envoy ends.
    ///
    /// # Errors
    /// Another Envoy is here: were each to take the other's place, neither would ever have everything.
    pub fn begin(&self, peer: Peer) -> Result<u64, Taken> {
        let mut state = self.state();
        if let Some(Stream { peer: Some(here), .. }) = state.stream
            && peer.is_some_and(|peer| peer != here)
        {
            let before = state.other.replace(clock::instant());
            if !before.as_ref().is_some_and(insists) {
                tracing::warn!("turned away: {}", Taken(here));
            }
            return Err(Taken(here));
        }
        state.streams += 1;
        state.settled = 0;
        let id = state.streams;
        let session = Session::new(state.wanted.clone(), self.patience);
        state.stream = Some(Stream { id, peer, session });
        drop(state);
        count(&self.news);
        count(&self.happened);
        Ok(id)
    }

    /// Envoy introduces itself.
    pub fn meet(&self, id: u64, envoy: Option<String>) {
        let mut state = self.state();
        if state.session(id).is_some() {
            if let Some(words) = envoy.as_deref().and_then(super::process::too_old) {
                tracing::warn!("{words}");
            }
            state.envoy = envoy;
        }
    }

    /// Whether the stream is still the one.
    pub fn receive(&self, id: u64, kind: Kind, said: Said) -> bool {
        match self.state().session(id) {
            Some(session) => {
                session.receive(kind, said, clock::instant());
                true
            }
            None => false,
        }
    }

    /// What to tell on this stream now, and when to ask again though nothing has happened; nothing when it is over.
    pub fn tell(&self, id: u64) -> Option<(Vec<Told>, Option<Instant>)> {
        let mut state = self.state();
        let session = state.session(id)?;
        let now = clock::instant();
        let told = std::iter::from_fn(|| session.next(now)).collect();
        let due_at = session.due_at(now);
        self.settle(&mut state);
        drop(state);
        count(&self.happened);
        Some((told, due_at))
    }

    pub fn end(&self, id: u64) {
        let mut state = self.state();
        if state.session(id).is_some() {
            state.stream = None;
        }
        drop(state);
        count(&self.happened);
    }

    /// A new stream of the doorbell.
    pub fn hang(&self) -> (u64, mpsc::UnboundedReceiver<Gone>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.state();
        if state.bells.is_empty() {
            state.doorbell.open();
        }
        state.bell += 1;
        let id = state.bell;
        state.bells.insert(id, sender);
        (id, receiver)
    }

    pub fn rung(&self, names: Vec<String>) {
        let mut state = self.state();
        let rings = state.doorbell.rung(names);
        self.settle(&mut state);
        drop(state);
        self.ring(rings);
    }

    pub fn unhang(&self, id: u64) {
        self.state().bells.remove(&id);
    }

    pub fn with_book<T>(&self, what: impl FnOnce(&mut Book) -> T) -> T {
        what(&mut self.state().book)
    }

    pub fn with_ports<T>(&self, what: impl FnOnce(&Ports) -> T) -> T {
        what(&self.state().ports)
    }

    /// Accesses that nobody reads are dropped: they are no proof of anything.
    pub fn access(&self, access: Access) {
        let _ = self.accesses.try_send(access);
    }

    /// Notes what Envoy has answered in full.
    fn settle(&self, state: &mut State) {
        let Some(stream) = &state.stream else { return };
        if stream.session.settled() {
            state.settled = state.version;
        }
        // Until somebody hears it, it stays to be told.
        if state.bells.is_empty() {
            return;
        }
        let session = &stream.session;
        let is_over =
            |name: &str, rule: &RuleName| !session.may_have(name) && session.standing(rule) == Standing::Settled;
        let gone = state.doorbell.in_vain(is_over);
        if !gone.is_empty() {
            for bell in state.bells.values() {
                // The stream may be ending.
                let _ = bell.send(gone.clone());
            }
        }
    }

    fn ring(&self, rings: Vec<Ring>) {
        for ring in rings {
            // A daemon that is ending does not listen.
            let _ = self.rings.send(ring);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether one that was turned away then is likely to be there still.
fn insists(at: &Instant) -> bool {
    clock::instant().saturating_duration_since(*at) < INSISTS
}

fn count(what: &watch::Sender<u64>) {
    what.send_modify(|count| *count = count.wrapping_add(1));
}

impl State {
    /// Of this stream, while it is the one.
    fn session(&mut self, id: u64) -> Option<&mut Session> {
        let stream = self.stream.as_mut().filter(|stream| stream.id == id)?;
        Some(&mut stream.session)
    }
}
