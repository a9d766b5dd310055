//! EC2 instances.

#[cfg(feature = "cli")]
mod account;
mod reading;

use std::collections::HashMap;
use std::future::Future;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::Filter;

use crate::aws::{Lazy, at_once, fault, in_time};
use crate::compute::Compute;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::policy::StopKind;
use crate::domain::rule::ResourceId;
use crate::domain::seen::{Power, ResourceSeen};
use reading::{seen, unknown};

const DESCRIBE: &str = "ec2:DescribeInstances";
const START: &str = "ec2:StartInstances";
const STOP: &str = "ec2:StopInstances";

/// A filter takes at most 200 values. Source: Amazon EC2 API reference, `Filter`.
const IDS_PER_DESCRIBE: usize = 200;
/// The largest page of DescribeInstances. Source: Amazon EC2 API reference.
const PAGE: i32 = 1000;

/// The adapter to EC2. Each of its three calls ends within [`CALL_TIMEOUT`](crate::drive::CALL_TIMEOUT), however many instances it is for.
#[derive(Debug)]
pub struct Ec2 {
    client: Lazy<aws_sdk_ec2::Client>,
}

/// A call for several instances, or for one, that did not succeed.
struct Refused {
    fault: Fault,
    /// Whether calls for the single instances may fare better. After throttling they would only be throttled more, and
    /// after silence there is no time for them.
    divisible: bool,
}

impl Ec2 {
    /// Makes no call.
    pub fn new(client: Lazy<aws_sdk_ec2::Client>) -> Self {
        Ec2 { client }
    }

    /// The private addresses of these instances; one that has none at present, or is unknown, is left out.
    ///
    /// # Errors
    /// When EC2 cannot be asked.
    #[cfg(feature = "proxy")]
    pub async fn addresses(&self, ids: &[ResourceId]) -> Result<Vec<(ResourceId, String)>, Fault> {
        let values = ids.iter().map(|id| id.0.clone()).collect();
        let filter = Filter::builder().name("instance-id").set_values(Some(values)).build();
        let call = self.client.describe_instances().filters(filter);
        let answer = in_time(DESCRIBE, async {
            let pages = call.into_paginator().send();
            let pages: Result<Vec<_>, _> = pages.collect().await;
            pages.map_err(|error| fault(DESCRIBE, error))
        });
        let pages = answer.await?;
        let instances = pages
            .iter()
            .flat_map(|page| page.reservations())
            .flat_map(|one| one.instances());
        let found = instances.filter_map(|one| Some((one.instance_id()?, one.private_ip_address()?)));
        Ok(found
            .map(|(id, address)| (ResourceId(id.to_owned()), address.to_owned()))
            .collect())
    }

    /// By filter, not by id: an id that does not exist is missing in the answer instead of failing the call.
    async fn describe_all(&self, ids: &[ResourceId]) -> Result<Vec<ResourceSeen>, Fault> {
        let mut found = HashMap::new();
        for batch in ids.chunks(IDS_PER_DESCRIBE) {
            let values = batch.iter().map(|id| id.0.clone()).collect();
            let filter = Filter::builder().name("instance-id").set_values(Some(values)).build();
            let call = self.client.describe_instances().filters(filter).max_results(PAGE);
            let mut pages = call.into_paginator().send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|error| fault(DESCRIBE, error))?;
                for instance in page.reservations().iter().flat_map(|one| one.instances()) {
                    let seen = seen(instance)?;
                    found.insert(seen.id.clone(), seen);
                }
            }
        }
        let all = ids
            .iter()
            .map(|id| found.get(id).cloned().unwrap_or_else(|| unknown(id)));
        Ok(all.collect())
    }

    async fn start_stopped(&self, ids: &[ResourceId]) -> Result<(), Fault> {
        let mut first = None;
        let mut stopped = Vec::new();
        for seen in self.describe_all(ids).await? {
            match seen.power {
                Power::Stopped => stopped.push(seen.id),
                Power::Pending | Power::Running => {}
                Power::Stopping => {
                    let words = format!("{} is still stopping", seen.id);
                    first.get_or_insert(Fault::new(FaultKind::Conflict, START, words));
                }
                Power::Terminated => {
                    let words = format!("{} is terminated or unknown", seen.id);
                    first.get_or_insert(Fault::new(FaultKind::NotFound, START, words));
                }
            }
        }
        let refused = in_batch(&stopped, |ids| start_call(self.client.clone(), ids)).await;
        first
            .or_else(|| refused.into_iter().next().map(|(_, fault)| fault))
            .map_or(Ok(()), Err)
    }

    async fn stop_running(&self, ids: &[ResourceId], kind: StopKind) -> Result<(), Fault> {
        let mut refused = in_batch(ids, |ids| stop_call(self.client.clone(), ids, kind)).await;
        // What is gone needs no stop, and what is in no state to be stopped may be stopped already.
        refused.retain(|(_, fault)| fault.kind != FaultKind::NotFound);
        let conflicts = refused.iter().filter(|(_, fault)| fault.kind == FaultKind::Conflict);
        let conflicts: Vec<_> = conflicts.map(|(id, _)| id.clone()).collect();
        let seen = self.describe_all(&conflicts).await?;
        let at_rest = |power| matches!(power, Power::Stopping | Power::Stopped | Power::Terminated);
        let rests = |id: &ResourceId| seen.iter().any(|seen| seen.id == *id && at_rest(seen.power));
        refused.retain(|(id, _)| !rests(id));
        refused.into_iter().next().map_or(Ok(()), |(_, fault)| Err(fault))
    }
}

