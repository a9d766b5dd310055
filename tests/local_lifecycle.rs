//! `proxymanager local` as a process: it starts, says where it is, and leaves nothing behind however it ends. This
//! program is the one under test when its first argument is `local`.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use clap::Parser;
use proxymanager::local;
use tokio::time::Instant;

#[derive(Parser)]
enum Cli {
    Local(local::Args),
}

fn main() -> ExitCode {
    let first = std::env::args().nth(1).unwrap_or_default();
    if first == "local" {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
        let Cli::Local(args) = Cli::parse();
        return runtime.block_on(local::run(args, None));
    }
    let tests: [(&str, fn()); 7] = [
        (
            "the_samples_answer_and_each_signal_leaves_no_process",
            the_samples_answer_and_each_signal_leaves_no_process,
        ),
        ("nothing_listens_off_loopback", nothing_listens_off_loopback),
        (
            "an_app_with_children_is_killed_as_a_whole",
            an_app_with_children_is_killed_as_a_whole,
        ),
        (
            "bad_input_is_a_sentence_and_an_exit_code",
            bad_input_is_a_sentence_and_an_exit_code,
        ),
        (
            "a_running_cloud_is_steered_from_the_command_line",
            a_running_cloud_is_steered_from_the_command_line,
        ),
        ("the_first_output_is_the_ready_line", the_first_output_is_the_ready_line),
        (
            "a_hundred_starts_and_stops_in_a_row",
            a_hundred_starts_and_stops_in_a_row,
        ),
    ];
    for (name, test) in tests
        .iter()
        .filter(|(name, _)| first.starts_with('-') || name.contains(&first))
    {
        let begun = Instant::now();
        test();
        println!("test {name} ... ok ({:.1} s)", begun.elapsed().as_secs_f64());
    }
    ExitCode::SUCCESS
}

fn bootstrap() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/local_support/bootstrap.py")
        .to_string_lossy()
        .into_owned()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program finds itself"));
    command.args([
        "local",
        "--port",
        "0",
        "--api-port",
        "0",
        "--boot",
        "0s",
        "--bootstrap",
        &bootstrap(),
    ]);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A running local cloud.
struct Running {
    child: Child,
    ready: String,
    port: u16,
    api: u16,
}

fn run(arguments: &[&str]) -> Running {
    let mut child = command(arguments).stderr(Stdio::null()).spawn().expect("it runs");
    let mut ready = String::new();
    BufReader::new(child.stdout.take().expect("stdout is piped"))
        .read_line(&mut ready)
        .expect("it says something");
    let ports: Vec<u16> = ready
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect();
    let ports: Vec<u16> = ports.into_iter().filter(|port| *port > 1000).collect();
    assert!(ready.starts_with("ready http://") && ports.len() >= 2, "{ready}");
    Running {
        child,
        port: ports[0],
        api: ports[ports.len() - 1],
        ready,
    }
}

impl Running {
    fn id(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill")
            .args([&format!("-{name}"), &self.id().to_string()])
            .status();
        assert!(done.expect("kill runs").success());
    }

    fn start_instance(&self, name: &str) {
        let answer = ask(self.api, "POST", &format!("/_local/instances/{name}/start"), "local");
        assert!(answer.contains("pending"), "{answer}");
    }

    /// Processes beneath it, the program itself excluded.
    fn descendants(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::from([self.id()]);
        loop {
            let more: BTreeSet<u32> = processes()
                .into_iter()
                .filter(|(_, parent)| found.contains(parent))
                .map(|(id, _)| id)
                .collect();
            let before = found.len();
            found.extend(more);
            if found.len() == before {
                found.remove(&self.id());
                return found;
            }
        }
    }

