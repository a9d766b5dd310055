//! A model of Envoy for tests: its streams to the control plane with whatever they are late, the connections that come by it,
//! what it counts of them. It has the traps that were found in the real one.

mod config;
mod streams;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{address::Address, socket_address::PortSpecifier};
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier};
use prost::Message;

pub use self::config::Config;
pub use self::streams::Socket;
use self::streams::Streams;
use super::load::Report;
use super::names::ClusterName;
use super::snapshot::Kind;
use crate::domain::rule::RuleName;

/// Milliseconds of virtual time.
pub type Millis = u64;

/// How often load is reported.
const REPORTS: Millis = 5_000;

/// Something to be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// A cluster can be used, for the first time under this name.
    Delivered(String),
    /// A cluster that was taken away is there again under its old name.
    CameBack(String),
    /// A client's connection has reached a machine.
    Opened { client: u64, rule: RuleName, host: String },
    /// A client that waited is let go.
    LetGo(u64),
}

/// A client's connection that has reached a machine.
#[derive(Debug, Clone)]
struct Open {
    cluster: String,
    /// Which cluster of that name: one told anew does not count those of the one before.
    incarnation: u64,
    host: String,
}

/// The process.
#[derive(Default)]
pub struct Envoy {
    pub config: Config,
    streams: Streams,
    /// Names for which it has ever rung.
    rung: BTreeSet<String>,
    /// Who waits for which cluster, and until when.
    waiting: BTreeMap<u64, (String, Millis)>,
    open: BTreeMap<u64, Open>,
    incarnations: BTreeMap<String, u64>,
    usable: BTreeSet<String>,
    delivered: BTreeSet<String>,
    /// Since when its own load is counted: never before the daemon said that it should be, and always from then on.
    reported_at: Option<Millis>,
    /// When it reports next, while it is connected.
    report_due: Option<Millis>,
    /// Clusters whose load is counted, since when, and what began since then.
    counted: BTreeMap<String, (Millis, u64)>,
    happened: Vec<Happened>,
}

impl Envoy {
    pub fn streams(&mut self) -> &mut Streams {
        &mut self.streams
    }

    /// All streams, to this daemon.
    pub fn connect_to(&mut self, now: Millis, socket: &Socket) {
        self.streams.connect(now, socket, &self.config, &self.rung);
        self.report(now);
    }

    /// Streams that were lost are made anew.
    pub fn reconnect(&mut self, now: Millis) {
        if !self.streams.connected() {
            self.streams.connect_resources(now, &self.config);
        }
        if !self.streams.has_bell() {
            self.streams.connect_bell(now, &self.rung);
        }
        if !self.streams.reports() {
            self.streams.connect_load(now);
            self.report(now);
        }
    }

    /// The rules for which a new stream of the doorbell rings again, though nobody may wait any more.
    pub fn rung(&self) -> BTreeSet<RuleName> {
        let names = self.rung.iter().filter_map(|name| ClusterName::parse(name));
        let current = names.filter(|name| self.generations(&name.rule).contains(&name.generation));
        current.map(|name| name.rule).collect()
    }

