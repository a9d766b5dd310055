//! The shipped daemon with a real Envoy, as a user runs them: a folder with a configuration and rule files, commands, clients.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Nothing here takes this long; it ends a test that hangs.
const LONG: Duration = Duration::from_secs(25);
const STEP: Duration = Duration::from_millis(50);

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
}

impl Place {
    pub fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let place = Place {
            folder: TempDir::new().unwrap(),
            address: format!("127.{}.{high}.{low}", 64 + NEXT.fetch_add(1, Ordering::Relaxed)),
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

    pub fn status(&self, rule: &str) -> Value {
        self.ask(&["proxy", "status", rule])
    }

    /// Asks until it is so.
    pub fn until(&self, what: &str, is: impl Fn() -> bool) {
        let asked = || self.ask(&["proxy", "status"]);
        assert!(in_time(is), "{what}: not within {LONG:?}: {}", asked());
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

    /// Starts Envoy as its service would, once the daemon has written its bootstrap file.
    pub fn envoy(&self) -> Service {
        self.envoy_with(&[])
    }

    /// The same with more arguments.
    pub fn envoy_with(&self, more: &[&str]) -> Service {
        let file = self.path("envoy.json");
        assert!(in_time(|| file.exists()), "the daemon writes {}", file.display());
        let mut command = Command::new(envoy());
        command.arg("--config-path").arg(file);
        command.args(["--disable-hot-restart", "--log-level", "error", "--drain-time-s", "600"]);
        command.args(more);
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Service(child.unwrap())
    }

    /// Ends the programs of a daemon that left them running.
    pub fn end_programs(&self) {
        let Ok(text) = std::fs::read(self.path("state/programs.json")) else {
            return;
        };
        let running: Value = serde_json::from_slice(&text).unwrap();
        for one in running.as_object().into_iter().flatten() {
            let group = i32::try_from(one.1["group"].as_i64().unwrap()).unwrap();
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

impl Drop for Service {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// An SSH server that is a program of a rule, and its client.
pub struct Ssh {
    folder: TempDir,
    pub port: u16,
}

impl Ssh {
    pub fn new() -> Self {
        let ssh = Ssh {
            folder: TempDir::new().unwrap(),
            port: free_port(),
        };
        for key in ["host", "mine"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(ssh.path(key))
                .status();
            assert!(made.unwrap().success());
        }
        // Made by its service otherwise; it is there and empty, or not there.
        let _ = std::fs::create_dir_all("/run/sshd");
        let mut text = String::new();
        let file = |name: &str| ssh.path(name).display().to_string();
        let _ = write!(
            text,
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n",
            ssh.port,
            file("host"),
            file("mine.pub"),
        );
        std::fs::write(ssh.path("sshd_config"), text).unwrap();
        ssh
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn server(&self) -> String {
        format!("exec /usr/sbin/sshd -D -f {}", self.path("sshd_config").display())
    }

    /// The options that let a client in without a question.
    pub fn options(&self) -> Vec<String> {
        let key = self.path("mine").display().to_string();
        [
            "-i",
            &key,
            "-o",
            "LogLevel=ERROR",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    pub fn client(&self, host: &str, port: &str, command: &str) -> Command {
        let mut client = Command::new("ssh");
        client.args(self.options()).args(["-p", port, host, command]);
        client
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        client
    }
}

/// Everything a program says until it ends.
pub fn said(mut child: Child) -> String {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    text
}
