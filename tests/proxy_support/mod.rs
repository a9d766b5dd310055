//! Envoy, the control plane in this process, and machines that are tasks of the test.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod names;
pub mod web;

use names::Names;

use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proxymanager::clock::SystemClock;
use proxymanager::domain::rule::{RuleName, Side};
use proxymanager::gateway::envoy::process::{Bootstrap, Envoy};
use proxymanager::gateway::envoy::{
    CheckedRequest, Endpoint, Host, HttpWay, Judge, NotAcked, Places, Plane, Ring, RuleView, Signals, TcpWay, Upstream,
    Verdict, Version, View,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};

/// Nothing here takes this long; it ends a test that hangs.
pub const LONG: Duration = Duration::from_secs(20);
pub const DRAIN: Duration = Duration::from_secs(600);

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LONG, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {LONG:?}"),
    }
}

/// A port of ours that another may listen on: we are bound to it and do not listen.
pub struct Port {
    _kept: TcpSocket,
    pub at: SocketAddr,
}

pub fn port() -> Port {
    let socket = TcpSocket::new_v4().expect("a socket");
    // As Envoy, and as tokio.
    socket.set_reuseport(true).expect("SO_REUSEPORT");
    socket.set_reuseaddr(true).expect("SO_REUSEADDR");
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
    let at = socket.local_addr().expect("an address");
    Port { _kept: socket, at }
}

/// A held request, and how to end it.
pub type Case = (CheckedRequest, oneshot::Sender<Verdict>);

/// Puts every request before the test.
#[derive(Clone)]
pub struct Asks(mpsc::UnboundedSender<Case>);

impl Judge for Asks {
    async fn judge(&self, request: CheckedRequest) -> Verdict {
        let (sender, receiver) = oneshot::channel();
        self.0.send((request, sender)).expect("the test listens");
        match receiver.await {
            Ok(verdict) => verdict,
            Err(_) => std::future::pending().await,
        }
    }
}

pub struct Rig {
    pub folder: tempfile::TempDir,
    pub plane: Plane,
    pub signals: Signals,
    pub cases: mpsc::UnboundedReceiver<Case>,
    pub envoy: Envoy,
    usage: Port,
}

pub fn program() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/envoy");
    assert!(path.exists(), "`make tools` makes {}", path.display());
    path
}

type Begun = (Plane, Signals, mpsc::UnboundedReceiver<Case>);

async fn begin(xds: &Path, usage: SocketAddr) -> std::io::Result<Begun> {
    let (sender, cases) = mpsc::unbounded_channel();
    let places = Places {
        xds: xds.to_owned(),
        usage,
        load_interval: Duration::from_millis(200),
        retry: Duration::from_millis(500),
    };
    let (plane, signals) = Plane::start(places, Asks(sender), SystemClock).await?;
    Ok((plane, signals, cases))
}

async fn envoy(program: &Path, folder: &Path, usage: SocketAddr, prefix: &str) -> Envoy {
    let bootstrap = Bootstrap {
        xds: folder.join("xds.sock"),
        usage,
        admin: folder.join(format!("{prefix}admin.sock")),
        node: "test".to_owned(),
        max_heap: 1 << 30,
        max_connections: 20_000,
    };
    let file = folder.join(format!("{prefix}envoy.json"));
    Envoy::start(program, &bootstrap, &file, DRAIN).await.expect("Envoy")
}

impl Rig {
    /// With Envoy connected and this view in use.
    pub async fn new(view: &View) -> Rig {
        Rig::start(view, tempfile::tempdir().expect("a folder"), &program()).await
    }

