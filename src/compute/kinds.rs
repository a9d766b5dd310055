//! All that a rule of the proxy can run on, told apart by how its id begins.

use std::sync::Arc;

use crate::domain::fault::{Fault, FaultKind};
use crate::domain::policy::StopKind;
use crate::domain::rule::ResourceId;
use crate::domain::seen::ResourceSeen;

use super::Compute;
use super::ec2::Ec2;
use super::program::{PREFIX, Programs};
use super::rds::{self, Rds};

/// What there is to start and stop. Kinds that need AWS are there when the proxy has a Region.
#[derive(Debug, Clone)]
pub struct Kinds {
    pub programs: Programs,
    pub ec2: Option<Arc<Ec2>>,
    pub rds: Option<Rds>,
}

/// The kinds of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Program,
    Ec2,
    Rds,
}

const ALL: [Kind; 3] = [Kind::Program, Kind::Ec2, Kind::Rds];

fn kind(id: &ResourceId) -> Kind {
    match id.0.as_str() {
        id if id.starts_with(PREFIX) => Kind::Program,
        id if id.starts_with(rds::INSTANCE) || id.starts_with(rds::CLUSTER) => Kind::Rds,
        _ => Kind::Ec2,
    }
}

impl Kinds {
    fn ec2(&self) -> Result<&Ec2, Fault> {
        self.ec2.as_deref().ok_or_else(|| no_region("ec2:DescribeInstances"))
    }

    fn rds(&self) -> Result<&Rds, Fault> {
        self.rds.as_ref().ok_or_else(|| no_region("rds:DescribeDBInstances"))
    }
}

fn no_region(operation: &str) -> Fault {
    let words = "the proxy has no Region: set region in its configuration";
    Fault::new(FaultKind::NotFound, operation, words)
}

/// The ids of each kind that is among them.
fn sorted(ids: &[ResourceId]) -> impl Iterator<Item = (Kind, Vec<ResourceId>)> {
    let of = |wanted: Kind| {
        let some: Vec<_> = ids.iter().filter(|id| kind(id) == wanted).cloned().collect();
        (!some.is_empty()).then_some((wanted, some))
    };
    ALL.into_iter().filter_map(of)
}

impl Compute for Kinds {
    async fn describe(&self, ids: &[ResourceId]) -> Result<Vec<ResourceSeen>, Fault> {
        let mut seen = Vec::with_capacity(ids.len());
        for (kind, some) in sorted(ids) {
            seen.extend(match kind {
                Kind::Program => self.programs.describe(&some).await?,
                Kind::Ec2 => self.ec2()?.describe(&some).await?,
                Kind::Rds => self.rds()?.describe(&some).await?,
            });
        }
        seen.sort_by_key(|one| ids.iter().position(|id| *id == one.id));
        Ok(seen)
    }

    async fn start(&self, ids: &[ResourceId]) -> Result<(), Fault> {
        let mut outcome = Ok(());
        for (kind, some) in sorted(ids) {
            outcome = outcome.and(match kind {
                Kind::Program => self.programs.start(&some).await,
                Kind::Ec2 => self.ec2()?.start(&some).await,
                Kind::Rds => self.rds()?.start(&some).await,
            });
        }
        outcome
    }

    async fn stop(&self, ids: &[ResourceId], how: StopKind) -> Result<(), Fault> {
        let mut outcome = Ok(());
        for (kind, some) in sorted(ids) {
            outcome = outcome.and(match kind {
                Kind::Program => self.programs.stop(&some, how).await,
                Kind::Ec2 => self.ec2()?.stop(&some, how).await,
                Kind::Rds => self.rds()?.stop(&some, how).await,
            });
        }
        outcome
    }
}

/// Where a resource is whose place needs no asking.
pub fn local_host(id: &ResourceId) -> Option<&'static str> {
    id.0.starts_with(PREFIX).then_some("127.0.0.1")
}

impl Kinds {
    /// The addresses of these machines in the network of the proxy; one that has none at present is left out.
    ///
    /// # Errors
    /// When AWS cannot be asked.
    pub async fn hosts(&self, ids: &[ResourceId]) -> Result<Vec<(ResourceId, String)>, Fault> {
        let mut hosts = Vec::new();
        for (kind, some) in sorted(ids) {
            match kind {
                Kind::Program => hosts.extend(
                    some.into_iter()
                        .filter_map(|id| Some((id.clone(), local_host(&id)?.to_owned()))),
                ),
                Kind::Ec2 => hosts.extend(self.ec2()?.addresses(&some).await?),
                Kind::Rds => {
                    let endpoints = self.rds()?.endpoints(&some).await?;
                    let found = some.into_iter().zip(endpoints);
                    hosts.extend(found.filter_map(|(id, endpoint)| Some((id, endpoint?.address))));
                }
            }
        }
        Ok(hosts)
    }
}
