//! DNS records in a hosted zone of Route 53.
//!
//! A record that is not ours is never replaced. What is ours has a TXT record beside it, `_autostopping.NAME`, that names
//! the proxy; both are written in one batch, which Route 53 makes wholly or not at all (Amazon Route 53 API reference,
//! ChangeResourceRecordSets). Comparing targets instead would lose track of a record once the proxy's address changes. The
//! mark has a name of its own since a CNAME shares its name with nothing (RFC 1034, 3.6.2).

mod records;

use std::collections::BTreeSet;

use serde::Deserialize;

use super::operation::{Service, domain};
use super::rest_xml::{Request, RestXml};
use super::{Aws, in_time};
use crate::config::proxy::RecordTarget as Target;
use crate::domain::fault::{Fault, FaultKind};
use aws_sdk_ec2::config::Region;
use records::{Change, Decision, RecordSet, decide, mark, normal, own};

const LIST: &str = "route53:ListResourceRecordSets";
const CHANGE: &str = "route53:ChangeResourceRecordSets";
const VERSION: &str = "2013-04-01";
/// A name with more record sets than this has weighted ones, which are left alone.
const MOST_AT_ONE_NAME: u32 = 100;

/// The adapter to Route 53, for one hosted zone.
#[derive(Debug, Clone)]
pub struct Zone {
    calls: RestXml,
    id: String,
    owner: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    #[serde(default)]
    resource_record_sets: Sets,
    /// Where the next page begins, when there is one.
    next_record_name: Option<String>,
    next_record_type: Option<String>,
    next_record_identifier: Option<String>,
}

#[derive(Deserialize, Default)]
struct Sets {
    #[serde(rename = "ResourceRecordSet", default)]
    all: Vec<RecordSet>,
}

/// An answer of which nothing is needed: that it was accepted is its status.
#[derive(Deserialize)]
struct Accepted {}

impl Zone {
    /// The domain whose names are in it, in lower case and without a dot at its end. Records are listed in the order of their
    /// labels from the last to the first, and that of the domain itself cannot be deleted: it is the first (Amazon Route 53 API
    /// reference, ListResourceRecordSets). So the right to list is enough.
    ///
    /// # Errors
    /// What Route 53 refuses.
    pub async fn domain(&self) -> Result<String, Fault> {
        let listed = in_time(LIST, self.list(&[("maxitems", "1")])).await?;
        let first = listed.resource_record_sets.all.first();
        let empty = || Fault::new(FaultKind::NotFound, LIST, "the hosted zone is empty");
        first.map(|set| normal(&set.name)).ok_or_else(empty)
    }

    /// The names that this proxy has made lead to the target, and that still do.
    ///
    /// # Errors
    /// What Route 53 refuses.
    pub async fn own(&self, target: &Target) -> Result<Vec<String>, Fault> {
        Ok(own(&self.all().await?, target, &self.owner).into_keys().collect())
    }

    /// Removes the records of these names with their marks, as far as they are [its own](Zone::own): those it removed.
    ///
    /// # Errors
    /// What Route 53 refuses; the names before it are gone.
    pub async fn forget(&self, names: &BTreeSet<String>, target: &Target) -> Result<Vec<String>, Fault> {
        let mut gone = Vec::new();
        for (name, changes) in own(&self.all().await?, target, &self.owner) {
            if names.contains(&name) {
                in_time(CHANGE, self.change(&changes)).await?;
                gone.push(name);
            }
        }
        Ok(gone)
    }

    /// Makes `name` lead to the target, unless it does already. True when something was changed.
    ///
    /// # Errors
    /// [`FaultKind::Conflict`] when something is there that is not ours, and what Route 53 refuses, a name outside of the
    /// zone among it.
    pub async fn point(&self, name: &str, target: &Target) -> Result<bool, Fault> {
        in_time(CHANGE, self.point_at(&normal(name), target)).await
    }

    async fn point_at(&self, name: &str, target: &Target) -> Result<bool, Fault> {
        let there = self.at(name).await?;
        let marks = self.at(&mark(name)).await?;
        match decide(name, target, &self.owner, &there, &marks) {
            Decision::Nothing => Ok(false),
            Decision::Refuse(why) => Err(Fault::new(FaultKind::Conflict, CHANGE, why)),
            Decision::Change(changes) => self.change(&changes).await.map(|()| true),
        }
    }

    async fn change(&self, changes: &[Change]) -> Result<(), Fault> {
        let request = Request {
            method: "POST",
            path: format!("/{VERSION}/hostedzone/{}/rrset", self.id),
            body: records::batch(changes),
        };
        self.calls.call::<Accepted>(CHANGE, request).await.map(drop)
    }

    /// The record sets of exactly this name.
    async fn at(&self, name: &str) -> Result<Vec<RecordSet>, Fault> {
        let most = MOST_AT_ONE_NAME.to_string();
        let mut all = self
            .list(&[("maxitems", &most), ("name", name)])
            .await?
            .resource_record_sets
            .all;
        all.retain(|set| normal(&set.name) == name);
        Ok(all)
    }

    /// Everything in the zone.
    async fn all(&self) -> Result<Vec<RecordSet>, Fault> {
        let mut all = Vec::new();
        let mut from: Vec<(&str, String)> = Vec::new();
        loop {
            let query: Vec<(&str, &str)> = from.iter().map(|(key, value)| (*key, value.as_str())).collect();
            let page = in_time(LIST, self.list(&query)).await?;
            all.extend(page.resource_record_sets.all);
            let Some(name) = page.next_record_name else {
                return Ok(all);
            };
            let rest = [
                ("type", page.next_record_type),
                ("identifier", page.next_record_identifier),
            ];
            from = vec![("name", name)];
            from.extend(rest.into_iter().filter_map(|(key, value)| Some((key, value?))));
        }
    }

    async fn list(&self, query: &[(&str, &str)]) -> Result<Listed, Fault> {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .finish();
        let request = Request {
            method: "GET",
            path: format!("/{VERSION}/hostedzone/{}/rrset?{query}", self.id),
            body: String::new(),
        };
        self.calls.call(LIST, request).await
    }
}

impl Aws {
    /// A hosted zone of Route 53, by its id. `access_point` and the Region name this proxy in the marks of its records, since a
    /// stack has the same name in each Region: letters, digits and `_.:/-`, at most 200.
    ///
    /// Route 53 is one for a partition. Source: AWS General Reference, "Amazon Route 53 endpoints and quotas".
    pub fn zone(&self, id: &str, access_point: &str) -> Zone {
        let domain = domain(&self.region);
        let region = match domain.ends_with(".cn") {
            true => "cn-northwest-1",
            false => "us-east-1",
        };
        let endpoint = self.endpoints.route53.as_ref().or(self.endpoints.all.as_ref());
        let service = Service {
            name: "route53",
            endpoint: endpoint.cloned().unwrap_or_else(|| format!("https://route53.{domain}")),
            region: Region::from_static(region),
        };
        Zone {
            calls: self.rest_xml(service),
            // The id comes from a configuration: nothing but its own characters becomes part of a path.
            id: id
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .chars()
                .filter(char::is_ascii_alphanumeric)
                .collect(),
            owner: format!("{access_point}@{}", self.region),
        }
    }
}
