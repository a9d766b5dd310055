//! The rules as Envoy is told of them.

use std::net::{IpAddr, SocketAddr};

use crate::config::proxy_rules::ProxyRule;
use crate::config::tags;
use crate::domain::rule::ResourceId;
use crate::gateway::envoy::{
    Edge, Endpoint, Host, HttpListener, HttpWay, Limits, RuleView, TcpWay, Upstream, UpstreamTls, View,
};

use super::machines::{host, resources};
use super::{Front, Now};

impl Front {
    pub(super) fn view(&self, now: &Now) -> View {
        let config = &self.inner.config;
        // Not by what could be read: a site is not to be served in the clear because its certificate is not there.
        let secure = !config.tls.is_empty();
        let listeners = |ports: &[u16], tls: bool| -> Vec<HttpListener> {
            let each = |(place, port): (usize, &u16)| {
                let (port, kind) = (*port, if tls { "https" } else { "http" });
                let many = config.listen.len() > 1;
                config.listen.iter().map(move |address| HttpListener {
                    name: if many {
                        format!("{kind}-{address}-{port}")
                    } else {
                        format!("{kind}-{port}")
                    },
                    address: SocketAddr::new(*address, port),
                    tls,
                    redirect_to_https: config.redirect_of(place).filter(|_| !tls),
                    trusted_hops: 0,
                })
            };
            ports.iter().enumerate().flat_map(each).collect()
        };
        let mut http = listeners(&config.http_ports, false);
        if secure {
            http.extend(listeners(&config.https_ports, true));
        }
        let names: Vec<String> = http.iter().map(|listener| listener.name.clone()).collect();
        let rules = now
            .rules
            .values()
            .map(|rule| self.rule_view(now, rule, &names))
            .collect();
        View {
            edge: Edge {
                listeners: http,
                certificates: now.certificates.clone(),
                limits: Limits::default(),
            },
            rules,
        }
    }

    fn rule_view(&self, now: &Now, rule: &ProxyRule, listeners: &[String]) -> RuleView {
        let (policy, _) = tags::policy(&rule.tags, self.inner.config.settle, self.inner.config.idle_min);
        let endpoint = |id: &ResourceId| {
            let host = host(now, id)?;
            Some(Endpoint {
                host: host
                    .parse::<IpAddr>()
                    .map_or_else(|_| Host::Name(host.clone()), Host::Address),
                weight: 1,
                healthy: !now.unwell.contains(id),
            })
        };
        let http = rule.http.iter().map(|way| HttpWay {
            hosts: way.hosts.clone(),
            prefix: way.path.clone(),
            listeners: listeners.to_vec(),
            target_port: way.port,
            upstream: Upstream {
                tls: way.tls.then(UpstreamTls::default),
                http2: way.http2,
            },
        });
        let tcp = rule.tcp.iter().flat_map(|way| {
            let port = way.listen.or_else(|| now.state.port(&rule.name, way.port));
            let addresses = self.inner.config.listen.iter();
            let allow = policy.allow.clone();
            port.into_iter().flat_map(move |port| {
                let allow = allow.clone();
                addresses.clone().map(move |address| TcpWay {
                    listen: SocketAddr::new(*address, port),
                    target_port: way.port,
                    allow: allow.clone(),
                })
            })
        });
        RuleView {
            name: rule.name.clone(),
            generation: now.state.generation(&rule.name),
            side: now.state.side(&rule.name),
            endpoints: resources(now, rule).iter().filter_map(endpoint).collect(),
            http: http.collect(),
            tcp: tcp.collect(),
            wake_timeout: rule.wake_timeout,
        }
    }
}
