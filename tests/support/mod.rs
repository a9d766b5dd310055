//! A cloud for tests: a real moto server and a small world in it. Nothing here can reach AWS: every client is made with
//! the server's address.
#![allow(dead_code, reason = "each test file uses its part")]

mod world;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proxymanager::aws::{AwsSettings, Clients};
#[allow(unused_imports, reason = "each test file uses its part")]
pub use world::{World, actions};

/// The region of every test.
pub const REGION: &str = "us-east-1";

/// A running moto server with nothing in it. It ends with this value.
pub struct Moto {
    child: Child,
    pub port: u16,
}

impl Moto {
    /// Starts a server on a port that the kernel chose and waits until it answers.
    ///
    /// # Panics
    /// When there is no server to start, or it does not answer within a minute.
    pub fn start() -> Moto {
        // Between the close and the server's own bind somebody else may take the port: then the server ends and
        // another port is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let program = program();
            let child = Command::new(&program)
                .args(["-H", "127.0.0.1", "-p", &port.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
            let mut moto = Moto { child, port };
            if moto.answers() {
                return moto;
            }
        }
        panic!("moto_server does not answer");
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The environment of a function or command that shall use it.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", "testing".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "testing".to_owned()),
        ]
    }

    /// The clients of the program, as its own start makes them.
    pub fn clients(&self) -> Clients {
        let env = self.env();
        let find = |key: &str| Some(env.iter().find(|(name, _)| *name == key)?.1.clone());
        Clients::new(&AwsSettings::from_env(&find).unwrap())
    }

    fn answers(&mut self) -> bool {
        for _ in 0..600 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return false;
            }
            if self.asked().is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        false
    }

    fn asked(&self) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let request = "GET /moto-api/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/moto_server");
    #[allow(clippy::disallowed_methods, reason = "a test is told where its server is")]
    let told = std::env::var("MOTO_SERVER");
    told.map_or(here, PathBuf::from)
}
