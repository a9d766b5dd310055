//! How Envoy stands to one rule: the one notion of what a flip waits for.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::names::ClusterName;
use super::super::plane::Rejection;
use super::super::snapshot::{Kind, Resource, Snapshot, rule_of_listener};
use super::Session;
use super::channel::Had;
use crate::domain::rule::RuleName;

/// Whether Envoy does with a rule what it shall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Something of the rule is on its way, or Envoy has not said yet what it has.
    Pending,
    /// Envoy has what there is of the rule, and nothing that it has accepted leads to an earlier generation of it.
    Settled,
    /// Envoy refuses something without which it does not do what it shall. A new listener that it refuses is none of that:
    /// nobody comes by it.
    Refused(Vec<Rejection>),
}

impl Session {
    /// Another rule's news do not matter.
    pub fn standing(&self, rule: &RuleName) -> Standing {
        let Some(wanted) = &self.wanted else {
            return Standing::Pending;
        };
        if ![Kind::Cluster, Kind::Listener].iter().all(|kind| self.is_open(*kind)) {
            return Standing::Pending;
        }
        if wanted
            .of_rule(rule)
            .any(|(kind, name)| self.is_pending(kind, name, wanted))
        {
            return Standing::Pending;
        }
        let stale = self.leads_to_earlier(rule, wanted);
        let essential = |kind: Kind| stale || kind != Kind::Listener;
        let refused: Vec<Rejection> = wanted
            .of_rule(rule)
            .filter(|(kind, _)| essential(*kind))
            .filter_map(|(kind, name)| self.refused(kind, name, wanted))
            .collect();
        match (refused.is_empty(), stale) {
            (false, _) => Standing::Refused(refused),
            (true, true) => Standing::Pending,
            (true, false) => Standing::Settled,
        }
    }

    /// Whether Envoy may have this cluster, by what it has said and by what is on its way.
    pub fn may_have(&self, cluster: &str) -> bool {
        self.channels.get(&Kind::Cluster).is_none_or(|channel| {
            let mut sent = channel.under_way.iter().flat_map(|on| &on.resources);
            !channel.open
                || channel.has.contains_key(cluster)
                || channel.perhaps.contains_key(cluster)
                || sent.any(|(name, _)| name == cluster)
        })
    }

    fn is_pending(&self, kind: Kind, name: &str, wanted: &Snapshot) -> bool {
        let leader = match kind {
            Kind::Endpoints => Some(Kind::Cluster),
            Kind::Route => Some(Kind::Listener),
            Kind::Secret | Kind::Cluster | Kind::Listener => None,
        };
        let accepted = |kind: Kind| {
            self.channels
                .get(&kind)
                .is_some_and(|channel| channel.has.contains_key(name))
        };
        let Some(channel) = self.channels.get(&kind) else {
            // Envoy asks for it when it has what it belongs to.
            return leader.is_some_and(accepted);
        };
        let asked = channel.all || channel.names.contains(name) || leader.is_some_and(accepted);
        let version = wanted.get(kind, name).map(|it| &it.version);
        let there = channel.has.get(name).map(|had| &had.version) == version && !channel.perhaps.contains_key(name);
        let on_its_way = channel
            .under_way
            .as_ref()
            .is_some_and(|sent| sent.resources.iter().any(|(sent, _)| sent == name));
        on_its_way || asked && !there && self.refused(kind, name, wanted).is_none()
    }

    fn refused(&self, kind: Kind, name: &str, wanted: &Snapshot) -> Option<Rejection> {
        let refused = self.channels.get(&kind)?.refused.get(name)?;
        let current = wanted.get(kind, name).is_some_and(|it| it.version == refused.version);
        current.then(|| refused.rejection.clone())
    }

    /// Whether a connection may still come to a cluster of the rule that nothing leads to as it is wanted.
    fn leads_to_earlier(&self, rule: &RuleName, wanted: &Snapshot) -> bool {
        let current: BTreeSet<&String> = wanted
            .of_rule(rule)
            .filter_map(|(kind, name)| wanted.get(kind, name))
            .flat_map(|it| of(rule, &it.refers))
            .collect();
        let earlier = |refers: &BTreeSet<String>| of(rule, refers).any(|cluster| !current.contains(cluster));
        // What an earlier daemon has told: routes may lead anywhere, a listener to its own rule if at all.
        let may_lead = |kind: Kind, name: &str| kind == Kind::Route || rule_of_listener(name) == Some(rule.0.as_str());
        [Kind::Listener, Kind::Route].into_iter().any(|kind| {
            let Some(channel) = self.channels.get(&kind) else {
                return false;
            };
            let other = |name: &str, version: &str| match wanted.get(kind, name) {
                Some(it) => it.version != version,
                None => kind == Kind::Listener,
            };
            let had = |(name, had): (&String, &Had)| {
                let earlier = || had.refers.as_ref().map_or_else(|| may_lead(kind, name), earlier);
                other(name, &had.version) && earlier()
            };
            let sent = |(name, it): &(String, Arc<Resource>)| other(name, &it.version) && earlier(&it.refers);
            channel.had().any(had) || channel.under_way.iter().any(|on| on.resources.iter().any(sent))
        })
    }
}

/// Those of the clusters that are the rule's.
fn of<'a>(rule: &RuleName, clusters: &'a BTreeSet<String>) -> impl Iterator<Item = &'a String> {
    let (prefix, rule) = (format!("{rule}@"), rule.clone());
    let from = clusters.range(prefix.clone()..);
    from.take_while(move |cluster| cluster.starts_with(&prefix))
        .filter(move |cluster| ClusterName::parse(cluster).is_some_and(|name| name.rule == rule))
}
