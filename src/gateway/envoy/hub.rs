//! What the streams of one Envoy share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};

use super::access::Ports;
use super::delta::{Said, Session, Told};
use super::doorbell::Doorbell;
use super::load::Book;
use super::plane::{Access, NotAcked, Rejection, Version};
use super::snapshot::{Kind, Snapshot};
use super::view::{Ring, View};
use crate::domain::time::Timestamp;

/// Names asked for at the doorbell of which Envoy is told that they will not come.
pub type Gone = Vec<String>;

pub struct Hub {
    state: Mutex<State>,
    /// Counts whatever happens, for those who wait for it.
    happened: watch::Sender<u64>,
    closed: watch::Sender<bool>,
    rings: mpsc::UnboundedSender<Ring>,
    accesses: mpsc::Sender<Access>,
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
    stream: Option<(u64, Session)>,
    /// What the Envoy on it says it is.
    envoy: Option<String>,
    doorbell: Doorbell,
    bell: u64,
    /// The doorbell's streams. Listeners whose doorbell is the same share one, but Envoy promises nothing of the kind.
    bells: BTreeMap<u64, mpsc::UnboundedSender<Gone>>,
    book: Book,
    ports: Ports,
}

impl Hub {
    pub fn new(
        rings: mpsc::UnboundedSender<Ring>,
        accesses: mpsc::Sender<Access>,
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Hub {
        Hub {
            state: Mutex::default(),
            happened: watch::Sender::new(0),
            closed: watch::Sender::new(false),
            rings,
            accesses,
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

    pub fn happened(&self) -> watch::Receiver<u64> {
        self.happened.subscribe()
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
            if let Some((_, session)) = &mut state.stream {
                session.publish(snapshot);
            }
        }
        let version = Version(state.version);
        self.settle(&mut state);
        drop(state);
        self.happen();
        version
    }

    pub async fn acked(&self, version: Version, concerns: impl Fn(&Rejection) -> bool + Send) -> Result<(), NotAcked> {
        let mut happened = self.happened();
        loop {
            happened.mark_unchanged();
            {
                let state = self.state();
                let Some((_, session)) = &state.stream else {
                    return Err(NotAcked::NotConnected);
                };
                if state.settled >= version.0 {
                    let rejections: Vec<Rejection> = session.rejections().into_iter().filter(concerns).collect();
                    return match rejections.is_empty() {
                        true => Ok(()),
                        false => Err(NotAcked::Rejected(rejections)),
                    };
                }
            }
            if happened.changed().await.is_err() {
                return Err(NotAcked::NotConnected);
            }
        }
    }

    pub fn rejections(&self) -> Vec<Rejection> {
        let state = self.state();
        state
            .stream
            .as_ref()
            .map(|(_, session)| session.rejections())
            .unwrap_or_default()
    }

    pub fn envoy(&self) -> Option<String> {
        let state = self.state();
        state.stream.as_ref().and(state.envoy.clone())
    }

    pub fn connected(&self) -> bool {
        self.state().stream.is_some()
    }

    /// A new stream of resources; an older one ends.
    pub fn begin(&self) -> u64 {
        let mut state = self.state();
        state.streams += 1;
        state.settled = 0;
        let id = state.streams;
        state.stream = Some((id, Session::new(state.wanted.clone())));
        drop(state);
        self.happen();
        id
    }

    /// Envoy introduces itself.
    pub fn meet(&self, id: u64, envoy: Option<String>) {
        let mut state = self.state();
        if state.stream.as_ref().is_some_and(|(current, _)| *current == id) {
            state.envoy = envoy;
        }
    }

    /// Whether the stream is still the one.
    pub fn receive(&self, id: u64, kind: Kind, said: Said) -> bool {
        match &mut self.state().stream {
            Some((current, session)) if *current == id => {
                session.receive(kind, said);
                true
            }
            _ => false,
        }
    }

    /// What to tell on this stream now; nothing when it is over.
    pub fn tell(&self, id: u64) -> Option<Vec<Told>> {
        let mut state = self.state();
        let told = match &mut state.stream {
            Some((current, session)) if *current == id => std::iter::from_fn(|| session.next()).collect(),
            _ => return None,
        };
        let settled = self.settle(&mut state);
        drop(state);
        if settled {
            self.happen();
        }
        Some(told)
    }

    pub fn end(&self, id: u64) {
        let mut state = self.state();
        if state.stream.as_ref().is_some_and(|(current, _)| *current == id) {
            state.stream = None;
        }
        drop(state);
        self.happen();
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
        let rings = self.state().doorbell.rung(names);
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

    /// Whether it has become true just now that Envoy has answered everything.
    fn settle(&self, state: &mut State) -> bool {
        let version = state.version;
        if state.settled == version || !state.stream.as_ref().is_some_and(|(_, session)| session.settled()) {
            return false;
        }
        state.settled = version;
        let gone = state.doorbell.in_vain();
        if !gone.is_empty() {
            for bell in state.bells.values() {
                // The stream may be ending.
                let _ = bell.send(gone.clone());
            }
        }
        true
    }

    fn ring(&self, rings: Vec<Ring>) {
        for ring in rings {
            // A daemon that is ending does not listen.
            let _ = self.rings.send(ring);
        }
    }

    fn happen(&self) {
        self.happened.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
