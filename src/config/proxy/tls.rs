//! `[[tls]]`: certificates, where each is kept and which hosts are shown it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::file::{Section, Walk};
use crate::config::proxy_rules::host;

const PLACES: [&str; 5] = ["certificate", "key", "secret", "certificateSecret", "keySecret"];
const HOSTS: &str = "hosts";

/// A certificate, and who is shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    pub pair: Pair,
    /// In lower case, `www.example.com` or `*.example.com`; empty: the names that the certificate itself is for. A host is in
    /// one entry at most.
    pub hosts: Vec<String>,
}

/// Where a certificate and its key are, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pair {
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
    /// Names or ARNs of secrets of Secrets Manager; the same one when it holds both.
    Secrets {
        certificate: String,
        key: String,
    },
}

impl Pair {
    /// What it is called: the file or secret of its certificate.
    pub fn name(&self) -> String {
        match self {
            Pair::Files { certificate, .. } => certificate.display().to_string(),
            Pair::Secrets { certificate, .. } => certificate.clone(),
        }
    }
}

/// Relative paths are taken from `folder`.
pub(super) fn read<'t>(walk: &mut Walk<'t>, root: Section<'t>, folder: &Path) -> Vec<Tls> {
    let mut all: Vec<Tls> = Vec::new();
    let mut taken = BTreeSet::new();
    for section in walk.sections(root, "tls") {
        let known: Vec<_> = PLACES.into_iter().chain([HOSTS]).collect();
        walk.strangers(section, &known);
        let hosts = hosts(walk, section, &mut taken);
        let Some(pair) = pair(walk, section, folder) else {
            continue;
        };
        if all.iter().any(|other| other.pair.name() == pair.name()) {
            let name = pair.name();
            walk.at(
                section,
                format!("the certificate {name} is given twice: give it once, with all its hosts"),
            );
        }
        all.push(Tls { pair, hosts });
    }
    all
}

fn hosts<'t>(walk: &mut Walk<'t>, section: Section<'t>, taken: &mut BTreeSet<String>) -> Vec<String> {
    let mut hosts = Vec::new();
    for element in walk.list(section, HOSTS) {
        let said = element.said();
        match host(&said.text) {
            Some(host) if !taken.insert(host.clone()) => {
                walk.tell(
                    &said,
                    format!("tls.hosts: {host} is in an earlier place already: give it one certificate"),
                );
            }
            Some(host) => hosts.push(host),
            None => walk.refuse(
                &said,
                "host names such as app.example.com, or *.example.com for all below",
            ),
        }
    }
    hosts
}

fn pair<'t>(walk: &mut Walk<'t>, section: Section<'t>, folder: &Path) -> Option<Pair> {
    let [certificate, key, both, certificate_secret, key_secret] = PLACES.map(|key| {
        let fits = |text: &str| (1..=2048).contains(&text.len()).then(|| text.to_owned());
        walk.read(section, key, "a text of 1 to 2048 characters", fits)
    });
    match (certificate, key, both, certificate_secret, key_secret) {
        (Some(certificate), Some(key), None, None, None) => Some(Pair::Files {
            certificate: folder.join(certificate),
            key: folder.join(key),
        }),
        (None, None, Some(both), None, None) => Some(Pair::Secrets {
            certificate: both.clone(),
            key: both,
        }),
        (None, None, None, Some(certificate), Some(key)) => Some(Pair::Secrets { certificate, key }),
        _ => {
            let ways = "certificate and key (files), secret (one with both), or certificateSecret and keySecret";
            walk.at(section, format!("a certificate is given in one of three ways: {ways}"));
            None
        }
    }
}