impl Compute for Ec2 {
    async fn describe(&self, ids: &[ResourceId]) -> Result<Vec<ResourceSeen>, Fault> {
        in_time(DESCRIBE, self.describe_all(ids)).await
    }

    async fn start(&self, ids: &[ResourceId]) -> Result<(), Fault> {
        in_time(START, self.start_stopped(ids)).await
    }

    async fn stop(&self, ids: &[ResourceId], kind: StopKind) -> Result<(), Fault> {
        in_time(STOP, self.stop_running(ids, kind)).await
    }
}

/// One call for all, and if one of them spoils it, one call for each. Returns those that were refused, in order.
async fn in_batch<F>(ids: &[ResourceId], call: impl Fn(Vec<ResourceId>) -> F) -> Vec<(ResourceId, Fault)>
where
    F: Future<Output = Result<(), Refused>> + Send + 'static,
{
    if ids.is_empty() {
        return Vec::new();
    }
    let Err(refused) = call(ids.to_vec()).await else {
        return Vec::new();
    };
    if ids.len() == 1 || !refused.divisible {
        return ids.iter().map(|id| (id.clone(), refused.fault.clone())).collect();
    }
    let singles: Vec<F> = ids.iter().map(|id| call(vec![id.clone()])).collect();
    let refused = ids.iter().zip(at_once(singles).await);
    refused
        .filter_map(|(id, result)| Some((id.clone(), result.err()?.fault)))
        .collect()
}

async fn start_call(client: aws_sdk_ec2::Client, ids: Vec<ResourceId>) -> Result<(), Refused> {
    let call = client.start_instances().set_instance_ids(Some(texts(ids)));
    call.send().await.map(drop).map_err(|error| refused(START, error))
}

async fn stop_call(client: aws_sdk_ec2::Client, ids: Vec<ResourceId>, kind: StopKind) -> Result<(), Refused> {
    let call = client.stop_instances().set_instance_ids(Some(texts(ids)));
    match kind {
        StopKind::Stop => call.send().await.map(drop).map_err(|error| refused(STOP, error)),
        StopKind::Hibernate => match call.clone().hibernate(true).send().await {
            Ok(_) => Ok(()),
            Err(error) if cannot_hibernate(&error) => call.send().await.map(drop).map_err(|error| refused(STOP, error)),
            Err(error) => Err(refused(STOP, error)),
        },
    }
}

/// Whether the instance was launched without hibernation. Not `UnsupportedOperation`, which EC2 answers while an agent
/// is not ready to hibernate *yet*: that passes, and a plain stop would lose the memory that hibernation is to keep.
fn cannot_hibernate<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    error.code() == Some("UnsupportedHibernationConfiguration")
}

fn refused<E, R>(operation: &str, error: SdkError<E, R>) -> Refused
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let answered = matches!(error, SdkError::ServiceError(_));
    let fault = fault(operation, error);
    let divisible = answered && fault.kind != FaultKind::Throttled;
    Refused { fault, divisible }
}

fn texts(ids: Vec<ResourceId>) -> Vec<String> {
    ids.into_iter().map(|id| id.0).collect()
}

#[cfg(test)]
mod tests;
