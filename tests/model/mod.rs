//! A small world to run the core in: machines, routes and their parked copies, health that lags, Describes that are stale,
//! calls that fail or whose answers get lost. The driver in `drive` takes the same steps as the real one, one at a time.
//! What is judged is judged by this world's truth and never by what `plan` was shown.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(unused_imports, reason = "each test uses its part")]

pub mod build;
pub mod calls;
pub mod drive;
pub mod envoy;
pub mod judge;
pub mod story;
pub mod traffic;

use std::collections::BTreeMap;

use proxymanager::domain::record::Record;
use proxymanager::domain::rule::{Action, ResourceId, RouteId, Rule, Side, final_action, pointed_at_waker};
use proxymanager::domain::seen::{Fact, GroupHealth, Parked, Power, ResourceSeen, RouteSeen, Seen, TargetSeen};
use proxymanager::domain::time::Timestamp;

pub use build::{Shape, waker};
pub use calls::Fate;
pub use drive::{Actor, Luck, Stage};

/// Virtual seconds.
pub type Time = i64;

pub const PENDING_TAKES: Time = 5;
pub const STOPPING_TAKES: Time = 20;
pub const HEALTHY_AFTER: Time = 10;
/// A Describe is at most this old.
pub const STALEST: Time = 58;

pub fn at(time: Time) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + time).unwrap()
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Machine {
    pub id: ResourceId,
    pub power: Power,
    /// When the state under way is over.
    pub until: Option<Time>,
    pub launched: Option<Time>,
    pub changed_by_user: Option<Time>,
    pub fell_back: Option<String>,
    pub running_since: Option<Time>,
    /// The next starts come to nothing, with a reason or without.
    pub falls_back: Option<bool>,
    /// Whether what runs on it answers its health check.
    pub app_works: bool,
    /// For the judge: last seen healthy by the load balancer in this life.
    pub healthy_at: Option<Time>,
    /// For the judge: we asked it to stop in this life.
    pub we_stop: bool,
    /// For the judge: when somebody else last started or stopped it.
    pub by_hand: Option<(Time, bool)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    pub id: RouteId,
    pub actions: Vec<Action>,
    pub parked: Vec<Vec<Action>>,
    /// For the judge: the final action its owner last gave it.
    pub owners: Action,
    pub on_waker_since: Option<Time>,
    pub rewritten_at: Option<Time>,
}

/// What Describe calls showed at some time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct View {
    pub machines: Vec<ResourceSeen>,
    pub routes: Vec<RouteSeen>,
    pub healthy: Vec<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub now: Time,
    pub rule: Rule,
    pub shape: Shape,
    pub machines: Vec<Machine>,
    pub routes: Vec<Route>,
    /// The ledger's item.
    pub stored: Option<Record>,
    /// EC2's clock minus ours.
    pub skew: Time,
    /// Whether a store is conditional on the version: the fence.
    pub fence: bool,
    /// Whether anybody heeds the lease of another.
    pub leases: bool,
    /// Every Describe is answered from the present when empty.
    pub past: Vec<(Time, View)>,
    pub keeps_past: bool,
    /// What AWS answers to every call of a kind, until told otherwise.
    pub denials: BTreeMap<&'static str, Fate>,
    /// Which Describes fail.
    pub blind_machines: Option<proxymanager::domain::fault::FaultKind>,
    pub blind_health: Option<proxymanager::domain::fault::FaultKind>,
    /// Who uses the site; without it no metric is ever asked for.
    pub traffic: Option<traffic::Traffic>,
    /// What routes, when it is not a load balancer.
    pub envoy: Option<envoy::Envoy>,
    pub counts: BTreeMap<&'static str, u32>,
    pub in_flight: Vec<calls::Call>,
    /// What the judge found.
    pub violations: Vec<String>,
}

impl World {
    pub fn machine(&mut self, index: usize) -> &mut Machine {
        &mut self.machines[index]
    }

    pub fn is_on(&self, route: usize) -> Side {
        let last = final_action(&self.routes[route].actions).unwrap();
        if last.forwards_to_any(&[waker()]) {
            Side::Waker
        } else {
            Side::Backend
        }
    }

    /// A group is checked only while some listener rule, R or P, forwards to it.
    fn in_use(&self, group: usize) -> bool {
        let id = Shape::group(group);
        let mut all = self.routes.iter().flat_map(|r| r.parked.iter().chain([&r.actions]));
        all.any(|actions| final_action(actions).is_some_and(|a| a.forwards_to_any(std::slice::from_ref(&id))))
    }

    pub fn healthy(&self, machine: usize) -> bool {
        let m = &self.machines[machine];
        let group = self.shape.groups.iter().position(|members| members.contains(&machine));
        m.power == Power::Running
            && m.app_works
            && m.running_since.is_some_and(|since| self.now - since >= HEALTHY_AFTER)
            && group.is_some_and(|group| self.in_use(group))
    }

