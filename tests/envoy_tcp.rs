//! TCP through a real Envoy: a connection to a rule that is asleep waits for it, and is told from one that must not wake it.
#![cfg(feature = "proxy")]

mod proxy_support;

use std::net::Ipv4Addr;

use proxy_support::names::Names;
use proxy_support::*;
use proxymanager::domain::rule::{RuleName, Side};
use proxymanager::gateway::envoy::{AccessKind, Host, HttpListener, NotAcked, Ring, admin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

fn ring(rule: &str, generation: u64) -> Ring {
    Ring {
        rule: RuleName(rule.to_owned()),
        generation,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_waits_and_each_generation_rings_once() {
    let (port, machine) = (port(), greeter().await);
    let mut shop = rule("shop/a@b c", 7, Side::Waker);
    shop.tcp = vec![tcp(&port, machine)];
    let mut rig = Rig::new(&rules(&[shop.clone()])).await;

    let mut first = connect(port.at).await;
    assert_eq!(rig.ring().await, ring("shop/a@b c", 7));
    shop.side = Side::Backend;
    rig.publish(&rules(&[shop.clone()])).await;
    // The machine speaks first.
    expect(&mut first, b"hello\n").await;
    echo(&mut first, "one").await;

    // Asleep again: what is open stays open, and the next one rings at the new generation.
    shop.side = Side::Waker;
    shop.generation = 8;
    rig.publish(&rules(&[shop.clone()])).await;
    echo(&mut first, "two").await;
    let mut second = connect(port.at).await;
    assert_eq!(rig.ring().await, ring("shop/a@b c", 8));

    // Given up: who waited is let go, and the one after rings anew.
    shop.generation = 9;
    rig.publish(&rules(&[shop.clone()])).await;
    closed(&mut second).await;
    let mut third = connect(port.at).await;
    assert_eq!(rig.ring().await, ring("shop/a@b c", 9));
    shop.side = Side::Backend;
    rig.publish(&rules(&[shop.clone()])).await;
    expect(&mut third, b"hello\n").await;
    echo(&mut first, "three").await;
    assert!(rig.signals.rings.try_recv().is_err(), "nobody else has rung");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_started_anew_tells_nothing_new_and_finds_who_waits() {
    let (awake_port, asleep_port, machine) = (port(), port(), greeter().await);
    let mut awake = rule("awake", 1, Side::Backend);
    awake.tcp = vec![tcp(&awake_port, machine)];
    let mut asleep = rule("asleep", 4, Side::Waker);
    asleep.tcp = vec![tcp(&asleep_port, machine)];
    // One generation earlier, so that Envoy knows a name that is no longer current.
    let mut before = asleep.clone();
    before.generation = 3;
    let mut rig = Rig::new(&rules(&[awake.clone(), before])).await;
    let mut old = connect(asleep_port.at).await;
    assert_eq!(rig.ring().await, ring("asleep", 3));
    let view = rules(&[awake.clone(), asleep.clone()]);
    rig.publish(&view).await;
    closed(&mut old).await;

    let mut open = connect(awake_port.at).await;
    expect(&mut open, b"hello\n").await;
    let mut waiting = connect(asleep_port.at).await;
    assert_eq!(rig.ring().await, ring("asleep", 4));
    let names = [
        "listener_manager.lds.update_success",
        "cluster_manager.cds.update_success",
    ];
    let told = [rig.counter(names[0]).await, rig.counter(names[1]).await];
    assert!(told.iter().all(|count| *count > 0), "{told:?}");

    let version = rig.restart(&view).await;
    within("Envoy agrees", rig.plane.acked(version))
        .await
        .expect("nothing is refused");
    assert_eq!([rig.counter(names[0]).await, rig.counter(names[1]).await], told);
    assert_eq!(rig.ring().await, ring("asleep", 4), "who waits is heard again");
    assert!(rig.signals.rings.try_recv().is_err(), "an old generation wakes nobody");
    echo(&mut open, "still here").await;

    asleep.side = Side::Backend;
    rig.publish(&rules(&[awake, asleep])).await;
    expect(&mut waiting, b"hello\n").await;
    echo(&mut open, "and still").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_connect_is_closed_and_rings_no_bell() {
    let (port, other, machine) = (port(), port(), greeter().await);
    let mut guarded = rule("guarded", 1, Side::Waker);
    guarded.tcp = vec![tcp(&port, machine)];
    guarded.tcp[0].allow = vec![
        "10.0.0.0/8".parse().expect("a range"),
        "127.0.0.2/32".parse().expect("a range"),
    ];
    let mut bell = rule("bell", 1, Side::Waker);
    bell.tcp = vec![tcp(&other, machine)];
    let mut rig = Rig::new(&rules(&[guarded, bell])).await;

    closed(&mut connect(port.at).await).await;
    // It comes after the other, so that a ring of the other would have been first.
    let _waits = connect(other.at).await;
    assert_eq!(rig.ring().await, ring("bell", 1));
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket
        .bind((Ipv4Addr::new(127, 0, 0, 2), 0).into())
        .expect("an address");
    let _allowed = socket.connect(port.at).await.expect("connected");
    assert_eq!(rig.ring().await, ring("guarded", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_connection_is_in_progress_also_after_its_cluster_has_gone() {
    let (port, machine) = (port(), greeter().await);
    let mut shop = rule("shop.eu:1%", 1, Side::Backend);
    shop.tcp = vec![tcp(&port, machine)];
    let mut rig = Rig::new(&rules(&[shop.clone()])).await;
    let mut quiet = connect(port.at).await;
    expect(&mut quiet, b"hello\n").await;

    let in_progress = |rig: &Rig| {
        let loads = rig.plane.loads();
        let last = loads.rules.get(&shop.name).and_then(|loads| loads.last()).copied();
        let covered = loads.covered.last().copied();
        last.zip(covered)
            .is_some_and(|(load, covered)| load.in_progress == 1 && load.to == covered.to)
    };
    until("the load reports name it", async || in_progress(&rig)).await;
    // Another machine is another address, not another cluster: it is still counted.
    let mut other = shop.clone();
    other.endpoints[0].weight = 2;
    rig.publish(&rules(&[other])).await;
    let count = rig.plane.loads().covered.last().map(|covered| covered.to);
    until("a report later", async || {
        let loads = rig.plane.loads();
        loads.covered.last().map(|covered| covered.to) > count && in_progress(&rig)
    })
    .await;
    assert_eq!(rig.plane.loads().covered.len(), 1, "without a gap");
    assert_eq!(
        admin::active(&rig.admin()).await.expect("counts").get(&shop.name),
        Some(&1)
    );

    // Asleep, no load report counts it any more, but Envoy itself still does.
    let mut asleep = shop.clone();
    asleep.side = Side::Waker;
    asleep.generation = 2;
    rig.publish(&rules(&[asleep])).await;
    assert_eq!(
        admin::active(&rig.admin()).await.expect("counts").get(&shop.name),
        Some(&1)
    );
    drop(quiet);
    until("it has gone", async || {
        admin::active(&rig.admin()).await.expect("counts").is_empty()
    })
    .await;

    let mut kinds = Vec::new();
    while !kinds.contains(&AccessKind::Ended) {
        let access = within("an access", rig.signals.accesses.recv())
            .await
            .expect("the plane lives");
        assert_eq!(access.rule.as_ref(), Some(&shop.name));
        assert_eq!(access.source, Some(Ipv4Addr::LOCALHOST.into()));
        kinds.push(access.kind);
    }
    assert_eq!(kinds, [AccessKind::Started, AccessKind::Connected, AccessKind::Ended]);
}

/// Red when the cluster was taken away as soon as nothing led there, and its last report with it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_just_before_a_flip_is_reported() {
    let (port, machine) = (port(), greeter().await);
    let mut shop = rule("shop", 1, Side::Backend);
    shop.tcp = vec![tcp(&port, machine)];
    let rig = Rig::new(&rules(&[shop.clone()])).await;
    let issued = |rig: &Rig| {
        let loads = rig.plane.loads();
        let all = loads.rules.get(&shop.name).into_iter().flatten();
        all.map(|load| load.issued).sum::<u64>()
    };
    // After the first report the cluster is known to be counted.
    let mut first = connect(port.at).await;
    expect(&mut first, b"hello\n").await;
    until("the first is reported", async || {
        rig.plane.loads().rules.contains_key(&shop.name)
    })
    .await;
    let before = issued(&rig);
    let mut last = connect(port.at).await;
    expect(&mut last, b"hello\n").await;
    drop(last);
    let mut asleep = shop.clone();
    asleep.side = Side::Waker;
    asleep.generation = 2;
    rig.publish(&rules(&[asleep])).await;
    until("the last is reported", async || issued(&rig) > before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_envoy_is_turned_away_and_the_first_goes_on() {
    let (port, machine) = (port(), greeter().await);
    let mut shop = rule("shop", 1, Side::Backend);
    shop.tcp = vec![tcp(&port, machine)];
    let mut rig = Rig::new(&rules(&[shop.clone()])).await;
    let mut open = connect(port.at).await;
    expect(&mut open, b"hello\n").await;
    let second = rig.another_envoy().await;
    until("it is turned away", async || rig.plane.turned_away().is_some()).await;
    let here = rig.envoy.id().expect("it runs");
    let why = rig.plane.turned_away().expect("still");
    assert!(why.contains(&format!("process {here}")), "{why}");
    // Nobody knows which of the two is in use.
    let covered = rig.plane.loads().covered;
    shop.side = Side::Waker;
    shop.generation = 2;
    rig.publish(&rules(&[shop])).await;
    let _waits = connect(port.at).await;
    assert_eq!(rig.ring().await, ring("shop", 2));
    echo(&mut open, "still here").await;
    assert_eq!(rig.plane.loads().covered, covered);
    second.stop().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_refused_in_envoys_words_and_harms_no_other_rule() {
    let (good_port, machine) = (port(), greeter().await);
    let taken = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let mut good = rule("good", 1, Side::Backend);
    good.tcp = vec![tcp(&good_port, machine)];
    let mut rig = Rig::new(&rules(&[good.clone()])).await;
    let mut bad = rule("bad", 1, Side::Waker);
    bad.tcp = vec![tcp(&good_port, machine)];
    bad.tcp[0].listen = taken.local_addr().expect("an address");
    let another = port();
    let mut fine = rule("fine", 1, Side::Waker);
    fine.tcp = vec![tcp(&another, machine)];
    good.side = Side::Waker;
    good.generation = 2;

    let version = rig.plane.publish(&rules(&[bad.clone(), good.clone(), fine]));
    let answer = within("an answer", rig.plane.acked(version)).await;
    let Err(NotAcked::Rejected(rejections)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(rejections.len(), 1);
    assert_eq!(rejections[0].rule, Some(RuleName("bad".to_owned())));
    assert!(
        rejections[0].words.contains("Address already in use"),
        "{}",
        rejections[0].words
    );
    let good_one = within("an answer", rig.plane.settled_for(&good.name)).await;
    good_one.expect("not this one's problem");
    let _waits = connect(good_port.at).await;
    assert_eq!(rig.ring().await, ring("good", 2));
    let _waits = connect(another.at).await;
    assert_eq!(rig.ring().await, ring("fine", 1));

    // Whoever had the port ends, and nobody says so.
    let at = bad.tcp[0].listen;
    drop(taken);
    until("it is told again", async || rig.plane.rejections().is_empty()).await;
    let _waits = connect(at).await;
    assert_eq!(rig.ring().await, ring("bad", 1));
}

/// Red when what is gone was told after what is new: Envoy refuses a second listener at one address.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_goes_from_one_rule_to_another() {
    let (port, machine) = (port(), greeter().await);
    let mut old = rule("old", 1, Side::Waker);
    old.tcp = vec![tcp(&port, machine)];
    let mut new = rule("new", 1, Side::Waker);
    new.tcp = vec![tcp(&port, machine)];
    let mut rig = Rig::new(&rules(&[old])).await;
    rig.publish(&rules(&[new])).await;
    let _waits = connect(port.at).await;
    assert_eq!(rig.ring().await, ring("new", 1));
}

/// Red when the refusal of what all share failed each rule's switch.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_port_that_is_taken_is_no_concern_of_a_rule_without_it() {
    let (port, machine) = (port(), greeter().await);
    let taken = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let taken = taken.expect("a port");
    let mut shop = rule("shop", 1, Side::Waker);
    shop.tcp = vec![tcp(&port, machine)];
    let rig = Rig::new(&rules(&[shop.clone()])).await;
    shop.side = Side::Backend;
    let mut view = rules(&[shop.clone()]);
    view.edge.listeners = vec![HttpListener {
        name: "taken".to_owned(),
        address: taken.local_addr().expect("an address"),
        tls: false,
        redirect_to_https: None,
        trusted_hops: 0,
    }];
    let version = rig.plane.publish(&view);
    let answer = within("an answer", rig.plane.acked(version)).await;
    assert!(matches!(answer, Err(NotAcked::Rejected(_))), "{answer:?}");
    let answer = within("an answer", rig.plane.settled_for(&shop.name)).await;
    answer.expect("not this one's problem");
    expect(&mut connect(port.at).await, b"hello\n").await;
}

/// Load reports count what is open at the addresses of today alone (seen with strict and with logical DNS).
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_counted_also_after_the_name_has_another_address() {
    let port = port();
    let first = machine_at([127, 0, 0, 1], 0, b"first\n").await;
    machine_at([127, 0, 0, 2], first.port(), b"second\n").await;
    let names = Names::new([127, 0, 0, 1]).await;
    let mut orders = rule("orders", 1, Side::Backend);
    orders.tcp = vec![tcp(&port, first)];
    orders.endpoints[0].host = Host::Name("orders.test".to_owned());
    let rig = Rig::with_names(&rules(&[orders.clone()]), &names).await;
    let mut quiet = connect(port.at).await;
    expect(&mut quiet, b"first\n").await;
    names.change([127, 0, 0, 2]);
    until("the other address is in use", async || {
        let mut news = [0; 6];
        connect(port.at).await.read_exact(&mut news).await.is_ok() && news == *b"second"
    })
    .await;
    let active = async || admin::active(&rig.admin()).await.expect("counts");
    until("only the quiet one is left", async || {
        active().await.get(&orders.name) == Some(&1)
    })
    .await;
    drop(quiet);
    until("none is left", async || active().await.is_empty()).await;
}

/// Red without retries: one that has just come up may refuse once more.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_refuses_is_tried_again_before_the_client_is_told() {
    let (way, site, dead) = (port(), port(), port());
    let mut shop = rule("shop", 1, Side::Backend);
    shop.tcp = vec![tcp(&way, dead.at)];
    shop.http = vec![http("web", "*", dead.at)];
    let mut view = rules(&[shop]);
    view.edge.listeners = vec![HttpListener {
        name: "web".to_owned(),
        address: site.at,
        tls: false,
        redirect_to_https: None,
        trusted_hops: 0,
    }];
    let rig = Rig::new(&view).await;
    closed(&mut connect(way.at).await).await;
    assert_eq!(proxy_support::web::get(site.at, "shop", "/").await.status(), 503);
    let told = rig.admin_says("/stats?filter=upstream_cx_connect_fail$").await;
    let refused = told.lines().filter_map(|line| line.rsplit_once(": "));
    let refused: Vec<(&str, u64)> = refused
        .filter_map(|(name, count)| Some((name, count.parse().ok()?)))
        .collect();
    for cluster in ["tcp-", "http-"] {
        let count = refused
            .iter()
            .find(|(name, _)| name.contains(cluster))
            .map(|(_, count)| *count);
        assert!(count.is_some_and(|count| count > 2), "{cluster}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_wait_and_are_served() {
    let (port, machine) = (port(), greeter().await);
    let mut shop = rule("shop", 1, Side::Waker);
    shop.tcp = vec![tcp(&port, machine)];
    shop.endpoints[0].host = Host::Name("localhost".to_owned());
    let mut rig = Rig::new(&rules(&[shop.clone()])).await;
    let mut waiting = Vec::new();
    for _ in 0..300 {
        let mut stream = connect(port.at).await;
        stream.write_all(b"early").await.expect("written");
        waiting.push(stream);
    }
    assert_eq!(rig.ring().await, ring("shop", 1));
    shop.side = Side::Backend;
    rig.publish(&rules(&[shop])).await;
    let mut served = JoinSet::new();
    for mut stream in waiting {
        served.spawn(async move {
            expect(&mut stream, b"hello\nearly").await;
            echo(&mut stream, "late").await;
        });
    }
    served.join_all().await;
    assert!(rig.signals.rings.try_recv().is_err(), "one ring for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_is_missing_strange_or_too_old_is_named() {
    use proxymanager::gateway::envoy::process::{NoEnvoy, version};
    use std::os::unix::fs::PermissionsExt;

    let ours = version(&program()).await.expect("the one of the tests");
    let rig = Rig::new(&rules(&[])).await;
    assert_eq!(rig.plane.envoy_version(), Some(ours), "Envoy says the same of itself");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("envoy");
    let missing = version(&path).await.expect_err("not there");
    assert!(matches!(missing, NoEnvoy::Missing { .. }), "{missing}");
    for (says, words) in [
        (
            "envoy  version: 0123/1.19.5/Clean/RELEASE/BoringSSL",
            "is Envoy 1.19.5;",
        ),
        ("", "does not say"),
    ] {
        std::fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a program");
        let error = version(&path).await.expect_err("no good").to_string();
        assert!(error.contains(words) && error.contains("1.37 or later"), "{error}");
    }
}
