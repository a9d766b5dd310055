//! What only an operator asks of EC2 and writes to it.

use aws_sdk_ec2::types::{DeviceType, Filter, Instance, Tag};

use super::{DESCRIBE, Ec2, IDS_PER_DESCRIBE, PAGE, reading, texts};
use crate::aws::fault;
use crate::domain::account::{EncryptedVolume, Machine};
use crate::domain::fault::Fault;
use crate::domain::rule::ResourceId;

const CREATE_TAGS: &str = "ec2:CreateTags";
const DELETE_TAGS: &str = "ec2:DeleteTags";
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

    /// The instances that have a tag of this name, whatever its value, in no order.
    ///
    /// # Errors
    /// What AWS refuses.
    #[cfg(feature = "proxy")]
    pub async fn machines_tagged(&self, key: &str) -> Result<Vec<Machine>, Fault> {
        self.machines_by(Filter::builder().name("tag-key").values(key).build())
            .await
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
