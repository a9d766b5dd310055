//! A model of Envoy on the other end of the stream: whatever is published, refused, lost and made anew, in the end it has
//! exactly what was published, and on the way no connection of it is led to a cluster that has been taken away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;

use super::{Said, Session, Told};
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
            snapshot.put_plain(Kind::Cluster, &format!("c{name}"), &text(*version), nowhere());
            // As with ours, every cluster has addresses.
            let version = self.endpoints.get(name).copied().unwrap_or(0) % 7;
            snapshot.put_plain(Kind::Endpoints, &format!("c{name}"), &text(version), nowhere());
        }
        for (name, (version, to)) in &self.listeners {
            let to = BTreeSet::from([format!("c{to}")]);
            let bytes = if *version == 7 {
                text(7)
            } else {
                format!("{} to {to:?}", text(*version))
            };
            snapshot.put_plain(Kind::Listener, &format!("l{name}"), &bytes, to);
            let (version, to) = self.routes.get(name).copied().unwrap_or((0, 0));
            let to = BTreeSet::from([format!("c{to}")]);
            let bytes = format!("{} to {to:?}", text(version % 7));
            snapshot.put_plain(Kind::Route, &format!("l{name}"), &bytes, to);
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

struct World {
    envoy: Config,
    session: Session,
    wanted: Option<Arc<Snapshot>>,
    /// With what was wanted when it was told.
    to_envoy: VecDeque<(Told, Option<Arc<Snapshot>>)>,
    to_us: VecDeque<(Kind, Said)>,
}

impl World {
    fn connect(&mut self) {
        self.session = Session::new(self.wanted.clone());
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
                    self.session.receive(kind, said);
                }
            }
            Step::Lost => self.connect(),
        }
        while let Some(told) = self.session.next() {
            self.to_envoy.push_back((told, self.wanted.clone()));
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
            envoy: Config {
                bad: Some(version_of("bad")),
                ..Config::default()
            },
            session: Session::new(None),
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
