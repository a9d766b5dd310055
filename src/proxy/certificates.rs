//! The certificates of the configuration, from files or Secrets Manager, renewed without a restart.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::aws::Secrets;
use crate::config::certificate::{Certificate, Material, Refresh, refresh};
use crate::config::proxy::Certificate as Place;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::time::Timestamp;
use crate::gateway::envoy;

/// What is in use, and what is wrong with what is not.
pub struct Certificates {
    places: Vec<Place>,
    secrets: Option<Secrets>,
    known: Vec<Option<Certificate>>,
    problems: Vec<Option<String>>,
}

impl Certificates {
    pub fn new(places: &[Place], secrets: Option<Secrets>) -> Self {
        Certificates {
            places: places.to_vec(),
            secrets,
            known: vec![None; places.len()],
            problems: vec![None; places.len()],
        }
    }

    /// Reads the files again, and the secrets if wanted. Whether anything in use has changed.
    pub async fn renew(&mut self, now: Timestamp, secrets_too: bool) -> bool {
        let mut changed = false;
        for at in 0..self.places.len() {
            let material = match &self.places[at] {
                Place::Files { certificate, key } => files(certificate, key),
                Place::Secrets { .. } if !secrets_too => continue,
                Place::Secrets { certificate, key } => match &self.secrets {
                    Some(secrets) => secrets.material(certificate, (key != certificate).then_some(key)).await,
                    None => Err(fault("the proxy has no Region: set region in its configuration")),
                },
            };
            let before = self.problems[at].take();
            match refresh(now, self.known[at].as_ref(), material) {
                Refresh::Unchanged => {}
                Refresh::Load(certificate) => {
                    self.problems[at] = certificate.timely(now).err().map(|problem| problem.to_string());
                    self.known[at] = Some(certificate);
                    changed = true;
                }
                Refresh::KeepLast(why) => self.problems[at] = Some(why),
            }
            if let Some(problem) = &self.problems[at]
                && before.as_ref() != Some(problem)
            {
                tracing::warn!("[[tls]] {}: {problem}", self.name(at));
            }
        }
        changed
    }

    /// What is wrong, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let told =
            |(at, problem): (usize, &Option<String>)| Some(format!("[[tls]] {}: {}", self.name(at), problem.as_ref()?));
        self.problems.iter().enumerate().filter_map(told).collect()
    }

    /// Whether there is one for each place.
    pub fn is_whole(&self) -> bool {
        self.known.iter().all(Option::is_some)
    }

    /// As Envoy takes them.
    pub fn in_use(&self) -> Vec<envoy::Certificate> {
        let one = |(at, known): (usize, &Option<Certificate>)| {
            let known = known.as_ref()?;
            Some(envoy::Certificate {
                name: format!("certificate-{}", at + 1),
                chain_pem: known.chain_pem().into(),
                key_pem: known.key_pem().into(),
            })
        };
        self.known.iter().enumerate().filter_map(one).collect()
    }

    fn name(&self, at: usize) -> String {
        match &self.places[at] {
            Place::Files { certificate, .. } => certificate.display().to_string(),
            Place::Secrets { certificate, .. } => certificate.clone(),
        }
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
