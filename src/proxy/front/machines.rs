//! The machines of the rules: which they are, where they are, whether they serve.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::compute::kinds;
use crate::compute::tagged::tagged;
use crate::config::discovered::Tagged;
use crate::config::proxy_rules::{HttpRoute, Protocol, ProxyRule, TcpRoute, Wanted};
use crate::domain::fault::Fault;
use crate::domain::rule::{ResourceId, RuleName, Side};
use crate::domain::seen::TargetSeen;

use super::{Front, Now};
use crate::proxy::prober::{Check, Get};

impl Front {
    /// The machines of a rule by their ids, those its tag filters found last among them.
    pub fn resources(&self, rule: &ProxyRule) -> Vec<ResourceId> {
        resources(&self.now(), rule)
    }

    /// Asks which machines the tag filters of these rules find now, and says for which there are others. What cannot be asked
    /// stays as it was.
    pub async fn find_tagged(&self, rules: &[ProxyRule]) -> Vec<RuleName> {
        let mut changed = Vec::new();
        for rule in rules {
            let filters = rule.resources.iter().filter_map(|wanted| match wanted {
                Wanted::One(_) => None,
                Wanted::Tagged(tags) => Some(tags),
            });
            let mut found = BTreeSet::new();
            let mut asked = None;
            for tags in filters {
                match self.inner.compute.with_tags(tags).await {
                    Ok(ids) => found.extend(ids),
                    Err(fault) => {
                        tracing::warn!(rule = %rule.name, %fault, "the machines of its tags cannot be asked for; the last ones stay");
                        asked = None;
                        break;
                    }
                }
                asked = Some(());
            }
            let found: Vec<_> = found.into_iter().collect();
            if asked.is_none() || self.now().state.tagged(&rule.name) == found {
                continue;
            }
            let noted = self.change(|now| {
                now.state.note_tagged(&rule.name, found);
                note_machines(now);
            });
            match noted {
                Ok(_) => changed.push(rule.name.clone()),
                Err(fault) => {
                    tracing::warn!(rule = %rule.name, %fault, "the machines of its tags could not be remembered");
                }
            }
        }
        changed
    }

    /// All that opts itself in by its tags; while AWS cannot be asked, all that last did.
    pub async fn opted_in(&self) -> Vec<Tagged> {
        let Some(aws) = &self.inner.compute.aws else {
            return Vec::new();
        };
        let known = || self.now().state.discovered().to_vec();
        match tagged(&aws.ec2, &aws.rds).await {
            Ok(found) if found == known() => found,
            Ok(found) => {
                if let Err(fault) = self.change(|now| now.state.note_discovered(found.clone())) {
                    tracing::warn!(%fault, "what is opted in by tags could not be remembered");
                }
                found
            }
            Err(fault) => {
                tracing::warn!(%fault, "what is opted in by tags cannot be asked for; the last stays");
                known()
            }
        }
    }

    /// The tags by which machines are in use.
    pub fn last_tags(&self) -> Vec<Tagged> {
        self.now().state.last_tags().to_vec()
    }

    /// The machine that the proxy runs on, when it is one of EC2.
    pub async fn machine(&self) -> Option<ResourceId> {
        self.inner.compute.aws.as_ref()?.machine().await.cloned()
    }

    /// Checks all machines of a rule, each at all of its ports.
    pub(super) async fn check(&self, rule: &ProxyRule) -> Vec<TargetSeen> {
        let ids = self.resources(rule);
        let awake = self.side(&rule.name) == Side::Backend;
        let hosts: Vec<Option<String>> = {
            let now = self.now();
            ids.iter().map(|id| host(&now, id)).collect()
        };
        let each = ids.into_iter().zip(hosts).map(async |(resource, host)| {
            let Some(host) = host else {
                let words = "its address is not known yet".to_owned();
                return (
                    TargetSeen {
                        resource,
                        healthy: false,
                        words,
                    },
                    false,
                );
            };
            let checks = checks(rule, &resource, &host);
            let now = Instant::now();
            let asked = checks.iter().map(|check| self.inner.prober.ask(now, check, awake));
            let found = futures_util::future::join_all(asked).await;
            let healthy = found.iter().all(|found| found.serves);
            let well = found.iter().all(|found| found.well);
            let words = found
                .into_iter()
                .find(|found| !found.serves)
                .map_or_else(|| "healthy".to_owned(), |found| found.words);
            (
                TargetSeen {
                    resource,
                    healthy,
                    words,
                },
                well,
            )
        });
        let all = futures_util::future::join_all(each).await;
        self.note_health(&all);
        all.into_iter().map(|(target, _)| target).collect()
    }

    /// Takes machines out of the rotation, and back in. Envoy has none of a rule that sleeps.
    fn note_health(&self, found: &[(TargetSeen, bool)]) {
        let mut now = self.now();
        let mut changed = Vec::new();
        for (TargetSeen { resource, .. }, well) in found {
            let is_new = match well {
                true => now.unwell.remove(resource),
                false => now.unwell.insert(resource.clone()),
            };
            if is_new {
                changed.push(resource);
            }
        }
        let is_in_envoy = |rule: &ProxyRule| {
            now.state.side(&rule.name) == Side::Backend && resources(&now, rule).iter().any(|id| changed.contains(&id))
        };
        if !changed.is_empty() && now.rules.values().any(|rule| is_in_envoy(rule)) {
            self.publish(&now);
        }
    }

