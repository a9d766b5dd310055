//! Many at once.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::proxy_daemon::{Place, free_port, said, serves, site};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Ends a test that hangs.
const LONG: Duration = Duration::from_secs(60);
const CYCLES: usize = 50;
const SETTLE: Duration = Duration::from_millis(100);

/// What became of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Served,
    /// Told to come again, by HTTP.
    Refused,
    /// Closed before a byte came.
    Closed,
    /// Closed in the middle, so long after it was connected.
    Cut(Duration),
}

/// Asks for an answer that nobody else gets: says `word` and reads until all of it has come again.
async fn talk(at: &str, says: String, is_whole: impl Fn(&str) -> Option<Outcome>) -> Outcome {
    let talk = async {
        let Ok(mut stream) = TcpStream::connect(at).await else {
            return Outcome::Closed;
        };
        let connected = Instant::now();
        let _ = stream.write_all(says.as_bytes()).await;
        let mut read = String::new();
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) if read.is_empty() => return Outcome::Closed,
                Ok(0) | Err(_) => return Outcome::Cut(connected.elapsed()),
                Ok(count) => read += std::str::from_utf8(&buffer[..count]).unwrap(),
            }
            if let Some(outcome) = is_whole(&read) {
                return outcome;
            }
        }
    };
    let talked = tokio::time::timeout(LONG, talk).await;
    talked.unwrap_or_else(|_| panic!("{says:?} gets no answer"))
}

/// By TCP: its word comes again.
async fn echoes(at: &str, word: String) -> Outcome {
    let expected = format!("hello\n{word}");
    let is_whole = |read: &str| {
        assert!(
            expected.starts_with(read),
            "another's bytes: {read:?}, not {expected:?}"
        );
        (read == expected).then_some(Outcome::Served)
    };
    talk(at, word.clone(), is_whole).await
}

/// By HTTP: its path is in the answer.
async fn asks(at: &str, word: String) -> Outcome {
    let path = format!("/{}", word.replace(' ', "-"));
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n");
    let is_whole = |read: &str| {
        let (head, body) = read.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        if body.len() < length.parse().unwrap() {
            return None;
        }
        if !head.starts_with("HTTP/1.1 200 ") {
            assert!(
                head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nretry-after: "),
                "{read}"
            );
            return Some(Outcome::Refused);
        }
        assert!(
            body.starts_with(&format!("{{\"path\": \"{path}\"")),
            "another's answer: {read}, not {path}"
        );
        Some(Outcome::Served)
    };
    talk(at, request, is_whole).await
}

async fn visit(at: &str, word: String) -> Outcome {
    if at.ends_with(":8080") {
        asks(at, word).await
    } else {
        echoes(at, word).await
    }
}

/// What the clients of a rule have seen so far.
#[derive(Default)]
struct Seen {
    served: AtomicUsize,
    others: Mutex<Vec<Outcome>>,
}

impl Seen {
    fn note(&self, outcome: Outcome) {
        match outcome {
            Outcome::Served => drop(self.served.fetch_add(1, Ordering::Relaxed)),
            other => self.others.lock().unwrap().push(other),
        }
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

#[test]
fn fifty_times_to_sleep_and_awake_under_clients_that_never_stop_coming() {
    let place = Place::new();
    let (tcp, http) = (free_port(), free_port());
    place.change("config.toml", "settle = \"1s\"", "settle = \"100ms\"");
    place.rule("dev", &format!("echo >>dev; {}", serves("echo", tcp)), tcp, "other");
    place.site("shop", "shop.test", &format!("echo >>shop; {}", site(http)), http, "");
    let _daemon = place.start();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (rule, at) in [("dev", place.at("dev")), ("shop", format!("{}:8080", place.address))] {
            let place = &place;
            scope.spawn(move || cycles(place, rule, &at));
        }
    });
    println!("{CYCLES} cycles of each in {:?}", begun.elapsed());
}

/// Puts a rule to sleep again and again, under clients that come again and again.
fn cycles(place: &Place, rule: &str, at: &str) {
    let (over, pause) = (AtomicBool::new(false), AtomicBool::new(false));
    let (busy, seen) = (AtomicUsize::new(0), Seen::default());
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (over, pause, busy, seen) = (&over, &pause, &busy, &seen);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                for round in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    busy.fetch_add(1, Ordering::SeqCst);
                    if !pause.load(Ordering::SeqCst) {
                        seen.note(runtime.block_on(visit(at, format!("client {client} round {round}"))));
                    }
                    busy.fetch_sub(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
        let _over = Over(&over);
        let are_served = || {
            let before = seen.served();
            place.until("clients are served", || seen.served() > before + 4);
        };
        for _ in 0..CYCLES {
            are_served();
            // Who comes before it has stopped brings it back.
            place.tell(rule, "sleep");
            are_served();
            pause.store(true, Ordering::SeqCst);
            place.until("nobody is under way", || busy.load(Ordering::SeqCst) == 0);
            place.tell(rule, "sleep");
            // They come again while it stops, or right after.
            place.until("it stops", || place.is(rule, "stopping") || place.is(rule, "asleep"));
            pause.store(false, Ordering::SeqCst);
        }
    });
    let (served, others) = (seen.served(), seen.others.into_inner().unwrap());
    println!("{rule}: {served} served, others: {others:?}");
    // Told to sleep, it does so whoever is there; but not before those had time to end who were there at the switch.
    let is_right = |outcome: &Outcome| matches!(outcome, Outcome::Cut(after) if *after >= SETTLE);
    assert!(others.iter().all(is_right), "{others:?}");
    let starts = std::fs::read_to_string(place.path(rule)).unwrap().lines().count();
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
        for at in [place.at("dev"), format!("{}:8080", place.address)] {
            clients.spawn(async move {
                assert_eq!(visit(&at, format!("client {client}")).await, Outcome::Served);
            });
        }
    }
    let held =
        || ["http.http-8080.downstream_rq_active", "tcp.*50000.downstream_cx_total"].map(|name| place.of_envoy(name));
    place.until("all are held", || held() == [MANY as u64; 2]);
    memory("held");
    std::fs::write(place.path("go"), "").unwrap();
    clients.join_all().await;
    memory("after");
    let starts = std::fs::read_to_string(place.path("starts")).unwrap();
    assert_eq!(starts.lines().count(), 2, "one start of each machine");
}
