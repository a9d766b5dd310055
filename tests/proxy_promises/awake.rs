//! Use, however quiet, keeps a machine awake.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::proxy_daemon::{Place, Session, Ssh, free_port, serves, talks};

/// Makes a rule idle after five seconds.
pub fn short(place: &Place, name: &str, more: &str) {
    place.change(
        &format!("rules.d/{name}.toml"),
        "idle = \"1h\"",
        &format!("idle = \"5s\"\n{more}"),
    );
}

/// A client that is there for a moment.
pub fn visit(place: &Place, rule: &str) {
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
        let idles = || {
            for rule in ["unvisited", "blocked"] {
                place.tell(rule, "wake");
                place.becomes(rule, "awake");
            }
            place.until("what nobody uses sleeps", || sleeps("unvisited") && sleeps("blocked"));
            for rule in ["dev", "chat", "visited"] {
                assert!(place.is(rule, "awake"), "{}", place.status(rule));
            }
        };
        // Another policy under a live user neither stops anything nor forgets him.
        place.change("rules.d/chat.toml", "idle = \"5s\"", "idle = \"6s\"");
        idles();
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
