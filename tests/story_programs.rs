//! Programs on their way to a site that sleeps: what people use, with the settings that README names and no others.
//!
//! Seen red: without `Retry-After` (requests gives up at once), without the CORS headers (fetch cannot read the answer), with a
//! request that waited in vain answered as if it had been noted (its page waits for ever).
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::{collections::BTreeMap, process::Output, time::Duration};

use local_support::{
    HOST, ask,
    browser::Browser,
    story::{asleep, power, starts, tag},
    until,
};
use proxymanager::{
    aws::Aws,
    clock::{Clock, SystemClock},
    domain::rule::RuleName,
    domain::time::after,
    ledger::{Ledger, dynamodb::DynamoDb, lease},
    local::Cloud,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
};

/// What README shows.
const REQUESTS: &str = "\
import sys, requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry
session = requests.Session()
session.mount('http://', HTTPAdapter(max_retries=Retry(10)))
answer = session.get(sys.argv[1], headers={'Host': sys.argv[2]})
answer.raise_for_status()
print(answer.text)
";
const FETCH: &str = "
const get = async url => {
  for (;;) {
    const answer = await fetch(url);
    const after = answer.headers.get('Retry-After');
    if (answer.status !== 503 || after === null) return answer;
    await new Promise(done => setTimeout(done, after * 1000));
  }
};
return get(URL).then(answer => answer.text());
";
/// What a script learns of an answer; of one that it may not read, nothing.
const LEARN: &str = "
return fetch(URL, {method: METHOD, headers: {'X-Token': '1'}, credentials: 'include'}).then(
  async answer => ({status: answer.status, phase: answer.headers.get('X-Autostopping-Phase'),
    after: answer.headers.get('Retry-After'), body: await answer.json()}),
  error => error.name);
";

/// The Python site, asleep, which takes a while to start and says which path was asked for.
async fn site_of_scripts(hold: &str) -> Cloud {
    let cloud = asleep(|config| {
        config.sites = vec![local_support::site()];
        config.boot = Duration::from_secs(2);
    })
    .await;
    tag(&cloud, "autostopping:hold", hold);
    cloud
}

fn url(cloud: &Cloud, path: &str) -> String {
    format!("{}{path}", cloud.site_url(local_support::story::site(cloud)))
}

fn assert_there(output: &Output, path: &str) {
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{}: {error}\n{out}", output.status);
    let seen: Value = serde_json::from_str(&out).expect("what the site says is JSON");
    assert_eq!(seen["path"], path, "{out}");
}

