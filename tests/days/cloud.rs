//! The truth: the local cloud's world, what its sites' owners and users do, and what went wrong. What is judged is judged
//! by this and never by metrics or by what the driver was shown.

use std::collections::BTreeMap;
use std::time::Duration;

use proxymanager::domain::fault::{Fault, FaultKind};
use proxymanager::domain::rule::Action;
use proxymanager::domain::table::{ListenerRule, RouteTable, TAG_PARKS};
use proxymanager::local::world::{
    HealthCheck, HealthState, NewRule, Outcome, Power, Probe, RuleView, Settings, TargetKind, World, group_arns,
};
use serde_json::{Value, json};

use super::meters::Meters;
use super::table::{read_action, same_final};
use super::time::{MINUTE, Moment, SECOND, stamp};

/// AWS's quota of rules, with a parked one for each, would allow a few more.
const SITES_EACH: usize = 40;

/// A site: what its owner has, and who is there just now.
pub struct Site {
    pub name: String,
    pub listener: String,
    /// One for each route.
    pub hosts: Vec<String>,
    pub routes: Vec<String>,
    pub group: String,
    pub machines: Vec<String>,
    /// The final action of its routes as its owner last set it.
    pub original: Value,
    pub idle: Moment,
    pub open: BTreeMap<u64, Kind>,
    /// When anybody last used it, or meant to.
    pub used: Moment,
    /// When somebody else last had a hand in it.
    pub hand: Moment,
}

/// What shows that a connection is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A request now and then, less than `idle` apart.
    Requests,
    /// Bytes to and from the machine only.
    Network,
    /// A job for whose time an operator keeps the rule awake.
    Kept,
    /// Nothing at all: it may be cut.
    Silent,
}

/// Where a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Waker,
    Served,
    Dead,
}

/// What AWS does to calls just now.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    /// The share of calls that something happens to.
    pub mishaps: f64,
    /// The operation that is refused.
    pub denied: Option<&'static str>,
    /// The share of EventBridge's events that never arrive.
    pub events_lost: f64,
    /// Whether an episode is on, and when the last one ended.
    pub rough: bool,
    pub calm_since: Moment,
}

/// What happens to one call.
pub struct Mishap {
    pub delay: Moment,
    pub fault: Option<Fault>,
    /// It takes effect and its answer is lost.
    pub lost: bool,
}

#[derive(Debug, Default)]
pub struct Told {
    pub stops: u64,
    pub starts: u64,
    pub wakes: u64,
    pub visits: u64,
    pub served: u64,
    pub gave_up: u64,
    pub silent_cut: u64,
    pub cut_by_hand: u64,
    pub dead_by_hand: u64,
    pub dead_by_faults: u64,
    pub deeds: u64,
    pub sweeps: u64,
    pub sweeps_lost: u64,
}

pub struct Cloud {
    pub world: World,
    /// Each with its load balancer.
    pub listeners: Vec<(String, String)>,
    pub waker: String,
    pub sites: Vec<Site>,
    pub meters: Meters,
    pub weather: Weather,
    pub rng: fastrand::Rng,
    pub counts: BTreeMap<&'static str, u64>,
    pub told: Told,
    /// What must not be: the run fails for any of it.
    pub wrong: Vec<String>,
    /// Raised by everything that a Tick might see.
    pub changes: u64,
    /// Raised by every change of a listener rule or its tags.
    pub rule_changes: u64,
    /// How often the route table and the machines were read without a mishap.
    pub reads: (u64, u64),
    /// Machines whose program answers.
    pub up: BTreeMap<String, bool>,
    pub(super) known: BTreeMap<String, (RuleView, BTreeMap<String, String>, ListenerRule)>,
    pub(super) table: Option<RouteTable>,
}

impl Cloud {
    pub fn new(seed: u64, now: Moment) -> Self {
        let mut world = World::new(Settings {
            seed,
            stop: Duration::from_secs(20),
            ..Settings::default()
        });
        // The meters of `days` are used instead.
        world.faults.metrics_outage = true;
        let check = HealthCheck {
            enabled: false,
            ..HealthCheck::default()
        };
        let made = world.create_target_group("waker", TargetKind::Lambda, "", 0, check);
        let waker = made.expect("a group for the waker");
        let mut cloud = Cloud {
            listeners: Vec::new(),
            waker,
            world,
            sites: Vec::new(),
            meters: Meters::default(),
            weather: Weather {
                calm_since: now,
                ..Weather::default()
            },
            rng: fastrand::Rng::with_seed(seed),
            counts: BTreeMap::new(),
            told: Told::default(),
            wrong: Vec::new(),
            changes: 0,
            rule_changes: 0,
            reads: (0, 0),
            up: BTreeMap::new(),
            known: BTreeMap::new(),
            table: None,
        };
        cloud.add_listener(now);
        cloud
    }

