//! A person with a real browser, and a connection that was open before.
//!
//! Seen red: with a page that does not reload.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::time::Duration;

use local_support::{
    Connection,
    browser::Browser,
    story::{action, asleep, site},
    until,
};
use proxymanager::local::{Cloud, log::Access};
use tokio::time::{Instant, sleep, timeout};

/// The requests that reached the function after the first one that reached the machine.
fn to_the_function_after_the_flip(cloud: &Cloud) -> Vec<Access> {
    let all = cloud.shared.log.accesses();
    let arrived = all.iter().position(|entry| entry.target.starts_with("i-"));
    let after = all.into_iter().skip(arrived.expect("somebody reached the machine"));
    after.filter(|entry| entry.target == "lambda").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_browser_gets_the_page_at_once_and_the_site_without_a_touch() {
    let cloud = asleep(|config| config.boot = Duration::from_secs(5)).await;
    let browser = Browser::start("story");
    let url = format!("{}a%20b/?x=1&y=%26#part", cloud.site_url(site(&cloud)));
    let begun = Instant::now();
    browser.open(&url);
    let took = begun.elapsed();
    assert_eq!(
        (browser.heading(), browser.title()),
        ("site is waking up".to_owned(), "Waking up – site".to_owned())
    );
    let page = browser.screenshot("page.png");
    until("the site is there", || browser.title() == "site").await;
    let arrived = begun.elapsed();
    assert_eq!(browser.heading(), "site is awake");
    let picture = browser.screenshot("site.png");
    assert_eq!(browser.url(), url, "path, query and fragment are as they were");
    for _ in 0..3 {
        browser.reload();
        assert_eq!(browser.heading(), "site is awake");
    }
    assert_eq!(to_the_function_after_the_flip(&cloud), []);
    println!(
        "the page after {took:.1?}, the site after {arrived:.1?}: {}, {}",
        page.display(),
        picture.display()
    );
    drop(browser);
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_opened_while_asleep_gets_the_site_after_the_flip() {
    let cloud = asleep(|_| {}).await;
    let mut connection = Connection::open(cloud.address).await;
    let page = connection.get("/").await;
    assert_eq!(
        (page.status, page.header("x-autostopping-phase")),
        (503, Some("starting"))
    );
    assert_ne!(page.header("connection"), Some("close"));
    let answer = timeout(Duration::from_secs(30), async {
        loop {
            let answer = connection.get("/").await;
            if answer.header("x-autostopping-phase").is_none() {
                return answer;
            }
            sleep(Duration::from_millis(200)).await;
        }
    });
    let answer = answer.await.expect("the site comes");
    assert_eq!(action(&cloud), site(&cloud).action);
    assert!(
        answer.status == 200 && answer.text().contains("site is awake"),
        "{}",
        answer.text()
    );
    assert_eq!(to_the_function_after_the_flip(&cloud), []);
    cloud.stop().await;
}
