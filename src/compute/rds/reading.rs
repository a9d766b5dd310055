//! What RDS says, in our words.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::domain::fault::{Fault, FaultKind};
use crate::domain::rule::ResourceId;
use crate::domain::seen::{Power, ResourceSeen};

/// A DB instance or a DB cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// `rds:NAME` or `rds-cluster:NAME`.
    pub id: ResourceId,
    /// RDS's status, such as `available`.
    pub status: String,
    /// Such as `postgres`.
    pub engine: String,
    /// None while RDS has given it no address.
    pub endpoint: Option<Endpoint>,
    /// Of an instance: the cluster it belongs to.
    pub cluster: Option<String>,
    pub tags: BTreeMap<String, String>,
    multi_az: bool,
    replica_of: Option<String>,
    replicas: Vec<String>,
    serverless: bool,
}

/// Where a database is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A host name.
    pub address: String,
    pub port: u16,
}

/// Statuses in which it is up, or was up and keeps its machine: what is wrong with those named last shows in their health.
/// Those that begin `configuring-` belong here too. Sources: Amazon RDS user guide, "Viewing Amazon RDS DB instance
/// status"; Aurora user guide, "Viewing DB cluster status".
const RUNNING: [&str; 27] = [
    "available",
    "backing-up",
    "backtracking",
    "converting-to-vpc",
    "delete-precheck",
    "failing-over",
    "maintenance",
    "migrating",
    "modifying",
    "moving-to-vpc",
    "preparing-data-migration",
    "promoting",
    "rebooting",
    "renaming",
    "resetting-master-credentials",
    "scaling-compute",
    "scaling-storage",
    "storage-config-upgrade",
    "storage-full",
    "storage-initialization",
    "storage-optimization",
    "update-iam-db-auth",
    "upgrading",
    "incompatible-create",
    "incompatible-network",
    "incompatible-option-group",
    "incompatible-parameters",
];

/// Statuses out of which no start leads; a restore of a backup may.
const BEYOND_HELP: [&str; 8] = [
    "cloning-failed",
    "deleting",
    "failed",
    "inaccessible-encryption-credentials",
    "incompatible-restore",
    "insufficient-capacity",
    "migration-failed",
    "restore-error",
];

/// Stopped, since KMS no longer gives the key; a start succeeds once it does.
const KEY_LOST: &str = "inaccessible-encryption-credentials-recoverable";

impl Database {
    /// # Errors
    /// When this version does not know the status.
    pub(super) fn seen(&self, id: &ResourceId) -> Result<ResourceSeen, Fault> {
        let status = self.status.as_str();
        let power = match status {
            "stopped" | KEY_LOST => Power::Stopped,
            "starting" | "creating" => Power::Pending,
            "stopping" => Power::Stopping,
            _ if RUNNING.contains(&status) || status.starts_with("configuring-") => Power::Running,
            _ if BEYOND_HELP.contains(&status) => Power::Terminated,
            _ => {
                let words = format!("{id} is in a state this version does not know: {status}");
                return Err(Fault::new(FaultKind::Other, "rds:DescribeDBInstances", words));
            }
        };
        let key_lost = || format!("{KEY_LOST}: RDS may not use its KMS key: enable the key or restore the grant");
        Ok(ResourceSeen {
            power,
            fell_back: (status == KEY_LOST).then(key_lost),
            ..unknown(id)
        })
    }

    /// What in its making forbids that it is started or stopped; the end of a sentence about it. Sources: Amazon RDS user
    /// guide, "Stopping an Amazon RDS DB instance temporarily", limitations; Aurora user guide, "Limitations for stopping and
    /// starting Aurora DB clusters".
    pub(super) fn why_never(&self, stop: bool) -> Option<String> {
        if let Some(cluster) = &self.cluster {
            let whole = format!("{}{cluster}", super::CLUSTER);
            return Some(format!(
                "belongs to a cluster and starts and stops with it: name {whole} instead"
            ));
        }
        if !stop {
            return None;
        }
        if let Some(source) = &self.replica_of {
            return Some(format!(
                "is a read replica of {source}, which RDS does not stop: promote or delete it"
            ));
        }
        if !self.replicas.is_empty() {
            let replicas = self.replicas.join(", ");
            return Some(format!(
                "has read replicas ({replicas}), and RDS stops no source of a replica: promote or delete them"
            ));
        }
        if self.multi_az && self.engine.starts_with("sqlserver") {
            return Some(
                "is SQL Server in several Availability Zones, which RDS does not stop: use one zone".to_owned(),
            );
        }
        self.serverless
            .then(|| "is Aurora Serverless v1, which pauses by itself and cannot be stopped".to_owned())
    }
}