    fn add_listener(&mut self, now: Moment) {
        let at = stamp(now);
        let name = format!("shared-{}", self.listeners.len());
        let balancer = self.world.add_balancer(at, &name);
        let actions = vec![json!({ "Type": "forward", "TargetGroupArn": self.waker })];
        let listener = self.world.add_listener(at, &balancer, 80, actions);
        self.listeners.push((listener.expect("a listener"), balancer));
    }

    /// A site with so many machines, all stopped, and routes, all on the backend.
    pub fn add_site(
        &mut self,
        now: Moment,
        name: &str,
        machines: usize,
        routes: usize,
        tags: &[(&str, &str)],
    ) -> usize {
        let at = stamp(now);
        if self.sites.len() / SITES_EACH >= self.listeners.len() {
            self.add_listener(now);
        }
        let listener = self.listeners[self.sites.len() / SITES_EACH].0.clone();
        let check = HealthCheck {
            interval: Duration::from_secs(10),
            healthy: 2,
            unhealthy: 2,
            ..HealthCheck::default()
        };
        let made = self
            .world
            .create_target_group(name, TargetKind::Instance, "HTTP", 80, check);
        let group = made.expect("a group");
        let machines: Vec<String> = (0..machines)
            .map(|number| {
                let boot = Duration::from_secs(self.rng.u64(20..60));
                self.world.add_instance(at, &format!("{name}-{number}"), boot)
            })
            .collect();
        for machine in &machines {
            let enrolled = self.world.enrol(at, &group, &[(machine.clone(), None)]);
            enrolled.expect("a target");
        }
        let original = json!({ "Type": "forward", "TargetGroupArn": group });
        let hosts: Vec<String> = (0..routes)
            .map(|number| format!("{name}-{number}.example.com"))
            .collect();
        let mut site = Site {
            name: name.to_owned(),
            listener,
            routes: Vec::new(),
            group,
            machines,
            original: original.clone(),
            idle: 0,
            open: BTreeMap::new(),
            used: now,
            hand: now,
            hosts,
        };
        let mut tags: BTreeMap<String, String> = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        tags.insert("autostopping:name".to_owned(), name.to_owned());
        for host in &site.hosts {
            let new = NewRule {
                priority: u32::try_from(self.world.rules().len()).expect("few rules"),
                conditions: vec![json!({ "Field": "host-header", "Values": [host] })],
                actions: vec![original.clone()],
                tags: tags.clone(),
                ..NewRule::default()
            };
            let made = self.world.create_rule(at, &site.listener, new);
            site.routes.push(made.expect("a route"));
        }
        self.sites.push(site);
        self.rules_changed(now);
        self.sites.len() - 1
    }

    pub fn site_of(&self, machine: &str) -> Option<usize> {
        let has = |site: &Site| site.machines.iter().any(|id| id == machine);
        self.sites.iter().position(has)
    }

    pub fn running(&self, machine: &str) -> bool {
        let instance = self.world.instance(machine);
        instance.is_some_and(|instance| instance.life().power == Power::Running)
    }

    pub fn all_at_rest(&self, site: usize) -> bool {
        let power = |id: &String| self.world.instance(id).map(|instance| instance.life().power);
        self.sites[site]
            .machines
            .iter()
            .all(|id| power(id) == Some(Power::Stopped))
    }

    /// Whether the route leads to the waker, in truth.
    pub fn on_waker(&self, route: &str) -> bool {
        let rule = self.world.require_rule(route).expect("a site's route");
        let last = rule.view().actions.last().expect("a rule has an action");
        group_arns(last).contains(&self.waker)
    }

    /// To be called after every change of a listener rule.
    pub fn rules_changed(&mut self, now: Moment) {
        self.changes += 1;
        self.rule_changes += 1;
        self.table = None;
        for site in &self.sites {
            let used = !self.world.balancers_of(&site.group).is_empty();
            self.meters.in_use(now, &site.group, used);
        }
    }

    /// The health checks of this machine's target come out like this, often enough to count.
    pub fn probe(&mut self, machine: &str, passes: bool) {
        let Some(site) = self.site_of(machine) else { return };
        let probe = Probe {
            group: self.sites[site].group.clone(),
            target: machine.to_owned(),
            port: 80,
            path: "/".to_owned(),
            timeout: Duration::from_secs(5),
        };
        for _ in 0..2 {
            let outcome = if passes {
                Outcome::Status(200)
            } else {
                Outcome::TimedOut
            };
            self.world.probed(&probe, outcome);
        }
    }

