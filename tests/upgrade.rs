//! Other code is put under the function while somebody waits in front of a sleeping site: the old code serves until the new
//! has passed its test, and when it does not, the old code serves on.
//!
//! Seen red: without the trial of the new code; without keeping the running code first; uploading again what is there; with a
//! failed call taken for the end; without comparing architectures; reading records of a later schema; with a self-check that
//! finds the listeners well in any case; and, in the local cloud, with environments that outlive their code and an update that never gets done.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::{
    path::Path,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use local_support::{
    Answer, Connection, HOST, ask,
    package::{Packages, program_that_dies},
    story::{asleep, calls_of, run, sample, site, starts, tag},
    until,
};
use proxymanager::local::Cloud;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::timeout};

const FUNCTION: &str = "aws-proxymanager";
const POLL: &str = "application/vnd.autostopping+json";

/// What the alias leads to.
fn live(cloud: &Cloud) -> String {
    let mut world = cloud.shared.world();
    world.deployed_mut(FUNCTION).expect("it is deployed").aliases["live"].clone()
}

/// The digest of the code that was uploaded last.
fn latest(cloud: &Cloud) -> String {
    let mut world = cloud.shared.world();
    world.deployed_mut(FUNCTION).expect("it is deployed").latest.clone()
}

fn versions(cloud: &Cloud) -> usize {
    let mut world = cloud.shared.world();
    world.deployed_mut(FUNCTION).expect("it is deployed").versions.len()
}

/// How many invocations this code has answered as this version.
fn answered(cloud: &Cloud, version: &str, code: &str) -> u64 {
    let figures = cloud.shared.lambda.figures();
    figures
        .answered
        .get(&format!("{version} {code}"))
        .copied()
        .unwrap_or_default()
}

fn words(output: &Output) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    format!("{:?}\n{out}\n{err}", output.status.code())
}

async fn upgrade(cloud: &Cloud, zip: &Path) -> Output {
    run(cloud, &["upgrade", &zip.to_string_lossy()]).await
}

async fn upgraded(cloud: &Cloud, zip: &Path) {
    let output = upgrade(cloud, zip).await;
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(live(cloud), "$LATEST");
}

/// It fails with 1 and says all of this.
async fn refused(cloud: &Cloud, arguments: &[&str], said: &[&str]) {
    let output = run(cloud, arguments).await;
    let words = words(&output);
    assert_eq!(output.status.code(), Some(1), "{words}");
    for part in said {
        assert!(words.contains(part), "{part:?} is not in {words}");
    }
}

async fn poll(cloud: &Cloud) -> Answer {
    polled(cloud.address, HOST).await
}

async fn polled(address: std::net::SocketAddr, host: &str) -> Answer {
    let mut connection = Connection::open(address).await;
    connection
        .send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept: {POLL}\r\n\r\n"))
        .await;
    connection.answer().await.expect("there is an answer")
}

/// Somebody looks at the page all the time; ends with what was not an answer of ours.
struct Watcher {
    end: Arc<AtomicBool>,
    task: JoinHandle<(usize, Vec<String>)>,
}

impl Watcher {
    fn start(cloud: &Cloud) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let (address, ended) = (cloud.address, Arc::clone(&end));
        let task = tokio::spawn(async move {
            let (mut polls, mut bad) = (0, Vec::new());
            while !ended.load(Relaxed) {
                let answer = polled(address, HOST).await;
                polls += 1;
                if answer.status != 503 || answer.header("x-autostopping-phase").is_none() {
                    bad.push(format!("{}\n{}", answer.head, answer.text()));
                }
            }
            (polls, bad)
        });
        Self { end, task }
    }

    async fn end(self) {
        self.end.store(true, Relaxed);
        let (polls, bad) = self.task.await.expect("nobody ends it");
        assert!(polls > 0 && bad.is_empty(), "{} of {polls}: {bad:?}", bad.len());
    }
}

