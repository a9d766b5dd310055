//! What is known of one kind of resources on a stream.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::super::plane::Rejection;
use super::super::snapshot::{Kind, Resource};

/// One kind of resources on a stream.
#[derive(Debug, Default)]
pub struct Channel {
    pub open: bool,
    /// Envoy waits for a first answer, even if it says that there is nothing: until then it does not begin to listen.
    pub owed: bool,
    /// Everything there is, whatever its name.
    pub all: bool,
    pub names: BTreeSet<String>,
    pub has: BTreeMap<String, Had>,
    /// What was in an answer of many that was refused: Envoy has taken the good ones of it, and does not say which.
    pub perhaps: BTreeMap<String, Vec<Had>>,
    pub refused: BTreeMap<String, Refused>,
    pub under_way: Option<UnderWay>,
    /// An answer of many was refused: these parts of it are told one after the other, to find out which one it is.
    pub parts: VecDeque<BTreeSet<String>>,
    /// Accepted in place of an older version just now.
    pub renewed: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Had {
    pub version: String,
    /// Not known of what an earlier daemon has told.
    pub refers: Option<BTreeSet<String>>,
}

#[derive(Debug, Clone)]
pub struct Refused {
    pub version: String,
    pub rejection: Rejection,
    pub at: Instant,
    /// It is to be told again.
    pub again: bool,
}

#[derive(Debug)]
pub struct UnderWay {
    pub nonce: String,
    pub resources: Vec<(String, Arc<Resource>)>,
    pub removed: Vec<String>,
}

impl Had {
    pub fn of(resource: &Resource) -> Had {
        Had {
            version: resource.version.clone(),
            refers: Some(resource.refers.clone()),
        }
    }
}

impl Channel {
    /// What Envoy has accepted, and what it may have.
    pub fn had(&self) -> impl Iterator<Item = (&String, &Had)> {
        let perhaps = self.perhaps.iter();
        let perhaps = perhaps.flat_map(|(name, had)| had.iter().map(move |had| (name, had)));
        self.has.iter().chain(perhaps)
    }

    pub fn accept(&mut self, sent: UnderWay) {
        for (name, resource) in sent.resources {
            self.refused.remove(&name);
            self.perhaps.remove(&name);
            // Unsubscribed meanwhile: Envoy has let go of it.
            if self.all || self.names.contains(&name) {
                let had = Had::of(&resource);
                if self.has.insert(name.clone(), had).is_some() {
                    self.renewed.push(name);
                }
            }
        }
        for name in sent.removed {
            self.has.remove(&name);
            self.perhaps.remove(&name);
        }
        self.parts
            .retain(|part| !part.iter().all(|name| self.has.contains_key(name)));
    }

    /// What it had before stays. Of several, Envoy has taken the good ones; so they are told again in halves.
    pub fn refuse(&mut self, kind: Kind, sent: UnderWay, words: String, now: Instant) {
        let mut names: BTreeSet<String> = sent.resources.iter().map(|(name, _)| name.clone()).collect();
        self.parts.retain(|part| !part.is_subset(&names));
        if let [(name, resource)] = sent.resources.as_slice() {
            if let Some(perhaps) = self.perhaps.get_mut(name) {
                perhaps.retain(|had| had.version != resource.version);
            }
            self.perhaps.retain(|_, perhaps| !perhaps.is_empty());
            let rejection = Rejection {
                kind: kind.word(),
                resource: name.clone(),
                rule: resource.rule.clone(),
                words,
            };
            let version = resource.version.clone();
            let refused = Refused {
                version,
                rejection,
                at: now,
                again: false,
            };
            self.refused.insert(name.clone(), refused);
        } else {
            for (name, resource) in &sent.resources {
                self.perhaps.entry(name.clone()).or_default().push(Had::of(resource));
            }
            if let Some(middle) = names.iter().nth(names.len() / 2).cloned() {
                let upper = names.split_off(&middle);
                self.parts.push_front(upper);
                self.parts.push_front(names);
            }
        }
        for name in sent.removed {
            self.has.remove(&name);
        }
    }
}
