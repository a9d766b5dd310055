//! One stream of delta xDS without its I/O: what Envoy has said goes in, what it shall be told next comes out.
//!
//! Of each kind at most one answer is under way. What is told when:
//! 1. certificates, clusters, addresses;
//! 2. listeners and routes, once no cluster is outstanding (to wake: first there is somewhere to lead to);
//! 3. that a cluster is gone, some time after nothing leads there any more that Envoy has accepted (to sleep: a connection that
//!    comes by the old listener and finds no cluster would wait for a bell that has rung already, and what the cluster served
//!    last is told only by its next load report).
//!
//! What was refused is told again after a while: the port it wants may be free by then.
//!
//! Source: Envoy, "xDS REST and gRPC protocol", incremental xDS.

mod channel;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use self::standing::Standing;

use self::channel::{Channel, Had, UnderWay};
use super::plane::Rejection;
use super::snapshot::{Kind, Resource, Snapshot};

/// What Envoy says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    pub subscribe: Vec<String>,
    pub unsubscribe: Vec<String>,
    /// What it has already, from an earlier stream.
    pub has: BTreeMap<String, String>,
    /// Of the answer it speaks of; empty when it speaks of none.
    pub nonce: String,
    /// Why it has refused that answer.
    pub refused: Option<String>,
}

/// What Envoy is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub kind: Kind,
    pub nonce: String,
    pub resources: Vec<(String, Arc<Resource>)>,
    pub removed: Vec<String>,
}

/// How long what takes its time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Patience {
    /// What was refused is told again after this.
    pub refused: Duration,
    /// A cluster that nothing leads to any more stays this long.
    pub unused: Duration,
}

/// One stream.
#[derive(Debug, Default)]
pub struct Session {
    patience: Patience,
    /// Nothing until something has been published: then nothing is told, so that Envoy keeps what it has.
    wanted: Option<Arc<Snapshot>>,
    channels: BTreeMap<Kind, Channel>,
    nonce: u64,
    /// Since when nothing leads to these clusters, which are wanted no more.
    unused_since: BTreeMap<String, Instant>,
}

impl Session {
    pub fn new(wanted: Option<Arc<Snapshot>>, patience: Patience) -> Session {
        Session {
            patience,
            wanted,
            ..Session::default()
        }
    }

    pub fn publish(&mut self, wanted: Arc<Snapshot>) {
        self.wanted = Some(wanted);
        self.forget_refusals();
    }

    pub fn receive(&mut self, kind: Kind, said: Said, now: Instant) {
        let channel = self.channels.entry(kind).or_default();
        let first = !channel.open;
        if first {
            channel.open = true;
            // Clusters and listeners are asked for without a name.
            channel.all = matches!(kind, Kind::Cluster | Kind::Listener)
                && (said.subscribe.is_empty() || said.subscribe.iter().any(|name| name == "*"));
            channel.owed = channel.all && said.has.is_empty();
            for (name, version) in said.has {
                let wanted = self.wanted.as_ref().and_then(|wanted| wanted.get(kind, &name));
                let refers = wanted
                    .filter(|wanted| wanted.version == version)
                    .map(|wanted| wanted.refers.clone());
                channel.names.insert(name.clone());
                channel.has.insert(name, Had { version, refers });
            }
        }
        for name in said.unsubscribe {
            channel.all &= name != "*";
            channel.names.remove(&name);
            channel.has.remove(&name);
            channel.perhaps.remove(&name);
            channel.refused.remove(&name);
        }
        for name in said.subscribe {
            channel.all |= name == "*";
            // Asked for again in the course of a stream, it is told again: Envoy may have forgotten it.
            if !first {
                channel.has.remove(&name);
            }
            channel.names.insert(name);
        }
        if channel.under_way.as_ref().is_some_and(|sent| sent.nonce == said.nonce)
            && let Some(sent) = channel.under_way.take()
        {
            match said.refused {
                None => channel.accept(sent),
                Some(words) => channel.refuse(kind, sent, words, now),
            }
        }
        let renewed = std::mem::take(&mut channel.renewed);
        if kind == Kind::Cluster {
            self.addresses_anew(renewed);
        }
        self.forget_refusals();
    }

    /// The next answer to send; to be asked again until there is none, and [then](Session::due_at).
    pub fn next(&mut self, now: Instant) -> Option<Told> {
        let wanted = Arc::clone(self.wanted.as_ref()?);
        self.retry_refused(now);
        self.note_unused(&wanted, now);
        for kind in Kind::ALL {
            if !self.may_tell(kind, &wanted) {
                continue;
            }
            let (names, removed) = self.due(kind, &wanted, now);
            let owed = self.channels.get(&kind).is_some_and(|channel| channel.owed);
            if names.is_empty() && removed.is_empty() && !owed {
                continue;
            }
            return Some(self.tell(kind, &wanted, names, removed));
        }
        None
    }

