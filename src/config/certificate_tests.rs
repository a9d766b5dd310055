use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;
use crate::domain::fault::FaultKind;

/// In the middle of the certificates' time.
const NOW: &str = "2026-06-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A certificate for these names from the beginning of 2026 to the first of a month of `end`, and its key.
fn pair(names: &[&str], end: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.not_before = date_time_ymd(2026, 1, 1);
    parameters.not_after = date_time_ymd(end, 7, 1);
    let certificate = parameters.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn material(version: &str, chain: &str, key: &str) -> Material {
    Material {
        versions: vec![version.to_owned()],
        chain: chain.to_owned(),
        key: key.to_owned(),
    }
}

fn read(chain: &str, key: &str) -> Result<Certificate, CertificateProblem> {
    Certificate::read(material("1", chain, key))
}

#[test]
fn a_pair_tells_its_names_and_its_days_and_never_its_key() {
    let (chain, key) = pair(&["dev.example.com", "*.dev.example.com", "192.0.2.7"], 2026);
    let certificate = read(&chain, &key).unwrap();
    assert_eq!(
        certificate.names(),
        ["dev.example.com", "*.dev.example.com", "192.0.2.7"]
    );
    assert_eq!(certificate.days_left(now()), 29);
    assert_eq!(certificate.timely(now()), Ok(()));
    for (host, covered) in [
        ("DEV.example.com", true),
        ("a.dev.example.com", true),
        ("a.b.dev.example.com", false),
        (".dev.example.com", false),
        ("example.com", false),
        ("192.0.2.7", true),
    ] {
        assert_eq!(certificate.covers(host), covered, "{host}");
    }
    for shown in [
        format!("{certificate:?}"),
        format!("{:?}", material("1", &chain, &key)),
        format!("{:?}", refresh(now(), None, Ok(material("1", &chain, &key)))),
    ] {
        assert!(!shown.contains("BEGIN") && !shown.contains(&key[40..60]), "{shown}");
    }
}

#[test]
fn one_text_may_hold_both() {
    let (chain, key) = pair(&["a.example.com"], 2026);
    let both = format!("Bag Attributes\n{key}{chain}");
    read(&both, &both).unwrap();
}

#[test]
fn whatever_is_wrong_is_named() {
    let (chain, key) = pair(&["a.example.com"], 2026);
    let (other, other_key) = pair(&["b.example.com"], 2026);
    let words = |chain: &str, key: &str| read(chain, key).unwrap_err();
    assert_eq!(
        words(&chain, &other_key),
        CertificateProblem::Mismatch {
            names: "a.example.com".to_owned()
        }
    );
    assert_eq!(
        words(&format!("{other}{chain}"), &key),
        CertificateProblem::NotFirst { place: 2 }
    );
    read(&format!("{chain}{other}"), &key).unwrap();
    assert_eq!(words("", &key), CertificateProblem::NoCertificate);
    assert_eq!(words(&key, &key), CertificateProblem::NoCertificate);
    assert_eq!(words(&chain, &chain), CertificateProblem::NoKey);
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert_eq!(words(&chain, &encrypted), CertificateProblem::EncryptedKey);
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(
        words(&format!("{chain}{damaged}"), &key),
        CertificateProblem::UnreadableCertificate { place: 2, .. }
    ));
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(matches!(
        words(&chain, no_key),
        CertificateProblem::UnreadableKey { .. }
    ));
}

#[test]
fn the_time_is_judged_at_both_ends() {
    let (chain, key) = pair(&["a.example.com"], 2026);
    let certificate = read(&chain, &key).unwrap();
    let at = |time: &str| certificate.timely(time.parse().unwrap());
    assert_eq!(at("2026-07-01T00:00:00Z"), Ok(()));
    let expired = at("2026-07-01T00:00:01Z").unwrap_err().to_string();
    assert_eq!(
        expired,
        "the certificate for a.example.com expired at 2026-07-01T00:00:00Z"
    );
    assert!(matches!(
        at("2025-12-31T23:59:59Z"),
        Err(CertificateProblem::NotYet { .. })
    ));
    assert_eq!(certificate.days_left("2026-07-01T00:00:01Z".parse().unwrap()), -1);
}

#[test]
fn only_a_good_new_version_replaces_what_is_in_use() {
    let (chain, key) = pair(&["a.example.com"], 2026);
    let (newer, newer_key) = pair(&["a.example.com"], 2027);
    let last = Certificate::read(material("1", &chain, &key)).unwrap();
    let decide = |now: Timestamp, fetched| refresh(now, Some(&last), fetched);
    let kept = |refresh| match refresh {
        Refresh::KeepLast(why) => why,
        other => panic!("{other:?}"),
    };

    // Not even looked at: the version says that it is the same.
    assert!(matches!(decide(now(), Ok(material("1", "", ""))), Refresh::Unchanged));
    let Refresh::Load(loaded) = decide(now(), Ok(material("2", &newer, &newer_key))) else {
        panic!("a new version is loaded");
    };
    assert_eq!(loaded.versions(), ["2"]);
    // Half of a rotation.
    assert!(kept(decide(now(), Ok(material("2", &newer, &key)))).contains("another certificate"));
    let fault = Fault::new(FaultKind::Denied, "secretsmanager:GetSecretValue", "no");
    assert!(kept(decide(now(), Err(fault))).contains("lacks the permission"));
    // Once the last has expired too, the newer of two is served.
    let (old, old_key) = pair(&["a.example.com"], 2026);
    let later: Timestamp = "2026-08-01T00:00:00Z".parse().unwrap();
    assert!(matches!(
        decide(later, Ok(material("0", &old, &old_key))),
        Refresh::Load(_)
    ));
    let valid = Certificate::read(material("2", &newer, &newer_key)).unwrap();
    assert!(kept(refresh(later, Some(&valid), Ok(material("3", &old, &old_key)))).contains("expired"));
    assert!(matches!(
        refresh(later, None, Ok(material("3", &old, &old_key))),
        Refresh::Load(_)
    ));
}
