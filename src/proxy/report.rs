//! The proxy and its rules as they are shown: on the status page, by the command line, to Prometheus.

use std::fmt::Write;

use askama::Template;
use serde::Serialize;

use crate::config::proxy_rules::HttpRoute;
use crate::config::tags::ALLOW;
use crate::domain::phase::Phase;
use crate::domain::record::Record;
use crate::domain::rule::{RuleName, Side};
use crate::domain::seen::Wanted;
use crate::domain::time::Timestamp;
use crate::gateway::envoy::Plane;
use crate::gateway::envoy::process::too_old;
use crate::ledger::Ledger;

use super::desk::Desk;
use super::meter;

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    pub account: Option<String>,
    pub access_point: Option<String>,
    pub version: &'static str,
    /// Whether Envoy is connected.
    pub envoy: bool,
    /// Its version, such as `1.40.0`, once it has said it.
    pub envoy_version: Option<String>,
    pub rules: Vec<RuleReport>,
    /// What is wrong with rules, certificates and what is connected.
    pub errors: Vec<String>,
    /// What Envoy refuses, in its own words.
    pub rejections: Vec<String>,
}

fn problems<L: Ledger + Send + Sync + 'static>(
    desk: &Desk<L>,
    rule: &RuleName,
    record: Option<&Record>,
) -> Vec<String> {
    let known = record.into_iter().flat_map(|record| &record.snapshot.problems);
    let unsure = (!desk.front.is_sure(rule)).then(|| "Envoy has not acknowledged where it leads".to_owned());
    known.map(ToString::to_string).chain(unsure).collect()
}

/// One rule.
#[derive(Debug, Serialize)]
pub struct RuleReport {
    pub rule: RuleName,
    pub phase: &'static str,
    pub reason: Option<String>,
    pub wanted: Option<Wanted>,
    pub wanted_since: Option<Timestamp>,
    pub wanted_by: Option<String>,
    pub last_activity: Option<Timestamp>,
    pub last_user: Option<String>,
    pub keep_awake_until: Option<Timestamp>,
    pub kept_by: Option<String>,
    pub last_error: Option<String>,
    pub problems: Vec<String>,
    pub resources: Vec<String>,
    pub hosts: Vec<String>,
    pub sites: Vec<SiteReport>,
    pub ports: Vec<PortReport>,
    /// The networks whose clients may wake it; none when all may.
    pub allow: Option<String>,
    pub awake: bool,
}

/// A way in by HTTP.
#[derive(Debug, Serialize)]
pub struct SiteReport {
    pub hosts: Vec<String>,
    pub path: String,
    /// Of the machine.
    pub port: u16,
}

/// A way in by TCP.
#[derive(Debug, Serialize)]
pub struct PortReport {
    /// Of the machine.
    pub port: u16,
    /// Of the proxy; none when the range is used up.
    pub listen: Option<u16>,
    pub protocol: &'static str,
}

impl SiteReport {
    fn of(way: &HttpRoute) -> Self {
        SiteReport {
            hosts: way.hosts.clone(),
            path: way.path.clone(),
            port: way.port,
        }
    }
}

