//! When a machine is stopped, and above all when it is not: one test for each promise, judged by what was true.
//!
//! Seen red: with the load of machines ignored, with missing points taken for none, without the proof in settling, with
//! `keep_awake_until` ignored, with a refused question taken for no use, with half of `idle`, with requests not counted,
//! without other rules' claims, without the other ways read before a stop, with loose parked rules left alone, with the time
//! begun anew by a reload.

mod days;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use days::account::Shipped;
use days::cloud::Kind;
use days::hands::{rewrite, set_idle};
use days::people;
use days::scene::Scene;
use days::time::{DAY, HOUR, MINUTE, Moment, SECOND, stamp};
use proxymanager::config::environment::{LedgerChoice, Settings};
use proxymanager::domain::phase::Phase;
use proxymanager::domain::rule::GroupId;
use proxymanager::domain::seen::Wanted;
use proxymanager::function::Function;
use proxymanager::local::world::{HealthCheck, NewRule, TargetKind};
use serde_json::{Value, json};

/// Of every site here.
const IDLE: Moment = 15 * MINUTE;
/// From the last use to a machine at rest: `idle`, metrics, five-minute points, settling, proof, the stop itself.
const ASLEEP_WITHIN: Moment = IDLE + 30 * MINUTE;

/// Awake, adopted and asked for once.
fn used() -> Scene {
    let mut scene = Scene::awake(1).ticking();
    scene.wait(5 * MINUTE);
    assert!(scene.request(0, 0), "the site answers");
    scene
}

fn phase(scene: &Scene, site: usize) -> Phase {
    let record = scene.account.ledger.record(&format!("site-{site}"));
    record.expect("it was looked at").snapshot.phase
}

#[test]
fn not_with_a_connection_open_that_sends_requests() {
    let mut scene = used();
    for _ in 0..30 {
        scene.wait(IDLE - SECOND);
        assert!(scene.request(0, 0), "the session goes on");
    }
    assert_eq!(scene.stops(), 0);
    scene.until("sleep after the session", ASLEEP_WITHIN, |scene| scene.sleeps(0));
}

#[test]
fn not_with_a_connection_open_that_network_shows() {
    let mut scene = used();
    set_idle(&scene.account, 0, 30 * MINUTE);
    let machine = scene.account.cloud().sites[0].machines[0].clone();
    for _ in 0..6 * 60 {
        let now = scene.account.now();
        scene.account.cloud().meters.bytes(now, &machine, 200_000);
        scene.wait(MINUTE);
    }
    assert_eq!(scene.stops(), 0);
    assert!(!scene.on_waker(0), "nobody was sent to the page either");
    scene.until("sleep after the session", ASLEEP_WITHIN, |scene| scene.sleeps(0));
}

#[test]
fn not_before_the_time_that_an_operator_keeps_it_awake_for() {
    let mut scene = used();
    let (account, until) = (Arc::clone(&scene.account), scene.account.now() + 6 * HOUR);
    assert!(scene.block_on(async move { people::keep_awake(&account, 0, until).await }));
    scene.until("sleep at some time", DAY, |scene| scene.on_waker(0));
    assert!(scene.account.now() >= until);
    scene.until("rest after that", ASLEEP_WITHIN, |scene| scene.sleeps(0));
}

#[test]
fn a_silent_connection_is_cut_and_nobody_is_told_otherwise() {
    let mut scene = used();
    scene.account.cloud().sites[0].open.insert(1, Kind::Silent);
    scene.until("sleep all the same", ASLEEP_WITHIN, |scene| scene.sleeps(0));
    assert_eq!(scene.account.cloud().told.silent_cut, 1);
}

#[test]
fn not_when_recently_active() {
    for second in [0, 1, 29, 59] {
        let mut scene = used();
        scene.wait(IDLE - 2 * MINUTE + second * SECOND);
        assert!(scene.request(0, 0));
        let awake_for = scene.until("sleep after the last request", ASLEEP_WITHIN, |scene| scene.on_waker(0));
        assert!(awake_for >= IDLE, "{second}: {awake_for}");
        let late = awake_for - IDLE;
        assert!(late <= 10 * MINUTE, "{second}: the bill goes on for {late} ms");
    }
}

#[test]
fn a_request_after_the_decision_is_never_left_with_a_stopped_machine() {
    // Between the last minute that was counted and the flip, the metrics cannot tell yet.
    for second in (0..180).step_by(13) {
        let mut scene = used();
        scene.wait(IDLE + second * SECOND);
        let served = scene.request(0, 0);
        let asked_at = scene.account.now();
        if served {
            scene.until("sleep", 2 * ASLEEP_WITHIN, |scene| !scene.runs(0));
            assert!(
                scene.account.now() - asked_at >= IDLE,
                "{second}: stopped though used just now"
            );
        }
    }
}

