//! What the tests of the local cloud share: a quick cloud with one Python site and a Python function, a small client.

#![allow(dead_code, reason = "each test file uses its part")]

#[cfg(all(feature = "cli", feature = "lambda"))]
pub mod bill;
#[cfg(all(feature = "cli", feature = "lambda"))]
pub mod browser;
#[cfg(all(feature = "cli", feature = "lambda"))]
pub mod crowd;
#[cfg(all(feature = "cli", feature = "lambda"))]
pub mod front;
#[cfg(all(feature = "cli", feature = "lambda"))]
pub mod operator;
#[cfg(all(feature = "cli", feature = "lambda"))]
pub mod package;
#[cfg(all(feature = "cli", feature = "lambda"))]
pub mod story;
#[cfg(all(feature = "cli", feature = "lambda"))]
pub mod trouble;
pub mod visitor;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use proxymanager::local::{Cloud, Config, seed::Site, world::HealthState};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub const HOST: &str = "site.localhost";

pub fn support(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/local_support")
        .join(file)
}

/// The command of the Python site.
pub fn site() -> Site {
    let command = vec!["python3".to_owned(), support("site.py").to_string_lossy().into_owned()];
    Site {
        host: HOST.to_owned(),
        command,
    }
}

/// A configuration whose times are milliseconds, without ticks and events.
pub fn config() -> Config {
    let mut config = Config::new(support("bootstrap.py"));
    config.sites = vec![site()];
    config.boot = Duration::from_millis(50);
    config.stop = Duration::from_millis(50);
    config.check.interval = Duration::from_millis(40);
    config.tick = None;
    config.events = false;
    config.try_out = false;
    config
}

pub async fn cloud(change: impl FnOnce(&mut Config)) -> Cloud {
    let mut config = config();
    change(&mut config);
    Cloud::start(config).await.expect("the cloud starts")
}

/// A cloud whose site is awake: started, healthy, and with its rule on the backend.
pub async fn awake(change: impl FnOnce(&mut Config)) -> Cloud {
    let cloud = cloud(change).await;
    start(&cloud);
    healthy(&cloud).await;
    flip(&cloud, &[cloud.seeded.sites[0].action.clone()]);
    cloud
}

pub fn start(cloud: &Cloud) {
    let now = cloud.shared.clock.now();
    let ids = [cloud.seeded.sites[0].instance.clone()];
    cloud
        .shared
        .world()
        .start_instances(now, &ids)
        .expect("the instance starts");
}

pub async fn healthy(cloud: &Cloud) {
    until("the target is healthy", || health(cloud) == HealthState::Healthy).await;
}

pub fn health(cloud: &Cloud) -> HealthState {
    let world = cloud.shared.world();
    world
        .target_group(&cloud.seeded.sites[0].group)
        .expect("the group is there")
        .targets[0]
        .health
        .state
}

/// Gives the site's rule these actions.
pub fn flip(cloud: &Cloud, actions: &[Value]) {
    let now = cloud.shared.clock.now();
    let rule = cloud.seeded.sites[0].rule.clone();
    cloud
        .shared
        .world()
        .modify_rule(now, &rule, None, Some(actions.to_vec()), None)
        .expect("the rule is modified");
}

/// Waits for a condition, for at most 30 seconds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    within(Duration::from_secs(30), what, condition).await;
}

/// Waits for a condition, for at most so long.
pub async fn within(patience: Duration, what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + patience;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// A connection that is kept: what a browser's keep-alive does.
pub struct Connection(pub TcpStream);

impl Connection {
    pub async fn open(to: SocketAddr) -> Self {
        Self(TcpStream::connect(to).await.expect("the port listens"))
    }

    pub async fn send(&mut self, text: &str) {
        self.0
            .write_all(text.as_bytes())
            .await
            .expect("the connection takes it");
    }

    /// One answer with a Content-Length; `None` when the connection closes before.
    pub async fn answer(&mut self) -> Option<Answer> {
        let head = self.head().await?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let answer = Answer {
            status,
            head,
            body: Vec::new(),
        };
        let length = answer
            .header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.ok()?;
        Some(Answer { body, ..answer })
    }

    /// The head of an answer, up to the empty line.
    pub async fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.ok()?);
        }
        String::from_utf8(head).ok()
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        self.answer().await.expect("the load balancer answers")
    }
}

/// A request on a connection of its own; `head` is what follows the request line, without the last empty line.
pub async fn ask(to: SocketAddr, request: &str, body: &str) -> Answer {
    let mut connection = Connection::open(to).await;
    connection
        .send(&format!("{request}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
        .await;
    connection.answer().await.expect("there is an answer")
}

pub async fn get(cloud: &Cloud, path: &str) -> Answer {
    Connection::open(cloud.address).await.get(path).await
}

/// A call of the control endpoint.
pub async fn control(cloud: &Cloud, method: &str, path: &str, body: &str) -> Value {
    let request = format!("{method} /_local/{path} HTTP/1.1\r\nHost: local");
    let answer = ask(cloud.api_address, &request, body).await;
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    answer.json()
}
