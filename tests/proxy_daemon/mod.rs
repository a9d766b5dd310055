//! The shipped daemon with a real Envoy, as a user runs them: a folder with a configuration and rule files, commands, clients.
#![allow(dead_code, unused_imports, reason = "each test program uses a part of it")]

mod machines;
mod session;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

pub use self::machines::{Database, Ssh, serves, site, talks};
pub use self::session::{Session, said};

/// Nothing here takes this long; it ends a test that hangs.
const LONG: Duration = Duration::from_secs(100);
const STEP: Duration = Duration::from_millis(20);

fn in_time(is: impl Fn() -> bool) -> bool {
    (0..LONG.as_millis() / STEP.as_millis()).any(|_| {
        let there = is();
        if !there {
            std::thread::sleep(STEP);
        }
        there
    })
}

/// A folder with everything a proxy has, on an address of loopback that no other test uses.
pub struct Place {
    folder: TempDir,
    pub address: String,
    /// Further variables of whatever is run.
    pub environment: Vec<(&'static str, String)>,
}

impl Place {
    pub fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let place = Place {
            folder: TempDir::new().unwrap(),
            address: format!("127.{}.{high}.{low}", 64 + NEXT.fetch_add(1, Ordering::Relaxed)),
            environment: Vec::new(),
        };
        std::fs::create_dir(place.path("rules.d")).unwrap();
        place.write("config.toml", &place.config("usageTrackingPort = 0"));
        place
    }

