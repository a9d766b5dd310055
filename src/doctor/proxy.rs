//! What is wrong with the machine of a proxy, or soon will be: findings from facts. `gather` is the only part that asks.

mod gather;
mod handshake;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use gather::{Places, gather};

use super::{Finding, Severity, Unseen, system};
use crate::config::certificate::{SOON, covers};
use crate::config::tags::MANAGED;
use crate::domain::account::Ingress;
use crate::domain::fault::Fault;
use crate::domain::rule::ResourceId;

/// Everything that was asked, as far as it was answered.
#[derive(Debug, Clone, Default)]
pub struct ProxyFacts {
    pub services: Vec<Service>,
    /// Whether Envoy is connected to the daemon; none when the daemon did not say.
    pub envoy: Option<bool>,
    /// The ports that clients shall reach.
    pub ports: BTreeSet<u16>,
    /// Those by which only clients of named networks wake anything.
    pub guarded: BTreeSet<u16>,
    /// Why ports of the range may be taken by the time a rule gets them.
    pub given_away: Option<String>,
    /// Those on which something listens; none when the kernel did not say.
    pub listening: Option<BTreeSet<u16>>,
    /// What the security groups of this machine let in; none when AWS did not say, or this is no machine of EC2.
    pub ingress: Option<Vec<Ingress>>,
    pub targets: Vec<Target>,
    pub certificates: Vec<Pair>,
    /// What clients of each host are shown.
    pub shown: Vec<Shown>,
    /// Machines and databases without the tag by which the role may start and stop them.
    pub untagged: Vec<ResourceId>,
    /// Machines that whoever runs this may not start or stop, with AWS's words.
    pub forbidden: Vec<(ResourceId, Fault)>,
    /// The hosts of the rules.
    pub hosts: BTreeSet<String>,
    /// Whether the clock follows a time server; none when nobody says.
    pub clock: Option<bool>,
    /// What the rules and their files have against them, as the daemon says it.
    pub complaints: Vec<String>,
    /// What was not answered.
    pub unseen: Vec<Unseen>,
}

/// A service of systemd.
#[derive(Debug, Clone)]
pub struct Service {
    pub unit: String,
    /// `active`, `failed`, `inactive` or what else systemd says.
    pub state: String,
}

/// A port of a machine of a rule that is awake or on its way, tried from here. One that sleeps is not tried.
#[derive(Debug, Clone)]
pub struct Target {
    pub rule: String,
    pub resource: ResourceId,
    /// None when it has none.
    pub address: Option<String>,
    pub port: u16,
    /// Whether it was just started.
    pub waking: bool,
    pub reach: Reach,
}

/// What came of trying to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    Connected,
    /// The machine answered that nothing listens.
    Refused,
    /// Nobody answered in time.
    Silent,
    /// This machine's own network gave up; why, in its words.
    NoWay(String),
}

/// A certificate with its key, as the configuration names it.
#[derive(Debug, Clone)]
pub struct Pair {
    pub name: String,
    /// What it is for and for how many more days; or what is wrong with it.
    pub read: Result<(Vec<String>, i64), String>,
}

/// What a client of a host is shown at a port for HTTPS.
#[derive(Debug, Clone)]
pub struct Shown {
    pub host: String,
    pub port: u16,
    /// What the certificate is for and for how many more days; or why there is none.
    pub read: Result<(Vec<String>, i64), String>,
}

/// Everything that is wrong, what matters most first.
pub fn findings(facts: &ProxyFacts) -> Vec<Finding> {
    let mut found = system::unanswered(&facts.unseen);
    found.extend(facts.services.iter().filter_map(service));
    found.extend(envoy(facts.envoy));
    found.extend(ports(facts));
    found.extend(facts.given_away.as_deref().map(given_away));
    found.extend(facts.targets.iter().filter_map(target));
    found.extend(facts.certificates.iter().filter_map(certificate));
    found.extend(facts.shown.iter().filter_map(shown));
    found.extend(rights(facts));
    found.extend(clock(facts.clock));
    found.extend(facts.complaints.iter().map(|what| {
        let fix = "mend what it names; what was good before stays in use meanwhile".to_owned();
        Finding::new(Severity::Error, "rule", "the rules", what.clone(), fix)
    }));
    found.sort_by(|one, other| (one.severity, &one.of, one.code).cmp(&(other.severity, &other.of, other.code)));
    found.dedup();
    found
}

