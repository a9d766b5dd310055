//! What CloudWatch would have: requests and healthy targets by group and minute, load by instance and five minutes.
//!
//! A point is published once, some time after its period, and never for the period under way.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{Failure, HealthState, Power, World};

/// What is measured, by CloudWatch's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    RequestCount,
    HealthyHostCount,
    NetworkIn,
    NetworkOut,
    CpuUtilization,
}

/// The points of everything, each by the start of its period in seconds since 1970. A group is named by its ARN, an
/// instance by its id.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    points: BTreeMap<(Metric, String, i64), Point>,
    /// Up to when the minutes are written.
    written: Option<i64>,
    /// Nothing is kept of what happens now.
    lost: bool,
}

/// CloudWatch's statistics of one period.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    count: f64,
    sum: f64,
    minimum: f64,
    maximum: f64,
}

/// A query of GetMetricData for one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub namespace: String,
    pub metric: String,
    pub dimensions: BTreeMap<String, String>,
    /// `Sum`, `Average`, `Minimum`, `Maximum` or `SampleCount`.
    pub stat: String,
    /// Seconds, a multiple of 60.
    pub period: i64,
}

const MINUTE: i64 = 60;
/// The distance of an instance's points with basic monitoring.
const FIVE_MINUTES: i64 = 300;
/// More than the longest a test or a demo looks back; older points go, so that a long demo stays small.
const KEPT: i64 = 2 * 24 * 3600;
/// What an instance sends and receives in five minutes though nobody uses it.
const IDLE_BYTES: f64 = 12_000.0;
/// The load of an instance that nobody uses, in percent.
const IDLE_CPU: f64 = 2.5;

impl Metric {
    const ALL: [(Self, &'static str, &'static str, i64); 5] = [
        (Self::RequestCount, "AWS/ApplicationELB", "RequestCount", MINUTE),
        (Self::HealthyHostCount, "AWS/ApplicationELB", "HealthyHostCount", MINUTE),
        (Self::NetworkIn, "AWS/EC2", "NetworkIn", FIVE_MINUTES),
        (Self::NetworkOut, "AWS/EC2", "NetworkOut", FIVE_MINUTES),
        (Self::CpuUtilization, "AWS/EC2", "CPUUtilization", FIVE_MINUTES),
    ];

    fn period(self) -> i64 {
        let known = Self::ALL.iter().find(|(metric, ..)| *metric == self);
        known.map_or(MINUTE, |(.., period)| *period)
    }
}

impl Metrics {
    /// One request went to a target of the group `arn`.
    pub fn request(&mut self, now: Timestamp, arn: &str) {
        self.add(Metric::RequestCount, arn, now, 1.0);
    }

    /// So many bytes passed to and from the instance.
    pub fn bytes(&mut self, now: Timestamp, id: &str, into: u64, out: u64) {
        self.runs(now.as_second(), id);
        for (metric, bytes) in [(Metric::NetworkIn, into), (Metric::NetworkOut, out)] {
            self.add(metric, id, now, bytes as f64);
        }
    }

    /// Requests of the group by the start of the minute, oldest first.
    pub fn requests_of(&self, arn: &str) -> Vec<(i64, u64)> {
        let of = self.series(Metric::RequestCount, arn);
        of.map(|(at, point)| (at, point.sum as u64)).collect()
    }

    /// Healthy targets of the group by the start of the minute, oldest first.
    pub fn healthy_of(&self, arn: &str) -> Vec<(i64, u64)> {
        let of = self.series(Metric::HealthyHostCount, arn);
        of.map(|(at, point)| (at, point.sum as u64)).collect()
    }

    /// The instance runs in the five minutes of this second.
    fn runs(&mut self, second: i64, id: &str) {
        let idle = [
            (Metric::NetworkIn, IDLE_BYTES),
            (Metric::NetworkOut, IDLE_BYTES),
            (Metric::CpuUtilization, IDLE_CPU),
        ];
        for (metric, value) in idle {
            self.keep(metric, id, second, |point| *point.get_or_insert(Point::of(value)));
        }
    }

    /// So many targets of the group are healthy in the minute of this second.
    fn healthy(&mut self, second: i64, arn: &str, count: usize) {
        let value = count as f64;
        self.keep(Metric::HealthyHostCount, arn, second, |point| match point {
            // The load balancer's nodes report once a minute: the number that is newest counts.
            Some(point) => Point {
                minimum: point.minimum.min(value),
                maximum: point.maximum.max(value),
                ..Point::of(value)
            },
            None => Point::of(value),
        });
    }

    fn add(&mut self, metric: Metric, of: &str, now: Timestamp, value: f64) {
        self.keep(metric, of, now.as_second(), |point| match point {
            Some(point) => point.with(Point::of(value)),
            None => Point::of(value),
        });
    }

    fn keep(&mut self, metric: Metric, of: &str, second: i64, change: impl FnOnce(&mut Option<Point>) -> Point) {
        if self.lost {
            return;
        }
        let start = second.div_euclid(metric.period()) * metric.period();
        let key = (metric, of.to_owned(), start);
        let mut before = self.points.get(&key).copied();
        let point = change(&mut before);
        self.points.insert(key, point);
    }

