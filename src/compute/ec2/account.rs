//! What only an operator asks of EC2 and writes to it.

use aws_sdk_ec2::types::{DeviceType, Filter, Instance, Tag};

use super::{DESCRIBE, Ec2, IDS_PER_DESCRIBE, PAGE, reading, texts};
#[cfg(feature = "proxy")]
use super::{ProvideErrorMetadata, Refused, START, STOP, SdkError, in_batch, refused};
use crate::aws::fault;
#[cfg(feature = "proxy")]
use crate::domain::account::Ingress;
use crate::domain::account::{EncryptedVolume, Machine};
use crate::domain::fault::Fault;
use crate::domain::rule::ResourceId;

const CREATE_TAGS: &str = "ec2:CreateTags";
const DELETE_TAGS: &str = "ec2:DeleteTags";
#[cfg(feature = "proxy")]
const DESCRIBE_GROUPS: &str = "ec2:DescribeSecurityGroups";
const DESCRIBE_VOLUMES: &str = "ec2:DescribeVolumes";

impl Ec2 {
    /// The instances with these ids that EC2 knows, in no order.
    ///
    /// # Errors
    /// What AWS refuses.
    pub async fn machines(&self, ids: &[ResourceId]) -> Result<Vec<Machine>, Fault> {
        let mut found = Vec::new();
        for batch in ids.chunks(IDS_PER_DESCRIBE) {
            found.extend(self.machines_by(any("instance-id", batch)).await?);
        }
        Ok(found)
    }

    /// The instances that have a tag of one of these names, whatever its value, in no order.
    ///
    /// # Errors
    /// What AWS refuses.
    #[cfg(feature = "proxy")]
    pub async fn machines_tagged(&self, keys: &[&str]) -> Result<Vec<Machine>, Fault> {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let filter = Filter::builder().name("tag-key").set_values(Some(keys)).build();
        self.machines_by(filter).await
    }

