//! The world: a pure model of what our programs see of AWS. Time is an argument, nothing is read, sent or slept, and
//! chance comes from a seed, so that a test drives hours in a moment and replays every run.
//!
//! Calls are methods named after AWS's. Things that happen by themselves happen in [`World::advance`], which also says
//! what whoever owns the real side (programs, probes) has to do.

mod deployed;
pub mod expression;
mod failure;
mod faults;
mod group;
mod health;
mod instance;
mod metrics;
mod past;
#[cfg(test)]
mod random;
mod route;
mod rule;
mod shape;
mod table;
mod tags;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

pub use deployed::{Deployed, LATEST, Running};
pub use failure::Failure;
pub use faults::{Buckets, Faults};
pub use group::{HealthCheck, Target, TargetGroup, TargetKind};
pub use health::{Health, HealthState, Outcome, Probe};
pub use instance::{Change, Instance, Life, Power};
pub use metrics::{Metrics, Wanted};
pub use past::Past;
pub use route::{Pick, Routed, group_arns, is_authenticate};
pub use rule::{Balancer, FORWARDED_FOR, Listener, NewRule, Rule, RuleView};
pub use table::{Item, Key, Table, key_item};

/// What stays the same over a world's life.
#[derive(Debug, Clone)]
pub struct Settings {
    pub region: String,
    pub account: String,
    /// How long an instance is `stopping`.
    pub stop: Duration,
    /// Where all chance comes from.
    pub seed: u64,
    /// How long after its period a point of a metric is published.
    pub metrics_delay: Duration,
    /// How many points GetMetricData gives in one page.
    pub metrics_page: usize,
    /// The quota of rules and of target groups on a load balancer; by default 100 of each, and AWS raises them on request.
    pub quota: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            account: "123456789012".to_owned(),
            stop: Duration::from_secs(3),
            seed: 1,
            metrics_delay: Duration::from_secs(60),
            metrics_page: 100_800,
            quota: 100,
        }
    }
}

/// What the real side has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The instance with this id is running: run its program.
    Launch(String),
    /// It begins to stop: ask its program to end.
    Halt(String),
    /// It is stopped: nothing of its program may be left.
    Stopped(String),
    /// Its state has changed to this name: EventBridge would say so.
    Changed(String, &'static str),
}

/// One call of the API, for counting and for looking at afterwards.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Call {
    pub at: String,
    pub name: String,
    /// `ok`, or AWS's error code.
    pub result: String,
}

/// How many calls are kept to look at; the counts are kept for all.
const CALLS_KEPT: usize = 5_000;

/// Everything there is.
#[derive(Debug)]
pub struct World {
    pub settings: Settings,
    pub faults: Faults,
    pub metrics: Metrics,
    tables: BTreeMap<String, Table>,
    instances: BTreeMap<String, Instance>,
    balancers: Vec<Balancer>,
    listeners: Vec<Listener>,
    rules: Vec<Rule>,
    groups: Vec<TargetGroup>,
    deployed: Option<Deployed>,
    buckets: Buckets,
    rng: fastrand::Rng,
    effects: Vec<Effect>,
    /// How many changes of each instance's state have been told.
    announced: BTreeMap<String, usize>,
    rotation: u64,
    counts: BTreeMap<String, u64>,
    calls: std::collections::VecDeque<Call>,
}

impl World {
    /// An empty world.
    pub fn new(settings: Settings) -> Self {
        let rng = fastrand::Rng::with_seed(settings.seed);
        Self {
            settings,
            rng,
            faults: Faults::default(),
            metrics: Metrics::default(),
            tables: BTreeMap::new(),
            instances: BTreeMap::new(),
            balancers: Vec::new(),
            listeners: Vec::new(),
            rules: Vec::new(),
            groups: Vec::new(),
            deployed: None,
            buckets: Buckets::default(),
            effects: Vec::new(),
            announced: BTreeMap::new(),
            rotation: 0,
            counts: BTreeMap::new(),
            calls: std::collections::VecDeque::new(),
        }
    }

    /// Lets everything happen that is due by `now`, and says what the real side has to do.
    pub fn advance(&mut self, now: Timestamp) -> Vec<Effect> {
        // What was true up to now, and then what has become of it.
        self.measure(now);
        self.advance_instances(now);
        self.advance_targets(now);
        self.settle_health(now);
        self.measure(now);
        for (id, instance) in &self.instances {
            // The state an instance is found in first is not a change.
            let announced = self.announced.entry(id.clone()).or_insert(instance.changes());
            let news = instance.states_since(*announced);
            self.effects.extend(news.map(|name| Effect::Changed(id.clone(), name)));
            *announced = instance.changes();
        }
        for table in self.tables.values_mut() {
            table.expire(now);
        }
        std::mem::take(&mut self.effects)
    }

