//! What is asked of a route table for every one of its rules, looked up once.

use std::collections::BTreeMap;

use super::side;
use crate::config::tags;
use crate::domain::rule::{Action, GroupId, RouteId, RuleName, Side, final_action};
use crate::domain::table::{ListenerRule, RouteTable};

/// A route table with its rules by what they lead to, what they park, and their names.
pub(super) struct Index<'t> {
    pub(super) table: &'t RouteTable,
    pub(super) wakers: &'t [GroupId],
    /// The parked copies of an R, by its ARN.
    parked: BTreeMap<&'t str, Vec<&'t ListenerRule>>,
    /// The rules that lead to a target group.
    leads: BTreeMap<GroupId, Vec<&'t ListenerRule>>,
    /// Of every managed rule, and of every R that something is parked for.
    names: BTreeMap<&'t RouteId, RuleName>,
}

impl<'t> Index<'t> {
    pub(super) fn new(table: &'t RouteTable, wakers: &'t [GroupId]) -> Self {
        let rules = || table.listeners.iter().flat_map(|listener| &listener.rules);
        let mut index = Index {
            table,
            wakers,
            parked: BTreeMap::new(),
            leads: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        for rule in rules() {
            if let Some(route) = rule.parks() {
                index.parked.entry(route).or_default().push(rule);
            }
            for (group, _) in final_action(&rule.actions).map(Action::groups).unwrap_or_default() {
                index.leads.entry(group).or_default().push(rule);
            }
        }
        for rule in rules().filter(|rule| rule.is_managed() || index.parked.contains_key(rule.arn.0.as_str())) {
            let name = index.made_name(rule);
            index.names.insert(&rule.arn, name);
        }
        index
    }

    /// The parked copies of R.
    pub(super) fn parked(&self, route: &RouteId) -> &[&'t ListenerRule] {
        self.parked.get(route.0.as_str()).map_or(&[], Vec::as_slice)
    }

    /// The rules that lead to this group.
    pub(super) fn leads(&self, group: &GroupId) -> &[&'t ListenerRule] {
        self.leads.get(group).map_or(&[], Vec::as_slice)
    }

    /// The rule that a managed listener rule belongs to, or for which a parked one was made.
    pub(super) fn owner(&self, rule: &ListenerRule) -> Option<&RuleName> {
        match rule.parks() {
            Some(parked) => self.names.get(&RouteId(parked.to_owned())),
            None => self.names.get(&rule.arn).filter(|_| rule.is_managed()),
        }
    }

    /// Its name as a route, managed or once managed.
    pub(super) fn name(&self, route: &ListenerRule) -> RuleName {
        let known = self.names.get(&route.arn).cloned();
        known.unwrap_or_else(|| self.made_name(route))
    }

    /// A route's rule: its tag, else the name of the first target group of the backend, in R or while asleep in P.
    fn made_name(&self, route: &ListenerRule) -> RuleName {
        if let Some(name) = route.tags.get(tags::NAME) {
            return RuleName(name.clone());
        }
        let actions = match side(route, self.wakers) {
            Side::Backend => Some(&route.actions),
            Side::Waker => self.parked(&route.arn).first().map(|parked| &parked.actions),
        };
        let first = actions
            .and_then(|actions| final_action(actions))
            .and_then(|last| last.groups().into_iter().next());
        let named = first.map(|(group, _)| RuleName(group.name().to_owned()));
        let remembered = || self.table.names.get(&route.arn).cloned();
        named
            .or_else(remembered)
            .unwrap_or_else(|| RuleName(route.arn.0.rsplit('/').next().unwrap_or_default().to_owned()))
    }
}
