//! Users: they come as people come to an office, some only look, some stay with a connection open, and they go.

use std::sync::Arc;

use proxymanager::domain::phase::Phase;
use proxymanager::domain::record::Record;
use proxymanager::domain::rule::RuleName;
use proxymanager::domain::seen::{Stimulus, Wanted};
use proxymanager::domain::time::after;
use proxymanager::drive::Effort;
use proxymanager::ledger::{Ledger, lease};

use super::account::{Account, METRICS_DELAY};
use super::cloud::{Kind, Way};
use super::time::{BEGIN, DAY, HOUR, MINUTE, Moment, SECOND, moment, stamp};

/// The default of the tag that says how long a wake may take.
const DEADLINE: Moment = 15 * MINUTE;
/// A look is due within two seconds while something happens, and a call may take six.
const SLACK: Moment = 2 * MINUTE;
/// Once nothing is in the way any more: the longest pause between two attempts, twice, and a boot.
const STUCK: Moment = 30 * MINUTE;
const PATIENCE: Moment = 45 * MINUTE;
/// What a session over SSH moves in five minutes: twice what counts as use.
const SSH_BYTES: u64 = 1_000_000;

/// Users come to this site until `end`, so many an hour while offices are open.
pub async fn arrive(account: Arc<Account>, site: usize, an_hour: f64, end: Moment) {
    let mut rng = account.cloud().rng.fork();
    loop {
        // Thinned out from a steady stream of arrivals.
        let pause = -(1.0 - rng.f64()).ln() / an_hour * HOUR as f64;
        account.time.sleep((pause as Moment).max(SECOND)).await;
        let now = account.now();
        if now >= end {
            return;
        }
        if rng.f64() < at_work(now) {
            let kind = match rng.u8(0..20) {
                0..12 => None,
                12..15 => Some(Kind::Requests),
                15..17 => Some(Kind::Silent),
                17..19 => Some(Kind::Network),
                _ => Some(Kind::Kept),
            };
            let visit = visit(Arc::clone(&account), site, kind, rng.fork());
            account.time.spawn(visit);
        }
    }
}

/// The share of users that are at work at this time of the week.
fn at_work(now: Moment) -> f64 {
    let (day, hour) = ((now - BEGIN) / DAY % 7, (now - BEGIN) % DAY / HOUR);
    match (day, hour) {
        (5 | 6, _) => 0.01,
        (_, 8..12 | 13..18) => 1.0,
        (_, 12) => 0.5,
        _ => 0.02,
    }
}

/// One visit, with a connection of this kind or only some requests.
pub async fn visit(account: Arc<Account>, site: usize, kind: Option<Kind>, mut rng: fastrand::Rng) {
    account.cloud().told.visits += 1;
    let routes = account.cloud().sites[site].routes.len();
    let host = rng.usize(0..routes);
    if !reach(&account, site, host).await {
        return;
    }
    let idle = account.cloud().sites[site].idle;
    match kind {
        Some(Kind::Requests) => session(&account, site, host, idle, &mut rng).await,
        Some(Kind::Silent) => {
            let number = open(&account, site, Kind::Silent);
            account.time.sleep(rng.i64(HOUR..6 * HOUR)).await;
            account.cloud().sites[site].open.remove(&number);
        }
        // By then five-minute points of three quarters of the last 15 minutes have the traffic.
        Some(Kind::Network) if idle >= 30 * MINUTE => ssh(&account, site, &mut rng).await,
        Some(Kind::Kept) => job(&account, site, &mut rng).await,
        Some(Kind::Network) | None => {
            for _ in 0..rng.u8(1..6) {
                account.time.sleep(rng.i64(5 * SECOND..2 * MINUTE)).await;
                if !reach(&account, site, host).await {
                    return;
                }
            }
        }
    }
}

fn open(account: &Account, site: usize, kind: Kind) -> u64 {
    let mut cloud = account.cloud();
    let number = cloud.rng.u64(..);
    cloud.sites[site].open.insert(number, kind);
    number
}

fn is_open(account: &Account, site: usize, number: u64) -> bool {
    account.cloud().sites[site].open.contains_key(&number)
}

/// A connection that is gone is one less; whoever ends one has used the site until now.
fn close(account: &Account, site: usize, number: u64) {
    let now = account.now();
    let mut cloud = account.cloud();
    if cloud.sites[site].open.remove(&number).is_some() {
        cloud.sites[site].used = now;
    }
}

/// One connection for hours, with a request now and then.
async fn session(account: &Account, site: usize, host: usize, idle: Moment, rng: &mut fastrand::Rng) {
    let number = open(account, site, Kind::Requests);
    let end = account.now() + rng.i64(20 * MINUTE..4 * HOUR);
    let mut last = account.now();
    while account.now() < end {
        account.time.sleep(rng.i64(MINUTE..idle - SECOND)).await;
        let idle_now = account.cloud().sites[site].idle;
        if idle_now < idle || !is_open(account, site, number) {
            break;
        }
        let now = account.now();
        let way = account.cloud().request(now, site, host);
        if way == Way::Waker {
            judge_flip(account, site, last, idle);
        }
        if way != Way::Served && !reach(account, site, host).await {
            break;
        }
        last = account.now();
    }
    close(account, site, number);
}

