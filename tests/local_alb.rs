//! The load balancer's data plane, over real connections to a real program and a real function process.

#![cfg(feature = "local")]

mod local_support;

use std::time::Duration;

use local_support::{Answer, Connection, HOST, ask, awake, cloud, flip, get, health, healthy, start, until};
use proxymanager::local::{Cloud, world::HealthState};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn last_access(cloud: &Cloud) -> proxymanager::local::log::Access {
    cloud
        .shared
        .log
        .accesses()
        .pop()
        .expect("the request is in the access log")
}

fn forward(groups: &[(&str, u64)], sticky: bool) -> Value {
    let groups: Vec<Value> = groups
        .iter()
        .map(|(arn, weight)| json!({ "TargetGroupArn": arn, "Weight": weight }))
        .collect();
    json!({ "Type": "forward", "ForwardConfig": { "TargetGroups": groups,
        "TargetGroupStickinessConfig": { "Enabled": sticky, "DurationSeconds": 60 } } })
}

/// Paths the site has seen, itself asked over the load balancer.
fn seen(answer: &Answer, path: &str) -> usize {
    let seen = answer.json()["seen"].as_array().cloned().unwrap_or_default();
    seen.iter().filter(|entry| *entry == path).count()
}

#[tokio::test]
async fn a_kept_connection_works_across_the_flip_in_both_directions() {
    let cloud = cloud(|_| {}).await;
    let mut connection = Connection::open(cloud.address).await;
    let asleep = connection.get("/a").await;
    assert_eq!(asleep.header("x-waker"), Some("yes"));
    assert_eq!(last_access(&cloud).target, "lambda");
    start(&cloud);
    healthy(&cloud).await;
    let waker = cloud
        .shared
        .world()
        .require_rule(&cloud.seeded.sites[0].rule)
        .unwrap()
        .view()
        .actions
        .clone();
    flip(&cloud, &[cloud.seeded.sites[0].action.clone()]);
    let site = connection.get("/b?x=%26").await;
    assert_eq!((site.status, site.header("x-waker")), (200, None));
    assert_eq!(site.json()["path"], "/b?x=%26");
    assert_eq!(
        last_access(&cloud).target,
        format!("{}:80", cloud.seeded.sites[0].instance)
    );
    flip(&cloud, &waker);
    assert_eq!(connection.get("/c").await.header("x-waker"), Some("yes"));
    cloud.stop().await;
}

#[tokio::test]
async fn a_target_that_closes_or_resets_is_a_502_and_is_asked_once() {
    let cloud = awake(|_| {}).await;
    for path in ["/close", "/reset"] {
        let answer = get(&cloud, path).await;
        assert_eq!(answer.status, 502, "{path}");
        assert!(
            last_access(&cloud).reason.starts_with("the target failed"),
            "{:?}",
            last_access(&cloud)
        );
    }
    let after = get(&cloud, "/").await;
    assert_eq!((seen(&after, "/close"), seen(&after, "/reset")), (1, 1), "no retries");
    cloud.stop().await;
}

#[tokio::test]
async fn a_refused_connection_is_a_502_and_unhealthy_targets_are_asked_when_there_are_no_others() {
    let cloud = awake(|_| {}).await;
    local_support::control(&cloud, "POST", "instances/site/crash", "").await;
    until("the target is unhealthy", || health(&cloud) == HealthState::Unhealthy).await;
    let answer = get(&cloud, "/").await;
    assert_eq!(answer.status, 502);
    assert!(
        last_access(&cloud).reason.starts_with("the target refused"),
        "{:?}",
        last_access(&cloud)
    );
    assert_ne!(
        last_access(&cloud).target,
        "-",
        "fail-open: the unhealthy target was asked"
    );
    cloud.stop().await;
}

