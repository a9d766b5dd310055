use super::*;

pub const HERE: Here<'static> = Here {
    access_point: Some("here"),
    machine: None,
    settle: Duration::from_secs(60),
    idle_min: Duration::from_secs(300),
};

pub fn tagged(id: &str, tags: &[(&str, &str)]) -> Tagged {
    let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Tagged {
        id: ResourceId(id.to_owned()),
        tags: tags.collect(),
        port: id.starts_with("rds").then_some(5432),
        cluster: None,
    }
}

pub fn opted(id: &str, tags: &[(&str, &str)]) -> Tagged {
    tagged(id, &[&[(PROXY, "true"), (tags::IDLE, "30m")], tags].concat())
}

/// For the first time, and without rule files.
fn first(all: &[Tagged]) -> Discovered {
    discovered(all, &[], &[], &HERE)
}

fn found(all: &[Tagged]) -> Vec<ProxyRule> {
    let found = first(all);
    assert_eq!(found.problems, []);
    found.rules
}

/// The only problem of this machine, which is in no rule.
fn wrong(machine: Tagged) -> String {
    let found = first(std::slice::from_ref(&machine));
    assert_eq!(found.rules, [], "{machine:?}");
    let [(id, problem)] = <[_; 1]>::try_from(found.problems).expect("one problem");
    assert_eq!(id, machine.id);
    problem
}

#[test]
fn tags_say_what_a_file_says() {
    let machine = opted(
        "i-0123456789abcdef0",
        &[
            ("Name", "dev-box"),
            (TCP, "3389 22"),
            (HOST, "Dev.example.com *.dev.example.com"),
            (HTTP, "8080"),
            (CHECK, "/healthz"),
            (tags::ALLOW, "10.0.0.0/8"),
            (tags::MANAGED, "true"),
            ("owner", "somebody"),
        ],
    );
    let [rule] = <[_; 1]>::try_from(found(&[machine])).unwrap();
    assert_eq!(rule.name.0, "dev-box");
    let ports: Vec<_> = rule.tcp.iter().map(|route| (route.port, route.protocol)).collect();
    assert_eq!(ports, [(22, Protocol::Ssh), (3389, Protocol::Rdp)]);
    let [http] = <[_; 1]>::try_from(rule.http).unwrap();
    assert_eq!(http.hosts, ["*.dev.example.com", "dev.example.com"]);
    assert_eq!((http.port, http.check.as_deref()), (8080, Some("/healthz")));
    assert_eq!(rule.tags[tags::IDLE], "30m");
    assert_eq!(rule.tags[tags::ALLOW], "10.0.0.0/8");
    assert_eq!(rule.tags[tags::BUSY_NETWORK], "off");
    assert!(!rule.tags.contains_key("owner") && !rule.tags.contains_key(tags::MANAGED));
    assert_eq!(rule.wake_timeout, proxy_rules::DEFAULT_WAKE_TIMEOUT);
}

#[test]
fn a_database_is_reached_at_its_own_port_and_waited_for_longer() {
    let [rule] = <[_; 1]>::try_from(found(&[opted("rds:orders", &[])])).unwrap();
    assert_eq!(rule.name.0, "rds-orders");
    assert_eq!((rule.tcp[0].port, rule.tcp[0].protocol), (5432, Protocol::Postgres));
    assert_eq!(rule.wake_timeout, proxy_rules::DEFAULT_DATABASE_WAKE_TIMEOUT);
    let waits = opted("rds:orders", &[(WAKE_TIMEOUT, "5m")]);
    assert_eq!(found(&[waits])[0].wake_timeout, Duration::from_secs(300));
    assert!(wrong(opted("rds:orders", &[(HOST, "db.example.com")])).contains("no HTTP"));
    let mut member = opted("rds:one", &[]);
    member.cluster = Some("whole".to_owned());
    assert!(wrong(member).contains("the cluster whole"));
}

#[test]
fn only_what_is_opted_in_for_this_proxy_is_served() {
    let with = |value: &str| tagged("i-1", &[(PROXY, value), (tags::IDLE, "30m"), (TCP, "22")]);
    for (value, rules) in [("true", 1), ("here", 1), ("false", 0), ("elsewhere", 0)] {
        assert_eq!(found(&[with(value)]).len(), rules, "{value}");
    }
    assert!(wrong(with("")).contains("accessPointID"));
    assert_eq!(found(&[tagged("i-1", &[(TCP, "22")])]), []);
}

#[test]
fn machines_of_one_name_are_one_rule_when_they_agree() {
    let one = |id: &str, ports: &str| opted(id, &[(tags::NAME, "farm"), (TCP, ports)]);
    let [rule] = <[_; 1]>::try_from(found(&[one("i-1", "22 80"), one("i-2", "80 22")])).unwrap();
    assert_eq!(rule.resources.len(), 2);
    let differing = first(&[one("i-1", "22"), one("i-2", "22"), one("i-3", "80")]);
    assert_eq!(differing.rules, []);
    let of: Vec<_> = differing.problems.iter().map(|(id, _)| id.0.as_str()).collect();
    assert_eq!(of, ["i-1", "i-3"]);
    assert!(differing.problems[1].1.contains("it and i-1"), "{differing:?}");
}

#[test]
fn whatever_cannot_be_used_is_named_with_its_tag() {
    for (tags, words) in [
        (&[][..], "no way in"),
        (&[(TCP, "22 ssh")], TCP),
        (&[(TCP, "")], TCP),
        (&[(TCP, "0")], "1 to 65535"),
        (&[(HOST, "not a host!")], HOST),
        (&[(TCP, "22"), (HTTP, "80")], "says nothing without"),
        (&[(TCP, "22"), (WAKE_TIMEOUT, "10")], WAKE_TIMEOUT),
        (
            &[(TCP, "22"), ("autostopping:dealine", "5m")],
            "autostopping:deadline is probably meant",
        ),
        (&[(TCP, "22"), (tags::NAME, "two words")], tags::NAME),
        (
            &[(TCP, "22"), (tags::BUSY_CPU, "5")],
            "does not ask for a machine's load",
        ),
        (
            &[(TCP, "22"), (tags::BUSY_NETWORK, "1")],
            "does not ask for a machine's load",
        ),
        (&[(TCP, "22"), (tags::CONFIRM, "true")], "nobody can press a button"),
    ] {
        let problem = wrong(opted("i-1", tags));
        assert!(problem.contains(words), "{problem}");
    }
    let no_idle = tagged("i-1", &[(PROXY, "true"), (TCP, "22")]);
    assert!(wrong(no_idle).contains(tags::IDLE));
}
