//! DNS records in a hosted zone of Route 53.
//!
//! A record that is not ours is never replaced. What is ours has a TXT record beside it, `_autostopping.NAME`, that names
//! the proxy; both are written in one batch, which Route 53 makes wholly or not at all (Amazon Route 53 API reference,
//! ChangeResourceRecordSets). Comparing targets instead would lose track of a record once the proxy's address changes. The
//! mark has a name of its own since a CNAME shares its name with nothing (RFC 1034, 3.6.2).

mod records;

use serde::Deserialize;

use super::operation::{Service, domain};
use super::rest_xml::{Request, RestXml};
use super::{Aws, in_time};
use crate::config::proxy::RecordTarget as Target;
use crate::domain::fault::{Fault, FaultKind};
use aws_sdk_ec2::config::Region;
use records::{Decision, RecordSet, decide, mark, normal};

const GET: &str = "route53:GetHostedZone";
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
}

#[derive(Deserialize, Default)]
struct Sets {
    #[serde(rename = "ResourceRecordSet", default)]
    all: Vec<RecordSet>,
}

/// An answer of which nothing is needed: that it was accepted is its status.
#[derive(Deserialize)]
struct Accepted {}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Got {
    hosted_zone: Described,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    name: String,
}

impl Zone {
    /// The domain whose names are in it, in lower case and without a dot at its end.
    ///
    /// # Errors
    /// What Route 53 refuses.
    pub async fn domain(&self) -> Result<String, Fault> {
        let request = Request {
            method: "GET",
            path: format!("/{VERSION}/hostedzone/{}", self.id),
            body: String::new(),
        };
        let got: Got = in_time(GET, self.calls.call(GET, request)).await?;
        Ok(normal(&got.hosted_zone.name))
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
            Decision::Change(changes) => {
                let request = Request {
                    method: "POST",
                    path: format!("/{VERSION}/hostedzone/{}/rrset", self.id),
                    body: records::batch(&changes),
                };
                self.calls.call::<Accepted>(CHANGE, request).await.map(|_| true)
            }
        }
    }

    /// The record sets of exactly this name.
    async fn at(&self, name: &str) -> Result<Vec<RecordSet>, Fault> {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("maxitems", &MOST_AT_ONE_NAME.to_string())
            .append_pair("name", name)
            .finish();
        let request = Request {
            method: "GET",
            path: format!("/{VERSION}/hostedzone/{}/rrset?{query}", self.id),
            body: String::new(),
        };
        let listed: Listed = self.calls.call(LIST, request).await?;
        let mut all = listed.resource_record_sets.all;
        all.retain(|set| normal(&set.name) == name);
        Ok(all)
    }
}

impl Aws {
    /// A hosted zone of Route 53, by its id. `owner` names this proxy in the marks of its records: letters, digits and
    /// `_.:/-`, at most 200.
    ///
    /// Route 53 is one for a partition. Source: AWS General Reference, "Amazon Route 53 endpoints and quotas".
    pub fn zone(&self, id: &str, owner: &str) -> Zone {
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
            owner: owner.to_owned(),
        }
    }
}
