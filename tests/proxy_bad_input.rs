//! What is wrong is said in a sentence with a place, a value and what is allowed; and it harms nothing else.
#![cfg(feature = "proxy")]

mod proxy_daemon;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use proxy_daemon::{Place, Service, envoy, free_port, talks};

/// The exit code of a command and what it says is wrong.
fn refused(place: &Place, words: &[&str]) -> (i32, String) {
    let output = place.run(words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code().unwrap(), said)
}

#[test]
fn a_configuration_that_cannot_be_used_is_told_line_by_line() {
    let place = Place::new();
    place.write(
        "config.toml",
        "proxyport = 1\nlisten = \"here\"\nauthToken = \"s3cret\"\n[tls\n",
    );
    let (code, said) = refused(&place, &["proxy"]);
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("config.toml:4: "), "{said}");
    place.write(
        "config.toml",
        "proxyport = 1\nlisten = \"here\"\nauthToken = \"s3cret\"\n",
    );
    let (code, said) = refused(&place, &["proxy"]);
    assert_eq!(code, 64);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(
        lines[0].ends_with("config.toml:1: proxyport is unknown: proxyPort is probably meant"),
        "{said}"
    );
    assert!(
        lines[1].contains("config.toml:2: listen = \"here\" cannot be used; allowed: IP addresses"),
        "{said}"
    );
    assert!(!said.contains("s3cret"));
    std::fs::remove_file(place.path("config.toml")).unwrap();
    let (code, said) = refused(&place, &["proxy"]);
    assert!(code == 64 && said.contains("name the file with --config"), "{said}");
}

