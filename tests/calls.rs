//! What a Tick over a hundred rules asks of AWS when there is nothing to do, over the real function, and what a month of it
//! costs.
//! Seen red with every Tick reading all tags, and with a look at every rule.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use local_support::bill;

const RULES: usize = 100;
const MOST: u64 = 10;

fn within_budget(calls: &bill::Calls) {
    println!("one Tick over {RULES} rules: {calls:?}");
    assert!(calls.contains_key("DescribeRules"), "the table was renewed");
    assert!(calls.values().sum::<u64>() <= MOST, "{calls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_over_a_hundred_rules_asleep_and_a_month_of_them() {
    let cloud = bill::sites(RULES).await;
    let tick = bill::of_a_tick(&cloud).await;
    within_budget(&tick);
    let month = bill::month(&cloud, &tick, &bill::of_a_use().await);
    assert!(month.iter().map(|(_, usd)| usd).sum::<f64>() < 3.0, "{month:?}");
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_over_a_hundred_rules_awake_and_not_due() {
    let cloud = bill::sites(RULES).await;
    bill::wake_all(&cloud).await;
    within_budget(&bill::of_a_tick(&cloud).await);
    cloud.stop().await;
}
