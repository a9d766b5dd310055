//! RDS: DB instances, `rds:NAME`, and DB clusters, `rds-cluster:NAME`, Aurora's among them.
//!
//! A member of a cluster is started and stopped with its cluster, never alone. RDS starts by itself what has been stopped
//! for seven days, so that it misses no maintenance (Amazon RDS user guide, "Stopping an Amazon RDS DB instance
//! temporarily"): to a rule that looks like a start by hand, and it is put to sleep again once idle. RDS tells neither when
//! a database was started nor who stopped it.

mod reading;

use std::collections::HashMap;

use crate::aws::{Query, at_once, in_time};
use crate::compute::Compute;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::policy::StopKind;
use crate::domain::rule::ResourceId;
use crate::domain::seen::{Power, ResourceSeen};
pub use reading::{Database, Endpoint};
use reading::{Done, Page};

/// Before the name of a DB instance.
pub const INSTANCE: &str = "rds:";
/// Before the name of a DB cluster.
pub const CLUSTER: &str = "rds-cluster:";

/// The largest page of both describes. Source: Amazon RDS API reference.
const PAGE: &str = "100";
/// So many names fit into one page, and into one call.
const NAMES_PER_DESCRIBE: usize = 100;

/// The adapter to RDS. Each call of the port ends within [`CALL_TIMEOUT`](crate::drive::CALL_TIMEOUT).
#[derive(Debug, Clone)]
pub struct Rds {
    query: Query,
}

/// What RDS calls its two kinds.
struct Kind {
    prefix: &'static str,
    describe: &'static str,
    start: &'static str,
    stop: &'static str,
    filter: &'static str,
    parameter: &'static str,
}

const KINDS: [Kind; 2] = [
    Kind {
        prefix: INSTANCE,
        describe: "DescribeDBInstances",
        start: "StartDBInstance",
        stop: "StopDBInstance",
        filter: "db-instance-id",
        parameter: "DBInstanceIdentifier",
    },
    Kind {
        prefix: CLUSTER,
        describe: "DescribeDBClusters",
        start: "StartDBCluster",
        stop: "StopDBCluster",
        filter: "db-cluster-id",
        parameter: "DBClusterIdentifier",
    },
];

/// What is to be done with a database.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Start,
    Stop,
}

impl Rds {
    /// Makes no call.
    pub fn new(query: Query) -> Self {
        Rds { query }
    }

    /// Where these databases are reached, in the order of the ids; none for one that does not exist or has no address yet.
    /// A stopped one keeps its address. That of a cluster is its writer's.
    ///
    /// # Errors
    /// What RDS refuses.
    pub async fn endpoints(&self, ids: &[ResourceId]) -> Result<Vec<Option<Endpoint>>, Fault> {
        let found = in_time("rds:DescribeDBInstances", self.find(ids)).await?;
        let one = |id| {
            found
                .get(&lower(id))
                .and_then(|database: &Database| database.endpoint.clone())
        };
        Ok(ids.iter().map(one).collect())
    }

    /// Every DB instance and DB cluster of the account in this Region, with their tags.
    ///
    /// # Errors
    /// What RDS refuses.
    pub async fn all(&self) -> Result<Vec<Database>, Fault> {
        let mut all = Vec::new();
        for kind in &KINDS {
            all.extend(self.pages(kind, Vec::new()).await?);
        }
        Ok(all)
    }

    /// By filter, not by name: a name that does not exist is missing in the answer instead of failing the call.
    async fn find(&self, ids: &[ResourceId]) -> Result<HashMap<ResourceId, Database>, Fault> {
        let mut found = HashMap::new();
        for kind in &KINDS {
            let names: Vec<_> = ids.iter().filter_map(|id| id.0.strip_prefix(kind.prefix)).collect();
            for batch in names.chunks(NAMES_PER_DESCRIBE) {
                let value = |(place, name): (usize, &&str)| {
                    (
                        format!("Filters.Filter.1.Values.Value.{}", place + 1),
                        (*name).to_owned(),
                    )
                };
                let name = ("Filters.Filter.1.Name".to_owned(), kind.filter.to_owned());
                let filter = std::iter::once(name).chain(batch.iter().enumerate().map(value));
                let page = self.pages(kind, filter.collect()).await?;
                found.extend(page.into_iter().map(|database| (database.id.clone(), database)));
            }
        }
        Ok(found)
    }

    async fn pages(&self, kind: &Kind, filter: Vec<(String, String)>) -> Result<Vec<Database>, Fault> {
        let mut all = Vec::new();
        let mut marker = None;
        loop {
            let mut parameters = filter.clone();
            parameters.push(("MaxRecords".to_owned(), PAGE.to_owned()));
            parameters.extend(marker.map(|marker| ("Marker".to_owned(), marker)));
            let page: Page = self.query.call(kind.describe, &parameters).await?;
            let (databases, next) = page.read(kind.prefix);
            all.extend(databases);
            match next {
                Some(next) => marker = Some(next),
                None => return Ok(all),
            }
        }
    }

