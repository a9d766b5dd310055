//! Clients that speak TLS: the shipped daemon, a real Envoy, OpenSSL, curl and Chromium.
#![cfg(feature = "proxy")]

#[allow(dead_code, reason = "other tests use the rest of it")]
#[path = "local_support/browser.rs"]
mod browser;
mod proxy_daemon;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use browser::Browser;
use proxy_daemon::{Place, free_port, said, serves};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Who signs the certificates of a test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, PEM.
struct Pair {
    chain: String,
    key: String,
    /// The digest of its public key, as Chromium wants it.
    spki: String,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters
            .distinguished_name
            .push(DnType::CommonName, "The test's authority");
        Authority(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for these names; `called` is what a client is shown of it.
    fn sign(&self, called: &str, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, called);
        let key = KeyPair::generate().unwrap();
        let digest = Sha256::digest(key.subject_public_key_info());
        Pair {
            chain: parameters.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
            spki: base64::prelude::BASE64_STANDARD.encode(digest),
        }
    }
}

/// Two certificates, the second for a name of its entry's choice.
const TLS: &str = "httpsPorts = [8443, 8444]\nredirectToHTTPS = true\n\
                   [[tls]]\ncertificate = \"a.pem\"\nkey = \"a.key\"\n\
                   [[tls]]\ncertificate = \"b.pem\"\nkey = \"b.key\"\nhosts = \"b.test\"\n";

/// A site behind the proxy, with a certificate for each of two hosts.
struct Scene {
    authority: Authority,
    a: Pair,
    b: Pair,
    /// What the site serves; its machine is healthy once `go` is in it.
    files: TempDir,
    place: Place,
}

impl Scene {
    /// `names` are those of the first certificate, `page` is what the site shows.
    fn new(names: &[&str], page: &str) -> Self {
        let authority = Authority::new();
        let (a, b) = (authority.sign("a", names), authority.sign("b", &["b.test"]));
        let (files, port) = (tempfile::tempdir().unwrap(), free_port());
        std::fs::write(files.path().join("index.html"), page).unwrap();
        let place = Place::new();
        place.write("config.toml", &place.config(&format!("usageTrackingPort = 0\n{TLS}")));
        place.write("authority.pem", authority.0.pem().as_str());
        for (name, pair) in [("a", &a), ("b", &b)] {
            place.write(&format!("{name}.pem"), &pair.chain);
            place.write(&format!("{name}.key"), &pair.key);
        }
        let rule = format!(
            "idle = \"1h\"\nresources = ['program:{}']\n[[http]]\nhosts = [\"www.a.test\", \"b.test\", \"c.test\"]\n\
             port = {port}\ncheck = \"/\"\n",
            site(files.path(), port)
        );
        place.write("rules.d/site.toml", &rule);
        Scene {
            authority,
            a,
            b,
            files,
            place,
        }
    }
}

fn healthy(files: &TempDir) {
    std::fs::write(files.path().join("go"), "").unwrap();
}

/// The site: its files, served once there is one called `go`.
fn site(folder: &std::path::Path, port: u16) -> String {
    format!(
        "cd {}; until [ -e go ]; do sleep 0.05; done; exec python3 -m http.server {port} --bind 127.0.0.1 --protocol HTTP/1.1",
        folder.display()
    )
}

fn openssl(place: &Place, host: Option<&str>) -> Command {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("{}:8443", place.address)]);
    match host {
        Some(host) => command.args(["-servername", host]),
        None => command.arg("-noservername"),
    };
    command.stderr(Stdio::null());
    command
}

/// What the certificate is called that a client of this host is shown.
fn shown(place: &Place, host: Option<&str>) -> String {
    let output = openssl(place, host).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rest = text.split_once("subject=CN = ").map(|(_, rest)| rest);
    rest.and_then(|rest| rest.lines().next()).unwrap_or_default().to_owned()
}

/// A request of curl, which believes nobody but the test's authority: what it says of the answer.
fn curl(place: &Place, url: &str, says: &str) -> String {
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--http2",
        "--output",
        "/dev/null",
        "--write-out",
        says,
        "--cacert",
    ]);
    command.arg(place.path("authority.pem"));
    command.args(["--connect-to", &format!("::{}:", place.address), url]);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{url}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A client whose connection stays open.
struct Open(Child);

impl Open {
    fn to(place: &Place, host: &str) -> Self {
        let mut command = openssl(place, Some(host));
        command.arg("-quiet").stdin(Stdio::piped()).stdout(Stdio::piped());
        Open(command.spawn().unwrap())
    }

