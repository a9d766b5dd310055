//! Who rings. Envoy asks for a cluster by its name when a connection comes for it: once for each name, and again for all names
//! it has ever asked for when its stream is made anew. It is not answered: the cluster is told to everybody when it is there.

use std::collections::{BTreeMap, BTreeSet};

use super::snapshot::cluster_of_tcp;
use super::view::{Ring, RuleView, View};
use crate::domain::rule::{RuleName, Side};

#[derive(Debug, Default)]
pub struct Doorbell {
    /// The names at which somebody may wait for a rule that is asleep.
    current: BTreeMap<String, Ring>,
    /// All that Envoy has asked for.
    rung: BTreeSet<String>,
    /// What has been passed on.
    heard: Vec<Ring>,
    /// Names at which somebody may still wait in vain, and the rule he waits for.
    vain: BTreeMap<String, RuleName>,
}

impl Doorbell {
    /// A new stream. What was asked on an earlier one is asked again, unless that was another Envoy.
    pub fn open(&mut self) {
        self.rung.clear();
        self.heard.clear();
        self.vain.clear();
    }

    /// Envoy asks for these.
    pub fn rung(&mut self, names: impl IntoIterator<Item = String>) -> Vec<Ring> {
        self.rung.extend(names);
        self.hear()
    }

    /// What is new of it has been rung already, by Envoy telling of earlier days.
    pub fn publish(&mut self, view: &View) -> Vec<Ring> {
        let there = |ring: &Ring| {
            view.rules
                .iter()
                .any(|rule| rule.name == ring.rule && rule.generation == ring.generation)
        };
        for (name, ring) in &self.current {
            if self.rung.contains(name) && !there(ring) {
                self.vain.insert(name.clone(), ring.rule.clone());
            }
        }
        self.heard.retain(there);
        self.current = view
            .rules
            .iter()
            .filter(|rule| rule.side == Side::Waker)
            .flat_map(names)
            .collect();
        self.hear()
    }

    /// Names whose connections are to be closed, because their generation was given up. Not before Envoy has the listeners of
    /// the new one: a connection that came by the old ones would be missed.
    pub fn in_vain(&mut self, is_settled: impl Fn(&RuleName) -> bool) -> Vec<String> {
        let told = self.vain.extract_if(.., |_, rule| is_settled(rule));
        told.map(|(name, _)| name).collect()
    }

    fn hear(&mut self) -> Vec<Ring> {
        let mut rings = Vec::new();
        for (name, ring) in &self.current {
            if self.rung.contains(name) && !self.heard.contains(ring) {
                self.heard.push(ring.clone());
                rings.push(ring.clone());
            }
        }
        rings
    }
}

fn names(rule: &RuleView) -> impl Iterator<Item = (String, Ring)> {
    rule.tcp.iter().map(|way| {
        let ring = Ring {
            rule: rule.name.clone(),
            generation: rule.generation,
        };
        (cluster_of_tcp(rule, way), ring)
    })
}
