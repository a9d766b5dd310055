use crate::domain::policy::METRICS_DELAY;
use proptest::prelude::*;

use super::*;

const SETTLE: Duration = Duration::from_secs(300);
const IDLE_MIN: Duration = Duration::from_secs(300);

fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn read(pairs: &[(&str, &str)]) -> (Policy, Vec<Problem>) {
    let mut all = tags(&[(IDLE, "15m")]);
    all.extend(tags(pairs));
    policy(&all, SETTLE, IDLE_MIN)
}

/// The policy's text form.
fn written(policy: &Policy) -> BTreeMap<String, String> {
    let off = |number: Option<String>| number.unwrap_or("off".to_owned());
    let mut tags = BTreeMap::from([
        (IDLE.to_owned(), humantime::format_duration(policy.idle).to_string()),
        (
            HOLD.to_owned(),
            if policy.hold == Hold::Page { "page" } else { "wait" }.to_owned(),
        ),
        (
            HEALTHY.to_owned(),
            match policy.healthy {
                Needed::All => "all".to_owned(),
                Needed::AtLeast(number) => number.to_string(),
            },
        ),
        (
            DEADLINE.to_owned(),
            humantime::format_duration(policy.deadline).to_string(),
        ),
        (
            BUSY_NETWORK.to_owned(),
            off(policy.busy_network.map(|bytes| bytes.to_string())),
        ),
        (
            BUSY_CPU.to_owned(),
            off(policy.busy_cpu.map(|percent| percent.to_string())),
        ),
        (
            STOP.to_owned(),
            if policy.stop == StopKind::Stop {
                "stop"
            } else {
                "hibernate"
            }
            .to_owned(),
        ),
        (DRY_RUN.to_owned(), policy.dry_run.to_string()),
    ]);
    tags.insert(CONFIRM.to_owned(), policy.confirm.to_string());
    tags.insert(
        WAKES_PER_DAY.to_owned(),
        off(policy.wakes_per_day.map(|wakes| wakes.to_string())),
    );
    for (tag, paths) in [
        (WAKE_PATHS, &policy.wake_paths),
        (NEVER_WAKE_PATHS, &policy.never_wake_paths),
    ] {
        if !paths.is_empty() {
            let paths: Vec<_> = paths.iter().map(ToString::to_string).collect();
            tags.insert(tag.to_owned(), paths.join(" "));
        }
    }
    if !policy.allow.is_empty() {
        let networks: Vec<_> = policy.allow.iter().map(ToString::to_string).collect();
        tags.insert(ALLOW.to_owned(), networks.join(" "));
    }
    tags
}

#[test]
fn idle_alone_leaves_everything_at_its_default() {
    let (policy, problems) = read(&[]);
    assert_eq!(policy, Policy::new(Duration::from_secs(900), SETTLE));
    assert_eq!(problems, []);
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let documented = [
        (HOLD, "page"),
        (HEALTHY, "1"),
        (DEADLINE, "15m"),
        (BUSY_NETWORK, "100000"),
        (BUSY_CPU, "off"),
        (STOP, "stop"),
        (DRY_RUN, "false"),
        (CONFIRM, "false"),
        (WAKES_PER_DAY, "off"),
    ];
    assert_eq!(read(&documented), read(&[]));
}

