//! From the route table to rules: listener rules with one name are one rule, and what speaks against managing it is found.

mod index;
#[cfg(feature = "cli")]
pub mod place;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::tags;
use crate::domain::matching::{Candidate, Condition, FirstMatch, Matcher, Reason, Request, first_match};
use crate::domain::rule::{Action, GroupId, Problem, RouteId, Rule, RuleName, Side, final_action};
use crate::domain::table::{ForwardedFor, Listener, ListenerRule, RouteTable};
use index::Index;

/// What the environment says about all rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSettings {
    /// The waker target groups of all load balancers.
    pub wakers: Vec<GroupId>,
    pub settle: Duration,
    pub idle_min: Duration,
    pub metrics_delay: Duration,
    /// The points of the metrics lie this far apart.
    pub metrics_period: Duration,
    /// How long after a call of ours what the services say may still be from before it.
    pub describe_delay: Duration,
    /// The route table is read again when it is older.
    pub table_age: Duration,
}

/// The rules of a route table, ready to look requests up.
#[derive(Debug)]
pub struct Rules {
    by_name: BTreeMap<RuleName, Managed>,
    /// Per listener: what may have brought a request to the waker.
    doors: Vec<Door>,
}

/// A rule and its routes.
#[derive(Debug, Clone, PartialEq)]
pub struct Managed {
    pub rule: Rule,
    pub routes: Vec<RouteId>,
}

/// What a request was found to be for.
#[derive(Debug, Clone, PartialEq)]
pub enum Found<'a> {
    Rule {
        rule: &'a Managed,
        route: &'a RouteId,
    },
    /// It met no rule of ours, so the load balancer's default rule brought it.
    Nothing,
    /// Which rule brought it cannot be told, and nothing is woken on a guess.
    Undecided {
        route: &'a RouteId,
        reason: Reason,
    },
}

#[derive(Debug)]
struct Door {
    port: u16,
    waker: Option<GroupId>,
    /// A listener rule and the rule it belongs to, when it is managed.
    candidates: Vec<Candidate<(RouteId, Option<RuleName>)>>,
}

/// Where a listener rule leads; a final action to wakers alone is the waker.
pub fn side(rule: &ListenerRule, wakers: &[GroupId]) -> Side {
    match final_action(&rule.actions) {
        Some(action) if action.forwards_to_any(wakers) => Side::Waker,
        Some(_) | None => Side::Backend,
    }
}

impl Rules {
    /// Finds the rules of a table. Never fails: what is wrong with one rule is that rule's problem.
    pub fn new(table: &RouteTable, settings: &RuleSettings) -> Self {
        let index = Index::new(table, &settings.wakers);
        let mut routes: BTreeMap<RuleName, Vec<(&Listener, &ListenerRule)>> = BTreeMap::new();
        for listener in &table.listeners {
            for rule in listener
                .rules
                .iter()
                .filter(|rule| rule.is_managed() && rule.parks().is_none())
            {
                routes.entry(index.name(rule)).or_default().push((listener, rule));
            }
        }
        let by_name: BTreeMap<_, _> = routes
            .iter()
            .map(|(name, routes)| {
                let managed = Managed {
                    rule: rule(name, routes, &index, settings),
                    routes: routes.iter().map(|(_, route)| route.arn.clone()).collect(),
                };
                (name.clone(), managed)
            })
            .collect();
        let doors = table
            .listeners
            .iter()
            .map(|listener| door(listener, &by_name, settings))
            .collect();
        Rules { by_name, doors }
    }

