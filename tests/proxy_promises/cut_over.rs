//! The moment in which a rule wakes or goes to sleep.
//!
//! Promised elsewhere: no failure before routing has converged, in no cycle (`crowd`); a machine that refuses for a moment after it was
//! ready is tried again (`tests/envoy_tcp.rs`).

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;

use crate::proxy_daemon::{Place, free_port, said, serves, site};
use crate::web::Client;

const BROWSER: &str = "Accept: text/html";

#[test]
fn a_connection_that_is_used_again_sees_the_page_then_the_site_then_the_page() {
    let place = Place::new();
    let port = free_port();
    place.site("shop", "shop.test", &site(port), port, "check = \"/health\"");
    let _daemon = place.start();
    place.becomes("shop", "asleep");
    let mut client = Client::new(&place);
    let page = client.get("shop.test", "/one", &[BROWSER]);
    assert_eq!(page.status, 503, "{page:?}");
    assert!(page.head.contains("x-autostopping-phase: "), "{page:?}");
    place.becomes("shop", "awake");
    let answer = client.get("shop.test", "/two", &[BROWSER]);
    assert!(answer.status == 200 && answer.body.contains("\"/two\""), "{answer:?}");
    assert!(
        !answer.head.contains("x-autostopping"),
        "nothing is added once it is awake: {answer:?}"
    );
    place.tell("shop", "sleep");
    place.becomes("shop", "asleep");
    let page = client.get("shop.test", "/three", &[BROWSER]);
    assert_eq!(page.status, 503, "{page:?}");
}

#[test]
fn switches_in_quick_succession_end_as_the_last_one_said() {
    let place = Place::new();
    let port = free_port();
    place.rule("dev", &serves("echo", port), port, "other");
    let _daemon = place.start();
    place.becomes("dev", "asleep");
    for (last, verbs) in [
        ("awake", ["wake", "sleep", "wake"]),
        ("asleep", ["sleep", "wake", "sleep"]),
        ("awake", ["sleep", "sleep", "wake"]),
        ("asleep", ["wake", "wake", "sleep"]),
    ] {
        for verb in verbs {
            place.tell("dev", verb);
        }
        place.becomes("dev", last);
    }
    let mut client = TcpStream::connect(place.at("dev")).unwrap();
    let mut hello = [0; 6];
    client.read_exact(&mut hello).unwrap();
    assert_eq!(&hello, b"hello\n");
    place.becomes("dev", "awake");
}

/// By hand, as far as a program can be: it is no machine that says by whom it was stopped.
#[test]
fn a_machine_that_ends_behind_the_proxys_back_is_started_again() {
    let place = Place::new();
    let port = free_port();
    place.rule("dev", &serves("echo", port), port, "other");
    let _daemon = place.start();
    place.becomes("dev", "asleep");
    let greeted = || {
        let mut client = TcpStream::connect(place.at("dev")).unwrap();
        let mut hello = [0; 6];
        client
            .read_exact(&mut hello)
            .map(|()| hello == *b"hello\n")
            .unwrap_or(false)
    };
    assert!(greeted());
    for group in place.programs() {
        let mut kill = Command::new("kill");
        kill.args(["-KILL", "--", &format!("-{group}")]);
        said(kill);
    }
    // It would be seen within a minute.
    place.tell("dev", "wake");
    assert!(greeted(), "who comes waits for it again");
}
