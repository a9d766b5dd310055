//! Asks the machine, the daemon, the targets and AWS. What is not answered is a fact too. Changes nothing, and wakes nothing:
//! no port of the proxy is connected to, and no machine that sleeps.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Pair, ProxyFacts, Reach, Service, Target};
use crate::aws::{Aws, at_once};
use crate::compute::ec2::Ec2;
use crate::compute::rds::Rds;
use crate::config::certificate::{Certificate, Material};
use crate::config::proxy::{Pair as Place, ProxyConfig};
use crate::doctor::Unseen;
use crate::doctor::gather::unanswered;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::rule::ResourceId;
use crate::domain::time::Timestamp;

const UNITS: [&str; 2] = ["proxymanager.service", "proxymanager-envoy.service"];
/// A machine of the same network answers within milliseconds; a lost packet is sent again after one second, then after two.
const PATIENCE: Duration = Duration::from_secs(4);

/// Where things are on this machine.
#[derive(Debug, Clone)]
pub struct Places {
    pub systemctl: PathBuf,
    pub timedatectl: PathBuf,
    /// `/proc/net`.
    pub net: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Places {
            systemctl: "systemctl".into(),
            timedatectl: "timedatectl".into(),
            net: "/proc/net".into(),
        }
    }
}

/// What the daemon's status says.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    rules: Vec<Rule>,
    errors: Vec<String>,
    rejections: Vec<String>,
}

#[derive(Deserialize)]
struct Rule {
    rule: String,
    awake: bool,
    resources: Vec<String>,
    hosts: Vec<String>,
    ports: Vec<Port>,
    problems: Vec<String>,
}

#[derive(Deserialize)]
struct Port {
    port: u16,
    listen: Option<u16>,
}

/// The facts. `status` is what the daemon says of itself, or why it says nothing; `instance` is this machine's id, if it is
/// one of EC2; `aws` is none where the proxy has no Region.
pub async fn gather(
    now: Timestamp,
    config: &ProxyConfig,
    places: &Places,
    status: Result<serde_json::Value, String>,
    aws: Option<&Aws>,
    instance: Option<&ResourceId>,
) -> ProxyFacts {
    let mut facts = ProxyFacts {
        services: services(places).await,
        listening: listening(places),
        clock: clock(places).await,
        ..ProxyFacts::default()
    };
    let status = status.and_then(|status| serde_json::from_value::<Status>(status).map_err(|error| error.to_string()));
    let status = status.unwrap_or_else(|message| {
        facts.unseen.push(Unseen {
            operation: "the daemon's status".to_owned(),
            kind: FaultKind::Other,
            message,
        });
        Status::default()
    });
    facts.ports.extend(&config.http_ports);
    if !config.tls.is_empty() {
        facts.ports.extend(&config.https_ports);
    }
    let ways = status.rules.iter().flat_map(|rule| &rule.ports);
    facts.ports.extend(ways.filter_map(|port| port.listen));
    facts.hosts = status.rules.iter().flat_map(|rule| rule.hosts.clone()).collect();
    facts.complaints = status.errors.into_iter().chain(status.rejections).collect();
    for rule in &status.rules {
        let problems = rule.problems.iter().map(|problem| format!("{}: {problem}", rule.rule));
        facts.complaints.extend(problems);
    }
    for named in &config.tls {
        let pair = pair(now, &named.pair, aws).await;
        facts.certificates.push(pair);
    }
    if let (Some(aws), Some(instance)) = (aws, instance) {
        match Ec2::new(aws.ec2()).ingress(instance).await {
            Ok(ingress) => facts.ingress = Some(ingress),
            Err(fault) => facts.unseen.push(unanswered(&fault)),
        }
    }
    let awake: Vec<_> = status.rules.into_iter().filter(|rule| rule.awake).collect();
    match addresses(&awake, aws).await {
        Ok(addresses) => facts.targets = targets(awake, &addresses).await,
        Err(fault) => facts.unseen.push(unanswered(&fault)),
    }
    facts
}

async fn services(places: &Places) -> Vec<Service> {
    let mut services = Vec::new();
    for unit in UNITS {
        // It ends with an error for whatever is not active, and says the state all the same.
        let answer = Command::new(&places.systemctl).args(["is-active", unit]).output().await;
        let state = answer.map(|answer| String::from_utf8_lossy(&answer.stdout).trim().to_owned());
        // Without systemd, nobody says.
        if let Ok(state) = state
            && !state.is_empty()
        {
            services.push(Service {
                unit: unit.to_owned(),
                state,
            });
        }
    }
    services
}

