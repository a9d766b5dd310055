//! What runs on machines behind the proxy, as programs of rules, and clients of theirs.

use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::free_port;

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    assert!(path.exists(), "`make tools` makes {}", path.display());
    path.display().to_string()
}

/// The command of a program that speaks `echo`, `websocket`, `grpc` or `https` at a port of loopback.
pub fn serves(kind: &str, port: u16) -> String {
    let (python, program) = (file(".venv/bin/python"), file("tests/proxy_machines/serve.py"));
    format!("exec {python} {program} {kind} {port}")
}

/// The command of a web site.
pub fn site(port: u16) -> String {
    let (python, program) = (file(".venv/bin/python"), file("tests/local_support/site.py"));
    format!("PORT={port} exec {python} {program}")
}

/// A client that speaks `websocket` or `grpc`, line by line; or an `envoy` at the daemon's socket, whose version is `host`.
pub fn talks(kind: &str, at: &str, host: &str) -> Command {
    let mut client = Command::new(file(".venv/bin/python"));
    client.args([&file("tests/proxy_machines/talk.py"), kind, at, host]);
    client
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
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n",
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

    /// `scp` with what lets it in; `HOST:` in what is copied is the proxy.
    pub fn copy(&self, port: &str, from: &str, to: &str) -> Command {
        let mut client = Command::new("scp");
        client.args(["-q", "-P", port]).args(self.options()).args([from, to]);
        client.stdin(Stdio::null());
        client
    }
}

/// A PostgreSQL server that is a program of a rule, and its clients.
pub struct Database {
    folder: TempDir,
    /// Empty, or what runs a command as a user that PostgreSQL accepts: it refuses to be run by root.
    user: &'static str,
    pub port: u16,
}

impl Database {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let is_root = std::fs::metadata(folder.path()).unwrap().uid() == 0;
        let database = Database {
            folder,
            user: if is_root {
                "setpriv --reuid=postgres --regid=postgres --clear-groups"
            } else {
                ""
            },
            port: free_port(),
        };
        let (folder, user) = (database.folder.path().display(), database.user);
        let own = if is_root {
            format!("chown postgres {folder} &&")
        } else {
            String::new()
        };
        let make = database.program("initdb");
        let make = format!("{own} cd / && {user} {make} -D {folder}/data -A trust -U shop --no-sync >/dev/null");
        assert!(Command::new("sh").args(["-c", &make]).status().unwrap().success());
        database
    }

    /// Where Debian has it.
    fn program(&self, name: &str) -> String {
        let mut versions = std::fs::read_dir("/usr/lib/postgresql").unwrap();
        let version = versions.next().unwrap().unwrap().path();
        version.join("bin").join(name).display().to_string()
    }

    pub fn server(&self) -> String {
        let (folder, user, port) = (self.folder.path().display(), self.user, self.port);
        let server = self.program("postgres");
        format!("cd /; exec {user} {server} -D {folder}/data -p {port} -k {folder} -h 127.0.0.1 -F")
    }

    /// `psql` or `pgbench` with these arguments.
    pub fn client(&self, name: &str, host: &str, port: &str, arguments: &[&str]) -> Command {
        let mut client = Command::new(self.program(name));
        client.args(["-h", host, "-p", port, "-U", "shop"]).args(arguments);
        client.stdin(Stdio::null());
        client
    }
}
