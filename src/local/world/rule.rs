//! Load balancers, listeners and listener rules. Conditions, actions and transforms are kept as AWS's JSON, verbatim.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Failure, Past, World,
    group::group_not_found,
    group_arns, is_authenticate,
    shape::{both_forms, check_conditions, normalised},
    text,
};

/// Quota of an action (AWS's default).
const GROUPS_PER_ACTION: usize = 5;

/// An Application Load Balancer.
#[derive(Debug, Clone)]
pub struct Balancer {
    pub arn: String,
    pub name: String,
    pub dns_name: String,
    pub created: Timestamp,
    pub tags: BTreeMap<String, String>,
    /// Those that it heeds: what it does with X-Forwarded-For.
    pub attributes: BTreeMap<String, String>,
}

/// The attribute that says what is done with X-Forwarded-For.
pub const FORWARDED_FOR: &str = "routing.http.xff_header_processing.mode";

/// A listener. Its default rule is among the rules.
#[derive(Debug, Clone)]
pub struct Listener {
    pub arn: String,
    pub balancer: String,
    pub port: u16,
    pub tags: BTreeMap<String, String>,
}

/// What changes of a rule by `ModifyRule` and `SetRulePriorities`.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleView {
    /// `None` for the default rule.
    pub priority: Option<u32>,
    pub conditions: Vec<Value>,
    pub actions: Vec<Value>,
    pub transforms: Vec<Value>,
}

/// A listener rule.
#[derive(Debug, Clone)]
pub struct Rule {
    pub arn: String,
    pub listener: String,
    pub tags: BTreeMap<String, String>,
    view: Past<RuleView>,
    /// Until then the view before is live too.
    pub(super) propagating: Option<(Timestamp, RuleView)>,
}

impl Rule {
    /// The rule as it is, not as a stale describe shows it.
    pub fn view(&self) -> &RuleView {
        self.view.latest()
    }
}

/// A rule to be made.
#[derive(Debug, Clone, Default)]
pub struct NewRule {
    pub priority: u32,
    pub conditions: Vec<Value>,
    pub actions: Vec<Value>,
    pub transforms: Vec<Value>,
    pub tags: BTreeMap<String, String>,
}

impl World {
    /// A new load balancer. Returns its ARN.
    pub fn add_balancer(&mut self, now: Timestamp, name: &str) -> String {
        let id = self.hex(16);
        let arn = self.elb_arn(&format!("loadbalancer/app/{name}/{id}"));
        let dns_name = format!("{name}.localhost");
        let tags = BTreeMap::new();
        self.balancers.push(Balancer {
            arn: arn.clone(),
            name: name.to_owned(),
            dns_name,
            created: now,
            tags,
            attributes: BTreeMap::from([(FORWARDED_FOR.to_owned(), "append".to_owned())]),
        });
        arn
    }

    /// A new listener on `port`, with a default rule of these actions. Returns its ARN.
    pub fn add_listener(
        &mut self,
        now: Timestamp,
        balancer: &str,
        port: u16,
        actions: Vec<Value>,
    ) -> Result<String, Failure> {
        let found = self.balancers.iter().find(|known| known.arn == balancer);
        let name = found
            .map(|known| known.arn.clone())
            .ok_or_else(|| Failure::refused("LoadBalancerNotFound", format!("Load balancer '{balancer}' not found")))?;
        let id = self.hex(16);
        let arn = format!("{}/{id}", name.replacen(":loadbalancer/", ":listener/", 1));
        let listener = Listener {
            arn: arn.clone(),
            balancer: balancer.to_owned(),
            port,
            tags: BTreeMap::new(),
        };
        self.listeners.push(listener);
        let actions = normalised(actions);
        let view = RuleView {
            priority: None,
            conditions: Vec::new(),
            actions,
            transforms: Vec::new(),
        };
        self.insert_rule(now, &arn, view, BTreeMap::new());
        self.settle_health(now);
        Ok(arn)
    }

    pub fn balancers(&self) -> &[Balancer] {
        &self.balancers
    }

    pub fn balancer_mut(&mut self, arn: &str) -> Result<&mut Balancer, Failure> {
        let found = self.balancers.iter_mut().find(|known| known.arn == arn);
        found.ok_or_else(|| Failure::refused("LoadBalancerNotFound", format!("Load balancer '{arn}' not found")))
    }

