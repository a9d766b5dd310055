//! When a machine is stopped, and when it is not.
//!
//! Promised elsewhere, of the core that both gateways share: not below the minimum uptime, not when metrics are missing
//! (`tests/idle.rs`, `tests/settling.rs`); the last of two rules on one machine (`tests/stopping.rs`).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::proxy_daemon::{Place, Session, Ssh, free_port, serves, talks};

/// A rule that is idle after five seconds.
fn short(place: &Place, name: &str, more: &str) {
    place.change(
        &format!("rules.d/{name}.toml"),
        "idle = \"1h\"",
        &format!("idle = \"5s\"\n{more}"),
    );
}

/// A client that is there for a moment.
fn visit(place: &Place, rule: &str) {
    let mut client = TcpStream::connect(place.at(rule)).unwrap();
    let mut hello = [0; 6];
    client.read_exact(&mut hello).unwrap();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut hello[..1]).unwrap();
}

#[test]
fn a_quiet_session_keeps_its_machine_for_several_idles_and_a_restart_and_then_it_sleeps() {
    let (place, ssh) = (Place::new(), Ssh::new());
    place.rule("dev", &ssh.server(), ssh.port, "ssh");
    let port = free_port();
    place.site("chat", "chat.test", &serves("websocket", port), port, "");
    short(&place, "dev", "");
    short(&place, "chat", "");
    for name in ["visited", "unvisited", "blocked"] {
        let port = free_port();
        place.rule(name, &serves("echo", port), port, "other");
        short(
            &place,
            name,
            if name == "blocked" {
                "allow = [\"192.0.2.0/24\"]"
            } else {
                ""
            },
        );
    }
    let (daemon, _envoy) = place.start_services(600);
    let mut shell = Session::begin(ssh.client(&place.address, &place.port("dev"), "echo in; cat"));
    let at = format!("{}:8080", place.address);
    let mut chat = Session::begin(talks("websocket", &at, "chat.test"));
    assert_eq!((shell.line().as_str(), chat.line().as_str()), ("in", "open"));
    visit(&place, "visited");
    let over = AtomicBool::new(false);
    let sleeps = |rule: &str| place.status(rule)["wanted"] == "asleep";
    std::thread::scope(|scope| {
        // Somebody comes again and again, and somebody else may not.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                visit(&place, "visited");
                let blocked = TcpStream::connect(place.at("blocked")).unwrap().read(&mut [0]);
                assert!(matches!(blocked, Ok(0) | Err(_)));
                std::thread::sleep(std::time::Duration::from_millis(500));
            }
        });
        let _over = Over(&over);
        // What is woken and never used sleeps: so long do the others have to have been in use.
        let idles = |_: &str| {
            for rule in ["unvisited", "blocked"] {
                place.tell(rule, "wake");
                place.becomes(rule, "awake");
            }
            place.until("what nobody uses sleeps", || sleeps("unvisited") && sleeps("blocked"));
            for rule in ["dev", "chat", "visited"] {
                assert!(place.is(rule, "awake"), "{}", place.status(rule));
            }
        };
        idles("first");
        // Neither another policy nor another daemon takes a session for nothing.
        place.change("rules.d/chat.toml", "idle = \"5s\"", "idle = \"6s\"");
        daemon.kill();
    });
    let _daemon = place.start_alone();
    place.tell("unvisited", "wake");
    place.becomes("unvisited", "awake");
    place.until("what nobody uses sleeps", || sleeps("unvisited"));
    place.until("what was used sleeps", || sleeps("visited"));
    for rule in ["dev", "chat"] {
        assert!(place.is(rule, "awake"), "{}", place.status(rule));
    }
    assert_eq!(
        (shell.say("still").as_str(), chat.say("here").as_str()),
        ("still", "HERE")
    );
    shell.end();
    chat.end();
    for rule in ["dev", "chat", "visited"] {
        place.becomes(rule, "asleep");
        let by = place.status(rule)["wanted_by"].to_string();
        assert!(by.contains("idle"), "{rule}: {by}");
    }
    visit(&place, "visited");
}

/// Set when dropped, so that a test that fails does not wait for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn without_reports_nothing_is_idle() {
    let place = Place::new();
    for name in ["dev", "other"] {
        let port = free_port();
        place.rule(name, &serves("echo", port), port, "other");
        short(&place, name, "");
    }
    let (daemon, envoy) = place.start_services(600);
    visit(&place, "dev");
    // Envoy is gone, and with it every report.
    drop(envoy);
    place.until("the daemon has seen it", || daemon.get("/readyz").0 == 503);
    // It looks each second, and has to say why nothing comes of it.
    place.until("it says that it is blind", || !place.status("dev")["kept_by"].is_null());
    assert!(place.is("dev", "awake"));
    // Another Envoy: nothing is known of the time between, so that it is idle when a whole `idle` has been seen.
    let _envoy = place.envoy(600);
    place.becomes("dev", "asleep");
}

#[test]
fn a_rule_that_is_taken_away_or_shares_its_machine_is_not_stopped() {
    let place = Place::new();
    let (gone, shared) = (free_port(), free_port());
    place.rule("gone", &serves("echo", gone), gone, "other");
    for name in ["one", "two"] {
        place.rule(name, &serves("echo", shared), shared, "other");
    }
    let _daemon = place.start();
    visit(&place, "gone");
    visit(&place, "one");
    std::fs::remove_file(place.path("rules.d/gone.toml")).unwrap();
    place.until("it is gone", || {
        !place.run(&["proxy", "status", "gone"]).status.success()
    });
    place.tell("one", "sleep");
    place.until("it says why not", || {
        !place.status("one")["problems"].as_array().unwrap().is_empty()
    });
    TcpStream::connect(("127.0.0.1", gone)).unwrap();
    TcpStream::connect(("127.0.0.1", shared)).unwrap();
}
