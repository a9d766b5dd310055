use super::gather::{listeners, reach};
use super::*;
use crate::domain::fault::FaultKind;

/// Nothing is wrong: the ports are open and let in, the services run.
fn well() -> ProxyFacts {
    let active = |unit: &str| Service {
        unit: unit.to_owned(),
        state: "active".to_owned(),
    };
    ProxyFacts {
        services: vec![active("proxymanager.service"), active("proxymanager-envoy.service")],
        envoy: Some(true),
        ports: [443, 49152].into(),
        guarded: BTreeSet::new(),
        given_away: None,
        listening: Some([22, 443, 49152].into()),
        ingress: Some(vec![
            ingress(443, 443, "0.0.0.0/0"),
            ingress(49152, 49251, "10.0.0.0/8"),
        ]),
        targets: vec![target_that(Reach::Connected)],
        certificates: vec![pair(Ok((vec!["*.example.com".to_owned()], 30)))],
        shown: vec![
            shown_to("a.example.com", &["*.example.com"], 30),
            shown_to("*.example.com", &["*.example.com"], 30),
        ],
        untagged: Vec::new(),
        forbidden: Vec::new(),
        hosts: ["a.example.com".to_owned(), "*.example.com".to_owned()].into(),
        clock: Some(true),
        complaints: Vec::new(),
        unseen: Vec::new(),
    }
}

fn ingress(first: u16, last: u16, source: &str) -> Ingress {
    Ingress {
        group: "sg-1".to_owned(),
        first,
        last,
        sources: vec![source.to_owned()],
    }
}

fn shown_to(host: &str, names: &[&str], days: i64) -> Shown {
    Shown {
        host: host.to_owned(),
        port: 443,
        read: Ok((names.iter().map(|name| (*name).to_owned()).collect(), days)),
    }
}

fn target_that(reach: Reach) -> Target {
    Target {
        rule: "shell".to_owned(),
        resource: ResourceId("i-1".to_owned()),
        address: Some("10.0.0.7".to_owned()),
        port: 22,
        waking: false,
        reach,
    }
}

fn pair(read: Result<(Vec<String>, i64), String>) -> Pair {
    Pair {
        name: "tls".to_owned(),
        read,
    }
}

/// The only finding once this is changed, and what it says.
fn one(change: impl FnOnce(&mut ProxyFacts)) -> (&'static str, Severity, String) {
    let mut facts = well();
    change(&mut facts);
    let [found] = <[Finding; 1]>::try_from(findings(&facts)).expect("one finding");
    (
        found.code,
        found.severity,
        format!("{}: {} -> {}", found.of, found.what, found.fix),
    )
}

#[test]
fn what_is_well_has_no_finding() {
    assert_eq!(findings(&well()), []);
    // What nobody could say is none either.
    let mut unknown = well();
    (unknown.listening, unknown.ingress, unknown.clock) = (None, None, None);
    unknown.envoy = None;
    unknown.services.clear();
    assert_eq!(findings(&unknown), []);
}

#[test]
fn a_service_that_is_down_is_named() {
    let (code, severity, words) = one(|facts| facts.services[1].state = "failed".to_owned());
    assert_eq!((code, severity), ("service-down", Severity::Error));
    assert!(words.contains("journalctl -u proxymanager-envoy.service"), "{words}");
}

#[test]
fn an_envoy_that_is_not_connected_is_told() {
    let (code, severity, words) = one(|facts| facts.envoy = Some(false));
    assert_eq!((code, severity), ("envoy-not-connected", Severity::Error));
    assert!(words.contains("journalctl -u proxymanager-envoy"), "{words}");
}

#[test]
fn whether_clients_can_come_in_is_judged_port_by_port() {
    let (code, _, words) = one(|facts| facts.listening = Some([443].into()));
    assert_eq!(code, "port-not-open");
    assert!(words.starts_with("port 49152: "), "{words}");
    let (code, severity, words) = one(|facts| facts.ingress = Some(vec![ingress(443, 49151, "10.0.0.0/8")]));
    assert_eq!((code, severity), ("clients-kept-out", Severity::Error));
    assert!(words.contains("--group-id sg-1 --protocol tcp --port 49152"), "{words}");
    let (code, severity, _) = one(|facts| facts.ingress = Some(vec![ingress(0, 65535, "::/0")]));
    assert_eq!((code, severity), ("open-to-everybody", Severity::Warning));
    let mut facts = well();
    facts.ingress = Some(vec![ingress(0, 65535, "::/0")]);
    facts.guarded = [49152].into();
    assert_eq!(findings(&facts), [], "the rule says who may wake it");
}

#[test]
fn ports_that_the_kernel_gives_away_are_told() {
    let (code, severity, words) = one(|facts| facts.given_away = Some("the kernel gives them".to_owned()));
    assert_eq!((code, severity), ("ports-given-away", Severity::Warning));
    assert!(words.starts_with("portRange: the kernel gives them -> "), "{words}");
}

