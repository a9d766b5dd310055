//! Worlds to begin with.

use std::collections::BTreeMap;
use std::time::Duration;

use proxymanager::domain::policy::{Needed, Policy};
use proxymanager::domain::record::Record;
use proxymanager::domain::rule::{
    Action, Config, Forward, GroupId, ResourceId, RouteId, Rule, RuleName, Stickiness, WeightedGroup, pointed_at_waker,
};
use proxymanager::domain::seen::{Power, Wanted};

use super::{HEALTHY_AFTER, Machine, Route, World, at};

/// Which routes lead to which groups with which weight, and which machines are in which group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shape {
    pub routes: Vec<Vec<(usize, i32)>>,
    pub groups: Vec<Vec<usize>>,
    pub needed: Needed,
    pub settle: u64,
    pub idle: u64,
}

pub fn waker() -> GroupId {
    GroupId("tg/waker".to_owned())
}

impl Shape {
    /// One route, one group, one machine.
    pub fn single() -> Self {
        Shape {
            routes: vec![vec![(0, 1)]],
            groups: vec![vec![0]],
            needed: Needed::AtLeast(1),
            settle: 300,
            idle: 600,
        }
    }

    /// Two routes to one group of two machines.
    pub fn double() -> Self {
        Shape {
            routes: vec![vec![(0, 1)], vec![(0, 1)]],
            groups: vec![vec![0, 1]],
            ..Shape::single()
        }
    }

    /// Two routes with weights: the second group gets its share of one route only, the third none at all.
    pub fn weighted_groups() -> Self {
        Shape {
            routes: vec![vec![(0, 1), (2, 0)], vec![(0, 3), (1, 1)]],
            groups: vec![vec![0], vec![1], vec![1]],
            ..Shape::single()
        }
    }

    pub fn group(index: usize) -> GroupId {
        GroupId(format!("tg/{index}"))
    }

    pub fn weighted(&self, group: usize) -> bool {
        self.routes
            .iter()
            .flatten()
            .any(|(g, weight)| *g == group && *weight > 0)
    }

    fn machines(&self) -> usize {
        self.groups.iter().flatten().max().map_or(0, |last| last + 1)
    }

    /// The actions of a route: it authenticates, then forwards. `edition` tells one owner's change from the next.
    pub fn actions(&self, route: usize, edition: i32) -> Vec<Action> {
        let groups = self.routes[route].iter().map(|(group, weight)| WeightedGroup {
            target_group_arn: Shape::group(*group),
            weight: Some(*weight),
        });
        let bare = Action {
            kind: "authenticate-oidc".to_owned(),
            order: Some(1),
            target_group_arn: None,
            forward_config: None,
            rest: Config::default(),
        };
        let forward = Action {
            kind: "forward".to_owned(),
            order: Some(2),
            forward_config: Some(Forward {
                target_groups: groups.collect(),
                target_group_stickiness_config: Some(Stickiness {
                    enabled: Some(edition > 0),
                    duration_seconds: (edition > 0).then_some(edition),
                }),
            }),
            ..bare.clone()
        };
        vec![bare, forward]
    }

    pub fn rule(&self) -> Rule {
        let mut policy = Policy::new(Duration::from_secs(self.idle), Duration::from_secs(self.settle));
        policy.healthy = self.needed;
        Rule {
            name: RuleName("site".to_owned()),
            policy,
            problems: Vec::new(),
        }
    }

    /// A world in which everything is up, never seen by us before.
    pub fn up(&self) -> World {
        let machines = (0..self.machines()).map(|index| Machine {
            id: ResourceId(format!("i-{index}")),
            power: Power::Running,
            until: None,
            launched: Some(-10_000),
            changed_by_user: None,
            fell_back: None,
            running_since: Some(-10_000 + HEALTHY_AFTER),
            falls_back: None,
            app_works: true,
            healthy_at: None,
            we_stop: false,
            by_hand: None,
        });
        let routes = (0..self.routes.len()).map(|index| {
            let actions = self.actions(index, 0);
            Route {
                id: RouteId(format!("rule/{index}")),
                owners: actions[1].clone(),
                actions,
                parked: Vec::new(),
                on_waker_since: None,
                rewritten_at: None,
            }
        });
        let mut world = World {
            now: 0,
            rule: self.rule(),
            shape: self.clone(),
            machines: machines.collect(),
            routes: routes.collect(),
            stored: None,
            skew: 0,
            fence: true,
            leases: true,
            past: Vec::new(),
            keeps_past: true,
            denials: BTreeMap::new(),
            blind_machines: None,
            blind_health: None,
            traffic: None,
            envoy: None,
            counts: BTreeMap::new(),
            in_flight: Vec::new(),
            violations: Vec::new(),
        };
        world.changed();
        world
    }

    /// A world that has been asleep for long, by our doing.
    pub fn asleep(&self) -> World {
        let mut world = self.up();
        let mut record = self.record(Wanted::Asleep);
        for machine in &mut world.machines {
            machine.power = Power::Stopped;
            machine.changed_by_user = Some(-5000);
            machine.running_since = None;
            machine.we_stop = true;
        }
        record.last_stop = Some(at(-5001));
        for route in &mut world.routes {
            let original = route.actions.clone();
            route.parked = vec![vec![original[1].clone()]];
            route.actions = pointed_at_waker(&original, &waker());
            route.on_waker_since = Some(-6000);
            record.originals.insert(route.id.clone(), original);
        }
        world.stored = Some(record);
        world.past.clear();
        world.changed();
        world
    }

    /// A world that has been awake for long, and known to us.
    pub fn awake(&self) -> World {
        let mut world = self.up();
        world.stored = Some(self.record(Wanted::Awake));
        world
    }

    pub fn record(&self, wanted: Wanted) -> Record {
        Record {
            version: 1,
            wanted,
            adopted: true,
            ..Record::new(self.rule().name, at(-7000))
        }
    }
}
