//! What a Tick over a hundred rules asks of AWS when there is nothing to do, over the real function, and what a month of it
//! costs.
//! Seen red with every Tick reading all tags, and with a look at every rule.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::collections::BTreeMap;
use std::time::Duration;

use local_support::{story::asleep, until};
use proxymanager::local::{Cloud, seed::Site};
use serde_json::{Value, json};

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
    print_month(&calls);
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

/// The price of a month: a Tick a minute, and for each rule what a day of use asks beyond that.
fn print_month(calls: &BTreeMap<String, u64>) {
    let prices: Value = serde_json::from_str(include_str!("../bench/prices.json")).expect("the prices are JSON");
    let price = |name: &str| prices[name].as_f64().expect("every price is there");
    let ticks = 60.0 * 24.0 * 30.0;
    let count = |name: &str| calls.get(name).copied().unwrap_or_default() as f64;
    // Records are below 4 KB, a unit each to read; the head of the table, its claim and their like are below 1 KB, one to
    // write.
    let reads = RULES as f64 * count("BatchGetItem") + count("GetItem") + count("Query");
    let writes = count("PutItem") + count("UpdateItem") + count("DeleteItem");
    // A rule with `idle` of an hour that is used for eight hours a day is asked for its metrics about twelve times a day:
    // requests, living minutes, bytes in and out of one machine.
    let metrics = RULES as f64 * 12.0 * 4.0 * 30.0;
    // Each of its two wakes and sleeps a day takes some hundred units of the table; their requests as many invocations.
    let uses = RULES as f64 * 2.0 * 30.0;
    // 128 MB, one second a Tick at most.
    let seconds = ticks + uses * 60.0;
    let parts = [
        (
            "DynamoDB, Ticks",
            ticks * (reads * price("dynamodb_read_unit") + writes * price("dynamodb_write_unit")),
        ),
        ("DynamoDB, use", uses * 200.0 * price("dynamodb_write_unit")),
        (
            "Lambda",
            (ticks + uses * 60.0) * price("lambda_invocation") + seconds / 8.0 * price("lambda_gb_second"),
        ),
        (
            "CloudWatch, metrics asked for",
            metrics * price("cloudwatch_metric_requested"),
        ),
        ("CloudWatch, logs", 0.1 * price("cloudwatch_log_gb")),
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
