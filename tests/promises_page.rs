//! What is promised of the page. That a page which says "ready" never leads to a 502 is in `promises_cut_over.rs` and
//! `story_propagation.rs`; that overdue and unknown are told apart in `progress.rs`.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::{io::Write as _, time::Duration};

use flate2::{Compression, write::GzEncoder};
use local_support::{
    Answer, Connection, HOST, ask,
    browser::Browser,
    front::{Front, Reply, page},
    start,
    story::{asleep, command, power, site, starts},
    until,
};
use proxymanager::local::Cloud;
use serde_json::Value;

const HTML: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

async fn load(cloud: &Cloud, accept: &str) -> Answer {
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nAccept: {accept}");
    ask(cloud.address, &request, "").await
}

/// Opens the page as a person does and stays until the site is there.
async fn visit(cloud: &Cloud) {
    loop {
        let answer = load(cloud, HTML).await;
        if answer.header("x-autostopping-phase").is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Requests that the function answered, as method and path.
fn asked_of_the_function(cloud: &Cloud) -> Vec<String> {
    let all = cloud.shared.log.accesses().into_iter();
    let ours = all.filter(|entry| entry.target == "lambda");
    ours.map(|entry| format!("{} {}", entry.method, entry.path)).collect()
}

/// Red when it may be kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_html_that_nobody_keeps_and_it_is_gone_once_the_site_is_awake() {
    let cloud = asleep(|_| {}).await;
    let page = load(&cloud, HTML).await;
    assert_eq!(page.status, 503);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert!(page.header("retry-after").is_some() && page.header("content-security-policy").is_some());
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&page.body).expect("memory takes it");
    let size = encoder.finish().expect("memory takes it").len();
    assert!(size <= 14 * 1024, "{size} bytes");
    visit(&cloud).await;
    let site = load(&cloud, HTML).await;
    assert_eq!((site.status, site.header("content-security-policy")), (200, None));
    assert!(site.text().contains("site is awake") && !site.text().contains("autostopping"));
    cloud.stop().await;
}

/// Red when it polls another address than its own. What the policy forbids it cannot ask for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_asks_for_nothing_but_itself() {
    let cloud = asleep(|config| config.boot = Duration::from_secs(3)).await;
    let browser = Browser::start("alone");
    let url = format!("{}shop?x=1", cloud.site_url(site(&cloud)));
    browser.open(&url);
    let mut asked = Vec::new();
    let mut has_polled = || {
        let entries = browser.run("return performance.getEntriesByType('resource').map(entry => entry.name)");
        asked = entries.as_array().cloned().unwrap_or_default();
        !asked.is_empty()
    };
    while !has_polled() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(asked.iter().all(|name| *name == url.as_str()), "{asked:?}");
    until("the site is there", || browser.title() == "site").await;
    let ours = asked_of_the_function(&cloud);
    assert!(ours.iter().all(|line| line == "GET /shop?x=1"), "{ours:?}");
    drop(browser);
    cloud.stop().await;
}

/// Red without advice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_why_a_wake_failed_and_goes_on_when_that_is_over() {
    let cloud = asleep(|_| {}).await;
    cloud.shared.world().faults.no_capacity = true;
    let browser = Browser::start("failed");
    // AWS is asked again after half a minute, and nobody wants to wait for that.
    browser.hurry(10);
    browser.open(&cloud.site_url(site(&cloud)));
    assert_eq!(browser.heading(), "site could not start");
    assert_eq!(browser.title(), "! Trouble – site");
    let [reason, next, advice] = ["#reason", "#next", "#advice"].map(|part| browser.text(part));
    assert!(reason.contains("InsufficientInstanceCapacity"), "{reason}");
    assert!(next.starts_with("The next try is in 0:"), "{next}");
    assert!(
        advice.contains("another instance type or Availability Zone"),
        "{advice}"
    );
    browser.screenshot("page-no-capacity.png");
    cloud.shared.world().faults.no_capacity = false;
    // What the advice comes to: somebody starts the machine.
    start(&cloud);
    until("the site is there", || browser.title() == "site").await;
    drop(browser);
    cloud.stop().await;
}

