//! Somebody comes while the rule is being put to sleep: at every single step of it, with sweeps that overlap, and fifty at
//! once. Nobody ever gets a bare error, and all end on the site.
//! Seen red with the routes left on the backend until after the stop: 502s and 503s of the load balancer.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::sync::Arc;
use std::time::Duration;

use local_support::{
    HOST,
    story::{action, asleep, power, record, site, starts},
    until,
    visitor::{Kind, Seen, Visitor},
};
use proxymanager::local::{Cloud, shared::Shared};
use serde_json::{Value, json};
use tokio::{process::Command, task::JoinSet, time::Instant};

/// A minute of doubt after each stop, and the wake.
const PATIENCE: Duration = Duration::from_secs(150);

/// The moments of a sleep, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Told,
    Parked,
    Flipped,
    Settling,
    AskedToStop,
    Stopping,
    Stopped,
    Asleep,
}

const MOMENTS: [Moment; 8] = [
    Moment::Told,
    Moment::Parked,
    Moment::Flipped,
    Moment::Settling,
    Moment::AskedToStop,
    Moment::Stopping,
    Moment::Stopped,
    Moment::Asleep,
];

fn calls(cloud: &Cloud, name: &str) -> u64 {
    cloud
        .shared
        .world()
        .call_counts()
        .get(name)
        .copied()
        .unwrap_or_default()
}

fn phase(cloud: &Cloud) -> String {
    let snapshot = record(cloud).map(|record| record["snapshot"]["phase"].clone());
    snapshot.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn has_come(cloud: &Cloud, moment: Moment) -> bool {
    match moment {
        Moment::Told => record(cloud).is_some_and(|record| record["wanted"] == "asleep"),
        Moment::Parked => calls(cloud, "DescribeRules") > 0,
        Moment::Flipped => calls(cloud, "ModifyRule") > 0,
        Moment::Settling => phase(cloud) == "settling",
        Moment::AskedToStop => calls(cloud, "StopInstances") > 0,
        Moment::Stopping => power(cloud) == "stopping" || power(cloud) == "stopped",
        Moment::Stopped => power(cloud) == "stopped",
        Moment::Asleep => phase(cloud) == "asleep",
    }
}

/// A cloud with its site awake, slow enough for each step of a sleep to be met.
async fn awake() -> Cloud {
    let cloud = asleep(|config| {
        config.stop = Duration::from_millis(700);
        config.concurrency = 100;
        config.env.push(("AUTOSTOPPING_SETTLE".to_owned(), "2s".to_owned()));
    })
    .await;
    arrive(&cloud, 1, 0).await.expect("the site wakes");
    cloud.shared.world().forget_calls();
    cloud.shared.world().faults.latency_ms = 80;
    cloud
}

async fn tell_to_sleep(cloud: &Cloud) {
    let rule = site(cloud).name.clone();
    let environment: Vec<_> = cloud.shared.lambda.environment().into_iter().collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxymanager"));
    command
        .args(["sleep", &rule, "--no-wait"])
        .env_clear()
        .envs(environment);
    let output = command
        .kill_on_drop(true)
        .output()
        .await
        .expect("the command line runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// So many come at once and end on the site, or the story of one who did not.
async fn arrive(cloud: &Cloud, clients: u64, seed: u64) -> Result<(), String> {
    let give_up = Instant::now() + PATIENCE;
    let mut crowd = JoinSet::new();
    for number in 0..clients {
        let kind = if number % 2 == 0 { Kind::Browser } else { Kind::Program };
        let mut visitor = Visitor::new(kind, cloud.address, HOST, "/", seed + number);
        crowd.spawn(async move { (visitor.arrive(give_up).await, visitor) });
    }
    let well = |seen: &Seen| matches!(seen, Seen::Site | Seen::Told(..) | Seen::Redirect);
    for (arrived, visitor) in crowd.join_all().await {
        if !arrived || !visitor.steps.iter().all(|step| well(&step.seen)) {
            return Err(visitor.story());
        }
    }
    Ok(())
}

/// Sweeps, as many at once, until the guard is dropped.
fn sweep(shared: &Arc<Shared>, at_once: usize) -> JoinSet<()> {
    let mut sweeps = JoinSet::new();
    for _ in 0..at_once {
        let shared = Arc::clone(shared);
        sweeps.spawn(async move {
            let tick = json!({ "source": "aws.events", "detail-type": "Scheduled Event", "detail": {} }).to_string();
            loop {
                // What a sweep says is for the log; what it does is seen in the world.
                let _said = shared.invoke(tick.clone().into()).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
    }
    sweeps
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wake_at_every_single_step_of_a_sleep() {
    let mut stories = JoinSet::new();
    for moment in MOMENTS {
        stories.spawn(async move {
            let cloud = awake().await;
            let _sweeps = sweep(&cloud.shared, 1);
            let shared = &cloud;
            let watch = until("the moment has come", || has_come(shared, moment));
            tokio::join!(tell_to_sleep(&cloud), watch);
            let met = (phase(&cloud), power(&cloud));
            let story = arrive(&cloud, 2, 10).await;
            assert_eq!(action(&cloud), site(&cloud).action, "{moment:?}: R is as it was");
            cloud.stop().await;
            story.map(|()| met).map_err(|story| format!("{moment:?}: {story}"))
        });
    }
    let failures: Vec<_> = stories.join_all().await.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sweeps_at_once_stop_once() {
    let cloud = awake().await;
    let _sweeps = sweep(&cloud.shared, 2);
    tell_to_sleep(&cloud).await;
    until("it is asleep", || phase(&cloud) == "asleep").await;
    assert_eq!(calls(&cloud, "StopInstances"), 1);
    assert_eq!(starts(&cloud), 1);
    arrive(&cloud, 1, 20).await.expect("it wakes again");
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweeps_against_fifty_wakes() {
    let cloud = awake().await;
    let _sweeps = sweep(&cloud.shared, 2);
    tell_to_sleep(&cloud).await;
    until("it settles or stops", || {
        matches!(phase(&cloud).as_str(), "settling" | "stopping" | "asleep")
    })
    .await;
    arrive(&cloud, 50, 100).await.expect("all end on the site");
    assert!(calls(&cloud, "StopInstances") <= 1 && starts(&cloud) <= 2);
    cloud.stop().await;
}
