//! What others do: owners with the console or Terraform, and AWS on its bad days.

use std::sync::Arc;

use proxymanager::local::world::Power;
use serde_json::json;

use super::account::Account;
use super::cloud::{Kind, Weather};
use super::ports::DENIABLE;
use super::time::{HOUR, MINUTE, Moment, SECOND, stamp};

/// The share of calls that something happens to on any day.
pub const MISHAPS: f64 = 0.05;
const EVENTS_LOST: f64 = 0.2;

/// Owners do this and that until `end`, so many hours apart.
pub async fn deploy(account: Arc<Account>, hours: f64, end: Moment) {
    let mut rng = account.cloud().rng.fork();
    loop {
        let pause = -(1.0 - rng.f64()).ln() * hours * HOUR as f64;
        account.time.sleep((pause as Moment).max(SECOND)).await;
        if account.now() >= end {
            return;
        }
        let sites = account.cloud().sites.len();
        deed(&account, rng.usize(0..sites), &mut rng);
    }
}

fn deed(account: &Arc<Account>, site: usize, rng: &mut fastrand::Rng) {
    let now = account.now();
    let machines = account.cloud().sites[site].machines.clone();
    let one = machines[rng.usize(0..machines.len())].clone();
    let some = if rng.bool() { machines } else { vec![one.clone()] };
    match rng.u8(0..8) {
        0 | 1 => drop(account.stop(&some, true)),
        2 => {
            // AWS may refuse them: then nothing was done.
            drop(account.start(&some));
        }
        3 if account.cloud().running(&one) => account.reboot(&one, rng.i64(30..150) * SECOND),
        3 | 4 => rewrite(account, site),
        5 => {
            let seconds = rng.i64(60..7200);
            let mut cloud = account.cloud();
            let group = cloud.sites[site].group.clone();
            cloud.sites[site].original = json!({ "Type": "forward", "ForwardConfig": {
                "TargetGroups": [{ "TargetGroupArn": group, "Weight": 1 }],
                "TargetGroupStickinessConfig": { "Enabled": true, "DurationSeconds": seconds },
            }});
            drop(cloud);
            rewrite(account, site);
        }
        6 => {
            let mut cloud = account.cloud();
            let parked = cloud.sites[site]
                .routes
                .clone()
                .iter()
                .flat_map(|route| cloud.parked(route))
                .next();
            if let Some(parked) = parked {
                cloud.world.delete_rule(stamp(now), &parked).expect("it is there");
                cloud.rules_changed(now);
            }
        }
        _ => retag(account, site, rng),
    }
    let mut cloud = account.cloud();
    cloud.told.deeds += 1;
    cloud.sites[site].hand = now;
    cloud.sites[site].used = cloud.sites[site].used.max(now);
    cloud.changes += 1;
}

/// Terraform writes what its owner wants of the routes, whatever they do now.
pub fn rewrite(account: &Arc<Account>, site: usize) {
    let now = account.now();
    let mut cloud = account.cloud();
    let actions = vec![cloud.sites[site].original.clone()];
    for route in cloud.sites[site].routes.clone() {
        let written = cloud
            .world
            .modify_rule(stamp(now), &route, None, Some(actions.clone()), None);
        written.expect("what its owner wants is possible");
    }
    cloud.rules_changed(now);
    for machine in cloud.sites[site].machines.clone() {
        account.later(20 * SECOND, move |account| account.check(&machine));
    }
}

fn retag(account: &Account, site: usize, rng: &mut fastrand::Rng) {
    let idle = draw_idle(rng);
    set_idle(account, site, idle);
}

pub fn draw_idle(rng: &mut fastrand::Rng) -> Moment {
    [15, 30, 60, 120][rng.usize(0..4)] * MINUTE
}

/// A new value of the tag on all routes of the site.
pub fn set_idle(account: &Account, site: usize, idle: Moment) {
    let now = account.now();
    let mut cloud = account.cloud();
    if idle < cloud.sites[site].idle {
        // Their requests may lie further apart than what now counts as use.
        let open = cloud.sites[site].open.values_mut();
        open.filter(|kind| **kind == Kind::Requests)
            .for_each(|kind| *kind = Kind::Silent);
    }
    cloud.sites[site].idle = idle;
    let tags = [("autostopping:idle".to_owned(), format!("{}m", idle / MINUTE))].into();
    for route in cloud.sites[site].routes.clone() {
        cloud.world.add_elb_tags(&route, &tags).expect("a route has tags");
    }
    cloud.rules_changed(now);
}

/// AWS on any day, and on its bad ones: about a twentieth of the time something lasts.
pub async fn weather(account: Arc<Account>, end: Moment) {
    let mut rng = account.cloud().rng.fork();
    fair(&account);
    loop {
        account.time.sleep(rng.i64(4..18) * HOUR).await;
        if account.now() >= end {
            break;
        }
        let lasts = rng.i64(10..60) * MINUTE;
        worsen(&account, &mut rng);
        account.time.sleep(lasts).await;
        fair(&account);
    }
    // The days after are quiet, so that what is stuck can be told from what is delayed.
    account.cloud().weather.mishaps = 0.0;
}

fn fair(account: &Account) {
    let now = account.now();
    let mut cloud = account.cloud();
    cloud.changes += 1;
    cloud.world.faults.stale_ms = 0;
    cloud.world.faults.no_capacity = false;
    cloud.world.faults.falls_back = false;
    cloud.world.faults.propagation_ms = 2_000;
    cloud.meters.late = 0;
    cloud.meters.outage(now, false);
    cloud.weather = Weather {
        mishaps: MISHAPS,
        events_lost: EVENTS_LOST,
        calm_since: now,
        ..Weather::default()
    };
}

fn worsen(account: &Account, rng: &mut fastrand::Rng) {
    let now = account.now();
    let mut cloud = account.cloud();
    cloud.changes += 1;
    cloud.weather.rough = true;
    match rng.u8(0..8) {
        0 | 1 => cloud.weather.denied = Some(DENIABLE[rng.usize(0..DENIABLE.len())]),
        2 => cloud.world.faults.stale_ms = 30_000,
        3 => cloud.world.faults.no_capacity = true,
        4 => cloud.world.faults.falls_back = true,
        5 => cloud.weather.mishaps = 0.4,
        6 => cloud.meters.outage(now, true),
        _ => cloud.meters.late = 15 * MINUTE,
    }
}

/// How many of these machines run now.
pub fn running(account: &Account, site: usize) -> usize {
    let cloud = account.cloud();
    let power = |id: &String| cloud.world.instance(id).map(|instance| instance.life().power);
    let machines = cloud.sites[site].machines.iter();
    machines.filter(|id| power(id) == Some(Power::Running)).count()
}