    pub fn advance(&mut self, seconds: Time) {
        let end = self.now + seconds;
        while self.now < end {
            self.now = self.next_event().min(end);
            let now = self.now;
            for machine in self
                .machines
                .iter_mut()
                .filter(|m| m.until.is_some_and(|until| until <= now))
            {
                machine.until = None;
                machine.come_to_rest(now);
            }
            self.land_late_calls();
            self.envoy_is_told();
            self.changed();
        }
    }

    /// The next second in which something happens by itself.
    pub fn next_event(&self) -> Time {
        let powers = self.machines.iter().filter_map(|m| m.until);
        let healths = self
            .machines
            .iter()
            .filter_map(|m| Some(m.running_since? + HEALTHY_AFTER));
        let calls = self
            .in_flight
            .iter()
            .flat_map(|call| [Some(call.ends), call.lands])
            .flatten();
        let told = self.envoy.iter().filter_map(|envoy| Some(envoy.told?.1));
        let all = powers.chain(healths).chain(calls).chain(told);
        all.filter(|event| *event > self.now).min().unwrap_or(Time::MAX)
    }

    /// To be called after every change: the past and the judge take note.
    pub fn changed(&mut self) {
        for index in 0..self.machines.len() {
            if self.healthy(index) {
                self.machines[index].healthy_at = Some(self.now);
            }
        }
        for index in 0..self.routes.len() {
            let on_waker = self.is_on(index) == Side::Waker;
            let now = self.now;
            let since = &mut self.routes[index].on_waker_since;
            *since = if on_waker { Some(since.unwrap_or(now)) } else { None };
        }
        self.judge_originals();
        if self.keeps_past {
            let view = self.view();
            if self.past.last().is_none_or(|(_, last)| *last != view) {
                self.past.push((self.now, view));
            }
            // Nothing older can be seen any more.
            let seen = self.past.iter().rposition(|(time, _)| *time <= self.now - STALEST);
            self.past.drain(..seen.unwrap_or(0));
        }
    }

    fn view(&self) -> View {
        let told = |time: Option<Time>| time.map(|time| at(time + self.skew));
        let machines = self.machines.iter().map(|m| ResourceSeen {
            id: m.id.clone(),
            power: m.power,
            launched: told(m.launched),
            changed_by_user: told(m.changed_by_user),
            fell_back: m.fell_back.clone(),
            scaling_group: None,
            other_owner: None,
            other_way: None,
        });
        let routes = (0..self.routes.len()).map(|index| {
            let route = &self.routes[index];
            let side = self.shown(index);
            let actions = match (&self.envoy, side) {
                (None, _) => route.actions.clone(),
                (Some(_), Side::Backend) => self.shape.actions(index, 0),
                (Some(_), Side::Waker) => pointed_at_waker(&self.shape.actions(index, 0), &waker()),
            };
            RouteSeen {
                id: route.id.clone(),
                side,
                actions,
                parked: match route.parked.as_slice() {
                    [] => Parked::Missing,
                    [one] => Parked::One(one.clone()),
                    many => Parked::Many(many.to_vec()),
                },
            }
        });
        View {
            machines: machines.collect(),
            routes: routes.collect(),
            healthy: (0..self.machines.len()).map(|m| self.healthy(m)).collect(),
        }
    }

    fn view_of(&self, age: Time) -> View {
        let then = self.now - age;
        let seen = self
            .past
            .iter()
            .rev()
            .find(|(time, _)| *time <= then)
            .or(self.past.first());
        seen.map_or_else(|| self.view(), |(_, view)| view.clone())
    }

    /// What a look finds: routes, machines and health, each of its own age.
    pub fn observe(&self, record: Record, ages: [Time; 3]) -> Seen {
        let [routes, machines, health] = ages.map(|age| self.view_of(age));
        let target = |machine: usize| TargetSeen {
            resource: self.machines[machine].id.clone(),
            healthy: health.healthy[machine],
            words: if health.healthy[machine] {
                "healthy"
            } else {
                "unhealthy (Target.FailedHealthChecks)"
            }
            .to_owned(),
        };
        let groups = self
            .shape
            .groups
            .iter()
            .enumerate()
            .map(|(group, members)| GroupHealth {
                id: Shape::group(group),
                weighted: self.shape.weighted(group),
                target_type: "instance".to_owned(),
                targets: members.iter().map(|machine| target(*machine)).collect(),
            });
        let blind = |kind: Option<_>, operation: &str| kind.map(|kind| calls::fault(kind, operation));
        let counted = self.counted(&record);
        Seen {
            record,
            routes: routes.routes,
            resources: blind(self.blind_machines, "ec2:DescribeInstances").map_or(Ok(machines.machines), Fact::Err),
            health: blind(self.blind_health, "elasticloadbalancing:DescribeTargetHealth")
                .map_or_else(|| Ok(groups.collect()), Fact::Err),
            counted,
        }
    }
}

pub fn judge_final(actions: &[Action]) -> &Action {
    final_action(actions).unwrap()
}
