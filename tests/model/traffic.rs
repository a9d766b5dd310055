//! Requests that reach the backend, and what the metrics come to show of them: by the minute, late, with gaps.

use std::collections::{BTreeMap, BTreeSet};

use proxymanager::domain::activity::{Activity, Backend, Counted, GroupActivity, Load, Question};
use proxymanager::domain::fault::FaultKind;
use proxymanager::domain::idle;
use proxymanager::domain::plan::{EventKind, Plan};
use proxymanager::domain::record::Record;
use proxymanager::domain::rule::{GroupId, ResourceId, Side};
use proxymanager::domain::time::Timestamp;

use super::{Shape, Time, World, at, calls};

pub const MINUTE: Time = 60;
const PERIOD: Time = 300;
/// What a machine moves in five minutes when nobody uses it.
const QUIET: u64 = 5_000;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Traffic {
    /// The minutes, by their starts, in which a group was asked.
    pub requests: BTreeSet<(usize, Time)>,
    /// The minutes without `HealthyHostCount`.
    pub silent: BTreeSet<Time>,
    /// How long after its end a minute can be read.
    pub delay: Time,
    /// The clock of the metrics minus ours.
    pub skew: Time,
    /// Bytes and percent of each machine in each period from now on; `None` for no point.
    pub network: BTreeMap<usize, Option<u64>>,
    pub cpu: BTreeMap<usize, Option<u8>>,
    pub refuses: Option<FaultKind>,
    /// For the judge: when the backend was last asked.
    pub last: Option<Time>,
}

pub fn floor(time: Time, period: Time) -> Time {
    time.div_euclid(period) * period
}

fn time(at_: Timestamp) -> Time {
    at_.as_second() - at(0).as_second()
}

impl Traffic {
    pub fn answer(&self, now: Time, question: &Question) -> Result<Activity, FaultKind> {
        if let Some(kind) = self.refuses {
            return Err(kind);
        }
        let (from, until) = (time(question.from), time(question.until));
        let readable = |start: &Time, length: Time| start + length + self.delay <= now + self.skew;
        let minutes = || (from..until).step_by(MINUTE as usize).filter(|m| readable(m, MINUTE));
        let groups = question.groups.iter().map(|backend| {
            let index = (0..9).find(|index| Shape::group(*index) == backend.group).unwrap();
            let asked = minutes().filter(|m| self.requests.contains(&(index, *m)));
            let alive = minutes().filter(|m| !self.silent.contains(m));
            let activity = GroupActivity {
                requests: asked.map(|m| (at(m), 1)).collect(),
                alive: alive.map(at).collect(),
            };
            (backend.group.clone(), activity)
        });
        let end = floor(until, PERIOD);
        let periods = || (1..=3).map(|ago| end - ago * PERIOD).filter(|p| readable(p, PERIOD));
        let machines = question.machines.iter().map(|id| {
            let index = (0..9).find(|index| ResourceId(format!("i-{index}")) == *id).unwrap();
            let network = self.network.get(&index).copied().unwrap_or(Some(QUIET));
            let cpu = self.cpu.get(&index).copied().unwrap_or(Some(1));
            let load = Load {
                network: periods().filter_map(|p| Some((at(p), network?))).collect(),
                cpu: periods().filter_map(|p| Some((at(p), cpu?))).collect(),
            };
            (id.clone(), load)
        });
        Ok(Activity {
            groups: groups.collect(),
            machines: machines.collect(),
        })
    }
}

impl World {
    /// Somebody asks for the site by a route; whether it reached the backend.
    pub fn visit(&mut self, route: usize) -> bool {
        let reached = self.is_on(route) == Side::Backend;
        let group = self.shape.routes[route][0].0;
        let now = self.now;
        if let (true, Some(traffic)) = (reached, &mut self.traffic) {
            traffic.requests.insert((group, floor(now + traffic.skew, MINUTE)));
            traffic.last = Some(now);
        }
        reached
    }

    pub fn traffic(&mut self) -> &mut Traffic {
        self.traffic.get_or_insert_default()
    }

    /// The target groups that have a share of the requests.
    pub fn backends(&self) -> Vec<Backend> {
        let groups = (0..self.shape.groups.len()).filter(|group| self.shape.weighted(*group));
        groups.map(Shape::group).map(backend).collect()
    }

    pub fn question(&self, record: &Record) -> Option<Question> {
        idle::question(at(self.now), &self.rule, record, self.backends())
    }

    pub(super) fn counted(&self, record: &Record) -> Option<Counted> {
        let traffic = self.traffic.as_ref()?;
        let question = self.question(record)?;
        let answer = traffic.answer(self.now, &question);
        let answer = answer.map_err(|kind| calls::fault(kind, "cloudwatch:GetMetricData"));
        Some(Counted { question, answer })
    }
}

pub fn backend(group: GroupId) -> Backend {
    let load_balancer = "alb".to_owned();
    Backend { group, load_balancer }
}

impl Shape {
    /// A site in use, known to us as awake since now.
    pub fn in_use(&self) -> World {
        let mut world = self.awake();
        world.traffic();
        world.tick();
        world
    }
}

impl World {
    /// Looks whenever one is due before then, and visits of the first route at these times; the plans made, each with its
    /// time.
    pub fn live(&mut self, until: Time, visits: &[Time]) -> Vec<(Time, Plan)> {
        let mut plans = Vec::new();
        for end in visits.iter().chain([&until]) {
            loop {
                let lease = self.record().lease.as_ref();
                let free = lease.map_or(self.now, |lease| time(lease.until));
                let due = time(self.record().next_check).max(free).max(self.now);
                self.advance(due.min(*end) - self.now);
                if due >= *end {
                    break;
                }
                let now = self.now;
                plans.extend(self.tick().map(|plan| (now, plan)));
            }
            if visits.contains(end) {
                self.visit(0);
            }
        }
        plans
    }

    pub fn record(&self) -> &Record {
        self.stored.as_ref().unwrap()
    }
}

/// When it was first decided that the rule is idle.
pub fn found_idle(plans: &[(Time, Plan)]) -> Option<Time> {
    let idle = |plan: &Plan| plan.events.iter().any(|event| event.kind == EventKind::SleepWanted);
    plans.iter().find(|(_, plan)| idle(plan)).map(|(at, _)| *at)
}
