//! A view as Envoy's resources. Pure: the same view gives the same bytes, and so the same versions.

mod cluster;
mod hold;
mod http;
mod log;
mod tcp;
mod tls;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use sha2::{Digest, Sha256};

pub(super) use self::cluster::of_tcp as cluster_of_tcp;
pub(super) use self::hold::{CLUSTER as CONTEXT, GONE};
pub(super) use self::tcp::rule_of_listener;
use super::names::ClusterName;
use super::view::View;
use crate::domain::rule::RuleName;

/// The kinds of resources, in the order in which what is new is told: each may refer to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Secret,
    Cluster,
    Endpoints,
    Listener,
    Route,
}

impl Kind {
    pub const ALL: [Kind; 5] = [
        Kind::Secret,
        Kind::Cluster,
        Kind::Endpoints,
        Kind::Listener,
        Kind::Route,
    ];

    pub fn type_url(self) -> &'static str {
        match self {
            Kind::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Kind::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Kind::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Kind::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Kind::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    pub fn of(type_url: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }

    pub fn word(self) -> &'static str {
        match self {
            Kind::Secret => "secret",
            Kind::Cluster => "cluster",
            Kind::Endpoints => "endpoints",
            Kind::Listener => "listener",
            Kind::Route => "route",
        }
    }
}

/// One resource. Its bytes may have a key in them, so it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    /// The digest of its bytes, so that the same view told by a daemon started anew is nothing new.
    pub version: String,
    pub body: Any,
    /// The clusters that traffic is led to, whether they are there or not.
    pub refers: BTreeSet<String>,
    /// The rule it serves, where it serves one.
    pub rule: Option<RuleName>,
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resource")
            .field("version", &self.version)
            .field("refers", &self.refers)
            .finish_non_exhaustive()
    }
}

/// All resources of a view by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    all: BTreeMap<Kind, BTreeMap<String, Arc<Resource>>>,
    /// Those that are a rule's own or lead to its clusters.
    of_rule: BTreeMap<RuleName, BTreeSet<(Kind, String)>>,
}

impl Snapshot {
    pub fn of(view: &View) -> Snapshot {
        let mut snapshot = Snapshot::default();
        tls::add(&mut snapshot, view);
        http::add(&mut snapshot, view);
        for rule in &view.rules {
            cluster::add(&mut snapshot, &view.edge, rule);
            tcp::add(&mut snapshot, &view.edge.limits, rule);
        }
        snapshot
    }

    pub fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Resource>> {
        self.all.get(&kind)?.get(name)
    }

    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &String> {
        self.all.get(&kind).into_iter().flat_map(BTreeMap::keys)
    }

    /// What is a rule's own or leads to its clusters.
    pub fn of_rule(&self, rule: &RuleName) -> impl Iterator<Item = (Kind, &String)> {
        let of = self.of_rule.get(rule).into_iter().flatten();
        of.map(|(kind, name)| (*kind, name))
    }

    fn put(&mut self, kind: Kind, name: String, body: Any, refers: BTreeSet<String>, rule: Option<RuleName>) {
        let mut digest = Sha256::new();
        digest.update(&body.value);
        let version = digest.finalize()[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let led_to = refers.iter().filter_map(|cluster| ClusterName::parse(cluster));
        let rules: BTreeSet<RuleName> = rule.iter().cloned().chain(led_to.map(|cluster| cluster.rule)).collect();
        for rule in rules {
            self.of_rule.entry(rule).or_default().insert((kind, name.clone()));
        }
        let resource = Resource {
            version,
            body,
            refers,
            rule,
        };
        self.all.entry(kind).or_default().insert(name, Arc::new(resource));
    }

    /// A resource that only its version tells from another, for tests of what is told when.
    #[cfg(test)]
    pub fn put_plain(&mut self, kind: Kind, name: &str, version: &str, refers: BTreeSet<String>) {
        let body = Any {
            type_url: kind.type_url().to_owned(),
            value: version.as_bytes().to_vec(),
        };
        self.put(kind, name.to_owned(), body, refers, None);
    }
}