    /// What the load balancer of the listener on this port does with X-Forwarded-For: `append`, `preserve` or `remove`.
    pub fn forwarded_for(&self, port: u16) -> &str {
        let listener = self.listeners.iter().find(|listener| listener.port == port);
        let balancer = listener.and_then(|listener| self.balancers.iter().find(|known| known.arn == listener.balancer));
        balancer
            .and_then(|balancer| balancer.attributes.get(FORWARDED_FOR))
            .map_or("append", String::as_str)
    }

    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The listener, or `ListenerNotFound`.
    pub fn require_listener(&self, arn: &str) -> Result<&Listener, Failure> {
        let found = self.listeners.iter().find(|listener| listener.arn == arn);
        found.ok_or_else(|| Failure::refused("ListenerNotFound", format!("Listener '{arn}' not found")))
    }

    /// All rules, in the order they were made.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule, or `RuleNotFound`.
    pub fn require_rule(&self, arn: &str) -> Result<&Rule, Failure> {
        self.rules
            .iter()
            .find(|rule| rule.arn == arn)
            .ok_or_else(|| rule_not_found(arn))
    }

    /// `DescribeRules` of one listener, or by ARN: in order of priority, the default rule last, as the describe sees
    /// them.
    pub fn describe_rules(
        &mut self,
        now: Timestamp,
        listener: Option<&str>,
        arns: &[String],
    ) -> Result<Vec<(Rule, RuleView)>, Failure> {
        if let Some(listener) = listener {
            self.require_listener(listener)?;
        }
        for arn in arns {
            self.require_rule(arn)?;
        }
        let seen = self.stale_moment(now);
        let chosen = self.rules.iter().filter(|rule| match listener {
            Some(listener) => rule.listener == listener,
            None => arns.contains(&rule.arn),
        });
        let mut rules: Vec<(Rule, RuleView)> = chosen
            .filter_map(|rule| rule.view.as_of(seen).map(|view| (rule.clone(), view.clone())))
            .collect();
        rules.sort_by_key(|(_, view)| view.priority.unwrap_or(u32::MAX));
        Ok(rules)
    }

    /// `CreateRule`. Returns the ARN.
    pub fn create_rule(&mut self, now: Timestamp, listener: &str, new: NewRule) -> Result<String, Failure> {
        self.require_listener(listener)?;
        if !(1..=50_000).contains(&new.priority) {
            return Err(Failure::refused(
                "ValidationError",
                "Priority must be between 1 and 50000",
            ));
        }
        self.free_priority(listener, new.priority, None)?;
        self.check_actions(&new.actions, None)?;
        check_conditions(&new.conditions)?;
        super::tags::check(&new.tags)?;
        let balancer = self.require_listener(listener)?.balancer.clone();
        let siblings: Vec<&Rule> = self.rules_of_balancer(&balancer).collect();
        if siblings.iter().filter(|rule| rule.view().priority.is_some()).count() >= self.settings.quota {
            let message = format!("The maximum number of rules on load balancer '{balancer}' has been reached");
            return Err(Failure::refused("TooManyRules", message));
        }
        let mut groups: Vec<String> = siblings
            .iter()
            .flat_map(|rule| &rule.view().actions)
            .flat_map(group_arns)
            .collect();
        groups.extend(new.actions.iter().flat_map(group_arns));
        groups.sort();
        groups.dedup();
        if groups.len() > self.settings.quota {
            let quota = self.settings.quota;
            let message = format!("Maximum number of unique target groups per load balancer is '{quota}'");
            return Err(Failure::refused("TooManyUniqueTargetGroupsPerLoadBalancer", message));
        }
        let view = RuleView {
            priority: Some(new.priority),
            conditions: new.conditions.into_iter().map(both_forms).collect(),
            actions: normalised(new.actions),
            transforms: new.transforms,
        };
        let arn = self.insert_rule(now, listener, view, new.tags);
        self.settle_health(now);
        Ok(arn)
    }

    /// `ModifyRule`: lists given are replaced whole, lists omitted stay. The last writer wins.
    pub fn modify_rule(
        &mut self,
        now: Timestamp,
        arn: &str,
        conditions: Option<Vec<Value>>,
        actions: Option<Vec<Value>>,
        transforms: Option<Vec<Value>>,
    ) -> Result<RuleView, Failure> {
        let before = self.require_rule(arn)?.view().clone();
        if before.priority.is_none() {
            return Err(Failure::refused(
                "OperationNotPermitted",
                "Default rules cannot be modified",
            ));
        }
        if let Some(actions) = &actions {
            self.check_actions(actions, Some(&before.actions))?;
        }
        if let Some(conditions) = &conditions {
            check_conditions(conditions)?;
        }
        let view = RuleView {
            priority: before.priority,
            conditions: conditions.map_or_else(
                || before.conditions.clone(),
                |given| given.into_iter().map(both_forms).collect(),
            ),
            actions: actions.map_or_else(|| before.actions.clone(), normalised),
            transforms: transforms.unwrap_or_else(|| before.transforms.clone()),
        };
        let propagation = std::time::Duration::from_millis(self.faults.propagation_ms);
        if let Some(rule) = self.rules.iter_mut().find(|rule| rule.arn == arn) {
            if view != before && !propagation.is_zero() {
                rule.propagating = Some((now + propagation, before));
            }
            rule.view.set(now, view.clone());
        }
        self.settle_health(now);
        Ok(view)
    }

