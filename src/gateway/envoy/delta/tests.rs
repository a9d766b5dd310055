//! A model of Envoy on the other end of the stream: whatever is published, refused, lost and made anew, in the end it has
//! exactly what was published, and on the way no connection of it is led to a cluster that has been taken away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use proptest::prelude::*;

use super::{Patience, Said, Session, Standing, Told};
use crate::domain::rule::RuleName;
use crate::gateway::envoy::model::Config;
use crate::gateway::envoy::snapshot::{Kind, Snapshot};

/// The clusters that connections are led to by what is not as it is wanted.
fn leads_to(envoy: &Config, wanted: Option<&Arc<Snapshot>>) -> BTreeSet<String> {
    let mut clusters = BTreeSet::new();
    for kind in [Kind::Listener, Kind::Route] {
        for (name, had) in envoy.has.get(&kind).into_iter().flatten() {
            let resource = wanted.and_then(|wanted| wanted.get(kind, name));
            if resource.is_none_or(|resource| resource.version != had.version) {
                clusters.extend(had.refers.iter().cloned());
            }
        }
    }
    clusters
}

/// The digest that a plain resource with this text has.
fn version_of(text: &str) -> String {
    let mut snapshot = Snapshot::default();
    snapshot.put_plain(Kind::Cluster, "any", text, BTreeSet::new());
    let resource = snapshot.get(Kind::Cluster, "any").expect("put");
    resource.version.clone()
}

/// Of each kind some resources in some versions; listeners and routes lead to clusters.
#[derive(Debug, Clone)]
struct Wish {
    clusters: BTreeMap<u8, u8>,
    endpoints: BTreeMap<u8, u8>,
    listeners: BTreeMap<u8, (u8, u8)>,
    routes: BTreeMap<u8, (u8, u8)>,
}

/// All of one rule, each of another generation.
fn cluster(generation: u8) -> String {
    format!("c@{generation}/tcp-1")
}

/// One in eight is bad.
fn text(version: u8) -> String {
    if version == 7 {
        "bad".to_owned()
    } else {
        format!("v{version}")
    }
}

