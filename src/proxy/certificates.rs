//! The certificates of the configuration, from files or Secrets Manager, each renewed by itself without a restart.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::aws::Secrets;
use crate::config::certificate::{Certificate, Material, Refresh, SOON, refresh};
use crate::config::proxy::{Pair, Tls};
use crate::config::proxy_rules::host;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::time::Timestamp;
use crate::gateway::envoy;

/// What is in use, and what is wrong with what is not.
pub struct Certificates {
    entries: Vec<Entry>,
    secrets: Option<Secrets>,
    /// As Envoy takes them.
    used: Vec<envoy::Certificate>,
    /// What was said in the log last.
    told: Vec<String>,
}

/// One `[[tls]]`.
struct Entry {
    tls: Tls,
    known: Option<Certificate>,
    /// The hosts for which an Envoy that has run for longer than this daemon shows it, until it can be read.
    remembered: Option<Vec<String>>,
    /// Why what was read last is not in use.
    refused: Option<String>,
}

/// How strong a certificate's claim to a host is: the hosts of its entry name it; Envoy shows it to that host already; it is valid
/// now; it is so for longest; it comes first.
type Claim = (bool, bool, bool, Option<Timestamp>, Reverse<usize>);

impl Certificates {
    /// `remembered` are the hosts of those that Envoy was told of earlier, by their names.
    pub fn new(all: &[Tls], secrets: Option<Secrets>, remembered: &BTreeMap<String, Vec<String>>) -> Self {
        let entry = |tls: &Tls| Entry {
            tls: tls.clone(),
            known: None,
            remembered: remembered.get(&name(tls)).cloned(),
            refused: None,
        };
        Certificates {
            entries: all.iter().map(entry).collect(),
            secrets,
            used: Vec::new(),
            told: Vec::new(),
        }
    }

    /// Reads the files again, and the secrets if wanted. Whether anything in use has changed.
    pub async fn renew(&mut self, now: Timestamp, secrets_too: bool) -> bool {
        for entry in &mut self.entries {
            let material = match &entry.tls.pair {
                Pair::Files { certificate, key } => Some(files(certificate, key)),
                Pair::Secrets { .. } if !secrets_too => None,
                Pair::Secrets { certificate, key } => Some(match &self.secrets {
                    Some(secrets) => secrets.material(certificate, (key != certificate).then_some(key)).await,
                    None => Err(fault("the proxy has no Region: set region in its configuration")),
                }),
            };
            if let Some(material) = material {
                entry.take_in(now, material);
            }
        }
        let problems = self.problems(now);
        for problem in problems.iter().filter(|problem| !self.told.contains(problem)) {
            tracing::warn!("{problem}");
        }
        self.told = problems;
        let used = self.choose(now);
        let changed = used != self.used;
        self.used = used;
        changed
    }

    /// What is wrong, or soon will be, a sentence each.
    pub fn problems(&self, now: Timestamp) -> Vec<String> {
        let owners = self.owners(now);
        let each = |(at, entry): (usize, &Entry)| {
            let unseen = self.unseen(at, &owners);
            let problems = entry.problems(now).into_iter().chain(unseen);
            let place = entry.tls.pair.name();
            problems
                .map(|problem| format!("[[tls]] {place}: {problem}"))
                .collect::<Vec<_>>()
        };
        self.entries.iter().enumerate().flat_map(each).collect()
    }

    /// Whether there is one for each entry.
    pub fn is_whole(&self) -> bool {
        self.entries.iter().all(|entry| entry.known.is_some())
    }

    /// As Envoy takes them.
    pub fn in_use(&self) -> Vec<envoy::Certificate> {
        self.used.clone()
    }

    /// Each host's one certificate.
    fn owners(&self, now: Timestamp) -> BTreeMap<String, usize> {
        let mut owners: BTreeMap<String, (Claim, usize)> = BTreeMap::new();
        for (at, entry) in self.entries.iter().enumerate() {
            let known = entry.known.as_ref();
            let claim = (
                !entry.tls.hosts.is_empty(),
                known.is_none(),
                known.is_some_and(|known| known.timely(now).is_ok()),
                known.map(Certificate::not_after),
                Reverse(at),
            );
            for host in entry.hosts().into_iter().flatten() {
                let owner = owners.entry(host).or_insert((claim, at));
                *owner = (*owner).max((claim, at));
            }
        }
        owners.into_iter().map(|(host, (_, at))| (host, at)).collect()
    }

