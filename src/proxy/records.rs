//! The DNS records by which the rules' hosts lead to the proxy. A rule that goes leaves its record: a file may be missing for a
//! moment only, and a name that leads to the proxy and has no rule is answered 404. They are [removed](Zone::forget) by command,
//! which has to be before the proxy's address is given back: whoever gets it next would get the names with it.

use std::collections::{BTreeMap, BTreeSet};

use crate::aws::{Aws, Zone};
use crate::config::proxy::{ProxyConfig, RecordTarget};

/// The hosted zone that is configured.
pub fn zone(config: &ProxyConfig, aws: &Aws) -> Option<Zone> {
    let access_point = config.access_point.as_deref().unwrap_or_default();
    Some(aws.zone(config.hosted_zone.as_deref()?, access_point))
}

/// Where names shall lead: what is configured, else this machine's address if EC2 says one.
pub async fn target(config: &ProxyConfig, aws: &Aws) -> Option<RecordTarget> {
    match config.address.clone() {
        Some(target) => Some(target),
        None => Some(RecordTarget::Addresses([aws.address().await?].into())),
    }
}

/// Keeps the records of one hosted zone.
pub struct Records {
    zone: Zone,
    /// What the zone is for; none until Route 53 has said it.
    domain: Option<String>,
    /// Where names were last seen to lead.
    right: BTreeMap<String, RecordTarget>,
    /// Why others do not.
    problems: BTreeMap<String, String>,
}

impl Records {
    /// None when no hosted zone is configured.
    pub fn new(config: &ProxyConfig, aws: &Aws) -> Option<Self> {
        Some(Records {
            zone: zone(config, aws)?,
            domain: None,
            right: BTreeMap::new(),
            problems: BTreeMap::new(),
        })
    }

    /// Makes the hosts lead to the target, as far as they are in the zone. Those known to lead there are not looked at again.
    pub async fn renew(&mut self, hosts: &BTreeSet<String>, target: &RecordTarget) {
        let before = std::mem::take(&mut self.problems);
        self.right.retain(|host, _| hosts.contains(host));
        if self.domain.is_none() {
            match self.zone.domain().await {
                Ok(domain) => self.domain = Some(domain),
                Err(fault) => self.problem("hostedZone", fault.sentence(), &before),
            }
        }
        let Some(domain) = self.domain.clone() else { return };
        let within = |host: &&String| **host == domain || host.ends_with(&format!(".{domain}"));
        for host in hosts.iter().filter(within) {
            if self.right.get(host) == Some(target) {
                continue;
            }
            match self.zone.point(host, target).await {
                Ok(changed) => {
                    if changed {
                        tracing::info!("the name {host} leads to this proxy now");
                    }
                    self.right.insert(host.clone(), target.clone());
                }
                Err(fault) => self.problem(host, fault.sentence(), &before),
            }
        }
    }

    /// What the records lead to is not known.
    pub fn nowhere(&mut self) {
        let before = std::mem::take(&mut self.problems);
        let words = "where names shall lead is not known: this machine's metadata service says no address; set address in the \
                     configuration";
        self.problem("hostedZone", words.to_owned(), &before);
    }

    /// From now on everything is looked at again: somebody may have changed it.
    pub fn forget(&mut self) {
        self.right.clear();
    }

    /// What is wrong, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        self.problems.values().cloned().collect()
    }

    fn problem(&mut self, of: &str, words: String, before: &BTreeMap<String, String>) {
        let told = format!("{of}: {words}");
        if before.get(of) != Some(&told) {
            tracing::warn!("{told}");
        }
        self.problems.insert(of.to_owned(), told);
    }
}
