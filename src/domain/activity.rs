//! What metrics can show of a rule's use.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::policy::Policy;
use super::rule::{GroupId, ResourceId};
use super::seen::Fact;
use super::time::{Timestamp, after, before};

/// The points of load balancers lie this far apart in CloudWatch.
pub const MINUTE: Duration = Duration::from_secs(60);
/// The points of machines lie this far apart with EC2's basic monitoring.
pub const MACHINE_PERIOD: Duration = Duration::from_secs(300);

/// What to ask the metrics about one rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// The target groups behind the rule.
    pub groups: Vec<Backend>,
    /// The machines whose load may count as use; empty when no veto is on.
    pub machines: Vec<ResourceId>,
    /// What of their load: each metric that is asked for is paid for.
    pub network: bool,
    pub cpu: bool,
    /// The points lie this far apart.
    pub period: Duration,
    /// The start of the first period that matters. Whole periods.
    pub from: Timestamp,
    /// The end of the last period that is old enough to be complete. Whole periods, after `from`.
    pub until: Timestamp,
}

/// A target group and the load balancer it serves: its metrics have both for dimensions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    pub group: GroupId,
    /// Its ARN.
    pub load_balancer: String,
}

/// The answer: what was counted, and which minutes are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Activity {
    pub groups: BTreeMap<GroupId, GroupActivity>,
    pub machines: BTreeMap<ResourceId, Load>,
}

/// One target group, by the starts of its periods: minutes, unless the question says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct GroupActivity {
    /// Requests (`RequestCount`, `Sum`). A minute without any has no point, which alone proves nothing.
    pub requests: BTreeMap<Timestamp, u64>,
    /// The minutes for which `HealthyHostCount` has a point: in them the metrics were alive.
    pub alive: BTreeSet<Timestamp>,
}

/// One machine, by the starts of five-minute periods. A period without a point is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Load {
    /// `NetworkIn` and `NetworkOut` together, bytes in five minutes; a period that lacks one of the two is left out.
    pub network: BTreeMap<Timestamp, u64>,
    /// `CPUUtilization`, the mean of five minutes in percent, rounded up.
    pub cpu: BTreeMap<Timestamp, u8>,
}

/// A question and what came back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Counted {
    pub question: Question,
    pub answer: Fact<Activity>,
}

/// What the minutes of an answer come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tally {
    /// The end of the last minute that is known, with all before it. The start of the window when none is.
    pub known_until: Timestamp,
    /// The end of the last minute with a request, or for which nothing proves that there was none.
    pub last_use: Option<Timestamp>,
}

impl Question {
    /// Goes through the minutes. A minute is known when every group was alive in it or in a later one; a minute that is
    /// known and in which a group was not alive counts as use: missing is not zero.
    pub fn tally(&self, activity: &Activity) -> Tally {
        self.tally_before(self.until, activity)
    }

    /// As `tally`, of the minutes before `end` alone. That points of theirs are lost is told by later ones too.
    pub fn tally_before(&self, end: Timestamp, activity: &Activity) -> Tally {
        let alive = |backend: &Backend| activity.groups.get(&backend.group).map(|group| &group.alive);
        let newest = |backend| alive(backend).and_then(|minutes| minutes.range(self.from..self.until).next_back());
        let known_until = self
            .groups
            .iter()
            .map(|backend| newest(backend).map_or(self.from, |minute| after(*minute, self.period)))
            .min()
            .unwrap_or(self.from)
            .min(end);
        let requested = |minute: Timestamp| {
            let groups = activity.groups.values();
            groups
                .into_iter()
                .any(|group| group.requests.get(&minute).is_some_and(|count| *count > 0))
        };
        let proven = |minute: Timestamp| {
            self.groups
                .iter()
                .all(|backend| alive(backend).is_some_and(|minutes| minutes.contains(&minute)))
        };
        // A request is a use, however little is known of its minute; a missing point is one only when later ones are there.
        let unproven = |minute: Timestamp| minute < known_until && !proven(minute);
        let used = periods(self.from, end, self.period).filter(|minute| requested(*minute) || unproven(*minute));
        Tally {
            known_until,
            last_use: used.last().map(|minute| after(minute, self.period)),
        }
    }
}

/// What a machine's load says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Burden {
    Idle,
    /// Above a threshold of the policy, in words.
    Busy(String),
    /// Points are missing: it may be busy.
    Unknown(String),
}

/// What the load of a machine over the last 15 minutes before `until` says, of which it ran since `launched`.
pub fn burden(
    policy: &Policy,
    machine: &ResourceId,
    load: Option<&Load>,
    launched: Timestamp,
    until: Timestamp,
) -> Burden {
    let end = floor(until, MACHINE_PERIOD);
    let periods: Vec<Timestamp> = (1..=3)
        .map(|ago| before(end, MACHINE_PERIOD * ago))
        .filter(|start| *start >= launched)
        .collect();
    let count = periods.len() as u64;
    let unknown = |what: &str| Burden::Unknown(format!("{what} of {machine} is not known for the last 15 minutes"));
    if let Some(most) = policy.busy_network {
        let known: Option<Vec<u64>> = periods.iter().map(|at| load?.network.get(at).copied()).collect();
        match known.filter(|known| !known.is_empty()) {
            None => return unknown("the network traffic"),
            Some(bytes) => {
                let a_minute = bytes.iter().sum::<u64>() / (count * 5);
                if a_minute > most {
                    return Burden::Busy(format!("{machine} moves {a_minute} bytes a minute, more than {most}"));
                }
            }
        }
    }
    if let Some(most) = policy.busy_cpu {
        let known: Option<Vec<u8>> = periods.iter().map(|at| load?.cpu.get(at).copied()).collect();
        match known.filter(|known| !known.is_empty()) {
            None => return unknown("the processor's load"),
            Some(percent) => {
                let mean = percent.iter().map(|value| u64::from(*value)).sum::<u64>() / count;
                if mean > u64::from(most) {
                    return Burden::Busy(format!("{machine} uses {mean} % of its processor, more than {most} %"));
                }
            }
        }
    }
    Burden::Idle
}

/// The periods from `from` up to `until`, by their starts.
pub fn periods(from: Timestamp, until: Timestamp, period: Duration) -> impl Iterator<Item = Timestamp> {
    let starts = std::iter::successors(Some(from), move |start| Some(after(*start, period)));
    starts.take_while(move |start| *start < until)
}

/// The start of the period of this length that `at` lies in; periods are counted from the epoch.
pub fn floor(at: Timestamp, period: Duration) -> Timestamp {
    let length = i64::try_from(period.as_secs()).unwrap_or(i64::MAX).max(1);
    let start = at.as_second().div_euclid(length) * length;
    Timestamp::from_second(start).unwrap_or(Timestamp::MIN)
}

/// The end of the period that `at` lies in; `at` itself when it is the start of one.
pub fn ceiling(at: Timestamp, period: Duration) -> Timestamp {
    let start = floor(at, period);
    if start == at { at } else { after(start, period) }
}