    /// `DeleteRule`.
    pub fn delete_rule(&mut self, now: Timestamp, arn: &str) -> Result<(), Failure> {
        if self.require_rule(arn)?.view().priority.is_none() {
            return Err(Failure::refused(
                "OperationNotPermitted",
                "Default rule cannot be deleted",
            ));
        }
        self.rules.retain(|rule| rule.arn != arn);
        self.settle_health(now);
        Ok(())
    }

    /// `SetRulePriorities` for one rule.
    pub fn set_priority(&mut self, now: Timestamp, arn: &str, priority: u32) -> Result<(), Failure> {
        let listener = self.require_rule(arn)?.listener.clone();
        self.free_priority(&listener, priority, Some(arn))?;
        if let Some(rule) = self.rules.iter_mut().find(|rule| rule.arn == arn) {
            let view = RuleView {
                priority: Some(priority),
                ..rule.view().clone()
            };
            rule.view.set(now, view);
        }
        Ok(())
    }

    fn rules_of_balancer<'w>(&'w self, balancer: &'w str) -> impl Iterator<Item = &'w Rule> {
        self.rules.iter().filter(move |rule| {
            self.listeners
                .iter()
                .any(|listener| listener.arn == rule.listener && listener.balancer == balancer)
        })
    }

    fn insert_rule(
        &mut self,
        now: Timestamp,
        listener: &str,
        view: RuleView,
        tags: BTreeMap<String, String>,
    ) -> String {
        let id = self.hex(16);
        let arn = format!("{}/{id}", listener.replacen(":listener/", ":listener-rule/", 1));
        let view = Past::new(now, view);
        self.rules.push(Rule {
            arn: arn.clone(),
            listener: listener.to_owned(),
            tags,
            view,
            propagating: None,
        });
        arn
    }

    fn free_priority(&self, listener: &str, priority: u32, except: Option<&str>) -> Result<(), Failure> {
        let taken = self.rules.iter().any(|rule| {
            rule.listener == listener && rule.view().priority == Some(priority) && Some(rule.arn.as_str()) != except
        });
        let message = format!("Priority '{priority}' is currently in use");
        if taken {
            Err(Failure::refused("PriorityInUse", message))
        } else {
            Ok(())
        }
    }

    fn check_actions(&self, actions: &[Value], before: Option<&[Value]>) -> Result<(), Failure> {
        let Some((last, guards)) = actions.split_last() else {
            return Err(Failure::refused(
                "ValidationError",
                "A rule must have at least one action",
            ));
        };
        if is_authenticate(last) || !guards.iter().all(is_authenticate) {
            let message = "Exactly one forward, redirect or fixed-response action is required, and it must be the last";
            return Err(Failure::refused("InvalidLoadBalancerAction", message));
        }
        for action in actions {
            let arns = group_arns(action);
            if arns.len() > GROUPS_PER_ACTION {
                return Err(Failure::refused(
                    "TooManyTargetGroups",
                    "A forward action has at most 5 target groups",
                ));
            }
            if let Some(unknown) = arns.iter().find(|arn| self.target_group(arn).is_none()) {
                return Err(group_not_found(unknown));
            }
            let kind = text(action, "Type").unwrap_or_default();
            if kind == "forward" && arns.is_empty() {
                return Err(Failure::refused(
                    "ValidationError",
                    "A forward action needs a target group",
                ));
            }
            if let Some(oidc) = action.get("AuthenticateOidcConfig") {
                let kept = oidc.get("UseExistingClientSecret") == Some(&Value::Bool(true))
                    && before.is_some_and(|before| before.iter().any(|a| a.get("AuthenticateOidcConfig").is_some()));
                if oidc.get("ClientSecret").is_none() && !kept {
                    let message = "You must specify a client secret, or use the existing one";
                    return Err(Failure::refused("InvalidLoadBalancerAction", message));
                }
            }
        }
        Ok(())
    }
}

fn rule_not_found(arn: &str) -> Failure {
    Failure::refused("RuleNotFound", format!("Rule '{arn}' not found"))
}
