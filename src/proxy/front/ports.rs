//! Envoy as the core sees it: a load balancer with one listener, on which every rule has a route and its parked copy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use crate::activity::Metrics;
use crate::clock::{Clock, SystemClock};
use crate::config::proxy_rules::ProxyRule;
use crate::config::tags;
use crate::domain::activity::{Activity, Question};
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::matching::{Condition, HttpHeaderConfig};
use crate::domain::record::SCHEMA;
use crate::domain::rule::{Action, Config, GroupId, ResourceId, RouteId, RuleName, Side};
use crate::domain::seen::{Fact, GroupHealth};
use crate::domain::table::{ForwardedFor, Listener, ListenerRule, RouteTable};
use crate::domain::time::Timestamp;
use crate::gateway::Gateway;
use crate::gateway::envoy::{Plane, admin};

use super::{Front, RULE_HEADER, WAKER};
use crate::proxy::meter;

const ENVOY: &str = "envoy";
const PREFIX: &str = "envoy:";

impl Gateway for Front {
    async fn read(&self, at: Timestamp, _known: Option<&RouteTable>) -> Result<RouteTable, Fault> {
        // Where a connection may still come to the machines, it is taken for one that does: nothing is stopped there.
        let sides: BTreeMap<RuleName, Side> = self
            .rules()
            .iter()
            .map(|rule| match self.is_sure(&rule.name) {
                true => (rule.name.clone(), self.side(&rule.name)),
                false => (rule.name.clone(), Side::Backend),
            })
            .collect();
        let mut now = self.now();
        let side = |name: &RuleName| sides.get(name).copied().unwrap_or(Side::Backend);
        let rules = now
            .rules
            .values()
            .zip(1..)
            .flat_map(|(rule, place)| routes(place, rule, side(&rule.name)));
        let listener = Listener {
            arn: ENVOY.to_owned(),
            load_balancer: ENVOY.to_owned(),
            port: 0,
            waker: Some(GroupId(WAKER.to_owned())),
            controller: None,
            forwarded_for: Some(ForwardedFor::Appended),
            rules: rules.collect(),
        };
        let listeners = vec![listener];
        // Everybody who looks at a rule or is held for one reads all of them, and much is worked out from them.
        let same = now.last_read.take().filter(|last| last.listeners == listeners);
        let table = same.unwrap_or_else(|| RouteTable {
            schema: SCHEMA,
            read_at: at,
            swept_at: None,
            listeners,
            names: BTreeMap::new(),
            loose: BTreeMap::new(),
            ways: None,
        });
        now.last_read = Some(table.clone());
        Ok(table)
    }

    async fn health(&self, groups: &[(GroupId, bool)]) -> Result<Vec<GroupHealth>, Fault> {
        let mut seen = Vec::with_capacity(groups.len());
        for (id, weighted) in groups {
            let rule = name_of(&id.0).and_then(|name| self.rule(&name));
            let rule =
                rule.ok_or_else(|| Fault::new(FaultKind::NotFound, "envoy:health", format!("{id} is no rule")))?;
            self.find(&rule).await?;
            seen.push(GroupHealth {
                id: id.clone(),
                weighted: *weighted,
                target_type: "instance".to_owned(),
                targets: self.check(&rule).await,
            });
        }
        Ok(seen)
    }

    async fn groups(&self) -> Result<Vec<GroupId>, Fault> {
        Ok(self
            .rules()
            .iter()
            .map(|rule| GroupId(format!("{PREFIX}{}", rule.name)))
            .collect())
    }

    async fn unwatched(&self, _table: &RouteTable) -> Result<Vec<(GroupId, RouteId)>, Fault> {
        Ok(Vec::new())
    }

    async fn park(&self, _table: &RouteTable, _route: &RouteId, _actions: &[Action]) -> Result<(), Fault> {
        Ok(())
    }

    async fn unpark(&self, _parked: &ListenerRule, _route: &RouteId) -> Result<(), Fault> {
        Ok(())
    }

    async fn flip_to_waker(&self, _table: &RouteTable, route: &RouteId, _actions: &[Action]) -> Result<(), Fault> {
        self.flip(route, Side::Waker).await
    }

    async fn flip_to_backend(&self, route: &RouteId, _actions: &[Action]) -> Result<(), Fault> {
        self.flip(route, Side::Backend).await
    }

    async fn under_way(&self, groups: &[GroupId]) -> Result<Option<u64>, Fault> {
        let active = self.active().await?;
        let names = groups.iter().filter_map(|group| name_of(&group.0));
        Ok(Some(names.map(|name| open(&active, self.users(&name))).sum()))
    }
}

impl Metrics for Front {
    /// Load reports say nothing of a session whose cluster Envoy has been told to forget, nor of one at an address that its
    /// database's name has no more. What is open now has been under way all the time.
    async fn read(&self, questions: &[Question]) -> Vec<Fact<Activity>> {
        if questions.is_empty() {
            return Vec::new();
        }
        let active = self.active().await;
        let loads = self.plane().map(Plane::loads).unwrap_or_default();
        let answer = |question: &Question| {
            let active = active.as_ref().map_err(Fault::clone)?;
            let known = |group: &GroupId| {
                let rule = name_of(&group.0)?;
                let since = self.in_use_since(&rule)?;
                Some(meter::Known {
                    open: open(active, self.users(&rule)),
                    users: self.users(&rule),
                    since,
                })
            };
            Ok(meter::activity(&loads, question, known))
        };
        questions.iter().map(answer).collect()
    }
}