/// A session whose last request the metrics had shown when the rule was found idle was to be left alone. A later one brings
/// the rule back at once.
fn judge_flip(account: &Account, site: usize, last: Moment, idle: Moment) {
    let now = account.now();
    let mut cloud = account.cloud();
    let Some(record) = account.ledger.record(&cloud.sites[site].name) else {
        return;
    };
    let decided = moment(record.wanted_since);
    let shown = decided - last > METRICS_DELAY.as_millis() as Moment + MINUTE;
    let by_hand = now - cloud.sites[site].hand < idle + 10 * MINUTE;
    if record.wanted == Wanted::Asleep && shown && decided - last < idle && !by_hand {
        cloud.complain(
            now,
            site,
            &format!("put to sleep under a session: {}", record.wanted_by),
        );
    }
}

/// Traffic that no load balancer sees.
async fn ssh(account: &Account, site: usize, rng: &mut fastrand::Rng) {
    let number = open(account, site, Kind::Network);
    let machine = account.cloud().sites[site].machines[0].clone();
    let end = account.now() + rng.i64(HOUR..5 * HOUR);
    while account.now() < end && is_open(account, site, number) {
        let now = account.now();
        account.cloud().meters.bytes(now, &machine, SSH_BYTES / 5);
        account.time.sleep(MINUTE).await;
    }
    close(account, site, number);
}

/// A job for hours without any trace, for which the rule is kept awake.
async fn job(account: &Account, site: usize, rng: &mut fastrand::Rng) {
    let end = account.now() + rng.i64(HOUR..8 * HOUR);
    let number = open(account, site, Kind::Kept);
    if keep_awake(account, site, end).await {
        account.time.sleep_until(end).await;
    }
    close(account, site, number);
}

/// As an operator's command: false when the rule does not want to be awake any more, or nobody lets us.
pub async fn keep_awake(account: &Account, site: usize, until: Moment) -> bool {
    let name = RuleName(account.cloud().sites[site].name.clone());
    for _ in 0..60 {
        let now = stamp(account.now());
        let Ok(Some(record)) = account.ledger.load(&name).await else {
            return false;
        };
        if record.wanted != Wanted::Awake {
            return false;
        }
        let lease_ends = after(now, proxymanager::drive::LEASE);
        if let Ok(held) = lease::acquire(&account.ledger, &record, "operator", now, lease_ends).await {
            let kept = Record {
                keep_awake_until: held.keep_awake_until.max(Some(stamp(until))),
                lease: None,
                ..held
            };
            return account.ledger.store(&kept).await.is_ok();
        }
        account.time.sleep(SECOND).await;
    }
    false
}

/// Asks until the site itself answers; the judge stands beside. False when the user gave up.
pub async fn reach(account: &Account, site: usize, host: usize) -> bool {
    let begun = account.now();
    let mut asked = None;
    loop {
        let now = account.now();
        let way = account.cloud().request(now, site, host);
        match way {
            Way::Served => return true,
            Way::Dead => account.time.sleep(20 * SECOND).await,
            Way::Waker => {
                // The page polls, and is loaded anew now and then.
                let again = asked.is_none_or(|at| now - at >= 2 * MINUTE);
                let who = "user".to_owned();
                let stimulus = if again {
                    Stimulus::Request { who }
                } else {
                    Stimulus::Tick
                };
                if again {
                    asked = Some(now);
                }
                if let Some(managed) = account.managed(site) {
                    let looked = account.driver().look(&managed, &stimulus, Effort::Snapshot).await;
                    if !looked.is_ok_and(|looked| is_in_order(account, site, begun, &looked.record)) {
                        account.cloud().told.gave_up += 1;
                        return false;
                    }
                }
                account.time.sleep(10 * SECOND).await;
            }
        }
        if account.now() - begun > PATIENCE {
            account.cloud().told.gave_up += 1;
            return false;
        }
    }
}

/// A rule that is asked for is awake, or failed with a reason, by its deadline; and awake once nothing is in the way.
fn is_in_order(account: &Account, site: usize, begun: Moment, record: &Record) -> bool {
    let now = account.now();
    let mut cloud = account.cloud();
    let undisturbed = begun.max(cloud.sites[site].hand);
    let waited = now - undisturbed;
    let phase = &record.snapshot.phase;
    let told = match phase {
        Phase::Failed(reason) | Phase::Misconfigured(reason) => !reason.is_empty(),
        _ => false,
    };
    let waited_in_calm = now - undisturbed.max(cloud.weather.calm_since);
    if !cloud.is_rough(now) && waited_in_calm > STUCK {
        cloud.complain(now, site, &format!("stuck: still {phase:?} after half an hour"));
        return false;
    }
    if waited > DEADLINE + SLACK && !told && !record.snapshot.switched && !cloud.is_rough(now) {
        cloud.complain(
            now,
            site,
            &format!("past its deadline and {phase:?}, wanted by {}", record.wanted_by),
        );
        return false;
    }
    true
}
