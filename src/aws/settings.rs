//! Region, endpoints and further roots: the standard AWS variables, checked before anything is made of them.

use std::net::IpAddr;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::{BadValue, Lookup};

/// Endpoints that replace AWS's own. The one of a service is stronger than the one for all.
#[derive(Debug, Clone, Default)]
pub(super) struct Endpoints {
    pub(super) all: Option<String>,
    pub(super) ec2: Option<String>,
    pub(super) elb: Option<String>,
    pub(super) dynamodb: Option<String>,
    pub(super) cloudwatch: Option<String>,
    #[cfg(feature = "cli")]
    pub(super) lambda: Option<String>,
    #[cfg(feature = "proxy")]
    pub(super) rds: Option<String>,
    #[cfg(feature = "proxy")]
    pub(super) secrets: Option<String>,
    #[cfg(feature = "proxy")]
    pub(super) route53: Option<String>,
}

impl Endpoints {
    pub(super) fn read(lookup: &impl Lookup, bad: &mut Vec<BadValue>) -> Self {
        let mut read = |key| keep(endpoint(key, lookup), bad).flatten();
        Endpoints {
            all: read("AWS_ENDPOINT_URL"),
            ec2: read("AWS_ENDPOINT_URL_EC2"),
            elb: read("AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2"),
            dynamodb: read("AWS_ENDPOINT_URL_DYNAMODB"),
            cloudwatch: read("AWS_ENDPOINT_URL_CLOUDWATCH"),
            #[cfg(feature = "cli")]
            lambda: read("AWS_ENDPOINT_URL_LAMBDA"),
            #[cfg(feature = "proxy")]
            rds: read("AWS_ENDPOINT_URL_RDS"),
            #[cfg(feature = "proxy")]
            secrets: read("AWS_ENDPOINT_URL_SECRETS_MANAGER"),
            #[cfg(feature = "proxy")]
            route53: read("AWS_ENDPOINT_URL_ROUTE_53"),
        }
    }
}

/// The value, or its error among the others.
pub(super) fn keep<T>(value: Result<T, BadValue>, bad: &mut Vec<BadValue>) -> Option<T> {
    value.map_err(|error| bad.push(error)).ok()
}

/// As [`keep`] for several errors.
pub(super) fn keep_all<T>(value: Result<T, Vec<BadValue>>, bad: &mut Vec<BadValue>) -> Option<T> {
    value.map_err(|errors| bad.extend(errors)).ok()
}

/// The region becomes part of a host name, so nothing else may hide in it.
pub(super) fn region(region: String) -> Result<String, BadValue> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if region.bytes().all(fits) {
        Ok(region)
    } else {
        Err(bad("AWS_REGION", &region, "a region such as eu-central-1".to_owned()))
    }
}