    pub fn get(&self, name: &RuleName) -> Option<&Managed> {
        self.by_name.get(name)
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Managed> {
        self.by_name.values()
    }

    /// The rule that brought this request to the waker. `waker` (the event's target group) tells the load balancer and
    /// `port` the listener; a port that fits none is ignored rather than believed.
    pub fn find(&self, waker: &GroupId, port: Option<u16>, request: &Request<'_>) -> Found<'_> {
        let of_balancer = || self.doors.iter().filter(|door| door.waker.as_ref() == Some(waker));
        let fits = of_balancer().any(|door| Some(door.port) == port);
        let mut undecided = None;
        for door in of_balancer().filter(|door| !fits || Some(door.port) == port) {
            match first_match(&door.candidates, request) {
                FirstMatch::Rule((route, Some(name))) => {
                    if let Some(rule) = self.by_name.get(name) {
                        return Found::Rule { rule, route };
                    }
                }
                FirstMatch::Rule((_, None)) | FirstMatch::Default => {}
                FirstMatch::Undecided {
                    rule: (route, _),
                    reason,
                } => {
                    undecided.get_or_insert(Found::Undecided { route, reason });
                }
            }
        }
        undecided.unwrap_or(Found::Nothing)
    }
}

/// The name that a listener rule of the table has, or had while it was managed.
pub fn name_of(table: &RouteTable, route: &RouteId, wakers: &[GroupId]) -> Option<RuleName> {
    let (_, rule) = table.find(route)?;
    Some(Index::new(table, wakers).name(rule))
}

fn rule(name: &RuleName, routes: &[(&Listener, &ListenerRule)], index: &Index<'_>, settings: &RuleSettings) -> Rule {
    let tags = routes
        .iter()
        .map(|(_, route)| (route.arn.clone(), route.tags.clone()))
        .collect();
    let (tags, mut problems) = tags::merge(tags);
    let (mut policy, unreadable) = tags::policy(&tags, settings.settle, settings.idle_min);
    policy.metrics_delay = settings.metrics_delay;
    policy.metrics_period = settings.metrics_period;
    policy.describe_delay = settings.describe_delay;
    problems.extend(unreadable);
    for (listener, route) in routes {
        problems.extend(problems_of(listener, route, index));
    }
    if !policy.allow.is_empty() {
        // Once for each load balancer, not for each route.
        let of = |(listener, _): &(&Listener, _)| Some((listener.load_balancer.clone(), unknown_addresses(listener)?));
        problems.extend(routes.iter().filter_map(of).collect::<BTreeMap<_, _>>().into_values());
    }
    Rule {
        name: name.clone(),
        policy,
        problems,
    }
}

fn problems_of(listener: &Listener, route: &ListenerRule, index: &Index<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(cluster) = &listener.controller {
        problems.push(Problem::ForeignController {
            cluster: cluster.clone(),
        });
    }
    if listener.waker.is_none() {
        problems.push(Problem::NoWaker {
            listener: listener.arn.clone(),
        });
    }
    if let Err(why) = Matcher::new(&route.conditions) {
        problems.push(Problem::UnreadableConditions {
            route: route.arn.clone(),
            why: why.to_string(),
        });
    }
    let twins = listener
        .rules
        .iter()
        .filter(|other| other.is_managed() && other.conditions == route.conditions);
    for first in twins.filter(|other| other.priority < route.priority) {
        problems.push(Problem::SameConditions {
            one: first.arn.clone(),
            other: route.arn.clone(),
        });
    }
    let last = final_action(&route.actions);
    let kind = last.map_or("missing", |action| action.kind.as_str());
    let groups = last.map(Action::groups).unwrap_or_default();
    if groups.is_empty() {
        problems.push(Problem::NotAForward {
            route: route.arn.clone(),
            kind: kind.to_owned(),
        });
    }
    let to_waker = groups.iter().filter(|(group, _)| group.is_among(index.wakers)).count();
    if to_waker > 0 && to_waker < groups.len() {
        problems.push(Problem::MixedForward {
            route: route.arn.clone(),
        });
    }
    if route.priority.is_none() {
        problems.push(Problem::DefaultRule {
            route: route.arn.clone(),
        });
    }
    problems.extend(second_way(route, &groups, index));
    problems
}

fn unknown_addresses(listener: &Listener) -> Option<Problem> {
    let why = match listener.forwarded_for.as_ref()? {
        ForwardedFor::Appended => return None,
        ForwardedFor::Otherwise(mode) => format!("it is told to {mode} X-Forwarded-For"),
        ForwardedFor::Unreadable(why) => why.trim_end_matches('.').to_owned(),
    };
    Some(Problem::UnknownAddresses {
        key: tags::ALLOW.to_owned(),
        load_balancer: listener.load_balancer.clone(),
        why,
    })
}

/// Another listener rule, not of this rule's name, that leads to the same target groups: nobody can tell by this rule
/// alone that they are not in use.
fn second_way(route: &ListenerRule, groups: &[(GroupId, i32)], index: &Index<'_>) -> Option<Problem> {
    let own = index.name(route);
    let parked = index.parked(&route.arn).iter();
    let parked = parked
        .filter_map(|rule| final_action(&rule.actions))
        .flat_map(Action::groups);
    let backend = groups.iter().cloned().chain(parked).map(|(group, _)| group);
    backend
        .filter(|group| !group.is_among(index.wakers))
        .flat_map(|group| index.leads(&group).to_vec())
        .find(|rule| rule.arn != route.arn && index.owner(rule) != Some(&own))
        .map(|by| Problem::AlsoReachable {
            route: route.arn.clone(),
            by: by.arn.clone(),
        })
}

/// A rule that leads elsewhere cannot have brought a request here, unless it is managed and was flipped a moment ago.
fn door(listener: &Listener, by_name: &BTreeMap<RuleName, Managed>, settings: &RuleSettings) -> Door {
    let owners: BTreeMap<&RouteId, &RuleName> = by_name
        .values()
        .flat_map(|managed| managed.routes.iter().map(|route| (route, &managed.rule.name)))
        .collect();
    let owner = |route: &RouteId| owners.get(route).copied().cloned();
    let candidates = listener
        .rules
        .iter()
        .filter_map(|rule| {
            let owner = owner(&rule.arn);
            let brings = owner.is_some() || side(rule, &settings.wakers) == Side::Waker;
            let priority = rule.priority.filter(|_| brings && rule.parks().is_none())?;
            let (late, conditions) = as_handed_over(rule);
            Some(Candidate {
                priority: priority + late,
                matcher: Matcher::new(&conditions),
                id: (rule.arn.clone(), owner),
            })
        })
        .collect();
    Door {
        port: listener.port,
        waker: listener.waker.clone(),
        candidates,
    }
}

/// A load balancer compares conditions before it transforms and hands over the transformed request, so what a transform
/// may have rewritten cannot be compared again. Such a rule is asked with its other conditions, after all the rules that
/// can be compared whole.
fn as_handed_over(rule: &ListenerRule) -> (u32, Vec<Condition>) {
    const AFTER_ALL_PRIORITIES: u32 = 100_000;
    let rewritten = |condition: &Condition| match condition.field.as_deref() {
        Some("host-header") => rule.transforms.iter().any(|kind| kind == "host-header-rewrite"),
        Some("path-pattern" | "query-string") => rule.transforms.iter().any(|kind| kind == "url-rewrite"),
        Some(_) | None => false,
    };
    let comparable: Vec<_> = rule
        .conditions
        .iter()
        .filter(|condition| !rewritten(condition))
        .cloned()
        .collect();
    if comparable.len() == rule.conditions.len() {
        (0, comparable)
    } else {
        (AFTER_ALL_PRIORITIES, comparable)
    }
}

/// The names of all routes, for the next table: a name made from a target group must outlive the loss of P.
pub fn names(table: &RouteTable, settings: &RuleSettings) -> BTreeMap<RouteId, RuleName> {
    let index = Index::new(table, &settings.wakers);
    let managed = table
        .listeners
        .iter()
        .flat_map(|listener| &listener.rules)
        .filter(|rule| rule.is_managed());
    managed.map(|rule| (rule.arn.clone(), index.name(rule))).collect()
}