#[test]
fn every_tag_is_read() {
    let (policy, problems) = read(&[
        (IDLE, "1h 30m"),
        (NAME, "team/site-1.example_2"),
        (HOLD, "wait"),
        (HEALTHY, "all"),
        (DEADLINE, "90s"),
        (BUSY_NETWORK, "off"),
        (BUSY_CPU, "5"),
        (STOP, "hibernate"),
        (DRY_RUN, "true"),
        (ALLOW, "10.1.2.3/8  192.0.2.7 2001:db8::1"),
        (WAKE_PATHS, "/wp-login.php  /app /app"),
        (NEVER_WAKE_PATHS, "/app/health"),
        (CONFIRM, "true"),
        (WAKES_PER_DAY, "12"),
        (PARKS, "arn:anything"),
        (MANAGED, "true"),
        ("Name", "somebody else's"),
        ("autostop:idle", "somebody else's too"),
    ]);
    assert_eq!(problems, []);
    let expected = Policy {
        idle: Duration::from_secs(5400),
        hold: Hold::Wait,
        healthy: Needed::All,
        deadline: Duration::from_secs(90),
        busy_network: None,
        busy_cpu: Some(5),
        stop: StopKind::Hibernate,
        dry_run: true,
        allow: ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::1/128"]
            .map(|net| net.parse().unwrap())
            .to_vec(),
        wake_paths: prefixes("/app /wp-login.php").unwrap(),
        never_wake_paths: prefixes("/app/health").unwrap(),
        confirm: true,
        wakes_per_day: Some(12),
        settle: SETTLE,
        metrics_delay: METRICS_DELAY,
        metrics_period: crate::domain::activity::MINUTE,
        describe_delay: crate::domain::record::DESCRIBE_IS_STALE_FOR,
    };
    assert_eq!(policy, expected);
}

#[test]
fn what_cannot_be_read_is_named_and_nothing_else_is_touched() {
    let table = [
        (IDLE, "15"),
        (IDLE, "4m 59s"),
        (IDLE, "24h 1s"),
        (IDLE, ""),
        (IDLE, "soon"),
        (NAME, ""),
        (NAME, "two words"),
        (NAME, "-x"),
        (NAME, "seite-ä"),
        (NAME, " site"),
        (HOLD, "Page"),
        (HEALTHY, "1001"),
        (HEALTHY, "-1"),
        (HEALTHY, "most"),
        (DEADLINE, "0s"),
        (DEADLINE, "15"),
        (BUSY_NETWORK, "0"),
        (BUSY_NETWORK, "100kB"),
        (BUSY_NETWORK, "99999999999999999999"),
        (BUSY_CPU, "0"),
        (BUSY_CPU, "101"),
        (BUSY_CPU, "Off"),
        (STOP, "terminate"),
        (DRY_RUN, "yes"),
        (DRY_RUN, ""),
        (ALLOW, ""),
        (ALLOW, "  "),
        (ALLOW, "10.0.0.0/33"),
        (ALLOW, "10.0.0.0/8 everybody"),
        (ALLOW, "::ffff:10.0.0.0/129"),
        (WAKE_PATHS, ""),
        (WAKE_PATHS, "app"),
        (WAKE_PATHS, "/app //api"),
        (WAKE_PATHS, "/app/../api"),
        (NEVER_WAKE_PATHS, "/a%20b"),
        (NEVER_WAKE_PATHS, "*"),
        (CONFIRM, "yes"),
        (WAKES_PER_DAY, "0"),
        (WAKES_PER_DAY, "289"),
        (WAKES_PER_DAY, "many"),
    ];
    for (tag, text) in table {
        let (policy, problems) = read(&[(tag, text)]);
        let [Problem::UnreadableTag { key, value, allowed }] = problems.as_slice() else {
            panic!("{tag} = {text:?}: {problems:?}");
        };
        assert_eq!((key.as_str(), value.as_str()), (tag, text));
        assert!(!allowed.is_empty() && !problems[0].may_wake());
        let idle = if tag == IDLE {
            IDLE_MAX
        } else {
            Duration::from_secs(900)
        };
        assert_eq!(policy, Policy::new(idle, SETTLE), "{tag} = {text:?}");
    }
    let (_, problems) = policy(&BTreeMap::new(), SETTLE, IDLE_MIN);
    assert!(
        matches!(problems.as_slice(), [Problem::UnreadableTag { key, .. }] if key == IDLE),
        "{problems:?}"
    );
}

#[test]
fn a_path_cannot_wake_and_never_wake() {
    let (_, problems) = read(&[(WAKE_PATHS, "/app /api"), (NEVER_WAKE_PATHS, "/api /app/x")]);
    let [problem @ Problem::UnreadableTag { key, allowed, .. }] = problems.as_slice() else {
        panic!("{problems:?}");
    };
    assert_eq!((key.as_str(), problem.may_wake()), (NEVER_WAKE_PATHS, false));
    assert!(allowed.starts_with("/api is in "), "{allowed}");
}

