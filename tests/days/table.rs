//! What the world's listener rules say, in the driver's words.

use std::collections::BTreeMap;

use proxymanager::domain::fault::{Fault, FaultKind};
use proxymanager::domain::record::SCHEMA;
use proxymanager::domain::rule::{Action, GroupId, RouteId, final_action};
use proxymanager::domain::table::{Listener, ListenerRule, RouteTable};
use proxymanager::local::world::{Failure, Rule, RuleView};
use serde_json::Value;

use super::cloud::Cloud;
use super::time::{Moment, stamp};

impl Cloud {
    /// The route table as a describe of this moment shows it.
    pub fn table(&mut self, now: Moment) -> RouteTable {
        if self.world.faults.stale_ms > 0 {
            let mut rules = Vec::new();
            for (listener, _) in &self.listeners {
                let described = self.world.describe_rules(stamp(now), Some(listener), &[]);
                let described = described.expect("the listener is there");
                rules.extend(
                    described
                        .iter()
                        .map(|(rule, view)| (listener.clone(), listener_rule(rule, view))),
                );
            }
            return self.table_of(now, rules);
        }
        if self.table.is_none() {
            let mut rules: Vec<(String, ListenerRule)> = Vec::new();
            for rule in self.world.rules() {
                let known = self.known.get(&rule.arn);
                let same = known.filter(|(view, tags, _)| view == rule.view() && *tags == rule.tags);
                if let Some((.., known)) = same {
                    rules.push((rule.listener.clone(), known.clone()));
                    continue;
                }
                let read = listener_rule(rule, rule.view());
                let kept = (rule.view().clone(), rule.tags.clone(), read.clone());
                self.known.insert(rule.arn.clone(), kept);
                rules.push((rule.listener.clone(), read));
            }
            rules.sort_by_key(|(_, rule)| rule.priority.unwrap_or(u32::MAX));
            self.table = Some(self.table_of(now, rules));
        }
        RouteTable {
            read_at: stamp(now),
            ..self.table.clone().expect("made just now")
        }
    }

    fn table_of(&self, now: Moment, rules: Vec<(String, ListenerRule)>) -> RouteTable {
        let of = |arn: &String| {
            rules
                .iter()
                .filter(|(listener, _)| listener == arn)
                .map(|(_, rule)| rule.clone())
                .collect()
        };
        let listeners = self.listeners.iter().map(|(arn, balancer)| Listener {
            arn: arn.clone(),
            load_balancer: balancer.clone(),
            port: 80,
            waker: Some(GroupId(self.waker.clone())),
            controller: None,
            forwarded_for: None,
            rules: of(arn),
        });
        RouteTable {
            schema: SCHEMA,
            read_at: stamp(now),
            swept_at: None,
            listeners: listeners.collect(),
            names: BTreeMap::new(),
            loose: BTreeMap::new(),
            ways: None,
        }
    }
}

pub fn read_action(value: &Value) -> Action {
    serde_json::from_value(value.clone()).expect("the world's actions are AWS's")
}

fn listener_rule(rule: &Rule, view: &RuleView) -> ListenerRule {
    let condition = |value: &Value| serde_json::from_value(value.clone()).expect("the world's conditions are AWS's");
    ListenerRule {
        arn: RouteId(rule.arn.clone()),
        priority: view.priority,
        conditions: view.conditions.iter().map(condition).collect(),
        actions: view.actions.iter().map(read_action).collect(),
        transforms: Vec::new(),
        tags: rule.tags.clone(),
    }
}

/// Whether two lists end in the same: AWS prints one action in several ways.
pub fn same_final(one: &[Action], other: &[Action]) -> bool {
    let does = |actions: &[Action]| {
        final_action(actions).map(|last| {
            let forward = last.forward_config.as_ref();
            let stickiness = forward.and_then(|forward| forward.target_group_stickiness_config.clone());
            let on = stickiness.filter(|stickiness| stickiness.enabled == Some(true));
            (last.kind.clone(), last.groups(), on)
        })
    };
    does(one) == does(other)
}

/// The fault that a refusal of the world is.
pub fn fault(call: &str, failure: &Failure) -> Fault {
    let kind = match failure.code.as_str() {
        "InsufficientInstanceCapacity" => FaultKind::NoCapacity,
        "IncorrectInstanceState" | "PriorityInUse" | "TooManyRules" => FaultKind::Conflict,
        code if code.ends_with("NotFound") => FaultKind::NotFound,
        _ => FaultKind::Other,
    };
    Fault::new(kind, call, failure.to_string())
}