#[test]
fn not_below_the_minimum_uptime() {
    let mut scene = Scene::stopped(1, 1).ticking();
    scene.wait(DAY);
    assert!(scene.sleeps(0), "adopted as it was found");
    scene.start(0);
    scene.until("wake", 10 * MINUTE, |scene| !scene.on_waker(0));
    let up_for = scene.until("sleep, as nobody comes", ASLEEP_WITHIN, |scene| scene.on_waker(0));
    assert!(up_for >= IDLE, "it was up for {up_for} ms");
}

#[test]
fn not_when_metrics_are_missing_for_a_day() {
    let mut scene = used();
    // The load of the machine is missing too, and would hide whether the missing requests are taken for none.
    tag(&scene, "off");
    let now = scene.account.now();
    scene.account.cloud().meters.outage(now, true);
    scene.wait(DAY);
    assert_eq!(scene.stops(), 0, "missing is not zero");
    assert!(!scene.on_waker(0));
    let now = scene.account.now();
    scene.account.cloud().meters.outage(now, false);
    let took = scene.until("the flip when they are back", ASLEEP_WITHIN, |scene| scene.on_waker(0));
    assert!(took >= IDLE, "what the outage hid may have been use until its end");
    scene.until("sleep", ASLEEP_WITHIN, |scene| scene.sleeps(0));
}

#[test]
fn not_when_the_monitoring_refuses_for_a_day() {
    let mut scene = used();
    scene.account.cloud().weather.denied = Some("cloudwatch:GetMetricData");
    scene.wait(DAY);
    assert_eq!(scene.stops(), 0);
    assert!(!scene.on_waker(0));
    let record = scene.account.ledger.record("site-0").expect("it was looked at");
    assert!(
        record.kept_by.is_some_and(|why| why.contains("GetMetricData")),
        "and says why"
    );
    scene.account.cloud().weather.denied = None;
    scene.until("sleep when it answers", 30 * MINUTE, |scene| scene.sleeps(0));
}

#[test]
fn not_when_metrics_fail_between_the_decision_and_the_stop() {
    let mut scene = used();
    scene.until("the flip", ASLEEP_WITHIN, |scene| scene.on_waker(0));
    let now = scene.account.now();
    scene.account.cloud().meters.outage(now, true);
    scene.wait(DAY);
    assert_eq!(scene.stops(), 0, "what settles is stopped on proof only");
    let now = scene.account.now();
    scene.account.cloud().meters.outage(now, false);
    // What is lost may have been use: it is awake once more, and then idle.
    scene.until("sleep when they are back", HOUR, |scene| scene.sleeps(0));
}

/// Somebody changes how much traffic counts as use.
fn tag(scene: &Scene, busy_network: &str) {
    let now = scene.account.now();
    let mut cloud = scene.account.cloud();
    let route = cloud.sites[0].routes[0].clone();
    let tags = [("autostopping:busy-network".to_owned(), busy_network.to_owned())].into();
    cloud.world.add_elb_tags(&route, &tags).expect("a route has tags");
    cloud.rules_changed(now);
}

#[test]
fn a_reload_of_the_configuration_stops_nobody() {
    let mut scene = used();
    for round in 0..60_usize {
        tag(&scene, &(200_000 + round).to_string());
        set_idle(&scene.account, 0, [15, 20, 30][round % 3] * MINUTE);
        scene.wait(IDLE - MINUTE);
        assert!(scene.request(0, 0), "the session goes on");
    }
    assert_eq!(scene.stops(), 0);
}

#[test]
fn a_reload_of_the_configuration_never_begins_the_time_anew() {
    let mut scene = used();
    let mut round = 0;
    let begun = scene.account.now();
    while !scene.on_waker(0) {
        assert!(scene.account.now() - begun < ASLEEP_WITHIN, "kept awake by reloads");
        round += 1;
        tag(&scene, &(200_000 + round).to_string());
        scene.wait(2 * MINUTE);
    }
    assert!(scene.account.now() - begun >= IDLE);
}

#[test]
fn a_rule_that_is_never_visited_sleeps() {
    let mut scene = Scene::awake(1).ticking();
    scene.until("sleep", ASLEEP_WITHIN, |scene| scene.sleeps(0));
    scene.wait(DAY);
    assert!(scene.sleeps(0), "and goes on sleeping");
    assert_eq!(scene.stops(), 1);
}

