//! The daemon as it is shipped, with an Envoy of its own beside it, as on a VM.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::proxy_daemon::{Daemon, Place, Service, free_port};
use crate::usage::memory;

const HTTP: u16 = 8080;
/// The rule's name is the host's.
pub fn host(rule: &str) -> String {
    format!("{rule}.bench.test")
}

pub struct Proxy {
    pub place: Place,
    pub daemon: Daemon,
    pub envoy: Service,
    /// From the start of both to the daemon's word that Envoy has everything.
    pub start: Duration,
}

/// Resident memory, MB.
#[derive(Clone, Copy)]
pub struct Memory {
    pub envoy: f64,
    pub daemon: f64,
}

impl Proxy {
    /// With the rules that were written to this place, and more arguments for Envoy.
    pub fn start(place: Place, more: &[&str]) -> Proxy {
        let keys = format!("usageTrackingPort = {}\nlog = \"error\"", free_port());
        // Room for a thousand rules.
        let config = place.config(&keys).replace("50000-50009", "50000-59999");
        place.write("config.toml", &config);
        let begin = Instant::now();
        let (daemon, envoy) = thread::scope(|scope| {
            let daemon = scope.spawn(|| place.start_alone());
            let envoy = place.envoy_with(600, more);
            (daemon.join().expect("it starts"), envoy)
        });
        let start = begin.elapsed();
        Proxy {
            place,
            daemon,
            envoy,
            start,
        }
    }

    /// Waits until a rule is in this phase.
    pub fn until(&self, rule: &str, phase: &str) {
        self.place.until(phase, || self.place.status(rule)["phase"] == phase);
    }

    /// Where it listens for HTTP.
    pub fn http(&self) -> SocketAddr {
        self.at(HTTP)
    }

    /// Where it listens for a port of a rule's machine.
    pub fn tcp(&self, rule: &str, port: u16) -> SocketAddr {
        let status = self.place.status(rule);
        let ways = status["ports"].as_array().into_iter().flatten();
        let listen = ways
            .filter(|way| way["port"] == port)
            .find_map(|way| way["listen"].as_u64());
        let listen = listen.unwrap_or_else(|| panic!("{port} has no listener: {status}"));
        self.at(u16::try_from(listen).expect("a port"))
    }

    fn at(&self, port: u16) -> SocketAddr {
        let address: IpAddr = self.place.address.parse().expect("an address");
        SocketAddr::new(address, port)
    }

    pub fn memory(&self) -> Memory {
        Memory {
            envoy: memory(self.envoy.0.id()),
            daemon: memory(self.daemon.id()),
        }
    }

    /// Tells a rule something through the control socket; how long that took.
    pub fn tell(&self, rule: &str, verb: &str) -> Duration {
        let begin = Instant::now();
        let answer = ask(&self.place.path("control.sock"), &format!("POST /rules/{rule}/{verb}"));
        let taken = begin.elapsed();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        taken
    }

    /// Client connections that Envoy has.
    pub fn clients(&self) -> u64 {
        let path = "GET /stats?filter=^listener\\..*\\.downstream_cx_active$";
        let said = ask(&self.place.path("envoy-admin.sock"), path);
        let of_clients = |line: &&str| !line.contains(".admin.") && !line.contains(".worker_");
        let counts = said
            .lines()
            .filter(of_clients)
            .filter_map(|line| line.rsplit_once(": "));
        counts
            .filter(|(name, _)| name.ends_with("downstream_cx_active"))
            .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
            .sum()
    }
}

/// A request without a body; the whole answer.
fn ask(socket: &Path, what: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("it listens");
    write!(stream, "{what} HTTP/1.1\r\nhost: proxy\r\nconnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}