    /// Those that somebody is shown, the one first that is for everybody else.
    fn choose(&self, now: Timestamp) -> Vec<envoy::Certificate> {
        let owners = self.owners(now);
        let each = |(at, entry): (usize, &Entry)| {
            let mut hosts = entry.hosts()?;
            let nameless = hosts.is_empty();
            hosts.retain(|host| owners.get(host) == Some(&at));
            let known = entry.known.as_ref();
            let pem = |of: fn(&Certificate) -> &str| known.map(|known| of(known).into()).unwrap_or_default();
            let certificate = envoy::Certificate {
                name: name(&entry.tls),
                hosts,
                chain_pem: pem(Certificate::chain_pem),
                key_pem: pem(Certificate::key_pem),
            };
            (nameless || !certificate.hosts.is_empty()).then_some(certificate)
        };
        self.entries.iter().enumerate().filter_map(each).collect()
    }

    /// Why nobody is shown this one, if so.
    fn unseen(&self, at: usize, owners: &BTreeMap<String, usize>) -> Option<String> {
        let place = |at: usize| self.entries[at].tls.pair.name();
        let hosts = self.entries[at].hosts()?;
        match hosts.first() {
            None => {
                let first = (0..at).find(|other| self.entries[*other].known.is_some())?;
                Some(format!(
                    "nobody is shown it: it is for no host name, and who asks for no known one is shown [[tls]] {}: give it \
                     hosts, or put it first",
                    place(first)
                ))
            }
            Some(_) if hosts.iter().any(|host| owners.get(host) == Some(&at)) => None,
            Some(host) => Some(format!(
                "nobody is shown it: [[tls]] {} is shown to all of its hosts: remove it, or give each its hosts",
                owners.get(host).map(|other| place(*other)).unwrap_or_default()
            )),
        }
    }
}

impl Entry {
    fn take_in(&mut self, now: Timestamp, material: Result<Material, Fault>) {
        self.refused = None;
        match refresh(now, self.known.as_ref(), material) {
            Refresh::Unchanged => {}
            Refresh::Load(certificate) => self.known = Some(certificate),
            Refresh::KeepLast(why) => self.refused = Some(why),
        }
    }

    fn problems(&self, now: Timestamp) -> Vec<String> {
        let mut problems: Vec<_> = self.refused.iter().cloned().collect();
        if let Some(known) = &self.known {
            let names = known.names().join(", ");
            match known.timely(now) {
                Err(problem) => problems.push(problem.to_string()),
                Ok(()) if known.days_left(now) < SOON => {
                    let days = known.days_left(now);
                    problems.push(format!("the certificate for {names} expires in {days} days: renew it"));
                }
                Ok(()) => {}
            }
            let bare = self.tls.hosts.iter().filter(|host| !known.covers(host));
            problems.extend(bare.map(|host| format!("the certificate is for {names}, not for {host} of its hosts")));
        }
        problems
    }

    /// The hosts that it could be shown to; none when nothing is known of it.
    fn hosts(&self) -> Option<Vec<String>> {
        let Some(known) = &self.known else {
            return self.remembered.clone();
        };
        // A certificate's names may be addresses, which no client asks for by name.
        let own = || known.names().iter().filter_map(|name| host(name)).collect();
        let is_address = |host: &String| host.parse::<std::net::IpAddr>().is_ok();
        let mut hosts: Vec<String> = match self.tls.hosts.is_empty() {
            true => own(),
            false => self.tls.hosts.clone(),
        };
        hosts.retain(|host| !is_address(host));
        Some(hosts)
    }
}

/// What Envoy calls it: what does not change with the order of the entries, else one would be taken for a rotation of another.
fn name(tls: &Tls) -> String {
    format!("certificate/{}", tls.pair.name())
}

fn files(certificate: &Path, key: &Path) -> Result<Material, Fault> {
    let read =
        |path: &Path| std::fs::read_to_string(path).map_err(|error| fault(&format!("{}: {error}", path.display())));
    let (chain, key) = (read(certificate)?, read(key)?);
    let digest = Sha256::new()
        .chain_update(&chain)
        .chain_update([0])
        .chain_update(&key)
        .finalize();
    let version = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Material {
        versions: vec![version],
        chain,
        key,
    })
}

fn fault(words: &str) -> Fault {
    Fault::new(FaultKind::Unsupported, "certificate:read", words)
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
