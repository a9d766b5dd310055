//! What needs the whole system: calls of AWS and the moment of the hand-over.

use std::time::Duration;

use tokio::time::Instant;

use crate::local_support::{
    HOST,
    bill::{self, Calls, month, of_a_tick, of_a_use, sites, wake_all},
    crowd::{PLACES, wake},
    health,
    story::{asleep, tag},
    visitor::{Kind, Visitor},
};
use crate::report::{Report, median, percentile};
use proxymanager::local::world::HealthState;

const HAND_OVERS: u64 = 5;

fn sum(calls: &Calls) -> u64 {
    calls.values().sum()
}

/// Calls of a wake by the number of those who wait.
pub async fn wakes(report: &mut Report) {
    report.section(
        "A wake",
        &format!("Calls of EC2 and Elastic Load Balancing, by how many wait for the site; {PLACES} environments."),
    );
    report.head(&[
        "clients",
        "calls",
        "of one client",
        "starts",
        "the last on the site after, s",
    ]);
    let mut of_one = None;
    for clients in [1, 10, 1000] {
        let wake = wake(clients).await;
        let calls = wake.sum() as f64;
        let one = *of_one.get_or_insert(calls);
        report.row(&[
            clients.to_string(),
            format!("{calls:.0}"),
            format!("{:.1} x", calls / one),
            wake.starts.to_string(),
            format!("{:.1}", wake.seconds),
        ]);
    }
}

/// Calls of a Tick by the number of rules, and the price of a month.
pub async fn ticks(report: &mut Report) {
    report.section(
        "A Tick",
        "All calls of AWS, the ledger's included, when there is nothing to do.",
    );
    report.head(&["rules", "all asleep", "all awake and not due"]);
    let mut priced = Vec::new();
    for rules in [1, 10, 100] {
        let cloud = sites(rules).await;
        let asleep = of_a_tick(&cloud).await;
        if rules == 100 {
            priced = month(&cloud, &asleep, &of_a_use().await);
        }
        wake_all(&cloud).await;
        let awake = of_a_tick(&cloud).await;
        cloud.stop().await;
        report.row(&[rules.to_string(), sum(&asleep).to_string(), sum(&awake).to_string()]);
    }
    let prices = bill::prices();
    let of = |key: &str| prices[key].as_str().unwrap_or_default().to_owned();
    report.section(
        "A month of 100 rules",
        &format!(
            "Each wakes twice a working day. Counted calls, list prices of {} ({}).",
            of("date"),
            of("source")
        ),
    );
    report.head(&["", "USD"]);
    for (what, usd) in &priced {
        report.row(&[(*what).to_owned(), format!("{usd:.2}")]);
    }
    let all: f64 = priced.iter().map(|(_, usd)| usd).sum();
    report.row(&["sum".to_owned(), format!("{all:.2}")]);
}

/// From a healthy target to the first byte of the site.
pub async fn hand_over(report: &mut Report) {
    report.section(
        "Healthy to first byte",
        &format!(
            "From the moment the target is healthy to the site's first byte at a client that waits, without AWS's own \
             propagation; {HAND_OVERS} wakes each."
        ),
    );
    report.head(&["", "median, s", "highest, s"]);
    for (name, kind, hold) in [
        ("browser, by the page", Kind::Browser, "page"),
        ("program, `hold = wait`", Kind::Program, "wait"),
    ] {
        let mut seconds = Vec::new();
        for number in 0..HAND_OVERS {
            seconds.push(one_hand_over(kind, hold, number).await);
        }
        report.row(&[
            name.to_owned(),
            format!("{:.2}", median(&seconds)),
            format!("{:.2}", percentile(&seconds, 1.0)),
        ]);
    }
}

async fn one_hand_over(kind: Kind, hold: &str, seed: u64) -> f64 {
    let cloud = asleep(|config| config.boot = Duration::from_secs(5)).await;
    tag(&cloud, "autostopping:hold", hold);
    let mut visitor = Visitor::new(kind, cloud.address, HOST, "/", seed);
    let arrival = tokio::spawn(async move {
        let arrived = visitor.arrive(Instant::now() + Duration::from_secs(120)).await;
        assert!(arrived, "{}", visitor.story());
        Instant::now()
    });
    while health(&cloud) != HealthState::Healthy {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let healthy = Instant::now();
    let arrived = arrival.await.expect("it arrives");
    cloud.stop().await;
    (arrived - healthy).as_secs_f64()
}
