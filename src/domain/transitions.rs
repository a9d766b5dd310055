//! From what is to what is wanted: each function emits the next actions and names the phase.

use super::fault::{Fault, FaultKind};
use super::look::Look;
use super::phase::Phase;
use super::plan::{Action, EventKind};
use super::progress;
use super::record::{Attempt, WAKES_REMEMBERED};
use super::rule::{Action as ListenerAction, Side, final_action};
use super::seen::{Parked, Power, ResourceSeen, RouteSeen, Wanted};
use super::time::{after, since};

impl Look<'_> {
    /// Start what is stopped, wait for health, flip to the backend.
    pub(super) fn towards_awake(&mut self) -> Phase {
        let seen = self.seen;
        let (machines, health) = match (&seen.resources, &seen.health) {
            (Ok(machines), health) => (machines.as_slice(), health),
            (Err(fault), _) => return self.blind(fault),
        };
        let on_backend = self.all_routes_on(Side::Backend);
        let nothing_up = !machines
            .iter()
            .any(|m| matches!(m.power, Power::Pending | Power::Running));
        let dead = nothing_up && !machines.is_empty() && !self.start_in_doubt();
        self.start(machines);
        if on_backend && dead {
            // Nothing can serve, so the waker's page is better than the load balancer's bare 503. This is also what
            // repairs a stop and a flip that crossed each other.
            self.record
                .deadline_at
                .get_or_insert(after(self.now, self.rule.policy.deadline));
            self.flip_to_waker();
            return self.waking_phase(machines);
        }
        if on_backend {
            self.arrived();
            return Phase::Awake;
        }
        self.keep_parked();
        let health = match health {
            Ok(health) => health,
            Err(fault) => return self.blind(fault),
        };
        let at_rest_soon = machines
            .iter()
            .any(|m| m.power == Power::Stopping || self.stop_in_doubt(m));
        let ready = self.ready(machines, health) && (!at_rest_soon || !nothing_up);
        if ready && !self.pauses(Attempt::Flip) && self.flip_to_backend() {
            Phase::Switching
        } else {
            self.waking_phase(machines)
        }
    }

    /// Flip to the waker, settle, stop. Never in another order.
    pub(super) fn towards_asleep(&mut self) -> Phase {
        let seen = self.seen;
        let machines = match &seen.resources {
            Ok(machines) => machines.as_slice(),
            Err(fault) => return self.blind(fault),
        };
        if !self.all_routes_on(Side::Waker) {
            if let Some(failure) = self.record.failure.as_ref().filter(|f| self.now < f.retry_at) {
                return Phase::Failed(failure.reason.clone());
            }
            self.flip_to_waker();
            return Phase::Settling;
        }
        self.keep_parked();
        if machines
            .iter()
            .all(|m| matches!(m.power, Power::Stopped | Power::Terminated))
        {
            self.record.failure = None;
            if self.record.snapshot.phase != Phase::Asleep {
                let why = self.record.wanted_by.clone();
                self.event(EventKind::Slept, why);
            }
            return Phase::Asleep;
        }
        if self.now < self.settled_at() {
            return Phase::Settling;
        }
        if let Some(failure) = self
            .record
            .failure
            .as_ref()
            .filter(|f| f.of == Attempt::Stop && self.now < f.retry_at)
        {
            return Phase::Failed(failure.reason.clone());
        }
        let to_stop: Vec<_> = machines
            .iter()
            .filter(|m| m.power == Power::Running)
            .map(|m| m.id.clone())
            .collect();
        // The ledger's word that a route is on the waker is enough to wait, and not enough to stop: see it first.
        let seen_on_waker = seen.routes.iter().all(|route| route.side == Side::Waker);
        let asked = machines.iter().any(|m| self.stop_in_doubt(m));
        if !to_stop.is_empty() && seen_on_waker && !asked {
            self.record.last_stop = Some(self.now);
            self.actions.push(Action::Stop {
                resources: to_stop,
                kind: self.rule.policy.stop,
            });
        }
        Phase::Stopping
    }

    fn start(&mut self, machines: &[ResourceSeen]) {
        if machines.iter().all(|m| m.power == Power::Running) {
            self.record.failure.take_if(|failure| failure.of == Attempt::Start);
        }
        if let Some(reason) = self.fell_back(machines) {
            self.fail(Attempt::Start, reason);
        }
        let stopped = machines
            .iter()
            .filter(|m| m.power == Power::Stopped && !self.stays_stopped(m));
        let resources: Vec<_> = stopped.map(|m| m.id.clone()).collect();
        if !resources.is_empty() && self.may_start() {
            self.record.last_start = Some(self.now);
            self.actions.push(Action::Start { resources });
        }
    }

    /// What was to be seen could not be seen: nothing is decided, and the page says why.
    fn blind(&mut self, fault: &Fault) -> Phase {
        if !self.pauses(Attempt::Look) {
            self.fail(Attempt::Look, fault.sentence());
        }
        let before = self.record.snapshot.phase.clone();
        match self.record.wanted {
            Wanted::Asleep => before,
            Wanted::Awake if self.all_routes_on(Side::Backend) => before,
            Wanted::Awake if fault.kind == FaultKind::Throttled && !self.overdue() => match before {
                Phase::Starting | Phase::Checking | Phase::Switching => before,
                _ => Phase::Starting,
            },
            Wanted::Awake => Phase::Failed(fault.sentence()),
        }
    }

    fn waking_phase(&self, machines: &[ResourceSeen]) -> Phase {
        let stopped = machines
            .iter()
            .any(|m| m.power == Power::Stopped && !self.stays_stopped(m));
        if let Some(failure) = self
            .record
            .failure
            .as_ref()
            .filter(|failure| self.now < failure.retry_at)
        {
            if failure.of != Attempt::Start || stopped {
                return Phase::Failed(failure.reason.clone());
            }
        }
        let running = |m: &ResourceSeen| m.power == Power::Running && !self.stop_in_doubt(m);
        let all_run = machines.iter().filter(|m| !self.stays_stopped(m)).all(running);
        match (self.overdue(), all_run, &self.seen.health) {
            (true, true, Ok(health)) => Phase::Failed(progress::unhealthy_in_words(health)),
            (true, _, _) => Phase::Failed("The machine did not start in time.".to_owned()),
            (false, true, _) => Phase::Checking,
            (false, false, _) => Phase::Starting,
        }
    }

    fn arrived(&mut self) {
        self.record.failure = None;
        if self.record.deadline_at.take().is_none() {
            return;
        }
        let took = since(self.now, self.record.wanted_since).as_secs();
        self.record.wakes.push(u32::try_from(took).unwrap_or(u32::MAX));
        let surplus = self.record.wakes.len().saturating_sub(WAKES_REMEMBERED);
        self.record.wakes.drain(..surplus);
        let why = format!("{}; took {took} s", self.record.wanted_by);
        self.event(EventKind::Woke, why);
    }

    /// Remembers what R does, keeps it alive in P, then points R at the waker.
    fn flip_to_waker(&mut self) {
        for route in &self.seen.routes {
            // A Describe that still shows the waker cannot tell what R does now; it will, within a minute.
            if self.side(route) == Side::Waker || route.side == Side::Waker {
                continue;
            }
            let actions = route.actions.clone();
            self.record.originals.insert(route.id.clone(), actions.clone());
            self.park(route, &actions);
            self.actions.push(Action::FlipToWaker {
                route: route.id.clone(),
                actions,
            });
        }
    }

    /// Whether a route was left to flip whose original action is known.
    fn flip_to_backend(&mut self) -> bool {
        let before = self.actions.len();
        for route in &self.seen.routes {
            if self.side(route) == Side::Waker
                && let Some(actions) = self.original(route)
            {
                self.actions.push(Action::FlipToBackend {
                    route: route.id.clone(),
                    actions,
                });
            }
        }
        self.actions.len() > before
    }

    /// P is what shows the health of a backend that no other rule forwards to: it has to be there, once, and right.
    fn keep_parked(&mut self) {
        for route in &self.seen.routes {
            if self.side(route) == Side::Waker
                && let Some(actions) = self.original(route)
            {
                self.record
                    .originals
                    .entry(route.id.clone())
                    .or_insert_with(|| actions.clone());
                self.park(route, &actions);
            }
        }
    }

    fn park(&mut self, route: &RouteSeen, original: &[ListenerAction]) {
        let kept = match &route.parked {
            Parked::One(parked) => same_groups(parked, original),
            Parked::Missing | Parked::Many(_) => false,
        };
        if !kept && !self.pauses(Attempt::Park) {
            self.actions.push(Action::Park {
                route: route.id.clone(),
                actions: original.to_vec(),
            });
        }
    }
}

/// AWS may print one action in two ways (with and without `ForwardConfig`); the groups and weights are what counts.
fn same_groups(one: &[ListenerAction], other: &[ListenerAction]) -> bool {
    let groups = |actions: &[ListenerAction]| final_action(actions).map(ListenerAction::groups);
    groups(one) == groups(other)
}