#[tokio::test]
async fn an_unhealthy_site_is_still_served_and_a_stopped_one_is_a_503() {
    let cloud = awake(|_| {}).await;
    get(&cloud, "/health/500").await;
    until("the target is unhealthy", || health(&cloud) == HealthState::Unhealthy).await;
    assert_eq!(get(&cloud, "/").await.status, 200);
    local_support::control(&cloud, "POST", "instances/site/stop", "").await;
    let answer = get(&cloud, "/").await;
    assert_eq!((answer.status, answer.header("server")), (503, Some("awselb/2.0")));
    cloud.stop().await;
}

#[tokio::test]
async fn websockets_pass_through_to_instances_and_are_a_400_for_functions() {
    let cloud = awake(|_| {}).await;
    let upgrade = format!("GET /ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let mut connection = Connection::open(cloud.address).await;
    connection.send(&upgrade).await;
    let head = connection.head().await.expect("the site switches protocols");
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    for word in ["one", "two"] {
        connection.send(word).await;
        let mut echo = [0; 3];
        connection.0.read_exact(&mut echo).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&echo), word.to_uppercase());
    }
    flip(&cloud, &[forward(&[(&cloud.seeded.waker, 1)], false)]);
    connection.send("six").await;
    let mut echo = [0; 3];
    connection
        .0
        .read_exact(&mut echo)
        .await
        .expect("an open WebSocket outlives the flip");
    let mut refused = Connection::open(cloud.address).await;
    refused.send(&upgrade).await;
    assert_eq!(refused.answer().await.unwrap().status, 400);
    cloud.stop().await;
}

