//! A certificate and its key, as PEM text: whether they belong together, for which names and until when; and whether newly
//! fetched ones replace those in use. Pure.

use std::fmt;
use std::net::IpAddr;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;

use crate::domain::fault::Fault;
use crate::domain::time::Timestamp;

/// Days within which a certificate that expires is told of. Enough to renew it by hand, and less than what any renewal by itself
/// leaves.
pub const SOON: i64 = 14;

/// PEM as it came, not yet looked at.
#[derive(Clone)]
pub struct Material {
    /// What changes with the content: the version of each secret it is from.
    pub versions: Vec<String>,
    /// The server's certificate, then what signed it.
    pub chain: String,
    /// A private key in PKCS #8, PKCS #1 or SEC 1.
    pub key: String,
}

/// A certificate that fits its key.
#[derive(Clone)]
pub struct Certificate {
    material: Material,
    names: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Why a certificate cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateProblem {
    #[error("there is no certificate in it: it has to be PEM, -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    #[error("its certificate number {place} cannot be read: {why}")]
    UnreadableCertificate { place: usize, why: String },
    #[error("there is no private key in it: it has to be PEM, -----BEGIN PRIVATE KEY-----")]
    NoKey,
    #[error("its private key is encrypted, and nobody is here to enter the password: store it without one")]
    EncryptedKey,
    #[error("its private key cannot be used: {why}")]
    UnreadableKey { why: String },
    #[error("the private key belongs to another certificate than the one for {names}")]
    Mismatch { names: String },
    #[error("the private key belongs to certificate number {place} of the chain: the server's own has to come first")]
    NotFirst { place: usize },
    #[error("the certificate for {names} expired at {at}")]
    Expired { names: String, at: Timestamp },
    #[error("the certificate for {names} is not valid before {at}")]
    NotYet { names: String, at: Timestamp },
}

/// What to do with what was fetched.
#[derive(Debug)]
pub enum Refresh {
    /// It is what is in use.
    Unchanged,
    /// It is new and better than what is in use.
    Load(Certificate),
    /// Whatever was in use stays; why, in words.
    KeepLast(String),
}

/// Decides on what was fetched. Certificate and key of two secrets change one after the other, so that what does not fit
/// together is asked for again next time, while the last good pair stays in use. An expired certificate is better than none,
/// but not than one that is valid.
pub fn refresh(now: Timestamp, last: Option<&Certificate>, fetched: Result<Material, Fault>) -> Refresh {
    let material = match fetched {
        Ok(material) => material,
        Err(fault) => return Refresh::KeepLast(fault.sentence()),
    };
    if last.is_some_and(|last| last.material.versions == material.versions) {
        return Refresh::Unchanged;
    }
    let certificate = match Certificate::read(material) {
        Ok(certificate) => certificate,
        Err(problem) => return Refresh::KeepLast(problem.to_string()),
    };
    match (certificate.timely(now), last) {
        (Err(problem), Some(last)) if last.timely(now).is_ok() => Refresh::KeepLast(problem.to_string()),
        _ => Refresh::Load(certificate),
    }
}

impl Certificate {
    /// Reads both and sees whether they fit together. Whether the time is right is asked with [`Certificate::timely`].
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read(material: Material) -> Result<Self, CertificateProblem> {
        let chain = chain(&material.chain)?;
        let key = key(&material.key)?;
        let (names, not_before, not_after) = described(&chain[0]).map_err(|why| unreadable(1, why))?;
        let fits = |certificate: &CertificateDer<'static>| {
            CertifiedKey::new(vec![certificate.clone()], key.clone())
                .keys_match()
                .is_ok()
        };
        match chain.iter().position(fits) {
            Some(0) => Ok(Certificate {
                material,
                names,
                not_before,
                not_after,
            }),
            Some(place) => Err(CertificateProblem::NotFirst { place: place + 1 }),
            None => Err(CertificateProblem::Mismatch {
                names: names.join(", "),
            }),
        }
    }

    /// Whether it may be served now.
    ///
    /// # Errors
    /// When it has expired or is not valid yet.
    pub fn timely(&self, now: Timestamp) -> Result<(), CertificateProblem> {
        let names = || self.names.join(", ");
        if now < self.not_before {
            let at = self.not_before;
            return Err(CertificateProblem::NotYet { names: names(), at });
        }
        if self.not_after < now {
            let at = self.not_after;
            return Err(CertificateProblem::Expired { names: names(), at });
        }
        Ok(())
    }

    /// The last moment at which it is valid.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whole days until it expires; negative once it has.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        (self.not_after.as_second() - now.as_second()).div_euclid(24 * 3600)
    }

    /// The DNS names and addresses it is for, in its order. Its common name is no longer looked at by anybody (RFC 9110,
    /// 4.3.4).
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether it is for this host name.
    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| covers(name, host))
    }

    /// The chain as PEM, for Envoy.
    pub fn chain_pem(&self) -> &str {
        &self.material.chain
    }

    /// The private key as PEM, for Envoy and nobody else.
    pub fn key_pem(&self) -> &str {
        &self.material.key
    }

    /// The versions of the secrets it is from.
    pub fn versions(&self) -> &[String] {
        &self.material.versions
    }
}

/// Whether a certificate's name is for this host. `*` stands for one whole first label (RFC 9525, 6.3); a host that is itself
/// a pattern is covered by the same pattern.
pub fn covers(name: &str, host: &str) -> bool {
    let below = |parent: &str| {
        let (first, rest) = host.split_once('.')?;
        Some(!first.is_empty() && rest.eq_ignore_ascii_case(parent))
    };
    name.eq_ignore_ascii_case(host) || name.strip_prefix("*.").and_then(below).unwrap_or_default()
}

fn unreadable(place: usize, why: String) -> CertificateProblem {
    CertificateProblem::UnreadableCertificate { place, why }
}

fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, CertificateProblem> {
    let mut chain = Vec::new();
    for (place, certificate) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
        let certificate = certificate.map_err(|error| unreadable(place + 1, error.to_string()))?;
        described(&certificate).map_err(|why| unreadable(place + 1, why))?;
        chain.push(certificate);
    }
    match chain.is_empty() {
        true => Err(CertificateProblem::NoCertificate),
        false => Ok(chain),
    }
}

fn key(pem: &str) -> Result<std::sync::Arc<dyn rustls::sign::SigningKey>, CertificateProblem> {
    let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
        Ok(key) => key,
        Err(_) if pem.contains("ENCRYPTED") => return Err(CertificateProblem::EncryptedKey),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => return Err(CertificateProblem::NoKey),
        // The words say where in the text it stops to be PEM, never what is there.
        Err(_) => {
            return Err(CertificateProblem::UnreadableKey {
                why: "its PEM is damaged".to_owned(),
            });
        }
    };
    rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| CertificateProblem::UnreadableKey {
        why: "it is no RSA key of 2048 bits or more, and no elliptic-curve key on P-256 or P-384".to_owned(),
    })
}

/// Names, begin and end of a certificate.
///
/// # Errors
/// Why it cannot be read.
pub fn described(certificate: &CertificateDer<'_>) -> Result<(Vec<String>, Timestamp, Timestamp), String> {
    let (_, read) = x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).map_err(|e| e.to_string());
    let validity = read.validity();
    let names = read.subject_alternative_name().map_err(|error| error.to_string())?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    Ok((
        names.filter_map(name).collect(),
        time(validity.not_before)?,
        time(validity.not_after)?,
    ))
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions = &self.versions;
        f.debug_struct("Material")
            .field("versions", versions)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("names", &self.names)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
