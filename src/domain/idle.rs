//! When an awake rule is idle, and when a rule that was put to sleep for it is proven unused. Missing is never zero: what
//! the metrics do not show keeps the machine running.

use std::time::Duration;

use super::activity::{Activity, Backend, Burden, Counted, Question, burden, ceiling, floor};
use super::look::Look;
use super::phase::Phase;
use super::record::{Attempt, Record};
use super::rule::{ResourceId, Rule};
use super::seen::{Power, ResourceSeen, Wanted};
use super::time::{Timestamp, after, before, since};
use super::wish;

/// A rule at rest is looked at in full this often, whatever did not change.
pub const REST: Duration = Duration::from_secs(3600);

/// A point that is later than this has been lost.
const LATEST: Duration = Duration::from_secs(1800);

/// What has to be asked of the metrics now, if anything: only what could decide something.
pub fn question(now: Timestamp, rule: &Rule, record: &Record, groups: Vec<Backend>) -> Option<Question> {
    let (from, until) = window(now, rule, record)?;
    let paused = record
        .failures
        .get(&Attempt::Count)
        .is_some_and(|failure| now < failure.retry_at);
    if groups.is_empty() || from >= until || paused || !rule.problems.is_empty() {
        return None;
    }
    let (network, cpu) = (rule.policy.busy_network.is_some(), rule.policy.busy_cpu.is_some());
    let machines: &[ResourceId] = if network || cpu {
        &record.snapshot.resources
    } else {
        &[]
    };
    Some(Question {
        groups,
        machines: machines.to_vec(),
        network,
        cpu,
        period: rule.policy.metrics_period,
        from,
        until,
    })
}

/// The minutes that matter now.
fn window(now: Timestamp, rule: &Rule, record: &Record) -> Option<(Timestamp, Timestamp)> {
    let period = rule.policy.metrics_period;
    let complete = floor(before(now, rule.policy.metrics_delay), period);
    match record.wanted {
        Wanted::Awake => {
            let awake_since = record.awake_since?;
            let kept = record.keep_awake_until.is_some_and(|until| now < until);
            let due = complete >= idle_at(rule, record)? && !kept;
            // What was counted is not asked again, but the last minute: it is then decided anew by the load alone.
            let from = counted_until(rule, record, awake_since).min(before(complete, period));
            // What lies further back decides nothing.
            let oldest = before(complete, rule.policy.idle + LATEST);
            due.then(|| (from.max(oldest), complete))
        }
        // Machines at rest serve nobody: whatever the metrics lack of that time, there is nothing to prove before a stop.
        Wanted::Asleep if record.snapshot.phase == Phase::Asleep => None,
        Wanted::Asleep => {
            let settling = record.settling_since?;
            let settled = now >= after(settling, rule.policy.settle);
            let end = proof_ends(rule, settling);
            let from = record.prove_from.filter(|from| *from < end)?;
            // The load that is asked for is that of the last minutes. What was late will come; what is still missing by
            // then got lost, and newer points have to do.
            let until = if since(complete, end) < LATEST { end } else { complete };
            (settled && complete >= end).then_some((from, until))
        }
    }
}

/// Up to where the requests of an awake rule are counted.
fn counted_until(rule: &Rule, record: &Record, awake_since: Timestamp) -> Timestamp {
    let first = || floor(awake_since, rule.policy.metrics_period);
    record.counted_until.unwrap_or_else(first)
}

/// The end of the first whole period after the one in which the flip took effect.
fn proof_ends(rule: &Rule, settling_since: Timestamp) -> Timestamp {
    let period = rule.policy.metrics_period;
    after(floor(settling_since, period), period * 2)
}

/// The moment up to which no use may be known for the rule to be idle.
fn idle_at(rule: &Rule, record: &Record) -> Option<Timestamp> {
    let uses = [record.awake_since?]
        .into_iter()
        .chain(record.last_use)
        .chain(record.last_request);
    uses.max().map(|used| after(used, rule.policy.idle))
}

/// When an awake rule may be found idle: until then its metrics need no asking.
pub fn due_at(rule: &Rule, record: &Record) -> Option<Timestamp> {
    let at = after(
        ceiling(idle_at(rule, record)?, rule.policy.metrics_period),
        rule.policy.metrics_delay,
    );
    Some(record.keep_awake_until.map_or(at, |until| at.max(until)))
}