fn service(service: &Service) -> Option<Finding> {
    let Service { unit, state } = service;
    if state == "active" {
        return None;
    }
    let what = format!("the service {unit} is {state}");
    let fix = format!("`journalctl -u {unit} -n 50` says why; then `systemctl restart {unit}`");
    Some(Finding::new(Severity::Error, "service-down", unit, what, fix))
}

fn envoy(connected: Option<bool>) -> Option<Finding> {
    if connected != Some(false) {
        return None;
    }
    let what =
        "Envoy is not connected to the daemon: it serves what it was told last, or nothing, and nobody is waited for";
    let fix = "`journalctl -u proxymanager-envoy -n 50` says why";
    let (what, fix) = (what.to_owned(), fix.to_owned());
    Some(Finding::new(Severity::Error, "envoy-not-connected", "Envoy", what, fix))
}

fn ports(facts: &ProxyFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    for port in &facts.ports {
        let of = format!("port {port}");
        if facts
            .listening
            .as_ref()
            .is_some_and(|listening| !listening.contains(port))
        {
            let what = format!("nothing listens on port {port}, so clients are refused");
            let fix = format!(
                "see `journalctl -u proxymanager-envoy -n 50`; when another program has it, `ss -ltnp sport = :{port}` names it"
            );
            found.push(Finding::new(Severity::Error, "port-not-open", &of, what, fix));
        }
        let Some(ingress) = &facts.ingress else { continue };
        let lets_in = ingress.iter().filter(|rule| (rule.first..=rule.last).contains(port));
        let sources: BTreeSet<&str> = lets_in.flat_map(|rule| &rule.sources).map(String::as_str).collect();
        let groups: BTreeSet<&str> = ingress.iter().map(|rule| rule.group.as_str()).collect();
        let group = groups.first().copied().unwrap_or("GROUP");
        if sources.is_empty() {
            let what = format!("no security group of this machine lets anybody in on port {port}");
            let fix = format!(
                "`aws ec2 authorize-security-group-ingress --group-id {group} --protocol tcp --port {port} --cidr CLIENTS`"
            );
            found.push(Finding::new(Severity::Error, "clients-kept-out", &of, what, fix));
        } else if ["0.0.0.0/0", "::/0"].iter().any(|all| sources.contains(all))
            && !matches!(port, 80 | 443)
            && !facts.guarded.contains(port)
        {
            let what = format!("everybody may connect to port {port}, and so wake what is behind it");
            let fix = "narrow the source in the security group, or say autostopping:allow on the rule".to_owned();
            found.push(Finding::new(Severity::Warning, "open-to-everybody", &of, what, fix));
        }
    }
    found
}

fn given_away(what: &str) -> Finding {
    let fix = "do so, and in /etc/sysctl.d too, so that it outlives a restart of the machine".to_owned();
    Finding::new(Severity::Warning, "ports-given-away", "portRange", what.to_owned(), fix)
}

fn target(target: &Target) -> Option<Finding> {
    let Target {
        rule,
        resource,
        address,
        port,
        waking,
        reach,
    } = target;
    let Some(address) = address else {
        let what = format!("{resource} runs and has no address yet");
        let fix = "wait until it has; a database gets its own when it is created".to_owned();
        return Some(Finding::new(Severity::Warning, "no-address", rule, what, fix));
    };
    let (severity, code, what, fix) = match reach {
        Reach::Connected => return None,
        Reach::Refused | Reach::Silent if *waking => (
            Severity::Warning,
            "still-booting",
            format!("{resource} was started and does not answer at {address} on port {port} yet"),
            "wait; when the rule gives up, run this again".to_owned(),
        ),
        Reach::Refused => (
            Severity::Error,
            "target-closed",
            format!("{resource} answers at {address}, but nothing listens on port {port} any more"),
            format!(
                "the network is right: start its service, or correct the rule's port (on the machine: `ss -ltn sport = :{port}`; \
                 it has to listen on {address}, not on loopback alone)"
            ),
        ),
        Reach::Silent => (
            Severity::Error,
            "target-silent",
            format!("{resource} does not answer at {address} on port {port}: not even to refuse"),
            format!(
                "let the proxy's security group in on port {port} in that of {resource}; then see its network ACL, its own \
                 firewall, and the routes between the two subnets"
            ),
        ),
        Reach::NoWay(why) => (
            Severity::Error,
            "no-way-to-target",
            format!("there is no way from here to {resource} at {address}: {why}"),
            "the route table of this machine's subnet has to lead to the target's network (same VPC, peering or transit \
             gateway), and its name has to resolve"
                .to_owned(),
        ),
    };
    Some(Finding::new(severity, code, rule, what, fix))
}