impl Report {
    pub fn of<L: Ledger + Send + Sync + 'static>(desk: &Desk<L>) -> Self {
        let config = desk.front.config();
        let plane = desk.front.plane();
        let loads = plane.map(Plane::loads).unwrap_or_default();
        let rules = desk.front.rules();
        let envoy_version = plane.and_then(Plane::envoy_version);
        let too_old = envoy_version.as_deref().and_then(too_old);
        let one = |rule: &std::sync::Arc<crate::config::proxy_rules::ProxyRule>| {
            let record = desk.record(&rule.name);
            let record = record.as_ref();
            let phase = record.map(|record| &record.snapshot.phase);
            let port = |way: &crate::config::proxy_rules::TcpRoute| PortReport {
                port: way.port,
                listen: desk.front.port(rule, way.port),
                protocol: way.protocol.word(),
            };
            RuleReport {
                rule: rule.name.clone(),
                phase: phase.map_or("unknown", Phase::name),
                reason: phase.and_then(Phase::reason).map(str::to_owned),
                wanted: record.map(|record| record.wanted),
                wanted_since: record.map(|record| record.wanted_since),
                wanted_by: record.map(|record| record.wanted_by.clone()),
                last_activity: meter::last_use(&loads, &rule.name).max(record.and_then(|record| record.last_request)),
                last_user: desk.last_user(&rule.name),
                keep_awake_until: record.and_then(|record| record.keep_awake_until),
                kept_by: record.and_then(|record| record.kept_by.clone()),
                last_error: record.and_then(|record| Some(record.failure()?.reason.clone())),
                problems: problems(desk, &rule.name, record),
                resources: desk.front.resources(rule).into_iter().map(|id| id.0).collect(),
                hosts: rule.http.iter().flat_map(|way| way.hosts.clone()).collect(),
                sites: rule.http.iter().map(SiteReport::of).collect(),
                ports: rule.tcp.iter().map(port).collect(),
                allow: rule.tags.get(ALLOW).cloned(),
                awake: desk.front.side(&rule.name) == Side::Backend,
            }
        };
        Report {
            account: config.account.clone(),
            access_point: config.access_point.clone(),
            version: env!("CARGO_PKG_VERSION"),
            envoy: plane.is_some_and(Plane::connected),
            envoy_version,
            rules: rules.iter().map(one).collect(),
            errors: desk
                .errors()
                .into_iter()
                .chain(too_old)
                .chain(plane.and_then(Plane::turned_away))
                .collect(),
            rejections: plane
                .map(Plane::rejections)
                .unwrap_or_default()
                .into_iter()
                .map(|rejection| format!("{} {}: {}", rejection.kind, rejection.resource, rejection.words))
                .collect(),
        }
    }

    /// Why clients may not be served: nobody has been told, or one that does not understand all of it.
    pub fn unready(&self) -> Option<String> {
        match self.envoy {
            true => self.envoy_version.as_deref().and_then(too_old),
            false => Some("Envoy is not connected".to_owned()),
        }
    }

    pub fn html(&self) -> String {
        Page { report: self }.render().unwrap_or_default()
    }

    /// Prometheus' text format, version 0.0.4 (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        let mut gauge = |name: &str, help: &str, values: &[(String, u64)]| {
            let _ = writeln!(
                text,
                "# HELP proxymanager_{name} {help}\n# TYPE proxymanager_{name} gauge"
            );
            for (labels, value) in values {
                let _ = writeln!(text, "proxymanager_{name}{labels} {value}");
            }
        };
        gauge(
            "envoy_connected",
            "Whether Envoy is connected.",
            &[(String::new(), u64::from(self.envoy))],
        );
        let errors = [(String::new(), self.errors.len() as u64)];
        gauge("rule_file_errors", "What is wrong with the rule files.", &errors);
        let rejections = [(String::new(), self.rejections.len() as u64)];
        gauge("envoy_rejections", "Resources that Envoy refuses.", &rejections);
        // A rule's name has no character that a label's value would have to escape.
        let rules = |value: fn(&RuleReport) -> u64| -> Vec<(String, u64)> {
            let labels = |rule: &RuleReport| format!("{{rule=\"{}\"}}", rule.rule);
            self.rules.iter().map(|rule| (labels(rule), value(rule))).collect()
        };
        gauge(
            "rule_awake",
            "Whether traffic goes to the machines.",
            &rules(|rule| u64::from(rule.awake)),
        );
        gauge(
            "rule_failed",
            "Whether the rule failed or is misconfigured.",
            &rules(|rule| u64::from(matches!(rule.phase, "failed" | "misconfigured"))),
        );
        gauge(
            "rule_last_activity_seconds",
            "When the rule was last in use, Unix time.",
            &rules(|rule| {
                rule.last_activity
                    .map_or(0, |at| u64::try_from(at.as_second()).unwrap_or_default())
            }),
        );
        text
    }
}

#[derive(Template)]
#[template(path = "proxy.html")]
struct Page<'r> {
    report: &'r Report,
}

impl Page<'_> {
    fn ports(&self, rule: &RuleReport) -> String {
        let one = |port: &PortReport| match port.listen {
            Some(listen) => format!("{listen} \u{2192} {}", port.port),
            None => format!("none \u{2192} {}", port.port),
        };
        rule.ports.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}
