//! Clusters: the machines of a rule that is awake.

use std::collections::BTreeSet;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, OutlierDetection, UpstreamConnectionOptions,
    circuit_breakers::Thresholds,
    cluster::{ClusterDiscoveryType, CommonLbConfig, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy},
};
use envoy_types::pb::envoy::config::core::v3::{
    BackoffStrategy, HealthStatus, Http1ProtocolOptions, Http2ProtocolOptions, RoutingPriority,
};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig},
};
use envoy_types::pb::envoy::r#type::v3::Percent;

use super::super::names::{ClusterName, statistic};
use super::super::view::{Edge, Endpoint, Host, HttpWay, Limits, RuleView, TcpWay, Upstream};
use super::super::wire::{any, by_ads, duration, keepalive, socket, uint};
use super::{Kind, Snapshot, tls};
use crate::domain::rule::Side;

/// Where this way leads.
pub fn of_tcp(rule: &RuleView, way: &TcpWay) -> String {
    name(rule, format!("tcp-{}", way.target_port))
}

/// Where this way leads. Ways that speak alike to one port share a cluster.
pub fn of_http(rule: &RuleView, way: &HttpWay) -> String {
    let mut upstreams: Vec<&Upstream> = Vec::new();
    for other in rule.http.iter().filter(|other| other.target_port == way.target_port) {
        if !upstreams.contains(&&other.upstream) {
            upstreams.push(&other.upstream);
        }
    }
    let place = upstreams.iter().position(|upstream| **upstream == way.upstream);
    name(
        rule,
        match place {
            None | Some(0) => format!("http-{}", way.target_port),
            Some(place) => format!("http-{}-{}", way.target_port, place + 1),
        },
    )
}

fn name(rule: &RuleView, way: String) -> String {
    ClusterName {
        rule: rule.name.clone(),
        generation: rule.generation,
        way,
    }
    .to_string()
}

/// Nothing while the rule is asleep: what has no cluster can get no traffic.
pub fn add(snapshot: &mut Snapshot, edge: &Edge, rule: &RuleView) {
    match rule.side {
        Side::Waker => {}
        Side::Backend => {
            for way in &rule.tcp {
                put(snapshot, &edge.limits, rule, of_tcp(rule, way), way.target_port, None);
            }
            for way in &rule.http {
                let name = of_http(rule, way);
                put(snapshot, &edge.limits, rule, name, way.target_port, Some(&way.upstream));
            }
        }
    }
}

/// Addresses are told apart from the cluster. A cluster that is told anew is another one to Envoy: connections of the old one
/// go on, but no load report counts them any more, and a rule in use would look idle.
fn put(
    snapshot: &mut Snapshot,
    limits: &Limits,
    rule: &RuleView,
    name: String,
    port: u16,
    upstream: Option<&Upstream>,
) {
    let named = rule
        .endpoints
        .iter()
        .any(|endpoint| matches!(endpoint.host, Host::Name(_)));
    let mut endpoints = rule.endpoints.clone();
    endpoints.sort_by(|a, b| a.host.cmp(&b.host));
    let assignment = ClusterLoadAssignment {
        cluster_name: name.clone(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: endpoints.iter().map(|endpoint| one(endpoint, port, named)).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut cluster = Cluster {
        name: name.clone(),
        alt_stat_name: statistic(&name),
        connect_timeout: duration(limits.connect_timeout),
        per_connection_buffer_limit_bytes: uint(if upstream.is_some() {
            limits.buffer
        } else {
            limits.tcp_buffer
        }),
        lb_policy: LbPolicy::RoundRobin.into(),
        circuit_breakers: Some(breakers(limits.per_rule)),
        outlier_detection: Some(outliers()),
        // With no healthy machine at all every one is tried: the site's own error is the truth.
        common_lb_config: Some(CommonLbConfig {
            healthy_panic_threshold: Some(Percent { value: 1.0 }),
            ..Default::default()
        }),
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(keepalive()),
            ..Default::default()
        }),
        ..Default::default()
    };
    if let Some(upstream) = upstream {
        let options = any(protocol(upstream));
        cluster.typed_extension_protocol_options.insert(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
            options,
        );
        cluster.transport_socket = upstream.tls.as_ref().and_then(|tls| tls::upstream(tls, upstream.http2));
    }
    if named {
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into()));
        cluster.load_assignment = Some(assignment);
        // Most networks in AWS have no IPv6.
        cluster.dns_lookup_family = DnsLookupFamily::V4Preferred.into();
    } else {
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()));
        cluster.eds_cluster_config = Some(EdsClusterConfig {
            eds_config: by_ads(),
            ..Default::default()
        });
        let owner = Some(rule.name.clone());
        snapshot.put(Kind::Endpoints, name.clone(), any(assignment), BTreeSet::new(), owner);
    }
    snapshot.put(
        Kind::Cluster,
        name,
        any(cluster),
        BTreeSet::new(),
        Some(rule.name.clone()),
    );
}

/// The health of a machine that has a name is not told: that would be another cluster each time.
fn one(endpoint: &Endpoint, port: u16, named: bool) -> LbEndpoint {
    let (host, hostname) = match &endpoint.host {
        Host::Address(address) => (address.to_string(), String::new()),
        Host::Name(name) => (name.clone(), name.clone()),
    };
    let health = if endpoint.healthy || named {
        HealthStatus::Healthy
    } else {
        HealthStatus::Unhealthy
    };
    LbEndpoint {
        health_status: health.into(),
        load_balancing_weight: uint(endpoint.weight.max(1)),
        host_identifier: Some(HostIdentifier::Endpoint(EnvoyEndpoint {
            address: socket(host, port),
            hostname,
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// How often a machine that cannot be reached is tried again before the client is told.
pub const RETRIES: u32 = 5;

/// Envoy pauses for any time up to these, two seconds in all on average: who has just come up may refuse once more.
pub fn backoff() -> BackoffStrategy {
    BackoffStrategy {
        base_interval: duration(Duration::from_millis(250)),
        max_interval: duration(Duration::from_secs(1)),
    }
}

/// Envoy's default of 1024 would drop clients that were held.
pub fn breakers(most: u32) -> CircuitBreakers {
    let thresholds = |priority: RoutingPriority| Thresholds {
        priority: priority.into(),
        max_connections: uint(most),
        max_pending_requests: uint(most),
        max_requests: uint(most),
        max_retries: uint(most),
        ..Default::default()
    };
    CircuitBreakers {
        thresholds: vec![thresholds(RoutingPriority::Default), thresholds(RoutingPriority::High)],
        ..Default::default()
    }
}

/// A machine that cannot be reached is left out for a while, also while the daemon is not there to check. What it answers
/// does not matter.
fn outliers() -> OutlierDetection {
    OutlierDetection {
        split_external_local_origin_errors: true,
        consecutive_local_origin_failure: uint(5),
        enforcing_consecutive_local_origin_failure: uint(100),
        enforcing_consecutive_5xx: uint(0),
        enforcing_consecutive_gateway_failure: uint(0),
        enforcing_success_rate: uint(0),
        enforcing_local_origin_success_rate: uint(0),
        max_ejection_percent: uint(50),
        base_ejection_time: duration(Duration::from_secs(10)),
        ..Default::default()
    }
}

fn protocol(upstream: &Upstream) -> HttpProtocolOptions {
    let config = if upstream.http2 {
        ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())
    } else {
        ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())
    };
    HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })),
        ..Default::default()
    }
}