fn certificate(pair: &Pair) -> Option<Finding> {
    let Pair { name, read } = pair;
    match read {
        Err(why) => {
            let fix = "store a certificate and its key that fit each other; it is loaded without a restart".to_owned();
            Some(Finding::new(Severity::Error, "certificate", name, why.clone(), fix))
        }
        Ok((names, days)) if *days < SOON => {
            let names = names.join(", ");
            let what = format!("the certificate for {names} expires in {days} days");
            let fix = "renew it and put the new one into the same secret or file".to_owned();
            Some(Finding::new(Severity::Warning, "certificate-expires", name, what, fix))
        }
        Ok(_) => None,
    }
}

fn shown(shown: &Shown) -> Option<Finding> {
    let Shown { host, port, read } = shown;
    match read {
        Err(why) => {
            let what = format!("a client of https://{host} on port {port} comes to no certificate: {why}");
            let fix = "see `journalctl -u proxymanager-envoy -n 50`, and what else is found here".to_owned();
            Some(Finding::new(Severity::Error, "no-handshake", host, what, fix))
        }
        Ok((names, _)) if !names.iter().any(|name| covers(name, host)) => {
            let names = names.join(", ");
            let what =
                format!("clients of {host} are shown the certificate for {names}, so browsers warn before its page");
            let fix = format!("get a certificate that has {host} or a star for its domain among its names");
            Some(Finding::new(
                Severity::Warning,
                "host-without-certificate",
                host,
                what,
                fix,
            ))
        }
        Ok((names, days)) if *days < 0 => {
            let names = names.join(", ");
            let what = format!("clients of {host} are shown the certificate for {names}, which has expired");
            let fix =
                "renew it, and put the new one into the same secret or file; it is loaded without a restart".to_owned();
            Some(Finding::new(Severity::Error, "expired-in-use", host, what, fix))
        }
        Ok(_) => None,
    }
}

fn rights(facts: &ProxyFacts) -> Vec<Finding> {
    let untagged = facts.untagged.iter().map(|id| {
        let what = format!(
            "{id} has no tag {MANAGED} = true, without which the template's role may neither start nor stop it"
        );
        let fix = match id.0.starts_with("i-") {
            true => format!("`aws ec2 create-tags --resources {id} --tags Key={MANAGED},Value=true`"),
            false => format!("`aws rds add-tags-to-resource --resource-name ARN --tags Key={MANAGED},Value=true`"),
        };
        Finding::new(Severity::Error, "managed-tag-missing", &id.0, what, fix)
    });
    let forbidden = facts.forbidden.iter().filter(|(id, _)| !facts.untagged.contains(id));
    let forbidden = forbidden.map(|(id, fault)| {
        let what = format!("{} of {id} would be refused: {}", fault.operation, fault.message);
        let fix = format!("allow {} on it to the role of this machine", fault.operation);
        Finding::new(Severity::Error, "may-not-start-or-stop", &id.0, what, fix)
    });
    untagged.chain(forbidden).collect()
}

fn clock(synchronised: Option<bool>) -> Option<Finding> {
    if synchronised != Some(false) {
        return None;
    }
    let what =
        "the clock does not follow a time server: once it is five minutes off, AWS refuses every call".to_owned();
    let fix = "`systemctl enable --now chronyd` (Ubuntu: chrony or systemd-timesyncd); Amazon's time server is 169.254.169.123";
    Some(Finding::new(
        Severity::Error,
        "clock",
        "the clock",
        what,
        fix.to_owned(),
    ))
}