    /// The descendants that are not the function.
    fn apps(&self) -> BTreeSet<u32> {
        let is_function =
            |id: &u32| fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|c| c.contains("bootstrap.py"));
        self.descendants().into_iter().filter(|id| !is_function(id)).collect()
    }

    /// Ends it with a signal, and sees that it and all beneath it are gone. Returns its exit code.
    fn end(mut self, signal: &str) -> Option<i32> {
        let beneath = self.descendants();
        self.signal(signal);
        let status = self.child.wait().expect("it ends");
        // After SIGKILL the kernel does the work, a moment later; after the others nothing may be left at once.
        let patience = if signal == "KILL" {
            Duration::from_secs(10)
        } else {
            Duration::ZERO
        };
        let deadline = Instant::now() + patience;
        loop {
            let left: Vec<u32> = beneath.iter().copied().filter(|id| alive(*id)).collect();
            if left.is_empty() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "after SIG{signal} there are still {left:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A test that fails leaves nothing behind either: the kernel ends what is beneath a killed cloud.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every process with its parent.
fn processes() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").expect("there is /proc").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()));
    ids.filter_map(|id: u32| Some((id, stat(id)?.1))).collect()
}

/// State and parent of a process.
fn stat(id: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// A zombie is dead: it waits for a parent that may be the container's first process.
fn alive(id: u32) -> bool {
    stat(id).is_some_and(|(state, _)| state != 'Z')
}

fn ask(port: u16, method: &str, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the port listens");
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it takes the request");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn the_samples_answer_and_each_signal_leaves_no_process() {
    for (signal, expected) in [("TERM", Some(0)), ("INT", Some(0)), ("HUP", Some(0)), ("KILL", None)] {
        let running = run(&[]);
        assert!(running.ready.contains("http://plain.localhost:") && running.ready.contains("http://slow.localhost:"));
        let page = ask(running.port, "GET", "/", "plain.localhost");
        assert!(page.contains("x-waker: yes"), "asleep, so the function answers: {page}");
        running.start_instance("plain");
        running.start_instance("slow");
        // The function and both sites.
        until("three programs run", || running.descendants().len() >= 3);
        assert_eq!(running.end(signal), expected, "SIG{signal}");
    }
}

fn an_app_with_children_is_killed_as_a_whole() {
    // It ignores SIGTERM and has a child that would outlive its shell.
    let app = "a.localhost=trap '' TERM; sleep 1000 & python3 -m http.server -b 127.0.0.1 $PORT; wait";
    let running = run(&["--app", app]);
    for _ in 0..2 {
        running.start_instance("a");
        until("shell, sleep and server run", || running.apps().len() >= 3);
        let beneath = running.apps();
        ask(running.api, "POST", "/_local/instances/a/stop", "local");
        until("nothing of it runs", || !beneath.iter().any(|id| alive(*id)));
        until("it is stopped", || {
            ask(running.api, "GET", "/_local/world", "local").contains("\"state\":\"stopped\"")
        });
    }
    running.start_instance("a");
    until("it runs again", || running.apps().len() >= 3);
    assert_eq!(running.end("TERM"), Some(0));
}

fn nothing_listens_off_loopback() {
    let running = run(&[]);
    ask(running.port, "GET", "/", "plain.localhost");
    running.start_instance("plain");
    until("the site runs", || running.descendants().len() >= 2);
    let mut ours: BTreeSet<String> = BTreeSet::new();
    let mut ids = running.descendants();
    ids.insert(running.id());
    for id in ids {
        for entry in fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            ours.extend(
                target
                    .to_str()
                    .and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']'))
                    .map(str::to_owned),
            );
        }
    }
    let mut listening = 0;
    for (table, loopback) in [
        ("/proc/net/tcp", "0100007F:"),
        ("/proc/net/tcp6", "00000000000000000000000001000000:"),
    ] {
        for line in fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields[3] == "0A" && ours.contains(fields[9]) {
                assert!(fields[1].starts_with(loopback), "{line}");
                listening += 1;
            }
        }
    }
    assert!(listening >= 3, "load balancer, APIs, runtime API: {listening}");
    running.end("TERM");
}

