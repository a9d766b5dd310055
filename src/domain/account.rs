//! What only an operator's commands read of an account and write to it, in AWS's words. No wake and no sleep needs it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::rule::{GroupId, ResourceId};
use super::seen::Power;

/// The settings of a target group. Source: Elastic Load Balancing API reference, `TargetGroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    pub id: GroupId,
    pub name: String,
    /// `instance`, `ip`, `lambda` or `alb`.
    pub kind: String,
    /// None for functions.
    pub protocol: Option<String>,
    /// None for functions.
    pub port: Option<u16>,
    pub vpc: Option<String>,
    /// Whether targets are checked; those of type `instance` always are.
    pub checked: bool,
    pub interval: Duration,
    /// Successful checks in a row until an unhealthy target is healthy.
    pub successes: u32,
}

impl GroupSettings {
    /// How long a target that answers from now on takes at most until it is healthy.
    pub fn until_healthy(&self) -> Duration {
        self.interval * self.successes
    }
}

/// What an account allows one Application Load Balancer; none when AWS does not say. Source: Elastic Load Balancing API
/// reference, `DescribeAccountLimits`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Listener rules, default rules not counted.
    pub rules: Option<usize>,
    /// Target groups that its rules name.
    pub groups: Option<usize>,
}

/// An instance as an operator has to know it. Source: Amazon EC2 API reference, `Instance`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub id: ResourceId,
    pub power: Power,
    pub tags: BTreeMap<String, String>,
    pub vpc: Option<String>,
    /// Whether it was launched so that it can hibernate.
    pub hibernates: bool,
    /// Its root volume is lost with a stop, so EC2 refuses one.
    pub instance_store: bool,
}

/// An encrypted volume and the key that starting its instance takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedVolume {
    pub id: String,
    pub instance: ResourceId,
    /// The ARN of the KMS key.
    pub key: String,
}

/// A target group of instances to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGroup {
    /// 1 to 32 letters, digits and hyphens.
    pub name: String,
    /// `HTTP` or `HTTPS`.
    pub protocol: String,
    pub port: u16,
    pub vpc: Option<String>,
    /// The path that is checked.
    pub path: String,
    /// The answers that pass, such as `200-399`.
    pub codes: String,
}

/// A listener rule to be made, which forwards to one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRoute {
    pub listener: String,
    pub priority: u32,
    pub host: String,
    /// A pattern; none is every path.
    pub path: Option<String>,
    pub group: GroupId,
    pub tags: BTreeMap<String, String>,
}

/// The function as Lambda has it, behind the ARN that a waker target group names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// As registered, with its qualifier if it has one.
    pub arn: String,
    /// The version that the ARN leads to, such as `$LATEST` or `3`.
    pub version: String,
    /// `Active`, `Pending`, `Inactive` or `Failed`.
    pub state: String,
    /// Why it is in that state, when AWS says so.
    pub state_reason: Option<String>,
    /// `Successful`, `Failed` or `InProgress`; none for a version.
    pub last_update: Option<String>,
    pub timeout: Duration,
    pub environment: BTreeMap<String, String>,
    /// A digest of the code that answers.
    pub code: String,
    /// A digest of the code that was uploaded last.
    pub latest_code: String,
    /// Its resource policy; none when it has none.
    pub policy: Option<String>,
}

/// A port range that a security group lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// The security group's id.
    pub group: String,
    pub first: u16,
    pub last: u16,
    /// CIDRs, prefix lists and other groups.
    pub sources: Vec<String>,
}