    /// When, after `now`, there may be something to send without anything having happened.
    pub fn due_at(&self, now: Instant) -> Option<Instant> {
        let unused = self.unused_since.values().map(|since| *since + self.patience.unused);
        let refused = self.channels.values().flat_map(|channel| channel.refused.values());
        let refused = refused.map(|refused| refused.at + self.patience.refused);
        unused.chain(refused).filter(|at| *at > now).min()
    }

    /// Whether everything wanted has been answered, whichever way. Clusters that are wanted no more may still be there.
    pub fn settled(&self) -> bool {
        let Some(wanted) = &self.wanted else { return false };
        self.channels.values().all(|channel| channel.under_way.is_none())
            && [Kind::Cluster, Kind::Listener].iter().all(|kind| self.is_open(*kind))
            && Kind::ALL
                .iter()
                .all(|kind| self.missing(*kind, wanted).next().is_none())
            && self.followed(Kind::Cluster, Kind::Endpoints, wanted)
            && self.followed(Kind::Listener, Kind::Route, wanted)
            && self.gone(Kind::Listener, wanted).next().is_none()
    }

    /// What is refused as it is wanted now.
    pub fn rejections(&self) -> Vec<Rejection> {
        let refused = self.channels.values().flat_map(|channel| channel.refused.values());
        refused.map(|refused| refused.rejection.clone()).collect()
    }

    fn is_open(&self, kind: Kind) -> bool {
        self.channels.get(&kind).is_some_and(|channel| channel.open)
    }

    fn tell(&mut self, kind: Kind, wanted: &Snapshot, names: BTreeSet<String>, removed: Vec<String>) -> Told {
        self.nonce += 1;
        let nonce = self.nonce.to_string();
        let resources: Vec<_> = names
            .into_iter()
            .filter_map(|name| wanted.get(kind, &name).map(|it| (name, Arc::clone(it))))
            .collect();
        let channel = self.channels.entry(kind).or_default();
        channel.owed = false;
        channel.under_way = Some(UnderWay {
            nonce: nonce.clone(),
            resources: resources.clone(),
            removed: removed.clone(),
        });
        Told {
            kind,
            nonce,
            resources,
            removed,
        }
    }

    fn may_tell(&self, kind: Kind, wanted: &Snapshot) -> bool {
        if self
            .channels
            .get(&kind)
            .is_none_or(|channel| channel.under_way.is_some())
        {
            return false;
        }
        match kind {
            Kind::Secret | Kind::Cluster | Kind::Endpoints => true,
            Kind::Listener | Kind::Route => {
                self.is_open(Kind::Cluster)
                    && self.idle(Kind::Cluster)
                    && self.missing(Kind::Cluster, wanted).next().is_none()
                    && self.followed(Kind::Cluster, Kind::Endpoints, wanted)
            }
        }
    }

    fn idle(&self, kind: Kind) -> bool {
        self.channels
            .get(&kind)
            .is_none_or(|channel| channel.under_way.is_none())
    }

    /// What to tell: what is missing, or else what is gone; of listeners what is gone first. Never both, so that a refusal is of
    /// what is missing.
    fn due(&self, kind: Kind, wanted: &Snapshot, now: Instant) -> (BTreeSet<String>, Vec<String>) {
        let Some(channel) = self.channels.get(&kind) else {
            return Default::default();
        };
        let removed: Vec<String> = match kind {
            // Envoy lets go of these by itself.
            Kind::Secret | Kind::Endpoints | Kind::Route => Vec::new(),
            Kind::Listener => self.gone(kind, wanted).cloned().collect(),
            Kind::Cluster => self.ripe(wanted, now),
        };
        // An address has one listener: the one that gives it up goes before another gets it.
        if kind == Kind::Listener && !removed.is_empty() {
            return (BTreeSet::new(), removed);
        }
        let missing: BTreeSet<String> = self.missing(kind, wanted).cloned().collect();
        for part in &channel.parts {
            let part: BTreeSet<String> = part.intersection(&missing).cloned().collect();
            if !part.is_empty() {
                return (part, Vec::new());
            }
        }
        if !missing.is_empty() {
            return (missing, Vec::new());
        }
        (BTreeSet::new(), removed)
    }

    /// What Envoy has, or may have, and shall not have any more.
    fn gone<'a>(&'a self, kind: Kind, wanted: &'a Snapshot) -> impl Iterator<Item = &'a String> {
        let had = self.channels.get(&kind).map(|channel| {
            let had: BTreeSet<&String> = channel.has.keys().chain(channel.perhaps.keys()).collect();
            had
        });
        had.into_iter()
            .flatten()
            .filter(move |name| wanted.get(kind, name).is_none())
    }

