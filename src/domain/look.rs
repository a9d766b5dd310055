//! One run of `plan`: the facts, and what they say in the light of what is remembered.

use std::time::Duration;

use super::phase::Phase;
use super::plan::{Action, Event, EventKind};
use super::policy::Needed;
use super::record::{Attempt, FIRST_PAUSE, Failure, Flip, LONGEST_PAUSE, Record};
use super::rule::{Action as ListenerAction, Problem, ResourceId, Rule, Side, final_action, with_final};
use super::seen::{Fact, GroupHealth, Parked, Power, ResourceSeen, RouteSeen, Seen};
use super::time::{Timestamp, after, backoff, since};

/// In the first moments after a start the reason shown may still be that of an earlier fall. An action takes up to 12 s,
/// and the facts are from before it.
const REASON_IS_OLD_FOR: Duration = Duration::from_secs(15);

pub(super) struct Look<'a> {
    pub(super) now: Timestamp,
    pub(super) rule: &'a Rule,
    pub(super) seen: &'a Seen,
    pub(super) record: Record,
    pub(super) actions: Vec<Action>,
    pub(super) events: Vec<Event>,
}

impl<'a> Look<'a> {
    pub(super) fn event(&mut self, kind: EventKind, why: String) {
        self.events.push(Event {
            at: self.now,
            kind,
            why,
            took: None,
        });
    }

    /// Where a route leads: for a minute after our own write the ledger knows better than a Describe, unless a later write
    /// of ours had no answer.
    pub(super) fn side(&self, route: &RouteSeen) -> Side {
        let asked_at = self.record.asked.get(&route.id).map(|asked| asked.at);
        match self.record.flips.get(&route.id) {
            Some(flip) if self.lately(flip.at) && asked_at.is_none_or(|asked| asked < flip.at) => flip.side,
            Some(_) | None => route.side,
        }
    }

    /// Whether a route leads there and no write of ours to the other side can be hidden from this look.
    pub(super) fn surely_on(&self, route: &RouteSeen, side: Side) -> bool {
        let ours = [&self.record.flips, &self.record.asked];
        let hidden = |flip: &Flip| flip.side != side && self.lately(flip.at);
        self.side(route) == side && !ours.iter().any(|writes| writes.get(&route.id).is_some_and(hidden))
    }

    /// Whether this look may show the route as it was before a write of ours.
    pub(super) fn wrote_lately(&self, route: &RouteSeen) -> bool {
        let ours = [&self.record.flips, &self.record.asked];
        ours.iter()
            .any(|writes| writes.get(&route.id).is_some_and(|flip| self.lately(flip.at)))
    }

    pub(super) fn all_routes_on(&self, side: Side) -> bool {
        self.seen.routes.iter().all(|route| self.side(route) == side)
    }

    pub(super) fn all_surely_on(&self, side: Side) -> bool {
        self.seen.routes.iter().all(|route| self.surely_on(route, side))
    }

    pub(super) fn any_route_on(&self, side: Side) -> bool {
        self.seen.routes.iter().any(|route| self.side(route) == side)
    }