    /// As `new`, and Envoy asks this server for names.
    pub async fn with_names(view: &View, names: &Names) -> Rig {
        let folder = tempfile::tempdir().expect("a folder");
        let resolver = json!({"typed_dns_resolver_config": {
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                "resolvers": [{"socket_address": {
                    "protocol": "UDP",
                    "address": names.at.ip().to_string(),
                    "port_value": names.at.port(),
                }}],
            },
        }});
        let (path, envoy) = (folder.path().join("envoy"), program());
        let script = format!(
            "#!/bin/sh\nexec {} \"$@\" --config-yaml '{resolver}'\n",
            envoy.display()
        );
        std::fs::write(&path, script).expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("a program");
        Rig::start(view, folder, &path).await
    }

    async fn start(view: &View, folder: tempfile::TempDir, program: &Path) -> Rig {
        let usage = port();
        let (plane, signals, cases) = begin(&folder.path().join("xds.sock"), usage.at)
            .await
            .expect("the sockets");
        plane.publish(view);
        let envoy = envoy(program, folder.path(), plane.usage_address(), "").await;
        let mut rig = Rig {
            folder,
            plane,
            signals,
            cases,
            envoy,
            usage,
        };
        rig.connected().await;
        rig.publish(view).await;
        rig
    }

    /// One more at the same sockets.
    pub async fn another_envoy(&self) -> Envoy {
        envoy(&program(), self.folder.path(), self.plane.usage_address(), "another-").await
    }

    pub fn admin(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    pub async fn connected(&mut self) {
        let connected = async {
            while !self.plane.connected() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("Envoy connects", connected).await;
    }

    pub async fn try_publish(&self, view: &View) -> Result<(), NotAcked> {
        let version = self.plane.publish(view);
        within("Envoy answers", self.plane.acked(version)).await
    }

    pub async fn publish(&self, view: &View) {
        self.try_publish(view).await.expect("Envoy accepts");
    }

    /// The daemon ends and another begins, with the same sockets.
    pub async fn restart(&mut self, view: &View) -> Version {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (none, ..) = begin(&self.folder.path().join("none.sock"), nowhere)
            .await
            .expect("the sockets");
        drop(std::mem::replace(&mut self.plane, none));
        let (plane, signals, cases) = loop {
            match begin(&self.folder.path().join("xds.sock"), self.usage.at).await {
                Ok(begun) => break begun,
                // The old one lets go of its port a moment later.
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        (self.plane, self.signals, self.cases) = (plane, signals, cases);
        let version = self.plane.publish(view);
        self.connected().await;
        version
    }

    pub async fn ring(&mut self) -> Ring {
        within("a ring", self.signals.rings.recv())
            .await
            .expect("the plane lives")
    }

    pub async fn case(&mut self) -> Case {
        within("a held request", self.cases.recv())
            .await
            .expect("the plane lives")
    }

    /// What Envoy's admin interface says at this path.
    pub async fn admin_says(&self, path: &str) -> String {
        let mut stream = tokio::net::UnixStream::connect(self.admin())
            .await
            .expect("the admin socket");
        let request = format!("GET {path} HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        answer
    }

    /// The value of one of Envoy's counters.
    pub async fn counter(&self, name: &str) -> u64 {
        let answer = self.admin_says(&format!("/stats?filter=^{name}$")).await;
        let line = answer.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

/// Something that the test asks about until it is so; it has no other way to tell.
pub async fn until<F: Future<Output = bool>>(what: &str, mut is: impl FnMut() -> F) {
    let becomes = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(what, becomes).await;
}

pub fn rule(name: &str, generation: u64, side: Side) -> RuleView {
    RuleView {
        name: RuleName(name.to_owned()),
        generation,
        side,
        endpoints: vec![Endpoint {
            host: Host::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            weight: 1,
            healthy: true,
        }],
        http: Vec::new(),
        tcp: Vec::new(),
        wake_timeout: Duration::from_secs(600),
    }
}

pub fn tcp(listen: &Port, target: SocketAddr) -> TcpWay {
    TcpWay {
        listen: listen.at,
        target_port: target.port(),
        allow: Vec::new(),
    }
}

pub fn http(listener: &str, host: &str, target: SocketAddr) -> HttpWay {
    HttpWay {
        hosts: vec![host.to_owned()],
        prefix: "/".to_owned(),
        listeners: vec![listener.to_owned()],
        target_port: target.port(),
        upstream: Upstream::default(),
    }
}

pub fn rules(rules: &[RuleView]) -> View {
    View {
        rules: rules.to_vec(),
        ..View::default()
    }
}

/// A machine: each of its connections is given to `each`.
pub async fn machine<F, Serving>(each: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Serving + Send + Sync + 'static,
    Serving: Future<Output = std::io::Result<()>> + Send + 'static,
{
    serve(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port"), each)
}

fn serve<F, Serving>(listener: TcpListener, each: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Serving + Send + Sync + 'static,
    Serving: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let at = listener.local_addr().expect("an address");
    let each = Arc::new(each);
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            let each = Arc::clone(&each);
            tokio::spawn(async move { each(stream).await });
        }
    });
    at
}

/// As `machine`, at this address; it greets, and ends when the other end does.
pub async fn machine_at(address: [u8; 4], port: u16, greeting: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::from(address), port)).await;
    let listener = listener.expect("a port");
    serve(listener, move |mut stream| async move {
        stream.write_all(greeting).await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(|_| ())
    })
}

/// It greets, as SSH servers do, and then says everything again.
pub async fn greeter() -> SocketAddr {
    machine(|mut stream| async move {
        stream.write_all(b"hello\n").await?;
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.map(|_| ())
    })
    .await
}

pub async fn connect(at: SocketAddr) -> TcpStream {
    within("a connection", TcpStream::connect(at)).await.expect("connected")
}

/// Reads exactly this.
pub async fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    within("bytes", stream.read_exact(&mut read)).await.expect("bytes");
    assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(bytes));
}

/// Says something and reads it again.
pub async fn echo(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.expect("written");
    expect(stream, text.as_bytes()).await;
}

/// Reads to the end, however it comes.
pub async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = within("the end", stream.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"", "bytes before the end");
}
