//! Envoy's streams to the control plane. Each keeps its order; what is on it arrives later, and is lost with it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Config, Millis};
use crate::clock;
use crate::domain::time::Timestamp;
use crate::gateway::envoy::delta::{Said, Told};
use crate::gateway::envoy::hub::{Gone, Hub};
use crate::gateway::envoy::load::{Book, Report};
use crate::gateway::envoy::plane::{Plane, Signals};
use crate::gateway::envoy::snapshot::Kind;

/// The daemon's end.
#[derive(Clone)]
pub struct Socket(Arc<Hub>);

impl Socket {
    /// A control plane whose other end is a model.
    pub fn open(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> (Plane, Signals, Socket) {
        let (plane, signals, hub) = Plane::unserved(now);
        (plane, signals, Socket(hub))
    }
}

/// The process as the kernel would tell it.
const PROCESS: i32 = 1;

/// What is on its way in one direction.
struct Lane<T> {
    items: VecDeque<(Millis, T)>,
    last: Millis,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Lane {
            items: VecDeque::new(),
            last: 0,
        }
    }
}

impl<T> Lane<T> {
    fn send(&mut self, at: Millis, item: T) {
        self.last = self.last.max(at);
        self.items.push_back((self.last, item));
    }

    fn next(&self) -> Option<Millis> {
        self.items.front().map(|(at, _)| *at)
    }

    fn arrived(&mut self, now: Millis) -> Vec<T> {
        let due = self.items.iter().take_while(|(at, _)| *at <= now).count();
        self.items.drain(..due).map(|(_, item)| item).collect()
    }

    fn cut(&mut self) {
        self.items.clear();
    }
}

/// The streams that there are, and how late they are.
#[derive(Default)]
pub struct Streams {
    socket: Option<Socket>,
    resources: Option<u64>,
    /// Says that there may be something to tell.
    news: Option<watch::Receiver<u64>>,
    /// When there may be though nobody says so.
    due: Option<Millis>,
    bell: Option<(u64, UnboundedReceiver<Gone>)>,
    /// Asked for on this stream of the doorbell.
    asked: BTreeSet<String>,
    load: Option<u64>,
    told: Lane<Told>,
    said: Lane<(Kind, Said)>,
    rings: Lane<Vec<String>>,
    gone: Lane<String>,
    reports: Lane<Report>,
    /// What load is to be reported: all.
    wish: Lane<()>,
    /// How long a message takes; changed at will.
    pub takes: Millis,
    /// How long a load report takes beyond that.
    pub reports_take: Millis,
}

impl Streams {
    /// All streams to a daemon, all that was ever rung for on the doorbell.
    pub fn connect(&mut self, now: Millis, socket: &Socket, config: &Config, rung: &BTreeSet<String>) {
        self.socket = Some(socket.clone());
        self.connect_resources(now, config);
        self.connect_bell(now, rung);
        self.connect_load(now);
    }

    pub fn connect_resources(&mut self, now: Millis, config: &Config) {
        self.told.cut();
        self.said.cut();
        let Some(socket) = &self.socket else { return };
        if let Some(id) = self.resources.take() {
            socket.0.end(id);
        }
        self.news = Some(socket.0.news());
        self.due = Some(now);
        self.resources = socket.0.begin(Some(PROCESS)).ok();
        self.say(now, config.hello());
    }

    pub fn connect_bell(&mut self, now: Millis, rung: &BTreeSet<String>) {
        self.rings.cut();
        self.gone.cut();
        self.asked.clear();
        let Some(socket) = &self.socket else { return };
        if let Some((id, _)) = self.bell.take() {
            socket.0.unhang(id);
        }
        self.bell = Some(socket.0.hang());
        if !rung.is_empty() {
            self.ring(now, rung.iter().cloned().collect());
        }
    }

    pub fn connect_load(&mut self, now: Millis) {
        self.lose_load();
        let Some(socket) = &self.socket else { return };
        self.load = Some(socket.0.with_book(Book::open));
        self.wish.send(now + self.takes, ());
    }

    /// Reports stop until the next connection.
    pub fn lose_load(&mut self) {
        self.reports.cut();
        self.wish.cut();
        if let (Some(id), Some(socket)) = (self.load.take(), &self.socket) {
            let (now, at) = (socket.0.now(), clock::instant());
            socket.0.with_book(|book| book.close(id, now, at));
        }
    }