    /// What has happened since it was last asked.
    pub fn happened(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.happened)
    }

    /// When something happens next by itself.
    pub fn next(&self) -> Millis {
        let waits = self.waiting.values().map(|(_, until)| *until).min();
        let next = [waits, self.streams.next(), self.report_due];
        next.into_iter().flatten().min().unwrap_or(Millis::MAX)
    }

    /// A connection to a rule's listener for a port of the machine; false when nobody listens.
    pub fn connect(&mut self, now: Millis, client: u64, rule: &str, patience: Millis) -> bool {
        let named = format!("tcp/{rule}/");
        let listeners = self.config.has.get(&Kind::Listener).into_iter().flatten();
        let listener = listeners
            .filter(|(name, _)| name.starts_with(&named))
            .map(|(_, resource)| resource)
            .next();
        let Some(cluster) = listener.and_then(|listener| listener.refers.first().cloned()) else {
            return false;
        };
        self.waiting.insert(client, (cluster.clone(), now + patience));
        self.resume();
        if self.waiting.contains_key(&client) && self.rung.insert(cluster.clone()) {
            self.streams.ring(now, vec![cluster]);
        }
        true
    }

    pub fn leave(&mut self, client: u64) {
        self.waiting.remove(&client);
        self.open.remove(&client);
    }

    pub fn waits(&self, client: u64) -> bool {
        self.waiting.contains_key(&client)
    }

    /// Where a client's connection has got to.
    pub fn host_of(&self, client: u64) -> Option<&str> {
        self.open.get(&client).map(|open| open.host.as_str())
    }

    /// Clients with a connection to this machine.
    pub fn clients_of(&self, host: &str) -> Vec<u64> {
        let here = self.open.iter().filter(|(_, open)| open.host == host);
        here.map(|(client, _)| *client).collect()
    }

    /// The clusters by which a new connection for this rule may reach a machine now, and their machines.
    pub fn leads(&self, rule: &RuleName) -> BTreeMap<String, String> {
        let leading = [Kind::Listener, Kind::Route].map(|kind| self.config.has.get(&kind));
        let clusters = leading.into_iter().flatten().flat_map(BTreeMap::values);
        let clusters = clusters.flat_map(|resource| &resource.refers).filter(|cluster| {
            self.usable.contains(*cluster) && ClusterName::parse(cluster).is_some_and(|name| name.rule == *rule)
        });
        clusters
            .filter_map(|cluster| Some((cluster.clone(), self.host(cluster)?)))
            .collect()
    }

    /// The generations of this rule's listeners.
    pub fn generations(&self, rule: &RuleName) -> BTreeSet<u64> {
        let listeners = self.config.has.get(&Kind::Listener).into_iter().flatten();
        let named = listeners.flat_map(|(_, resource)| &resource.refers);
        let parsed = named.filter_map(|cluster| ClusterName::parse(cluster));
        parsed
            .filter(|name| name.rule == *rule)
            .map(|name| name.generation)
            .collect()
    }

    /// Connections under way, those of clusters that are gone among them.
    pub fn active(&self) -> BTreeMap<RuleName, u64> {
        let mut active = BTreeMap::new();
        for open in self.open.values() {
            if let Some(name) = ClusterName::parse(&open.cluster) {
                *active.entry(name.rule).or_default() += 1;
            }
        }
        active
    }

    /// Does what is due.
    pub fn advance(&mut self, now: Millis) {
        for told in self.streams.arrived(now) {
            self.told(now, told);
        }
        for name in self.streams.gone(now) {
            self.let_go(|(cluster, _)| *cluster == name);
        }
        self.let_go(|(_, until)| *until <= now);
        if self.streams.wished(now) {
            self.count(now);
        }
        if self.report_due.is_some_and(|due| due <= now) {
            self.report(now);
        }
    }

    fn let_go(&mut self, whom: impl Fn(&(String, Millis)) -> bool) {
        for client in self
            .waiting
            .extract_if(.., |_, waits| whom(waits))
            .map(|(client, _)| client)
        {
            self.happened.push(Happened::LetGo(client));
        }
    }

    fn told(&mut self, now: Millis, told: super::delta::Told) {
        if told.kind == Kind::Cluster {
            for (name, _) in &told.resources {
                *self.incarnations.entry(name.clone()).or_default() += 1;
                self.counted.remove(name);
            }
        }
        let said = self.config.told(told);
        self.streams.say(now, said);
        let is_usable = |name: &String| self.config.get(Kind::Endpoints, name).is_some();
        let usable: BTreeSet<String> = self.config.names(Kind::Cluster).into_iter().filter(is_usable).collect();
        for name in usable.difference(&self.usable) {
            let news = match self.delivered.insert(name.clone()) {
                true => Happened::Delivered(name.clone()),
                false => Happened::CameBack(name.clone()),
            };
            self.happened.push(news);
        }
        self.usable = usable;
        self.counted.retain(|name, _| self.usable.contains(name));
        self.resume();
    }

    /// Who waits for what is there goes on.
    fn resume(&mut self) {
        let there = |(cluster, _): &(String, Millis)| self.usable.contains(cluster);
        let resumed: Vec<_> = self.waiting.extract_if(.., |_, waits| there(waits)).collect();
        for (client, (cluster, _)) in resumed {
            let (Some(host), Some(name)) = (self.host(&cluster), ClusterName::parse(&cluster)) else {
                self.happened.push(Happened::LetGo(client));
                continue;
            };
            let incarnation = self.incarnations.get(&cluster).copied().unwrap_or_default();
            if let Some((_, begun)) = self.counted.get_mut(&cluster) {
                *begun += 1;
            }
            self.happened.push(Happened::Opened {
                client,
                rule: name.rule,
                host: host.clone(),
            });
            let open = Open {
                cluster,
                incarnation,
                host,
            };
            self.open.insert(client, open);
        }
    }

    /// The first machine of a cluster, a well one if there is any.
    fn host(&self, cluster: &str) -> Option<String> {
        let assignment = self.config.get(Kind::Endpoints, cluster)?;
        let assignment = ClusterLoadAssignment::decode(assignment.body.value.as_slice()).ok()?;
        let endpoints = assignment.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
        let endpoint = endpoints.min_by_key(|endpoint| endpoint.health_status)?;
        let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else {
            return None;
        };
        let Some(Address::SocketAddress(socket)) = endpoint.address.as_ref()?.address.as_ref() else {
            return None;
        };
        let Some(PortSpecifier::PortValue(_)) = socket.port_specifier else {
            return None;
        };
        Some(socket.address.clone())
    }

    /// What was counted, whether or not it could be told before: the first message of a stream has what the one before it lacked.
    fn report(&mut self, now: Millis) {
        self.report_due = None;
        if !self.streams.reports() {
            return;
        }
        let span = |since: Millis| Duration::from_millis(now - since);
        let own = self.reported_at.map(|at| (None, span(at), 0, 0));
        let mut report: Report = own.into_iter().collect();
        for (cluster, (since, begun)) in &self.counted {
            let incarnation = self.incarnations.get(cluster).copied().unwrap_or_default();
            let mine = |open: &&Open| open.cluster == *cluster && open.incarnation == incarnation;
            let under_way = self.open.values().filter(mine).count() as u64;
            report.push((ClusterName::parse(cluster), span(*since), *begun, under_way));
        }
        self.streams.report(now, report);
        if self.reported_at.is_some() {
            (self.reported_at, self.counted) = (Some(now), BTreeMap::new());
            self.count(now);
        }
    }

    /// From now on all that is there is counted; what has come since the last time never was.
    fn count(&mut self, now: Millis) {
        self.reported_at.get_or_insert(now);
        self.report_due = Some(now + REPORTS);
        for cluster in &self.usable {
            self.counted.entry(cluster.clone()).or_insert((now, 0));
        }
    }
}