/// A database that RDS does not know.
pub(super) fn unknown(id: &ResourceId) -> ResourceSeen {
    ResourceSeen::bare(id.clone(), Power::Terminated)
}

/// An answer of DescribeDBInstances or DescribeDBClusters.
#[derive(Deserialize)]
pub(super) struct Page {
    #[serde(rename = "DescribeDBInstancesResult", alias = "DescribeDBClustersResult")]
    result: Listed,
}

/// An answer of which nothing is needed.
#[derive(Deserialize)]
pub(super) struct Done {}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    marker: Option<String>,
    #[serde(rename = "DBInstances", alias = "DBClusters", default)]
    databases: Members,
}

#[derive(Deserialize, Default)]
struct Members {
    #[serde(rename = "DBInstance", alias = "DBCluster", default)]
    all: Vec<Member>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    #[serde(rename = "DBInstanceIdentifier")]
    instance: Option<String>,
    /// Of an instance: the cluster it belongs to.
    #[serde(rename = "DBClusterIdentifier")]
    cluster: Option<String>,
    #[serde(rename = "DBInstanceStatus", alias = "Status", default)]
    status: String,
    #[serde(default)]
    engine: String,
    engine_mode: Option<String>,
    #[serde(rename = "MultiAZ", default)]
    multi_az: bool,
    endpoint: Option<Address>,
    port: Option<u16>,
    #[serde(rename = "ReadReplicaSourceDBInstanceIdentifier", default)]
    source: String,
    #[serde(rename = "ReadReplicaDBInstanceIdentifiers", default)]
    replicas: Replicas,
    #[serde(default)]
    tag_list: Tags,
}

/// An instance's is an element with two parts, a cluster's is a text beside its `Port`.
#[derive(Deserialize)]
struct Address {
    #[serde(rename = "$text")]
    text: Option<String>,
    #[serde(rename = "Address")]
    address: Option<String>,
    #[serde(rename = "Port")]
    port: Option<u16>,
}

#[derive(Deserialize, Default)]
struct Replicas {
    #[serde(rename = "ReadReplicaDBInstanceIdentifier", default)]
    all: Vec<String>,
}

#[derive(Deserialize, Default)]
struct Tags {
    #[serde(rename = "Tag", default)]
    all: Vec<Tag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

impl Page {
    /// The databases, and where the next page begins.
    pub(super) fn read(self, prefix: &str) -> (Vec<Database>, Option<String>) {
        let databases = self.result.databases.all.into_iter();
        let databases = databases.filter_map(|member| member.read(prefix));
        (
            databases.collect(),
            self.result.marker.filter(|marker| !marker.is_empty()),
        )
    }
}

impl Member {
    fn read(self, prefix: &str) -> Option<Database> {
        let said = |text: String| (!text.is_empty()).then_some(text);
        let (name, cluster) = match self.instance {
            Some(name) => (name, self.cluster.and_then(said)),
            None => (self.cluster?, None),
        };
        let port = self.port;
        let endpoint = self.endpoint.and_then(|endpoint| {
            Some(Endpoint {
                address: endpoint.address.or(endpoint.text).and_then(said)?,
                port: endpoint.port.or(port)?,
            })
        });
        let tags = self.tag_list.all.into_iter().map(|tag| (tag.key, tag.value));
        Some(Database {
            id: super::lower(&ResourceId(format!("{prefix}{name}"))),
            status: self.status,
            engine: self.engine,
            endpoint,
            cluster,
            tags: tags.collect(),
            multi_az: self.multi_az,
            replica_of: said(self.source),
            replicas: self.replicas.all,
            serverless: self.engine_mode.as_deref() == Some("serverless"),
        })
    }
}
