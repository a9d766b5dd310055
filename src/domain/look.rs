//! One run of `plan`: the facts, and what they say in the light of what is remembered.

use super::plan::{Action, Event, EventKind, SOON};
use super::policy::Needed;
use super::record::{Attempt, DESCRIBE_IS_STALE_FOR, FIRST_PAUSE, Failure, Record};
use super::rule::{Action as ListenerAction, Problem, ResourceId, Rule, Side, final_action, with_final};
use super::seen::{GroupHealth, Parked, Power, ResourceSeen, RouteSeen, Seen};
use super::time::{Timestamp, after, since};
use super::wish;

pub(super) struct Look<'a> {
    pub(super) now: Timestamp,
    pub(super) rule: &'a Rule,
    pub(super) seen: &'a Seen,
    pub(super) record: Record,
    pub(super) actions: Vec<Action>,
    pub(super) events: Vec<Event>,
}

impl Look<'_> {
    pub(super) fn event(&mut self, kind: EventKind, why: String) {
        self.events.push(Event {
            at: self.now,
            kind,
            why,
        });
    }

    /// Where a route leads: for a minute after our own write the ledger knows better than a Describe.
    pub(super) fn side(&self, route: &RouteSeen) -> Side {
        match self.record.flips.get(&route.id) {
            Some(flip) if since(self.now, flip.at) < DESCRIBE_IS_STALE_FOR => flip.side,
            Some(_) | None => route.side,
        }
    }

    pub(super) fn all_routes_on(&self, side: Side) -> bool {
        self.seen.routes.iter().all(|route| self.side(route) == side)
    }

    /// Not before the last route was flipped `settle` ago.
    pub(super) fn settled_at(&self) -> Timestamp {
        let flips = self
            .seen
            .routes
            .iter()
            .filter_map(|route| self.record.flips.get(&route.id))
            .map(|flip| flip.at);
        after(
            flips.fold(self.record.wanted_since, Timestamp::max),
            self.rule.policy.settle,
        )
    }

    /// A stop was asked for after this machine's last start and may be on its way, although it still looks alive.
    pub(super) fn stop_in_doubt(&self, machine: &ResourceSeen) -> bool {
        let Some(asked) = self.record.last_stop else {
            return false;
        };
        matches!(machine.power, Power::Running | Power::Pending)
            && machine.launched.is_none_or(|launched| launched <= asked)
            && since(self.now, asked) < DESCRIBE_IS_STALE_FOR
    }

    /// A start was asked for so recently that `stopped` may be yesterday's news.
    pub(super) fn start_in_doubt(&self) -> bool {
        let Some(asked) = self.record.last_start else {
            return false;
        };
        since(self.now, asked) < FIRST_PAUSE && self.record.last_stop.is_none_or(|stop| stop < asked)
    }

    pub(super) fn may_start(&self) -> bool {
        let failed_since = match (&self.record.failure, self.record.last_start) {
            (Some(failure), Some(start)) => failure.of == Attempt::Start && failure.at >= start,
            (Some(_) | None, _) => false,
        };
        !self.pauses(Attempt::Start) && (!self.start_in_doubt() || failed_since)
    }

    /// The last attempt of this kind failed and its pause is not over.
    pub(super) fn pauses(&self, of: Attempt) -> bool {
        self.record
            .failure
            .as_ref()
            .is_some_and(|failure| failure.of == of && self.now < failure.retry_at)
    }

    pub(super) fn fail(&mut self, of: Attempt, reason: String) {
        self.record.failure = Some(Failure::next(
            self.record.failure.as_ref(),
            self.now,
            of,
            FIRST_PAUSE,
            reason,
        ));
    }

    /// Stopped by hand since this wake began: one of several stays as its owner left it.
    pub(super) fn stays_stopped(&self, machine: &ResourceSeen) -> bool {
        wish::stopped_by_hand(&self.record, machine)
    }

    pub(super) fn overdue(&self) -> bool {
        self.record.deadline_at.is_some_and(|deadline| self.now >= deadline)
    }

    /// A start was accepted and the machine is stopped again, by AWS and not by a user (encrypted volume, no host).
    pub(super) fn fell_back(&self, machines: &[ResourceSeen]) -> Option<String> {
        let start = self
            .record
            .last_start
            .filter(|start| self.record.wanted_since <= *start)?;
        let told = self.record.failure.as_ref().is_some_and(|failure| failure.at >= start);
        // In the first moment after a start the reason may still be that of an earlier fall.
        if told || since(self.now, start) < SOON {
            return None;
        }
        let fallen = machines.iter().filter(|machine| machine.power == Power::Stopped);
        fallen
            .filter_map(|m| {
                m.fell_back
                    .as_ref()
                    .map(|why| format!("{} fell back to stopped: {why}.", m.id))
            })
            .next()
    }

    /// Each group with a share of the requests has as many healthy targets as the policy wants.
    pub(super) fn ready(&self, machines: &[ResourceSeen], health: &[GroupHealth]) -> bool {
        let is =
            |id: &ResourceId, what: &dyn Fn(&ResourceSeen) -> bool| machines.iter().any(|m| m.id == *id && what(m));
        let serves = |m: &ResourceSeen| m.power == Power::Running && !self.stop_in_doubt(m);
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

    /// R's original actions: the ledger's, else made of the parked rule's. P keeps the final action only; what
    /// authenticates never leaves R.
    pub(super) fn original(&self, route: &RouteSeen) -> Option<Vec<ListenerAction>> {
        if let Some(actions) = self.record.originals.get(&route.id) {
            return Some(actions.clone());
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