fn opt_out(scene: &Scene) {
    let now = scene.account.now();
    let mut cloud = scene.account.cloud();
    let route = cloud.sites[0].routes[0].clone();
    let removed = cloud.world.remove_elb_tags(&route, &["autostopping:idle".to_owned()]);
    removed.expect("a route has tags");
    cloud.rules_changed(now);
}

#[test]
fn a_rule_no_longer_opted_in_is_not_stopped() {
    let mut scene = used();
    opt_out(&scene);
    scene.wait(6 * HOUR);
    assert_eq!(scene.stops(), 0);
    assert!(scene.request(0, 0));
}

#[test]
fn a_rule_no_longer_opted_in_while_it_settles_is_restored_and_not_stopped() {
    let mut scene = used();
    scene.until("the flip", ASLEEP_WITHIN, |scene| scene.on_waker(0));
    opt_out(&scene);
    scene.wait(6 * HOUR);
    assert_eq!(scene.stops(), 0);
    assert!(scene.request(0, 0), "its route is back");
    let cloud = scene.account.cloud();
    assert!(cloud.is_original(0, &cloud.sites[0].routes[0]));
    assert!(cloud.parked(&cloud.sites[0].routes[0]).is_empty());
}

#[test]
fn a_machine_of_two_rules_is_not_stopped() {
    let mut scene = Scene::awake(2).ticking();
    share(&scene);
    scene.wait(DAY);
    assert_eq!(scene.stops(), 0);
    for site in 0..2 {
        assert!(
            matches!(phase(&scene, site), Phase::Misconfigured(_)),
            "{:?}",
            phase(&scene, site)
        );
    }
}

#[test]
fn a_machine_that_becomes_anothers_while_its_rule_settles_is_not_stopped() {
    let mut scene = Scene::awake(2).ticking();
    scene.wait(10 * MINUTE);
    scene.until("the flip", ASLEEP_WITHIN, |scene| scene.on_waker(0));
    // The other one is in use.
    share(&scene);
    for _ in 0..60 {
        scene.request(1, 0);
        scene.wait(2 * MINUTE);
    }
    assert!(scene.runs(0));
}

/// The machine of the first site serves the second too.
fn share(scene: &Scene) {
    let now = stamp(scene.account.now());
    let mut cloud = scene.account.cloud();
    let (machine, group) = (cloud.sites[0].machines[0].clone(), cloud.sites[1].group.clone());
    cloud.world.enrol(now, &group, &[(machine, None)]).expect("a target");
    cloud.changes += 1;
}

#[test]
fn all_routes_of_a_rule_sleep_together() {
    let mut scene = Scene::stopped(1, 2).ticking();
    scene.start(0);
    scene.wait(5 * MINUTE);
    for _ in 0..20 {
        assert!(scene.request(0, 1), "in use by one route alone");
        scene.wait(IDLE - MINUTE);
    }
    assert_eq!(scene.routes_on_waker(0), [false, false]);
    scene.until("stop", ASLEEP_WITHIN, |scene| !scene.runs(0));
    assert_eq!(scene.routes_on_waker(0), [true, true], "both before the stop");
}

/// An unmanaged listener rule leads to the first site's machine through a group of its own.
fn second_way(scene: &Scene) {
    let now = scene.account.now();
    let mut cloud = scene.account.cloud();
    let check = HealthCheck::default();
    let made = cloud
        .world
        .create_target_group("backdoor", TargetKind::Instance, "HTTP", 80, check);
    let (group, machine) = (made.expect("a group"), cloud.sites[0].machines[0].clone());
    cloud
        .world
        .enrol(stamp(now), &group, &[(machine, None)])
        .expect("a target");
    let new = NewRule {
        priority: 900,
        conditions: vec![json!({ "Field": "host-header", "Values": ["backdoor.example.com"] })],
        actions: vec![json!({ "Type": "forward", "TargetGroupArn": group })],
        ..NewRule::default()
    };
    let listener = cloud.sites[0].listener.clone();
    cloud.world.create_rule(stamp(now), &listener, new).expect("a rule");
    cloud.rules_changed(now);
}

#[test]
fn a_machine_reachable_in_a_second_way_is_never_stopped() {
    let scene = Scene::awake(1);
    second_way(&scene);
    let mut scene = scene.ticking();
    scene.wait(DAY);
    assert_eq!(scene.stops(), 0);
    assert!(
        matches!(phase(&scene, 0), Phase::Misconfigured(_)),
        "{:?}",
        phase(&scene, 0)
    );
}

#[test]
fn a_second_way_that_appears_while_it_settles_is_seen_before_the_stop() {
    let mut scene = used();
    scene.until("the flip", ASLEEP_WITHIN, |scene| scene.on_waker(0));
    second_way(&scene);
    scene.wait(6 * HOUR);
    assert_eq!(scene.stops(), 0);
}

