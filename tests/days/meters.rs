//! What CloudWatch shows of the sites, in spans instead of points: 30 days of points would cost more than all the rest.
//! A minute without requests has no point; points come late; what happens in an outage never shows.

use std::collections::{BTreeMap, BTreeSet};

use proxymanager::domain::activity::{Activity, GroupActivity, Load, Question};

use super::time::{MINUTE, Moment, SECOND, moment, stamp};

/// The distance of a machine's points.
const PERIOD: Moment = 5 * MINUTE;
/// What a machine moves in five minutes though nobody uses it.
const IDLE_BYTES: u64 = 24_000;
/// How far back the load of machines is told.
const LOAD_SPAN: Moment = 20 * MINUTE;

/// From when to when; open while it lasts.
type Spans = Vec<(Moment, Option<Moment>)>;

#[derive(Default)]
pub struct Meters {
    requests: BTreeMap<String, BTreeMap<Moment, u64>>,
    bytes: BTreeMap<String, BTreeMap<Moment, u64>>,
    /// When a group served the load balancer, and so had a HealthyHostCount.
    in_use: BTreeMap<String, Spans>,
    running: BTreeMap<String, Spans>,
    outages: Spans,
    /// Points are published so much later than they should be.
    pub late: Moment,
}

impl Meters {
    pub fn request(&mut self, now: Moment, group: &str) {
        let minutes = self.requests.entry(group.to_owned()).or_default();
        *minutes.entry(start(now, MINUTE)).or_default() += 1;
    }

    pub fn bytes(&mut self, now: Moment, machine: &str, bytes: u64) {
        let periods = self.bytes.entry(machine.to_owned()).or_default();
        *periods.entry(start(now, PERIOD)).or_default() += bytes;
    }

    pub fn in_use(&mut self, now: Moment, group: &str, is: bool) {
        turn(self.in_use.entry(group.to_owned()).or_default(), now, is);
    }

    pub fn running(&mut self, now: Moment, machine: &str, is: bool) {
        turn(self.running.entry(machine.to_owned()).or_default(), now, is);
    }

    pub fn outage(&mut self, now: Moment, is: bool) {
        turn(&mut self.outages, now, is);
    }

    /// How long the machine ran in this span.
    pub fn ran(&self, machine: &str, from: Moment, until: Moment) -> Moment {
        let spans = self.running.get(machine).into_iter().flatten();
        spans
            .map(|(begin, end)| (end.unwrap_or(until).min(until) - (*begin).max(from)).max(0))
            .sum()
    }

    pub fn answer(&self, now: Moment, question: &Question) -> Activity {
        let (from, until) = (moment(question.from), moment(question.until));
        let mut activity = Activity::default();
        for backend in &question.groups {
            let group = &backend.group.0;
            let shown = |minute: &Moment| self.shown(now, *minute, MINUTE);
            let spans = self.in_use.get(group);
            let alive = (from..until)
                .step_by(MINUTE as usize)
                .filter(|minute| shown(minute) && spans.is_some_and(|spans| touches(spans, *minute, *minute + MINUTE)));
            let counted = self
                .requests
                .get(group)
                .into_iter()
                .flat_map(|minutes| minutes.range(from..until));
            let group_activity = GroupActivity {
                requests: counted
                    .filter(|(minute, _)| shown(minute))
                    .map(|(minute, count)| (stamp(*minute), *count))
                    .collect(),
                alive: alive.map(stamp).collect::<BTreeSet<_>>(),
            };
            activity.groups.insert(backend.group.clone(), group_activity);
        }
        for id in &question.machines {
            let mut load = Load::default();
            let first = start(until - LOAD_SPAN, PERIOD);
            for period in (first..until).step_by(PERIOD as usize) {
                let ran = self
                    .running
                    .get(&id.0)
                    .is_some_and(|spans| touches(spans, period, period + PERIOD));
                if ran && period >= until - LOAD_SPAN && period + PERIOD <= until && self.shown(now, period, PERIOD) {
                    let used = self.bytes.get(&id.0).and_then(|periods| periods.get(&period));
                    load.network
                        .insert(stamp(period), IDLE_BYTES + used.copied().unwrap_or(0));
                    load.cpu.insert(stamp(period), 3);
                }
            }
            activity.machines.insert(id.clone(), load);
        }
        activity
    }

    /// Whether the point of this period is published by now, and ever.
    fn shown(&self, now: Moment, begin: Moment, length: Moment) -> bool {
        // Between half a minute and nearly three, another for each point.
        let delay = (30 + (begin / MINUTE).rem_euclid(7) * 20) * SECOND;
        begin + length + delay + self.late <= now && !touches(&self.outages, begin, begin + length)
    }
}

fn turn(spans: &mut Spans, now: Moment, is: bool) {
    match (spans.last_mut(), is) {
        (Some((_, None)), true) | (None | Some((_, Some(_))), false) => {}
        (Some((_, end @ None)), false) => *end = Some(now),
        (None | Some((_, Some(_))), true) => spans.push((now, None)),
    }
}

/// Whether any part of `from..until` lies in a span. The newest spans are what is asked for.
fn touches(spans: &Spans, from: Moment, until: Moment) -> bool {
    let newest_first = spans.iter().rev();
    let mut near = newest_first.take_while(|(_, end)| end.is_none_or(|end| end > from));
    near.any(|(begin, _)| *begin < until)
}

fn start(at: Moment, period: Moment) -> Moment {
    at.div_euclid(period) * period
}