impl Look<'_> {
    /// Takes in what was counted, and decides what follows from it.
    pub(super) fn count(&mut self) {
        let Some(Counted { question, answer }) = &self.seen.counted else {
            return;
        };
        // Memory may have moved on since the question was made from it.
        if window(self.now, self.rule, &self.record).is_none_or(|(from, _)| question.from > from) {
            return;
        }
        match answer {
            Ok(activity) => {
                self.record.failures.remove(&Attempt::Count);
                self.weigh(question, activity);
            }
            Err(fault) => {
                self.fail(Attempt::Count, self.rule.policy.metrics_period, fault.sentence());
                self.record.kept_by = Some(format!("the metrics cannot be read: {}", fault.sentence()));
            }
        }
    }

    fn weigh(&mut self, question: &Question, activity: &Activity) {
        let tally = match self.record.settling_since {
            // What comes after the flip has come to an end is no use of the machines.
            Some(settling) if self.record.wanted == Wanted::Asleep => {
                question.tally_before(question.until.min(proof_ends(self.rule, settling)), activity)
            }
            Some(_) | None => question.tally(activity),
        };
        let busy = self.busy(question, activity);
        match self.record.wanted {
            Wanted::Awake => {
                let awake_since = self.record.awake_since.unwrap_or(self.now);
                // Minutes that were not asked for may have been in use, so what follows them has to be idle for its whole time.
                let skipped =
                    Some(question.from).filter(|from| *from > counted_until(self.rule, &self.record, awake_since));
                self.record.counted_until = self.record.counted_until.max(Some(tally.known_until));
                self.record.last_use = self.record.last_use.max(tally.last_use).max(skipped);
                let Some(idle_at) = idle_at(self.rule, &self.record) else {
                    return;
                };
                self.record.kept_by = match (tally.known_until >= idle_at, &busy) {
                    (true, Burden::Busy(why) | Burden::Unknown(why)) => Some(why.clone()),
                    (true, Burden::Idle) => {
                        let idle = since(self.now, before(idle_at, self.rule.policy.idle)).as_secs() / 60;
                        wish::want(self, Wanted::Asleep, format!("idle for {idle} minutes"));
                        self.record.prove_from = Some(tally.known_until);
                        None
                    }
                    (false, _) if tally.last_use.is_some() => None,
                    (false, _) => Some(
                        "metrics are missing: no HealthyHostCount of the load balancer, or no load reports of Envoy"
                            .to_owned(),
                    ),
                };
            }
            Wanted::Asleep => {
                self.record.kept_by = match &busy {
                    Burden::Unknown(why) => Some(why.clone()),
                    Burden::Idle | Burden::Busy(_) => None,
                };
                let used = match (tally.last_use, busy) {
                    (Some(_), _) => Some("requests arrived until the switch, or cannot be excluded".to_owned()),
                    (None, Burden::Busy(why)) => Some(why),
                    (None, Burden::Idle) => {
                        self.record.prove_from = self.record.prove_from.max(Some(tally.known_until));
                        None
                    }
                    (None, Burden::Unknown(_)) => None,
                };
                // What has gone down meanwhile, by a hand or by itself, is not started for what it was asked before.
                let up = self.machines().map_or(true, |machines| machines.iter().any(is_up));
                if let Some(why) = used.filter(|_| up) {
                    wish::want(self, Wanted::Awake, why);
                }
            }
        }
    }

    /// What the load of the running machines says; the busiest word of all counts.
    fn busy(&self, question: &Question, activity: &Activity) -> Burden {
        let policy = &self.rule.policy;
        if policy.busy_network.is_none() && policy.busy_cpu.is_none() {
            return Burden::Idle;
        }
        let Ok(machines) = self.machines() else {
            return Burden::Unknown("the machines cannot be read".to_owned());
        };
        let mut worst = Burden::Idle;
        for machine in machines.iter().filter(|machine| is_up(machine)) {
            let launched = machine.launched.unwrap_or(Timestamp::MAX);
            match burden(
                policy,
                &machine.id,
                activity.machines.get(&machine.id),
                launched,
                question.until,
            ) {
                busy @ Burden::Busy(_) => return busy,
                unknown @ Burden::Unknown(_) => worst = unknown,
                Burden::Idle => {}
            }
        }
        worst
    }

    /// Whether the requests of all minutes since the idle decision are known to be none. What sleeps by a command, a hand
    /// or a failed wake needs no proof.
    pub(super) fn proven_unused(&self) -> bool {
        let (Some(from), Some(settling)) = (self.record.prove_from, self.record.settling_since) else {
            return self.record.prove_from.is_none();
        };
        from >= proof_ends(self.rule, settling)
    }

    /// When a Tick has to look again although nothing changed.
    pub(super) fn rests_until(&self) -> Timestamp {
        let retries = self.record.failures.values().map(|failure| failure.retry_at);
        let retry = retries.filter(|at| *at > self.now).min();
        let longest = retry.map_or(after(self.now, REST), |retry| retry.min(after(self.now, REST)));
        let due = match self.record.wanted {
            Wanted::Awake => due_at(self.rule, &self.record),
            Wanted::Asleep => None,
        };
        let Some(due) = due else { return longest };
        // What was due and did not sleep is kept awake by its load, or by metrics that are missing.
        let period = self.rule.policy.metrics_period;
        let pause = if self.record.kept_by.is_some() {
            period * 5
        } else {
            period
        };
        due.max(after(self.now, pause)).min(longest)
    }
}

fn is_up(machine: &ResourceSeen) -> bool {
    matches!(machine.power, Power::Running | Power::Pending)
}