/// An application of another origin: an empty page at a port of the kernel's choice.
async fn application() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            // A browser opens connections on which it says nothing for long.
            tokio::spawn(async move {
                let _ = client.read(&mut [0; 4096]).await;
                let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<!doctype html>";
                let _ = client.write_all(page.as_bytes()).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_through() {
    for hold in ["page", "wait"] {
        let cloud = site_of_scripts(hold).await;
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--location", "--retry", "10"]);
        let output = curl.arg(url(&cloud, "curl?x=1")).output().await.expect("curl runs");
        assert_there(&output, "/curl?x=1");
        assert_eq!(starts(&cloud), 1, "{hold}");
        cloud.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_requests_get_through() {
    for hold in ["page", "wait"] {
        let cloud = site_of_scripts(hold).await;
        let mut python = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/python"));
        // Not every system resolves names below localhost.
        let address = format!("http://{}/requests", cloud.address);
        python.args(["-c", REQUESTS, &address, HOST]);
        let output = python.output().await.expect("`make tools` made a .venv");
        assert_there(&output, "/requests");
        assert_eq!(starts(&cloud), 1, "{hold}");
        cloud.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_script_of_another_origin_gets_through() {
    let browser = Browser::start("scripts");
    let port = application().await;
    for hold in ["page", "wait"] {
        let cloud = site_of_scripts(hold).await;
        let url = url(&cloud, "fetch");
        browser.open(&format!("http://app.localhost:{port}/"));
        let text = browser.run(&FETCH.replace("URL", &json!(url).to_string()));
        let seen: Value = serde_json::from_str(text.as_str().unwrap_or_default()).unwrap_or_default();
        assert_eq!(seen["path"], "/fetch", "{hold}: {text}");
        assert_eq!(starts(&cloud), 1, "{hold}");
        cloud.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_script_reads_that_the_site_sleeps() {
    // It starts for as long as the browser takes.
    let cloud = asleep(|config| config.boot = Duration::from_secs(3600)).await;
    let browser = Browser::start("readers");
    let port = application().await;
    let learn = |method: &str| {
        let script = LEARN.replace("URL", &json!(url(&cloud, "")).to_string());
        browser.run(&script.replace("METHOD", &json!(method).to_string()))
    };
    browser.open(&format!("http://other.localhost:{port}/"));
    assert_eq!(learn("PUT"), "TypeError", "a page of another site may only read");
    assert_eq!(power(&cloud), "stopped", "a preflight wakes nothing");
    let read = learn("GET");
    assert_eq!(
        (&read["status"], &read["phase"]),
        (&json!(503), &json!("starting")),
        "{read}"
    );
    browser.open(&format!("http://{HOST}:{port}/"));
    let read = learn("PUT");
    assert_eq!(
        (&read["status"], &read["body"]["phase"], read["after"].is_string()),
        (&json!(503), &json!("starting"), true),
        "{read}"
    );
    drop(browser);
    cloud.stop().await;
}

/// Another look has the rule for longer than a request waits: it died, or AWS is slow.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_waited_in_vain_for_the_lease_gets_in_later() {
    let cloud = asleep(|_| {}).await;
    let environment: BTreeMap<&str, String> = [
        ("AWS_ENDPOINT_URL", cloud.api_url()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "local".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "local".to_owned()),
        ("AUTOSTOPPING_LISTENERS", cloud.seeded.listener.clone()),
        ("AUTOSTOPPING_LEDGER", "dynamodb:autostopping".to_owned()),
        ("AUTOSTOPPING_WAKER", cloud.seeded.waker.clone()),
    ]
    .into();
    let aws = Aws::from_environment(&environment).expect("a good environment");
    let ledger = DynamoDb::new(aws.dynamodb(), "autostopping");
    let name = RuleName("site".to_owned());
    let record = ledger
        .load(&name)
        .await
        .expect("a ledger")
        .expect("it was put to sleep");
    let now = SystemClock.now();
    let held = lease::acquire(&ledger, &record, "another", now, after(now, Duration::from_secs(22)));
    held.await.expect("nobody else has it");

    let mut command = Command::new(env!("CARGO_BIN_EXE_proxymanager"));
    command.args(["sleep", "site"]).env_clear().envs(&environment);
    let command = tokio::spawn(async move { command.output().await.expect("the command line runs") });
    let browser = Browser::start("in-vain");
    let address = cloud.address;
    let program = tokio::spawn(async move { ask(address, &format!("GET / HTTP/1.1\r\nHost: {HOST}"), "").await });
    browser.open(&format!("{}#part", url(&cloud, "a?b=c")));
    assert_eq!(power(&cloud), "stopped");
    assert_eq!(browser.title(), "Asleep – site", "what the page knows");
    let told = program.await.expect("it was answered").json();
    assert_eq!(
        (&told["repeat"], &told["phase"]),
        (&json!(true), &json!("asleep")),
        "{told}"
    );
    let refused = command.await.expect("it ended");
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(
        refused.status.code() == Some(1) && error.contains("try again"),
        "{error}"
    );
    until("the page has asked again and left", || {
        browser.heading() == "site is awake"
    })
    .await;
    assert_eq!(browser.url(), format!("{}#part", url(&cloud, "a?b=c")));
    drop(browser);
    cloud.stop().await;
}
