//! Who rings. Envoy asks for a cluster by its name when a connection comes for it: once for each name, and again for all names
//! it has ever asked for when its stream is made anew. It is not answered: the cluster is told to everybody when it is there.

use std::collections::{BTreeMap, BTreeSet};

use super::names::ClusterName;
use super::snapshot::cluster_of_tcp;
use super::view::{Ring, RuleView, View};
use crate::domain::rule::{RuleName, Side};

#[derive(Debug, Default)]
pub struct Doorbell {
    /// The names at which somebody may wait for a rule that is asleep.
    current: BTreeMap<String, Ring>,
    /// Where each rule is; nothing until that is known.
    generations: Option<BTreeMap<RuleName, u64>>,
    /// All that Envoy has asked for and was not told in vain.
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
        self.note_vain();
        self.hear()
    }

    /// What is new of it has been rung already, by Envoy telling of earlier days.
    pub fn publish(&mut self, view: &View) -> Vec<Ring> {
        let generations = view.rules.iter().map(|rule| (rule.name.clone(), rule.generation));
        let generations: BTreeMap<_, _> = generations.collect();
        self.heard
            .retain(|ring| generations.get(&ring.rule) == Some(&ring.generation));
        self.generations = Some(generations);
        self.current = view
            .rules
            .iter()
            .filter(|rule| rule.side == Side::Waker)
            .flat_map(names)
            .collect();
        self.note_vain();
        self.hear()
    }

    /// Whoever waits at a generation that is over, this daemon's or an earlier one's, waits for nothing.
    fn note_vain(&mut self) {
        let Some(generations) = &self.generations else { return };
        for name in &self.rung {
            if let Some(ClusterName { rule, generation, .. }) = ClusterName::parse(name)
                && generations.get(&rule) != Some(&generation)
            {
                self.vain.insert(name.clone(), rule);
            }
        }
    }

    /// Names whose connections are to be closed, because their generation is over. Not before Envoy has the listeners of the new
    /// one: a connection that came by the old ones would be missed. And not while it has the cluster: it would lose it with all
    /// that is still to be counted there.
    pub fn in_vain(&mut self, is_over: impl Fn(&str, &RuleName) -> bool) -> Vec<String> {
        let told = self.vain.extract_if(.., |name, rule| is_over(name, rule));
        let told: Vec<String> = told.map(|(name, _)| name).collect();
        for name in &told {
            self.rung.remove(name);
        }
        told
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::envoy::view::TcpWay;

    fn view(side: Side, generation: u64) -> View {
        let way = TcpWay {
            listen: "127.0.0.1:50000".parse().unwrap(),
            target_port: 22,
            allow: Vec::new(),
        };
        let rule = RuleView {
            name: RuleName("a".to_owned()),
            generation,
            side,
            endpoints: Vec::new(),
            http: Vec::new(),
            tcp: vec![way],
            wake_timeout: std::time::Duration::from_secs(600),
        };
        View {
            rules: vec![rule],
            ..View::default()
        }
    }

    fn in_vain(doorbell: &mut Doorbell) -> Vec<String> {
        doorbell.in_vain(|_, _| true)
    }

    /// Red when only who waited for a rule on the waker was let go: a flip that Envoy refused had left it before.
    #[test]
    fn whoever_waits_at_a_generation_that_is_over_is_let_go_whatever_side_it_was_on() {
        let mut doorbell = Doorbell::default();
        doorbell.publish(&view(Side::Waker, 5));
        assert_eq!(doorbell.rung(["a@5/tcp-22".to_owned()]).len(), 1);
        doorbell.publish(&view(Side::Backend, 5));
        assert_eq!(in_vain(&mut doorbell), [""; 0]);
        doorbell.publish(&view(Side::Waker, 6));
        assert_eq!(doorbell.in_vain(|_, _| false), [""; 0]);
        assert_eq!(in_vain(&mut doorbell), ["a@5/tcp-22"]);
        assert_eq!(in_vain(&mut doorbell), [""; 0]);
    }

    /// Red when a daemon knew of its own generations alone, and of none before its first view.
    #[test]
    fn whoever_waits_since_an_earlier_daemon_is_let_go() {
        let mut doorbell = Doorbell::default();
        assert!(
            doorbell
                .rung(["a@5/tcp-22".to_owned(), "a@6/tcp-22".to_owned()])
                .is_empty()
        );
        assert_eq!(in_vain(&mut doorbell), [""; 0]);
        assert_eq!(doorbell.publish(&view(Side::Waker, 6)).len(), 1);
        assert_eq!(in_vain(&mut doorbell), ["a@5/tcp-22"]);
        assert!(doorbell.rung(["gone@1/tcp-22".to_owned()]).is_empty());
        assert_eq!(in_vain(&mut doorbell), ["gone@1/tcp-22"]);
    }
}
