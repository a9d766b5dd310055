//! What a view is turned into, over many views.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::{Kind, Snapshot};
use crate::domain::rule::{RuleName, Side};
use crate::gateway::envoy::names::ClusterName;
use crate::gateway::envoy::view::*;

const NAMES: [&str; 5] = ["a", "a@1", "b/c", "d e", "ü"];
const HOSTS: [&str; 4] = ["*", "*.example.com", "www.example.com", "b.example.com"];
const LISTENERS: [&str; 3] = ["plain", "secure", "redirect"];

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let host = prop_oneof![
        3 => any::<[u8; 4]>().prop_map(|address| Host::Address(IpAddr::from(address))),
        1 => Just(Host::Name("db.example.internal".to_owned())),
    ];
    (host, 1..=128u32, any::<bool>()).prop_map(|(host, weight, healthy)| Endpoint { host, weight, healthy })
}

fn http_way() -> impl Strategy<Value = HttpWay> {
    let listeners = subsequence(LISTENERS.to_vec(), 1..=LISTENERS.len());
    let prefix = prop_oneof![Just("/"), Just("/app"), Just("/app/")];
    let upstream = (any::<bool>(), any::<bool>()).prop_map(|(tls, http2)| Upstream {
        tls: tls.then(UpstreamTls::default),
        http2,
    });
    let hosts = subsequence(HOSTS.to_vec(), 1..=2);
    (hosts, prefix, listeners, 1..4u16, upstream).prop_map(|(hosts, prefix, listeners, target_port, upstream)| {
        HttpWay {
            hosts: hosts.into_iter().map(str::to_owned).collect(),
            prefix: prefix.to_owned(),
            listeners: listeners.into_iter().map(str::to_owned).collect(),
            target_port,
            upstream,
        }
    })
}

fn tcp_way() -> impl Strategy<Value = TcpWay> {
    let allow = subsequence(vec!["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"], 0..=3);
    (1..=65535u16, 1..4u16, allow).prop_map(|(port, target_port, allow)| TcpWay {
        listen: SocketAddr::from(([0, 0, 0, 0], port)),
        target_port,
        allow: allow.into_iter().filter_map(|range| range.parse().ok()).collect(),
    })
}

fn rule(name: &str) -> impl Strategy<Value = RuleView> + use<> {
    let name = RuleName(name.to_owned());
    let side = prop_oneof![Just(Side::Waker), Just(Side::Backend)];
    let endpoints = proptest::collection::vec(endpoint(), 1..4);
    let (http, tcp) = (
        proptest::collection::vec(http_way(), 0..3),
        proptest::collection::vec(tcp_way(), 0..3),
    );
    (side, 0..9u64, endpoints, http, tcp).prop_map(move |(side, generation, endpoints, http, tcp)| RuleView {
        name: name.clone(),
        generation,
        side,
        endpoints,
        http,
        tcp,
        wake_timeout: Duration::from_secs(600),
    })
}

fn edge() -> Edge {
    let listener = |(place, name): (u16, &&str)| HttpListener {
        name: (*name).to_owned(),
        address: SocketAddr::from(([0, 0, 0, 0], 80 + place)),
        tls: *name == "secure",
        redirect_to_https: (*name == "redirect").then_some(443),
        trusted_hops: 0,
    };
    let certificate = |name: &str| Certificate {
        name: name.to_owned(),
        hosts: vec!["a.example.com".to_owned(), format!("*.{name}.example.com")],
        chain_pem: b"chain".to_vec(),
        key_pem: b"hush".to_vec(),
    };
    Edge {
        listeners: (0..).zip(&LISTENERS).map(listener).collect(),
        certificates: vec![certificate("one"), certificate("two")],
        limits: Limits::default(),
    }
}

fn view() -> impl Strategy<Value = View> {
    let rules = subsequence(NAMES.to_vec(), 1..=NAMES.len())
        .prop_flat_map(|names| names.into_iter().map(rule).collect::<Vec<_>>());
    rules.prop_map(|rules| View { edge: edge(), rules })
}

