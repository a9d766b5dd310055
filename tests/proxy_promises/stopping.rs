//! When a machine is stopped, and when it is not.
//!
//! Promised elsewhere, of the core that both gateways share: not below the minimum uptime, not when metrics are missing
//! (`tests/idle.rs`, `tests/settling.rs`).

use std::net::TcpStream;

use crate::awake::{short, visit};
use crate::proxy_daemon::{Place, free_port, serves};

#[test]
fn without_reports_nothing_is_idle() {
    let place = Place::new();
    let port = free_port();
    place.rule("dev", &serves("echo", port), port, "other");
    short(&place, "dev", "");
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