#[test]
fn ipv4_is_the_same_in_both_its_forms() {
    let (policy, problems) = read(&[(ALLOW, "::ffff:10.1.2.3/104 ::ffff:192.0.2.7 ::/0")]);
    let networks: Vec<_> = policy.allow.iter().map(ToString::to_string).collect();
    assert_eq!(
        (networks, problems),
        (
            ["10.0.0.0/8", "192.0.2.7/32", "::/0"].map(str::to_owned).to_vec(),
            Vec::new()
        )
    );
}

#[test]
fn the_shortest_idle_is_configured() {
    let short = tags(&[(IDLE, "10s")]);
    assert_eq!(policy(&short, SETTLE, Duration::from_secs(10)).1, []);
    assert_eq!(policy(&short, SETTLE, Duration::from_secs(11)).1.len(), 1);
}

#[test]
fn unknown_tags_are_told_with_what_was_probably_meant() {
    let table = [
        ("autostopping:helthy", "autostopping:healthy is probably meant"),
        ("autostopping:busy_cpu", "autostopping:busy-cpu is probably meant"),
        ("autostopping:Hold", "autostopping:hold is probably meant"),
        ("AutoStopping:Idle", "autostopping:idle is probably meant"),
        ("autostopping:colour", "the known ones are autostopping:idle, "),
        ("autostopping:", "the known ones are autostopping:idle, "),
    ];
    for (key, expected) in table {
        let (_, problems) = read(&[(key, "1")]);
        let [problem @ Problem::UnknownTag { key: named, allowed }] = problems.as_slice() else {
            panic!("{key}: {problems:?}");
        };
        assert_eq!(named, key);
        assert!(allowed.starts_with(expected), "{key}: {allowed}");
        assert!(!problem.may_wake());
    }
}

#[test]
fn tags_of_later_versions_keep_a_rule_awake_and_wakeable() {
    for key in NOT_YET {
        let (policy, problems) = read(&[(key, "whatever it says")]);
        assert_eq!(problems, [Problem::UnsupportedTag { key: key.to_owned() }]);
        assert!(problems[0].may_wake());
        assert_eq!(policy, read(&[]).0);
    }
}

#[test]
fn one_tag_on_one_route_counts_for_all() {
    let routes = |first: &[(&str, &str)], second: &[(&str, &str)]| {
        vec![
            (RouteId("a".to_owned()), tags(first)),
            (RouteId("b".to_owned()), tags(second)),
        ]
    };
    let both = tags(&[(IDLE, "15m"), (HOLD, "wait"), (ALLOW, "10.0.0.0/8")]);
    let parts = routes(
        &[(IDLE, "15m"), (HOLD, "wait"), ("Name", "x")],
        &[(IDLE, "15m"), (ALLOW, "10.0.0.0/8")],
    );
    assert_eq!(merge(parts), (both, Vec::new()));

    let mut differ = routes(&[(IDLE, "15m"), (HOLD, "wait")], &[(IDLE, "20m"), (HOLD, "wait")]);
    differ.push((RouteId("c".to_owned()), tags(&[(IDLE, "25m")])));
    let contradiction = Problem::ContradictingTags {
        key: IDLE.to_owned(),
        one: "15m".to_owned(),
        other: "20m".to_owned(),
    };
    assert!(contradiction.may_wake());
    let expected = (tags(&[(IDLE, "15m"), (HOLD, "wait")]), vec![contradiction]);
    assert_eq!(merge(differ.clone()), expected);
    differ.reverse();
    assert_eq!(merge(differ), expected, "the order of the routes must not matter");

    for (tag, one, other) in [
        (WAKE_PATHS, "/a", "/b"),
        (NEVER_WAKE_PATHS, "/a", "/b"),
        (CONFIRM, "true", "false"),
    ] {
        let (_, problems) = merge(routes(&[(tag, one)], &[(tag, other)]));
        assert!(
            problems.len() == 1 && !problems[0].may_wake(),
            "{tag}: nobody is let in on a guess"
        );
    }
    let (merged, problems) = merge(routes(&[(ALLOW, "10.0.0.0/8")], &[(ALLOW, "0.0.0.0/0")]));
    assert_eq!(merged, tags(&[(ALLOW, "10.0.0.0/8")]));
    assert!(
        matches!(problems.as_slice(), [Problem::UnreadableTag { key, .. }] if key == ALLOW),
        "{problems:?}"
    );
    assert!(!problems[0].may_wake(), "nobody is let in on a guess");

    let odd = merge(routes(
        &[("autostopping:colour", "red")],
        &[("Autostopping:idle", "5m")],
    ));
    assert_eq!(odd.0.len(), 2, "what is to be told must come through");
}