    /// One request and its answer's body.
    fn get(&mut self, host: &str, path: &str) -> String {
        let to = self.0.stdin.as_mut().unwrap();
        write!(to, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        let from = self.0.stdout.as_mut().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            from.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.split_once("content-length: ").unwrap().1;
        let mut body = vec![0; length.split_once("\r\n").unwrap().0.parse().unwrap()];
        from.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Seen red: with certificates that are for no host, so that the first is shown to everybody.
#[test]
fn each_host_is_shown_its_certificate_and_one_is_renewed_without_the_other() {
    let names = ["www.a.test", "*.a.test", "192.0.2.1"];
    let Scene {
        authority,
        files,
        place,
        ..
    } = Scene::new(&names, "the site");
    healthy(&files);
    let _daemon = place.start();
    for (host, certificate) in [
        (Some("www.a.test"), "a"),
        (Some("any.a.test"), "a"),
        (Some("B.test"), "b"),
        (Some("c.test"), "a"),
        (None, "a"),
    ] {
        assert_eq!(shown(&place, host), certificate, "{host:?}");
    }
    // What the doctor sees of it, with nobody woken.
    let output = place.run(&["--output", "json", "doctor", "--proxy"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = found["findings"].as_array().unwrap();
    // The machine of the test has its own clock, services and kernel.
    let of_hosts: Vec<_> = found
        .iter()
        .filter(|finding| {
            !["service-down", "clock", "ports-given-away"]
                .map(Into::into)
                .contains(&finding["code"])
        })
        .map(|finding| (&finding["code"], &finding["of"]))
        .collect();
    assert_eq!(
        of_hosts,
        [(&"host-without-certificate".into(), &"c.test".into())],
        "{found:?}"
    );
    assert_eq!(place.status("site")["phase"], "asleep");
    // It sleeps, and a program's request is held until the site answers it.
    let of = "%{http_code} %{http_version} %{ssl_verify_result}";
    assert_eq!(curl(&place, "https://b.test:8443/", of), "200 2 0");
    assert_eq!(curl(&place, "https://www.a.test:8444/", of), "200 2 0");
    let to = curl(&place, "http://www.a.test:8080/x?y", "%{http_code} %{redirect_url}");
    assert_eq!(to, "301 https://www.a.test:8443/x?y");

    let (mut on_a, mut on_b) = (Open::to(&place, "www.a.test"), Open::to(&place, "b.test"));
    assert_eq!(on_a.get("www.a.test", "/"), "the site");
    assert_eq!(on_b.get("b.test", "/"), "the site");
    // Half of a rotation, as two files are replaced one after the other.
    let next = authority.sign("b-renewed", &["b.test"]);
    place.write("b.pem", &next.chain);
    let mismatch = "b.pem: the private key belongs to another certificate than the one for b.test";
    place.until("half of it is told", || place.errors().contains(mismatch));
    assert_eq!(shown(&place, Some("b.test")), "b");
    place.write("b.key", &next.key);
    place.until("it is renewed", || shown(&place, Some("b.test")) == "b-renewed");
    assert_eq!(place.errors(), "");
    assert_eq!(shown(&place, Some("www.a.test")), "a");
    assert_eq!(
        on_b.get("b.test", "/"),
        "the site",
        "a connection outlives its certificate"
    );
    assert_eq!(on_a.get("www.a.test", "/"), "the site");

    // One that is not for the hosts of its entry, and soon none at all.
    let other = authority.sign("other", &["other.test"]);
    for (file, text) in [("b.pem", &other.chain), ("b.key", &other.key)] {
        place.write(file, text);
    }
    let told = "the certificate is for other.test, not for b.test of its hosts";
    place.until("it is told", || place.errors().contains(told));
}

/// Seen red: with a daemon that does not start; with the site in the clear as long as there is no certificate.
#[test]
fn without_a_certificate_nothing_is_served_in_the_clear_and_https_once_it_is_there() {
    let Scene { a, b, files, place, .. } = Scene::new(&["www.a.test"], "the site");
    healthy(&files);
    for file in ["a.pem", "b.key"] {
        std::fs::remove_file(place.path(file)).unwrap();
    }
    let _daemon = place.start();
    let said = place.errors();
    assert!(said.contains("a.pem") && said.contains("b.key"), "{said}");
    let sent_on = "301 https://www.a.test:8443/";
    let of = "%{http_code} %{redirect_url}";
    assert_eq!(curl(&place, "http://www.a.test:8080/", of), sent_on);
    place.write("b.key", &b.key);
    place.until("one is there", || shown(&place, Some("b.test")) == "b");
    place.write("a.pem", &a.chain);
    place.until("the other is there", || shown(&place, Some("www.a.test")) == "a");
    assert_eq!(place.errors(), "");
}

/// Seen red: with a check that is left out where the machine speaks TLS.
#[test]
fn a_machine_that_speaks_tls_is_asked_for_its_health_by_tls() {
    let (place, port) = (Place::new(), free_port());
    let own = Authority::new().sign("machine", &["elsewhere.test"]);
    place.write("machine.pem", &format!("{}{}", own.chain, own.key));
    let command = format!("{} {}", serves("https", port), place.path("machine.pem").display());
    place.site("m", "m.test", &command, port, "tls = true\ncheck = \"/health\"");
    let _daemon = place.start();
    place.becomes("m", "asleep");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail", "--max-time", "60", "-H", "Host: m.test"]);
    curl.arg(format!("http://{}:8080/", place.address));
    let said = said(curl);
    let asked: u32 = said.strip_prefix("m.test ").unwrap().parse().unwrap();
    assert!(asked > 3, "it was in use before it was healthy: {said}");
}

/// Seen red: with the certificates that can be read alone; with a site in the clear.
#[test]
fn a_certificate_that_cannot_be_read_takes_nothing_from_a_running_envoy() {
    let Scene { a, b, files, place, .. } = Scene::new(&["www.a.test"], "the site");
    healthy(&files);
    let (daemon, envoy) = place.start_services_with(600, TLS);
    let mut open = Open::to(&place, "www.a.test");
    assert_eq!(open.get("www.a.test", "/"), "the site");
    drop(daemon);
    for file in ["a.pem", "b.key"] {
        std::fs::remove_file(place.path(file)).unwrap();
    }
    let daemon = place.start_alone();
    assert!(place.errors().contains("a.pem") && place.errors().contains("b.key"));
    let of = "%{http_code} %{redirect_url}";
    assert_eq!(curl(&place, "https://www.a.test:8443/", "%{http_code}"), "200");
    assert_eq!(
        curl(&place, "http://www.a.test:8080/", of),
        "301 https://www.a.test:8443/"
    );
    assert_eq!(
        (shown(&place, None).as_str(), shown(&place, Some("b.test")).as_str()),
        ("a", "b")
    );
    assert_eq!(open.get("www.a.test", "/"), "the site", "the connection lives");
    // An Envoy that has none turns clients of HTTPS away and serves the rest, until there are some.
    drop(envoy);
    let _envoy = place.envoy(600);
    place.until("it listens", || {
        TcpStream::connect((place.address.as_str(), 8080)).is_ok()
    });
    assert_eq!(curl(&place, "http://b.test:8080/", of), "301 https://b.test:8443/");
    assert_eq!(shown(&place, Some("b.test")), "");
    place.write("b.key", &b.key);
    place.write("a.pem", &a.chain);
    place.until("they are there", || {
        shown(&place, Some("b.test")) == "b" && shown(&place, Some("www.a.test")) == "a"
    });
    drop(daemon);
}

/// Seen red: with a page that does not reload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_sees_the_page_and_then_the_site_by_itself() {
    let page = "<!doctype html><title>The site</title><h1>The site is here</h1>";
    let Scene { a, b, files, place, .. } = Scene::new(&["www.a.test"], page);
    let _daemon = place.start();
    let browser = Browser::start_with(
        "proxy-tls",
        &[
            format!("--host-resolver-rules=MAP *.test {}", place.address),
            format!("--ignore-certificate-errors-spki-list={},{}", a.spki, b.spki),
        ],
    );
    let url = "https://www.a.test:8443/?q=a%20b#part";
    // The first step is on the plain port, as one types it.
    browser.open("http://www.a.test:8080/?q=a%20b#part");
    assert_eq!(browser.url(), url);
    assert_eq!(browser.title(), "Waking up \u{2013} site");
    assert_eq!(browser.heading(), "site is waking up");
    assert_eq!(browser.run("return isSecureContext"), true);
    healthy(&files);
    place.until("the site is there by itself", || browser.title() == "The site");
    assert_eq!(browser.heading(), "The site is here");
    assert_eq!(browser.url(), url, "path, query and fragment are as they were");
    assert_eq!(place.status("site")["phase"], "awake");
}
