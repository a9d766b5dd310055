//! What is promised to those who pay for what is woken: nobody wakes it but somebody.
//!
//! Seen red: with no user agent known; with every address allowed; with a poll that asks like a person; with an empty user
//! agent taken for a bot; with unreadable tags passed over; with a 307 after the button; with no wake of the day refused.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::time::Duration;

use local_support::{
    Answer, Connection, HOST,
    browser::Browser,
    story::{action, asleep, calls_of, command, power, record, site, starts, tag},
    until,
    visitor::{Kind, Visitor},
};
use proxymanager::local::{Cloud, world::FORWARDED_FOR};
use serde_json::{Value, json};
use tokio::time::Instant;

const BROWSER: &str = "Accept: text/html";
const CROWD: [(&str, &str); 7] = [
    (
        "/",
        "User-Agent: Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    ),
    (
        "/",
        "User-Agent: Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    ),
    ("/", "User-Agent: Mozilla/5.0 zgrab/0.x"),
    (
        "/",
        "User-Agent: Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
    ),
    ("/", "Sec-Purpose: prefetch;prerender"),
    ("/.git/config", BROWSER),
    ("/favicon.ico", "Accept: image/avif,image/webp"),
];

async fn ask(cloud: &Cloud, method: &str, path: &str, header: &str, body: &str) -> Answer {
    let mut connection = Connection::open(cloud.address).await;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{header}\r\nContent-Length: {length}\r\n\r\n");
    connection.send(&(head + body)).await;
    connection.answer().await.expect("an answer")
}

/// What the rule's record says of its use.
fn memory(cloud: &Cloud) -> [Value; 5] {
    let record = record(cloud).expect("the rule has a record");
    ["wanted", "wanted_since", "last_request", "woken_today", "version"].map(|key| record[key].clone())
}

fn phase(answer: &Answer) -> &str {
    answer.header("x-autostopping-phase").unwrap_or_default()
}

async fn health_check(cloud: &Cloud) -> Value {
    let event = json!({"requestContext": {"elb": {"targetGroupArn": cloud.seeded.waker}}, "httpMethod": "GET", "path": "/",
        "multiValueHeaders": {"user-agent": ["ELB-HealthChecker/2.0"]}, "body": "", "isBase64Encoded": false});
    let answer = cloud.shared.invoke(event.to_string().into()).await.expect("an answer");
    serde_json::from_slice(&answer).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_checks_monitors_scanners_and_prefetches_wake_nothing_and_leave_no_trace() {
    let cloud = asleep(|_| {}).await;
    let before = memory(&cloud);
    for _ in 0..2 {
        assert_eq!(health_check(&cloud).await["statusCode"], 200);
        for (path, header) in CROWD {
            let answer = ask(&cloud, "GET", path, header, "").await;
            assert_eq!((answer.status, phase(&answer)), (503, "asleep"), "{path} {header}");
        }
    }
    assert_eq!((memory(&cloud), starts(&cloud)), (before, 0), "not even a count");
    // And while it wakes for somebody, they are no use that keeps it awake.
    ask(&cloud, "GET", "/", BROWSER, "").await;
    let since = memory(&cloud)[2].clone();
    for (path, header) in CROWD {
        ask(&cloud, "GET", path, header, "").await;
    }
    assert_eq!(memory(&cloud)[2], since);
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_address_neither_wakes_nor_renews() {
    let cloud = asleep(|config| config.boot = Duration::from_secs(3600)).await;
    tag(&cloud, "autostopping:allow", "203.0.113.0/24");
    let before = memory(&cloud);
    let forged = "X-Forwarded-For: 203.0.113.7\r\nX-Real-IP: 203.0.113.7\r\nForwarded: for=203.0.113.7";
    for header in [BROWSER, "Accept: */*", forged] {
        assert_eq!(ask(&cloud, "GET", "/", header, "").await.status, 403, "{header}");
    }
    assert_eq!((memory(&cloud), starts(&cloud)), (before, 0));
    command(&cloud, &["wake", "site", "--no-wait"]).await;
    let woken = memory(&cloud);
    assert_eq!(
        ask(&cloud, "GET", "/", BROWSER, "").await.status,
        403,
        "nor while it wakes"
    );
    assert_eq!(memory(&cloud)[..4], woken[..4]);
    cloud.stop().await;
}

/// Where the load balancer passes on what the client wrote, or nobody can tell, no address is believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_address_opens_nothing_whatever_the_load_balancer_passes_on() {
    const ASKED: &str = "DescribeLoadBalancerAttributes";
    let forged = "Accept: text/html\r\nX-Forwarded-For: 203.0.113.7";
    for (mode, denied, status, named) in [
        ("append", false, 403, ""),
        ("preserve", false, 503, "it is told to preserve X-Forwarded-For"),
        ("remove", false, 403, ""),
        ("preserve", true, 503, "the role lacks the permission"),
    ] {
        let cloud = asleep(|_| {}).await;
        tag(&cloud, "autostopping:allow", "203.0.113.0/24");
        {
            let mut world = cloud.shared.world();
            let balancer = world.balancer_mut(&cloud.seeded.balancer).expect("it is there");
            balancer.attributes.insert(FORWARDED_FOR.to_owned(), mode.to_owned());
            world.faults.denied = denied.then(|| ASKED.to_owned()).into_iter().collect();
        }
        let answer = ask(&cloud, "GET", "/", forged, "").await;
        assert_eq!((answer.status, starts(&cloud)), (status, 0), "{mode}");
        assert!(answer.text().contains(named), "{mode}: {}", answer.text());
        if mode != "append" {
            let told = refused(&cloud, &["sleep", "site"]).await;
            assert!(told.contains(FORWARDED_FOR), "{mode}: {told}");
        }
        cloud.stop().await;
    }
    let cloud = asleep(|_| {}).await;
    ask(&cloud, "GET", "/", BROWSER, "").await;
    assert_eq!(calls_of(&cloud, ASKED), 0, "without an address to judge nobody asks");
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_poll_is_no_use() {
    let cloud = asleep(|config| config.boot = Duration::from_secs(3600)).await;
    let poll = "Accept: application/vnd.autostopping+json";
    let wanted = memory(&cloud)[..4].to_vec();
    assert_eq!(phase(&ask(&cloud, "GET", "/", poll, "").await), "asleep");
    assert_eq!((memory(&cloud)[..4].to_vec(), starts(&cloud)), (wanted, 0));
    assert_eq!(phase(&ask(&cloud, "GET", "/", BROWSER, "").await), "starting");
    let asked = memory(&cloud)[2].clone();
    for _ in 0..5 {
        assert_eq!(phase(&ask(&cloud, "GET", "/", poll, "").await), "starting");
    }
    assert_eq!(memory(&cloud)[2], asked, "the page is open, and nobody asks again");
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_user_agent_is_not_a_bot() {
    for header in ["Accept: */*\r\nUser-Agent:", "Accept: */*"] {
        let cloud = asleep(|_| {}).await;
        assert_eq!(phase(&ask(&cloud, "GET", "/", header, "").await), "starting");
        assert_eq!(starts(&cloud), 1);
        cloud.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_pattern_is_named_at_load_and_the_rule_never_stopped() {
    for (key, value) in [
        ("autostopping:allow", "10.0.0.0/33"),
        ("autostopping:wake-paths", "/app //php"),
        ("autostopping:never-wake-paths", "health"),
        ("autostopping:confirm", "maybe"),
        ("autostopping:wakes-per-day", "-1"),
    ] {
        let cloud = asleep(|_| {}).await;
        command(&cloud, &["wake", "site"]).await;
        tag(&cloud, key, value);
        let told = refused(&cloud, &["sleep", "site"]).await;
        assert!(told.contains(key) && told.contains(&format!("{value:?}")), "{told}");
        assert_eq!(
            (power(&cloud), action(&cloud)),
            ("running", site(&cloud).action.clone()),
            "{key}"
        );
        cloud.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_with_a_button_wakes_when_it_is_pressed_and_at_nothing_else() {
    let cloud = asleep(|config| config.boot = Duration::from_secs(5)).await;
    tag(&cloud, "autostopping:confirm", "true");
    for (method, header, body) in [
        ("GET", BROWSER, ""),
        ("POST", BROWSER, "a=b"),
        ("GET", "Accept: */*", ""),
        (
            "POST",
            "Accept: text/html\r\nSec-Fetch-Site: cross-site",
            "autostopping=wake",
        ),
    ] {
        let answer = ask(&cloud, method, "/", header, body).await;
        assert_eq!((answer.status, phase(&answer)), (503, "asleep"), "{method} {header}");
    }
    let browser = Browser::start("button");
    let url = format!("{}a%20b/?x=1&y=%26#part", cloud.site_url(site(&cloud)));
    browser.open(&url);
    assert_eq!(browser.heading(), "site is asleep");
    browser.reload();
    browser.screenshot("button.png");
    assert_eq!((browser.heading().as_str(), starts(&cloud)), ("site is asleep", 0));
    browser.run("document.querySelector('#wake button').click()");
    until("the press has arrived", || browser.heading() == "site is waking up").await;
    assert_eq!(
        (browser.url(), starts(&cloud)),
        (url.clone(), 1),
        "by a 303 to the same URL"
    );
    browser.reload();
    assert_eq!(browser.heading(), "site is waking up", "a reload presses nothing again");
    until("the site is there", || browser.heading() == "site is awake").await;
    assert_eq!((browser.url(), starts(&cloud)), (url, 1));
    let posts = cloud
        .shared
        .log
        .accesses()
        .into_iter()
        .filter(|access| access.method == "POST");
    assert_eq!(posts.count(), 3, "two that woke nothing, and one press");
    drop(browser);
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_wake_a_rule_so_many_times_a_day_and_its_operator_as_often_as_he_likes() {
    let cloud = asleep(|config| config.env = vec![("AUTOSTOPPING_SETTLE".to_owned(), "1s".to_owned())]).await;
    tag(&cloud, "autostopping:wakes-per-day", "1");
    let mut visitor = Visitor::new(Kind::Browser, cloud.address, HOST, "/", 1);
    let arrived = visitor.arrive(Instant::now() + Duration::from_secs(30)).await;
    assert!(
        arrived && visitor.navigations() > 1,
        "one wake, by several requests: {}",
        visitor.story()
    );
    command(&cloud, &["sleep", "site"]).await;
    let before = memory(&cloud);
    for header in [BROWSER, "Accept: */*"] {
        let answer = ask(&cloud, "GET", "/", header, "").await;
        assert_eq!((answer.status, phase(&answer)), (503, "asleep"), "{header}");
        assert!(answer.text().contains("proxymanager wake site"), "{}", answer.text());
    }
    assert_eq!(
        (memory(&cloud), starts(&cloud)),
        (before, 1),
        "refused, and not counted"
    );
    command(&cloud, &["wake", "site", "--no-wait"]).await;
    assert_eq!(starts(&cloud), 2);
    cloud.stop().await;
}

/// Runs the command line against this cloud; what it says when it does not do it.
async fn refused(cloud: &Cloud, words: &[&str]) -> String {
    let output = local_support::story::run(cloud, words).await;
    assert!(!output.status.success(), "{words:?}");
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}