/// Red when wakes are not remembered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_progress_is_measured_by_this_rules_last_wakes() {
    let cloud = asleep(|config| {
        config.boot = Duration::from_secs(4);
        config.tick = Some(Duration::from_millis(300));
        config.env = vec![("AUTOSTOPPING_SETTLE".to_owned(), "1s".to_owned())];
    })
    .await;
    let told = |page: &Answer| {
        let text = page.text();
        let line = text
            .lines()
            .find(|line| line.contains("id=\"eta\""))
            .expect("a line")
            .to_owned();
        (
            line,
            text.contains("<progress id=\"bar\" max=\"100\" aria-label=\"Progress\">"),
        )
    };
    let (line, indeterminate) = told(&load(&cloud, HTML).await);
    assert!(line.contains("Time left not known yet") && indeterminate, "{line}");
    visit(&cloud).await;
    command(&cloud, &["sleep", "site", "--no-wait"]).await;
    until("the machine is stopped", || power(&cloud) == "stopped").await;
    let (line, indeterminate) = told(&load(&cloud, HTML).await);
    assert!(line.contains("seconds left") && !indeterminate, "{line}");
    let poll = load(&cloud, "application/vnd.autostopping+json").await.json();
    assert!(poll["eta_seconds"].as_u64().is_some_and(|left| left > 0), "{poll}");
    assert!(poll["percent"].as_u64().is_some_and(|percent| percent < 95), "{poll}");
    cloud.stop().await;
}

/// Red when it may be kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_has_the_headers_and_no_body() {
    let cloud = asleep(|_| {}).await;
    let mut connection = Connection::open(cloud.address).await;
    let request = format!("HEAD / HTTP/1.1\r\nHost: {HOST}\r\nAccept: {HTML}\r\n\r\n");
    connection.send(&request).await;
    let head = connection.head().await.expect("an answer").to_ascii_lowercase();
    for line in [
        "http/1.1 503 ",
        "content-type: text/html; charset=utf-8\r\n",
        "cache-control: no-store\r\n",
        "retry-after: ",
        "x-autostopping-phase: starting\r\n",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    // The next bytes on the connection are those of the next answer.
    let next = connection.get("/").await;
    assert_eq!(
        (next.status, next.header("content-type")),
        (503, Some("application/problem+json"))
    );
    cloud.stop().await;
}

const FORM: &str = "<!doctype html><title>Form</title><h1>Order</h1>
<form method=post action=/order><input name=what id=what><button>Send</button></form>";

/// Red with a page that reloads itself when the site is ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_is_never_sent_again_by_itself_and_is_said_to_be_lost() {
    let cloud = asleep(|config| config.boot = Duration::from_secs(2)).await;
    let balancer = cloud.address;
    let front = Front::start(move |request| match request.path.as_str() {
        "/form" => page(FORM),
        _ => Reply::Forward(balancer),
    })
    .await;
    let browser = Browser::start("form");
    browser.open(&front.url(HOST, "/form"));
    browser.run("what.value = 'seven lamps'; document.forms[0].submit()");
    until("the page is there", || browser.heading() == "site is waking up").await;
    let note = browser.text(".note");
    assert!(
        note.starts_with("Your form was not sent. site was asleep") && !note.contains("Go back to the form"),
        "{note}"
    );
    until("it is ready", || browser.heading() == "site is ready").await;
    assert_eq!(browser.title(), "✓ Ready – site");
    let note = browser.text(".note");
    assert!(
        note.contains("It is ready now: go back and send it again.") && note.contains("Go back to the form"),
        "{note}"
    );
    let live = browser.run("return document.getElementById('live').textContent");
    assert!(
        live.as_str().is_some_and(|said| said.contains("site is ready. ")),
        "{live}"
    );
    browser.screenshot("page-form-ready.png");
    let polls = front.polls();
    browser.run_later("setTimeout(arguments[0], 3000)");
    assert_eq!(front.polls(), polls, "asking on would keep the site awake");
    let posts = || {
        front
            .requests()
            .iter()
            .filter(|request| request.method == "POST")
            .count()
    };
    assert_eq!((front.navigations(), posts()), (2, 1), "the form, and what was sent");
    browser.run("document.getElementById('back').click()");
    until("the form is back", || browser.heading() == "Order").await;
    assert_eq!(browser.run("return what.value"), "seven lamps");
    browser.run("document.forms[0].submit()");
    until("the site has it", || browser.heading() == "site is awake").await;
    assert_eq!(posts(), 2);
    drop(browser);
    cloud.stop().await;
}

/// Red when an answer may be kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn automation_never_takes_it_for_the_answer() {
    let cloud = asleep(|config| config.boot = Duration::from_secs(5)).await;
    for accept in [
        "*/*",
        "application/json",
        "application/json, text/plain, */*",
        "image/avif,image/webp,*/*;q=0.8",
    ] {
        let answer = load(&cloud, accept).await;
        assert_eq!(
            (answer.status, answer.header("cache-control")),
            (503, Some("no-store")),
            "{accept}"
        );
        assert_eq!(answer.json()["rule"], Value::from("site"), "{accept}");
    }
    assert_eq!(starts(&cloud), 1);
    cloud.stop().await;
}