    /// Admits a call or refuses it as throttled, denied or broken, before it takes effect. `filtered` is whether a
    /// describe asks by filter or page.
    pub fn admit(&mut self, now: Timestamp, service: Service, call: &str, filtered: bool) -> Result<(), Failure> {
        let denied = self.faults.denied.iter().any(|denied| denied == call);
        if denied || (self.faults.metrics_denied && service == Service::CloudWatch) {
            let message = format!("You are not authorized to perform this operation: {call}.");
            return Err(match service {
                Service::Ec2 => Failure::trouble(403, "UnauthorizedOperation", message),
                Service::Elb | Service::CloudWatch => Failure::trouble(403, "AccessDenied", message),
                Service::DynamoDb => Failure::refused("AccessDeniedException", message),
                Service::Lambda => Failure::trouble(403, "AccessDeniedException", message),
            });
        }
        if self.faults.broken.iter().any(|broken| broken == call) {
            let code = match service {
                Service::Elb => "InternalFailure",
                Service::CloudWatch => "InternalServiceFault",
                Service::Lambda => "ServiceException",
                Service::Ec2 | Service::DynamoDb => "InternalError",
            };
            return Err(Failure::trouble(500, code, "An internal error has occurred"));
        }
        if self.faults.throttle && !self.buckets.take(now, call, filtered) {
            return Err(match service {
                Service::Ec2 => Failure::trouble(503, "RequestLimitExceeded", "Request limit exceeded."),
                Service::Lambda => Failure::trouble(429, "TooManyRequestsException", "Rate exceeded"),
                Service::Elb | Service::DynamoDb | Service::CloudWatch => {
                    Failure::refused("Throttling", "Rate exceeded")
                }
            });
        }
        Ok(())
    }

    /// Notes a call and how it ended.
    pub fn note_call(&mut self, now: Timestamp, name: &str, failure: Option<&Failure>) {
        *self.counts.entry(name.to_owned()).or_default() += 1;
        if self.calls.len() == CALLS_KEPT {
            self.calls.pop_front();
        }
        let result = failure.map_or_else(|| "ok".to_owned(), |failure| failure.code.clone());
        self.calls.push_back(Call {
            at: now.to_string(),
            name: name.to_owned(),
            result,
        });
    }

    /// How often each call was made since the beginning or the last [`World::forget_calls`].
    pub fn call_counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    /// The newest calls, oldest first.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter()
    }

    /// Starts counting calls anew.
    pub fn forget_calls(&mut self) {
        self.counts.clear();
        self.calls.clear();
    }

    /// Whether the answer of this call gets lost, and how long the call takes on top, by the faults that are on.
    pub fn draw_mishap(&mut self, call: &str, writes: bool) -> (bool, Duration) {
        let named = &self.faults.lost_calls;
        let can_be_lost = if named.is_empty() {
            writes
        } else {
            named.iter().any(|name| name == call)
        };
        let lost = can_be_lost && self.faults.lost_response > 0.0 && self.rng.f64() < self.faults.lost_response;
        let jitter = if self.faults.jitter_ms > 0 {
            self.rng.u64(0..=self.faults.jitter_ms)
        } else {
            0
        };
        (lost, Duration::from_millis(self.faults.latency_ms + jitter))
    }

    /// The moment as of which this describe answers: now, or some time before when describes are stale.
    pub(super) fn stale_moment(&mut self, now: Timestamp) -> Timestamp {
        match self.faults.stale_ms {
            0 => now,
            stale => now - Duration::from_millis(self.rng.u64(0..=stale)),
        }
    }

    /// A number drawn from the seed, `0..below`.
    pub(super) fn draw(&mut self, below: u64) -> u64 {
        self.rng.u64(0..below.max(1))
    }

    /// An id for an answer, in the form of AWS's.
    pub fn request_id(&mut self) -> String {
        let digits = self.hex(32);
        format!(
            "{}-{}-{}-{}-{}",
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
            &digits[20..]
        )
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits)
            .map(|_| char::from_digit(self.rng.u32(0..16), 16).unwrap_or('0'))
            .collect()
    }

    fn elb_arn(&self, rest: &str) -> String {
        let Settings { region, account, .. } = &self.settings;
        format!("arn:aws:elasticloadbalancing:{region}:{account}:{rest}")
    }
}

/// Which of AWS's services a call belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Ec2,
    Elb,
    DynamoDb,
    CloudWatch,
    Lambda,
}

impl Service {
    /// What its actions begin with in a policy of IAM.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Elb => "elasticloadbalancing",
            Self::DynamoDb => "dynamodb",
            Self::CloudWatch => "cloudwatch",
            Self::Lambda => "lambda",
        }
    }
}

/// The string at `key` of a JSON object.
pub(super) fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}