    /// A user's request to this host of the site.
    pub fn request(&mut self, now: Moment, site: usize, host: usize) -> Way {
        let name = &self.sites[site].hosts[host];
        let meant = |conditions: &[Value]| conditions.first().is_some_and(|c| c["Values"][0] == **name);
        let routed = self.world.route(stamp(now), &self.sites[site].listener, meant);
        let action = routed.expect("there is a default rule").action;
        self.sites[site].used = now;
        if group_arns(&action).contains(&self.waker) {
            return Way::Waker;
        }
        let group = self
            .world
            .target_group(&self.sites[site].group)
            .expect("a site's group");
        let states = || group.targets.iter().map(|target| (target.health.state, &target.id));
        let served = states().any(|(state, id)| state == HealthState::Healthy && self.up.get(id) == Some(&true));
        let asked = states().any(|(state, _)| matches!(state, HealthState::Healthy | HealthState::Unhealthy));
        if asked {
            let group = self.sites[site].group.clone();
            self.meters.request(now, &group);
        }
        if served {
            self.told.served += 1;
            return Way::Served;
        }
        let by_hand = now - self.sites[site].hand < 5 * MINUTE;
        match (by_hand, self.is_rough(now)) {
            (true, _) => self.told.dead_by_hand += 1,
            (false, true) => self.told.dead_by_faults += 1,
            (false, false) => self.complain(now, site, "a request was routed to a backend that cannot serve"),
        }
        Way::Dead
    }

    /// Whether AWS has had a bad time until a moment ago.
    pub fn is_rough(&self, now: Moment) -> bool {
        self.weather.rough || now - self.weather.calm_since < 2 * MINUTE
    }

    pub fn complain(&mut self, now: Moment, site: usize, what: &str) {
        let name = &self.sites[site].name;
        self.wrong.push(format!("{} {name}: {what}", stamp(now)));
    }

    /// These machines go down, by the driver or by somebody's hand: everybody on them is cut off.
    pub fn cut(&mut self, now: Moment, machines: &[String], by_hand: bool) {
        for machine in machines
            .iter()
            .filter(|id| self.running(id))
            .cloned()
            .collect::<Vec<_>>()
        {
            self.meters.running(now, &machine, false);
            self.up.insert(machine.clone(), false);
            let Some(site) = self.site_of(&machine) else { continue };
            let open = std::mem::take(&mut self.sites[site].open);
            if by_hand {
                self.told.cut_by_hand += open.len() as u64;
                continue;
            }
            self.told.stops += 1;
            for kind in open.into_values() {
                match kind {
                    Kind::Silent => self.told.silent_cut += 1,
                    Kind::Requests | Kind::Network | Kind::Kept => {
                        self.complain(now, site, &format!("stopped with a connection open ({kind:?})"));
                    }
                }
            }
            let by_hand = now - self.sites[site].hand < MINUTE;
            let routes = self.sites[site].routes.clone();
            if !by_hand && routes.iter().any(|route| !self.on_waker(route)) {
                self.complain(now, site, "stopped while a route leads to it");
            }
        }
    }

    pub fn count(&mut self, call: &'static str, calls: usize) {
        *self.counts.entry(call).or_default() += calls as u64;
    }

    /// What happens to this call, drawn anew for each.
    pub fn mishap(&mut self, call: &'static str, writes: bool) -> Mishap {
        self.count(call, 1);
        let fault = |kind, words: &str| Some(Fault::new(kind, call, words));
        let mut mishap = Mishap {
            delay: 0,
            fault: None,
            lost: false,
        };
        if self.weather.denied == Some(call) {
            mishap.fault = fault(FaultKind::Denied, "AccessDenied: not now");
        } else if self.weather.mishaps > 0.0 && self.rng.f64() < self.weather.mishaps {
            match self.rng.u8(0..4) {
                0 => mishap.fault = fault(FaultKind::Throttled, "Throttling: Rate exceeded"),
                1 if writes => mishap.lost = true,
                1 => mishap.fault = fault(FaultKind::Other, "InternalError: an internal error has occurred"),
                _ => mishap.delay = self.rng.i64(100..6 * SECOND),
            }
        }
        mishap
    }

    /// The parked rules of a route, in truth.
    pub fn parked(&self, route: &str) -> Vec<String> {
        let rules = self.world.rules().iter();
        let parked = rules.filter(|rule| rule.tags.get(TAG_PARKS).map(String::as_str) == Some(route));
        parked.map(|rule| rule.arn.clone()).collect()
    }

    /// Whether the route does what its owner last set.
    pub fn is_original(&self, site: usize, route: &str) -> bool {
        let view = self.world.require_rule(route).expect("a site's route").view();
        let wanted = [read_action(&self.sites[site].original)];
        let is: Vec<Action> = view.actions.iter().map(read_action).collect();
        same_final(&is, &wanted)
    }
}