/// Whether the machine's health check can pass.
fn may_be_healthy(cloud: &Cloud, may: bool) {
    let mut world = cloud.shared.world();
    let group = world.target_group_mut(&site(cloud).group).expect("the group is there");
    group.check.codes = if may { "200" } else { "299" }.to_owned();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wake_under_way_and_everybody_who_looks_survive_an_upgrade_and_a_roll_back() {
    let packages = Packages::new();
    let cloud = asleep(|config| config.env = vec![("AUTOSTOPPING_HOLD_LIMIT".to_owned(), "50s".to_owned())]).await;
    let first = latest(&cloud);
    let good = packages.good("good");
    tag(&cloud, "autostopping:hold", "wait");
    may_be_healthy(&cloud, false);
    let address = cloud.address;
    let held = tokio::spawn(async move { Connection::open(address).await.get("/").await });
    until("it is held", || starts(&cloud) == 1).await;
    let watcher = Watcher::start(&cloud);

    upgraded(&cloud, &good).await;
    let second = latest(&cloud);
    assert_ne!(second, first);
    let polls = answered(&cloud, "$LATEST", &second);
    poll(&cloud).await;
    assert!(answered(&cloud, "$LATEST", &second) > polls, "the new code serves");
    assert!(answered(&cloud, "1", &first) > 0, "the old code served meanwhile");
    assert_eq!((versions(&cloud), calls_of(&cloud, "UpdateFunctionCode")), (1, 1));

    may_be_healthy(&cloud, true);
    let answer = held.await.expect("nobody ends it");
    assert_eq!(
        (answer.status, answer.header("location")),
        (307, Some("/")),
        "{}",
        answer.head
    );
    assert_eq!(starts(&cloud), 1);
    watcher.end.store(true, Relaxed);
    let (_, bad) = watcher.task.await.expect("nobody ends it");
    let bare = bad
        .iter()
        .filter(|answer| !answer.contains("x-autostopping-phase") && !answer.contains("200 OK"));
    assert_eq!(bare.collect::<Vec<_>>(), Vec::<&String>::new());

    for (arguments, said) in [
        (&["upgrade", "--rollback"][..], "live -> 1"),
        (&["upgrade", "--rollback"], "stands on version 1 already"),
    ] {
        let output = run(&cloud, arguments).await;
        assert!(
            output.status.success() && words(&output).contains(said),
            "{}",
            words(&output)
        );
        assert_eq!(live(&cloud), "1");
    }
    let output = run(&cloud, &["status", "--output", "json"]).await;
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&status["live"], &status["code"], &status["uploaded_but_not_live"]),
        (&json!("1"), &json!(first), &json!(true))
    );
    upgraded(&cloud, &good).await;
    assert_eq!(calls_of(&cloud, "UpdateFunctionCode"), 1, "it is there already");
    refused(
        &cloud,
        &["upgrade", "--rollback", "--to", "7"],
        &["no version 7", "Allowed: 1"],
    )
    .await;
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_run_is_not_even_uploaded() {
    let packages = Packages::new();
    let cloud = asleep(|_| {}).await;
    let program = program_that_dies();
    let other = |machine: u8| {
        let mut program = program.clone();
        program[18] = machine;
        program
    };
    let (arm, x86, sparc) = (other(183), other(62), other(43));
    let wrong = if cfg!(target_arch = "aarch64") { x86 } else { arm };
    let whole = std::fs::read(packages.that_dies()).expect("it is there");
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    let script: &[u8] = b"#!/bin/sh\nexit 1\n";
    let bad = [
        (
            packages.file("cut", &whole[..whole.len() / 2]),
            "is not a zip, or a damaged one",
        ),
        (packages.file("flipped", &flipped), "is not a zip, or a damaged one"),
        (packages.file("empty", b""), "is not a zip, or a damaged one"),
        (
            packages.zip("nested", &[("release/bootstrap", &program, 0o755)]),
            "no file `bootstrap` at its top level",
        ),
        (
            packages.bootstrap("mode", &program, 0o644),
            "nobody may execute (mode 644)",
        ),
        (packages.bootstrap("script", script, 0o755), "not a Linux program"),
        (packages.bootstrap("sparc", &sparc, 0o755), "its ELF machine is 43"),
        (packages.bootstrap("wrong", &wrong, 0o755), "the function runs on"),
        (Path::new("/nonexistent.zip").to_owned(), "cannot be read"),
    ];
    for (zip, said) in &bad {
        let zip = zip.to_string_lossy();
        refused(&cloud, &["upgrade", &zip], &[said, "Nothing was changed", &zip]).await;
    }
    for call in ["PublishVersion", "UpdateFunctionCode", "UpdateAlias"] {
        assert_eq!(calls_of(&cloud, call), 0, "{call}");
    }
    let usage = run(&cloud, &["upgrade"]).await;
    assert_eq!(usage.status.code(), Some(2), "{}", words(&usage));
    refused(
        &cloud,
        &["upgrade", "--rollback"],
        &["no published version", "Nothing was changed"],
    )
    .await;
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_fails_its_test_never_serves_and_the_next_good_one_does() {
    let packages = Packages::new();
    let cloud = asleep(|config| config.boot = Duration::from_secs(3600)).await;
    let first = latest(&cloud);
    poll(&cloud).await;
    let watcher = Watcher::start(&cloud);
    for (zip, said) in [
        (packages.that_dies(), "Runtime.ExitError"),
        (packages.rubbish(), "answers a health check with {}"),
    ] {
        let said = [said, "stays on version 1", "To go on"];
        refused(&cloud, &["upgrade", &zip.to_string_lossy()], &said).await;
        assert_eq!(live(&cloud), "1");
        let before = answered(&cloud, "1", &first);
        poll(&cloud).await;
        assert!(answered(&cloud, "1", &first) > before, "the code from before serves");
    }
    watcher.end().await;
    assert_eq!(versions(&cloud), 1, "what failed is never published");
    upgraded(&cloud, &packages.good("good")).await;
    cloud.stop().await;
}

/// Lambda's `Invoke` on what the alias leads to.
async fn invoke(cloud: &Cloud, event: &Value) -> Answer {
    let path = format!("/2015-03-31/functions/{FUNCTION}/invocations?Qualifier=live");
    let request = format!("POST {path} HTTP/1.1\r\nHost: lambda");
    ask(cloud.api_address, &request, &event.to_string()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_self_check_says_what_is_wrong_and_changes_nothing() {
    let event = json!({ "autostopping": "self-check" });
    let cloud = asleep(|_| {}).await;
    let items = |cloud: &Cloud| {
        let mut world = cloud.shared.world();
        world.table("autostopping").expect("it is there").items().clone()
    };
    let before = items(&cloud);
    let answer = invoke(&cloud, &event).await;
    let ok = json!({ "configuration": "ok", "ledger": "ok", "listeners": "ok" });
    let said = json!({ "version": env!("CARGO_PKG_VERSION"), "schema": 1, "checks": ok });
    assert_eq!((answer.status, answer.json()), (200, said));
    cloud.shared.world().faults.denied = vec!["DescribeRules".to_owned()];
    let checks = invoke(&cloud, &event).await.json()["checks"].clone();
    assert_eq!(
        (&checks["configuration"], &checks["ledger"]),
        (&json!("ok"), &json!("ok"))
    );
    let listeners = checks["listeners"].as_str().expect("words");
    assert!(listeners.contains("elasticloadbalancing:DescribeRules"), "{listeners}");
    assert_eq!(items(&cloud), before);
    assert_eq!(starts(&cloud), 0);
    let writes = [
        "PutItem",
        "UpdateItem",
        "BatchWriteItem",
        "DeleteItem",
        "ModifyRule",
        "CreateRule",
    ];
    assert_eq!(writes.map(|call| calls_of(&cloud, call)), [0; 6]);
    cloud.stop().await;

    let cloud = asleep(|config| config.env = vec![("AUTOSTOPPING_SETTLE".to_owned(), "soon".to_owned())]).await;
    let checks = invoke(&cloud, &event).await.json()["checks"].clone();
    let configuration = checks["configuration"].as_str().expect("words");
    assert!(
        configuration.contains("AUTOSTOPPING_SETTLE") && configuration.contains("soon"),
        "{configuration}"
    );
    assert!(
        checks["ledger"]
            .as_str()
            .is_some_and(|words| words.starts_with("not tried")),
        "{checks}"
    );
    cloud.stop().await;
}

/// `PUT /2015-03-31/functions/NAME/code`, as the console does it.
async fn console_upload(cloud: &Cloud, zip: &Path) -> Answer {
    let content = std::fs::read(zip).expect("it is there");
    let body = json!({ "ZipFile": STANDARD.encode(content) }).to_string();
    let request = format!("PUT /2015-03-31/functions/{FUNCTION}/code HTTP/1.1\r\nHost: lambda");
    ask(cloud.api_address, &request, &body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zip_uploaded_in_the_console_is_live_at_once() {
    let packages = Packages::new();
    let cloud = asleep(|config| config.boot = Duration::from_secs(3600)).await;
    let first = latest(&cloud);
    let watcher = Watcher::start(&cloud);
    let answer = console_upload(&cloud, &packages.good("console")).await;
    assert_eq!(
        (answer.status, &answer.json()["LastUpdateStatus"]),
        (200, &json!("InProgress")),
        "{}",
        answer.text()
    );
    let second = latest(&cloud);
    until("the new code serves", || answered(&cloud, "$LATEST", &second) > 0).await;
    watcher.end().await;
    assert!(answered(&cloud, "$LATEST", &first) > 0);
    assert_eq!((live(&cloud).as_str(), versions(&cloud)), ("$LATEST", 0));

    // The same by way of a zip without a program: AWS takes it, and every request is a bare 502.
    let answer = console_upload(&cloud, &packages.zip("nothing", &[("README", b"", 0o644)])).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let broken = async { while poll(&cloud).await.status != 502 {} };
    timeout(Duration::from_secs(30), broken)
        .await
        .expect("the update is done");
    cloud.stop().await;
}

/// Each call is refused in its turn, as if the process had died before it; what was done before stays done once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_interrupted_anywhere_is_finished_by_running_it_again() {
    let packages = Packages::new();
    let cloud = asleep(|config| config.boot = Duration::from_secs(3600)).await;
    let good = packages.good("good");
    let watcher = Watcher::start(&cloud);
    let old = latest(&cloud);
    for (call, stands_on, uploads) in [
        ("GetAlias", "$LATEST", 0),
        ("PublishVersion", "$LATEST", 0),
        ("UpdateAlias", "$LATEST", 0),
        ("UpdateFunctionCode", "1", 0),
        ("Invoke", "1", 1),
        ("UpdateAlias", "1", 1),
    ] {
        cloud.shared.world().faults.denied = vec![call.to_owned()];
        refused(&cloud, &["upgrade", &good.to_string_lossy()], &[call]).await;
        let uploaded = usize::from(latest(&cloud) != old);
        assert_eq!((live(&cloud).as_str(), uploaded), (stands_on, uploads), "{call}");
    }
    cloud.shared.world().faults.denied.clear();
    upgraded(&cloud, &good).await;
    upgraded(&cloud, &good).await;
    watcher.end().await;
    let uploads = calls_of(&cloud, "UpdateFunctionCode");
    assert_eq!((versions(&cloud), uploads), (1, 2), "once refused, once done");
    cloud.stop().await;
}

/// Every writing call takes effect and its answer is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_cost_nothing_but_another_look() {
    let packages = Packages::new();
    let cloud = asleep(|_| {}).await;
    {
        let mut world = cloud.shared.world();
        world.faults.lost_response = 1.0;
        world.faults.lost_calls = ["UpdateFunctionCode", "UpdateAlias"].map(str::to_owned).into();
    }
    upgraded(&cloud, &packages.good("good")).await;
    assert_eq!((versions(&cloud), calls_of(&cloud, "UpdateFunctionCode")), (1, 1));
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_upgrades_at_once_do_no_harm() {
    let packages = Packages::new();
    let cloud = asleep(|config| config.boot = Duration::from_secs(3600)).await;
    let (good, dead) = (packages.good("good"), packages.that_dies());
    let watcher = Watcher::start(&cloud);
    let (of_good, of_dead) = tokio::join!(upgrade(&cloud, &good), upgrade(&cloud, &dead));
    watcher.end().await;
    assert_eq!(of_dead.status.code(), Some(1), "{}", words(&of_dead));
    let dead_answered = proxymanager::upgrade::package::read(&dead)
        .expect("a good zip by its looks")
        .digest;
    assert_eq!(answered(&cloud, "$LATEST", &dead_answered), 0);
    if !of_good.status.success() {
        assert!(words(&of_good).contains("To go on"), "{}", words(&of_good));
    }
    upgraded(&cloud, &good).await;
    cloud.stop().await;
}

/// The record of a rule as a later version would write it.
fn written_by_a_later_version(cloud: &Cloud, name: &str) -> Value {
    let mut world = cloud.shared.world();
    let table = world.table("autostopping").expect("the table is there");
    let items = table.items().values();
    let of_rule = |item: &&serde_json::Map<String, Value>| {
        item["sk"]["S"] == "record" && item["pk"]["S"].as_str().is_some_and(|pk| pk.ends_with(name))
    };
    let mut item = items.into_iter().find(of_rule).expect("it has a record").clone();
    let schema: u64 = item["schema"]["N"]
        .as_str()
        .and_then(|number| number.parse().ok())
        .expect("a number");
    item.insert("schema".to_owned(), json!({ "N": (schema + 1).to_string() }));
    item.insert("body".to_owned(), json!({ "S": "{\"of\":\"a later version\"}" }));
    table.put(item.clone()).expect("it is an item");
    Value::Object(item)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_later_version_wrote_is_left_alone_and_said_so() {
    let packages = Packages::new();
    let cloud = asleep(|config| config.sites = vec![sample(HOST), sample("other.localhost")]).await;
    let later = written_by_a_later_version(&cloud, "site");
    for accept in ["text/html", "*/*", POLL] {
        let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nAccept: {accept}");
        let answer = ask(cloud.address, &request, "").await;
        assert_eq!(answer.status, 503);
        assert!(
            answer.text().contains("finish the upgrade, or roll back both"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(starts(&cloud), 0);
    let stored = {
        let mut world = cloud.shared.world();
        let items: Vec<_> = world
            .table("autostopping")
            .expect("it is there")
            .items()
            .values()
            .cloned()
            .collect();
        items
            .into_iter()
            .map(Value::Object)
            .filter(|item| *item == later)
            .count()
    };
    assert_eq!(stored, 1, "it is as it was");

    let other = ask(
        cloud.address,
        "GET / HTTP/1.1\r\nHost: other.localhost\r\nAccept: text/html",
        "",
    )
    .await;
    assert_eq!(
        (other.status, other.header("x-autostopping-phase")),
        (503, Some("starting")),
        "{}",
        other.text()
    );

    let said = ["1 of 2 records cannot be used", "stays on version 1"];
    refused(&cloud, &["upgrade", &packages.good("good").to_string_lossy()], &said).await;
    cloud.stop().await;
}
