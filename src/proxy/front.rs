//! Envoy as the core sees it: a load balancer with one listener, on which every rule has a route and its parked copy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::activity::Metrics;
use crate::compute::kinds::{self, Kinds};
use crate::compute::tagged::tagged;
use crate::config::discovered::Tagged;
use crate::config::proxy::ProxyConfig;
use crate::config::proxy_rules::{ProxyRule, Wanted};
use crate::config::tags;
use crate::domain::activity::{Activity, Question};
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::matching::{Condition, HttpHeaderConfig};
use crate::domain::record::SCHEMA;
use crate::domain::rule::{Action, Config, GroupId, ResourceId, RouteId, RuleName, Side};
use crate::domain::seen::{Fact, GroupHealth, TargetSeen};
use crate::domain::table::{ForwardedFor, Listener, ListenerRule, RouteTable};
use crate::domain::time::Timestamp;
use crate::gateway::Gateway;
use crate::gateway::envoy::admin;
use crate::gateway::envoy::{
    Certificate, Edge, Endpoint, Host, HttpListener, HttpWay, Limits, Plane, RuleView, TcpWay, Upstream, UpstreamTls,
    Version, View,
};
use crate::ledger::folder::Folder;

use super::meter;
use super::prober::{Check, Prober};
use super::state::{self, NoPort, State};

/// What stands for the daemon among the target groups.
pub const WAKER: &str = "envoy:waker";
/// The header by which a held request is matched to its rule again; a client's own is taken away.
pub const RULE_HEADER: &str = "x-autostopping-rule";
const ENVOY: &str = "envoy";
const PREFIX: &str = "envoy:";
/// How long Envoy may take to acknowledge a flip; within the time of an action.
const ACK: Duration = Duration::from_secs(8);

/// The gateway and the metrics of the proxy. Clones share everything.
#[derive(Debug, Clone)]
pub struct Front {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ProxyConfig,
    folder: Arc<Folder>,
    compute: Kinds,
    prober: Prober,
    /// Started after this, because what it asks needs this.
    plane: OnceLock<Plane>,
    now: Mutex<Now>,
}

/// What changes, all under one lock, so that views are published in the order in which they were made.
#[derive(Debug, Default)]
struct Now {
    rules: BTreeMap<RuleName, Arc<ProxyRule>>,
    state: State,
    certificates: Vec<Certificate>,
    /// Rules without all of their ports, and why.
    missing: Vec<NoPort>,
    /// Machines that checks find unwell.
    unwell: BTreeSet<ResourceId>,
    /// Flips that Envoy has not acknowledged yet, with the side it may still be on.
    unacknowledged: BTreeMap<RuleName, Side>,
}

impl Front {
    /// With the state that the folder has.
    ///
    /// # Errors
    /// A sentence.
    pub fn open(config: ProxyConfig, folder: Arc<Folder>, compute: Kinds) -> Result<Self, String> {
        let bytes = folder
            .get(state::FILE)
            .map_err(|error| format!("{}: {error}", state::FILE))?;
        let state = bytes.map_or_else(|| Ok(State::default()), |bytes| State::read(&bytes))?;
        let now = Now {
            state,
            ..Now::default()
        };
        let inner = Inner {
            config,
            folder,
            compute,
            prober: Prober::default(),
            plane: OnceLock::new(),
            now: Mutex::new(now),
        };
        Ok(Front { inner: Arc::new(inner) })
    }

    /// The control plane through which Envoy is told; once.
    pub fn connect(&self, plane: Plane) {
        let _ = self.inner.plane.set(plane);
    }

    pub fn plane(&self) -> Option<&Plane> {
        self.inner.plane.get()
    }

    pub fn config(&self) -> &ProxyConfig {
        &self.inner.config
    }

