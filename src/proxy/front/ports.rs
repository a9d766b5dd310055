//! Envoy as the core sees it: a load balancer with one listener, on which every rule has a route and its parked copy.

use std::collections::BTreeMap;

use crate::activity::Metrics;
use crate::config::proxy_rules::ProxyRule;
use crate::config::tags;
use crate::domain::activity::{Activity, Question};
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::matching::{Condition, HttpHeaderConfig};
use crate::domain::record::SCHEMA;
use crate::domain::rule::{Action, Config, GroupId, RouteId, RuleName, Side};
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
        Ok(Some(groups.iter().map(|group| self.active_at(&active, group)).sum()))
    }
}

impl Metrics for Front {
    /// Load reports say nothing of a session whose cluster Envoy has been told to forget, nor of one at an address that its
    /// database's name has no more. What is open now has been under way all the time.
    async fn read(&self, questions: &[Question]) -> Vec<Fact<Activity>> {
        if questions.is_empty() {
            return Vec::new();
        }
        let loads = self.plane().map(Plane::loads).unwrap_or_default();
        let active = self.active().await;
        let answer = |question: &Question| {
            let active = active.as_ref().map_err(Fault::clone)?;
            let known = |group: &GroupId| {
                let rule = name_of(&group.0)?;
                let since = self.in_use_since(&rule)?;
                let open = self.active_at(active, group);
                Some(meter::Known { rule, since, open })
            };
            Ok(meter::activity(&loads, question, known))
        };
        questions.iter().map(answer).collect()
    }
}

impl Front {
    /// What is under way at this moment, as Envoy itself counts.
    async fn active(&self) -> Result<BTreeMap<RuleName, u64>, Fault> {
        let active = admin::active(&self.admin_socket()).await;
        active.map_err(|error| Fault::new(FaultKind::Conflict, "envoy:stats", error.to_string()))
    }

    /// What a rule that is gone has left may lead to machines that have another's name by now.
    fn active_at(&self, active: &BTreeMap<RuleName, u64>, group: &GroupId) -> u64 {
        let asked = name_of(&group.0);
        let counts = |rule: &RuleName| Some(rule) == asked.as_ref() || self.rule(rule).is_none();
        let counted = active.iter().filter(|(rule, _)| counts(rule));
        counted.map(|(_, count)| count).sum()
    }
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