    fn series(&self, metric: Metric, of: &str) -> impl Iterator<Item = (i64, Point)> {
        let all = (metric, of.to_owned(), i64::MIN)..=(metric, of.to_owned(), i64::MAX);
        self.points.range(all).map(|((.., at), point)| (*at, *point))
    }
}

impl Point {
    fn of(value: f64) -> Self {
        Self {
            count: 1.0,
            sum: value,
            minimum: value,
            maximum: value,
        }
    }

    fn with(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            sum: self.sum + other.sum,
            minimum: self.minimum.min(other.minimum),
            maximum: self.maximum.max(other.maximum),
        }
    }

    fn stat(self, name: &str) -> Option<f64> {
        match name {
            "Sum" => Some(self.sum),
            "Average" => Some(self.sum / self.count),
            "Minimum" => Some(self.minimum),
            "Maximum" => Some(self.maximum),
            "SampleCount" => Some(self.count),
            _ => None,
        }
    }
}

impl World {
    pub(super) fn count_request(&mut self, now: Timestamp, arn: &str) {
        self.metrics.lost = self.faults.metrics_outage;
        self.metrics.request(now, arn);
    }

    /// So many bytes passed to and from the instance.
    pub fn count_bytes(&mut self, now: Timestamp, id: &str, into: u64, out: u64) {
        self.metrics.lost = self.faults.metrics_outage;
        self.metrics.bytes(now, id, into, out);
    }

    /// Writes the points of the minutes since the last time, with what is true now: called before and after changes.
    pub(super) fn measure(&mut self, now: Timestamp) {
        self.metrics.lost = self.faults.metrics_outage;
        let this = now.as_second().div_euclid(MINUTE) * MINUTE;
        let first = self.metrics.written.map_or(this, |written| written.max(this - KEPT));
        let healthy: Vec<(String, usize)> = self
            .groups
            .iter()
            .filter(|group| !group.targets.is_empty() && !self.balancers_of(&group.arn).is_empty())
            .map(|group| {
                let healthy = group.targets.iter().map(|target| target.health.state);
                let healthy = healthy.filter(|state| *state == HealthState::Healthy).count();
                (group.arn.clone(), healthy)
            })
            .collect();
        let running = self.instances.values().filter(|i| i.life().power == Power::Running);
        let running: Vec<String> = running.map(|instance| instance.id.clone()).collect();
        for minute in (first..=this).step_by(MINUTE as usize) {
            for (arn, count) in &healthy {
                self.metrics.healthy(minute, arn, *count);
            }
            for id in &running {
                self.metrics.runs(minute, id);
            }
        }
        if self.metrics.written.is_some_and(|written| written < this) {
            self.metrics.points.retain(|(.., at), _| *at >= this - KEPT);
        }
        self.metrics.written = Some(this);
    }

    /// The points of one metric from `start` to before `end` (seconds since 1970, whole minutes), as far as they are
    /// published by `now`, oldest first. What nobody measures has none. Periods are counted from `start`.
    pub fn metric_data(
        &self,
        now: Timestamp,
        wanted: &Wanted,
        start: i64,
        end: i64,
    ) -> Result<Vec<(i64, f64)>, Failure> {
        if Point::of(0.0).stat(&wanted.stat).is_none() {
            let message = format!("the local cloud does not know the statistic {}", wanted.stat);
            return Err(Failure::refused("ValidationError", message));
        }
        let Some((metric, of)) = self.measured(wanted) else {
            return Ok(Vec::new());
        };
        let late = Duration::from_secs(self.faults.metrics_late) + self.settings.metrics_delay;
        let published = now.as_second() - i64::try_from(late.as_secs()).unwrap_or(i64::MAX / 2);
        let mut periods: BTreeMap<i64, Point> = BTreeMap::new();
        for (at, point) in self.metrics.series(metric, &of) {
            if at < start || at >= end || at + metric.period() > published {
                continue;
            }
            let begin = start + (at - start) / wanted.period * wanted.period;
            let sum = periods.get(&begin).map_or(point, |before| before.with(point));
            periods.insert(begin, sum);
        }
        let points = periods.into_iter();
        Ok(points
            .filter_map(|(at, point)| Some((at, point.stat(&wanted.stat)?)))
            .collect())
    }

    /// Which of the metrics kept this is, and what it is of; all its dimensions have to be given and no other.
    fn measured(&self, wanted: &Wanted) -> Option<(Metric, String)> {
        let (metric, ..) = Metric::ALL
            .into_iter()
            .find(|(_, namespace, name, _)| (*namespace, *name) == (&wanted.namespace, &wanted.metric))?;
        let dimensions: Vec<(&str, &str)> = wanted
            .dimensions
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        match dimensions.as_slice() {
            [("LoadBalancer", balancer), ("TargetGroup", group)] if metric.period() == MINUTE => {
                let ends = |arn: &str, end: &str| arn.rsplit(':').next() == Some(end);
                let group = self.groups.iter().find(|known| ends(&known.arn, group))?;
                let balancer = format!("loadbalancer/{balancer}");
                let balancers = self.balancers_of(&group.arn);
                let serves = balancers.is_empty() || balancers.iter().any(|arn| ends(arn, &balancer));
                serves.then(|| (metric, group.arn.clone()))
            }
            [("InstanceId", id)] if metric.period() == FIVE_MINUTES => Some((metric, (*id).to_owned())),
            _ => None,
        }
    }
}