    /// Envoy's own interface.
    pub fn admin_socket(&self) -> PathBuf {
        self.inner.config.xds_socket.with_file_name("envoy-admin.sock")
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.inner.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn rule(&self, name: &RuleName) -> Option<Arc<ProxyRule>> {
        self.now().rules.get(name).cloned()
    }

    pub fn rules(&self) -> Vec<Arc<ProxyRule>> {
        self.now().rules.values().cloned().collect()
    }

    /// The machines of a rule by their ids, those its tag filters found last among them.
    pub fn resources(&self, rule: &ProxyRule) -> Vec<ResourceId> {
        resources(&self.now(), rule)
    }

    /// Asks which machines the rules' tag filters find now. What cannot be asked stays as it was.
    pub async fn find_tagged(&self) {
        for rule in self.rules() {
            let filters = rule.resources.iter().filter_map(|wanted| match wanted {
                Wanted::One(_) => None,
                Wanted::Tagged(tags) => Some(tags),
            });
            let mut found = BTreeSet::new();
            let mut asked = None;
            for tags in filters {
                match self.inner.compute.with_tags(tags).await {
                    Ok(ids) => found.extend(ids),
                    Err(fault) => {
                        tracing::warn!(rule = %rule.name, %fault, "the machines of its tags cannot be asked for; the last ones stay");
                        asked = None;
                        break;
                    }
                }
                asked = Some(());
            }
            let found: Vec<_> = found.into_iter().collect();
            if asked.is_some()
                && self.now().state.tagged(&rule.name) != found
                && let Err(fault) = self.change(|now| now.state.note_tagged(&rule.name, found))
            {
                tracing::warn!(rule = %rule.name, %fault, "the machines of its tags could not be remembered");
            }
        }
    }

    /// All that opts itself in by its tags.
    ///
    /// # Errors
    /// When AWS cannot be asked.
    pub async fn opted_in(&self) -> Result<Vec<Tagged>, Fault> {
        match &self.inner.compute.aws {
            Some(aws) => tagged(&aws.ec2, &aws.rds).await,
            None => Ok(Vec::new()),
        }
    }

    /// Where the proxy listens for a rule's machine's port.
    pub fn port(&self, rule: &ProxyRule, target: u16) -> Option<u16> {
        let fixed = rule.tcp.iter().find(|way| way.port == target)?.listen;
        fixed.or_else(|| self.now().state.port(&rule.name, target))
    }

    pub fn missing(&self) -> Vec<NoPort> {
        self.now().missing.clone()
    }

    pub fn generation(&self, rule: &RuleName) -> u64 {
        self.now().state.generation(rule)
    }

    pub fn side(&self, rule: &RuleName) -> Side {
        self.now().state.side(rule)
    }

    /// Puts other rules in the place of those there are. What stays keeps its side, its generation and its ports.
    ///
    /// # Errors
    /// When it cannot be remembered; then nothing is changed.
    pub fn set_rules(&self, rules: Vec<ProxyRule>) -> Result<(), Fault> {
        let rules: BTreeMap<_, _> = rules
            .into_iter()
            .map(|rule| (rule.name.clone(), Arc::new(rule)))
            .collect();
        let allotted = |rule: &ProxyRule| {
            rule.tcp
                .iter()
                .filter(|way| way.listen.is_none())
                .map(|way| way.port)
                .collect()
        };
        let wanted = rules
            .iter()
            .map(|(name, rule)| (name.clone(), allotted(rule)))
            .collect();
        let fixed = rules
            .values()
            .flat_map(|rule| &rule.tcp)
            .filter_map(|way| way.listen)
            .collect();
        let range = self.inner.config.port_range.clone();
        self.change(|now| {
            now.missing = now.state.allot(&range, &wanted, &fixed);
            now.rules = rules;
        })?;
        Ok(())
    }

    pub fn set_certificates(&self, certificates: Vec<Certificate>) -> Result<(), Fault> {
        self.change(|now| now.certificates = certificates).map(|_| ())
    }

    /// Ends the wait of all who rang for this generation.
    ///
    /// # Errors
    /// When it cannot be remembered.
    pub fn give_up(&self, rule: &RuleName, generation: u64) -> Result<(), Fault> {
        self.change(|now| {
            if now.state.generation(rule) == generation {
                now.state.give_up(rule);
            }
        })?;
        Ok(())
    }

    /// Changes what is remembered: on the disk first, then here, then in Envoy.
    fn change(&self, work: impl FnOnce(&mut Now)) -> Result<Option<Version>, Fault> {
        let mut now = self.now();
        let before = (now.state.clone(), now.rules.clone());
        work(&mut now);
        if now.state != before.0
            && let Err(error) = self.inner.folder.put(state::FILE, &now.state.written())
        {
            (now.state, now.rules) = before;
            return Err(Fault::new(FaultKind::Conflict, "proxy:remember", error.to_string()));
        }
        Ok(self.publish(&now))
    }

    fn publish(&self, now: &Now) -> Option<Version> {
        let plane = self.inner.plane.get()?;
        Some(plane.publish(&self.view(now)))
    }

    /// Tells Envoy what there is, for the first time.
    pub fn begin(&self) -> Option<Version> {
        self.publish(&self.now())
    }

    fn view(&self, now: &Now) -> View {
        let config = &self.inner.config;
        let secure = !now.certificates.is_empty();
        let listeners = |ports: &[u16], tls: bool| -> Vec<HttpListener> {
            let each = |(place, port): (usize, &u16)| {
                let (port, kind) = (*port, if tls { "https" } else { "http" });
                let many = config.listen.len() > 1;
                config.listen.iter().map(move |address| HttpListener {
                    name: if many {
                        format!("{kind}-{address}-{port}")
                    } else {
                        format!("{kind}-{port}")
                    },
                    address: SocketAddr::new(*address, port),
                    tls,
                    redirect_to_https: config.redirect_of(place).filter(|_| secure && !tls),
                    trusted_hops: 0,
                })
            };
            ports.iter().enumerate().flat_map(each).collect()
        };
        let mut http = listeners(&config.http_ports, false);
        if secure {
            http.extend(listeners(&config.https_ports, true));
        }
        let names: Vec<String> = http.iter().map(|listener| listener.name.clone()).collect();
        let rules = now
            .rules
            .values()
            .map(|rule| self.rule_view(now, rule, &names))
            .collect();
        View {
            edge: Edge {
                listeners: http,
                certificates: now.certificates.clone(),
                limits: Limits::default(),
            },
            rules,
        }
    }

    fn rule_view(&self, now: &Now, rule: &ProxyRule, listeners: &[String]) -> RuleView {
        let (policy, _) = tags::policy(&rule.tags, self.inner.config.settle, self.inner.config.idle_min);
        let endpoint = |id: &ResourceId| {
            let host = host(now, id)?;
            Some(Endpoint {
                host: host
                    .parse::<IpAddr>()
                    .map_or_else(|_| Host::Name(host.clone()), Host::Address),
                weight: 1,
                healthy: !now.unwell.contains(id),
            })
        };
        let http = rule.http.iter().map(|way| HttpWay {
            hosts: way.hosts.clone(),
            prefix: way.path.clone(),
            listeners: listeners.to_vec(),
            target_port: way.port,
            upstream: Upstream {
                tls: way.tls.then(UpstreamTls::default),
                http2: false,
            },
        });
        let tcp = rule.tcp.iter().flat_map(|way| {
            let port = way.listen.or_else(|| now.state.port(&rule.name, way.port));
            let addresses = self.inner.config.listen.iter();
            let allow = policy.allow.clone();
            port.into_iter().flat_map(move |port| {
                let allow = allow.clone();
                addresses.clone().map(move |address| TcpWay {
                    listen: SocketAddr::new(*address, port),
                    target_port: way.port,
                    allow: allow.clone(),
                })
            })
        });
        RuleView {
            name: rule.name.clone(),
            generation: now.state.generation(&rule.name),
            side: now.state.side(&rule.name),
            endpoints: resources(now, rule).iter().filter_map(endpoint).collect(),
            http: http.collect(),
            tcp: tcp.collect(),
            wake_timeout: rule.wake_timeout,
        }
    }

    async fn flip(&self, route: &RouteId, side: Side) -> Result<(), Fault> {
        const FLIP: &str = "envoy:flip";
        let name =
            name_of(&route.0).ok_or_else(|| Fault::new(FaultKind::NotFound, FLIP, format!("{route} is no route")))?;
        if self.rule(&name).is_none() {
            return Err(Fault::new(
                FaultKind::NotFound,
                FLIP,
                format!("{name} is no rule any more"),
            ));
        }
        let version = self.change(|now| {
            let from = now.state.side(&name);
            if from != side {
                now.unacknowledged.insert(name.clone(), from);
            }
            now.state.flip(&name, side);
        })?;
        let (Some(version), Some(plane)) = (version, self.plane()) else {
            return Err(Fault::new(FaultKind::Conflict, FLIP, "Envoy is not told anything yet"));
        };
        // What it has not acknowledged it may get at any moment: nobody knows which side it is on.
        match tokio::time::timeout(ACK, plane.rule_acked(version, &name)).await {
            Ok(Ok(())) => {
                self.now().unacknowledged.remove(&name);
                Ok(())
            }
            Ok(Err(error)) => Err(Fault::new(FaultKind::Other, FLIP, error.to_string())),
            Err(_) => Err(Fault::new(
                FaultKind::Other,
                FLIP,
                "Envoy does not acknowledge it in time",
            )),
        }
    }

    /// Checks all machines of a rule, each at all of its ports.
    async fn check(&self, rule: &ProxyRule) -> Vec<TargetSeen> {
        let ids = self.resources(rule);
        let hosts: Vec<Option<String>> = {
            let now = self.now();
            ids.iter().map(|id| host(&now, id)).collect()
        };
        let each = ids.into_iter().zip(hosts).map(async |(resource, host)| {
            let Some(host) = host else {
                let words = "its address is not known yet".to_owned();
                return (
                    TargetSeen {
                        resource,
                        healthy: false,
                        words,
                    },
                    false,
                );
            };
            let checks = checks(rule, &host);
            let found = futures_util::future::join_all(checks.iter().map(|check| self.inner.prober.ask(check))).await;
            let healthy = found.iter().all(|found| found.serves);
            let well = found.iter().all(|found| found.well);
            let words = found
                .into_iter()
                .find(|found| !found.serves)
                .map_or_else(|| "healthy".to_owned(), |found| found.words);
            (
                TargetSeen {
                    resource,
                    healthy,
                    words,
                },
                well,
            )
        });
        let all = futures_util::future::join_all(each).await;
        self.note_health(&all);
        all.into_iter().map(|(target, _)| target).collect()
    }

    /// Takes machines out of the rotation, and back in, while their rule is awake.
    fn note_health(&self, found: &[(TargetSeen, bool)]) {
        let mut now = self.now();
        let before = now.unwell.clone();
        for (target, well) in found {
            match well {
                true => now.unwell.remove(&target.resource),
                false => now.unwell.insert(target.resource.clone()),
            };
        }
        if now.unwell != before {
            self.publish(&now);
        }
    }

    /// Asks where the machines are that AWS gives their addresses.
    async fn find(&self, rule: &ProxyRule) -> Result<(), Fault> {
        let unknown: Vec<ResourceId> = self
            .resources(rule)
            .into_iter()
            .filter(|id| kinds::local_host(id).is_none())
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let found = self.inner.compute.hosts(&unknown).await?;
        let news: Vec<_> = {
            let now = self.now();
            found
                .into_iter()
                .filter(|(id, host)| now.state.host(id) != Some(host.as_str()))
                .collect()
        };
        if !news.is_empty() {
            self.change(|now| {
                for (id, host) in &news {
                    now.state.note_host(id, host);
                }
            })?;
        }
        Ok(())
    }
}

/// The machines of a rule by their ids, each once.
fn resources(now: &Now, rule: &ProxyRule) -> Vec<ResourceId> {
    let one = |wanted: &Wanted| match wanted {
        Wanted::One(id) => Some(id.clone()),
        Wanted::Tagged(_) => None,
    };
    let named = rule.resources.iter().filter_map(one);
    let tagged = match named.clone().count() == rule.resources.len() {
        true => &[],
        false => now.state.tagged(&rule.name),
    };
    let all: BTreeSet<_> = named.chain(tagged.iter().cloned()).collect();
    all.into_iter().collect()
}

fn host(now: &Now, id: &ResourceId) -> Option<String> {
    let known = kinds::local_host(id).or_else(|| now.state.host(id));
    known.map(str::to_owned)
}

fn checks(rule: &ProxyRule, host: &str) -> BTreeSet<Check> {
    let check = |port: u16, path: Option<String>| Check {
        host: host.to_owned(),
        port,
        path,
    };
    let http = rule
        .http
        .iter()
        .map(|way| check(way.port, way.check.clone().filter(|_| !way.tls)));
    let tcp = rule.tcp.iter().map(|way| check(way.port, None));
    http.chain(tcp).collect()
}

fn name_of(id: &str) -> Option<RuleName> {
    id.strip_prefix(PREFIX).map(|name| RuleName(name.to_owned()))
}

/// Read as an ALB writes it.
fn forward_to(group: &str) -> Vec<Action> {
    vec![Action {
        kind: "forward".to_owned(),
        order: None,
        target_group_arn: Some(GroupId(group.to_owned())),
        forward_config: None,
        rest: Config::default(),
    }]
}

fn condition(header: &str, value: &str) -> Condition {
    Condition {
        field: Some("http-header".to_owned()),
        http_header_config: Some(HttpHeaderConfig {
            http_header_name: Some(header.to_owned()),
            values: Some(vec![value.to_owned()]),
            ..HttpHeaderConfig::default()
        }),
        ..Condition::default()
    }
}

/// A rule's route and its parked copy.
fn routes(place: u32, rule: &ProxyRule, side: Side) -> [ListenerRule; 2] {
    let own = format!("{PREFIX}{}", rule.name);
    let to = match side {
        Side::Backend => own.as_str(),
        Side::Waker => WAKER,
    };
    let route = ListenerRule {
        arn: RouteId(own.clone()),
        priority: Some(place),
        conditions: vec![condition(RULE_HEADER, &rule.name.0)],
        actions: forward_to(to),
        transforms: Vec::new(),
        tags: rule.tags.clone(),
    };
    let parked = ListenerRule {
        arn: RouteId(format!("{own}:parked")),
        priority: Some(place + 50_000),
        conditions: vec![condition("x-autostopping-parked", &rule.name.0)],
        actions: forward_to(&own),
        transforms: Vec::new(),
        tags: BTreeMap::from([(tags::PARKS.to_owned(), own)]),
    };
    [route, parked]
}

impl Gateway for Front {
    async fn read(&self, at: Timestamp, _known: Option<&RouteTable>) -> Result<RouteTable, Fault> {
        let now = self.now();
        let side = |name: &RuleName| {
            now.unacknowledged
                .get(name)
                .copied()
                .unwrap_or_else(|| now.state.side(name))
        };
        let rules = now
            .rules
            .values()
            .zip(1..)
            .flat_map(|(rule, place)| routes(place, rule, side(&rule.name)));
        let listener = Listener {
            arn: ENVOY.to_owned(),
            load_balancer: ENVOY.to_owned(),
            port: 0,
            waker: Some(GroupId(WAKER.to_owned())),
            controller: None,
            forwarded_for: Some(ForwardedFor::Appended),
            rules: rules.collect(),
        };
        Ok(RouteTable {
            schema: SCHEMA,
            read_at: at,
            swept_at: None,
            listeners: vec![listener],
            names: BTreeMap::new(),
            loose: BTreeMap::new(),
            ways: None,
        })
    }

