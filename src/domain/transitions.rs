//! From what is to what is wanted: each function emits the next actions and names the phase.

use super::fault::{Fault, FaultKind};
use super::look::Look;
use super::phase::Phase;
use super::plan::{Action, EventKind};
use super::policy::Needed;
use super::progress;
use super::record::{Attempt, FIRST_PAUSE, Flip, LONGEST_PAUSE, WAKES_REMEMBERED};
use super::rule::{Action as ListenerAction, Side, final_action};
use super::seen::{Parked, Power, ResourceSeen, RouteSeen, Wanted};
use super::time::since;
use super::wish;

impl Look<'_> {
    /// Start what is stopped, wait for health, flip to the backend.
    pub(super) fn towards_awake(&mut self) -> Phase {
        let machines = match self.machines() {
            Ok(machines) => machines,
            Err(fault) => return self.blind(&fault),
        };
        let up = machines
            .iter()
            .any(|m| matches!(m.power, Power::Pending | Power::Running));
        let dead = !machines.is_empty() && !up && !self.started_lately();
        if dead && self.any_route_on(Side::Backend) && self.record.deadline_at.is_none() {
            wish::wake_begins(self);
            self.note_down(Some(self.now));
        }
        self.start(machines);
        if (dead || self.started_again(machines)) && self.any_route_on(Side::Backend) {
            // Nothing can serve, so the waker's page is better than the load balancer's bare 503. This is also what
            // repairs a stop and a flip that crossed each other.
            self.keep_parked();
            if !self.pauses(Attempt::Flip) {
                self.flip_to_waker();
            }
            return self.waking_phase(machines);
        }
        if self.all_surely_on(Side::Backend) {
            let serves = |m: &ResourceSeen| m.power == Power::Running && !self.stop_in_doubt(m);
            if self.record.deadline_at.is_some() && !machines.iter().any(serves) {
                return self.waking_phase(machines);
            }
            self.arrived(machines);
            return Phase::Awake;
        }
        let ready = match &self.seen.health {
            Ok(health) => self.ready(machines, health),
            Err(_) if self.rule.policy.healthy == Needed::AtLeast(0) => self.ready(machines, &[]),
            Err(fault) => {
                self.keep_parked();
                return self.blind(fault);
            }
        };
        if ready && !self.pauses(Attempt::Flip) && self.flip_to_backend() {
            return Phase::Switching;
        }
        self.keep_parked();
        self.waking_phase(machines)
    }

    /// Flip to the waker, settle, stop. Never in another order.
    pub(super) fn towards_asleep(&mut self) -> Phase {
        let machines = match self.machines() {
            Ok(machines) => machines,
            Err(fault) => return self.blind(&fault),
        };
        if !self.all_routes_on(Side::Waker) {
            self.record.settling_since = None;
            self.keep_parked();
            if let Some(failure) = self.pausing(&[Attempt::Flip, Attempt::Park]) {
                return Phase::Failed(failure.reason.clone());
            }
            self.flip_to_waker();
            return Phase::Settling;
        }
        self.keep_parked();
        if !self.all_surely_on(Side::Waker) {
            self.record.settling_since = None;
            return Phase::Settling;
        }
        let now = self.now;
        self.record.settling_since.get_or_insert(now);
        if machines
            .iter()
            .all(|m| matches!(m.power, Power::Stopped | Power::Terminated))
        {
            if self.started_lately() {
                return Phase::Stopping;
            }
            self.record.failures.retain(|of, _| *of == Attempt::Park);
            // Nothing is left to stop, so nothing is left to prove.
            self.record.prove_from = None;
            if self.record.snapshot.phase != Phase::Asleep {
                let why = self.record.wanted_by.clone();
                self.event(EventKind::Slept, why);
            }
            return Phase::Asleep;
        }
        if self.now < self.settled_at() || !self.proven_unused() {
            return Phase::Settling;
        }
        if let Err(fault) = &self.seen.health {
            // Without the targets nobody can tell that these are all machines, and the right ones.
            return self.blind(fault);
        }
        if let Some(failure) = self.pausing(&[Attempt::Stop]) {
            return Phase::Failed(failure.reason.clone());
        }
        self.stop(machines);
        Phase::Stopping
    }

    fn stop(&mut self, machines: &[ResourceSeen]) {
        let running = machines.iter().filter(|m| m.power == Power::Running);
        let resources: Vec<_> = running.map(|m| m.id.clone()).collect();
        // The ledger's word that a route is on the waker is enough to wait, and not enough to stop: see it first.
        let seen_on_waker = self.seen.routes.iter().all(|route| route.side == Side::Waker);
        let asked = machines.iter().any(|m| self.stop_in_doubt(m));
        if !resources.is_empty() && seen_on_waker && !asked {
            self.record.last_stop = Some(self.now);
            let kind = self.rule.policy.stop;
            self.actions.push(Action::Stop { resources, kind });
        }
    }

    fn start(&mut self, machines: &[ResourceSeen]) {
        let stable = self
            .record
            .last_start
            .is_some_and(|start| since(self.now, start) >= LONGEST_PAUSE);
        let wanted = || machines.iter().filter(|m| !self.stays_stopped(m));
        if stable && wanted().all(|m| m.power == Power::Running) {
            self.record.failures.remove(&Attempt::Start);
            self.record.starts = 0;
        }
        if let Some(reason) = self.fell_back(machines) {
            self.fail(Attempt::Start, FIRST_PAUSE, reason);
        }
        let stopped = machines
            .iter()
            .filter(|m| m.power == Power::Stopped && !self.stays_stopped(m));
        let (resources, downs): (Vec<_>, Vec<_>) = stopped.map(|m| (m.id.clone(), m.changed_by_user)).unzip();
        if !resources.is_empty() && self.may_start() {
            self.note_down(downs.into_iter().flatten().max());
            self.record.last_start = Some(self.now);
            self.record.starts = self.record.starts.saturating_add(1);
            self.actions.push(Action::Start { resources });
        }
    }

    /// What was to be seen could not be seen: nothing is decided, and the page says why.
    fn blind(&mut self, fault: &Fault) -> Phase {
        if !self.pauses(Attempt::Look) {
            self.fail(Attempt::Look, fault.pause(), fault.sentence());
            if let Some(failure) = self.record.failures.get_mut(&Attempt::Look) {
                failure.kind = Some(fault.kind);
            }
        }
        let failed = || Phase::Failed(fault.sentence());
        let passing = fault.kind == FaultKind::Throttled && self.record.adopted;
        let before = self.record.snapshot.phase.clone();
        match (self.record.wanted, before) {
            (Wanted::Asleep, before @ (Phase::Asleep | Phase::Awake | Phase::Misconfigured(_))) => before,
            (Wanted::Asleep, before @ (Phase::Settling | Phase::Stopping)) if passing => before,
            (Wanted::Asleep, Phase::Starting | Phase::Checking | Phase::Switching) if passing => Phase::Settling,
            (
                Wanted::Asleep,
                Phase::Settling
                | Phase::Stopping
                | Phase::Starting
                | Phase::Checking
                | Phase::Switching
                | Phase::Failed(_),
            ) => failed(),
            (Wanted::Awake, before @ (Phase::Starting | Phase::Checking | Phase::Switching))
                if passing && !self.overdue() =>
            {
                before
            }
            // The site may serve, whatever cannot be seen of it.
            (Wanted::Awake, Phase::Awake | Phase::Asleep | Phase::Settling | Phase::Stopping)
                if self.all_surely_on(Side::Backend) && !self.overdue() =>
            {
                Phase::Awake
            }
            (Wanted::Awake, Phase::Asleep | Phase::Settling | Phase::Stopping | Phase::Awake)
                if passing && !self.overdue() =>
            {
                Phase::Starting
            }
            (
                Wanted::Awake,
                Phase::Asleep
                | Phase::Starting
                | Phase::Checking
                | Phase::Switching
                | Phase::Awake
                | Phase::Settling
                | Phase::Stopping
                | Phase::Failed(_)
                | Phase::Misconfigured(_),
            ) => failed(),
        }
    }

    fn waking_phase(&self, machines: &[ResourceSeen]) -> Phase {
        let wanted = || machines.iter().filter(|m| !self.stays_stopped(m));
        let others = self.pausing(&[Attempt::Park, Attempt::Flip, Attempt::Stop]);
        // A machine that is up again tells that its start's failure is over.
        let starts = self
            .pausing(&[Attempt::Start])
            .filter(|_| wanted().any(|m| m.power == Power::Stopped));
        if let Some(failure) = starts.or(others) {
            return Phase::Failed(failure.reason.clone());
        }
        let all_run = wanted().all(|m| m.power == Power::Running && !self.stop_in_doubt(m));
        match (self.overdue(), all_run, &self.seen.health) {
            (true, true, Ok(health)) => Phase::Failed(progress::unhealthy_in_words(health)),
            (true, _, _) => Phase::Failed("The machine did not start in time.".to_owned()),
            (false, true, _) => Phase::Checking,
            (false, false, _) => Phase::Starting,
        }
    }

    fn arrived(&mut self, machines: &[ResourceSeen]) {
        let some_down = machines.iter().any(|m| m.power == Power::Stopped);
        // Of several machines one may still refuse to start, and is not asked more often for it.
        self.record
            .failures
            .retain(|of, failure| *of == Attempt::Start && some_down || *of == Attempt::Count || failure.lasting);
        let now = self.now;
        self.record.awake_since.get_or_insert(now);
        let began = self.record.waking_since.take().unwrap_or(self.record.wanted_since);
        if self.record.deadline_at.take().is_none() {
            return;
        }
        let took = since(self.now, began).as_secs();
        // What merely flips back while it settles tells nothing of how long a start takes.
        if self.record.last_start.is_some_and(|start| start >= began) {
            self.record.wakes.push(u32::try_from(took).unwrap_or(u32::MAX));
            let surplus = self.record.wakes.len().saturating_sub(WAKES_REMEMBERED);
            self.record.wakes.drain(..surplus);
        }
        let why = format!("{}; took {took} s", self.record.wanted_by);
        self.event(EventKind::Woke, why);
        if let Some(woke) = self.events.last_mut() {
            woke.took = Some(took);
        }
    }

    /// Remembers what R does, keeps it alive in P, then points R at the waker.
    fn flip_to_waker(&mut self) {
        for route in self.routes_in_turn() {
            // A Describe that still shows the waker cannot tell what R does now; it will, within a minute.
            if self.side(route) == Side::Waker || route.side == Side::Waker {
                continue;
            }
            let actions = match self.record.originals.get(&route.id) {
                // This Describe may be older than what we replaced a moment ago. If it is not, R is not as remembered, the
                // flip changes nothing, and in a minute Describe is right.
                Some(original) if self.wrote_lately(route) && !same_final(&route.actions, original) => original.clone(),
                Some(_) | None => route.actions.clone(),
            };
            if !self.park(route, &actions) {
                continue;
            }
            self.record.originals.insert(route.id.clone(), actions.clone());
            self.ask(route, Side::Waker);
            let route = route.id.clone();
            self.actions.push(Action::FlipToWaker { route, actions });
        }
    }

    /// Whether a route was left to flip whose original action is known.
    fn flip_to_backend(&mut self) -> bool {
        let before = self.actions.len();
        for route in self.routes_in_turn() {
            if !self.surely_on(route, Side::Backend)
                && let Some(actions) = self.original(route)
            {
                self.ask(route, Side::Backend);
                let route = route.id.clone();
                self.actions.push(Action::FlipToBackend { route, actions });
            }
        }
        let flips = self.actions.len() > before;
        if flips {
            // Nobody could use it that way before, so what was not used proves nothing.
            self.record.awake_since = None;
        }
        flips
    }

    fn ask(&mut self, route: &RouteSeen, side: Side) {
        let at = self.now;
        self.record.asked.insert(route.id.clone(), Flip { side, at });
    }

    /// P is what shows the health of a backend that no other rule forwards to: it has to be there, once, and right.
    fn keep_parked(&mut self) {
        let seen = self.seen;
        for route in &seen.routes {
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

    /// Whether P keeps this alive, or is about to.
    fn park(&mut self, route: &RouteSeen, original: &[ListenerAction]) -> bool {
        let parked_lately = self.record.parks.get(&route.id).is_some_and(|at| self.lately(*at));
        let remembered = self.seen.record.originals.get(&route.id);
        let kept = match &route.parked {
            Parked::One(parked) => same_final(parked, original),
            Parked::Missing => false,
            Parked::Many(_) => false,
        };
        if kept || (parked_lately && remembered.is_some_and(|remembered| same_final(remembered, original))) {
            return true;
        }
        if self.pauses(Attempt::Park) {
            return false;
        }
        self.actions.push(Action::Park {
            route: route.id.clone(),
            actions: original.to_vec(),
        });
        true
    }
}

/// AWS may print one action in two ways (with and without `ForwardConfig`, with stickiness switched off or not named), so
/// what they do is compared.
fn same_final(one: &[ListenerAction], other: &[ListenerAction]) -> bool {
    let does = |actions: &[ListenerAction]| {
        final_action(actions).map(|last| {
            let stickiness = last.forward_config.as_ref().and_then(|forward| {
                let stickiness = forward.target_group_stickiness_config.as_ref();
                stickiness
                    .filter(|stickiness| stickiness.enabled == Some(true))
                    .cloned()
            });
            (last.kind.clone(), last.groups(), stickiness, last.rest.clone())
        })
    };
    does(one) == does(other)
}
