//! AWS's own Lambda runtime interface emulator around the shipped function.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::counting::Counting;

/// One emulated Lambda environment: one process of the function, one invocation at a time. Ends with its value.
pub struct Emulator {
    child: Child,
    url: String,
    _calls: Option<Counting>,
}

impl Emulator {
    /// Starts the function with this environment and nothing else. Its calls of AWS are recorded on their way.
    pub fn start(environment: &[(String, String)]) -> Self {
        let given = environment;
        let mut environment = environment.to_vec();
        let endpoint = environment.iter_mut().find(|(key, _)| key == "AWS_ENDPOINT_URL");
        let port = |url: &str| url.strip_prefix("http://127.0.0.1:")?.parse().ok();
        let calls = endpoint.and_then(|(_, url)| {
            let calls = Counting::of_function(port(url)?, given);
            *url = format!("http://127.0.0.1:{}", calls.port);
            Some(calls)
        });
        let (invoke, runtime) = (free_port(), free_port());
        let log = std::fs::File::create(log_path(invoke)).expect("a log file");
        let mut command = Command::new(emulator());
        command
            .arg("--runtime-interface-emulator-address")
            .arg(format!("127.0.0.1:{invoke}"))
            .arg("--runtime-api-address")
            .arg(format!("127.0.0.1:{runtime}"))
            .arg(bootstrap())
            .env_clear()
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the same file"))
            .stderr(log);
        let child = command
            .spawn()
            .expect("the runtime interface emulator starts; `make tools` installs it");
        let url = format!("http://127.0.0.1:{invoke}/2015-03-31/functions/function/invocations");
        wait_for_port(invoke);
        Emulator {
            child,
            url,
            _calls: calls,
        }
    }

    /// One invocation. Panics when the function fails, which for a load balancer's request it never may.
    pub fn invoke(&self, event: &Value) -> Value {
        let mut response = ureq::post(&self.url)
            .send(event.to_string())
            .expect("the emulator answers");
        let text = response.body_mut().read_to_string().expect("an answer in UTF-8");
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(answer.get("errorType").is_none(), "the function failed: {answer}");
        answer
    }

    /// Ends the environment in whatever state it is, as Lambda may at any time.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.end();
    }
}

/// The function under test: what `make` built, else what cargo built beside this test.
pub fn bootstrap() -> PathBuf {
    std::env::var_os("TEST_BOOTSTRAP").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_bootstrap")), PathBuf::from)
}

fn emulator() -> PathBuf {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/lib");
    let mut pythons = std::fs::read_dir(&packages)
        .expect("`make tools` makes .venv")
        .flatten();
    let python = pythons
        .find(|entry| entry.file_name().to_string_lossy().starts_with("python3"))
        .expect("a Python in .venv");
    python
        .path()
        .join("site-packages/samcli/local/rapid/aws-lambda-rie-x86_64")
}

/// A port nobody listens on, chosen by the kernel.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}

/// Until somebody listens there, or panics after half a minute.
pub fn wait_for_port(port: u16) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn log_path(port: u16) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned();
    folder.join(format!("emulator-{port}.log"))
}