    async fn health(&self, groups: &[(GroupId, bool)]) -> Result<Vec<GroupHealth>, Fault> {
        let mut seen = Vec::with_capacity(groups.len());
        for (id, weighted) in groups {
            let rule = name_of(&id.0).and_then(|name| self.rule(&name));
            let rule =
                rule.ok_or_else(|| Fault::new(FaultKind::NotFound, "envoy:health", format!("{id} is no rule")))?;
            self.find(&rule).await?;
            seen.push(GroupHealth {
                id: id.clone(),
                weighted: *weighted,
                target_type: "instance".to_owned(),
                targets: self.check(&rule).await,
            });
        }
        Ok(seen)
    }

    async fn groups(&self) -> Result<Vec<GroupId>, Fault> {
        Ok(self
            .rules()
            .iter()
            .map(|rule| GroupId(format!("{PREFIX}{}", rule.name)))
            .collect())
    }

    async fn unwatched(&self, _table: &RouteTable) -> Result<Vec<(GroupId, RouteId)>, Fault> {
        Ok(Vec::new())
    }

    async fn park(&self, _table: &RouteTable, _route: &RouteId, _actions: &[Action]) -> Result<(), Fault> {
        Ok(())
    }

    async fn unpark(&self, _parked: &ListenerRule, _route: &RouteId) -> Result<(), Fault> {
        Ok(())
    }

