//! The real function asks CloudWatch before it puts an awake rule to sleep, and does so by itself once nobody has used it for
//! its idle time.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::time::Duration;

use local_support::story::{action, asleep, calls_of, parked, site};
use local_support::visitor::{Kind, Visitor};
use local_support::{HOST, within};
use tokio::time::Instant;

/// A point of a metric covers a minute, and every minute up to the decision has to be proven.
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_nobody_uses_goes_to_sleep_by_itself() {
    let cloud = asleep(|config| {
        config.tick = Some(Duration::from_secs(2));
        config.idle = Duration::from_secs(1);
        config.metrics_delay = Duration::ZERO;
    })
    .await;
    let mut visitor = Visitor::new(Kind::Browser, cloud.address, HOST, "/", 1);
    let arrived = visitor.arrive(Instant::now() + Duration::from_secs(60)).await;
    assert!(arrived, "{}", visitor.story());
    assert_eq!(action(&cloud), site(&cloud).action, "it is awake");
    within(PATIENCE, "CloudWatch was asked and R leads to the waker", || {
        calls_of(&cloud, "GetMetricData") > 0 && action(&cloud) != site(&cloud).action
    })
    .await;
    assert_eq!(parked(&cloud), 1, "the way back is kept");
    cloud.stop().await;
}
