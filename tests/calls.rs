//! What a Tick over a hundred rules asks of AWS and of the ledger when there is nothing to do.

mod days;

use std::collections::BTreeMap;
use std::sync::Arc;

use days::hands::set_idle;
use days::scene::Scene;
use days::time::{HOUR, MINUTE, SECOND};

const RULES: usize = 100;

/// The calls of one sweep, by operation.
fn sweep(scene: &mut Scene) -> BTreeMap<&'static str, u64> {
    scene.account.ledger.forget_counts();
    scene.account.cloud().counts.clear();
    let account = Arc::clone(&scene.account);
    let swept = scene.block_on(async move { account.driver().sweep().await.map_err(|error| error.to_string()) });
    let swept = swept.expect("nothing is in the way");
    assert_eq!((swept.rules, swept.looked), (RULES, 0), "there is nothing to do");
    let aws = scene.account.cloud().counts.clone();
    aws.into_iter().chain(scene.account.ledger.counts()).collect()
}

/// Sweeps until nothing is in motion, and once more than a table is kept for.
fn come_to_rest(scene: &mut Scene) {
    for _ in 0..10 {
        let account = Arc::clone(&scene.account);
        let swept = scene.block_on(async move { account.driver().sweep().await.map_err(|error| error.to_string()) });
        if swept.expect("nothing is in the way").looked == 0 {
            break;
        }
        scene.wait(MINUTE);
    }
    scene.wait(11 * SECOND);
}

fn told(what: &str, calls: &BTreeMap<&'static str, u64>) -> u64 {
    let sum = calls.values().sum();
    println!("one sweep over {RULES} rules, {what}: {sum} calls");
    for (name, count) in calls {
        println!("{name:>50}: {count}");
    }
    sum
}

#[test]
fn a_tick_over_a_hundred_rules_asleep() {
    let mut scene = Scene::stopped(RULES, 1);
    come_to_rest(&mut scene);
    assert!((0..RULES).all(|site| scene.sleeps(site)));
    let calls = sweep(&mut scene);
    told("all asleep", &calls);
    assert_eq!(
        calls.get("elasticloadbalancing:DescribeTargetHealth"),
        None,
        "nobody asks for the health of what rests"
    );
    assert_eq!(calls.get("ec2:DescribeInstances"), Some(&1), "all machines in one call");
    assert_eq!(calls.get("cloudwatch:GetMetricData"), None);
    assert_eq!(calls.get("ledger:load_all"), Some(&1), "all records in one read");
    assert_eq!(calls.get("ledger:store"), None, "nothing is written");
}

#[test]
fn a_tick_over_a_hundred_rules_awake_and_not_due() {
    let mut scene = Scene::stopped(RULES, 1);
    for site in 0..RULES {
        set_idle(&scene.account, site, 2 * HOUR);
        scene.start(site);
    }
    scene.wait(5 * MINUTE);
    come_to_rest(&mut scene);
    assert!((0..RULES).all(|site| scene.runs(site) && !scene.on_waker(site)));
    let calls = sweep(&mut scene);
    told("all awake and not due", &calls);
    assert_eq!(
        calls.get("elasticloadbalancing:DescribeTargetHealth"),
        None,
        "nobody asks for the health of what rests"
    );
    assert_eq!(calls.get("ec2:DescribeInstances"), Some(&1), "all machines in one call");
    assert_eq!(calls.get("cloudwatch:GetMetricData"), None, "nothing is due");
    assert_eq!(calls.get("ledger:load_all"), Some(&1), "all records in one read");
    assert_eq!(calls.get("ledger:store"), None, "nothing is written");
}