fn network() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<[u8; 4]>(), 0..=32_u8).prop_map(|(ip, bits)| IpNet::new(ip.into(), bits).unwrap());
    let v6 = (any::<[u8; 16]>(), 0..=128_u8).prop_map(|(ip, bits)| IpNet::new(ip.into(), bits).unwrap());
    prop_oneof![v4, v6].prop_map(|net| net.trunc())
}

prop_compose! {
    fn valid()(
        idle in IDLE_MIN.as_secs()..=IDLE_MAX.as_secs(),
        wait: bool,
        healthy in proptest::option::of(HEALTHY_TARGETS),
        deadline in 1..=IDLE_MAX.as_secs(),
        busy_network in proptest::option::of(BUSY_BYTES),
        busy_cpu in proptest::option::of(BUSY_PERCENT),
        hibernate: bool,
        dry_run: bool,
        allow in proptest::collection::btree_set(network(), 0..4),
        paths in proptest::collection::btree_set("(/[a-z0-9_:=+@-]{1,8}){1,3}/?", 0..4),
        wakes: usize,
        confirm: bool,
        wakes_per_day in proptest::option::of(DAILY_WAKES),
    ) -> Policy {
        Policy {
            idle: Duration::from_secs(idle),
            hold: if wait { Hold::Wait } else { Hold::Page },
            healthy: healthy.map_or(Needed::All, Needed::AtLeast),
            deadline: Duration::from_secs(deadline),
            busy_network,
            busy_cpu,
            stop: if hibernate { StopKind::Hibernate } else { StopKind::Stop },
            dry_run,
            allow: allow.into_iter().map(unmapped).collect(),
            wake_paths: paths.iter().take(wakes % 4).filter_map(|text| PathPrefix::new(text)).collect(),
            never_wake_paths: paths.iter().skip(wakes % 4).filter_map(|text| PathPrefix::new(text)).collect(),
            confirm,
            wakes_per_day,
            settle: SETTLE,
            metrics_delay: METRICS_DELAY,
        metrics_period: crate::domain::activity::MINUTE,
        describe_delay: crate::domain::record::DESCRIBE_IS_STALE_FOR,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(valid in valid()) {
        prop_assert_eq!(policy(&written(&valid), SETTLE, IDLE_MIN), (valid, Vec::new()));
    }

    #[test]
    fn any_text_is_read_or_named(known in proptest::collection::btree_map(proptest::sample::select(&ALL[..]), ".*", 0..6),
                                 odd in proptest::collection::btree_map("(?i:autostopping:).*|.*", ".*", 0..4)) {
        let mut tags: BTreeMap<String, String> = known.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        tags.extend(odd);
        let (policy, problems) = policy(&tags, SETTLE, IDLE_MIN);
        prop_assert!((IDLE_MIN..=IDLE_MAX).contains(&policy.idle));
        let of_a_tag = |problem: &Problem| {
            matches!(problem, Problem::UnreadableTag { .. } | Problem::UnknownTag { .. } | Problem::UnsupportedTag { .. })
        };
        prop_assert!(problems.iter().all(of_a_tag));
        let half = tags.len() / 2;
        let routes = vec![
            (RouteId("a".to_owned()), tags.clone().into_iter().take(half).collect()),
            (RouteId("b".to_owned()), tags.clone().into_iter().skip(half).collect()),
        ];
        let (merged, contradictions) = merge(routes);
        prop_assert_eq!(contradictions, Vec::new());
        prop_assert_eq!(super::policy(&merged, SETTLE, IDLE_MIN), (policy, problems));
    }
}