/// Everything in a snapshot as kind, name and version.
fn all(snapshot: &Snapshot) -> BTreeSet<(Kind, String, String)> {
    let of = |kind: Kind| {
        snapshot.names(kind).map(move |name| {
            let resource = snapshot.get(kind, name).expect("named");
            (kind, name.clone(), resource.version.clone())
        })
    };
    Kind::ALL.into_iter().flat_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_view_gives_the_same_bytes_whatever_its_order(view in view()) {
        let mut other = view.clone();
        other.rules.reverse();
        for rule in &mut other.rules {
            for way in &mut rule.tcp {
                way.allow.reverse();
            }
        }
        prop_assert_eq!(Snapshot::of(&view), Snapshot::of(&other));
        let shown = format!("{:?}", (Snapshot::of(&view), &view));
        prop_assert!(!shown.contains("hush"), "a key is shown");
    }

    /// I1: what is asleep gets no traffic.
    #[test]
    fn a_rule_asleep_has_no_cluster_and_one_awake_has_all(view in view()) {
        let snapshot = Snapshot::of(&view);
        let names: BTreeSet<&String> = snapshot.names(Kind::Cluster).collect();
        for name in snapshot.names(Kind::Cluster).chain(snapshot.names(Kind::Endpoints)) {
            let name = ClusterName::parse(name).expect("one of ours");
            let rule = view.rules.iter().find(|rule| rule.name == name.rule).expect("one of the view");
            prop_assert_eq!((rule.side, rule.generation), (Side::Backend, name.generation));
        }
        // Whatever leads somewhere leads to the generation of today.
        for kind in [Kind::Listener, Kind::Route] {
            for name in snapshot.names(kind) {
                for target in &snapshot.get(kind, name).expect("named").refers {
                    let parsed = ClusterName::parse(target).expect("one of ours");
                    let rule = view.rules.iter().find(|rule| rule.name == parsed.rule).expect("one of the view");
                    prop_assert_eq!(rule.generation, parsed.generation);
                    prop_assert_eq!(names.contains(target), rule.side == Side::Backend);
                }
            }
        }
    }

    #[test]
    fn a_flip_changes_only_what_is_of_the_rule(view in view(), which: prop::sample::Index) {
        let mut flipped = view.clone();
        let place = which.index(view.rules.len());
        let rule = &mut flipped.rules[place];
        match rule.side {
            Side::Waker => rule.side = Side::Backend,
            Side::Backend => {
                rule.side = Side::Waker;
                rule.generation += 1;
            }
        }
        let rule = flipped.rules[place].clone();
        let (before, after) = (Snapshot::of(&view), Snapshot::of(&flipped));
        for (kind, name, _) in all(&before).symmetric_difference(&all(&after)) {
            let owner = before.get(*kind, name).or(after.get(*kind, name)).and_then(|it| it.rule.clone());
            let shared = *kind == Kind::Route
                && rule.http.iter().any(|way| way.listeners.iter().any(|listener| *name == format!("http/{listener}")));
            prop_assert!(owner.as_ref() == Some(&rule.name) || shared, "{:?} {}", kind, name);
            // Awake and asleep have one listener, so that to wake drains nothing.
            prop_assert!(*kind != Kind::Listener || rule.side == Side::Waker, "{}", name);
        }
    }

    #[test]
    fn an_address_that_changes_is_no_other_cluster(view in view(), octets: [u8; 4], healthy: bool) {
        let mut moved = view.clone();
        for rule in &mut moved.rules {
            for endpoint in &mut rule.endpoints {
                endpoint.healthy = healthy;
                if let Host::Address(address) = &mut endpoint.host {
                    *address = IpAddr::from(octets);
                }
            }
        }
        let named = |rule: &RuleView| rule.endpoints.iter().any(|it| matches!(it.host, Host::Name(_)));
        let (before, after) = (Snapshot::of(&view), Snapshot::of(&moved));
        for (kind, name, _) in all(&before).symmetric_difference(&all(&after)) {
            let owner = after.get(*kind, name).and_then(|it| it.rule.clone());
            let by_name = view.rules.iter().any(|rule| Some(&rule.name) == owner.as_ref() && named(rule));
            prop_assert!(*kind == Kind::Endpoints || by_name, "{:?} {}", kind, name);
        }
    }
}