    async fn describe_all(&self, ids: &[ResourceId]) -> Result<Vec<ResourceSeen>, Fault> {
        let found = self.find(ids).await?;
        let one = |id: &ResourceId| match found.get(&lower(id)) {
            Some(database) => database.seen(id),
            None => Ok(reading::unknown(id)),
        };
        ids.iter().map(one).collect()
    }

    async fn change(&self, change: Change, ids: &[ResourceId]) -> Result<(), Fault> {
        let found = self.find(ids).await?;
        let mut first = None;
        let mut due = Vec::new();
        for id in ids {
            match judge(change, id, found.get(&lower(id))) {
                Ok(true) => due.push(id.clone()),
                Ok(false) => {}
                Err(fault) => {
                    first.get_or_insert(fault);
                }
            }
        }
        let calls = due.iter().map(|id| send(self.query.clone(), change, id.clone()));
        let mut refused = at_once(calls.collect::<Vec<_>>()).await;
        // What is in no state for it may be there already: somebody else was faster, or an answer was lost.
        let conflicts = refused
            .iter()
            .flatten()
            .filter(|(_, fault)| fault.kind == FaultKind::Conflict);
        let conflicts: Vec<_> = conflicts.map(|(id, _)| id.clone()).collect();
        if !conflicts.is_empty() {
            let seen = self.find(&conflicts).await?;
            let there = |id: &ResourceId| matches!(judge(change, id, seen.get(&lower(id))), Ok(false));
            refused.retain(|refused| refused.as_ref().is_none_or(|(id, _)| !there(id)));
        }
        let refused = refused.into_iter().flatten().map(|(_, fault)| fault);
        first.into_iter().chain(refused).next().map_or(Ok(()), Err)
    }
}

impl Compute for Rds {
    async fn describe(&self, ids: &[ResourceId]) -> Result<Vec<ResourceSeen>, Fault> {
        in_time("rds:DescribeDBInstances", self.describe_all(ids)).await
    }

    async fn start(&self, ids: &[ResourceId]) -> Result<(), Fault> {
        in_time("rds:StartDBInstance", self.change(Change::Start, ids)).await
    }

    /// RDS knows no hibernation: both kinds stop.
    async fn stop(&self, ids: &[ResourceId], _: StopKind) -> Result<(), Fault> {
        in_time("rds:StopDBInstance", self.change(Change::Stop, ids)).await
    }
}

/// Whether a call is due. What RDS would refuse in words that say little is refused here.
fn judge(change: Change, id: &ResourceId, database: Option<&Database>) -> Result<bool, Fault> {
    let operation = format!("rds:{}", action(change, id));
    let refuse = |kind, words: String| Err(Fault::new(kind, &operation, words));
    let power = match database {
        Some(database) => database.seen(id)?.power,
        None => Power::Terminated,
    };
    match (change, power) {
        (Change::Start, Power::Pending | Power::Running)
        | (Change::Stop, Power::Stopping | Power::Stopped | Power::Terminated) => return Ok(false),
        (Change::Start, Power::Stopping) => return refuse(FaultKind::Conflict, format!("{id} is still stopping")),
        (Change::Start, Power::Terminated) => {
            return refuse(FaultKind::NotFound, format!("{id} is unknown or can only be deleted"));
        }
        (Change::Stop, Power::Pending) => return refuse(FaultKind::Conflict, format!("{id} is still starting")),
        (Change::Start, Power::Stopped) | (Change::Stop, Power::Running) => {}
    }
    match database.and_then(|database| database.why_never(change == Change::Stop)) {
        Some(why) => refuse(FaultKind::Unsupported, format!("{id} {why}")),
        None => Ok(true),
    }
}

fn kind_of(id: &ResourceId) -> Option<(&'static Kind, &str)> {
    KINDS
        .iter()
        .find_map(|kind| Some((kind, id.0.strip_prefix(kind.prefix)?)))
}

fn action(change: Change, id: &ResourceId) -> &'static str {
    let kind = kind_of(id).map_or(&KINDS[0], |(kind, _)| kind);
    match change {
        Change::Start => kind.start,
        Change::Stop => kind.stop,
    }
}

async fn send(query: Query, change: Change, id: ResourceId) -> Option<(ResourceId, Fault)> {
    let (kind, name) = kind_of(&id)?;
    let parameters = [(kind.parameter.to_owned(), name.to_owned())];
    let answer: Result<Done, Fault> = query.call(action(change, &id), &parameters).await;
    answer.err().map(|fault| (id, fault))
}

/// RDS keeps names in lower case and takes them in any: of two spellings each would be claimed by a rule of its own. Source:
/// Amazon RDS API reference, `DBInstanceIdentifier`.
fn lower(id: &ResourceId) -> ResourceId {
    ResourceId(id.0.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
