//! Clients that wait for a machine to come up, and how soon they are served then.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ours::{Memory, Proxy, host};
use crate::proxy_daemon::Place;
use crate::report::{Report, percentile};

const MANY: usize = 1000;
/// Rules at which many wait, one after the other.
const CROWDS: usize = 3;
/// Rules at which one waits.
const ALONE: usize = 10;
/// The budgets.
const FIRST_BYTE: f64 = 250.0;
const EACH: f64 = 30.0;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Http,
    Tcp,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Http => "HTTP",
            Kind::Tcp => "TCP",
        }
    }
}

/// A machine that is booting: its port is taken, and refuses connections until it is up.
struct Machine {
    socket: TcpSocket,
    port: u16,
    rule: String,
}

/// First bytes at clients, in ms.
#[derive(Default)]
struct Waits {
    /// Since the machine began to listen.
    since_up: Vec<f64>,
    /// Since the daemon's check, the machine's first connection.
    since_checked: Vec<f64>,
}

pub async fn measure(report: &mut Report) {
    report.section(
        "Held clients",
        "Clients at a rule that sleeps; its machine is started at once and opens its port after all of them wait. First byte: \
         at the client, *checked* from the daemon's check that finds the machine healthy, *up* from the moment the port \
         accepts. In between the daemon waits for its next check: every 0.15 s for a program on its own machine, as here, every \
         second for a machine of AWS. Clients and the machine's answers are one thread of this program, so times are upper \
         bounds.",
    );
    report.head(&[
        "clients",
        "",
        "rules, one after the other",
        "checked, p50, ms",
        "p99, ms",
        "highest, ms",
        "up, p50, ms",
        "p99, ms",
        "highest, ms",
    ]);
    let mut memories = Vec::new();
    let mut worst: f64 = 0.0;
    for kind in [Kind::Http, Kind::Tcp] {
        for (clients, rules) in [(1, ALONE), (MANY, CROWDS)] {
            let (waits, each) = series(kind, clients, rules).await;
            let numbers = [&waits.since_checked, &waits.since_up].map(|sample| {
                let shares = [0.5, 0.99, 1.0].map(|share| percentile(sample, share));
                shares.map(|value| format!("{value:.0}"))
            });
            worst = worst.max(percentile(&waits.since_checked, 0.99));
            let head = [clients.to_string(), kind.name().to_owned(), rules.to_string()];
            report.row(&[&head[..], &numbers.concat()].concat());
            if clients == MANY {
                memories.push((kind, each));
            }
        }
    }
    let met = if worst <= FIRST_BYTE { "met" } else { "missed" };
    report.note(&format!("Budget: {FIRST_BYTE} ms, checked, p99: {met}."));
    report.section(
        "Memory of a held client",
        "Resident memory with all of them waiting for a second, less that before, over their number; a fresh Envoy and daemon.",
    );
    report.head(&["", "Envoy, KB each", "daemon, KB each"]);
    for (kind, each) in &memories {
        report.row(&[
            kind.name().to_owned(),
            format!("{:.1}", each.envoy),
            format!("{:.1}", each.daemon),
        ]);
    }
    let most = memories
        .iter()
        .map(|(_, each)| each.envoy.max(each.daemon))
        .fold(0.0, f64::max);
    let met = if most <= EACH { "met" } else { "missed" };
    report.note(&format!("Budget: {EACH} KB each: {met}."));
}

/// One rule after the other; the memory is that of the first.
async fn series(kind: Kind, clients: usize, rules: usize) -> (Waits, Memory) {
    let place = Place::new();
    let machines: Vec<Machine> = (0..rules).map(|number| Machine::new(&place, kind, number)).collect();
    let proxy = Proxy::start(place, &[]);
    let mut waits = Waits::default();
    let mut memory = None;
    for machine in machines {
        proxy.until(&machine.rule, "asleep");
        let each = one(&proxy, kind, clients, machine, &mut waits).await;
        memory.get_or_insert(each);
    }
    (waits, memory.expect("there are rules"))
}

