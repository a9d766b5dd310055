//! The ports of the driver, leading into the world. Each call may be late, be refused, or lose its answer; each does what
//! the port promises.

use std::sync::Arc;

use proxymanager::activity::Metrics;
use proxymanager::compute::Compute;
use proxymanager::domain::activity::{Activity, Question};
use proxymanager::domain::fault::{Fault, FaultKind};
use proxymanager::domain::policy::StopKind;
use proxymanager::domain::rule::{Action, GroupId, ResourceId, RouteId, final_action, pointed_at_waker, with_final};
use proxymanager::domain::seen::{Fact, GroupHealth, Power as Seen, ResourceSeen, TargetSeen};
use proxymanager::domain::table::{ListenerRule, RouteTable, TAG_PARKS};
use proxymanager::domain::time::Timestamp;
use proxymanager::gateway::Gateway;
use proxymanager::local::world::{HealthState, Life, NewRule, Power};
use serde_json::{Value, json};

use super::account::Account;
use super::cloud::Cloud;
use super::table::{fault, read_action, same_final};
use super::time::{SECOND, moment, stamp};

/// All three ports.
#[derive(Clone)]
pub struct Aws(pub Arc<Account>);

const DESCRIBE_INSTANCES: &str = "ec2:DescribeInstances";
const START: &str = "ec2:StartInstances";
const STOP: &str = "ec2:StopInstances";
const DESCRIBE_RULES: &str = "elasticloadbalancing:DescribeRules";
const DESCRIBE_LISTENERS: &str = "elasticloadbalancing:DescribeListeners";
const DESCRIBE_TAGS: &str = "elasticloadbalancing:DescribeTags";
const DESCRIBE_HEALTH: &str = "elasticloadbalancing:DescribeTargetHealth";
const DESCRIBE_GROUPS: &str = "elasticloadbalancing:DescribeTargetGroups";
const MODIFY_RULE: &str = "elasticloadbalancing:ModifyRule";
const CREATE_RULE: &str = "elasticloadbalancing:CreateRule";
const DELETE_RULE: &str = "elasticloadbalancing:DeleteRule";
/// DescribeTags takes at most 20 ARNs.
const TAGS_A_CALL: usize = 20;
const GET_METRIC_DATA: &str = "cloudwatch:GetMetricData";

/// What the world would refuse to whom it may be of no use: all calls of the driver that can be denied.
pub const DENIABLE: [&str; 9] = [
    DESCRIBE_INSTANCES,
    START,
    STOP,
    DESCRIBE_RULES,
    DESCRIBE_HEALTH,
    MODIFY_RULE,
    CREATE_RULE,
    GET_METRIC_DATA,
    DESCRIBE_GROUPS,
];

/// An answer that may get lost.
struct Admitted {
    call: &'static str,
    lost: bool,
}

impl Admitted {
    fn answer<T>(self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        match self.lost {
            true => Err(Fault::new(FaultKind::Other, self.call, "no answer in time")),
            false => outcome,
        }
    }
}

impl Aws {
    async fn admit(&self, call: &'static str, writes: bool) -> Result<Admitted, Fault> {
        let mishap = self.0.cloud().mishap(call, writes);
        if mishap.delay > 0 {
            self.0.time.sleep(mishap.delay).await;
        }
        let lost = mishap.lost;
        mishap.fault.map_or(Ok(Admitted { call, lost }), Err)
    }

    /// Changes rules of the world in one go, and has the health checks of the site begin anew where they stopped.
    fn write<T>(
        &self,
        route: &RouteId,
        change: impl FnOnce(&mut Cloud, Timestamp) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let now = self.0.now();
        let mut cloud = self.0.cloud();
        let outcome = change(&mut cloud, stamp(now));
        cloud.rules_changed(now);
        let site = cloud.sites.iter().find(|site| site.routes.contains(&route.0));
        for machine in site.map(|site| site.machines.clone()).unwrap_or_default() {
            self.0.later(20 * SECOND, move |account| account.check(&machine));
        }
        outcome
    }
}