    /// What Envoy has asked for and has not as it is wanted, but for what it has refused.
    fn missing<'a>(&'a self, kind: Kind, wanted: &'a Snapshot) -> impl Iterator<Item = &'a String> {
        let channel = self.channels.get(&kind);
        wanted.names(kind).filter(move |name| {
            let Some(channel) = channel else { return false };
            let version = wanted.get(kind, name).map(|it| &it.version);
            (channel.all || channel.names.contains(*name))
                && (channel.has.get(*name).map(|had| &had.version) != version || channel.perhaps.contains_key(*name))
                && (channel.refused.get(*name)).is_none_or(|refused| Some(&refused.version) != version || refused.again)
        })
    }

    /// Whether everything of one kind that Envoy has accepted has what it needs of another kind under the same name. Envoy
    /// asks for that only when it has the former.
    fn followed(&self, leader: Kind, follower: Kind, wanted: &Snapshot) -> bool {
        let (leaders, followers) = (self.channels.get(&leader), self.channels.get(&follower));
        wanted.names(follower).all(|name| {
            let version = wanted.get(follower, name).map(|it| &it.version);
            let accepted = leaders.is_some_and(|leaders| leaders.has.contains_key(name));
            !accepted
                || followers.is_some_and(|followers| {
                    followers.has.get(name).map(|had| &had.version) == version
                        || followers.refused.get(name).map(|refused| &refused.version) == version
                })
        })
    }

    /// Clusters that nothing leads to, and nothing has for some time.
    fn ripe(&self, wanted: &Snapshot, now: Instant) -> Vec<String> {
        let ripe = |since: &Instant| now.saturating_duration_since(*since) >= self.patience.unused;
        let ripe = self.unused_since.iter().filter(|(_, since)| ripe(since));
        let ripe: Vec<String> = ripe.map(|(name, _)| name.clone()).collect();
        match ripe.is_empty() {
            true => ripe,
            false => match self.led_to(wanted) {
                Some(used) => ripe.into_iter().filter(|name| !used.contains(name)).collect(),
                None => Vec::new(),
            },
        }
    }

    fn note_unused(&mut self, wanted: &Snapshot, now: Instant) {
        let gone: BTreeSet<String> = self.gone(Kind::Cluster, wanted).cloned().collect();
        self.unused_since.retain(|name, _| gone.contains(name));
        let news = gone.iter().any(|name| !self.unused_since.contains_key(name));
        let Some(used) = news.then(|| self.led_to(wanted)).flatten() else {
            return;
        };
        let unused: Vec<String> = gone.into_iter().filter(|name| !used.contains(name)).collect();
        for name in unused {
            self.unused_since.entry(name).or_insert(now);
        }
    }

    /// The clusters that a listener or a route leads to which Envoy has accepted, or may be about to, and which is not as it is
    /// wanted: what leads there as it is wanted is none of our business, such a connection is to wait. Nothing when that is not
    /// known: on a new stream Envoy has to say first what it has.
    fn led_to(&self, wanted: &Snapshot) -> Option<BTreeSet<String>> {
        let mut clusters = BTreeSet::new();
        let known = self.is_open(Kind::Listener)
            && self.gone(Kind::Listener, wanted).next().is_none()
            && self.followed(Kind::Listener, Kind::Route, wanted);
        for kind in [Kind::Listener, Kind::Route] {
            if !known || !self.idle(kind) || self.missing(kind, wanted).next().is_some() {
                return None;
            }
            let channel = self.channels.get(&kind);
            for (name, had) in channel.into_iter().flat_map(Channel::had) {
                // The routes of a listener that is gone live on as long as connections of it drain, which may take a day.
                let other = wanted.get(kind, name).is_some_and(|it| it.version != had.version);
                if other {
                    clusters.extend(had.refers.as_ref()?.iter().cloned());
                }
            }
        }
        Some(clusters)
    }

    fn retry_refused(&mut self, now: Instant) {
        let after = self.patience.refused;
        let refused = self
            .channels
            .values_mut()
            .flat_map(|channel| channel.refused.values_mut());
        for refused in refused.filter(|refused| now.saturating_duration_since(refused.at) >= after) {
            refused.again = true;
        }
    }

    /// Of what is wanted no more, or otherwise.
    fn forget_refusals(&mut self) {
        let Some(wanted) = &self.wanted else { return };
        for (kind, channel) in &mut self.channels {
            channel
                .refused
                .retain(|name, refused| wanted.get(*kind, name).is_some_and(|it| it.version == refused.version));
        }
    }

    /// A cluster told anew waits for its addresses, and Envoy does not ask again for what it has subscribed to already.
    fn addresses_anew(&mut self, renewed: Vec<String>) {
        if let Some(addresses) = self.channels.get_mut(&Kind::Endpoints) {
            for name in renewed {
                addresses.has.remove(&name);
            }
        }
    }
}