    async fn machines_by(&self, filter: Filter) -> Result<Vec<Machine>, Fault> {
        let call = self.client.describe_instances().filters(filter).max_results(PAGE);
        let mut pages = call.into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| fault(DESCRIBE, error))?;
            let instances = page
                .reservations()
                .iter()
                .flat_map(|reservation| reservation.instances());
            for instance in instances {
                found.push(machine(instance)?);
            }
        }
        Ok(found)
    }

    /// What the security groups of this instance let in by TCP.
    ///
    /// # Errors
    /// What AWS refuses, and an instance that it does not know.
    #[cfg(feature = "proxy")]
    pub async fn ingress(&self, instance: &ResourceId) -> Result<Vec<Ingress>, Fault> {
        let call = self.client.describe_instances().instance_ids(&instance.0).send().await;
        let answer = call.map_err(|error| fault(DESCRIBE, error))?;
        let instances = answer.reservations().iter().flat_map(|one| one.instances());
        let groups: Vec<String> = instances
            .flat_map(|instance| instance.security_groups())
            .filter_map(|group| group.group_id().map(str::to_owned))
            .collect();
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let call = self
            .client
            .describe_security_groups()
            .set_group_ids(Some(groups))
            .send()
            .await;
        let answer = call.map_err(|error| fault(DESCRIBE_GROUPS, error))?;
        let mut found = Vec::new();
        for group in answer.security_groups() {
            for allowed in group.ip_permissions() {
                let (first, last) = match allowed.ip_protocol() {
                    // All protocols, and with them all ports.
                    Some("-1") => (0, u16::MAX),
                    Some("tcp" | "6") => (port(allowed.from_port(), 0), port(allowed.to_port(), u16::MAX)),
                    _ => continue,
                };
                let four = allowed.ip_ranges().iter().filter_map(|range| range.cidr_ip());
                let six = allowed.ipv6_ranges().iter().filter_map(|range| range.cidr_ipv6());
                let lists = allowed
                    .prefix_list_ids()
                    .iter()
                    .filter_map(|list| list.prefix_list_id());
                let groups = allowed.user_id_group_pairs().iter().filter_map(|pair| pair.group_id());
                found.push(Ingress {
                    group: group.group_id().unwrap_or_default().to_owned(),
                    first,
                    last,
                    sources: four.chain(six).chain(lists).chain(groups).map(str::to_owned).collect(),
                });
            }
        }
        Ok(found)
    }

    /// Whether these instances could be started and stopped by whoever asks: those that could not be, each with what AWS says to
    /// a call that changes nothing.
    #[cfg(feature = "proxy")]
    pub async fn forbidden(&self, ids: &[ResourceId]) -> Vec<(ResourceId, Fault)> {
        let start = in_batch(ids, |ids| {
            let call = self
                .client
                .start_instances()
                .set_instance_ids(Some(texts(ids)))
                .dry_run(true);
            async move { rehearsed(START, call.send().await.map(drop)) }
        });
        let stop = in_batch(ids, |ids| {
            let call = self
                .client
                .stop_instances()
                .set_instance_ids(Some(texts(ids)))
                .dry_run(true);
            async move { rehearsed(STOP, call.send().await.map(drop)) }
        });
        let mut refused = start.await;
        refused.extend(stop.await);
        refused
    }

    /// The encrypted volumes of these instances.
    ///
    /// # Errors
    /// What AWS refuses.
    pub async fn encrypted_volumes(&self, ids: &[ResourceId]) -> Result<Vec<EncryptedVolume>, Fault> {
        let mut found = Vec::new();
        for batch in ids.chunks(IDS_PER_DESCRIBE) {
            let call = self
                .client
                .describe_volumes()
                .filters(any("attachment.instance-id", batch));
            let mut pages = call.into_paginator().send();
            while let Some(page) = pages.next().await {
                for volume in page.map_err(|error| fault(DESCRIBE_VOLUMES, error))?.volumes() {
                    let instances = volume
                        .attachments()
                        .iter()
                        .filter_map(|attachment| attachment.instance_id());
                    if let (Some(id), Some(key)) = (volume.volume_id(), volume.kms_key_id()) {
                        found.extend(instances.map(|instance| EncryptedVolume {
                            id: id.to_owned(),
                            instance: ResourceId(instance.to_owned()),
                            key: key.to_owned(),
                        }));
                    }
                }
            }
        }
        Ok(found)
    }

    /// Gives instances a tag; no error for those that have it.
    ///
    /// # Errors
    /// What AWS refuses.
    pub async fn tag(&self, ids: &[ResourceId], key: &str, value: &str) -> Result<(), Fault> {
        if ids.is_empty() {
            return Ok(());
        }
        let tag = Tag::builder().key(key).value(value).build();
        let call = self
            .client
            .create_tags()
            .set_resources(Some(texts(ids.to_vec())))
            .tags(tag);
        call.send().await.map(drop).map_err(|error| fault(CREATE_TAGS, error))
    }

    /// Takes a tag from instances, whatever its value; no error for those that do not have it.
    ///
    /// # Errors
    /// What AWS refuses.
    pub async fn untag(&self, ids: &[ResourceId], key: &str) -> Result<(), Fault> {
        if ids.is_empty() {
            return Ok(());
        }
        let tag = Tag::builder().key(key).build();
        let call = self
            .client
            .delete_tags()
            .set_resources(Some(texts(ids.to_vec())))
            .tags(tag);
        call.send().await.map(drop).map_err(|error| fault(DELETE_TAGS, error))
    }
}

/// What a dry run says: `DryRunOperation` is its success (Amazon EC2 API reference, "Common client errors").
#[cfg(feature = "proxy")]
fn rehearsed<E, R>(operation: &str, said: Result<(), SdkError<E, R>>) -> Result<(), Refused>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    match said {
        Err(error) if error.code() != Some("DryRunOperation") => Err(refused(operation, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A port as EC2 says it, which for all of them is none or negative.
#[cfg(feature = "proxy")]
fn port(said: Option<i32>, otherwise: u16) -> u16 {
    said.and_then(|port| u16::try_from(port).ok()).unwrap_or(otherwise)
}

fn any(name: &str, ids: &[ResourceId]) -> Filter {
    Filter::builder()
        .name(name)
        .set_values(Some(texts(ids.to_vec())))
        .build()
}

fn machine(instance: &Instance) -> Result<Machine, Fault> {
    let seen = reading::seen(instance)?;
    let tags = instance.tags().iter().filter_map(|tag| {
        let value = tag.value().unwrap_or_default();
        Some((tag.key()?.to_owned(), value.to_owned()))
    });
    let hibernation = instance.hibernation_options();
    Ok(Machine {
        id: seen.id,
        power: seen.power,
        tags: tags.collect(),
        vpc: instance.vpc_id().map(str::to_owned),
        hibernates: hibernation.and_then(|options| options.configured()).unwrap_or_default(),
        instance_store: instance.root_device_type() == Some(&DeviceType::InstanceStore),
    })
}
