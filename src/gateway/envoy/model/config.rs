//! What Envoy has been told and has accepted, and what it says to that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::rule::RuleName;
use crate::gateway::envoy::delta::{Said, Told};
use crate::gateway::envoy::snapshot::{Kind, Resource};

/// What Envoy has, refuses and says. The streams keep the order of what is sent on them.
#[derive(Default)]
pub struct Config {
    pub has: BTreeMap<Kind, BTreeMap<String, Arc<Resource>>>,
    /// Subscribed by name.
    pub follows: BTreeMap<Kind, BTreeSet<String>>,
    /// How often it was told something that it had already.
    pub repeated: usize,
    /// Of what version everything is refused.
    pub bad: Option<String>,
    /// The rules whose listeners are refused: somebody else has the port.
    pub refuses: BTreeSet<RuleName>,
}

impl Config {
    pub fn names(&self, kind: Kind) -> BTreeSet<String> {
        self.has
            .get(&kind)
            .into_iter()
            .flat_map(|has| has.keys().cloned())
            .collect()
    }

    pub fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Resource>> {
        self.has.get(&kind)?.get(name)
    }

    /// On a new stream.
    pub fn hello(&self) -> Vec<(Kind, Said)> {
        let has = |kind: Kind| -> BTreeMap<String, String> {
            let has = self.has.get(&kind).into_iter().flatten();
            has.map(|(name, resource)| (name.clone(), resource.version.clone()))
                .collect()
        };
        let mut said = Vec::new();
        for kind in [Kind::Cluster, Kind::Listener] {
            let has = has(kind);
            said.push((kind, Said { has, ..Said::default() }));
        }
        for kind in [Kind::Endpoints, Kind::Route] {
            let subscribe: Vec<String> = self.follows.get(&kind).into_iter().flatten().cloned().collect();
            if !subscribe.is_empty() {
                let has = has(kind);
                said.push((
                    kind,
                    Said {
                        subscribe,
                        has,
                        ..Said::default()
                    },
                ));
            }
        }
        said
    }

    fn is_refused(&self, kind: Kind, resource: &Resource) -> bool {
        let listens = kind == Kind::Listener && resource.rule.as_ref().is_some_and(|rule| self.refuses.contains(rule));
        self.bad.as_ref() == Some(&resource.version) || listens
    }

    /// Takes what is good, refuses the answer if something in it is bad, and then asks for what that leads to.
    pub fn told(&mut self, told: Told) -> Vec<(Kind, Said)> {
        let mut bad = Vec::new();
        for (name, resource) in &told.resources {
            let follows = self.follows.get(&told.kind);
            if matches!(told.kind, Kind::Endpoints | Kind::Route) && follows.is_none_or(|names| !names.contains(name)) {
                // On the way when it was let go.
                continue;
            }
            if self.is_refused(told.kind, resource) {
                bad.push(name.clone());
                continue;
            }
            let has = self.has.entry(told.kind).or_default();
            let before = has.insert(name.clone(), Arc::clone(resource));
            self.repeated += usize::from(before.is_some_and(|before| before.version == resource.version));
        }
        for name in &told.removed {
            self.has.entry(told.kind).or_default().remove(name);
        }
        let mut said = Vec::new();
        for (leader, follower) in [(Kind::Cluster, Kind::Endpoints), (Kind::Listener, Kind::Route)] {
            if told.kind != leader {
                continue;
            }
            let wanted = self.names(leader);
            let follows = self.follows.entry(follower).or_default();
            let subscribe: Vec<String> = wanted.difference(follows).cloned().collect();
            let unsubscribe: Vec<String> = follows.difference(&wanted).cloned().collect();
            let has = self.has.entry(follower).or_default();
            has.retain(|name, _| wanted.contains(name));
            *follows = wanted;
            if !(subscribe.is_empty() && unsubscribe.is_empty()) {
                said.push((
                    follower,
                    Said {
                        subscribe,
                        unsubscribe,
                        ..Said::default()
                    },
                ));
            }
        }
        let refused = (!bad.is_empty()).then(|| format!("bad: {}", bad.join(", ")));
        said.push((
            told.kind,
            Said {
                nonce: told.nonce,
                refused,
                ..Said::default()
            },
        ));
        said
    }
}