    /// The resources' stream is lost for a while.
    pub fn lose_resources(&mut self) {
        self.told.cut();
        self.said.cut();
        self.due = None;
        if let (Some(id), Some(socket)) = (self.resources.take(), &self.socket) {
            socket.0.end(id);
        }
    }

    /// The doorbell is lost for a while.
    pub fn lose_bell(&mut self) {
        self.rings.cut();
        self.gone.cut();
        if let (Some((id, _)), Some(socket)) = (self.bell.take(), &self.socket) {
            socket.0.unhang(id);
        }
    }

    pub fn has_bell(&self) -> bool {
        self.bell.is_some()
    }

    /// The daemon is there no more, and what was on its way is lost.
    pub fn cut(&mut self) {
        let (takes, reports_take) = (self.takes, self.reports_take);
        *self = Streams {
            takes,
            reports_take,
            ..Streams::default()
        };
    }

    /// Envoy ends: the daemon sees its streams end.
    pub fn end(&mut self) {
        self.lose_resources();
        self.lose_load();
        self.lose_bell();
        self.cut();
    }

    pub fn reports(&self) -> bool {
        self.load.is_some()
    }

    /// Whether resources are told at present.
    pub fn connected(&self) -> bool {
        self.resources.is_some()
    }

    pub fn say(&mut self, now: Millis, said: Vec<(Kind, Said)>) {
        if self.resources.is_some() {
            for said in said {
                self.said.send(now + self.takes, said);
            }
        }
    }

    pub fn ring(&mut self, now: Millis, names: Vec<String>) {
        if self.bell.is_some() {
            self.rings.send(now + self.takes, names);
        }
    }

    pub(super) fn report(&mut self, now: Millis, report: Report) {
        if self.load.is_some() {
            self.reports.send(now + self.takes + self.reports_take, report);
        }
    }

    /// Whether it is said now which load to report.
    pub fn wished(&mut self, now: Millis) -> bool {
        !self.wish.arrived(now).is_empty()
    }

    pub fn next(&self) -> Option<Millis> {
        let ours = [self.told.next(), self.gone.next(), self.wish.next()];
        let theirs = [self.said.next(), self.rings.next(), self.reports.next()];
        ours.into_iter().chain(theirs).chain([self.due]).flatten().min()
    }

    /// What has arrived here.
    pub fn arrived(&mut self, now: Millis) -> Vec<Told> {
        self.told.arrived(now)
    }

    /// Names that the doorbell says will not come.
    pub fn gone(&mut self, now: Millis) -> Vec<String> {
        self.gone.arrived(now)
    }

    /// Hands over what has arrived there, and takes in what is told. Whether anything has, and whether anything is.
    pub fn exchange(&mut self, now: Millis) -> (bool, bool) {
        let Some(socket) = self.socket.clone() else {
            return (false, false);
        };
        let theirs = [self.said.next(), self.rings.next(), self.reports.next()];
        let arrived = theirs.into_iter().flatten().any(|at| at <= now);
        let mut ask = self.due.is_some_and(|due| due <= now);
        if let Some(id) = self.resources {
            for (kind, said) in self.said.arrived(now) {
                socket.0.receive(id, kind, said);
                ask = true;
            }
        }
        for names in self.rings.arrived(now) {
            self.asked.extend(names.iter().cloned());
            socket.0.rung(names);
        }
        for report in self.reports.arrived(now) {
            let (now, at) = (socket.0.now(), clock::instant());
            socket.0.with_book(|book| book.report(now, at, &report));
        }
        let news = self
            .news
            .as_mut()
            .is_some_and(|news| news.has_changed().unwrap_or(false));
        let told = match self.resources {
            Some(id) if ask || news => {
                self.news.as_mut().map(watch::Receiver::mark_unchanged);
                let (told, due) = socket.0.tell(id).unwrap_or_default();
                let wait = |at: Instant| at.saturating_duration_since(clock::instant()).as_millis();
                self.due = due.map(|at| now + Millis::try_from(wait(at)).unwrap_or(0).max(1));
                told
            }
            _ => Vec::new(),
        };
        let tells = !told.is_empty();
        for told in told {
            self.told.send(now + self.takes, told);
        }
        if let Some((_, gone)) = &mut self.bell {
            while let Ok(names) = gone.try_recv() {
                for name in names.into_iter().filter(|name| self.asked.remove(name)) {
                    self.gone.send(now + self.takes, name);
                }
            }
        }
        (arrived, tells)
    }
}