fn bad_input_is_a_sentence_and_an_exit_code() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let port = taken.local_addr().expect("it has an address").port().to_string();
    let cases: [(&[&str], i32, &str); 9] = [
        (
            &["--port", &port],
            1,
            "is taken by another program: choose another with --port",
        ),
        (&["--api-port", &port], 1, "choose another with --api-port"),
        (
            &["--bootstrap", "/nowhere/bootstrap"],
            1,
            "there is no function at /nowhere/bootstrap",
        ),
        (&["--bootstrap", "Cargo.toml"], 1, "is not executable"),
        (
            &["--app", "a.test=no-such-command"],
            1,
            "the command of a.test does not run: it ended at once",
        ),
        (&["--app", "a.test=exit 7"], 1, "exit status: 7"),
        (
            &["--app", "a.test=sleep 9", "--app", "a.test=sleep 9"],
            2,
            "--app names the host a.test twice",
        ),
        (&["--app", "a.test"], 2, "HOST=COMMAND"),
        (&["--boot", "soon"], 2, "--boot"),
    ];
    for (arguments, code, sentence) in cases {
        // Options given again replace those of `command`, except that clap refuses them: so they are left out there.
        let mut all = vec!["local"];
        for (flag, value) in [
            ("--port", "0"),
            ("--api-port", "0"),
            ("--bootstrap", bootstrap().leak() as &str),
        ] {
            if !arguments.contains(&flag) {
                all.extend([flag, value]);
            }
        }
        all.extend(arguments);
        let program = std::env::current_exe().expect("this program finds itself");
        let output = Command::new(program)
            .args(&all)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(sentence), "{arguments:?}: {said}");
        assert!(
            output.stdout.is_empty() && !said.contains("panicked"),
            "{arguments:?}: {said}"
        );
    }
    assert!(
        !processes()
            .iter()
            .any(|(id, parent)| *parent == std::process::id() && alive(*id)),
        "nothing is left"
    );
}

fn a_running_cloud_is_steered_from_the_command_line() {
    let running = run(&[]);
    let api = running.api.to_string();
    let steer = |words: &[&str]| {
        let program = std::env::current_exe().expect("this program finds itself");
        let output = Command::new(program)
            .arg("local")
            .args(words)
            .args(["--api-port", &api])
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said)
    };
    let (code, said) = steer(&["fault", "no_capacity=true"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = steer(&["start", "plain"]);
    assert!(
        code == Some(1) && said.contains("sufficient t3.micro capacity"),
        "{said}"
    );
    let (code, said) = steer(&["fault", "nonsense=1"]);
    assert!(code == Some(1) && said.contains("nonsense"), "{said}");
    assert_eq!(steer(&["fault", "throttle"]).0, Some(2));
    assert_eq!(steer(&["fault", "off"]).0, Some(0));
    assert!(steer(&["start", "plain"]).1.contains("pending"));
    until("the site runs", || steer(&["show", "world"]).1.contains("\"running\""));
    assert!(steer(&["stop", "plain"]).1.contains("stopping"));
    assert_eq!(steer(&["delete-parked", "plain"]).0, Some(0));
    let (code, said) = steer(&["delete-parked", "plain"]);
    assert!(code == Some(1) && said.contains("has no parked rule"), "{said}");
    running.end("TERM");
    let (code, said) = steer(&["show", "world"]);
    assert!(code == Some(1) && said.contains("no local cloud answers"), "{said}");
}

fn the_first_output_is_the_ready_line() {
    let running = run(&["--app", "one.localhost=sleep 1000"]);
    let expected = format!(
        "ready http://one.localhost:{}/ (AWS API http://127.0.0.1:{})\n",
        running.port, running.api
    );
    assert_eq!(running.ready, expected);
    running.end("TERM");
}

fn a_hundred_starts_and_stops_in_a_row() {
    for round in 0..100 {
        let running = run(&[]);
        if round % 2 == 0 {
            running.start_instance("plain");
        }
        if round % 4 == 0 {
            until("the site runs", || !running.descendants().is_empty());
        }
        let signal = if round % 3 == 0 { "INT" } else { "TERM" };
        assert_eq!(running.end(signal), Some(0), "round {round}");
    }
}