impl Machine {
    fn new(place: &Place, kind: Kind, number: usize) -> Machine {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let port = socket.local_addr().expect("it is bound").port();
        let rule = format!("held-{number}");
        let way = match kind {
            Kind::Http => format!("[[http]]\nhosts = \"{}\"\nport = {port}\n", host(&rule)),
            Kind::Tcp => format!("[[tcp]]\nport = {port}\n"),
        };
        // Two rules with one program would be two with one machine.
        let program = format!("program:exec sleep {}", 3600 + number);
        let text = format!("idle = \"1h\"\nresources = ['{program}']\n{way}");
        place.write(&format!("rules.d/{rule}.toml"), &text);
        Machine { socket, port, rule }
    }

    /// Listens from now on; the moment of the first connection comes out.
    fn up(self, kind: Kind) -> watch::Receiver<Option<Instant>> {
        let listener = self.socket.listen(4096).expect("it listens");
        let (tell, first) = watch::channel(None);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tell.send_if_modified(|first| first.replace(first.unwrap_or_else(Instant::now)).is_none());
                tokio::spawn(serve(stream, kind));
            }
        });
        first
    }
}

/// Whoever leaves, as the check does, is left.
async fn serve(mut stream: TcpStream, kind: Kind) {
    let answer: &[u8] = match kind {
        // A server that speaks first, as SSH's.
        Kind::Tcp => return drop((stream.write_all(b"!").await, stream.read(&mut [0]).await)),
        Kind::Http => b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n!",
    };
    let mut request = [0; 4096];
    // Each comes in one piece: it is small, and Envoy sends it whole.
    while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
        drop(stream.write_all(answer).await);
    }
}

async fn one(proxy: &Proxy, kind: Kind, clients: usize, machine: Machine, waits: &mut Waits) -> Memory {
    let at = match kind {
        Kind::Http => proxy.http(),
        Kind::Tcp => proxy.tcp(&machine.rule, machine.port),
    };
    // Those of the rule before have been served and leave.
    within(until_there(proxy, 0)).await;
    let before = proxy.memory();
    let mut crowd = JoinSet::new();
    for _ in 0..clients {
        crowd.spawn(wait(at, kind, machine.rule.clone()));
    }
    within(until_there(proxy, clients as u64)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let during = proxy.memory();
    let up = Instant::now();
    let mut first = machine.up(kind);
    let served = within(crowd.join_all()).await;
    let checked = first.wait_for(Option::is_some).await.map(|first| *first);
    let checked = checked.ok().flatten().expect("the daemon has checked it");
    let since = |begin: Instant| served.iter().map(move |(at, _)| (*at - begin).as_secs_f64() * 1000.0);
    waits.since_up.extend(since(up));
    waits.since_checked.extend(since(checked));
    let each = |during: f64, before: f64| (during - before) * 1024.0 / clients as f64;
    Memory {
        envoy: each(during.envoy, before.envoy),
        daemon: each(during.daemon, before.daemon),
    }
}

async fn until_there(proxy: &Proxy, clients: u64) {
    while proxy.clients() != clients {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Nothing here takes this long; it ends a run that hangs.
async fn within<T>(future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_secs(60), future).await;
    done.expect("all are held and served within a minute")
}

/// A client until its first byte; it stays connected.
async fn wait(at: SocketAddr, kind: Kind, rule: String) -> (Instant, TcpStream) {
    let mut stream = TcpStream::connect(at).await.expect("the proxy listens");
    if kind == Kind::Http {
        let request = format!("GET / HTTP/1.1\r\nhost: {}\r\naccept: */*\r\n\r\n", host(&rule));
        stream.write_all(request.as_bytes()).await.expect("the proxy reads");
    }
    let mut first = [0; 1024];
    let read = stream.read(&mut first).await.expect("the proxy serves");
    let now = Instant::now();
    let expected: &[u8] = match kind {
        Kind::Http => b"HTTP/1.1 200",
        Kind::Tcp => b"!",
    };
    let said = String::from_utf8_lossy(&first[..read]);
    assert!(first[..read].starts_with(expected), "{said}");
    (now, stream)
}