    async fn flip_to_waker(&self, _table: &RouteTable, route: &RouteId, _actions: &[Action]) -> Result<(), Fault> {
        self.flip(route, Side::Waker).await
    }

    async fn flip_to_backend(&self, route: &RouteId, _actions: &[Action]) -> Result<(), Fault> {
        self.flip(route, Side::Backend).await
    }

    async fn under_way(&self, groups: &[GroupId]) -> Result<Option<u64>, Fault> {
        let active = admin::active(&self.admin_socket()).await;
        let active = active.map_err(|error| Fault::new(FaultKind::Conflict, "envoy:stats", error.to_string()))?;
        let asked: Vec<RuleName> = groups.iter().filter_map(|group| name_of(&group.0)).collect();
        // What a rule that is gone has left may lead to machines that have another's name by now.
        let counts = |rule: &RuleName| asked.contains(rule) || self.rule(rule).is_none();
        let counted = active.iter().filter(|(rule, _)| counts(rule));
        Ok(Some(counted.map(|(_, count)| count).sum()))
    }
}

impl Metrics for Front {
    async fn read(&self, questions: &[Question]) -> Vec<Fact<Activity>> {
        let loads = self.plane().map(Plane::loads).unwrap_or_default();
        let answer = |question| Ok(meter::activity(&loads, question, |group| name_of(&group.0)));
        questions.iter().map(answer).collect()
    }
}
