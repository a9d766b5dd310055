//! `ssh` and `scp`.

use std::fs::File;
use std::io::{Read, copy};

use serde_json::json;

use crate::proxy_daemon::{Place, Session, Ssh, said};

#[test]
fn ssh_to_a_sleeping_machine_waits_logs_in_and_does_so_again() {
    let (place, ssh) = (Place::new(), Ssh::new());
    place.rule("dev", &ssh.server(), ssh.port, "ssh");
    let _daemon = place.start();
    let port = place.port("dev");
    assert_eq!(port, "50000");
    for round in 0..3 {
        place.becomes("dev", "asleep");
        let client = ssh.client(&place.address, &port, "echo in; echo $SSH_CONNECTION");
        assert!(said(client).starts_with("in\n"), "round {round}");
        assert_eq!(place.status("dev")["phase"], "awake");
        assert_eq!(place.ask(&["proxy", "sleep", "dev"])["wanted"], "asleep");
    }
    let woken = place.ask(&["proxy", "wake", "dev"]);
    assert_eq!(
        (&woken["wanted"], &woken["wanted_by"]),
        (&"awake".into(), &"command of the command line".into())
    );
    place.becomes("dev", "awake");
    // What `connect` shows is what works.
    let shown = place.ask(&["connect", "dev"]);
    assert_eq!(shown["command"], json!(["ssh", "-p", port, place.address]));
    let options = ssh.options();
    let words = ["connect", "dev", "--run", "--"].into_iter();
    let run = place.run(&words.chain(options.iter().map(String::as_str)).collect::<Vec<_>>());
    // A shell without input ends at once.
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// Two hundred megabytes that nobody can guess.
fn big(place: &Place) -> String {
    let path = place.path("big");
    let mut random = File::open("/dev/urandom").unwrap().take(200 << 20);
    copy(&mut random, &mut File::create(&path).unwrap()).unwrap();
    path.display().to_string()
}

#[test]
fn a_big_file_goes_to_and_from_a_sleeping_machine_and_stays_the_same() {
    let (place, ssh) = (Place::new(), Ssh::new());
    place.rule("dev", &ssh.server(), ssh.port, "ssh");
    let _daemon = place.start();
    let (port, big) = (place.port("dev"), big(&place));
    let remote = format!("{}:{big}", place.address);
    let same = |copy: &str| {
        let mut compare = std::process::Command::new("cmp");
        compare.args([&big, copy]);
        said(compare);
    };
    place.becomes("dev", "asleep");
    said(ssh.copy(&port, &big, &format!("{remote}.there")));
    same(&format!("{big}.there"));
    place.tell("dev", "sleep");
    place.becomes("dev", "asleep");
    said(ssh.copy(&port, &format!("{remote}.there"), &format!("{big}.back")));
    same(&format!("{big}.back"));
}

/// The session of a shell that says again what it is told.
pub fn session(ssh: &Ssh, place: &Place, rule: &str) -> Session {
    let mut session = Session::begin(ssh.client(&place.address, &place.port(rule), "echo in; cat"));
    assert_eq!(session.line(), "in");
    session
}
