//! AWS's bad habits, each switchable while the cloud runs, and the token buckets of AWS's API throttling.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Which habits are on. The default is a quiet cloud. As JSON this is the body of `PATCH /_local/faults`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Every AWS call takes this much longer, in milliseconds.
    pub latency_ms: u64,
    /// On top of `latency_ms`, up to this much more, drawn anew for each call.
    pub jitter_ms: u64,
    /// Calls are throttled by AWS's token buckets.
    pub throttle: bool,
    /// Starts are refused with `InsufficientInstanceCapacity`.
    pub no_capacity: bool,
    /// A start is accepted, and the instance falls back to `stopped` (as with a KMS key that may not be used).
    pub falls_back: bool,
    /// The volumes of all instances are encrypted with the KMS key of this ARN; empty is not encrypted.
    pub encrypted_with: String,
    /// The share (0 to 1) of writing calls that take effect while their answer is lost with the connection.
    pub lost_response: f64,
    /// The calls whose answers can be lost; none named is all that write.
    pub lost_calls: Vec<String>,
    /// Describes answer with the state of a moment up to this many milliseconds ago, drawn anew for each call.
    pub stale_ms: u64,
    /// After a rule is changed, its old and its new action are both live for this many milliseconds.
    pub propagation_ms: u64,
    /// Invocations of the function are throttled.
    pub lambda_throttle: bool,
    /// The metrics of this time are never there.
    pub metrics_outage: bool,
    /// The points of metrics are published so many seconds later than usual.
    pub metrics_late: u64,
    /// Every call of CloudWatch is refused as not authorized.
    pub metrics_denied: bool,
    /// Names of calls that are refused as not authorized, such as `StartInstances`.
    pub denied: Vec<String>,
    /// Names of calls that answer an internal error without taking effect.
    pub broken: Vec<String>,
}

/// Burst and refill per second of the calls that AWS throttles account-wide, by the name of their bucket.
///
/// Source: "Throttling for the Amazon EC2 API", "Request throttling for the Elastic Load Balancing API" and, for GetMetricData,
/// "CloudWatch service quotas".
const BUCKETS: [(&str, f64, f64); 6] = [
    ("elb-describe", 40.0, 10.0),
    ("elb-write", 20.0, 3.0),
    ("ec2-describe-paged", 100.0, 20.0),
    ("ec2-start", 5.0, 2.0),
    ("ec2-stop", 50.0, 5.0),
    ("metric-data", 50.0, 50.0),
];

/// The state of the token buckets. A bucket is full until it is used.
#[derive(Debug, Clone, Default)]
pub struct Buckets {
    levels: BTreeMap<&'static str, (Timestamp, f64)>,
}

impl Buckets {
    /// Takes one token for `call`; false when there is none. `filtered`: the call asks with a filter or by page, which
    /// is what AWS throttles of `DescribeInstances`. Calls that AWS does not throttle in this way always pass.
    pub fn take(&mut self, now: Timestamp, call: &str, filtered: bool) -> bool {
        let Some((name, burst, refill)) = bucket(call, filtered) else {
            return true;
        };
        let (since, level) = self.levels.get(name).copied().unwrap_or((now, burst));
        let refilled = now.duration_since(since).as_secs_f64().max(0.0) * refill;
        let level = (level + refilled).min(burst);
        let granted = level >= 1.0;
        self.levels
            .insert(name, (now, if granted { level - 1.0 } else { level }));
        granted
    }
}

fn bucket(call: &str, filtered: bool) -> Option<(&'static str, f64, f64)> {
    let name = match call {
        "DescribeInstances" if filtered => "ec2-describe-paged",
        "StartInstances" => "ec2-start",
        "StopInstances" => "ec2-stop",
        "GetMetricData" => "metric-data",
        "DescribeLoadBalancers"
        | "DescribeListeners"
        | "DescribeRules"
        | "DescribeTags"
        | "DescribeTargetGroups"
        | "DescribeTargetHealth"
        | "DescribeTargetGroupAttributes" => "elb-describe",
        "ModifyRule"
        | "CreateRule"
        | "DeleteRule"
        | "AddTags"
        | "RemoveTags"
        | "CreateTargetGroup"
        | "DeleteTargetGroup"
        | "ModifyTargetGroup"
        | "ModifyTargetGroupAttributes"
        | "RegisterTargets"
        | "DeregisterTargets"
        | "SetRulePriorities" => "elb-write",
        _ => return None,
    };
    BUCKETS.into_iter().find(|(known, ..)| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_have_awss_burst_and_refill() {
        let start = Timestamp::from_second(1_000).unwrap();
        for (call, burst, refill) in [
            ("DescribeRules", 40, 10),
            ("ModifyRule", 20, 3),
            ("StartInstances", 5, 2),
            ("StopInstances", 50, 5),
        ] {
            let mut buckets = Buckets::default();
            let granted = (0..burst + 7).filter(|_| buckets.take(start, call, false)).count();
            assert_eq!(granted, burst, "{call}: burst");
            let later = Timestamp::from_second(1_001).unwrap();
            let granted = (0..burst + 7).filter(|_| buckets.take(later, call, false)).count();
            assert_eq!(granted, refill, "{call}: refill");
        }
    }

    #[test]
    fn describes_of_elb_share_a_bucket_and_plain_describes_of_instances_have_none() {
        let now = Timestamp::from_second(1_000).unwrap();
        let mut buckets = Buckets::default();
        assert_eq!((0..60).filter(|_| buckets.take(now, "DescribeTags", false)).count(), 40);
        assert!(!buckets.take(now, "DescribeTargetHealth", false));
        assert_eq!(
            (0..200)
                .filter(|_| buckets.take(now, "DescribeInstances", false))
                .count(),
            200
        );
        assert_eq!(
            (0..200)
                .filter(|_| buckets.take(now, "DescribeInstances", true))
                .count(),
            100
        );
    }
}