    /// Asks where the machines are that AWS gives their addresses.
    pub(super) async fn find(&self, rule: &ProxyRule) -> Result<(), Fault> {
        let unknown: Vec<ResourceId> = self
            .resources(rule)
            .into_iter()
            .filter(|id| kinds::local_host(id).is_none())
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let found = self.inner.compute.hosts(&unknown).await?;
        let news: Vec<_> = {
            let now = self.now();
            found
                .into_iter()
                .filter(|(id, host)| now.state.host(id) != Some(host.as_str()))
                .collect()
        };
        if !news.is_empty() {
            self.change(|now| {
                for (id, host) in &news {
                    now.state.note_host(id, host);
                }
            })?;
        }
        Ok(())
    }
}

/// Notes the machines of all rules, after what may have given them others. Before there are any, nothing is known.
pub(super) fn note_machines(now: &mut Now) {
    if now.rules.is_empty() {
        return;
    }
    let rules = now.rules.values();
    let machines = rules.map(|rule| (rule.name.clone(), resources(now, rule).into_iter().collect()));
    let machines = machines.collect();
    now.state.note_machines(machines);
}

/// The machines of a rule by their ids, each once.
pub(super) fn resources(now: &Now, rule: &ProxyRule) -> Vec<ResourceId> {
    let one = |wanted: &Wanted| match wanted {
        Wanted::One(id) => Some(id.clone()),
        Wanted::Tagged(_) => None,
    };
    let named = rule.resources.iter().filter_map(one);
    let tagged = match named.clone().count() == rule.resources.len() {
        true => &[],
        false => now.state.tagged(&rule.name),
    };
    let all: BTreeSet<_> = named.chain(tagged.iter().cloned()).collect();
    all.into_iter().collect()
}

pub(super) fn host(now: &Now, id: &ResourceId) -> Option<String> {
    let known = kinds::local_host(id).or_else(|| now.state.host(id));
    known.map(str::to_owned)
}

fn checks(rule: &ProxyRule, machine: &ResourceId, host: &str) -> BTreeSet<Check> {
    let check = |port: u16, get: Option<Get>, counts| Check {
        host: host.to_owned(),
        port,
        get,
        counts,
    };
    let http = rule.http.iter().map(|way| check(way.port, get(way, host), false));
    let counts = |way: &TcpRoute| {
        let mysql = [way.protocol, Protocol::at(way.port)].contains(&Protocol::Mysql);
        // Of RDS nothing says what is spoken at a port that is not the usual one. Nobody counts connections from loopback (MySQL
        // reference manual, "DNS Lookups and the Host Cache").
        (mysql || kinds::is_database(machine)) && kinds::local_host(machine).is_none()
    };
    let tcp = rule.tcp.iter().map(|way| check(way.port, None, counts(way)));
    http.chain(tcp).collect()
}

/// Asked for a host that clients ask for.
fn get(way: &HttpRoute, address: &str) -> Option<Get> {
    let one = way
        .hosts
        .iter()
        .find(|host| !host.starts_with('*'))
        .or(way.hosts.first());
    Some(Get {
        path: way.check.clone()?,
        name: one.map_or_else(|| address.to_owned(), |host| host.replacen('*', "www", 1)),
        tls: way.tls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::proxy::ProxyConfig;
    use std::path::Path;

    /// Red when the port alone decided.
    #[test]
    fn what_may_count_connections_is_spared_them() {
        let config = ProxyConfig::read(Path::new("config.toml"), "").unwrap();
        let machine = "i-0123456789abcdef0";
        for (resource, way, counts) in [
            (machine, "port = 3306", true),
            (machine, "port = 3306\nprotocol = \"other\"", true),
            (machine, "port = 13306\nprotocol = \"mysql\"", true),
            ("rds:orders", "port = 3400", true),
            (machine, "port = 22", false),
            ("program:x", "port = 3306", false),
        ] {
            let text = format!("idle = \"1h\"\nresources = \"{resource}\"\n[[tcp]]\n{way}\n");
            let rule = ProxyRule::read(Path::new("a.toml"), &text, &config).unwrap();
            let checks = checks(&rule, &ResourceId(resource.to_owned()), "db");
            assert!(checks.iter().all(|check| check.counts == counts), "{text}");
        }
    }

    /// Red when the check of a machine that speaks TLS was left out, and when it was asked by its bare address.
    #[test]
    fn a_site_is_asked_for_its_host_and_by_tls_where_the_machine_speaks_it() {
        let config = ProxyConfig::read(Path::new("config.toml"), "").unwrap();
        for (way, name, tls) in [
            ("hosts = [\"*.a.test\", \"b.test\"]\ntls = true", "b.test", true),
            ("hosts = \"*.a.test\"", "www.a.test", false),
        ] {
            let text =
                format!("idle = \"1h\"\nresources = \"i-01234567\"\n[[http]]\n{way}\nport = 443\ncheck = \"/up\"\n");
            let rule = ProxyRule::read(Path::new("a.toml"), &text, &config).unwrap();
            let checks = checks(&rule, &ResourceId("i-01234567".to_owned()), "10.0.0.1");
            let (path, name) = ("/up".to_owned(), name.to_owned());
            assert_eq!(checks.first().unwrap().get, Some(Get { path, name, tls }));
        }
    }
}
