//! Clients that know nothing of the proxy, before machines that sleep: the shipped daemon, a real Envoy, ssh and psql.
#![cfg(feature = "proxy")]

mod proxy_daemon;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use proxy_daemon::{Place, Ssh, free_port, said};
use tempfile::TempDir;

#[test]
fn ssh_to_a_sleeping_machine_waits_logs_in_and_does_so_again() {
    let (place, ssh) = (Place::new(), Ssh::new());
    place.rule("dev", &ssh.server(), ssh.port, "ssh");
    let _daemon = place.start();
    let port = place.port("dev");
    assert_eq!(port, "50000");
    for round in 0..3 {
        place.until("asleep", || place.status("dev")["phase"] == "asleep");
        let client = ssh
            .client(&place.address, &port, "echo in; echo $SSH_CONNECTION")
            .spawn()
            .unwrap();
        assert!(said(client).starts_with("in\n"), "round {round}");
        assert_eq!(place.status("dev")["phase"], "awake");
        assert_eq!(place.ask(&["proxy", "sleep", "dev"])["wanted"], "asleep");
    }
    let woken = place.ask(&["proxy", "wake", "dev"]);
    assert_eq!(
        (&woken["wanted"], &woken["wanted_by"]),
        (&"awake".into(), &"command of the command line".into())
    );
    place.until("awake", || place.status("dev")["phase"] == "awake");
    // What `connect` shows is what works.
    let shown = place.ask(&["connect", "dev"]);
    assert_eq!(shown["command"], serde_json::json!(["ssh", "-p", port, place.address]));
    let options = ssh.options();
    let words = ["connect", "dev", "--run", "--"].into_iter();
    let run = place.run(&words.chain(options.iter().map(String::as_str)).collect::<Vec<_>>());
    // A shell without input ends at once.
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn a_daemon_that_is_killed_cuts_no_session_and_keeps_its_ports() {
    let (place, ssh) = (Place::new(), Ssh::new());
    place.rule("dev", &ssh.server(), ssh.port, "ssh");
    // A service of its own was told once where to report.
    place.write(
        "config.toml",
        &place.config(&format!("usageTrackingPort = {}", free_port())),
    );
    // Envoy waits for its daemon, and the daemon for Envoy.
    let envoy = std::thread::scope(|scope| {
        let daemon = scope.spawn(|| place.start_alone());
        let envoy = place.envoy();
        (daemon.join().unwrap(), envoy)
    });
    let (daemon, _envoy) = envoy;
    let port = place.port("dev");
    let mut session = ssh.client(&place.address, &port, "echo in; cat").spawn().unwrap();
    let (mut to, mut from) = (
        session.stdin.take().unwrap(),
        BufReader::new(session.stdout.take().unwrap()),
    );
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    assert_eq!(line, "in\n");
    place.until("its use is seen", || !place.status("dev")["last_activity"].is_null());

    daemon.kill();
    // A rule whose name comes first, and whose port would be the first one.
    place.rule("another", "sleep 600", free_port(), "other");
    let daemon = place.start_alone();
    assert_eq!(
        (place.port("dev"), place.port("another").as_str()),
        (port.clone(), "50001")
    );
    place.until("awake", || place.status("dev")["phase"] == "awake");
    to.write_all(b"still here\n").unwrap();
    line.clear();
    from.read_line(&mut line).unwrap();
    assert_eq!(line, "still here\n");

    // Nothing moves in it, and yet it is use of the machine: each report says so again.
    let last = || place.status("dev")["last_activity"].as_str().map(str::to_owned);
    place.until("its use is seen again", || last().is_some());
    let first = last();
    place.until("a quiet session stays in use", || last() > first);
    drop(to);
    assert!(session.wait().unwrap().success());
    // Another one goes through the daemon that is there now.
    assert_eq!(
        said(ssh.client(&place.address, &port, "echo again").spawn().unwrap()),
        "again\n"
    );
    drop(daemon);
    place.end_programs();
}

#[test]
fn psql_to_a_sleeping_database_waits_for_it() {
    let place = Place::new();
    let data = TempDir::new().unwrap();
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (folder, port) = (data.path().display().to_string(), free_port());
    let programs = std::fs::read_dir("/usr/lib/postgresql")
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
        .join("bin");
    let programs = programs.display();
    // It refuses to be run by root.
    let is_root = std::fs::metadata(data.path()).unwrap().uid() == 0;
    let user = if is_root {
        "setpriv --reuid=postgres --regid=postgres --clear-groups"
    } else {
        ""
    };
    if is_root {
        assert!(
            Command::new("chown")
                .args(["postgres", &folder])
                .status()
                .unwrap()
                .success()
        );
    }
    let make = format!("{user} {programs}/initdb -D {folder}/data -A trust -U shop --no-sync >/dev/null");
    assert!(
        Command::new("sh")
            .args(["-c", &make])
            .current_dir("/")
            .status()
            .unwrap()
            .success()
    );
    let serve = format!("cd /; exec {user} {programs}/postgres -D {folder}/data -p {port} -k {folder} -h 127.0.0.1 -F");
    place.rule("orders", &serve, port, "postgres");
    let _daemon = place.start();
    let shown = place.ask(&[
        "connect",
        "orders",
        "--",
        "-U",
        "shop",
        "-Atc",
        "select 6*7",
        "postgres",
    ]);
    let words: Vec<&str> = shown["command"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    for _ in 0..2 {
        place.until("asleep", || place.status("orders")["phase"] == "asleep");
        let output = Command::new(words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "42\n",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        place.ask(&["proxy", "sleep", "orders"]);
    }
}
