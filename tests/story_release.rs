//! A listener rule that is no longer opted in gets its own action back, and what was parked for it goes. Nothing is started
//! and nothing stopped.
//! Seen red with R left on the waker.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::time::Duration;

use local_support::story::{action, asleep, calls_of, parked, power, record, site, starts};
use local_support::{get, within};
use proxymanager::local::Cloud;

/// Loose in two readings, the second a minute after the first at the latest.
const PATIENCE: Duration = Duration::from_secs(100);

async fn asleep_with_its_parked_rule() -> Cloud {
    let cloud = asleep(|config| config.tick = Some(Duration::from_secs(2))).await;
    wait("it is parked and asleep", || parked(&cloud) == 1 && known(&cloud)).await;
    cloud
}

/// Whether a Tick has looked at it.
fn known(cloud: &Cloud) -> bool {
    record(cloud).is_some_and(|record| record["digest"].is_u64())
}

async fn wait(what: &str, is: impl Fn() -> bool) {
    within(PATIENCE, what, is).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_whose_tag_is_removed_is_restored() {
    let cloud = asleep_with_its_parked_rule().await;
    assert_ne!(action(&cloud), site(&cloud).action, "it leads to the waker");
    let keys = ["autostopping:idle".to_owned()];
    cloud
        .shared
        .world()
        .remove_elb_tags(&site(&cloud).rule, &keys)
        .expect("R is there");
    wait("R is restored and P gone", || {
        action(&cloud) == site(&cloud).action && parked(&cloud) == 0
    })
    .await;
    assert_eq!((power(&cloud), starts(&cloud)), ("stopped", 0));
    wait("the record is fresh", || {
        record(&cloud).is_some_and(|record| record["adopted"] == false)
    })
    .await;
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_parked_for_a_deleted_rule_is_deleted() {
    let cloud = asleep_with_its_parked_rule().await;
    let now = cloud.shared.clock.now();
    cloud
        .shared
        .world()
        .delete_rule(now, &site(&cloud).rule)
        .expect("R is there");
    wait("P is gone", || parked(&cloud) == 0).await;
    assert_eq!((power(&cloud), starts(&cloud)), ("stopped", 0));
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_left_the_rule_is_no_longer_claimed() {
    let cloud = asleep_with_its_parked_rule().await;
    let (now, left) = (cloud.shared.clock.now(), site(&cloud).instance.clone());
    {
        let mut world = cloud.shared.world();
        let group = world.target_group_mut(&site(&cloud).group).expect("the group is there");
        let at_once = ("deregistration_delay.timeout_seconds".to_owned(), "0".to_owned());
        group.attributes.extend([at_once]);
        let arn = group.arn.clone();
        let gone = world.deregister_targets(now, &arn, &[(left.clone(), None)]);
        gone.expect("it is registered");
    }
    get(&cloud, "/").await;
    let claims = || {
        let world = cloud.shared.world();
        let items = world.tables().flat_map(|(_, table)| table.items().values());
        items
            .filter(|item| item["pk"]["S"].as_str().is_some_and(|key| key.contains(&left)))
            .count()
    };
    wait("nobody claims it", || claims() == 0).await;
    assert!(calls_of(&cloud, "DeleteItem") > 0, "there was a claim");
    assert_eq!((power(&cloud), starts(&cloud)), ("stopped", 0));
    cloud.stop().await;
}