/// Further roots as PEM. The HTTP client panics on a certificate it cannot read, so each is tried here first.
pub(super) fn ca_bundle(lookup: &impl Lookup) -> Result<Option<Vec<u8>>, BadValue> {
    const KEY: &str = "AWS_CA_BUNDLE";
    let Some(path) = lookup.get(KEY) else {
        return Ok(None);
    };
    let refused = |why: String| bad(KEY, &path, format!("a readable file of PEM certificates ({why})"));
    let pem = std::fs::read(&path).map_err(|why| refused(why.to_string()))?;
    match certificates(&pem) {
        Ok(0) => Err(refused("it has none".to_owned())),
        Ok(_) => Ok(Some(pem)),
        Err(why) => Err(refused(why)),
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

fn endpoint(key: &str, lookup: &impl Lookup) -> Result<Option<String>, BadValue> {
    let Some(url) = lookup.get(key) else {
        return Ok(None);
    };
    let refused = |allowed: &str| Err(bad(key, &url, allowed.to_owned()));
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return refused("a URL that begins with https:// or, for a local endpoint, with http://");
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '@';
    if authority.is_empty() || url.contains(odd) {
        return refused("a URL such as http://127.0.0.1:4566");
    }
    if url.starts_with("http://") && !is_near(authority) {
        return refused("https:// for what is not local: http:// would send session tokens in the clear");
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
            let endings = [".localhost", ".local", ".internal"];
            !host.contains('.') || endings.iter().any(|end| host.ends_with(end))
        }
    }
}

fn bad(key: &str, value: &str, allowed: String) -> BadValue {
    BadValue {
        key: key.to_owned(),
        value: value.to_owned(),
        allowed,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Aws, ROOTS};
    use super::*;

    const GOOD: [(&str, &str); 4] = [
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "hidden-secret"),
        ("AWS_SESSION_TOKEN", "hidden-token"),
    ];

    /// The keys of all errors.
    fn wrong(changes: &[(&'static str, &'static str)]) -> Vec<String> {
        let map: BTreeMap<_, _> = GOOD.iter().chain(changes).copied().collect();
        let errors = Aws::from_environment(&map).err().map_or(Vec::new(), |errors| errors.0);
        errors.into_iter().map(|error| error.key).collect()
    }

    #[test]
    fn reads_the_functions_environment() {
        let mut map: BTreeMap<_, _> = GOOD.into();
        map.insert("AWS_ENDPOINT_URL", "http://127.0.0.1:4566");
        map.insert("AWS_ENDPOINT_URL_EC2", "");
        let aws = Aws::from_environment(&map).unwrap();
        assert_eq!(aws.region.as_ref(), "eu-central-1");
        assert_eq!(aws.endpoints.all.as_deref(), Some("http://127.0.0.1:4566"));
        assert_eq!(aws.endpoints.ec2, None);
        let shown = format!("{aws:?}");
        assert!(!shown.contains("hidden-"), "{shown}");

        map.insert("AWS_REGION", "");
        map.insert("AWS_DEFAULT_REGION", "us-east-1");
        assert_eq!(Aws::from_environment(&map).unwrap().region.as_ref(), "us-east-1");
    }

    #[test]
    fn reports_everything_at_once() {
        let nothing: BTreeMap<&str, &str> = BTreeMap::new();
        let keys = Aws::from_environment(&nothing).unwrap_err().0;
        let keys: Vec<_> = keys.into_iter().map(|error| error.key).collect();
        assert_eq!(keys, ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"]);
        let changes = [
            ("AWS_REGION", "evil.example/#"),
            ("AWS_ENDPOINT_URL", "127.0.0.1:4566"),
            ("AWS_ENDPOINT_URL_DYNAMODB", "http://dynamodb.example.com"),
            ("AWS_CA_BUNDLE", "/nonexistent/roots.pem"),
        ];
        assert_eq!(wrong(&changes), changes.map(|(key, _)| key));
    }

    #[test]
    fn plain_http_stays_near() {
        for near in [
            "http://127.0.0.1:1",
            "http://[::1]:4566/",
            "http://localhost",
            "http://moto:5000",
            "http://10.0.0.7",
            "https://example.com/prefix",
        ] {
            assert!(wrong(&[("AWS_ENDPOINT_URL", near)]).is_empty(), "{near}");
        }
        for far in [
            "http://example.com",
            "http://8.8.8.8:80",
            "http://127.0.0.1@example.com/",
            "http://127.0.0.1.example.com/",
            "ftp://localhost",
            "https://",
        ] {
            assert_eq!(wrong(&[("AWS_ENDPOINT_URL", far)]), ["AWS_ENDPOINT_URL"], "{far}");
        }
    }

    #[test]
    fn the_compiled_in_roots_are_five() {
        assert_eq!(certificates(ROOTS), Ok(5));
    }

    #[test]
    fn a_bundle_that_would_make_the_client_panic_is_refused() {
        assert!(certificates(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").is_err());
        assert!(certificates(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert_eq!(wrong(&[("AWS_CA_BUNDLE", manifest)]), ["AWS_CA_BUNDLE"]);
        let roots = concat!(env!("CARGO_MANIFEST_DIR"), "/src/aws/roots.pem");
        assert!(wrong(&[("AWS_CA_BUNDLE", roots)]).is_empty());
    }
}
