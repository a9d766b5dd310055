//! Waiting that ends in another way than by being served.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::proxy_daemon::{Place, free_port, serves};

fn connect(place: &Place) -> TcpStream {
    let stream = TcpStream::connect(place.at("echo")).unwrap();
    // It ends a test that hangs.
    stream.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
    stream
}

/// Red when they waited on: at their generation Envoy rings no more, so that nobody after them woke it either.
#[test]
fn who_waits_is_let_go_when_the_rule_is_put_to_sleep_and_the_next_one_wakes_it() {
    let (place, port) = (Place::new(), free_port());
    let go = place.path("go");
    let command = format!(
        "until [ -e {} ]; do sleep 0.05; done; {}",
        go.display(),
        serves("echo", port)
    );
    place.rule("echo", &command, port, "other");
    let _daemon = place.start();
    let mut first = connect(&place);
    place.until("it is asked for", || place.status("echo")["wanted"] == "awake");
    place.tell("echo", "sleep");
    assert_eq!(first.read(&mut [0]).unwrap(), 0, "closed");
    std::fs::write(go, "").unwrap();
    let mut next = connect(&place);
    next.write_all(b"hello\n").unwrap();
    let mut said = [0; 6];
    next.read_exact(&mut said).unwrap();
    assert_eq!(said, *b"hello\n");
}