#[test]
fn a_command_to_sleep_is_obeyed_and_one_to_wake_too() {
    let mut scene = used();
    let account = Arc::clone(&scene.account);
    scene.block_on(async move { account.command(0, Wanted::Asleep).await });
    scene.until("sleep", 15 * MINUTE, |scene| scene.sleeps(0));
    let account = Arc::clone(&scene.account);
    scene.block_on(async move { account.command(0, Wanted::Awake).await });
    scene.until("wake", 10 * MINUTE, |scene| scene.request(0, 0));
}

fn configured(scene: &Scene) -> (Shipped, Settings) {
    let driver = scene.driver();
    let wakers = vec![GroupId(scene.account.cloud().waker.clone())];
    let settings = Settings {
        branding: proxymanager::config::branding::Branding::NONE,
        metrics: proxymanager::config::environment::MetricsChoice::Off,
        listeners: vec![scene.account.cloud().listeners[0].0.clone()],
        ledger: LedgerChoice::Memory,
        wakers,
        hold_limit: Duration::from_secs(20),
        max_held: 50,
        settle: driver.settings.settle,
        metrics_delay: driver.settings.metrics_delay,
        idle_min: driver.settings.idle_min,
        log: "info".to_owned(),
    };
    (driver, settings)
}

/// Red when a page that asks again was a look of its own behind the proxy: the client left, and its lease kept the rule's task
/// from the rule.
#[test]
fn who_only_answers_writes_nothing_for_a_page_that_asks_again() {
    let mut scene = Scene::stopped(1, 1);
    let event = json!({
        "requestContext": { "elb": { "targetGroupArn": scene.account.cloud().waker.clone() } },
        "httpMethod": "GET",
        "path": "/",
        "multiValueHeaders": {
            "host": ["site-0-0.example.com"],
            "accept": ["application/vnd.autostopping+json"],
            "x-forwarded-for": ["192.0.2.7"],
            "x-forwarded-port": ["80"],
        },
        "body": "",
        "isBase64Encoded": false,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let [first, second, third] = [(); 3].map(|()| Ok(configured(&scene)));
    let mut writes = |function: Function<_, _, _, _, _>| {
        // Whatever is known is known no more.
        scene.wait(HOUR);
        scene.account.ledger.forget_counts();
        let answer = runtime.block_on(function.handle(&event));
        let status = answer.expect("a visitor gets an answer")["statusCode"].as_u64();
        (status, scene.account.ledger.counts().contains_key("ledger:store"))
    };
    let (status, stored) = writes(Function::new(first));
    assert!(stored, "{status:?}");
    assert_eq!(writes(Function::that_only_answers(second)), (status, false));
    assert_eq!(writes(Function::new(third)), (status, true));
}

#[test]
fn the_event_of_a_strangers_machine_costs_one_read() {
    let mut scene = used();
    let stranger = "i-0fffffffffffffff0".to_owned();
    let own = scene.account.cloud().sites[0].machines[0].clone();
    let function = Arc::new(Function::new(Ok(configured(&scene))));
    let mut tell = |machine: String| -> BTreeMap<&'static str, u64> {
        scene.account.ledger.forget_counts();
        scene.account.cloud().counts.clear();
        let event: Value = json!({
            "source": "aws.ec2",
            "detail-type": "EC2 Instance State-change Notification",
            "detail": { "instance-id": machine, "state": "running" },
        });
        let function = Arc::clone(&function);
        let told = scene.block_on(async move { function.handle(&event).await.map_err(|error| error.to_string()) });
        told.expect("such an event is known");
        let aws = scene.account.cloud().counts.clone();
        aws.into_iter().chain(scene.account.ledger.counts()).collect()
    };
    assert_eq!(tell(stranger), [("ledger:claimants", 1)].into());
    assert!(tell(own).len() > 1, "one of ours is looked at");
}

#[test]
fn a_rule_at_rest_is_not_started_by_what_its_metrics_lacked_meanwhile() {
    let mut scene = used();
    scene.until("sleep", ASLEEP_WITHIN, |scene| scene.sleeps(0));
    for is in [true, false] {
        let now = scene.account.now();
        scene.account.cloud().meters.outage(now, is);
        scene.wait(HOUR);
    }
    let starts = scene.account.cloud().told.starts;
    rewrite(&scene.account, 0);
    scene.wait(DAY);
    assert!(scene.sleeps(0), "its route leads to the waker again");
    assert_eq!(scene.account.cloud().told.starts, starts, "a Tick never wakes");
}
