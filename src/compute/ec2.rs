//! EC2 instances.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Filter, Instance, InstanceStateName};

use super::Compute;
use crate::aws::fault;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::policy::StopKind;
use crate::domain::rule::ResourceId;
use crate::domain::seen::{Power, ResourceSeen};
use crate::domain::time::Timestamp;

/// A filter holds at most 200 values.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html>
const IDS_A_CALL: usize = 200;
/// AWS sets it on every member of a group and lets nobody else.
const SCALING_GROUP_TAG: &str = "aws:autoscaling:groupName";

/// The adapter to EC2.
#[derive(Debug, Clone)]
pub struct Ec2 {
    client: Client,
}

#[derive(Debug, Clone, Copy)]
enum Call {
    Start,
    Stop(StopKind),
}

impl Ec2 {
    pub fn new(client: Client) -> Self {
        Ec2 { client }
    }

    async fn start_call(&self, ids: &[ResourceId]) -> Result<(), Fault> {
        let call = self.client.start_instances().set_instance_ids(Some(texts(ids)));
        call.send()
            .await
            .map(drop)
            .map_err(|error| fault("ec2:StartInstances", error))
    }

    async fn stop_call(&self, ids: &[ResourceId], kind: StopKind) -> Result<(), Fault> {
        let hibernate = (kind == StopKind::Hibernate).then_some(true);
        let call = self
            .client
            .stop_instances()
            .set_instance_ids(Some(texts(ids)))
            .set_hibernate(hibernate);
        call.send()
            .await
            .map(drop)
            .map_err(|error| fault("ec2:StopInstances", error))
    }

    async fn stop_or_else_plainly(&self, ids: &[ResourceId], kind: StopKind) -> Result<(), Fault> {
        match (self.stop_call(ids, kind).await, kind) {
            // An instance that cannot hibernate costs as much as one that nobody stops.
            (Err(fault), StopKind::Hibernate)
                if fault.had_no_effect() && !matches!(fault.kind, FaultKind::Denied | FaultKind::Throttled) =>
            {
                tracing::warn!(%fault, "cannot hibernate; stopping instead");
                self.stop_call(ids, StopKind::Stop).await
            }
            (outcome, _) => outcome,
        }
    }

    async fn call(&self, ids: &[ResourceId], call: Call) -> Result<(), Fault> {
        match call {
            Call::Start => self.start_call(ids).await,
            Call::Stop(kind) => self.stop_or_else_plainly(ids, kind).await,
        }
    }

    /// One bad id fails a whole batch, so after a refusal each is tried alone; the first refusal is told.
    async fn one_by_one_if_refused(&self, ids: &[ResourceId], call: Call) -> Result<(), Fault> {
        if ids.is_empty() {
            return Ok(());
        }
        match self.call(ids, call).await {
            Err(refused) if ids.len() > 1 && refused.had_no_effect() && refused.kind != FaultKind::Throttled => {
                let mut first = None;
                for id in ids {
                    if let Err(fault) = self.call(std::slice::from_ref(id), call).await {
                        first.get_or_insert(fault);
                    }
                }
                first.map_or(Ok(()), Err)
            }
            outcome => outcome,
        }
    }

    async fn in_state(&self, ids: &[ResourceId], wanted: impl Fn(Power) -> bool) -> Result<Vec<ResourceId>, Fault> {
        let seen = self.describe(ids).await?;
        Ok(seen
            .into_iter()
            .filter(|machine| wanted(machine.power))
            .map(|machine| machine.id)
            .collect())
    }
}

impl Compute for Ec2 {
    /// By a filter: an unknown id in `InstanceIds` would fail the whole call.
    async fn describe(&self, ids: &[ResourceId]) -> Result<Vec<ResourceSeen>, Fault> {
        let mut found: Vec<ResourceSeen> = Vec::with_capacity(ids.len());
        for ids in ids.chunks(IDS_A_CALL) {
            let filter = Filter::builder()
                .name("instance-id")
                .set_values(Some(texts(ids)))
                .build();
            let mut pages = self.client.describe_instances().filters(filter).into_paginator().send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|error| fault("ec2:DescribeInstances", error))?;
                found.extend(
                    page.reservations()
                        .iter()
                        .flat_map(|reservation| reservation.instances())
                        .map(seen),
                );
            }
        }
        Ok(ids
            .iter()
            .map(|id| {
                found
                    .iter()
                    .find(|machine| machine.id == *id)
                    .cloned()
                    .unwrap_or_else(|| gone(id))
            })
            .collect())
    }

    async fn start(&self, ids: &[ResourceId]) -> Result<(), Fault> {
        // A start of what is not stopped fails the whole batch.
        let stopped = self.in_state(ids, |power| power == Power::Stopped).await?;
        self.one_by_one_if_refused(&stopped, Call::Start).await
    }

    async fn stop(&self, ids: &[ResourceId], kind: StopKind) -> Result<(), Fault> {
        let up = self
            .in_state(ids, |power| matches!(power, Power::Running | Power::Pending))
            .await?;
        self.one_by_one_if_refused(&up, Call::Stop(kind)).await
    }
}

