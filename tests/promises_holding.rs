//! What is promised to those who wait in front of a sleeping site.
//!
//! Seen red: without the limit on those who are held.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::time::Duration;

use local_support::{
    Answer, Connection, HOST,
    story::{self, action, asleep, calls_of, power, site, starts, tag},
    until,
    visitor::{Kind, Seen, Visitor},
};
use proxymanager::local::Cloud;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

async fn program(cloud: &Cloud) -> Answer {
    Connection::open(cloud.address).await.get("/").await
}

fn env(key: &str, value: &str) -> Vec<(String, String)> {
    vec![(key.to_owned(), value.to_owned())]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_first_requests_start_once() {
    let cloud = asleep(|_| {}).await;
    let give_up = Instant::now() + Duration::from_secs(60);
    let mut clients = JoinSet::new();
    for number in 0..30 {
        let kind = if number % 2 == 0 { Kind::Browser } else { Kind::Program };
        let mut visitor = Visitor::new(kind, cloud.address, HOST, "/", number);
        clients.spawn(async move { (visitor.arrive(give_up).await, visitor.story()) });
    }
    for (arrived, story) in clients.join_all().await {
        assert!(arrived, "{story}");
    }
    assert_eq!((starts(&cloud), calls_of(&cloud, "StartInstances")), (1, 1));
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_start_is_told_once_and_can_be_retried() {
    let cloud = asleep(|_| {}).await;
    cloud.shared.world().faults.no_capacity = true;
    let first = program(&cloud).await;
    let told = Instant::now();
    assert_eq!(
        (first.status, first.header("x-autostopping-phase")),
        (503, Some("failed"))
    );
    let reason = first.json()["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("capacity"), "{reason}");
    let asked = calls_of(&cloud, "StartInstances");
    for _ in 0..10 {
        assert_eq!(
            program(&cloud).await.json()["reason"],
            *reason,
            "everybody hears of the same failure"
        );
    }
    assert_eq!(
        calls_of(&cloud, "StartInstances"),
        asked,
        "nobody's question is another try"
    );
    assert_eq!(story::events(&cloud, "failed"), 1, "the history has it once");
    cloud.shared.world().faults.no_capacity = false;
    let after = first
        .header("retry-after")
        .and_then(|after| after.parse().ok())
        .expect("whole seconds");
    sleep_until(told + Duration::from_secs(after)).await;
    let mut visitor = Visitor::new(Kind::Program, cloud.address, HOST, "/", 1);
    assert!(
        visitor.arrive(Instant::now() + Duration::from_secs(30)).await,
        "{}",
        visitor.story()
    );
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_does_not_cancel_the_start() {
    let cloud = asleep(|config| config.boot = Duration::from_secs(2)).await;
    tag(&cloud, "autostopping:hold", "wait");
    let mut connection = Connection::open(cloud.address).await;
    connection
        .send(&format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
        .await;
    until("the function is at work", || cloud.shared.lambda.figures().busy > 0).await;
    drop(connection);
    until("the route leads to the machine", || {
        action(&cloud) == site(&cloud).action
    })
    .await;
    assert_eq!(starts(&cloud), 1);
    cloud.stop().await;
}

/// 30 s is the shortest time-out that is common (Heroku, Google's clients, many webhook senders wait no longer).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hold_limit_lies_below_the_clients_time_out() {
    let mut holds = JoinSet::new();
    for (limit, expected) in [(None, 20.0), (Some("3s"), 3.0)] {
        holds.spawn(async move {
            let cloud = asleep(|config| {
                config.boot = Duration::from_secs(60);
                config.env = limit.map_or_else(Vec::new, |limit| env("AUTOSTOPPING_HOLD_LIMIT", limit));
            })
            .await;
            tag(&cloud, "autostopping:hold", "wait");
            let begun = Instant::now();
            let answer = timeout(Duration::from_secs(30), program(&cloud))
                .await
                .expect("an answer in time");
            let took = begun.elapsed().as_secs_f64();
            assert!((expected..expected + 6.0).contains(&took), "{limit:?}: {took} s");
            assert_eq!(
                (answer.status, answer.header("x-autostopping-phase")),
                (503, Some("starting"))
            );
            assert!(answer.header("retry-after").is_some());
            cloud.stop().await;
        });
    }
    holds.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_held_requests_is_bounded() {
    const HELD: usize = 3;
    let cloud = asleep(|config| {
        config.boot = Duration::from_secs(8);
        config.env = env("AUTOSTOPPING_MAX_HELD", &HELD.to_string());
    })
    .await;
    tag(&cloud, "autostopping:hold", "wait");
    let mut clients = JoinSet::new();
    for _ in 0..5 * HELD {
        let address = cloud.address;
        clients.spawn(async move { Connection::open(address).await.get("/").await.status });
    }
    let statuses = clients.join_all().await;
    let held = statuses.iter().filter(|status| **status == 307).count();
    assert!((1..=HELD).contains(&held), "{statuses:?}");
    assert_eq!(
        statuses.iter().filter(|status| **status == 503).count(),
        5 * HELD - held,
        "{statuses:?}"
    );
    cloud.stop().await;
}

/// It is cold and slow, and the one who asked has given up long before anything answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_idle_first_request_always_starts() {
    for hold in ["page", "wait"] {
        let cloud = asleep(|_| {}).await;
        tag(&cloud, "autostopping:hold", hold);
        cloud.shared.world().faults.latency_ms = 400;
        let mut connection = Connection::open(cloud.address).await;
        connection
            .send(&format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
            .await;
        let patience = Duration::from_millis(500);
        assert!(
            timeout(patience, connection.answer()).await.is_err(),
            "the client has given up before"
        );
        drop(connection);
        until("the machine runs", || power(&cloud) == "running").await;
        cloud.stop().await;
    }
}

/// Beyond the function's places a request gets the load balancer's 502; those who ask again get in, and nobody is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_find_no_place_get_in_later() {
    let cloud = asleep(|config| config.concurrency = 1).await;
    tag(&cloud, "autostopping:hold", "wait");
    let give_up = Instant::now() + Duration::from_secs(90);
    let mut clients = JoinSet::new();
    for number in 0..6 {
        let mut visitor = Visitor::new(Kind::Program, cloud.address, HOST, "/", number);
        clients.spawn(async move {
            sleep(Duration::from_millis(50 * number)).await;
            (visitor.arrive(give_up).await, visitor)
        });
    }
    let mut turned_away = 0;
    for (arrived, visitor) in clients.join_all().await {
        assert!(arrived, "{}", visitor.story());
        turned_away += visitor.count("load", |seen| *seen == Seen::Bare(502));
    }
    assert!(turned_away > 0);
    cloud.stop().await;
}
