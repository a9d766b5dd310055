//! What the findings rest on.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::account::{Deployed, EncryptedVolume, GroupSettings, Limits, Machine};
use crate::domain::fault::FaultKind;
use crate::domain::rule::{GroupId, ResourceId};
use crate::domain::table::{ListenerRule, RouteTable};
use crate::drive::Preview;

/// Everything that was asked, as far as it was answered.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The listeners that the command line's environment names.
    pub listeners: Vec<String>,
    /// `AUTOSTOPPING_LISTENERS`, `AUTOSTOPPING_WAKER` and `AUTOSTOPPING_LEDGER` of the command line.
    pub environment: BTreeMap<String, String>,
    /// How long a request is held at most.
    pub hold_limit: Duration,
    /// None when the load balancer or the ledger could not be read.
    pub table: Option<RouteTable>,
    pub rules: Vec<Preview>,
    pub groups: BTreeMap<GroupId, GroupSettings>,
    pub machines: BTreeMap<ResourceId, Machine>,
    pub volumes: Vec<EncryptedVolume>,
    pub limits: Limits,
    pub wakers: Vec<WakerFacts>,
    /// What is opted in on listeners that nobody watches.
    pub unwatched: Vec<ListenerRule>,
    /// What was not answered.
    pub unseen: Vec<Unseen>,
}

/// A waker target group.
#[derive(Debug, Clone)]
pub struct WakerFacts {
    pub group: GroupId,
    /// None when there is no such group, or AWS did not say.
    pub settings: Option<GroupSettings>,
    /// The ARNs that are registered; none when AWS did not say.
    pub registered: Option<Vec<String>>,
    /// The functions among them that exist.
    pub functions: Vec<Deployed>,
    /// Those among them that do not.
    pub missing: Vec<String>,
}

/// A question without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    /// The call, as IAM writes it.
    pub operation: String,
    pub kind: FaultKind,
    pub message: String,
}