#[test]
fn a_port_that_refuses_is_told_apart_from_a_network_that_is_silent() {
    for (reach, code, severity, words) in [
        (Reach::Refused, "target-closed", Severity::Error, "the network is right"),
        (Reach::Silent, "target-silent", Severity::Error, "security group"),
        (
            Reach::NoWay("Network is unreachable".to_owned()),
            "no-way-to-target",
            Severity::Error,
            "route table",
        ),
    ] {
        let (found, how, said) = one(|facts| facts.targets = vec![target_that(reach)]);
        assert_eq!((found, how), (code, severity));
        assert!(said.contains(words) && said.starts_with("shell: "), "{said}");
    }
    for reach in [Reach::Refused, Reach::Silent] {
        let waking = Target {
            waking: true,
            ..target_that(reach)
        };
        let (code, severity, _) = one(|facts| facts.targets = vec![waking]);
        assert_eq!((code, severity), ("still-booting", Severity::Warning));
    }
    let (code, ..) = one(|facts| facts.targets[0].address = None);
    assert_eq!(code, "no-address");
}

#[test]
fn certificates_are_judged_by_days_and_names() {
    let names = || vec!["*.example.com".to_owned()];
    let (code, severity, words) = one(|facts| facts.certificates = vec![pair(Ok((names(), 13)))]);
    assert_eq!((code, severity), ("certificate-expires", Severity::Warning));
    assert!(words.contains("13 days"), "{words}");
    let mut enough = well();
    enough.certificates = vec![pair(Ok((names(), 14)))];
    assert_eq!(findings(&enough), []);
    let (code, severity, _) = one(|facts| facts.certificates = vec![pair(Err("it expired".to_owned()))]);
    assert_eq!((code, severity), ("certificate", Severity::Error));
    let (code, _, words) = one(|facts| facts.shown.push(shown_to("a.b.example.com", &["*.example.com"], 30)));
    assert_eq!(code, "host-without-certificate");
    assert!(words.starts_with("a.b.example.com"), "{words}");
    let (code, severity, _) = one(|facts| facts.shown[0] = shown_to("a.example.com", &["a.example.com"], -1));
    assert_eq!((code, severity), ("expired-in-use", Severity::Error));
    let (code, _, words) = one(|facts| facts.shown[0].read = Err("connection refused".to_owned()));
    assert_eq!(code, "no-handshake");
    assert!(words.contains("https://a.example.com on port 443"), "{words}");
}

#[test]
fn clock_rights_and_rules_are_told() {
    let (code, ..) = one(|facts| facts.clock = Some(false));
    assert_eq!(code, "clock");
    let (code, _, words) = one(|facts| {
        facts.unseen = vec![Unseen {
            operation: "ec2:DescribeSecurityGroups".to_owned(),
            kind: FaultKind::Denied,
            message: "UnauthorizedOperation".to_owned(),
        }];
    });
    assert_eq!(code, "permission-denied");
    assert!(words.contains("allow ec2:DescribeSecurityGroups"), "{words}");
    let id = |id: &str| ResourceId(id.to_owned());
    let (code, _, words) = one(|facts| facts.untagged = vec![id("i-1")]);
    assert_eq!(code, "managed-tag-missing");
    assert!(
        words.contains("--resources i-1 --tags Key=autostopping:managed,Value=true"),
        "{words}"
    );
    let denied = || Fault::new(FaultKind::Denied, "ec2:StopInstances", "UnauthorizedOperation");
    let (code, _, words) = one(|facts| facts.forbidden = vec![(id("i-2"), denied())]);
    assert_eq!(code, "may-not-start-or-stop");
    assert!(words.contains("allow ec2:StopInstances"), "{words}");
    // The tag that is missing explains it.
    let (code, ..) = one(|facts| (facts.untagged, facts.forbidden) = (vec![id("i-1")], vec![(id("i-1"), denied())]));
    assert_eq!(code, "managed-tag-missing");
    let (code, _, words) = one(|facts| facts.complaints = vec!["shell: port taken".to_owned()]);
    assert_eq!(code, "rule");
    assert!(words.contains("port taken"), "{words}");
}

#[test]
fn only_sockets_that_listen_count() {
    let table = "  sl  local_address rem_address   st tx_queue rx_queue\n   \
        0: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n   \
        1: 0100007F:1F9D 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1\n";
    assert_eq!(listeners(table), [443].into());
    let six = "   0: 00000000000000000000000000000000:C000 00000000000000000000000000000000:0000 0A 0 0 0\n";
    assert_eq!(listeners(six), [49152].into());
    for odd in ["", "x", "0: 0:0A 0A", "0: zz:zz 0:0 0A", "\u{0}:\u{0}"] {
        assert!(listeners(odd).is_empty(), "{odd:?}");
    }
}

#[tokio::test]
async fn an_open_port_and_a_closed_one_are_told_apart() {
    let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = open.local_addr().unwrap().port();
    assert_eq!(reach("127.0.0.1", port).await, Reach::Connected);
    drop(open);
    assert_eq!(reach("127.0.0.1", port).await, Reach::Refused);
    assert!(matches!(reach("name.invalid", 22).await, Reach::NoWay(_)));
}