impl Front {
    /// What is under way at this moment, as Envoy itself counts.
    async fn active(&self) -> Result<BTreeMap<RuleName, u64>, Fault> {
        // Where nothing new may lead there any more by the time of the count.
        let left = self.now().state.left().clone();
        let settled = |rule: &RuleName| self.plane().is_some_and(|plane| plane.is_settled_for(rule));
        let left: BTreeMap<_, _> = left.into_iter().filter(|(rule, _)| settled(rule)).collect();
        let active = admin::active(&self.admin_socket()).await;
        let active = active.map_err(|error| Fault::new(FaultKind::Conflict, "envoy:stats", error.to_string()))?;
        self.note(&active);
        let over = |(rule, _): &(RuleName, _)| active.get(rule).copied().unwrap_or_default() == 0;
        let over: BTreeMap<_, _> = left.into_iter().filter(over).collect();
        if !over.is_empty() {
            self.change(|now| {
                for (rule, machines) in &over {
                    // Unless it has lost more since.
                    if now.state.left().get(rule) == Some(machines) {
                        now.state.forget_left(rule);
                    }
                }
            })?;
        }
        Ok(active)
    }

    /// Notes what is open, so that what ends between two questions of the core is not forgotten: load reports say nothing of some.
    /// Of what cannot be asked now it stays as it was.
    pub async fn note_open(&self) {
        if let Err(fault) = self.active().await {
            tracing::debug!(%fault, "Envoy does not say what is open");
        }
    }

    fn note(&self, active: &BTreeMap<RuleName, u64>) {
        let (now, open) = (SystemClock.now(), active.keys().cloned().collect());
        let mut last = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, before) = last.take().unwrap_or((now, BTreeSet::new()));
        if let Some(plane) = self.plane() {
            plane.note_open(from, before.union(&open));
        }
        *last = Some((now, open));
    }

    /// Whose use is use of a rule's machines: what came for one that is gone, or that had other machines, may be open to these.
    fn users(&self, name: &RuleName) -> impl Fn(&RuleName) -> bool + use<> {
        let mine = self.rule(name).map(|rule| self.resources(&rule)).unwrap_or_default();
        let (front, name) = (self.clone(), name.clone());
        let had_them = |machines: &BTreeSet<ResourceId>| mine.iter().any(|id| machines.contains(id));
        let left: BTreeSet<RuleName> = {
            let now = self.now();
            let left = now.state.left().iter().filter(|(_, left)| had_them(left));
            left.map(|(rule, _)| rule.clone()).collect()
        };
        move |rule| *rule == name || left.contains(rule) || front.rule(rule).is_none()
    }
}

fn open(active: &BTreeMap<RuleName, u64>, users: impl Fn(&RuleName) -> bool) -> u64 {
    let counted = active.iter().filter(|(rule, _)| users(rule));
    counted.map(|(_, count)| count).sum()
}

pub(super) fn name_of(id: &str) -> Option<RuleName> {
    id.strip_prefix(PREFIX).map(|name| RuleName(name.to_owned()))
}

/// Read as an ALB writes it.
fn forward_to(group: &str) -> Vec<Action> {
    vec![Action {
        kind: "forward".to_owned(),
        order: None,
        target_group_arn: Some(GroupId(group.to_owned())),
        forward_config: None,
        rest: Config::default(),
    }]
}

fn condition(header: &str, value: &str) -> Condition {
    Condition {
        field: Some("http-header".to_owned()),
        http_header_config: Some(HttpHeaderConfig {
            http_header_name: Some(header.to_owned()),
            values: Some(vec![value.to_owned()]),
            ..HttpHeaderConfig::default()
        }),
        ..Condition::default()
    }
}

/// A rule's route and its parked copy.
fn routes(place: u32, rule: &ProxyRule, side: Side) -> [ListenerRule; 2] {
    let own = format!("{PREFIX}{}", rule.name);
    let to = match side {
        Side::Backend => own.as_str(),
        Side::Waker => WAKER,
    };
    let route = ListenerRule {
        arn: RouteId(own.clone()),
        priority: Some(place),
        conditions: vec![condition(RULE_HEADER, &rule.name.0)],
        actions: forward_to(to),
        transforms: Vec::new(),
        tags: rule.tags.clone(),
    };
    let parked = ListenerRule {
        arn: RouteId(format!("{own}:parked")),
        priority: Some(place + 50_000),
        conditions: vec![condition("x-autostopping-parked", &rule.name.0)],
        actions: forward_to(&own),
        transforms: Vec::new(),
        tags: BTreeMap::from([(tags::PARKS.to_owned(), own)]),
    };
    [route, parked]
}
