//! moto: AWS's APIs on loopback.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::emulator::{free_port, wait_for_port};

/// A moto server of its own for one test. Ends with its value.
pub struct Moto {
    child: Child,
    pub port: u16,
}

impl Moto {
    pub fn start() -> Self {
        let port = free_port();
        let child = Command::new(program())
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto starts; `make tools` installs it");
        wait_for_port(port);
        Moto { child, port }
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
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/moto_server")
}
