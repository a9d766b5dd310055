//! The certificates of the configuration, from files or Secrets Manager, each renewed by itself without a restart.

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
}

/// One `[[tls]]`.
struct Entry {
    tls: Tls,
    known: Option<Certificate>,
    /// Why what was read last is not in use.
    refused: Option<String>,
    /// What was said of it in the log last.
    told: Vec<String>,
}

impl Certificates {
    pub fn new(all: &[Tls], secrets: Option<Secrets>) -> Self {
        let entry = |tls: &Tls| Entry {
            tls: tls.clone(),
            known: None,
            refused: None,
            told: Vec::new(),
        };
        Certificates {
            entries: all.iter().map(entry).collect(),
            secrets,
        }
    }

    /// Reads the files again, and the secrets if wanted. Whether anything in use has changed.
    pub async fn renew(&mut self, now: Timestamp, secrets_too: bool) -> bool {
        let mut changed = false;
        for entry in &mut self.entries {
            let material = match &entry.tls.pair {
                Pair::Files { certificate, key } => Some(files(certificate, key)),
                Pair::Secrets { .. } if !secrets_too => None,
                Pair::Secrets { certificate, key } => Some(match &self.secrets {
                    Some(secrets) => secrets.material(certificate, (key != certificate).then_some(key)).await,
                    None => Err(fault("the proxy has no Region: set region in its configuration")),
                }),
            };
            changed |= material.is_some_and(|material| entry.take_in(now, material));
            let problems = entry.problems(now);
            for problem in problems.iter().filter(|problem| !entry.told.contains(problem)) {
                tracing::warn!("{problem}");
            }
            entry.told = problems;
        }
        changed
    }

    /// What is wrong, or soon will be, a sentence each.
    pub fn problems(&self, now: Timestamp) -> Vec<String> {
        self.entries.iter().flat_map(|entry| entry.problems(now)).collect()
    }

    /// Whether there is one for each entry.
    pub fn is_whole(&self) -> bool {
        self.entries.iter().all(|entry| entry.known.is_some())
    }

    /// As Envoy takes them.
    pub fn in_use(&self) -> Vec<envoy::Certificate> {
        self.entries.iter().filter_map(Entry::in_use).collect()
    }
}

impl Entry {
    /// Whether it is another one than before.
    fn take_in(&mut self, now: Timestamp, material: Result<Material, Fault>) -> bool {
        self.refused = None;
        match refresh(now, self.known.as_ref(), material) {
            Refresh::Unchanged => false,
            Refresh::Load(certificate) => {
                self.known = Some(certificate);
                true
            }
            Refresh::KeepLast(why) => {
                self.refused = Some(why);
                false
            }
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
        let name = self.tls.pair.name();
        problems
            .into_iter()
            .map(|problem| format!("[[tls]] {name}: {problem}"))
            .collect()
    }

    fn in_use(&self) -> Option<envoy::Certificate> {
        let known = self.known.as_ref()?;
        // A certificate's names may be addresses, which no client asks for by name.
        let own = || known.names().iter().filter_map(|name| host(name)).collect();
        let is_address = |host: &String| host.parse::<std::net::IpAddr>().is_ok();
        let mut hosts: Vec<String> = match self.tls.hosts.is_empty() {
            true => own(),
            false => self.tls.hosts.clone(),
        };
        hosts.retain(|host| !is_address(host));
        Some(envoy::Certificate {
            // What does not change with the order of the entries: else one would be taken for a rotation of another.
            name: format!("certificate/{}", self.tls.pair.name()),
            hosts,
            chain_pem: known.chain_pem().into(),
            key_pem: known.key_pem().into(),
        })
    }
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
    Fault::new(FaultKind::NotFound, "certificate:read", words)
}