impl Compute for Aws {
    async fn describe(&self, ids: &[ResourceId]) -> Result<Vec<ResourceSeen>, Fault> {
        let admitted = self.admit(DESCRIBE_INSTANCES, false).await?;
        let now = stamp(self.0.now());
        let mut cloud = self.0.cloud();
        let stale = cloud.world.faults.stale_ms > 0;
        cloud.reads.1 += 1;
        let mut seen = Vec::with_capacity(ids.len());
        for id in ids {
            let one = match stale {
                true => {
                    let described = cloud.world.describe_instances(now, std::slice::from_ref(&id.0));
                    described
                        .ok()
                        .and_then(|mut found| found.pop())
                        .map(|(_, life)| resource(id, &life))
                }
                false => cloud
                    .world
                    .instance(&id.0)
                    .map(|instance| resource(id, instance.life())),
            };
            seen.push(one.unwrap_or_else(|| ResourceSeen::bare(id.clone(), Seen::Terminated)));
        }
        admitted.answer(Ok(seen))
    }

    async fn start(&self, ids: &[ResourceId]) -> Result<(), Fault> {
        let admitted = self.admit(START, true).await?;
        let mut outcome = Ok(());
        for id in ids {
            let started = self.0.start(std::slice::from_ref(&id.0));
            outcome = outcome.and(started.map_err(|failure| fault(START, &failure)));
        }
        admitted.answer(outcome)
    }

    async fn stop(&self, ids: &[ResourceId], _kind: StopKind) -> Result<(), Fault> {
        let admitted = self.admit(STOP, true).await?;
        let ids: Vec<String> = ids.iter().map(|id| id.0.clone()).collect();
        let outcome = self.0.stop(&ids, false).map_err(|failure| fault(STOP, &failure));
        admitted.answer(outcome)
    }
}

fn resource(id: &ResourceId, life: &Life) -> ResourceSeen {
    let power = match life.power {
        Power::Pending { .. } => Seen::Pending,
        Power::Running => Seen::Running,
        Power::Stopping { .. } => Seen::Stopping,
        Power::Stopped => Seen::Stopped,
        Power::Terminated => Seen::Terminated,
    };
    let asked_for = "Client.UserInitiatedShutdown";
    let told = life
        .reason
        .as_ref()
        .filter(|(code, _)| power == Seen::Stopped && code != asked_for);
    ResourceSeen {
        // EC2 writes whole seconds.
        launched: Timestamp::from_second(life.launched.as_second()).ok(),
        changed_by_user: transition(&life.transition),
        fell_back: told.map(|(_, message)| message.clone()),
        ..ResourceSeen::bare(id.clone(), power)
    }
}

/// The time in `User initiated (2026-01-01 10:00:00 GMT)`.
fn transition(words: &str) -> Option<Timestamp> {
    let inner = words.strip_prefix("User initiated (")?.strip_suffix(" GMT)")?;
    let (date, time) = inner.split_once(' ')?;
    format!("{date}T{time}Z").parse().ok()
}

/// As the adapter: of what is known only some tags are asked for again, others each minute. How many were asked for.
fn keep_tags(now: Timestamp, table: &mut RouteTable, known: &RouteTable) -> usize {
    let known_rules = || known.listeners.iter().flat_map(|listener| &listener.rules);
    let mut changeable: Vec<&RouteId> = known_rules()
        .filter(|rule| rule.parks().is_none())
        .map(|rule| &rule.arn)
        .collect();
    changeable.sort();
    let turns = changeable.len().div_ceil(2 * TAGS_A_CALL).max(1);
    let turn = usize::try_from(now.as_second() / 60).unwrap_or_default() % turns;
    let again: Vec<&RouteId> = changeable
        .into_iter()
        .skip(turn * 2 * TAGS_A_CALL)
        .take(2 * TAGS_A_CALL)
        .collect();
    let mut asked = 0;
    for rule in table.listeners.iter_mut().flat_map(|listener| &mut listener.rules) {
        match known.find(&rule.arn) {
            Some((_, before)) if !again.contains(&&rule.arn) => rule.tags.clone_from(&before.tags),
            Some(_) | None => asked += 1,
        }
    }
    asked
}