fn texts(ids: &[ResourceId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn gone(id: &ResourceId) -> ResourceSeen {
    ResourceSeen {
        id: id.clone(),
        power: Power::Terminated,
        launched: None,
        changed_by_user: None,
        fell_back: None,
        scaling_group: None,
        other_owner: None,
    }
}

fn seen(instance: &Instance) -> ResourceSeen {
    let id = ResourceId(instance.instance_id().unwrap_or_default().to_owned());
    let power = match instance.state().and_then(|state| state.name()) {
        Some(InstanceStateName::Pending) => Power::Pending,
        Some(InstanceStateName::Running) => Power::Running,
        Some(InstanceStateName::Stopping) => Power::Stopping,
        Some(InstanceStateName::Stopped) => Power::Stopped,
        _ => Power::Terminated,
    };
    let reason = instance
        .state_reason()
        .map(|reason| (reason.code().unwrap_or_default(), reason.message().unwrap_or_default()));
    let tag = |key: &str| {
        instance
            .tags()
            .iter()
            .find(|tag| tag.key() == Some(key))
            .and_then(|tag| tag.value())
            .map(str::to_owned)
    };
    ResourceSeen {
        id,
        power,
        launched: instance
            .launch_time()
            .and_then(|time| Timestamp::from_second(time.secs()).ok()),
        changed_by_user: instance.state_transition_reason().and_then(user_initiated_at),
        fell_back: reason
            .filter(|_| power == Power::Stopped)
            .and_then(|(code, message)| fell_back(code, message)),
        scaling_group: tag(SCALING_GROUP_TAG),
        other_owner: None,
    }
}

/// Why a machine that nobody stopped is stopped. Codes that begin with `Client.UserInitiated` or tell of a shutdown from
/// within are somebody's will.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html>
fn fell_back(code: &str, message: &str) -> Option<String> {
    let wanted =
        code.is_empty() || code.starts_with("Client.UserInitiated") || code == "Client.InstanceInitiatedShutdown";
    (!wanted).then(|| {
        if message.is_empty() || message.starts_with(code) {
            format!("{code}{}", message.strip_prefix(code).unwrap_or_default())
        } else {
            format!("{code}: {message}")
        }
    })
}

/// The time in `User initiated (2026-01-02 15:04:05 GMT)`; AWS documents neither the form nor its absence.
fn user_initiated_at(reason: &str) -> Option<Timestamp> {
    let inside = reason
        .strip_prefix("User initiated")?
        .trim()
        .strip_prefix('(')?
        .strip_suffix(')')?;
    let time = inside
        .strip_suffix("GMT")
        .or_else(|| inside.strip_suffix("UTC"))?
        .trim();
    let (date, clock) = time.split_once(' ')?;
    format!("{date}T{clock}Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_users_call_is_read_or_left_alone() {
        let at = |text: &str| user_initiated_at(text).map(|at| at.to_string());
        assert_eq!(
            at("User initiated (2026-01-02 15:04:05 GMT)").as_deref(),
            Some("2026-01-02T15:04:05Z")
        );
        assert_eq!(
            at("User initiated (2026-01-02 15:04:05 UTC)").as_deref(),
            Some("2026-01-02T15:04:05Z")
        );
        for other in [
            "",
            "User initiated",
            "User initiated ()",
            "Server.SpotInstanceShutdown",
            "User initiated (soon GMT)",
            "(",
        ] {
            assert_eq!(at(other), None, "{other}");
        }
    }

    #[test]
    fn a_fall_is_told_from_somebodys_will() {
        assert_eq!(
            fell_back(
                "Client.UserInitiatedShutdown",
                "Client.UserInitiatedShutdown: User initiated shutdown"
            ),
            None
        );
        assert_eq!(fell_back("Client.UserInitiatedHibernate", ""), None);
        assert_eq!(
            fell_back(
                "Client.InstanceInitiatedShutdown",
                "Client.InstanceInitiatedShutdown: Instance initiated shutdown"
            ),
            None
        );
        assert_eq!(fell_back("", ""), None);
        let kms = fell_back("Client.InternalError", "Client.InternalError: Client error on launch");
        assert_eq!(kms.as_deref(), Some("Client.InternalError: Client error on launch"));
        let capacity = fell_back("Server.InsufficientInstanceCapacity", "no host");
        assert_eq!(
            capacity.as_deref(),
            Some("Server.InsufficientInstanceCapacity: no host")
        );
    }
}
