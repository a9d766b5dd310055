//! Region, endpoints, credentials and roots, read from the standard AWS variables.

use std::net::IpAddr;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Where AWS is and who we are there. Built without `aws-config`: the function's environment says all of it, and the
/// provider chain would only add to its size.
#[derive(Debug, Clone)]
pub struct AwsSettings {
    /// Such as `eu-central-1`.
    pub region: String,
    /// Where to send calls instead of AWS's own endpoints.
    pub endpoints: Endpoints,
    pub(super) credentials: SharedCredentialsProvider,
    /// PEM certificates, checked; trusted beside the compiled-in roots.
    pub(super) ca_bundle: Option<Vec<u8>>,
}

/// Endpoints that replace AWS's own. The one of a service is stronger than the one for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// `AWS_ENDPOINT_URL`
    pub all: Option<String>,
    /// `AWS_ENDPOINT_URL_EC2`
    pub ec2: Option<String>,
    /// `AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2`
    pub elbv2: Option<String>,
    /// `AWS_ENDPOINT_URL_DYNAMODB`
    pub dynamodb: Option<String>,
}

/// A variable that is missing or cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct SettingError {
    pub key: String,
    /// What is wrong and what is allowed, in words. Never has the value of a secret.
    pub problem: String,
}

impl AwsSettings {
    /// Reads `AWS_REGION` (or `AWS_DEFAULT_REGION`), `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`,
    /// `AWS_ENDPOINT_URL` and its forms for single services, and the file that `AWS_CA_BUNDLE` names, once.
    /// An empty value counts as missing.
    ///
    /// # Errors
    /// All of them at once, each with its key.
    pub fn from_env(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<SettingError>> {
        let lookup = |key: &str| lookup(key).filter(|value| !value.is_empty());
        let mut errors = Vec::new();
        let region = lookup("AWS_REGION").or_else(|| lookup("AWS_DEFAULT_REGION"));
        let region = keep(region_name(region), &mut errors);
        let key = keep(required("AWS_ACCESS_KEY_ID", &lookup), &mut errors);
        let secret = keep(required("AWS_SECRET_ACCESS_KEY", &lookup), &mut errors);
        let endpoints = Endpoints::from_env(&lookup, &mut errors);
        let ca_bundle = keep(ca_bundle(&lookup), &mut errors);
        match (region, key, secret, ca_bundle) {
            (Some(region), Some(key), Some(secret), Some(ca_bundle)) if errors.is_empty() => {
                let token = lookup("AWS_SESSION_TOKEN");
                let credentials = Credentials::new(key, secret, token, None, "environment");
                Ok(AwsSettings {
                    region,
                    endpoints,
                    credentials: SharedCredentialsProvider::new(credentials),
                    ca_bundle,
                })
            }
            _ => Err(errors),
        }
    }
}

impl Endpoints {
    pub(super) fn from_env(lookup: &dyn Fn(&str) -> Option<String>, errors: &mut Vec<SettingError>) -> Self {
        let mut read = |key| keep(endpoint(key, lookup), errors).flatten();
        Endpoints {
            all: read("AWS_ENDPOINT_URL"),
            ec2: read("AWS_ENDPOINT_URL_EC2"),
            elbv2: read("AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2"),
            dynamodb: read("AWS_ENDPOINT_URL_DYNAMODB"),
        }
    }
}

fn keep<T>(value: Result<T, SettingError>, errors: &mut Vec<SettingError>) -> Option<T> {
    value.map_err(|error| errors.push(error)).ok()
}

fn wrong(key: &str, problem: impl Into<String>) -> SettingError {
    SettingError {
        key: key.to_owned(),
        problem: problem.into(),
    }
}

fn required(key: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, SettingError> {
    lookup(key).ok_or_else(|| wrong(key, "is missing"))
}

/// The region becomes part of a host name, so nothing else may hide in it.
fn region_name(region: Option<String>) -> Result<String, SettingError> {
    let Some(region) = region else {
        return Err(wrong("AWS_REGION", "is missing; such as eu-central-1"));
    };
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if region.bytes().all(fits) {
        Ok(region)
    } else {
        let problem = format!("{region:?} is no region; such as eu-central-1");
        Err(wrong("AWS_REGION", problem))
    }
}

fn endpoint(key: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>, SettingError> {
    let Some(url) = lookup(key) else {
        return Ok(None);
    };
    let ((Some(rest), _) | (None, Some(rest))) = (url.strip_prefix("https://"), url.strip_prefix("http://")) else {
        return Err(wrong(key, format!("{url:?} does not begin with https:// or http://")));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains('@') || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(wrong(key, "is no URL; such as http://127.0.0.1:4566"));
    }
    if url.starts_with("http://") && !is_near(authority) {
        let problem = format!("{url:?} would send session tokens in the clear; http:// is for local endpoints only");
        return Err(wrong(key, problem));
    }
    Ok(Some(url))
}

/// Whether this host is this machine or a neighbour: a loopback or private address, or a name that no public DNS has.
fn is_near(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    match host.parse() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        Err(_) => {
            !host.contains('.')
                || [".localhost", ".local", ".internal"]
                    .iter()
                    .any(|end| host.ends_with(end))
        }
    }
}

/// The HTTP client panics on a certificate it cannot parse, so each is tried here first.
pub(super) fn ca_bundle(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<Vec<u8>>, SettingError> {
    const KEY: &str = "AWS_CA_BUNDLE";
    let Some(path) = lookup(KEY).filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let pem = std::fs::read(&path).map_err(|error| wrong(KEY, format!("cannot read {path:?}: {error}")))?;
    match certificates(&pem) {
        Ok(0) => Err(wrong(KEY, format!("{path:?} has no PEM certificate"))),
        Ok(_) => Ok(Some(pem)),
        Err(why) => Err(wrong(
            KEY,
            format!("{path:?} has a certificate that cannot be read: {why}"),
        )),
    }
}

/// The number of certificates, all of them readable.
fn certificates(pem: &[u8]) -> Result<usize, String> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        store.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(store.len())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const GOOD: [(&str, &str); 4] = [
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "hidden-secret"),
        ("AWS_SESSION_TOKEN", "hidden-token"),
    ];

    fn read(changes: &[(&str, &str)]) -> Result<AwsSettings, Vec<SettingError>> {
        let map: HashMap<&str, &str> = GOOD.iter().chain(changes).copied().collect();
        AwsSettings::from_env(&|key| map.get(key).map(|value| (*value).to_owned()))
    }

    fn keys(result: Result<AwsSettings, Vec<SettingError>>) -> Vec<String> {
        result.unwrap_err().into_iter().map(|error| error.key).collect()
    }

    #[test]
    fn reads_the_functions_environment() {
        let settings = read(&[
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:4566"),
            ("AWS_ENDPOINT_URL_EC2", ""),
        ]);
        let settings = settings.unwrap();
        assert_eq!(settings.region, "eu-central-1");
        assert_eq!(settings.endpoints.all.as_deref(), Some("http://127.0.0.1:4566"));
        assert_eq!(settings.endpoints.ec2, None);
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hidden-"), "{shown}");
    }

    #[test]
    fn reports_everything_at_once() {
        let nothing = AwsSettings::from_env(&|_| None);
        assert_eq!(
            keys(nothing),
            ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
        );
        let wrong = read(&[
            ("AWS_REGION", "evil.example/#"),
            ("AWS_ENDPOINT_URL", "127.0.0.1:4566"),
            ("AWS_ENDPOINT_URL_DYNAMODB", "http://dynamodb.example.com"),
            ("AWS_CA_BUNDLE", "/nonexistent/roots.pem"),
        ]);
        let expected = [
            "AWS_REGION",
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_DYNAMODB",
            "AWS_CA_BUNDLE",
        ];
        assert_eq!(keys(wrong), expected);
    }

    #[test]
    fn the_default_region_is_the_second_choice() {
        let settings = read(&[("AWS_DEFAULT_REGION", "us-east-1")]).unwrap();
        assert_eq!(settings.region, "eu-central-1");
        let settings = read(&[("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "us-east-1")]).unwrap();
        assert_eq!(settings.region, "us-east-1");
    }

    #[test]
    fn plain_http_stays_near() {
        for near in [
            "http://127.0.0.1:1",
            "http://[::1]:4566/",
            "http://localhost",
            "http://moto:5000",
            "http://10.0.0.7",
        ] {
            assert!(read(&[("AWS_ENDPOINT_URL", near)]).is_ok(), "{near}");
        }
        for far in [
            "http://example.com",
            "http://8.8.8.8:80",
            "http://127.0.0.1@example.com/",
            "ftp://localhost",
            "https://",
        ] {
            assert!(read(&[("AWS_ENDPOINT_URL", far)]).is_err(), "{far}");
        }
    }

    #[test]
    fn the_compiled_in_roots_are_five() {
        assert_eq!(certificates(super::super::clients::ROOTS), Ok(5));
    }

    #[test]
    fn a_bundle_that_would_make_the_client_panic_is_refused() {
        assert!(certificates(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").is_err());
        assert!(certificates(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert_eq!(keys(read(&[("AWS_CA_BUNDLE", manifest)])), ["AWS_CA_BUNDLE"]);
        let roots = concat!(env!("CARGO_MANIFEST_DIR"), "/src/aws/roots.pem");
        assert!(read(&[("AWS_CA_BUNDLE", roots)]).is_ok());
    }
}
