//! The page gives way to the site, whatever kind of browser it is in and whatever stands between them.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use local_support::{
    HOST,
    browser::Browser,
    front::{Front, Reply, answer, page},
    story::{asleep, site, starts},
    until,
};
use proxymanager::local::Cloud;

async fn slow() -> Cloud {
    asleep(|config| config.boot = Duration::from_secs(3)).await
}

/// Red without the refresh.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_scripts_on_a_dark_phone() {
    let cloud = slow().await;
    let browser = Browser::start("phone");
    browser.screen(360, 740);
    browser.prefers("dark");
    browser.without_scripts();
    browser.open(&cloud.site_url(site(&cloud)));
    assert_eq!(browser.title(), "Waking up – site");
    browser.screenshot("page-phone-dark.png");
    until("the site is there", || browser.title() == "site").await;
    drop(browser);
    cloud.stop().await;
}

/// Red with a page that waits to be seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_two_tabs_that_nobody_looks_at() {
    let cloud = slow().await;
    let browser = Browser::start("tabs");
    let url = cloud.site_url(site(&cloud));
    let first = browser.tab();
    let second = browser.new_tab();
    for tab in [&first, &second] {
        browser.show(tab);
        browser.open(&url);
    }
    browser.minimize();
    for tab in [&first, &second] {
        browser.show(tab);
        assert_eq!(browser.run("return document.visibilityState"), "hidden");
        until("the site is there", || browser.title() == "site").await;
        assert_eq!(browser.run("return document.visibilityState"), "hidden");
    }
    assert_eq!(starts(&cloud), 1);
    drop(browser);
    cloud.stop().await;
}

/// Red with a page that leaves itself behind in the history.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn back_leads_to_where_one_came_from() {
    let cloud = slow().await;
    let balancer = cloud.address;
    let front = Front::start(move |request| match request.path.as_str() {
        "/start" => page("<!doctype html><title>Start</title><h1>Start</h1><a href=/#part>shop</a>"),
        _ => Reply::Forward(balancer),
    })
    .await;
    let browser = Browser::start("back");
    browser.open(&front.url(HOST, "/start"));
    browser.run("document.links[0].click()");
    until("the page is there", || browser.heading() == "site is waking up").await;
    until("the site is there", || browser.title() == "site").await;
    assert_eq!(browser.url(), front.url(HOST, "/#part"));
    browser.back();
    until("where it began", || browser.title() == "Start").await;
    drop(browser);
    cloud.stop().await;
}

/// Red with a page that takes a bare 502 for the site.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_the_load_balancer_in_between_are_waited_out() {
    let cloud = slow().await;
    let browser = Browser::start("between");
    browser.hurry(5);
    browser.open(&cloud.site_url(site(&cloud)));
    assert_eq!(browser.heading(), "site is waking up");
    let loaded = browser.run("return performance.timeOrigin");
    cloud.shared.world().faults.lambda_throttle = true;
    let bare = || {
        cloud
            .shared
            .log
            .accesses()
            .iter()
            .filter(|entry| entry.status == 502)
            .count()
    };
    until("three polls have failed", || bare() >= 3).await;
    assert_eq!(browser.heading(), "site is waking up");
    assert_eq!(browser.run("return performance.timeOrigin"), loaded, "the same page");
    cloud.shared.world().faults.lambda_throttle = false;
    until("the site is there", || browser.title() == "site").await;
    drop(browser);
    cloud.stop().await;
}

/// What stands in front, as long as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    Nothing,
    BadGateway,
    Forbidden,
    /// A CDN that keeps our answer, and says for how long it has.
    CachedAnswer,
    /// A sign-in that has expired: everything is sent to another host.
    SignIn,
}

fn reply(between: Between, path: &str, port: u16) -> Option<Reply> {
    let state = r#"{"rule":"site","phase":"awake","step":"ready","percent":100,"eta_seconds":0,"elapsed_seconds":9}"#;
    Some(match between {
        Between::Nothing => return None,
        Between::BadGateway => answer("502 Bad Gateway", &[], "<h1>502</h1>"),
        Between::Forbidden => answer("403 Forbidden", &[], "<h1>403</h1>"),
        Between::CachedAnswer => {
            let headers = [
                "X-Autostopping-Phase: awake",
                "Age: 90",
                "Content-Type: application/json",
            ];
            answer("503 Service Unavailable", &headers, state)
        }
        Between::SignIn => {
            let location = format!("Location: http://sign-in.localhost:{port}{path}");
            answer("302 Found", &[&location], "")
        }
    })
}

/// Red with a page that takes any of them for the site.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_front_is_neither_taken_for_the_site_nor_reloaded_in_a_loop() {
    let cloud = asleep(|config| config.boot = Duration::from_secs(600)).await;
    let balancer = cloud.address;
    let between = Arc::new(Mutex::new(Between::Nothing));
    let now = Arc::clone(&between);
    let own_port = Arc::new(Mutex::new(0));
    let port = Arc::clone(&own_port);
    let front = Front::start(move |request| {
        if request.host.starts_with("sign-in.") {
            return page("<!doctype html><title>Sign in</title><h1>Sign in</h1>");
        }
        let (between, port) = (*now.lock().expect("no panic"), *port.lock().expect("no panic"));
        // Only polls meet it, so that the page stays, unless somebody has to sign in.
        let meets = request.is_poll() || between == Between::SignIn;
        let reply = reply(between, &request.path, port).filter(|_| meets);
        reply.unwrap_or(Reply::Forward(balancer))
    })
    .await;
    *own_port.lock().expect("no panic") = front.address.port();
    let set = |to| *between.lock().expect("no panic") = to;
    let browser = Browser::start("front");
    // Fifty minutes are a minute.
    browser.hurry(50);
    set(Between::BadGateway);
    browser.open(&front.url(HOST, "/#part"));
    for kind in [Between::BadGateway, Between::Forbidden, Between::CachedAnswer] {
        set(kind);
        let (polls, loads) = (front.polls(), front.navigations());
        let begun = browser.run("return Date.now()").as_i64().expect("a time");
        until("it has asked often and looked again", || {
            front.polls() >= polls + 8 && front.navigations() > loads
        })
        .await;
        until("the page is there", || browser.heading() == "site is waking up").await;
        let minutes = (browser.run("return Date.now()").as_i64().expect("a time") - begun) / 60_000;
        let reloads = i64::try_from(front.navigations() - loads).expect("few");
        assert!(
            reloads <= minutes + 2,
            "{kind:?}: {reloads} reloads in {minutes} minutes"
        );
    }
    set(Between::SignIn);
    until("the sign-in is there", || browser.title() == "Sign in").await;
    let signed = front
        .requests()
        .into_iter()
        .filter(|request| request.host.starts_with("sign-in."));
    assert_eq!(signed.count(), 1, "a poll does not follow");
    assert!(browser.url().ends_with("/#part"), "{}", browser.url());
    set(Between::Nothing);
    browser.open(&front.url(HOST, "/#part"));
    assert_eq!(browser.heading(), "site is waking up");
    drop(browser);
    cloud.stop().await;
}
