//! The daemon is killed, upgraded, told otherwise: what is open stays open, what is held is served, ports stay.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread::JoinHandle;

use crate::proxy_daemon::{Database, Place, Session, Ssh, free_port, said, serves, site, talks};
use crate::shell;

/// Comes up once there is a file of this name.
fn late(file: &str, command: &str) -> String {
    format!("until [ -e {file} ]; do sleep 0.02; done; {command}")
}

/// Clients that wait for a machine: one by TCP, one that posts.
struct Held {
    tcp: TcpStream,
    post: JoinHandle<String>,
}

impl Held {
    fn new(place: &Place, tcp: &str, site: &str) -> Held {
        let stream = TcpStream::connect(place.at(tcp)).unwrap();
        let url = format!("http://{}:8080/{site}", place.address);
        let host = format!("Host: {site}.test");
        let post = move || {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--fail", "--max-time", "60", "-H", &host, "--data", "held", &url]);
            said(curl)
        };
        let held = Held {
            tcp: stream,
            post: std::thread::spawn(post),
        };
        for rule in [tcp, site] {
            place.becomes(rule, "checking");
        }
        held
    }

    fn are_served(mut self) {
        let mut hello = [0; 6];
        self.tcp.read_exact(&mut hello).unwrap();
        assert_eq!(&hello, b"hello\n");
        let told: serde_json::Value = serde_json::from_str(&self.post.join().unwrap()).unwrap();
        assert_eq!(
            (&told["body"], &told["seen"].as_array().unwrap().len()),
            (&4.into(), &1),
            "{told}"
        );
    }
}

#[test]
fn what_is_open_outlives_the_daemon_and_a_changed_listener_and_what_is_held_is_served() {
    let (place, ssh, database) = (Place::new(), Ssh::new(), Database::new());
    let (chat, plain) = (free_port(), free_port());
    place.rule("dev", &ssh.server(), ssh.port, "ssh");
    place.rule("orders", &database.server(), database.port, "postgres");
    place.rule("plain", &serves("echo", plain), plain, "other");
    place.site("chat", "chat.test", &serves("websocket", chat), chat, "");
    for round in ["one", "two"] {
        let (tcp, http) = (free_port(), free_port());
        place.rule(
            &format!("tcp-{round}"),
            &late(round, &serves("echo", tcp)),
            tcp,
            "other",
        );
        let (name, program) = (format!("site-{round}"), late(round, &site(http)));
        place.site(&name, &format!("{name}.test"), &program, http, "");
    }
    // Three seconds are in a test what a day is in production.
    let (daemon, _envoy) = place.start_services(3);
    let ports = || ["dev", "orders", "plain", "tcp-one", "tcp-two"].map(|rule| place.port(rule));
    let before = ports();

    let mut shell = shell::session(&ssh, &place, "dev");
    let at = format!("{}:8080", place.address);
    let mut chat = Session::begin(talks("websocket", &at, "chat.test"));
    let psql = database.client("psql", &place.address, &before[1], &["-qAt", "postgres"]);
    let mut psql = Session::begin(psql);
    assert_eq!((chat.line().as_str(), psql.say("select 1;").as_str()), ("open", "1"));
    let mut plain = TcpStream::connect(place.at("plain")).unwrap();
    plain.write_all(b"a").unwrap();
    let mut greeted = [0; 7];
    plain.read_exact(&mut greeted).unwrap();
    let mut talk = |word: &str| {
        assert_eq!(shell.say(word), word);
        assert_eq!(chat.say(word), word.to_uppercase());
        assert_eq!(psql.say(&format!("select '{word}';")), word);
    };

    let held = Held::new(&place, "tcp-one", "site-one");
    daemon.kill();
    talk("nobody");
    // Of one listener the filter chain is another; there is one more listener for HTTP; a rule's name comes first, and its
    // port would be the first one; a host is new in a listener that all share.
    place.change("rules.d/plain.toml", "idle", "allow = [\"127.0.0.0/8\"]\nidle");
    place.change("config.toml", "httpPorts = 8080", "httpPorts = [8080, 8081]");
    place.change("rules.d/chat.toml", "[\"chat.test\"]", "[\"chat.test\", \"talk.test\"]");
    place.rule("another", "sleep 600", free_port(), "other");
    let daemon = place.start_alone();
    assert_eq!(ports(), before);
    std::fs::write(place.path("one"), "").unwrap();
    held.are_served();
    talk("again");
    place.until("one filter chain is replaced", || {
        place.of_envoy("listener_manager.listener_in_place_updated") == 1
    });
    plain.write_all(b"b").unwrap();
    plain.read_exact(&mut greeted[..1]).unwrap();
    let draining = |what: &str| place.of_envoy(&format!("listener_manager.total_{what}_draining"));
    place.until("its connections have had their time", || draining("filter_chains") == 0);
    assert_eq!(
        plain.read(&mut greeted).unwrap_or(0),
        0,
        "a changed filter chain ends its connections when its time is over"
    );
    talk("after the drain");

    // As an upgrade: it is told to end, and what is started is another file.
    let held = Held::new(&place, "tcp-two", "site-two");
    drop(daemon);
    talk("nobody again");
    let _daemon = place.start_alone();
    assert_eq!(ports(), before);
    std::fs::write(place.path("two"), "").unwrap();
    held.are_served();
    place.until("nothing drains", || {
        draining("filter_chains") + draining("listeners") == 0
    });
    talk("upgraded");
    assert_eq!(
        place.of_envoy("listener_manager.listener_in_place_updated"),
        1,
        "the same as before was told"
    );
    for rule in ["dev", "chat", "orders"] {
        assert_eq!(place.status(rule)["phase"], "awake", "{rule}");
    }
}
