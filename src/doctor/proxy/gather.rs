//! Asks the machine, the daemon, the targets and AWS. What is not answered is a fact too. Changes nothing, and wakes nothing:
//! of the proxy's ports only one for HTTPS is connected to, and no request sent; no machine that sleeps is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Pair, ProxyFacts, Reach, Service, Shown, Target, handshake};
use crate::aws::{Aws, at_once};
use crate::compute::ec2::Ec2;
use crate::compute::rds::Rds;
use crate::config::certificate::{Certificate, Material, described};
use crate::config::proxy::{Pair as Place, ProxyConfig};
use crate::config::tags::MANAGED;
use crate::doctor::Unseen;
use crate::doctor::gather::unanswered;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::phase::Phase;
use crate::domain::rule::ResourceId;
use crate::domain::time::Timestamp;
use crate::proxy::kernel::{SETTINGS, overlap_by};

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
    /// `/proc/sys/net/ipv4`.
    pub settings: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Places {
            systemctl: "systemctl".into(),
            timedatectl: "timedatectl".into(),
            net: "/proc/net".into(),
            settings: SETTINGS.into(),
        }
    }
}

/// What the daemon's status says.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    envoy: Option<bool>,
    rules: Vec<Rule>,
    errors: Vec<String>,
    rejections: Vec<String>,
}

#[derive(Deserialize)]
struct Rule {
    rule: String,
    phase: String,
    awake: bool,
    resources: Vec<String>,
    hosts: Vec<String>,
    sites: Vec<Site>,
    ports: Vec<Port>,
    allow: Option<String>,
    problems: Vec<String>,
}

#[derive(Deserialize)]
struct Site {
    port: u16,
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
        given_away: overlap_by(&places.settings, &config.port_range),
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
    facts.envoy = status.envoy;
    facts.ports.extend(&config.http_ports);
    if !config.tls.is_empty() {
        facts.ports.extend(&config.https_ports);
    }
    // A port for HTTP is that of all sites.
    let mut sites = status.rules.iter().filter(|rule| !rule.sites.is_empty());
    if sites.all(|rule| rule.allow.is_some()) {
        facts.guarded.clone_from(&facts.ports);
    }
    for rule in &status.rules {
        let ways = rule.ports.iter().filter_map(|port| port.listen);
        facts.ports.extend(ways.clone());
        if rule.allow.is_some() {
            facts.guarded.extend(ways);
        }
    }
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
    facts.shown = shown(now, config, &facts.hosts).await;
    if let Some(aws) = aws {
        rights(&mut facts, &status.rules, aws).await;
    }
    // One that sleeps is not tried, and one whose machines were just started has something to say.
    let mut up = status.rules;
    up.retain(|rule| rule.awake || rule.is_waking());
    match addresses(&up, aws).await {
        Ok(addresses) => facts.targets = targets(up, &addresses).await,
        Err(fault) => facts.unseen.push(unanswered(&fault)),
    }
    facts
}

impl Rule {
    fn is_waking(&self) -> bool {
        [Phase::Starting, Phase::Checking]
            .iter()
            .any(|phase| phase.name() == self.phase)
    }
}

/// What clients of each host are shown at the first port for HTTPS.
async fn shown(now: Timestamp, config: &ProxyConfig, hosts: &BTreeSet<String>) -> Vec<Shown> {
    let (Some(port), false) = (config.https_ports.first().copied(), config.tls.is_empty()) else {
        return Vec::new();
    };
    let address = config.listen.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    let address = match address {
        IpAddr::V4(four) if four.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(six) if six.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    // Of what a star stands for, any host will do.
    let each = hosts.iter().cloned().map(|host| async move {
        let asked = host.replacen('*', "any", 1);
        let certificate = handshake::shown(SocketAddr::new(address, port), asked).await;
        let read = certificate.and_then(|certificate| described(&certificate));
        let read = read.map(|(names, _, end)| (names, (end.as_second() - now.as_second()).div_euclid(24 * 3600)));
        Shown { host, port, read }
    });
    at_once(each).await
}

/// Whether what rules run on may be started and stopped, by its tag and by calls that change nothing.
async fn rights(facts: &mut ProxyFacts, rules: &[Rule], aws: &Aws) {
    let all = rules.iter().flat_map(|rule| &rule.resources).cloned().map(ResourceId);
    let (machines, others): (Vec<_>, Vec<_>) = all.partition(|id| id.0.starts_with("i-"));
    let mut tags = BTreeMap::new();
    let ec2 = Ec2::new(aws.ec2());
    if !machines.is_empty() {
        match ec2.machines(&machines).await {
            Ok(found) => tags.extend(found.into_iter().map(|machine| (machine.id, machine.tags))),
            Err(fault) => facts.unseen.push(unanswered(&fault)),
        }
    }
    if others.iter().any(|id| id.0.starts_with("rds")) {
        match Rds::new(aws.rds()).all().await {
            Ok(found) => tags.extend(found.into_iter().map(|database| (database.id, database.tags))),
            Err(fault) => facts.unseen.push(unanswered(&fault)),
        }
    }
    let wanted = machines.iter().chain(&others);
    let known = wanted.filter_map(|id| Some((id, tags.get(id)?)));
    facts.untagged = known
        .filter(|(_, tags)| tags.get(MANAGED).is_none_or(|value| value != "true"))
        .map(|(id, _)| id.clone())
        .collect();
    let there: Vec<_> = machines.into_iter().filter(|id| tags.contains_key(id)).collect();
    for (id, fault) in ec2.forbidden(&there).await {
        match fault.kind {
            FaultKind::Denied => facts.forbidden.push((id, fault)),
            _ => facts.unseen.push(unanswered(&fault)),
        }
    }
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
    Fault::new(FaultKind::Unsupported, "secretsmanager:GetSecretValue", words)
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
            let ports = rule.ports.iter().map(|port| port.port);
            let ports: BTreeSet<u16> = ports.chain(rule.sites.iter().map(|site| site.port)).collect();
            let waking = !rule.awake;
            targets.extend(
                ports
                    .into_iter()
                    .map(|port| (rule.rule.clone(), resource.clone(), address.clone(), port, waking)),
            );
        }
    }
    let tried = targets
        .into_iter()
        .map(|(rule, resource, address, port, waking)| async move {
            let reach = match &address {
                Some(address) => reach(address, port).await,
                None => Reach::Silent,
            };
            Target {
                rule,
                resource,
                address,
                port,
                waking,
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
