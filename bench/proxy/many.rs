//! A thousand rules: how long a flip takes, and what they weigh.

use std::collections::BTreeSet;
use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ours::{Proxy, host};
use crate::proxy_daemon::Place;
use crate::report::{Report, median, percentile};
use crate::traffic;

/// Flips of each kind.
const FLIPS: usize = 20;

pub fn measure(report: &mut Report) {
    report.section(
        "A thousand rules",
        &format!(
            "Each has a host name and a TCP listener, and sleeps. *Start*: from the start of daemon and Envoy until Envoy has \
             acknowledged everything and all listeners accept. A flip is told through the control socket, as the command line \
             does, and answered when Envoy has acknowledged it: *to the waker* and back *to the machine* while that is still up. \
             *Woken* is a TCP connection to a rule asleep until its first byte, with a machine that is up at once; {FLIPS} of each."
        ),
    );
    report.head(&[
        "rules",
        "start, s",
        "Envoy, MB",
        "daemon, MB",
        "to the waker, p50, ms",
        "highest, ms",
        "to the machine, p50, ms",
        "highest, ms",
        "woken, p50, ms",
        "highest, ms",
    ]);
    for rules in [FLIPS, 1000] {
        one(rules, report);
    }
}

fn name(number: usize) -> String {
    format!("rule-{number:04}")
}

fn one(rules: usize, report: &mut Report) {
    let place = Place::new();
    let greeter = traffic::greeter();
    for number in 0..rules {
        let rule = name(number);
        let text = format!(
            "idle = \"1h\"\nresources = ['program:exec sleep {}']\n[[http]]\nhosts = \"{}\"\nport = {greeter}\n\
             [[tcp]]\nport = {greeter}\n",
            10_000 + number,
            host(&rule),
        );
        place.write(&format!("rules.d/{rule}.toml"), &text);
    }
    let proxy = Proxy::start(place, &[]);
    let listening = listening(&proxy);
    assert_eq!(listening, rules + 1, "one for each rule, and one for HTTP");
    until_all_asleep(&proxy);
    let memory = proxy.memory();
    let [mut to_waker, mut to_machine, mut woken] = [const { Vec::new() }; 3];
    for flip in 0..FLIPS {
        let rule = name(flip * rules / FLIPS);
        let at = proxy.tcp(&rule, greeter);
        let begin = Instant::now();
        let mut said = [0];
        traffic::connect(at)
            .and_then(|mut stream| stream.read_exact(&mut said))
            .expect("it is woken");
        woken.push(begin.elapsed());
        proxy.until(&rule, "awake");
        to_waker.push(proxy.tell(&rule, "sleep"));
        to_machine.push(proxy.tell(&rule, "wake"));
    }
    let mut cells = vec![
        rules.to_string(),
        format!("{:.2}", proxy.start.as_secs_f64()),
        format!("{:.0}", memory.envoy),
        format!("{:.0}", memory.daemon),
    ];
    for sample in [to_waker, to_machine, woken] {
        let millis: Vec<f64> = sample.iter().map(Duration::as_secs_f64).map(|s| s * 1000.0).collect();
        cells.extend([median(&millis), percentile(&millis, 1.0)].map(|value| format!("{value:.1}")));
    }
    report.row(&cells);
}

/// Each rule is looked at for the first time.
fn until_all_asleep(proxy: &Proxy) {
    let asleep = |rule: &Value| rule["phase"] == "asleep";
    let all_asleep = || {
        thread::sleep(Duration::from_millis(200));
        let rules = proxy.place.ask(&["proxy", "list"]);
        rules.as_array().is_some_and(|rules| rules.iter().all(asleep))
    };
    assert!((0..300).any(|_| all_asleep()), "not all are asleep within a minute");
}

/// Ports at which Envoy listens. Source: Linux, Documentation/networking/proc_net_tcp.rst; state 0A is LISTEN.
fn listening(proxy: &Proxy) -> usize {
    let octets: Vec<u8> = proxy.place.address.split('.').flat_map(str::parse).collect();
    let address: String = octets.iter().rev().map(|octet| format!("{octet:02X}")).collect();
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("it can be read");
    let listens = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next().filter(|local| local.starts_with(&address))?.to_owned();
        (words.nth(1) == Some("0A")).then_some(local)
    };
    // Each thread of Envoy has a socket of its own.
    let ports: BTreeSet<String> = sockets.lines().filter_map(listens).collect();
    ports.len()
}
