//! moto: AWS's APIs on loopback.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::Duration;

/// A moto server. Ends with its value.
pub struct Moto {
    child: Child,
    pub port: u16,
}

impl Moto {
    /// One of its own for one test. The port is the kernel's choice; moto names it once it listens.
    pub fn start() -> Self {
        let mut child = Command::new(program())
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("moto starts; `make tools` installs it");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let (told, hears) = mpsc::channel();
        // Reads on to the end: a full pipe would stop the server.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let port = line
                    .split_once("http://127.0.0.1:")
                    .map(|(_, port)| port.trim().parse());
                if let Some(Ok(port)) = port {
                    let _ = told.send(port);
                }
            }
        });
        let port = hears.recv_timeout(Duration::from_secs(60));
        let moto = Moto {
            child,
            port: port.as_ref().copied().unwrap_or_default(),
        };
        port.expect("moto listens within a minute");
        moto
    }

    /// One for all tests of a program that run at the same time and keep out of each other's way by names.
    pub fn shared() -> Arc<Self> {
        static RUNNING: Mutex<Weak<Moto>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let moto = Arc::new(Moto::start());
            *running = Arc::downgrade(&moto);
            moto
        })
    }

    /// The ledger's table, as the template makes it.
    pub fn create_table(&self, name: &str) {
        let table = serde_json::json!({
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            "AttributeDefinitions": [
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
        });
        ureq::post(format!("http://127.0.0.1:{}/", self.port))
            .header("x-amz-target", "DynamoDB_20120810.CreateTable")
            .header("content-type", "application/x-amz-json-1.0")
            .header("authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0")
            .send(table.to_string())
            .expect("moto makes the table");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let installed = || Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/moto_server");
    std::env::var_os("MOTO_SERVER").map_or_else(installed, PathBuf::from)
}
