//! Request counts per target group and minute, as CloudWatch would have them: no requests, no data point.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// What the load balancer counted. A minute without requests has no entry, as on AWS.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    requests: BTreeMap<(String, i64), u64>,
    healthy: BTreeMap<(String, i64), u64>,
}

impl Metrics {
    /// One request went to the target group `arn`.
    pub fn request(&mut self, now: Timestamp, arn: &str) {
        *self.requests.entry((arn.to_owned(), minute(now))).or_default() += 1;
    }

    /// So many targets of the group are healthy now; the newest value of a minute stays.
    pub fn healthy(&mut self, now: Timestamp, arn: &str, count: u64) {
        self.healthy.insert((arn.to_owned(), minute(now)), count);
    }

    /// Requests of the group by the start of the minute (seconds since 1970), oldest first.
    pub fn requests_of(&self, arn: &str) -> Vec<(i64, u64)> {
        series(&self.requests, arn)
    }

    /// Healthy targets of the group by the start of the minute (seconds since 1970), oldest first.
    pub fn healthy_of(&self, arn: &str) -> Vec<(i64, u64)> {
        series(&self.healthy, arn)
    }
}

fn minute(now: Timestamp) -> i64 {
    now.as_second().div_euclid(60) * 60
}

fn series(of: &BTreeMap<(String, i64), u64>, arn: &str) -> Vec<(i64, u64)> {
    of.range((arn.to_owned(), i64::MIN)..=(arn.to_owned(), i64::MAX))
        .map(|((_, at), n)| (*at, *n))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_minute_has_no_point() {
        let mut metrics = Metrics::default();
        for second in [0, 59, 120] {
            metrics.request(Timestamp::from_second(second).unwrap(), "g");
        }
        metrics.request(Timestamp::from_second(60).unwrap(), "h");
        assert_eq!(metrics.requests_of("g"), [(0, 2), (120, 1)]);
    }
}