    /// The routes, another one first after each failure: one that cannot be flipped must not keep the others from it.
    pub(super) fn routes_in_turn(&self) -> Vec<&'a RouteSeen> {
        let failed = |of| {
            self.record
                .failures
                .get(&of)
                .map_or(0, |failure| failure.attempts as usize)
        };
        let mut routes: Vec<_> = self.seen.routes.iter().collect();
        let first = (failed(Attempt::Flip) + failed(Attempt::Park)) % routes.len().max(1);
        routes.rotate_left(first);
        routes
    }

    /// The machines, if they are known. None at all is no knowledge while their target groups cannot be read.
    pub(super) fn machines(&self) -> Fact<&'a [ResourceSeen]> {
        match (&self.seen.resources, &self.seen.health) {
            (Ok(machines), Err(fault)) if machines.is_empty() => Err(fault.clone()),
            (Ok(machines), _) => Ok(machines),
            (Err(fault), _) => Err(fault.clone()),
        }
    }

    /// Not before all routes have been on the waker for `settle`.
    pub(super) fn settled_at(&self) -> Timestamp {
        let settling = self.record.settling_since.unwrap_or(self.now);
        after(settling, self.rule.policy.settle)
    }

    /// So recently that a Describe may not show it yet.
    pub(super) fn lately(&self, at: Timestamp) -> bool {
        since(self.now, at) < self.rule.policy.describe_delay
    }

    /// A stop was asked for after this machine's last start and may be on its way, although it still looks alive.
    pub(super) fn stop_in_doubt(&self, machine: &ResourceSeen) -> bool {
        let Some(asked) = self.record.last_stop else {
            return false;
        };
        matches!(machine.power, Power::Running | Power::Pending)
            && machine.launched.is_none_or(|launched| launched <= asked)
            && self.lately(asked)
    }

    /// The health seen now may be that of a machine's former life.
    fn down_lately(&self) -> bool {
        let downs = [self.record.last_stop, self.record.last_down];
        downs.into_iter().flatten().any(|at| self.lately(at))
    }

    /// Time alone may change what is to be done: something was written so recently that it may not be seen yet, or a machine
    /// is not as the phase has it.
    pub(super) fn in_doubt(&self, phase: &Phase) -> bool {
        let calls = [self.record.last_start, self.record.last_stop, self.record.last_down];
        let lately = calls.into_iter().flatten().any(|at| self.lately(at));
        let rests = |machine: &ResourceSeen| match phase {
            Phase::Awake => machine.power == Power::Running || self.stays_stopped(machine),
            Phase::Asleep => matches!(machine.power, Power::Stopped | Power::Terminated),
            _ => true,
        };
        lately
            || self.seen.routes.iter().any(|route| self.wrote_lately(route))
            || !self.machines().is_ok_and(|machines| machines.iter().all(rests))
    }

    pub(super) fn note_down(&mut self, at: Option<Timestamp>) {
        self.record.last_down = self.record.last_down.max(at);
    }

    /// A start was asked for so recently that `stopped` may be yesterday's news.
    pub(super) fn started_lately(&self) -> bool {
        let (start, stop) = (self.record.last_start, self.record.last_stop);
        start.is_some_and(|start| self.lately(start) && stop.is_none_or(|stop| stop < start))
    }

    /// No start is paused or in doubt. Doubt doubles too: a start that is accepted and comes to nothing, again and again,
    /// may not tell why.
    pub(super) fn may_start(&self) -> bool {
        let (start, stop) = (self.record.last_start, self.record.last_stop);
        let patience = backoff(FIRST_PAUSE, LONGEST_PAUSE, self.record.starts.saturating_sub(1));
        let answered = |start| self.start_failed_since(start) || stop.is_some_and(|stop| start <= stop);
        !self.pauses(Attempt::Start) && start.is_none_or(|start| answered(start) || since(self.now, start) >= patience)
    }

    /// What was dead behind the backend boots by now, and the flip to the waker is still to be made: the look that started
    /// it could not make it. Launched after our flip there, so that it is not the machine's former life that is seen.
    pub(super) fn started_again(&self, machines: &[ResourceSeen]) -> bool {
        let flips = self.record.flips.values().filter(|flip| flip.side == Side::Backend);
        let flipped = flips.map(|flip| flip.at).max();
        let again = |m: &ResourceSeen| m.power == Power::Pending && m.launched > flipped;
        self.record.deadline_at.is_some()
            && !machines.iter().any(|m| m.power == Power::Running)
            && machines.iter().any(again)
    }

    fn start_failed_since(&self, start: Timestamp) -> bool {
        let failure = self.record.failures.get(&Attempt::Start);
        failure.is_some_and(|failure| failure.at >= start)
    }

    /// The last attempt of this kind failed and its pause is not over.
    pub(super) fn pauses(&self, of: Attempt) -> bool {
        self.pausing(&[of]).is_some()
    }

    /// The newest failure of these kinds whose pause is not over.
    pub(super) fn pausing(&self, kinds: &[Attempt]) -> Option<&Failure> {
        let failures = kinds.iter().filter_map(|of| self.record.failures.get(of));
        failures
            .filter(|failure| self.now < failure.retry_at)
            .max_by_key(|failure| failure.at)
    }

    pub(super) fn fail(&mut self, of: Attempt, pause: Duration, reason: String) {
        self.record.note_failure(self.now, of, pause, reason);
    }

    /// One of several stopped by hand stays as its owner left it, until the rule sleeps.
    pub(super) fn stays_stopped(&self, machine: &ResourceSeen) -> bool {
        self.record.left_stopped.contains_key(&machine.id)
    }

    pub(super) fn overdue(&self) -> bool {
        self.record.deadline_at.is_some_and(|deadline| self.now >= deadline)
    }

    /// A start was accepted and the machine is stopped again, by AWS and not by a user (encrypted volume, no host).
    pub(super) fn fell_back(&self, machines: &[ResourceSeen]) -> Option<String> {
        let wanted_since = self.record.wanted_since;
        let start = self.record.last_start.filter(|start| wanted_since <= *start)?;
        if self.start_failed_since(start) || since(self.now, start) < REASON_IS_OLD_FOR {
            return None;
        }
        let fallen = machines.iter().filter(|machine| machine.power == Power::Stopped);
        let mut told = fallen.filter_map(|m| Some((&m.id, m.fell_back.as_ref()?)));
        told.next()
            .map(|(id, why)| format!("{id} fell back to stopped: {why}."))
    }

    /// Each group with a share of the requests has as many healthy targets as the policy wants.
    pub(super) fn ready(&self, machines: &[ResourceSeen], health: &[GroupHealth]) -> bool {
        let is =
            |id: &ResourceId, what: &dyn Fn(&ResourceSeen) -> bool| machines.iter().any(|m| m.id == *id && what(m));
        let serves = |m: &ResourceSeen| m.power == Power::Running;
        if self.down_lately() {
            return false;
        }
        if self.rule.policy.healthy == Needed::AtLeast(0) {
            return machines.iter().any(serves);
        }
        let mut groups = health
            .iter()
            .filter(|group| group.weighted && !group.targets.is_empty())
            .peekable();
        groups.peek().is_some()
            && groups.all(|group| {
                let expected = group
                    .targets
                    .iter()
                    .filter(|t| !is(&t.resource, &|m| self.stays_stopped(m)))
                    .count();
                let healthy = group
                    .targets
                    .iter()
                    .filter(|t| t.healthy && is(&t.resource, &serves))
                    .count();
                let needed = self.rule.policy.healthy.of(u32::try_from(expected).unwrap_or(u32::MAX));
                healthy > 0 && healthy >= needed as usize
            })
    }

    /// All that speaks against managing the rule: what its tags say, and what this look found.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = self.rule.problems.clone();
        if self.seen.routes.is_empty() {
            problems.push(Problem::NoRoutes);
        }
        for group in self
            .seen
            .health
            .iter()
            .flatten()
            .filter(|group| group.target_type != "instance")
        {
            problems.push(Problem::TargetType {
                group: group.id.clone(),
                kind: group.target_type.clone(),
            });
        }
        let no_targets = self
            .seen
            .health
            .as_ref()
            .is_ok_and(|groups| groups.iter().all(|group| group.targets.is_empty()));
        if problems.is_empty() && no_targets {
            problems.push(Problem::NoTargets);
        }
        for machine in self.seen.resources.iter().flatten() {
            let instance = || machine.id.clone();
            if machine.power == Power::Terminated {
                problems.push(Problem::Terminated { instance: instance() });
            }
            if let Some(group) = machine.scaling_group.clone() {
                problems.push(Problem::InAutoScalingGroup {
                    instance: instance(),
                    group,
                });
            }
            if let Some(by) = machine.other_way.clone() {
                let instance = instance();
                problems.push(Problem::SecondWay { instance, by });
            }
            if let Some(other) = machine.other_owner.clone() {
                problems.push(Problem::SharedInstance {
                    instance: instance(),
                    other,
                });
            }
        }
        let on_waker = self.seen.routes.iter().filter(|route| self.side(route) == Side::Waker);
        for route in on_waker.filter(|route| self.original(route).is_none()) {
            problems.push(Problem::OriginalLost {
                route: route.id.clone(),
            });
        }
        problems
    }

    /// R's original actions: its final one from the ledger, else from the parked rule. What authenticates never leaves R,
    /// and may have been changed there since.
    pub(super) fn original(&self, route: &RouteSeen) -> Option<Vec<ListenerAction>> {
        if let Some(actions) = self.record.originals.get(&route.id) {
            return match final_action(actions) {
                Some(last) if !route.actions.is_empty() => Some(with_final(&route.actions, last)),
                Some(_) | None => Some(actions.clone()),
            };
        }
        let parked = match &route.parked {
            Parked::Missing => return None,
            Parked::One(actions) => actions,
            Parked::Many(copies) => copies
                .first()
                .filter(|first| copies.iter().all(|copy| copy == *first))?,
        };
        Some(with_final(&route.actions, final_action(parked)?))
    }
}
