//! HTTP listeners and their routes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions,
    http_protocol_options::HeadersWithUnderscoresAction,
};
use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, filter::ConfigType, listener_filter,
};
use envoy_types::pb::envoy::config::route::v3::{
    RedirectAction, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
    redirect_action::SchemeRewriteSpecifier, retry_policy::RetryBackOff, route, route_action::ClusterSpecifier,
    route_match::PathSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds,
    http_connection_manager::{
        HcmAccessLogOptions, InternalAddressConfig, RouteSpecifier, ServerHeaderTransformation, StripPortMode,
        UpgradeConfig,
    },
    http_filter,
};
use envoy_types::pb::google::protobuf::Any;
use ipnet::IpNet;

use super::super::names::statistic;
use super::super::view::{Edge, HttpListener, HttpWay, RuleView, View};
use super::super::wire::{any, boolean, by_ads, duration, keepalive, range, socket_address, uint};
use super::{Kind, Snapshot, cluster, hold, log, tls};
use crate::domain::rule::Side;

pub fn add(snapshot: &mut Snapshot, view: &View) {
    for listener in &view.edge.listeners {
        let Some(chains) = chains(view, listener) else { continue };
        let name = format!("http/{}", listener.name);
        let (routes, refers) = routes(view, listener, &name);
        snapshot.put(Kind::Route, name.clone(), any(routes), refers, None);
        let (filter_chains, default_filter_chain) = chains;
        let inspector = ListenerFilter {
            name: "envoy.filters.listener.tls_inspector".to_owned(),
            config_type: Some(listener_filter::ConfigType::TypedConfig(any(TlsInspector::default()))),
            ..Default::default()
        };
        let resource = Listener {
            name: name.clone(),
            address: socket_address(listener.address),
            stat_prefix: statistic(&name),
            listener_filters: listener.tls.then_some(inspector).into_iter().collect(),
            filter_chains,
            default_filter_chain,
            per_connection_buffer_limit_bytes: uint(view.edge.limits.buffer),
            tcp_keepalive: Some(keepalive()),
            ..Default::default()
        };
        snapshot.put(Kind::Listener, name, any(resource), BTreeSet::new(), None);
    }
}

/// A filter chain for each certificate, so that one that is bad or new leaves the connections of the others alone; the
/// first one answers also whoever names no host that is known.
fn chains(view: &View, listener: &HttpListener) -> Option<(Vec<FilterChain>, Option<FilterChain>)> {
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(manager(&view.edge, listener)))),
    };
    let chain = |name: &str, certificate: Option<&str>| FilterChain {
        name: name.to_owned(),
        filters: vec![filter.clone()],
        transport_socket: certificate.and_then(tls::downstream),
        transport_socket_connect_timeout: duration(Duration::from_secs(10)),
        ..Default::default()
    };
    if !listener.tls {
        return Some((vec![chain("plain", None)], None));
    }
    let first = view.edge.certificates.first()?;
    // Envoy refuses a listener in which two chains have one name.
    let mut taken = BTreeSet::new();
    let mut chains = Vec::new();
    for certificate in &view.edge.certificates {
        let hosts = certificate.hosts.iter().map(|host| host.to_ascii_lowercase());
        let hosts: BTreeSet<_> = hosts.filter(|host| taken.insert(host.clone())).collect();
        if !hosts.is_empty() {
            chains.push(FilterChain {
                filter_chain_match: Some(FilterChainMatch {
                    server_names: hosts.into_iter().collect(),
                    ..Default::default()
                }),
                ..chain(&certificate.name, Some(&certificate.name))
            });
        }
    }
    Some((chains, Some(chain("any other host", Some(&first.name)))))
}

/// Rules in the order of their names, whatever the view's.
fn ways<'a>(view: &'a View, listener: &'a HttpListener) -> impl Iterator<Item = (&'a RuleView, &'a HttpWay)> {
    let mut rules: Vec<&RuleView> = view.rules.iter().collect();
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    rules
        .into_iter()
        .flat_map(|rule| rule.http.iter().map(move |way| (rule, way)))
        .filter(|(_, way)| way.listeners.contains(&listener.name))
}