#[test]
fn what_keeps_a_daemon_from_beginning_is_named() {
    let place = Place::new();
    let envoy = envoy().display().to_string();
    let (code, said) = refused(&place, &["proxy", "list"]);
    assert!(code == 1 && said.contains("the proxy cannot be reached at"), "{said}");
    let (code, said) = refused(&place, &["proxy"]);
    assert!(
        code == 1 && said.contains("usageTrackingPort = 0 needs --envoy"),
        "{said}"
    );
    let (code, said) = refused(&place, &["proxy", "--envoy", "/nowhere/envoy"]);
    assert!(code == 1 && said.contains("/nowhere/envoy"), "{said}");
    let (code, said) = refused(&place, &["proxy", "--envoy", "/bin/true"]);
    assert!(code == 1 && said.contains("does not say its version"), "{said}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = place
        .config("usageTrackingPort = 0")
        .replace("proxyPort = 0", &format!("proxyPort = {port}"));
    place.write("config.toml", &config);
    let (code, said) = refused(&place, &["proxy", "--envoy", &envoy]);
    assert!(
        code == 1 && said.contains(&format!("proxyPort: 127.0.0.1:{port} cannot be had")),
        "{said}"
    );

    let tls = "httpsPorts = 8443\nusageTrackingPort = 0\n[[tls]]\ncertificate = \"no.pem\"\nkey = \"no.key\"";
    place.write("config.toml", &place.config(tls));
    // Without its certificate it serves all the rest, and says so.
    let _daemon = place.start();
    let said = place.errors();
    assert!(
        said.contains("[[tls]]") && said.contains("no.pem") && !said.contains("AWS"),
        "{said}"
    );
    let (code, said) = refused(&place, &["proxy", "--envoy", &envoy]);
    assert!(
        code == 1 && said.contains("is in use by another proxymanager"),
        "{said}"
    );
    let rights = std::fs::metadata(place.path("control.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(rights & 0o777, 0o600);
}

#[test]
fn a_rule_file_that_becomes_bad_is_named_and_what_it_said_stays() {
    let place = Place::new();
    let machine = free_port();
    place.rule("a", "sleep 600", machine, "other");
    place.rule("b", "sleep 600; true", machine, "other");
    let daemon = place.start();
    let ports = || (place.port("a"), place.port("b"));
    let before = ports();
    assert_eq!(before, ("50000".to_owned(), "50001".to_owned()));
    let errors = || place.ask(&["proxy", "status"])["errors"].as_array().unwrap().clone();

    place.write(
        "rules.d/a.toml",
        "idle = \"soon\"\nresources = \"vm-1\"\nbusy-cpu = 5\nconfirm = true\n[[tcp]]\nport = 22\n",
    );
    place.write(
        "rules.d/0.toml",
        "idle = \"1h\"\nname = \"b\"\nresources = \"program:sleep 1\"\n[[tcp]]\nport = 1\n",
    );
    place.write(
        "rules.d/9.toml",
        "idle = \"1h\"\nresources = \"i-01234567\"\n[[http]]\nhosts = \"a.test\"\nport = 80\nhttp2 = true\ncheck = \"/up\"\n",
    );
    place.until("told", || errors().len() == 6);
    let told = errors()
        .iter()
        .map(|error| error.as_str().unwrap().to_owned())
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        told.contains("a.toml:1: idle = \"soon\" cannot be used; allowed: a duration with its unit"),
        "{told}"
    );
    assert!(told.contains("a.toml:2: resources = \"vm-1\" cannot be used"), "{told}");
    assert!(
        told.contains(
            "a.toml:3: busy-cpu = \"5\" cannot be used; allowed: off; the proxy does not ask for a machine's load"
        ),
        "{told}"
    );
    assert!(
        told.contains("a.toml:4: confirm = \"true\" cannot be used; allowed: false; by TCP nobody can press a button"),
        "{told}"
    );
    assert!(
        told.contains("9.toml:7: http.check = \"/up\" cannot be used; allowed: nothing with http2 = true, since"),
        "{told}"
    );
    assert!(
        told.contains("0.toml: the name b is in ") && told.contains("b.toml already"),
        "{told}"
    );
    assert_eq!(ports(), before);
    let (status, page) = daemon.get("/metrics");
    assert!(
        status == 200 && page.contains("proxymanager_rule_file_errors 6\n"),
        "{page}"
    );

    std::fs::remove_file(place.path("rules.d/0.toml")).unwrap();
    std::fs::remove_file(place.path("rules.d/9.toml")).unwrap();
    std::fs::remove_file(place.path("rules.d/a.toml")).unwrap();
    place.rule("c", "sleep 600; false", machine, "other");
    place.until("healed", || {
        errors().is_empty() && place.run(&["proxy", "status", "c"]).status.success()
    });
    assert_eq!(
        (place.port("b"), place.port("c").as_str()),
        (before.1, "50002"),
        "a freed port is given away last"
    );
    let (code, said) = refused(&place, &["proxy", "wake", "a"]);
    assert!(
        code == 1 && said.contains("there is no rule \"a\". The rules are: b, c"),
        "{said}"
    );
}

#[test]
fn the_status_page_tells_and_takes_no_orders() {
    let place = Place::new();
    place.rule("a", "sleep 600", free_port(), "other");
    let daemon = place.start();
    place.until("looked at", || place.status("a")["phase"] == "asleep");
    assert_eq!(daemon.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(daemon.get("/readyz"), (200, "ready\n".to_owned()));
    let (_, report) = daemon.get("/");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(
        (&report["account"], &report["rules"][0]["phase"]),
        (&"acc-1".into(), &"asleep".into())
    );
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut page = agent.get(&daemon.url).header("accept", "text/html").call().unwrap();
    let page = page.body_mut().read_to_string().unwrap();
    assert!(
        page.contains("Proxy ap-1 of account acc-1") && page.contains("asleep"),
        "{page}"
    );
    let said = String::from_utf8(place.run(&["proxy", "status"]).stdout).unwrap();
    let row = |name: &str, value: &str| {
        said.lines()
            .any(|line| line.split_once(name).is_some_and(|(_, rest)| rest.trim() == value))
    };
    assert!(
        row("access point", "ap-1") && row("Envoy", "connected") && row("account", "acc-1"),
        "{said}"
    );
    assert!(
        said.contains("PHASE") && said.lines().all(|line| line.len() < 120),
        "{said}"
    );
    let answer = agent.post(format!("{}/rules/a/wake", daemon.url)).send_empty().unwrap();
    assert_eq!(answer.status().as_u16(), 404);
    assert_eq!(place.status("a")["phase"], "asleep");
}

#[test]
fn an_envoy_that_is_not_there_or_too_old_is_named_wherever_the_proxy_is_looked_at() {
    let place = Place::new();
    place.write(
        "config.toml",
        &place.config(&format!("usageTrackingPort = {}", free_port())),
    );
    let daemon = place.start_alone();
    let list = || String::from_utf8(place.run(&["proxy", "list"]).stdout).unwrap();
    assert!(list().contains("Envoy is not connected: `journalctl"), "{}", list());
    let words = "Envoy 1.36.9 is connected; 1.37 or later is needed";
    let socket = format!("unix:{}", place.path("xds.sock").display());
    let mut old = talks("envoy", &socket, "1.36.9");
    let old = old.process_group(0).stdin(Stdio::piped()).spawn();
    let _old = Service(old.unwrap());
    place.until("told", || place.errors() == words);
    assert_eq!(daemon.get("/readyz"), (503, format!("{words}\n")));
    assert!(
        list().contains(words) && !list().contains("not connected"),
        "{}",
        list()
    );
    let log = std::fs::read_to_string(place.path("log")).unwrap();
    assert!(log.contains(words), "{log}");
}

#[test]
fn a_port_that_another_program_has_is_named_in_the_list() {
    let place = Place::new();
    let _taken = TcpListener::bind(format!("{}:50000", place.address)).unwrap();
    place.rule("a", "sleep 600", free_port(), "other");
    let _daemon = place.start();
    let list = || String::from_utf8(place.run(&["proxy", "list"]).stdout).unwrap();
    place.until("named", || list().contains("Envoy refuses listener "));
    assert!(list().contains("Address already in use"), "{}", list());
}