impl Gateway for Aws {
    async fn read(&self, now: Timestamp, known: Option<&RouteTable>) -> Result<RouteTable, Fault> {
        let admitted = self.admit(DESCRIBE_RULES, false).await?;
        let mut cloud = self.0.cloud();
        let mut table = cloud.table(self.0.now());
        cloud.reads.0 += 1;
        let asked = known.map_or(usize::MAX, |known| keep_tags(now, &mut table, known));
        let rules: usize = table.listeners.iter().map(|listener| listener.rules.len()).sum();
        let tagged = asked.min(rules + table.listeners.len());
        cloud.count(DESCRIBE_LISTENERS, 1);
        cloud.count(DESCRIBE_RULES, table.listeners.len() - 1);
        cloud.count(DESCRIBE_TAGS, tagged.div_ceil(TAGS_A_CALL));
        // As the adapter: the time is that of the question, and what is seen no older.
        admitted.answer(Ok(RouteTable { read_at: now, ..table }))
    }

    async fn health(&self, groups: &[(GroupId, bool)]) -> Result<Vec<GroupHealth>, Fault> {
        let mut seen = Vec::new();
        for (id, weighted) in groups {
            let admitted = self.admit(DESCRIBE_HEALTH, false).await?;
            let cloud = self.0.cloud();
            let group = cloud
                .world
                .require_group(&id.0)
                .map_err(|failure| fault(DESCRIBE_HEALTH, &failure))?;
            let targets = group.targets.iter().map(|target| TargetSeen {
                resource: ResourceId(target.id.clone()),
                healthy: target.health.state == HealthState::Healthy,
                words: format!("{} ({})", target.health.state.word(), target.health.reason),
            });
            let health = GroupHealth {
                id: id.clone(),
                weighted: *weighted,
                target_type: group.kind.word().to_owned(),
                targets: targets.collect(),
            };
            seen.push(admitted.answer(Ok(health))?);
        }
        Ok(seen)
    }

    async fn groups(&self) -> Result<Vec<GroupId>, Fault> {
        let admitted = self.admit(DESCRIBE_GROUPS, false).await?;
        let cloud = self.0.cloud();
        let groups = cloud.world.target_groups().iter().map(|group| group.arn.clone());
        let used = groups.filter(|arn| !cloud.world.balancers_of(arn).is_empty());
        admitted.answer(Ok(used.map(GroupId).collect()))
    }

    /// All listeners of this account are watched.
    async fn unwatched(&self, _table: &RouteTable) -> Result<Vec<(GroupId, RouteId)>, Fault> {
        Ok(Vec::new())
    }

    async fn park(&self, _table: &RouteTable, route: &RouteId, actions: &[Action]) -> Result<(), Fault> {
        let admitted = self.admit(CREATE_RULE, true).await?;
        let action = Action {
            order: Some(1),
            ..final_action(actions).expect("what is parked has an action").clone()
        };
        let kept = self.write(route, |cloud, now| {
            let copies = cloud.parked(&route.0);
            if let Some((first, surplus)) = copies.split_first() {
                let modified = cloud
                    .world
                    .modify_rule(now, first, None, Some(vec![json!(action)]), None);
                modified.map_err(|failure| fault(MODIFY_RULE, &failure))?;
                for other in surplus {
                    let deleted = cloud.world.delete_rule(now, other);
                    deleted.map_err(|failure| fault(DELETE_RULE, &failure))?;
                }
                return Ok(());
            }
            let taken: Vec<Option<u32>> = cloud.world.rules().iter().map(|rule| rule.view().priority).collect();
            let free = (1..=50_000).rev().find(|priority| !taken.contains(&Some(*priority)));
            let new = NewRule {
                priority: free.expect("a free priority"),
                conditions: vec![
                    json!({ "Field": "host-header", "Values": ["parked.invalid"] }),
                    json!({ "Field": "source-ip", "SourceIpConfig": { "Values": ["192.0.2.1/32"] } }),
                ],
                actions: vec![json!(action)],
                tags: [(TAG_PARKS.to_owned(), route.0.clone())].into(),
                ..NewRule::default()
            };
            let listener = cloud.world.require_rule(&route.0).map(|rule| rule.listener.clone());
            let listener = listener.map_err(|failure| fault(CREATE_RULE, &failure))?;
            let created = cloud.world.create_rule(now, &listener, new);
            created.map(drop).map_err(|failure| fault(CREATE_RULE, &failure))
        });
        admitted.answer(kept)
    }

