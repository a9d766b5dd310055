//! Many at once.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::proxy_daemon::{Place, free_port, said, serves, site};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Ends a test that hangs.
const LONG: Duration = Duration::from_secs(60);
const CYCLES: usize = 50;
const SETTLE: Duration = Duration::from_millis(200);

/// What became of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Served,
    /// Closed before a byte came.
    Closed,
    /// Closed in the middle, so long after it was connected.
    Cut(Duration),
}

/// Says a word that nobody else says and reads it again.
async fn visit(at: &str, word: String) -> Outcome {
    let talk = async {
        let Ok(mut stream) = TcpStream::connect(at).await else {
            return Outcome::Closed;
        };
        let connected = Instant::now();
        let expected = format!("hello\n{word}");
        let _ = stream.write_all(word.as_bytes()).await;
        let mut read = Vec::new();
        let mut buffer = [0; 256];
        while read.len() < expected.len() {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) if read.is_empty() => return Outcome::Closed,
                Ok(0) | Err(_) => return Outcome::Cut(connected.elapsed()),
                Ok(count) => read.extend_from_slice(&buffer[..count]),
            }
        }
        assert_eq!(String::from_utf8_lossy(&read), expected, "another's bytes");
        Outcome::Served
    };
    tokio::time::timeout(LONG, talk)
        .await
        .unwrap_or_else(|_| panic!("{word} hangs"))
}

#[test]
fn fifty_times_to_sleep_and_awake_under_clients_that_never_stop_coming() {
    let place = Place::new();
    let port = free_port();
    let starts = place.path("starts");
    let program = format!("echo >>{}; {}", starts.display(), serves("echo", port));
    place.write(
        "config.toml",
        &place
            .config("usageTrackingPort = 0")
            .replace("settle = \"1s\"", "settle = \"200ms\""),
    );
    place.rule("dev", &program, port, "other");
    let _daemon = place.start();
    let at = place.at("dev");
    let (over, pause) = (AtomicBool::new(false), AtomicBool::new(false));
    let (served, closed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let cuts = Mutex::new(Vec::new());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..6 {
            let (at, over, pause, served, closed, cuts) = (&at, &over, &pause, &served, &closed, &cuts);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                for round in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    if !pause.load(Ordering::Relaxed) {
                        match runtime.block_on(visit(at, format!("client {client} round {round}"))) {
                            Outcome::Served => drop(served.fetch_add(1, Ordering::Relaxed)),
                            Outcome::Closed => drop(closed.fetch_add(1, Ordering::Relaxed)),
                            Outcome::Cut(after) => cuts.lock().unwrap().push(after),
                        }
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
        let _over = Over(&over);
        for _ in 0..CYCLES {
            let before = served.load(Ordering::Relaxed);
            place.until("clients are served", || served.load(Ordering::Relaxed) > before + 6);
            // Who comes before it has stopped brings it back.
            place.tell("dev", "sleep");
            let before = served.load(Ordering::Relaxed);
            place.until("clients are served", || served.load(Ordering::Relaxed) > before + 6);
            pause.store(true, Ordering::Relaxed);
            place.tell("dev", "sleep");
            // They come again while it stops, or right after.
            place.until("it stops", || place.is("dev", "stopping") || place.is("dev", "asleep"));
            pause.store(false, Ordering::Relaxed);
        }
    });
    let (served, closed, cuts) = (served.into_inner(), closed.into_inner(), cuts.into_inner().unwrap());
    println!(
        "{served} served, {closed} closed, {} cut in {:?}",
        cuts.len(),
        begun.elapsed()
    );
    // Told to sleep, it does so whoever is there; but not before those had time to end who were there at the switch.
    assert!(cuts.iter().all(|after| *after >= SETTLE), "{cuts:?}");
    assert_eq!(closed, 0);
    let starts = std::fs::read_to_string(starts).unwrap().lines().count();
    assert!(starts >= CYCLES, "{starts} starts");
}

/// Set when dropped, so that a test that fails does not wait for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Each client has a file descriptor in the test, and two in Envoy, which inherits the limit.
fn allow_many_files() {
    let mut limit = Command::new("prlimit");
    limit.args(["--pid", &std::process::id().to_string(), "--nofile=8192:"]);
    said(limit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_wait_for_one_machine_which_is_started_once() {
    const MANY: usize = 1000;
    allow_many_files();
    let place = Place::new();
    let (tcp, http) = (free_port(), free_port());
    let late = |command: String| format!("echo >>starts; until [ -e go ]; do sleep 0.02; done; {command}");
    place.rule("dev", &late(serves("echo", tcp)), tcp, "other");
    place.site("shop", "shop.test", &late(site(http)), http, "");
    let (daemon, envoy) = place.start_services(600);
    let memory = |what: &str| {
        let (daemon, envoy) = (daemon.memory(), envoy.memory());
        println!("{what}: the daemon has {daemon} KiB, Envoy {envoy} KiB");
    };
    memory("before");
    let mut clients = JoinSet::new();
    for client in 0..MANY {
        let at = place.at("dev");
        clients.spawn(async move {
            assert_eq!(visit(&at, format!("client {client}")).await, Outcome::Served);
        });
    }
    for client in 0..MANY {
        let at = format!("{}:8080", place.address);
        clients.spawn(async move {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let request = format!("GET /{client} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            let read = tokio::time::timeout(LONG, stream.read_to_string(&mut answer)).await;
            read.expect("no answer").unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(answer.contains(&format!("\"path\": \"/{client}\"")), "{answer}");
        });
    }
    let held = || {
        let tcp = place.of_envoy("tcp.tcp_dev_.*.downstream_cx_total");
        let http = place.of_envoy("http.*downstream_rq_active");
        (tcp, http)
    };
    println!("{:?}", held());
    memory("held");
    std::fs::write(place.path("go"), "").unwrap();
    let watch = async {
        for _ in 0..12 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            println!(
                "{} {} {}",
                place.status("shop"),
                place.status("dev")["phase"],
                std::fs::read_to_string(place.path("log")).unwrap()
            );
            println!(
                "{}",
                said({
                    let mut c = Command::new("curl");
                    c.args([
                        "-s",
                        "--unix-socket",
                        &place.path("envoy-admin.sock").display().to_string(),
                        "http://x/stats?usedonly",
                    ]);
                    c
                })
                .lines()
                .filter(|l| l.contains("shop")
                    || l.contains("ext_authz")
                    || l.contains("http.http")
                    || l.contains("downstream_rq")
                    || l.contains("downstream_cx"))
                .collect::<Vec<_>>()
                .join("\n")
            );
            println!(
                "{}",
                said({
                    let mut c = Command::new("ss");
                    c.args(["-tns"]);
                    c
                })
            );
            println!(
                "{}",
                said({
                    let mut c = Command::new("ss");
                    c.args(["-ltn"]);
                    c
                })
            );
        }
    };
    tokio::join!(watch, clients.join_all());
    memory("after");
    let starts = std::fs::read_to_string(place.path("starts")).unwrap();
    assert_eq!(starts.lines().count(), 2, "one start of each machine");
}
