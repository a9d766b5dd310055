//! A listener for each way in by TCP.

use std::collections::BTreeSet;
use std::time::Duration;

use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, filter::ConfigType,
};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy,
    tcp_proxy::{ClusterSpecifier, OnDemand, TcpAccessLogOptions},
};

use super::super::names::statistic;
use super::super::view::{Limits, RuleView, TcpWay};
use super::super::wire::{any, doorbell, duration, keepalive, range, socket_address, uint};
use super::{Kind, Snapshot, cluster, log};

/// `tcp/RULE/LISTEN`: an HTTP listener's name begins with `http/`.
pub fn listener_name(rule: &RuleView, way: &TcpWay) -> String {
    format!("tcp/{}/{}", rule.name, way.listen)
}

/// The rule that a listener of this name is for.
pub fn rule_of_listener(name: &str) -> Option<&str> {
    Some(name.strip_prefix("tcp/")?.rsplit_once('/')?.0)
}

/// The listener is the same awake and asleep: to wake is to deliver its cluster. It changes with the generation only.
pub fn add(snapshot: &mut Snapshot, limits: &Limits, rule: &RuleView) {
    for way in &rule.tcp {
        let target = cluster::of_tcp(rule, way);
        let name = listener_name(rule, way);
        let mut allow = way.allow.clone();
        allow.sort();
        allow.dedup();
        let listener = Listener {
            name: name.clone(),
            address: socket_address(way.listen),
            stat_prefix: statistic(&name),
            // Who is not in a range has no filter chain: closed at once, and it rings no bell.
            filter_chains: vec![FilterChain {
                filter_chain_match: (!allow.is_empty()).then(|| FilterChainMatch {
                    source_prefix_ranges: allow.iter().map(range).collect(),
                    ..Default::default()
                }),
                filters: vec![Filter {
                    name: "envoy.filters.network.tcp_proxy".to_owned(),
                    config_type: Some(ConfigType::TypedConfig(any(proxy(rule, &name, &target)))),
                }],
                ..Default::default()
            }],
            per_connection_buffer_limit_bytes: uint(limits.tcp_buffer),
            tcp_keepalive: Some(keepalive()),
            ..Default::default()
        };
        let refers = BTreeSet::from([target]);
        snapshot.put(Kind::Listener, name, any(listener), refers, Some(rule.name.clone()));
    }
}

fn proxy(rule: &RuleView, name: &str, target: &str) -> TcpProxy {
    TcpProxy {
        stat_prefix: statistic(name),
        cluster_specifier: Some(ClusterSpecifier::Cluster(target.to_owned())),
        on_demand: Some(OnDemand {
            odcds_config: doorbell(),
            timeout: duration(rule.wake_timeout),
            ..Default::default()
        }),
        // A quiet session is in use.
        idle_timeout: duration(Duration::ZERO),
        // A machine that has just come up may refuse once more.
        max_connect_attempts: uint(cluster::RETRIES + 1),
        backoff_options: Some(cluster::backoff()),
        access_log: vec![log::tcp()],
        access_log_options: Some(TcpAccessLogOptions {
            access_log_flush_interval: duration(log::PERIOD),
            flush_access_log_on_connected: true,
            flush_access_log_on_start: true,
        }),
        ..Default::default()
    }
}