async fn clock(places: &Places) -> Option<bool> {
    let mut asked = Command::new(&places.timedatectl);
    let answer = asked
        .args(["show", "--property=NTPSynchronized", "--value"])
        .output()
        .await
        .ok()?;
    match String::from_utf8_lossy(&answer.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// From the kernel's own table: to connect would wake.
fn listening(places: &Places) -> Option<BTreeSet<u16>> {
    let read = |file| std::fs::read_to_string(places.net.join(file));
    let mut ports = listeners(&read("tcp").ok()?);
    // Without IPv6 there is no second table.
    ports.extend(listeners(&read("tcp6").unwrap_or_default()));
    Some(ports)
}

/// The ports of sockets that listen. Source: Linux, Documentation/networking/proc_net_tcp.rst: local address and port in
/// hexadecimal, then the remote one, then the state; 0A is TCP_LISTEN.
pub(super) fn listeners(table: &str) -> BTreeSet<u16> {
    let port = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let (_, local) = columns.nth(1)?.split_once(':')?;
        (columns.nth(1)? == "0A").then(|| u16::from_str_radix(local, 16).ok())?
    };
    table.lines().filter_map(port).collect()
}

async fn pair(now: Timestamp, place: &Place, aws: Option<&Aws>) -> Pair {
    let material = match place {
        Place::Files { certificate, key } => {
            let text =
                |file: &PathBuf| std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()));
            text(certificate).and_then(|chain| {
                Ok(Material {
                    versions: Vec::new(),
                    chain,
                    key: text(key)?,
                })
            })
        }
        Place::Secrets { certificate, key } => {
            let material = match aws {
                Some(aws) => {
                    aws.secrets()
                        .material(certificate, (key != certificate).then_some(key))
                        .await
                }
                None => Err(no_region()),
            };
            material.map_err(|fault| fault.sentence())
        }
    };
    let read = material.and_then(|material| {
        let certificate = Certificate::read(material).map_err(|problem| problem.to_string())?;
        certificate.timely(now).map_err(|problem| problem.to_string())?;
        Ok((certificate.names().to_vec(), certificate.days_left(now)))
    });
    Pair {
        name: place.name(),
        read,
    }
}

fn no_region() -> Fault {
    let words = "the proxy has no Region: set region in its configuration";
    Fault::new(FaultKind::NotFound, "secretsmanager:GetSecretValue", words)
}

/// The addresses of what awake rules run on, with the id of each.
async fn addresses(awake: &[Rule], aws: Option<&Aws>) -> Result<Vec<(ResourceId, String)>, Fault> {
    let all = awake.iter().flat_map(|rule| &rule.resources).cloned().map(ResourceId);
    let (databases, machines): (Vec<_>, Vec<_>) = all
        .filter(|id| !id.0.starts_with("program:"))
        .partition(|id| id.0.starts_with("rds"));
    let Some(aws) = aws else { return Ok(Vec::new()) };
    let mut addresses = match machines.is_empty() {
        true => Vec::new(),
        false => Ec2::new(aws.ec2()).addresses(&machines).await?,
    };
    if !databases.is_empty() {
        let endpoints = Rds::new(aws.rds()).endpoints(&databases).await?;
        let found = databases.into_iter().zip(endpoints);
        addresses.extend(found.filter_map(|(id, endpoint)| Some((id, endpoint?.address))));
    }
    Ok(addresses)
}

async fn targets(awake: Vec<Rule>, addresses: &[(ResourceId, String)]) -> Vec<Target> {
    let mut targets = Vec::new();
    for rule in awake {
        for resource in rule.resources.iter().cloned().map(ResourceId) {
            let address = match resource.0.starts_with("program:") {
                true => Some("127.0.0.1".to_owned()),
                false => {
                    let known = addresses.iter().find(|(id, _)| *id == resource);
                    known.map(|(_, address)| address.clone())
                }
            };
            targets.extend(
                rule.ports
                    .iter()
                    .map(|port| (rule.rule.clone(), resource.clone(), address.clone(), port.port)),
            );
        }
    }
    let tried = targets.into_iter().map(|(rule, resource, address, port)| async move {
        let reach = match &address {
            Some(address) => reach(address, port).await,
            None => Reach::Silent,
        };
        Target {
            rule,
            resource,
            address,
            port,
            reach,
        }
    });
    at_once(tried).await
}

/// Tries to connect and closes at once.
pub(super) async fn reach(address: &str, port: u16) -> Reach {
    match timeout(PATIENCE, TcpStream::connect((address, port))).await {
        Ok(Ok(_)) => Reach::Connected,
        Ok(Err(error)) => match error.kind() {
            ErrorKind::ConnectionRefused => Reach::Refused,
            ErrorKind::TimedOut => Reach::Silent,
            _ => Reach::NoWay(error.to_string()),
        },
        Err(_) => Reach::Silent,
    }
}
