//! The proxies that are compared, all before the same site, source and greeter.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::ours::{Proxy, host};
use crate::pins;
use crate::proxy_daemon::{Place, Service, envoy, free_port};
use crate::traffic;

/// What is behind every proxy.
pub struct Behind {
    pub site: u16,
    pub source: u16,
    pub greeter: u16,
    _site: (Service, TempDir),
}

/// One of those that are compared.
pub struct Front {
    pub name: &'static str,
    pub http: SocketAddr,
    pub stream: SocketAddr,
    pub connections: SocketAddr,
    /// The process that carries the traffic.
    pub process: u32,
    owner: Owner,
}

enum Owner {
    Other { _service: Service, _folder: TempDir },
    Ours(Proxy),
}

pub const RULE: &str = "awake";

impl Behind {
    pub fn start() -> Behind {
        let site = free_port();
        let folder = TempDir::new().expect("a folder");
        let text = include_str!("configurations/site.conf");
        let text = filled(text, &[("site", site)], folder.path());
        let service = nginx(folder.path(), "site.conf", &text);
        until_there(local(site));
        Behind {
            site,
            source: traffic::source(),
            greeter: traffic::greeter(),
            _site: (service, folder),
        }
    }
}

impl Front {
    /// By this name in the results, an Envoy that is configured by a file.
    pub fn bare_envoy(name: &'static str, behind: &Behind) -> Front {
        let text = include_str!("configurations/bare-envoy.yaml");
        Front::configured(name, behind, text, |folder, text| {
            let file = folder.join("envoy.yaml");
            fs::write(&file, text).expect("a file");
            let mut command = Command::new(envoy());
            command.arg("--config-path").arg(file);
            command.args(["--disable-hot-restart", "--log-level", "error", "--concurrency", "1"]);
            service(command)
        })
    }

    pub fn haproxy(behind: &Behind) -> Front {
        let text = include_str!("configurations/haproxy.cfg");
        Front::configured("HAProxy", behind, text, |folder, text| {
            let file = folder.join("haproxy.cfg");
            fs::write(&file, text).expect("a file");
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(file);
            service(command)
        })
    }

    pub fn nginx(behind: &Behind) -> Front {
        let text = include_str!("configurations/nginx.conf");
        Front::configured("nginx", behind, text, |folder, text| nginx(folder, "nginx.conf", text))
    }

    fn configured(name: &'static str, behind: &Behind, text: &str, start: impl Fn(&Path, &str) -> Service) -> Front {
        let folder = TempDir::new().expect("a folder");
        let [http, stream, connections] = [(); 3].map(|()| free_port());
        let ports = [
            ("http", http),
            ("stream", stream),
            ("connections", connections),
            ("site", behind.site),
            ("source", behind.source),
            ("greeter", behind.greeter),
        ];
        let service = start(folder.path(), &filled(text, &ports, folder.path()));
        until_there(local(http));
        let process = service.0.id();
        pins::front(process);
        Front {
            name,
            http: local(http),
            stream: local(stream),
            connections: local(connections),
            process,
            owner: Owner::Other {
                _service: service,
                _folder: folder,
            },
        }
    }

    /// The shipped daemon's Envoy, a rule awake.
    pub fn ours(behind: &Behind) -> Front {
        let Behind {
            site, source, greeter, ..
        } = behind;
        let place = Place::new();
        let host = host(RULE);
        let text = format!(
            "idle = \"1h\"\nresources = ['program:exec sleep 3600']\n[[http]]\nhosts = \"{host}\"\nport = {site}\n\
             [[tcp]]\nport = {source}\n[[tcp]]\nport = {greeter}\n"
        );
        place.write(&format!("rules.d/{RULE}.toml"), &text);
        let proxy = Proxy::start(place, &["--concurrency", "1"]);
        pins::front(proxy.daemon.id());
        pins::front(proxy.envoy.0.id());
        proxy.tell(RULE, "wake");
        proxy.until(RULE, "awake");
        Front {
            name: "this proxy",
            http: proxy.http(),
            stream: proxy.tcp(RULE, *source),
            connections: proxy.tcp(RULE, *greeter),
            process: proxy.envoy.0.id(),
            owner: Owner::Ours(proxy),
        }
    }

    /// Of what the whole proxy uses, the part beside the traffic.
    pub fn daemon(&self) -> Option<u32> {
        match &self.owner {
            Owner::Other { .. } => None,
            Owner::Ours(proxy) => Some(proxy.daemon.id()),
        }
    }
}

fn nginx(folder: &Path, file: &str, text: &str) -> Service {
    let file = folder.join(file);
    fs::write(&file, text).expect("a file");
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(folder).arg("-c").arg(file);
    service(command)
}

fn service(mut command: Command) -> Service {
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Service(child)
}

/// Puts ports and the folder in the places that are marked.
fn filled(text: &str, ports: &[(&str, u16)], folder: &Path) -> String {
    let text = text.replace("@folder@", &folder.display().to_string());
    ports.iter().fold(text, |text, (name, port)| {
        text.replace(&format!("@{name}@"), &port.to_string())
    })
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn until_there(at: SocketAddr) {
    let there = (0..200).any(|_| {
        thread::sleep(Duration::from_millis(50));
        traffic::connect(at).is_ok()
    });
    assert!(there, "nobody listens at {at}");
}
