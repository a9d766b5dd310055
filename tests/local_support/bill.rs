//! What the system itself asks of AWS, counted over the real function, and what a month of it costs.

use std::{collections::BTreeMap, time::Duration};

use proxymanager::local::{Cloud, seed::Site};
use serde_json::{Value, json};
use tokio::{process::Command, time::Instant};

use super::{
    HOST,
    story::{asleep, record, site},
    until,
    visitor::{Kind, Visitor},
};

pub type Calls = BTreeMap<String, u64>;

/// So many sites, all asleep, whose programs do nothing.
pub async fn sites(rules: usize) -> Cloud {
    asleep(|config| {
        config.sites = (0..rules)
            .map(|number| Site {
                host: format!("site-{number}.localhost"),
                command: ["sleep", "1000"].map(str::to_owned).to_vec(),
            })
            .collect();
        config.events = false;
        config.quota = 2 * rules.max(50);
    })
    .await
}

/// What a Tick answers, or why it failed: a first one over many rules may take longer than a call is given.
async fn tick(cloud: &Cloud) -> Result<Value, String> {
    let tick = json!({ "source": "aws.events", "detail-type": "Scheduled Event", "detail": {} }).to_string();
    let answer = cloud.shared.invoke(tick.into()).await;
    let answer = answer.map_err(|error| format!("{error:?}"))?;
    Ok(serde_json::from_slice(&answer).expect("it answers in JSON"))
}

/// Ticks until no rule needs a look, and then counts the calls of one more, at which the table is renewed.
pub async fn of_a_tick(cloud: &Cloud) -> Calls {
    let rests = |said: &Result<Value, String>| said.as_ref().is_ok_and(|said| said["looked"] == 0);
    let mut said = tick(cloud).await;
    for _ in 0..30 {
        if rests(&said) {
            break;
        }
        // A rule that was looked at a moment ago may be due again: few rules are swept faster than that.
        tokio::time::sleep(Duration::from_secs(1)).await;
        said = tick(cloud).await;
    }
    assert!(rests(&said), "{said:?}");
    assert_eq!(said.expect("it rests")["rules"], json!(cloud.seeded.sites.len()));
    // The table is kept for ten seconds.
    tokio::time::sleep(Duration::from_secs(11)).await;
    cloud.shared.world().forget_calls();
    let said = tick(cloud).await;
    assert!(rests(&said), "{said:?}");
    so_far(cloud)
}

/// All calls since they were last forgotten.
pub fn so_far(cloud: &Cloud) -> Calls {
    cloud.shared.world().call_counts().clone().into_iter().collect()
}

/// Starts all machines and puts all routes on them, as somebody does by hand.
pub async fn wake_all(cloud: &Cloud) {
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
}

/// The calls of one wake and one sleep of one rule, with a visitor who waits.
pub async fn of_a_use() -> Calls {
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
    let calls = so_far(&cloud);
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
pub fn month(cloud: &Cloud, tick: &Calls, once: &Calls) -> Vec<(&'static str, f64)> {
    let prices = prices();
    let price = |name: &str| prices[name].as_f64().expect("every price is there");
    let count = |calls: &Calls, names: &[&str]| -> f64 {
        let named = names.iter().filter_map(|name| calls.get(*name));
        named.sum::<u64>() as f64
    };
    let reads = |calls| count(calls, &["GetItem", "Query"]) * price("dynamodb_read_unit");
    let writes = |calls| count(calls, &["PutItem", "UpdateItem", "DeleteItem"]) * price("dynamodb_write_unit");
    let rules = cloud.seeded.sites.len() as f64;
    let (ticks, working_days) = (60.0 * 24.0 * 30.0, 22.0);
    let uses = rules * 2.0 * working_days;
    let records = units_to_read(cloud) * price("dynamodb_read_unit");
    // The head of the table and its claim are below 1 KB; a record is below 4 KB, and 2 for reading it would do.
    let (small, large) = (1.0, 4.0);
    // A rule with `idle` of an hour that is used for eight hours is asked for its metrics about twelve times: requests,
    // living minutes, bytes in and out of one machine.
    let metrics = rules * 12.0 * 4.0 * working_days;
    // A page polls about sixty times while a machine boots. 128 MB; half a second a Tick, a tenth a request.
    let requests = uses * 60.0;
    let gb_seconds = (ticks * 0.5 + requests * 0.1) / 8.0;
    vec![
        (
            "DynamoDB, Ticks",
            ticks * (records + reads(tick) + writes(tick) * small),
        ),
        ("DynamoDB, use", uses * (reads(once) * large + writes(once) * large)),
        (
            "Lambda",
            (ticks + requests) * price("lambda_invocation") + gb_seconds * price("lambda_gb_second"),
        ),
        (
            "CloudWatch, metrics asked for",
            metrics * price("cloudwatch_metric_requested"),
        ),
        ("CloudWatch, logs", 0.2 * price("cloudwatch_log_gb")),
    ]
}

/// List prices, with their source and date.
pub fn prices() -> Value {
    serde_json::from_str(include_str!("../../bench/function/prices.json")).expect("the prices are JSON")
}
