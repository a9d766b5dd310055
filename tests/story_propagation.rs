//! A flip takes a while to reach all of the load balancer's nodes, and meanwhile both sides are live.
//!
//! Seen red: with the same pause of two seconds each time, by eight redirects of one program.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::time::Duration;

use local_support::{
    HOST,
    story::{asleep, tag},
    visitor::{Kind, Seen, Visitor},
};
use tokio::{task::JoinSet, time::Instant};

const DELAYS: [u64; 9] = [0, 1, 2, 3, 5, 8, 10, 15, 20];
const CLIENTS_OF_A_KIND: u64 = 4;
/// The times somebody is sent round, at most. The last comes when the longest propagation is over.
const ROUNDS: usize = 3;

/// One wake with this propagation: every client's number of rounds, or what went wrong.
async fn wake(seconds: u64, hold: &str) -> Result<Vec<(Kind, usize)>, String> {
    let cloud = asleep(|_| {}).await;
    tag(&cloud, "autostopping:hold", hold);
    cloud.shared.world().faults.propagation_ms = 1000 * seconds;
    let give_up = Instant::now() + Duration::from_secs(180);
    let mut clients = JoinSet::new();
    for number in 0..2 * CLIENTS_OF_A_KIND {
        let kind = if number % 2 == 0 { Kind::Browser } else { Kind::Program };
        let mut visitor = Visitor::new(kind, cloud.address, HOST, &format!("/{number}"), number);
        clients.spawn(async move { (visitor.arrive(give_up).await, visitor) });
    }
    let mut rounds = Vec::new();
    for (arrived, visitor) in clients.join_all().await {
        let round = match visitor.kind {
            // The first load is no reload.
            Kind::Browser => visitor.navigations() - 1,
            Kind::Program => visitor.redirects(),
        };
        let only_ours = |seen: &Seen| matches!(seen, Seen::Site | Seen::Told(..) | Seen::Redirect);
        if !arrived || round > ROUNDS || !visitor.steps.iter().all(|step| only_ours(&step.seen)) {
            return Err(format!("{seconds} s, hold={hold}, {round} rounds: {}", visitor.story()));
        }
        rounds.push((visitor.kind, round));
    }
    cloud.stop().await;
    Ok(rounds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_sent_round_more_than_three_times() {
    let mut wakes = JoinSet::new();
    for seconds in DELAYS {
        for hold in ["page", "wait"] {
            wakes.spawn(async move { (seconds, hold, wake(seconds, hold).await) });
        }
    }
    let mut wakes = wakes.join_all().await;
    wakes.sort_by_key(|(seconds, hold, _)| (*seconds, *hold));
    for (seconds, hold, rounds) in &wakes {
        if let Ok(rounds) = rounds {
            let most = |kind| {
                rounds
                    .iter()
                    .filter(|(k, _)| *k == kind)
                    .map(|(_, n)| *n)
                    .max()
                    .unwrap_or_default()
            };
            let (reloads, redirects) = (most(Kind::Browser), most(Kind::Program));
            println!("propagation {seconds:2} s, hold={hold}: at most {reloads} reloads, {redirects} redirects");
        }
    }
    let failures: Vec<_> = wakes.into_iter().filter_map(|(.., rounds)| rounds.err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
