//! Judges what happens by the truth of the world.

use proxymanager::domain::plan;
use proxymanager::domain::policy::Needed;
use proxymanager::domain::rule::{Action, RouteId, Side, final_action};
use proxymanager::domain::seen::Power;

use super::drive::owner;
use super::{STALEST, Time, World, at, waker};

/// What happened so recently that nobody could have known when the call was decided: the age of a Describe and the
/// time that calls take.
const UNKNOWABLE: Time = STALEST + 40;

impl World {
    fn violated(&mut self, what: String) {
        self.violations.push(format!("at {}: {what}", self.now));
    }

    /// Called right before an action has its effect.
    pub(super) fn judge(&mut self, action: &plan::Action) {
        match action {
            plan::Action::FlipToBackend { route, .. } => self.judge_flip(route),
            plan::Action::Stop { resources, .. } => {
                let hit = self
                    .machines
                    .iter()
                    .any(|m| resources.contains(&m.id) && m.power == Power::Running);
                if hit {
                    self.judge_stop();
                }
            }
            plan::Action::Park { actions, .. } => {
                if final_action(actions).is_none_or(|last| last.forwards_to_any(&[waker()])) {
                    self.violated("a waker was parked".to_owned());
                }
            }
            plan::Action::FlipToWaker { .. } | plan::Action::Start { .. } => {}
        }
    }

    /// I1: somewhere behind each share of the requests there is a machine seen healthy, and not one that we stop.
    fn judge_flip(&mut self, route: &RouteId) {
        let index = self.routes.iter().position(|r| r.id == *route).unwrap();
        if self.is_on(index) == Side::Backend {
            return;
        }
        let now = self.now;
        let zero = self.rule.policy.healthy == Needed::AtLeast(0);
        let good = |machine: &usize| {
            let m = &self.machines[*machine];
            let healthy = m.healthy_at.is_some_and(|at| now - at <= UNKNOWABLE);
            let running = m.running_since.is_some() || m.by_hand.is_some_and(|(at, _)| now - at <= UNKNOWABLE);
            !m.we_stop && (healthy || (zero && running))
        };
        let shares = self.shape.routes[index].iter().filter(|(_, weight)| *weight > 0);
        let bad: Vec<_> = if zero {
            if (0..self.machines.len()).any(|m| good(&m)) {
                Vec::new()
            } else {
                vec![0]
            }
        } else {
            shares
                .map(|(group, _)| *group)
                .filter(|group| !self.shape.groups[*group].iter().any(good))
                .collect()
        };
        if !bad.is_empty() {
            self.violated(format!(
                "I1: {route} flipped to groups {bad:?} with nothing to serve: {:?}",
                self.machines
            ));
        }
    }

    /// I2: all routes have been on the waker for as long as it takes to settle.
    fn judge_stop(&mut self) {
        self.judge_unused();
        let settle = self.shape.settle as Time;
        for index in 0..self.routes.len() {
            let route = &self.routes[index];
            if route.rewritten_at.is_some_and(|at| self.now - at <= UNKNOWABLE) {
                continue;
            }
            match route.on_waker_since {
                None => self.violated(format!(
                    "I2: stopped while {} leads to the backend",
                    self.routes[index].id
                )),
                Some(since) if self.now - since < settle => {
                    self.violated(format!("I2: stopped {} s after the flip", self.now - since));
                }
                Some(_) => {}
            }
        }
    }

    /// What sleeps because nobody uses it has not been used for `idle`.
    fn judge_unused(&mut self) {
        let idle = self.stored.as_ref().is_some_and(|record| record.prove_from.is_some());
        let used = self.traffic.as_ref().and_then(|traffic| traffic.last);
        if let Some(used) = used.filter(|used| idle && self.now - used < self.shape.idle as Time) {
            self.violated(format!("stopped as idle {} s after its last use", self.now - used));
        }
    }

    /// I8: who stops holds the lease, until the call has had its effect.
    pub(super) fn judge_lease(&mut self, of: usize, action: &plan::Action) {
        let lease = self.stored.as_ref().and_then(|record| record.lease.as_ref());
        let held = lease.is_some_and(|lease| lease.owner == owner(of) && lease.until > at(self.now));
        if matches!(action, plan::Action::Stop { .. }) && !held {
            let holder = lease.map_or("nobody", |lease| &lease.owner).to_owned();
            self.violated(format!("I8: {} stopped under the lease of {holder}", owner(of)));
        }
    }

    /// I10: what the owner gave R is in R, in P or in the ledger.
    pub(super) fn judge_originals(&mut self) {
        if !self.violations.is_empty() {
            return;
        }
        for index in 0..self.routes.len() {
            if !self.copies_of_original(index).iter().any(|kept| *kept) {
                let route = &self.routes[index];
                let short = |actions: &Vec<_>| {
                    final_action(actions).map(|last: &Action| {
                        let forward = last.forward_config.as_ref();
                        let edition = forward.and_then(|f| f.target_group_stickiness_config.as_ref()?.duration_seconds);
                        (last.groups(), edition)
                    })
                };
                let parked: Vec<_> = route.parked.iter().map(short).collect();
                let found = format!("R {:?}, P {parked:?}", short(&route.actions));
                self.violated(format!("I10: the original of {} is lost: {found}", route.id));
            }
        }
    }

    /// Whether the owner's action is in R, in a P, in the ledger.
    pub fn copies_of_original(&self, index: usize) -> [bool; 3] {
        let route = &self.routes[index];
        let is_owners = |action: &Action| {
            let same_order = Action {
                order: route.owners.order,
                ..action.clone()
            };
            same_order == route.owners
        };
        let kept = |actions: &[_]| final_action(actions).is_some_and(is_owners);
        let remembered = self.stored.as_ref().and_then(|record| record.originals.get(&route.id));
        [
            kept(&route.actions),
            route.parked.iter().any(|parked| kept(parked)),
            remembered.is_some_and(|actions| kept(actions)),
        ]
    }

    /// I7: no stop overlaps a start or a flip to the backend of somebody else.
    pub(super) fn judge_overlap(&mut self) {
        let now = self.now;
        self.in_flight
            .retain(|call| call.ends > now || call.ends == now && call.lands.is_some());
        let stops = |action: &plan::Action| matches!(action, plan::Action::Stop { .. });
        let wakes =
            |action: &plan::Action| matches!(action, plan::Action::Start { .. } | plan::Action::FlipToBackend { .. });
        let crossed = self.in_flight.iter().any(|one| {
            stops(&one.action)
                && self
                    .in_flight
                    .iter()
                    .any(|other| one.of != other.of && wakes(&other.action))
        });
        if crossed {
            self.violated("I7: a stop crossed a start or a flip to the backend".to_owned());
        }
    }

    pub fn assert_innocent(&self) {
        assert!(self.violations.is_empty(), "{:#?}", self.violations);
    }
}
