use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

/// Writes a certificate for these names until July of `end`, and its key; the entry that names it.
fn entry(folder: &TempDir, file: &str, names: &[&str], end: i32, hosts: &[&str]) -> Tls {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.not_before = date_time_ymd(2026, 1, 1);
    parameters.not_after = date_time_ymd(end, 7, 1);
    let [certificate, secret] = ["pem", "key"].map(|kind| folder.path().join(format!("{file}.{kind}")));
    std::fs::write(&certificate, parameters.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&secret, key.serialize_pem()).unwrap();
    Tls {
        pair: Pair::Files {
            certificate,
            key: secret,
        },
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
    }
}

/// In use with its hosts, each by the name of its file.
fn shown(certificates: &Certificates) -> Vec<String> {
    let one = |one: envoy::Certificate| {
        let file = one.name.rsplit('/').next().unwrap().to_owned();
        format!("{file} {}", one.hosts.join(" "))
    };
    certificates.in_use().into_iter().map(one).collect()
}

async fn read(all: &[Tls]) -> Certificates {
    let mut certificates = Certificates::new(all, None, &BTreeMap::new());
    assert!(certificates.renew(now(), true).await);
    assert!(!certificates.renew(now(), true).await, "nothing is new");
    certificates
}

/// Red when the earlier entry had the name whatever its certificate, and when nothing was said.
#[tokio::test]
async fn of_two_for_one_name_the_one_that_is_valid_for_longer_is_shown_and_the_other_is_told() {
    let folder = TempDir::new().unwrap();
    let names = ["*.example.com", "example.com"];
    let old = entry(&folder, "old", &names, 2026, &[]);
    let renewed = entry(&folder, "renewed", &names, 2027, &[]);
    for (all, first) in [([old.clone(), renewed.clone()], "old"), ([renewed, old], "renewed")] {
        let certificates = read(&all).await;
        assert_eq!(
            shown(&certificates),
            ["renewed.pem *.example.com example.com"],
            "{first} first"
        );
        let problems = certificates.problems(now());
        let told = problems.iter().find(|problem| problem.contains("nobody is shown it"));
        let told = told.unwrap_or_else(|| panic!("{problems:?}"));
        assert!(
            told.contains("old.pem: nobody") && told.contains("renewed.pem is shown"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn the_hosts_of_an_entry_go_before_the_names_of_another() {
    let folder = TempDir::new().unwrap();
    let wide = entry(&folder, "wide", &["a.example.com", "b.example.com"], 2028, &[]);
    let narrow = entry(&folder, "narrow", &["b.example.com"], 2027, &["b.example.com"]);
    let certificates = read(&[wide, narrow]).await;
    assert_eq!(
        shown(&certificates),
        ["wide.pem a.example.com", "narrow.pem b.example.com"]
    );
    assert_eq!(certificates.problems(now()), [""; 0]);
}

/// Red when nothing was said.
#[tokio::test]
async fn one_without_a_host_is_told_unless_it_is_first() {
    let folder = TempDir::new().unwrap();
    let named = entry(&folder, "named", &["a.example.com"], 2028, &[]);
    let nameless = entry(&folder, "nameless", &["192.0.2.7"], 2028, &[]);
    assert_eq!(read(&[nameless.clone(), named.clone()]).await.problems(now()), [""; 0]);
    let problems = read(&[named, nameless]).await.problems(now());
    let [problem] = &problems[..] else {
        panic!("{problems:?}")
    };
    assert!(
        problem.contains("nameless.pem: nobody is shown it") && problem.contains("named.pem"),
        "{problem}"
    );
}

/// Red when what could not be read was left out.
#[tokio::test]
async fn what_cannot_be_read_stays_what_envoy_has() {
    let folder = TempDir::new().unwrap();
    let all = [
        entry(&folder, "a", &["a.example.com"], 2028, &[]),
        entry(&folder, "b", &["b.example.com"], 2028, &[]),
    ];
    let before = read(&all).await.in_use();
    let hosts = before.iter().map(|one| (one.name.clone(), one.hosts.clone())).collect();
    std::fs::remove_file(folder.path().join("a.key")).unwrap();
    let mut after = Certificates::new(&all, None, &hosts);
    after.renew(now(), true).await;
    assert_eq!(shown(&after), ["a.pem a.example.com", "b.pem b.example.com"]);
    assert!(after.in_use()[0].chain_pem.is_empty() && after.in_use()[1] == before[1]);
    assert!(!after.is_whole() && after.problems(now())[0].contains("a.key"));
}
