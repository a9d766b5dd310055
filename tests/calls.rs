//! What a Tick over a hundred rules asks of AWS when there is nothing to do, over the real function, and what a month of it
//! costs.
//! Seen red with every Tick reading all tags, and with a look at every rule.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::collections::BTreeMap;
use std::time::Duration;

use local_support::{
    HOST,
    story::{asleep, record, site},
    until,
    visitor::{Kind, Visitor},
};
use proxymanager::local::{Cloud, seed::Site};
use serde_json::{Value, json};
use tokio::{process::Command, time::Instant};

const RULES: usize = 100;
const MOST: u64 = 10;

/// A hundred sites whose programs do nothing.
async fn hundred() -> Cloud {
    asleep(|config| {
        config.sites = (0..RULES)
            .map(|number| Site {
                host: format!("site-{number}.localhost"),
                command: ["sleep", "1000"].map(str::to_owned).to_vec(),
            })
            .collect();
        config.events = false;
        config.quota = 2 * RULES;
    })
    .await
}

async fn tick(cloud: &Cloud) -> Value {
    let tick = json!({ "source": "aws.events", "detail-type": "Scheduled Event", "detail": {} }).to_string();
    let answer = cloud.shared.invoke(tick.into()).await.expect("the Tick succeeds");
    serde_json::from_slice(&answer).expect("it answers in JSON")
}

/// Ticks until no rule needs a look, and then counts the calls of one more, at which the table is renewed.
async fn counted(cloud: &Cloud, what: &str) -> BTreeMap<String, u64> {
    let mut said = tick(cloud).await;
    for _ in 0..30 {
        if said["looked"] == 0 {
            break;
        }
        said = tick(cloud).await;
    }
    assert_eq!((&said["rules"], &said["looked"]), (&json!(RULES), &json!(0)), "{what}");
    // The table is kept for ten seconds.
    tokio::time::sleep(Duration::from_secs(11)).await;
    cloud.shared.world().forget_calls();
    assert_eq!(tick(cloud).await["looked"], 0);
    let calls: BTreeMap<String, u64> = cloud.shared.world().call_counts().clone().into_iter().collect();
    println!(
        "one Tick over {RULES} rules, {what}: {} calls",
        calls.values().sum::<u64>()
    );
    for (name, count) in &calls {
        println!("{name:>30}: {count}");
    }
    calls
}