impl Wish {
    fn snapshot(&self) -> Arc<Snapshot> {
        let mut snapshot = Snapshot::default();
        let nowhere = BTreeSet::new;
        for (name, version) in &self.clusters {
            snapshot.put_plain(Kind::Cluster, &cluster(*name), &text(*version), nowhere());
            // As with ours, every cluster has addresses.
            let version = self.endpoints.get(name).copied().unwrap_or(0) % 7;
            snapshot.put_plain(Kind::Endpoints, &cluster(*name), &text(version), nowhere());
        }
        for (name, (version, to)) in &self.listeners {
            let to = BTreeSet::from([cluster(*to)]);
            let bytes = if *version == 7 {
                text(7)
            } else {
                format!("{} to {to:?}", text(*version))
            };
            snapshot.put_plain(Kind::Listener, &format!("tcp/c/{name}"), &bytes, to);
            let (version, to) = self.routes.get(name).copied().unwrap_or((0, 0));
            let to = BTreeSet::from([cluster(to)]);
            let bytes = format!("{} to {to:?}", text(version % 7));
            snapshot.put_plain(Kind::Route, &format!("tcp/c/{name}"), &bytes, to);
        }
        Arc::new(snapshot)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish(Wish),
    ToEnvoy,
    ToUs,
    /// The stream is lost with everything on it.
    Lost,
}

fn wish() -> impl Strategy<Value = Wish> {
    let versions = || proptest::collection::btree_map(0..4u8, 0..8u8, 0..4);
    let leading = || proptest::collection::btree_map(0..3u8, (0..8u8, 0..4u8), 0..3);
    (versions(), versions(), leading(), leading()).prop_map(|(clusters, endpoints, listeners, routes)| Wish {
        clusters,
        endpoints,
        listeners,
        routes,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => wish().prop_map(Step::Publish),
        6 => Just(Step::ToEnvoy),
        6 => Just(Step::ToUs),
        1 => Just(Step::Lost),
    ]
}

/// Of a clock that no step moves, so that what takes its time never does, but at the end.
const PATIENCE: Patience = Patience {
    refused: Duration::from_secs(30),
    unused: Duration::from_secs(10),
};

struct World {
    now: Instant,
    envoy: Config,
    session: Session,
    wanted: Option<Arc<Snapshot>>,
    /// With what was wanted when it was told.
    to_envoy: VecDeque<(Told, Option<Arc<Snapshot>>)>,
    to_us: VecDeque<(Kind, Said)>,
}

impl World {
    fn connect(&mut self) {
        self.session = Session::new(self.wanted.clone(), PATIENCE);
        self.to_envoy.clear();
        self.to_us = self.envoy.hello().into();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish(wish) => {
                let snapshot = wish.snapshot();
                self.wanted = Some(Arc::clone(&snapshot));
                self.session.publish(snapshot);
            }
            Step::ToEnvoy => self.deliver(),
            Step::ToUs => {
                if let Some((kind, said)) = self.to_us.pop_front() {
                    self.session.receive(kind, said, self.now);
                }
            }
            Step::Lost => self.connect(),
        }
        self.tell();
    }

    fn tell(&mut self) {
        while let Some(told) = self.session.next(self.now) {
            self.to_envoy.push_back((told, self.wanted.clone()));
        }
        self.judge();
    }

    /// What a flip relies on.
    fn judge(&self) {
        let Some(wanted) = &self.wanted else { return };
        if self.session.standing(&RuleName("c".to_owned())) != Standing::Settled {
            return;
        }
        let leading = [Kind::Listener, Kind::Route];
        let all = leading
            .into_iter()
            .flat_map(|kind| wanted.names(kind).map(move |name| (kind, name)));
        let current: BTreeSet<&String> = all
            .filter_map(|(kind, name)| wanted.get(kind, name))
            .flat_map(|it| &it.refers)
            .collect();
        for kind in leading {
            for (name, had) in self.envoy.has.get(&kind).into_iter().flatten() {
                let (version, refers) = (&had.version, &had.refers);
                let it = wanted.get(kind, name);
                let drains = kind == Kind::Route && it.is_none();
                let is_current = it.is_some_and(|it| it.version == *version);
                assert!(
                    drains || is_current || refers.iter().all(|cluster| current.contains(cluster)),
                    "settled, and {name} leads to {refers:?}"
                );
            }
        }
    }

    fn deliver(&mut self) {
        let Some((told, wanted)) = self.to_envoy.pop_front() else {
            return;
        };
        let before = self.envoy.names(Kind::Cluster);
        let leading = matches!(told.kind, Kind::Listener | Kind::Route).then(|| told.resources.clone());
        let said = self.envoy.told(told);
        for (name, resource) in leading.into_iter().flatten() {
            for cluster in &resource.refers {
                let there = |kind| self.envoy.has.get(&kind).is_some_and(|has| has.contains_key(cluster));
                let bad = version_of("bad");
                let wanted = wanted.as_ref().and_then(|wanted| wanted.get(Kind::Cluster, cluster));
                let expected = wanted.is_some_and(|wanted| wanted.version != bad);
                assert!(
                    !expected || there(Kind::Cluster) && there(Kind::Endpoints),
                    "{name} leads to {cluster} before that is there"
                );
            }
        }
        let after = self.envoy.names(Kind::Cluster);
        for gone in before.difference(&after) {
            assert!(
                !leads_to(&self.envoy, wanted.as_ref()).contains(gone),
                "{gone} was taken away under its connections"
            );
        }
        self.to_us.extend(said);
    }

    fn rest(&mut self) {
        self.drain();
        self.now += PATIENCE.unused;
        self.tell();
        self.drain();
    }

    fn drain(&mut self) {
        while !(self.to_envoy.is_empty() && self.to_us.is_empty()) {
            self.step(Step::ToEnvoy);
            self.step(Step::ToUs);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_the_end_envoy_has_what_was_published(steps in proptest::collection::vec(step(), 1..60), last in wish()) {
        let mut world = World {
            now: Instant::now(),
            envoy: Config {
                bad: Some(version_of("bad")),
                ..Config::default()
            },
            session: Session::new(None, PATIENCE),
            wanted: None,
            to_envoy: VecDeque::new(),
            to_us: VecDeque::new(),
        };
        world.connect();
        for step in steps {
            world.step(step);
        }
        world.step(Step::Publish(last));
        world.rest();
        prop_assert!(world.session.settled());
        let wanted = world.wanted.clone().expect("published");
        let bad = version_of("bad");
        let refusals: BTreeSet<_> = world.session.rejections().into_iter().map(|it| (it.kind, it.resource)).collect();
        let mut refused = BTreeSet::new();
        for kind in [Kind::Cluster, Kind::Endpoints, Kind::Listener, Kind::Route] {
            let has = world.envoy.has.get(&kind).cloned().unwrap_or_default();
            for name in wanted.names(kind) {
                let version = &wanted.get(kind, name).expect("named").version;
                if *version == bad {
                    refused.insert((kind.word(), name.clone()));
                } else if kind == Kind::Endpoints && !world.envoy.names(Kind::Cluster).contains(name)
                    || kind == Kind::Route && !world.envoy.names(Kind::Listener).contains(name)
                {
                    // Not asked for: what it belongs to is refused.
                } else {
                    prop_assert_eq!(has.get(name).map(|had| &had.version), Some(version), "{:?} {}", kind, name);
                }
            }
            for name in has.keys().filter(|name| wanted.get(kind, name).is_none()) {
                // A refused listener's older version may still lead there; of an earlier stream's, only Envoy knows where.
                let used = matches!(kind, Kind::Cluster | Kind::Endpoints)
                    && refusals.iter().any(|(kind, _)| *kind == Kind::Listener.word());
                prop_assert!(used, "{:?} {} should be gone", kind, name);
            }
        }
        prop_assert_eq!(refusals, refused);

        // The same again, by a daemon started anew, is nothing new.
        let repeated = world.envoy.repeated;
        world.step(Step::Lost);
        world.rest();
        prop_assert!(world.session.settled());
        prop_assert_eq!(world.envoy.repeated, repeated);
    }
}

/// What Envoy says at first when it has nothing.
fn connected(session: &mut Session, now: Instant) {
    for kind in [Kind::Cluster, Kind::Listener] {
        session.receive(kind, Said::default(), now);
    }
}

/// Envoy answers everything, and what it is told is returned.
fn told(session: &mut Session, now: Instant, refuses: &[&str]) -> Vec<(Kind, Vec<String>, Vec<String>)> {
    let mut all = Vec::new();
    while let Some(Told {
        kind,
        nonce,
        resources,
        removed,
    }) = session.next(now)
    {
        let names: Vec<String> = resources.into_iter().map(|(name, _)| name).collect();
        let bad = names.iter().any(|name| refuses.contains(&name.as_str()));
        let said = Said {
            nonce,
            refused: bad.then(|| "no".to_owned()),
            ..Said::default()
        };
        session.receive(kind, said, now);
        for (leader, follower) in [(Kind::Listener, Kind::Route), (Kind::Cluster, Kind::Endpoints)] {
            if kind == leader && !bad && !names.is_empty() {
                let subscribe = names.clone();
                let said = Said {
                    subscribe,
                    ..Said::default()
                };
                session.receive(follower, said, now);
            }
        }
        all.push((kind, names, removed));
    }
    all
}

fn leading(listener: &str, generation: u8, route: bool) -> Arc<Snapshot> {
    let mut snapshot = Snapshot::default();
    let to = BTreeSet::from([cluster(generation)]);
    let version = generation.to_string();
    match route {
        true => {
            snapshot.put_plain(Kind::Listener, listener, "same", BTreeSet::new());
            snapshot.put_plain(Kind::Route, listener, &version, to);
        }
        false => snapshot.put_plain(Kind::Listener, listener, &version, to),
    }
    snapshot.put_plain(Kind::Cluster, &cluster(generation), "c", BTreeSet::new());
    snapshot.put_plain(Kind::Endpoints, &cluster(generation), "e", BTreeSet::new());
    Arc::new(snapshot)
}

/// Red when it was told again only after another view.
#[test]
fn what_was_refused_is_told_again_after_a_while() {
    let mut now = Instant::now();
    let mut session = Session::new(Some(leading("tcp/c/1", 1, false)), PATIENCE);
    connected(&mut session, now);
    told(&mut session, now, &["tcp/c/1"]);
    assert_eq!(session.rejections().len(), 1);
    assert_eq!(session.due_at(now), Some(now + PATIENCE.refused));
    now += PATIENCE.refused - Duration::from_secs(1);
    assert_eq!(told(&mut session, now, &[]), []);
    now += Duration::from_secs(1);
    assert_eq!(told(&mut session, now, &["tcp/c/1"]).len(), 1);
    assert_eq!(session.rejections().len(), 1, "refused again");
    now += PATIENCE.refused;
    told(&mut session, now, &[]);
    assert_eq!((session.rejections(), session.due_at(now)), (Vec::new(), None));
}

/// Red when a cluster went as soon as nothing led there: its last load report never came.
#[test]
fn a_cluster_stays_for_its_last_report() {
    let mut now = Instant::now();
    let rule = RuleName("c".to_owned());
    let mut session = Session::new(Some(leading("tcp/c/1", 1, false)), PATIENCE);
    connected(&mut session, now);
    told(&mut session, now, &[]);
    session.publish(leading("tcp/c/1", 2, false));
    assert_eq!(session.standing(&rule), Standing::Pending);
    let first = told(&mut session, now, &[]);
    assert!(first.iter().all(|(_, _, removed)| removed.is_empty()), "{first:?}");
    assert_eq!((session.standing(&rule), session.settled()), (Standing::Settled, true));
    assert_eq!(session.due_at(now), Some(now + PATIENCE.unused));
    now += PATIENCE.unused;
    assert_eq!(
        told(&mut session, now, &[]),
        [(Kind::Cluster, vec![], vec![cluster(1)])]
    );
}

/// Red when any refusal of a rule's own was one: a port that another program has kept the other ways in from being switched.
#[test]
fn a_refused_listener_concerns_a_flip_only_if_its_former_self_leads_elsewhere() {
    let now = Instant::now();
    let rule = RuleName("c".to_owned());
    let mut session = Session::new(Some(leading("tcp/c/1", 1, false)), PATIENCE);
    connected(&mut session, now);
    told(&mut session, now, &["tcp/c/1"]);
    assert_eq!(session.standing(&rule), Standing::Settled, "nobody comes by it");
    session.publish(leading("tcp/c/1", 2, false));
    told(&mut session, now, &[]);
    session.publish(leading("tcp/c/1", 3, false));
    told(&mut session, now, &["tcp/c/1"]);
    assert!(
        matches!(session.standing(&rule), Standing::Refused(_)),
        "it leads to the second"
    );
    // A rule whose refusal is no concern of others.
    assert_eq!(session.standing(&RuleName("other".to_owned())), Standing::Settled);
}

/// Red when the routes of a listener that is gone counted: they live as long as its connections drain.
#[test]
fn routes_of_a_listener_that_is_gone_keep_no_cluster() {
    let mut now = Instant::now();
    let mut session = Session::new(Some(leading("http/a", 1, true)), PATIENCE);
    connected(&mut session, now);
    told(&mut session, now, &[]);
    session.publish(leading("tcp/c/1", 2, false));
    told(&mut session, now, &[]);
    assert_eq!(session.standing(&RuleName("c".to_owned())), Standing::Settled);
    now += PATIENCE.unused;
    assert_eq!(
        told(&mut session, now, &[]),
        [(Kind::Cluster, vec![], vec![cluster(1)])]
    );
}
