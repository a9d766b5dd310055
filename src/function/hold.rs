//! Requests that are kept for a while: programs that asked to wait, and those that were on the way during a flip.

use std::time::Duration;

use super::pages::{self, Asked};
use crate::activity::Metrics;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::config::environment::Settings;
use crate::domain::record::Record;
use crate::domain::rule::Side;
use crate::domain::seen::Stimulus;
use crate::domain::time::{Timestamp, since, until};
use crate::drive::{Driver, Effort};
use crate::gateway::Gateway;
use crate::http::answer::Answer;
use crate::http::who::Asker;
use crate::ledger::Ledger;
use crate::rules::Managed;
use crate::telemetry::METRICS;

/// Between a flip and sending somebody there: a flip takes a while to reach all of the load balancer's nodes.
const PROPAGATION: Duration = Duration::from_secs(2);
/// A request that still arrives here this long after the flip is not on the way any more: something is wrong.
const ON_THE_WAY_AT_MOST: Duration = Duration::from_secs(60);
/// The longest pause between two looks of one who waits.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a program that comes this long after the flip is kept: two seconds at first, then so much longer each time
/// that it is sent round three times at most before a flip of 20 s has reached every node (after 2, 7 and 24.5 s).
/// Clients follow few redirects: Go's follow 10.
fn round(since_flip: Duration, longest: Duration) -> Duration {
    PROPAGATION.max(longest.min(since_flip * 5 / 2))
}

/// The answer to a request that came to the waker although its rule already leads to the backend.
pub(super) async fn on_the_way<C: Compute, G: Gateway, M: Metrics, L: Ledger, K: Clock>(
    driver: &Driver<C, G, M, L, K>,
    settings: &Settings,
    managed: &Managed,
    record: &Record,
    asked: &Asked<'_>,
    looks: bool,
) -> Option<Answer> {
    let asker = asked.asker;
    let now = driver.clock.now();
    let flipped = record
        .flips
        .values()
        .filter(|flip| flip.side == Side::Backend)
        .map(|flip| flip.at)
        .max()?;
    if since(now, flipped) >= ON_THE_WAY_AT_MOST {
        // Somebody may have pointed the route back at the waker; a look, at most one a minute, tells.
        let switched = match looks {
            true => {
                driver
                    .look(managed, &Stimulus::Tick, Effort::Snapshot)
                    .await
                    .ok()?
                    .record
                    .snapshot
                    .switched
            }
            false => record.snapshot.switched,
        };
        let why = "the listener rule leads to the machine and requests still arrive here: see that no other listener rule or default action forwards them to the waker";
        return switched.then(|| pages::unavailable(asked, why));
    }
    if asker == Asker::PagePoll {
        return Some(pages::program(now, asked, record));
    }
    if asker == Asker::Browser {
        tokio::time::sleep(PROPAGATION).await;
        return Some(pages::switched(asked, &managed.rule.name));
    }
    let pause = round(since(now, flipped), settings.hold_limit);
    if pause > PROPAGATION && !may_be_held(driver, settings).await {
        return Some(pages::program(now, asked, record));
    }
    tokio::time::sleep(pause).await;
    Some(pages::redirect(asked))
}

/// Enters one more held request, unless there are as many as are allowed.
async fn may_be_held<C: Compute, G: Gateway, M: Metrics, L: Ledger, K: Clock>(
    driver: &Driver<C, G, M, L, K>,
    settings: &Settings,
) -> bool {
    let held = driver.ledger.enter_hold(driver.clock.now(), settings.hold_limit).await;
    held.is_ok_and(|held| held <= settings.max_held)
}

/// Keeps a program's request until its rule is awake or its limit is reached. The client leaving cancels nothing: the
/// start is under way by then.
pub(super) async fn wait<C: Compute, G: Gateway, M: Metrics, L: Ledger, K: Clock>(
    driver: &Driver<C, G, M, L, K>,
    settings: &Settings,
    managed: &Managed,
    mut record: Record,
    asked: &Asked<'_>,
    limit: Timestamp,
) -> Answer {
    tracing::info!(target: METRICS, rule = %managed.rule.name, HeldRequests = 1);
    if !may_be_held(driver, settings).await {
        return pages::program(driver.clock.now(), asked, &record);
    }
    loop {
        let now = driver.clock.now();
        if record.snapshot.switched {
            tokio::time::sleep(PROPAGATION).await;
            return pages::redirect(asked);
        }
        if now >= limit {
            return pages::program(now, asked, &record);
        }
        tokio::time::sleep(PAUSE.min(until(now, limit))).await;
        match driver.look(managed, &Stimulus::Tick, Effort::Snapshot).await {
            Ok(looked) => record = looked.record,
            Err(error) => return pages::unavailable(asked, &error.to_string()),
        }
    }
}