    /// A configuration that waits for nothing: programs are as they are seen.
    pub fn config(&self, more: &str) -> String {
        let address = &self.address;
        format!(
            r#"accountID = "acc-1"
accessPointID = "ap-1"
proxyPort = 0
listen = "{address}"
httpPorts = 8080
portRange = "50000-50009"
ledger = "file:state"
controlSocket = "control.sock"
xdsSocket = "xds.sock"
settle = "1s"
idleMin = "5s"
metricsDelay = "0s"
describeDelay = "0s"
{more}
"#
        )
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        // As an editor does it: nobody reads half of it.
        let new = self.path(&format!("{name}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    /// Changes a file in one place.
    pub fn change(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}: {text}");
        self.write(name, &text.replace(from, to));
    }

    /// A rule with a program and its port.
    pub fn rule(&self, name: &str, command: &str, port: u16, protocol: &str) {
        let text = format!(
            "idle = \"1h\"\nresources = ['program:{command}']\n[[tcp]]\nport = {port}\nprotocol = \"{protocol}\"\n"
        );
        self.write(&format!("rules.d/{name}.toml"), &text);
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(proxymanager());
        let own = words.iter().position(|word| *word == "--").unwrap_or(words.len());
        command
            .args(&words[..own])
            .arg("--config")
            .arg(self.path("config.toml"));
        command.args(&words[own..]).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What a command says as JSON.
    pub fn ask(&self, words: &[&str]) -> Value {
        let output = self.run(&[&["--output", "json"], words].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&text).unwrap()
    }

    /// What the daemon says is wrong, a line each.
    pub fn errors(&self) -> String {
        let status = self.ask(&["proxy", "status"]);
        let errors = status["errors"].as_array().unwrap().iter();
        errors
            .map(|error| error.as_str().unwrap())
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// What the daemon tells of a rule, by its control socket.
    pub fn status(&self, rule: &str) -> Value {
        let all = self.control("GET", "/status");
        let mut rules = all["rules"].as_array().unwrap().iter();
        let found = rules.find(|one| one["rule"] == rule);
        found.unwrap_or_else(|| panic!("there is no {rule}: {all}")).clone()
    }

    pub fn is(&self, rule: &str, phase: &str) -> bool {
        self.status(rule)["phase"] == phase
    }

    /// Waits until a rule is in this phase.
    pub fn becomes(&self, rule: &str, phase: &str) {
        self.until(&format!("{rule} is {phase}"), || self.is(rule, phase));
    }

    /// Tells the daemon what the command line would: `wake`, `sleep`.
    pub fn tell(&self, rule: &str, verb: &str) -> Value {
        self.control("POST", &format!("/rules/{rule}/{verb}"))
    }

    fn control(&self, method: &str, path: &str) -> Value {
        let mut stream = UnixStream::connect(self.path("control.sock")).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: proxy\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{method} {path}: {answer}");
        serde_json::from_str(body).unwrap()
    }

    /// Asks until it is so.
    pub fn until(&self, what: &str, is: impl Fn() -> bool) {
        let asked = || self.ask(&["proxy", "status"]);
        assert!(in_time(is), "{what}: not within {LONG:?}: {}", asked());
    }

    /// A rule with a site by HTTP at `host`.
    pub fn site(&self, name: &str, host: &str, command: &str, port: u16, more: &str) {
        let text = format!(
            "idle = \"1h\"\nresources = ['program:{command}']\n[[http]]\nhosts = [\"{host}\"]\nport = {port}\n{more}\n"
        );
        self.write(&format!("rules.d/{name}.toml"), &text);
    }

    /// Where the proxy listens for a rule.
    pub fn at(&self, rule: &str) -> String {
        format!("{}:{}", self.address, self.port(rule))
    }

    /// The proxy's port for a rule.
    pub fn port(&self, rule: &str) -> String {
        self.status(rule)["ports"][0]["listen"].to_string()
    }

    /// Starts the daemon with Envoy as its child.
    pub fn start(&self) -> Daemon {
        self.daemon(&["--envoy", &envoy().display().to_string()])
    }

    /// Starts the daemon alone, for an Envoy that is a service of its own.
    pub fn start_alone(&self) -> Daemon {
        self.daemon(&[])
    }

    fn daemon(&self, more: &[&str]) -> Daemon {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let mut command = self.command(&[&["proxy"], more].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("ready ").map(str::to_owned);
        let Some(url) = url else {
            let _ = child.wait();
            panic!(
                "no ready line but {line:?}: {}",
                std::fs::read_to_string(self.path("log")).unwrap()
            );
        };
        Daemon { child, url }
    }

    /// Starts Envoy and the daemon as the services they are: Envoy waits for its daemon, and the daemon for Envoy.
    pub fn start_services(&self, drain: u32) -> (Daemon, Service) {
        self.start_services_with(drain, "")
    }

    /// The same with more in the configuration.
    pub fn start_services_with(&self, drain: u32, more: &str) -> (Daemon, Service) {
        let more = format!("usageTrackingPort = {}\n{more}", free_port());
        self.write("config.toml", &self.config(&more));
        std::thread::scope(|scope| {
            let daemon = scope.spawn(|| self.start_alone());
            let envoy = self.envoy(drain);
            (daemon.join().unwrap(), envoy)
        })
    }

    /// Starts Envoy as its service would, once the daemon has written its bootstrap file. Connections of a listener that has
    /// changed live on for `drain` seconds.
    pub fn envoy(&self, drain: u32) -> Service {
        self.envoy_with(drain, &[])
    }

    /// The same with more arguments.
    pub fn envoy_with(&self, drain: u32, more: &[&str]) -> Service {
        let file = self.path("envoy.json");
        assert!(in_time(|| file.exists()), "the daemon writes {}", file.display());
        let mut command = Command::new(envoy());
        command.arg("--config-path").arg(file);
        command.args(["--disable-hot-restart", "--log-level", "error", "--drain-time-s"]);
        command.arg(drain.to_string());
        command.args(more);
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Service(child.unwrap())
    }

    /// A gauge or counter of Envoy's, or the sum of those whose names fit.
    pub fn of_envoy(&self, name: &str) -> u64 {
        let mut stream = UnixStream::connect(self.path("envoy-admin.sock")).unwrap();
        let request = format!("GET /stats?filter=^{name}$ HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let lines = answer.lines().filter_map(|line| line.rsplit_once(": "));
        // Headers of the answer are no statistics.
        let values = lines.filter(|(name, _)| name.contains('.'));
        values.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }

    /// The process groups of the programs that the daemon has started, whether or not they have ended since.
    pub fn programs(&self) -> Vec<i32> {
        let Ok(text) = std::fs::read(self.path("state/programs.json")) else {
            return Vec::new();
        };
        let running: BTreeMap<String, Value> = serde_json::from_slice(&text).unwrap();
        let group = |one: &Value| i32::try_from(one["group"].as_i64().unwrap()).unwrap();
        running.values().map(group).collect()
    }
}

/// No program outlives its test, however that ends.
impl Drop for Place {
    fn drop(&mut self) {
        for group in self.programs() {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

/// What `cargo build` made, unless the environment names another one, such as a release build.
fn proxymanager() -> PathBuf {
    let named = std::env::var_os("TEST_PROXYMANAGER");
    named.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_proxymanager")), PathBuf::from)
}

pub fn envoy() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/envoy");
    assert!(path.exists(), "`make tools` makes {}", path.display());
    path
}

/// A port that nobody has right now, for a program that has to be told one.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running daemon; told to end when dropped.
pub struct Daemon {
    child: Child,
    pub url: String,
}

impl Daemon {
    fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal);
    }

    /// Told to read everything again, as `systemctl reload` does it.
    pub fn reload(&self) {
        self.signal(Signal::SIGHUP);
    }

    /// Its memory in KiB.
    pub fn memory(&self) -> u64 {
        memory(&self.child)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Without a word, as a crash.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }

    /// A page of the status port.
    pub fn get(&self, path: &str) -> (u16, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.get(format!("{}{path}", self.url)).call().unwrap();
        let status = answer.status().as_u16();
        (status, answer.body_mut().read_to_string().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// A process with a group of its own; killed when dropped.
pub struct Service(pub Child);

impl Service {
    /// Its memory in KiB.
    pub fn memory(&self) -> u64 {
        memory(&self.0)
    }
}

/// Resident, in KiB (proc(5), `VmRSS`).
fn memory(of: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", of.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}