fn within_budget(calls: &BTreeMap<String, u64>) {
    assert!(calls.contains_key("DescribeRules"), "the table was renewed");
    assert!(calls.values().sum::<u64>() <= MOST, "{calls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_over_a_hundred_rules_asleep() {
    let cloud = hundred().await;
    let calls = counted(&cloud, "all asleep").await;
    within_budget(&calls);
    print_month(&cloud, &calls).await;
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_over_a_hundred_rules_awake_and_not_due() {
    let cloud = hundred().await;
    let now = cloud.shared.clock.now();
    for site in &cloud.seeded.sites {
        let mut world = cloud.shared.world();
        let action = vec![site.action.clone()];
        world
            .modify_rule(now, &site.rule, None, Some(action), None)
            .expect("R is there");
        world
            .start_instances(now, std::slice::from_ref(&site.instance))
            .expect("it starts");
    }
    let running = || {
        let world = cloud.shared.world();
        let mut sites = cloud.seeded.sites.iter();
        sites.all(|site| {
            world
                .instance(&site.instance)
                .is_some_and(|one| one.life().power.name().0 == "running")
        })
    };
    until("all run", running).await;
    let calls = counted(&cloud, "all awake and not due").await;
    within_budget(&calls);
    cloud.stop().await;
}

/// The calls of one wake and one sleep of one rule, with a visitor who waits.
async fn use_once() -> BTreeMap<String, u64> {
    let cloud = asleep(|config| config.tick = Some(Duration::from_secs(1))).await;
    cloud.shared.world().forget_calls();
    let mut visitor = Visitor::new(Kind::Browser, cloud.address, HOST, "/", 1);
    assert!(
        visitor.arrive(Instant::now() + Duration::from_secs(60)).await,
        "{}",
        visitor.story()
    );
    let environment: Vec<_> = cloud.shared.lambda.environment().into_iter().collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxymanager"));
    command
        .args(["sleep", &site(&cloud).name, "--no-wait"])
        .env_clear()
        .envs(environment);
    assert!(command.status().await.expect("the command line runs").success());
    let phase = || record(&cloud).map(|record| record["snapshot"]["phase"].clone());
    until("it sleeps again", || phase() == Some(json!("asleep"))).await;
    let calls = cloud.shared.world().call_counts().clone().into_iter().collect();
    cloud.stop().await;
    calls
}

/// Units that it takes to read all records: one for each 4 KB begun of each of them.
fn units_to_read(cloud: &Cloud) -> f64 {
    let world = cloud.shared.world();
    let items = world.tables().flat_map(|(_, table)| table.items().values());
    let records = items.filter(|item| item.get("sk").is_some_and(|sk| sk["S"] == "record"));
    let units = records.map(|record| Value::Object(record.clone()).to_string().len().div_ceil(4096));
    units.sum::<usize>() as f64
}

/// The price of a month of 22 working days: a Tick a minute, and for each rule two wakes and two sleeps a working day.
/// Sizes, and how long the function runs, are taken high: it is not known how fast AWS answers.
async fn print_month(cloud: &Cloud, tick: &BTreeMap<String, u64>) {
    let prices: Value = serde_json::from_str(include_str!("../bench/prices.json")).expect("the prices are JSON");
    let price = |name: &str| prices[name].as_f64().expect("every price is there");
    let once = use_once().await;
    println!("one wake and one sleep: {once:?}");
    let count = |calls: &BTreeMap<String, u64>, names: &[&str]| -> f64 {
        let named = names.iter().filter_map(|name| calls.get(*name));
        named.sum::<u64>() as f64
    };
    let reads = |calls| count(calls, &["GetItem", "Query"]) * price("dynamodb_read_unit");
    let writes = |calls| count(calls, &["PutItem", "UpdateItem", "DeleteItem"]) * price("dynamodb_write_unit");
    let (ticks, working_days) = (60.0 * 24.0 * 30.0, 22.0);
    let uses = RULES as f64 * 2.0 * working_days;
    let records = units_to_read(cloud) * price("dynamodb_read_unit");
    // The head of the table and its claim are below 1 KB; a record is below 4 KB, and 2 for reading it would do.
    let (small, large) = (1.0, 4.0);
    // A rule with `idle` of an hour that is used for eight hours is asked for its metrics about twelve times: requests,
    // living minutes, bytes in and out of one machine.
    let metrics = RULES as f64 * 12.0 * 4.0 * working_days;
    // A page polls about sixty times while a machine boots. 128 MB; half a second a Tick, a tenth a request.
    let requests = uses * 60.0;
    let gb_seconds = (ticks * 0.5 + requests * 0.1) / 8.0;
    let parts = [
        (
            "DynamoDB, Ticks",
            ticks * (records + reads(tick) + writes(tick) * small),
        ),
        ("DynamoDB, use", uses * (reads(&once) * large + writes(&once) * large)),
        (
            "Lambda",
            (ticks + requests) * price("lambda_invocation") + gb_seconds * price("lambda_gb_second"),
        ),
        (
            "CloudWatch, metrics asked for",
            metrics * price("cloudwatch_metric_requested"),
        ),
        ("CloudWatch, logs", 0.2 * price("cloudwatch_log_gb")),
    ];
    let sum: f64 = parts.iter().map(|(_, usd)| usd).sum();
    println!(
        "a month of {RULES} rules, prices of {}: {sum:.2} USD",
        prices["date"].as_str().unwrap_or_default()
    );
    for (what, usd) in parts {
        println!("{what:>30}: {usd:.2}");
    }
    assert!(sum < 3.0, "{sum}");
}
