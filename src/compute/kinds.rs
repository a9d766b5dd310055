//! All that a rule of the proxy can run on, told apart by how its id begins.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::aws::Aws;
use crate::config::discovered::ACCESS_POINT;
use crate::domain::account::Machine;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::policy::StopKind;
use crate::domain::rule::ResourceId;
use crate::domain::seen::{Power, ResourceSeen};

use super::Compute;
use super::ec2::Ec2;
use super::program::{PREFIX, Programs};
use super::rds::{CLUSTER, INSTANCE, Rds};

/// What there is to start and stop. Kinds that need AWS are there when the proxy has a Region.
#[derive(Debug, Clone)]
pub struct Kinds {
    pub programs: Programs,
    pub aws: Option<Arc<OnAws>>,
}

/// The kinds of AWS.
#[derive(Debug)]
pub struct OnAws {
    pub ec2: Ec2,
    pub rds: Rds,
    aws: Aws,
    machine: OnceCell<ResourceId>,
}

impl OnAws {
    /// Makes no call.
    pub fn new(aws: &Aws) -> Self {
        OnAws {
            ec2: Ec2::new(aws.ec2()),
            rds: Rds::new(aws.rds()),
            aws: aws.clone(),
            machine: OnceCell::new(),
        }
    }

    /// The machine that this runs on, when it is one of EC2. Asked until it is known.
    pub async fn machine(&self) -> Option<&ResourceId> {
        let asked = self
            .machine
            .get_or_try_init(async || self.aws.instance_id().await.ok_or(()));
        asked.await.ok()
    }
}

/// The kinds of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Program,
    Database,
    Machine,
}

const ALL: [Kind; 3] = [Kind::Program, Kind::Database, Kind::Machine];

fn kind(id: &ResourceId) -> Kind {
    let begins = |prefix| id.0.starts_with(prefix);
    match (begins(PREFIX), begins(INSTANCE) || begins(CLUSTER)) {
        (true, _) => Kind::Program,
        (false, true) => Kind::Database,
        (false, false) => Kind::Machine,
    }
}

/// Where a resource is whose place needs no asking.
pub fn local_host(id: &ResourceId) -> Option<&'static str> {
    (kind(id) == Kind::Program).then_some("127.0.0.1")
}

/// Whether it is a database of RDS.
pub fn is_database(id: &ResourceId) -> bool {
    kind(id) == Kind::Database
}

/// The ids of each kind that is among them.
fn sorted(ids: &[ResourceId]) -> impl Iterator<Item = (Kind, Vec<ResourceId>)> {
    let of = |wanted: Kind| {
        let some: Vec<_> = ids.iter().filter(|id| kind(id) == wanted).cloned().collect();
        (!some.is_empty()).then_some((wanted, some))
    };
    ALL.into_iter().filter_map(of)
}

impl Kinds {
    fn aws(&self) -> Result<&OnAws, Fault> {
        let words = "the proxy has no Region: set region in its configuration";
        let none = || Fault::new(FaultKind::Unsupported, "proxy:region", words);
        self.aws.as_deref().ok_or_else(none)
    }

    /// The addresses of these in the network of the proxy; one that has none at present is left out.
    ///
    /// # Errors
    /// When AWS cannot be asked.
    pub async fn hosts(&self, ids: &[ResourceId]) -> Result<Vec<(ResourceId, String)>, Fault> {
        #[cfg(test)]
        if let Some(world) = crate::played::world() {
            return Ok(world.hosts(ids));
        }
        let mut hosts = Vec::new();
        for (kind, some) in sorted(ids) {
            match kind {
                Kind::Program => {
                    let local = |id: ResourceId| local_host(&id).map(|host| (id.clone(), host.to_owned()));
                    hosts.extend(some.into_iter().filter_map(local));
                }
                Kind::Machine => hosts.extend(self.aws()?.ec2.addresses(&some).await?),
                Kind::Database => {
                    let endpoints = self.aws()?.rds.endpoints(&some).await?;
                    let known = |(id, endpoint): (ResourceId, Option<_>)| Some((id, endpoint?));
                    let found = some.into_iter().zip(endpoints).filter_map(known);
                    hosts.extend(found.map(|(id, endpoint): (_, super::rds::Endpoint)| (id, endpoint.address)));
                }
            }
        }
        Ok(hosts)
    }

    /// The instances that have all of these tags, in the order of their ids; neither what is terminated nor a proxy, which would
    /// stop itself.
    ///
    /// # Errors
    /// When EC2 cannot be asked.
    pub async fn with_tags(&self, tags: &BTreeMap<String, String>) -> Result<Vec<ResourceId>, Fault> {
        let Some(key) = tags.keys().next() else {
            return Ok(Vec::new());
        };
        let aws = self.aws()?;
        let mut found = aws.ec2.machines_tagged(&[key]).await?;
        let here = aws.machine().await;
        let has = |of: &BTreeMap<String, String>| tags.iter().all(|(key, value)| of.get(key) == Some(value));
        let is_proxy = |one: &Machine| one.tags.contains_key(ACCESS_POINT) || Some(&one.id) == here;
        found.retain(|one| one.power != Power::Terminated && has(&one.tags) && !is_proxy(one));
        let mut ids: Vec<_> = found.into_iter().map(|machine| machine.id).collect();
        ids.sort();
        Ok(ids)
    }
}

impl Compute for Kinds {
    async fn describe(&self, ids: &[ResourceId]) -> Result<Vec<ResourceSeen>, Fault> {
        #[cfg(test)]
        if let Some(world) = crate::played::world() {
            return world.describe(ids).await;
        }
        let mut seen = Vec::with_capacity(ids.len());
        for (kind, some) in sorted(ids) {
            seen.extend(match kind {
                Kind::Program => self.programs.describe(&some).await?,
                Kind::Database => self.aws()?.rds.describe(&some).await?,
                Kind::Machine => self.aws()?.ec2.describe(&some).await?,
            });
        }
        seen.sort_by_key(|one| ids.iter().position(|id| *id == one.id));
        Ok(seen)
    }

    async fn start(&self, ids: &[ResourceId]) -> Result<(), Fault> {
        #[cfg(test)]
        if let Some(world) = crate::played::world() {
            return world.start(ids).await;
        }
        let mut outcome = Ok(());
        for (kind, some) in sorted(ids) {
            outcome = outcome.and(match kind {
                Kind::Program => self.programs.start(&some).await,
                Kind::Database => self.aws()?.rds.start(&some).await,
                Kind::Machine => self.aws()?.ec2.start(&some).await,
            });
        }
        outcome
    }

    async fn stop(&self, ids: &[ResourceId], how: StopKind) -> Result<(), Fault> {
        #[cfg(test)]
        if let Some(world) = crate::played::world() {
            return world.stop(ids).await;
        }
        let mut outcome = Ok(());
        for (kind, some) in sorted(ids) {
            outcome = outcome.and(match kind {
                Kind::Program => self.programs.stop(&some, how).await,
                Kind::Database => self.aws()?.rds.stop(&some, how).await,
                Kind::Machine => self.aws()?.ec2.stop(&some, how).await,
            });
        }
        outcome
    }
}