    async fn unpark(&self, parked: &ListenerRule, route: &RouteId) -> Result<(), Fault> {
        let exists = self.0.cloud().world.require_rule(&route.0).is_ok();
        if exists {
            let on_waker = self.0.cloud().on_waker(&route.0);
            if on_waker {
                self.flip_to_backend(route, &parked.actions).await?;
            }
        }
        let admitted = self.admit(DELETE_RULE, true).await?;
        let deleted = self.write(route, |cloud, now| {
            let still = cloud.parked(&route.0).contains(&parked.arn.0);
            let deleted = if still {
                cloud.world.delete_rule(now, &parked.arn.0)
            } else {
                Ok(())
            };
            deleted.map_err(|failure| fault(DELETE_RULE, &failure))
        });
        admitted.answer(deleted)
    }

    async fn flip_to_waker(&self, _table: &RouteTable, route: &RouteId, actions: &[Action]) -> Result<(), Fault> {
        let admitted = self.admit(MODIFY_RULE, true).await?;
        let flipped = self.write(route, |cloud, now| {
            let current = current(cloud, route)?;
            let waker = GroupId(cloud.waker.clone());
            if cloud.on_waker(&route.0) {
                return Ok(());
            }
            if !same_final(&current, actions) {
                return Err(conflict(
                    "somebody changed its actions, which are no longer those to be parked",
                ));
            }
            modify(cloud, now, route, &pointed_at_waker(&current, &waker))
        });
        admitted.answer(flipped)
    }

    async fn flip_to_backend(&self, route: &RouteId, actions: &[Action]) -> Result<(), Fault> {
        let admitted = self.admit(MODIFY_RULE, true).await?;
        let flipped = self.write(route, |cloud, now| {
            let current = current(cloud, route)?;
            if same_final(&current, actions) {
                return Ok(());
            }
            if !cloud.on_waker(&route.0) {
                return Err(conflict(
                    "somebody changed its final action, which is no longer the waker",
                ));
            }
            let last = final_action(actions).expect("an original has an action");
            modify(cloud, now, route, &with_final(&current, last))?;
            let site = cloud.sites.iter().position(|site| site.routes.contains(&route.0));
            if let Some(site) = site {
                cloud.told.wakes += 1;
                if !cloud.is_original(site, &route.0) {
                    cloud.complain(moment(now), site, "came back with an action that its owner did not set");
                }
            }
            Ok(())
        });
        admitted.answer(flipped)
    }
}

fn conflict(words: &str) -> Fault {
    Fault::new(FaultKind::Conflict, MODIFY_RULE, words)
}

fn current(cloud: &Cloud, route: &RouteId) -> Result<Vec<Action>, Fault> {
    let rule = cloud
        .world
        .require_rule(&route.0)
        .map_err(|failure| fault(DESCRIBE_RULES, &failure))?;
    Ok(rule.view().actions.iter().map(read_action).collect())
}

fn modify(cloud: &mut Cloud, now: Timestamp, route: &RouteId, actions: &[Action]) -> Result<(), Fault> {
    let actions: Vec<Value> = actions.iter().map(|action| json!(action)).collect();
    let modified = cloud.world.modify_rule(now, &route.0, None, Some(actions), None);
    modified.map(drop).map_err(|failure| fault(MODIFY_RULE, &failure))
}

impl Metrics for Aws {
    async fn read(&self, questions: &[Question]) -> Vec<Fact<Activity>> {
        match self.admit(GET_METRIC_DATA, false).await {
            Ok(_) => {
                let (now, cloud) = (self.0.now(), self.0.cloud());
                questions
                    .iter()
                    .map(|question| Ok(cloud.meters.answer(now, question)))
                    .collect()
            }
            Err(fault) => questions.iter().map(|_| Err(fault.clone())).collect(),
        }
    }
}