#[tokio::test]
async fn bodies_stream_and_the_site_learns_who_asked() {
    let cloud = awake(|_| {}).await;
    let mut connection = Connection::open(cloud.address).await;
    connection
        .send(&format!("GET /stream HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
        .await;
    connection.head().await.expect("the stream begins");
    let mut first = [0; 10];
    connection.0.read_exact(&mut first).await.unwrap();
    assert_eq!(
        &first, b"5\r\nfirst\r\n",
        "the first part arrives before the second is sent"
    );
    get(&cloud, "/release").await;
    let mut second = [0; 11];
    connection.0.read_exact(&mut second).await.unwrap();
    assert_eq!(&second, b"6\r\nsecond\r\n");

    let body = "x".repeat(3 << 20);
    let request = format!("POST /up HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 192.0.2.7\r\nTE: trailers");
    let answer = ask(cloud.address, &request, &body).await.json();
    assert_eq!(answer["body"], 3 << 20);
    let headers = &answer["headers"];
    assert_eq!(headers["x-forwarded-for"], "192.0.2.7, 127.0.0.1");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-port"], cloud.address.port().to_string());
    assert_eq!(headers["host"], HOST);
    assert_eq!(headers.get("te"), None, "hop-by-hop headers stay behind");
    assert!(
        headers["x-amzn-trace-id"].as_str().unwrap().starts_with("Root=1-"),
        "{headers}"
    );
    cloud.stop().await;
}

#[tokio::test]
async fn what_a_function_does_wrong_is_a_502_and_too_much_is_a_413() {
    let cloud = cloud(|config| config.function_timeout = Duration::from_secs(5)).await;
    for (path, reason) in [
        ("/malformed", "headers is null"),
        ("/function-error", "on purpose"),
        ("/exit", "Runtime.ExitError"),
        ("/large", "1 MB"),
    ] {
        assert_eq!(get(&cloud, path).await.status, 502, "{path}");
        assert!(
            last_access(&cloud).reason.contains(reason),
            "{path}: {:?}",
            last_access(&cloud)
        );
    }
    assert_eq!(get(&cloud, "/fine").await.status, 200, "and the next request is served");
    let mebibyte = "x".repeat(1 << 20);
    let request = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: text/plain");
    assert_eq!(
        ask(cloud.address, &request, &mebibyte).await.status,
        200,
        "1 MB is allowed"
    );
    assert_eq!(ask(cloud.address, &request, &format!("{mebibyte}x")).await.status, 413);
    cloud.stop().await;
}

#[tokio::test]
async fn a_function_that_takes_too_long_or_is_throttled_is_a_502() {
    let cloud = cloud(|config| config.function_timeout = Duration::from_millis(1500)).await;
    // Warm first, so that the time-out is of the invocation and not of a slow start.
    get(&cloud, "/warm").await;
    assert_eq!(get(&cloud, "/hang").await.status, 502);
    assert_eq!(last_access(&cloud).reason, "timed out after 1.50 seconds");
    local_support::control(&cloud, "PATCH", "faults", r#"{"lambda_throttle": true}"#).await;
    assert_eq!(get(&cloud, "/").await.status, 502);
    assert_eq!(last_access(&cloud).reason, "throttled");
    cloud.stop().await;
}

#[tokio::test]
async fn weights_are_kept_and_a_cookie_keeps_its_group() {
    let cloud = awake(|_| {}).await;
    let (waker, group) = (cloud.seeded.waker.clone(), cloud.seeded.sites[0].group.clone());
    let both = forward(&[(&waker, 1), (&group, 1)], true);
    flip(&cloud, &[both]);
    let mut connection = Connection::open(cloud.address).await;
    let mut cookies = std::collections::BTreeMap::new();
    for _ in 0..40 {
        let answer = connection.get("/").await;
        let cookie = answer
            .header("set-cookie")
            .expect("each answer has the cookie")
            .to_owned();
        let by_waker = answer.header("x-waker").is_some();
        cookies.insert(by_waker, cookie.split(';').next().unwrap_or_default().to_owned());
    }
    assert_eq!(cookies.len(), 2, "both groups were used");
    for (by_waker, cookie) in cookies {
        assert!(cookie.starts_with("AWSALBTG="), "{cookie}");
        for _ in 0..20 {
            let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: a=b; {cookie}");
            let answer = ask(cloud.address, &request, "").await;
            assert_eq!(answer.header("x-waker").is_some(), by_waker, "the cookie decides");
        }
    }
    cloud.stop().await;
}

#[tokio::test]
async fn fixed_responses_redirects_and_the_default_rule() {
    let cloud = cloud(|_| {}).await;
    let fixed = json!({ "StatusCode": "418", "ContentType": "text/plain", "MessageBody": "tea" });
    flip(
        &cloud,
        &[json!({ "Type": "fixed-response", "FixedResponseConfig": fixed })],
    );
    let answer = get(&cloud, "/").await;
    assert_eq!((answer.status, answer.text()), (418, "tea".to_owned()));
    let to = json!({ "Host": "other.test", "Port": "443", "Protocol": "HTTPS", "Path": "/x/#{path}", "StatusCode": "HTTP_301" });
    flip(&cloud, &[json!({ "Type": "redirect", "RedirectConfig": to })]);
    let answer = get(&cloud, "/a/b?c=d").await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (301, Some("https://other.test:443/x/a/b?c=d"))
    );
    let other = ask(cloud.address, "GET / HTTP/1.1\r\nHost: elsewhere.test", "").await;
    assert_eq!(
        other.header("x-waker"),
        Some("yes"),
        "the default rule forwards to the waker"
    );
    let mut nameless = Connection::open(cloud.address).await;
    nameless.0.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(nameless.answer().await.unwrap().status, 400);
    cloud.stop().await;
}

#[tokio::test]
async fn while_a_flip_propagates_requests_meet_both_sides() {
    let cloud = awake(|_| {}).await;
    local_support::control(&cloud, "PATCH", "faults", r#"{"propagation_ms": 3600000}"#).await;
    flip(&cloud, &[forward(&[(&cloud.seeded.waker, 1)], false)]);
    let mut connection = Connection::open(cloud.address).await;
    let mut by_waker = 0;
    for _ in 0..40 {
        by_waker += usize::from(connection.get("/").await.header("x-waker").is_some());
    }
    assert!((1..40).contains(&by_waker), "{by_waker} of 40 met the waker");
    cloud.stop().await;
}
