//! Where a request goes: the first rule that matches, its action, a group by weight, a target by health.

use jiff::Timestamp;
use serde_json::Value;

use super::{HealthState, TargetKind, World, text};

/// The rule that a request met.
#[derive(Debug, Clone, PartialEq)]
pub struct Routed {
    pub rule: String,
    /// The final action; authenticate actions before it are taken as passed, for there is nobody to ask here.
    pub action: Value,
}

/// A chosen target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// A function, and whether the group has multi-value headers.
    Function { group: String, multi_value: bool },
    /// An instance and the port it is registered with.
    Instance { group: String, id: String, port: u16 },
    /// The group has no target that could be asked: 503.
    Nobody { group: String },
}

impl World {
    /// The first rule of the listener, by priority, for which `matches(conditions)` holds; the default rule has none.
    /// While a change propagates, the old or the new rule is live, by chance.
    pub fn route(&mut self, now: Timestamp, listener: &str, matches: impl Fn(&[Value]) -> bool) -> Option<Routed> {
        let mut live: Vec<(u32, usize, bool)> = Vec::new();
        for index in 0..self.rules.len() {
            let rule = &self.rules[index];
            if rule.listener != listener {
                continue;
            }
            let priority = rule.view().priority.unwrap_or(u32::MAX);
            let both = rule.propagating.as_ref().is_some_and(|(until, _)| *until > now);
            let old = both && self.draw(2) == 0;
            live.push((priority, index, old));
        }
        live.sort_by_key(|(priority, ..)| *priority);
        live.into_iter().find_map(|(_, index, old)| {
            let rule = &self.rules[index];
            let view = rule
                .propagating
                .as_ref()
                .filter(|_| old)
                .map_or(rule.view(), |(_, view)| view);
            let met = view.priority.is_none() || matches(&view.conditions);
            let action = view.actions.last().filter(|_| met)?.clone();
            Some(Routed {
                rule: rule.arn.clone(),
                action,
            })
        })
    }

    /// One group of a forward action, by weight. A group of weight 0 gets nothing; no group at all when all have 0.
    pub fn choose_group(&mut self, action: &Value) -> Option<String> {
        let groups = weighted(action);
        let total: u64 = groups.iter().map(|(_, weight)| weight).sum();
        if total == 0 {
            return None;
        }
        let mut drawn = self.draw(total);
        for (arn, weight) in groups {
            if drawn < weight {
                return Some(arn);
            }
            drawn -= weight;
        }
        None
    }

    /// The next target of the group, in turn: healthy ones, or all unhealthy ones when there is no healthy one
    /// (fail-open). Targets that are `initial` get nothing: whether AWS asks them is not documented. Counts the request if
    /// there is a target.
    pub fn choose_target(&mut self, now: Timestamp, arn: &str) -> Option<Pick> {
        self.rotation += 1;
        let turn = self.rotation;
        let group = self.target_group(arn)?;
        let of = |state: HealthState| -> Vec<(String, u16)> {
            let there = group.targets.iter().filter(|target| target.health.state == state);
            there
                .map(|target| (target.id.clone(), target.port.unwrap_or(group.port)))
                .collect()
        };
        let pick = if group.kind == TargetKind::Lambda {
            let multi_value = group.flag("lambda.multi_value_headers.enabled");
            match group.targets.is_empty() {
                true => Pick::Nobody { group: arn.to_owned() },
                false => Pick::Function {
                    group: arn.to_owned(),
                    multi_value,
                },
            }
        } else {
            let healthy = of(HealthState::Healthy);
            let usable = if healthy.is_empty() {
                of(HealthState::Unhealthy)
            } else {
                healthy
            };
            match usable.is_empty() {
                true => Pick::Nobody { group: arn.to_owned() },
                false => {
                    let (id, port) = usable[(turn % usable.len() as u64) as usize].clone();
                    Pick::Instance {
                        group: arn.to_owned(),
                        id,
                        port,
                    }
                }
            }
        };
        // Source: "CloudWatch metrics for your Application Load Balancer", RequestCount.
        if !matches!(pick, Pick::Nobody { .. }) {
            self.count_request(now, arn);
        }
        Some(pick)
    }
}

/// The groups of a forward action with their weights, in either of its forms; nothing for other actions.
fn weighted(action: &Value) -> Vec<(String, u64)> {
    if text(action, "Type") != Some("forward") {
        return Vec::new();
    }
    let many = action
        .get("ForwardConfig")
        .and_then(|config| config.get("TargetGroups"))
        .and_then(Value::as_array);
    match many {
        Some(groups) if !groups.is_empty() => groups
            .iter()
            .filter_map(|group| {
                let weight = group.get("Weight").and_then(Value::as_u64).unwrap_or(1);
                text(group, "TargetGroupArn").map(|arn| (arn.to_owned(), weight))
            })
            .collect(),
        _ => text(action, "TargetGroupArn")
            .map(|arn| (arn.to_owned(), 1))
            .into_iter()
            .collect(),
    }
}

/// ARNs of the target groups that an action names.
pub fn group_arns(action: &Value) -> Vec<String> {
    weighted(action).into_iter().map(|(arn, _)| arn).collect()
}

/// Whether the action only guards the ones after it.
pub fn is_authenticate(action: &Value) -> bool {
    matches!(
        text(action, "Type"),
        Some("authenticate-oidc" | "authenticate-cognito" | "jwt-validation")
    )
}