/// Settings of an edge, as Envoy's "Configuring Envoy as an edge proxy" has them, but for what would change a request that is
/// none of our business: slashes and escapes in its path.
fn manager(edge: &Edge, listener: &HttpListener) -> HttpConnectionManager {
    let limits = &edge.limits;
    let mut filters = vec![hold::filter(limits), hold::patience()];
    filters.push(HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(Router {
            suppress_envoy_headers: true,
            ..Default::default()
        }))),
        ..Default::default()
    });
    HttpConnectionManager {
        stat_prefix: statistic(&listener.name),
        http_filters: filters,
        common_http_protocol_options: Some(HttpProtocolOptions {
            idle_timeout: duration(limits.idle_timeout),
            max_headers_count: uint(limits.headers),
            headers_with_underscores_action: HeadersWithUnderscoresAction::DropHeader.into(),
            ..Default::default()
        }),
        http_protocol_options: Some(Http1ProtocolOptions {
            accept_http_10: true,
            ..Default::default()
        }),
        http2_protocol_options: Some(Http2ProtocolOptions {
            max_concurrent_streams: uint(limits.streams),
            initial_stream_window_size: uint(64 * 1024),
            initial_connection_window_size: uint(1024 * 1024),
            ..Default::default()
        }),
        server_name: "proxymanager".to_owned(),
        server_header_transformation: ServerHeaderTransformation::AppendIfAbsent.into(),
        max_request_headers_kb: uint(limits.headers_kib),
        // A held request and a quiet WebSocket are in use.
        stream_idle_timeout: duration(Duration::ZERO),
        request_timeout: duration(Duration::ZERO),
        request_headers_timeout: duration(limits.headers_timeout),
        access_log: vec![log::http()],
        access_log_options: Some(HcmAccessLogOptions {
            access_log_flush_interval: duration(log::PERIOD),
            ..Default::default()
        }),
        use_remote_address: boolean(true),
        xff_num_trusted_hops: listener.trusted_hops,
        // Nobody is internal: Envoy's own headers in a request are taken out. With no range at all every private address would be.
        internal_address_config: Some(InternalAddressConfig {
            cidr_ranges: vec![range(&IpNet::from(IpAddr::V4(Ipv4Addr::BROADCAST)))],
            ..Default::default()
        }),
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..Default::default()
        }],
        normalize_path: boolean(true),
        // The port of the plain listener is not to be that of the other.
        strip_port_mode: listener
            .redirect_to_https
            .map(|_| StripPortMode::StripAnyHostPort(true)),
        strip_trailing_host_dot: true,
        local_reply_config: Some(hold::replies()),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: by_ads(),
            route_config_name: format!("http/{}", listener.name),
        })),
        ..Default::default()
    }
}

/// One virtual host for each host name, its routes by the length of their prefixes.
fn routes(view: &View, listener: &HttpListener, name: &str) -> (RouteConfiguration, BTreeSet<String>) {
    let mut refers = BTreeSet::new();
    let mut hosts: BTreeMap<String, BTreeMap<(std::cmp::Reverse<usize>, String), Route>> = BTreeMap::new();
    if let Some(port) = listener.redirect_to_https {
        let everything = (std::cmp::Reverse(1), "/".to_owned());
        hosts.insert("*".to_owned(), BTreeMap::from([(everything, redirect(port))]));
    } else {
        for (rule, way) in ways(view, listener) {
            let target = cluster::of_http(rule, way);
            let prefix = match way.prefix.trim_end_matches('/') {
                "" => "/".to_owned(),
                prefix => prefix.to_owned(),
            };
            for host in &way.hosts {
                let routes = hosts.entry(host.to_ascii_lowercase()).or_default();
                routes
                    .entry((std::cmp::Reverse(prefix.len()), prefix.clone()))
                    .or_insert_with(|| to(rule, &prefix, &target));
            }
            refers.insert(target);
        }
    }
    let virtual_hosts = hosts.into_iter().map(|(host, routes)| VirtualHost {
        name: host.clone(),
        domains: vec![host],
        routes: routes.into_values().collect(),
        ..Default::default()
    });
    let configuration = RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: virtual_hosts.collect(),
        ignore_port_in_host_matching: true,
        ..Default::default()
    };
    (configuration, refers)
}

/// To the rule's cluster, by way of the judge while it is asleep. The route names the cluster that will be there when it is
/// awake: a held request keeps the route it came by.
fn to(rule: &RuleView, prefix: &str, target: &str) -> Route {
    let judged: Option<(String, Any)> = match rule.side {
        Side::Waker => Some(hold::enabled(target)),
        Side::Backend => None,
    };
    let pauses = cluster::backoff();
    Route {
        name: rule.name.to_string(),
        r#match: matching(prefix),
        typed_per_filter_config: judged.into_iter().collect(),
        action: Some(route::Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(target.to_owned())),
            timeout: duration(Duration::ZERO),
            idle_timeout: duration(Duration::ZERO),
            // Nothing of the request has been sent in these cases.
            retry_policy: Some(RetryPolicy {
                retry_on: "connect-failure,refused-stream".to_owned(),
                num_retries: uint(cluster::RETRIES),
                retry_back_off: Some(RetryBackOff {
                    base_interval: pauses.base_interval,
                    max_interval: pauses.max_interval,
                }),
                ..Default::default()
            }),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn redirect(port: u16) -> Route {
    Route {
        r#match: matching("/"),
        action: Some(route::Action::Redirect(RedirectAction {
            // 443 would be written out.
            port_redirect: if port == 443 { 0 } else { u32::from(port) },
            scheme_rewrite_specifier: Some(SchemeRewriteSpecifier::HttpsRedirect(true)),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn matching(prefix: &str) -> Option<RouteMatch> {
    let path = if prefix == "/" {
        PathSpecifier::Prefix(prefix.to_owned())
    } else {
        PathSpecifier::PathSeparatedPrefix(prefix.to_owned())
    };
    Some(RouteMatch {
        path_specifier: Some(path),
        ..Default::default()
    })
}
