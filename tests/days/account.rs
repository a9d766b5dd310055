//! One AWS account with the shipped driver in it, and what happens in it by itself: machines boot and stop, programs come
//! up, health checks pass, events tell of it or get lost.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use proxymanager::domain::activity::MINUTE;
use proxymanager::domain::record::DESCRIBE_IS_STALE_FOR;
use proxymanager::domain::rule::{GroupId, ResourceId, RuleName};
use proxymanager::domain::seen::{Stimulus, Wanted};
use proxymanager::drive::{Driver, Effort, Recent, TABLE_AGE};
use proxymanager::ledger::Ledger;
use proxymanager::local::world::{Effect, Failure, Power};
use proxymanager::rules::{Managed, RuleSettings, Rules};

use super::cloud::Cloud;
use super::ledger::Counted;
use super::ports::Aws;
use super::time::{Moment, SECOND, Time, lock};

pub type Shipped = Driver<Aws, Aws, Aws, Counted, Time>;

pub const SETTLE: Duration = Duration::from_secs(5 * 60);
pub const METRICS_DELAY: Duration = Duration::from_secs(3 * 60);

pub struct Account {
    pub time: Time,
    pub ledger: Counted,
    cloud: Mutex<Cloud>,
    /// Two environments of the function: looks of one may meet looks of the other.
    drivers: OnceLock<[Arc<Shipped>; 2]>,
    rules: Mutex<Option<(u64, Arc<Rules>)>>,
}

impl Account {
    pub fn new(seed: u64, time: &Time) -> Arc<Self> {
        let cloud = Cloud::new(seed, time.moment());
        let settings = RuleSettings {
            wakers: vec![GroupId(cloud.waker.clone())],
            settle: SETTLE,
            idle_min: Duration::from_secs(5 * 60),
            metrics_delay: METRICS_DELAY,
            metrics_period: MINUTE,
            describe_delay: DESCRIBE_IS_STALE_FOR,
            table_age: TABLE_AGE,
        };
        let account = Arc::new(Account {
            time: time.clone(),
            ledger: Counted::default(),
            cloud: Mutex::new(cloud),
            drivers: OnceLock::new(),
            rules: Mutex::default(),
        });
        let driver = |owner: &str| {
            Arc::new(Driver {
                compute: Aws(Arc::clone(&account)),
                gateway: Aws(Arc::clone(&account)),
                metrics: Aws(Arc::clone(&account)),
                ledger: account.ledger.clone(),
                clock: time.clone(),
                settings: settings.clone(),
                owner: owner.to_owned(),
                recent: Recent::default(),
            })
        };
        let drivers = [driver("one"), driver("two")];
        assert!(account.drivers.set(drivers).is_ok(), "set once");
        account
    }

    pub fn cloud(&self) -> MutexGuard<'_, Cloud> {
        lock(&self.cloud)
    }

    pub fn now(&self) -> Moment {
        self.time.moment()
    }

    /// One of the environments, by chance.
    pub fn driver(&self) -> Arc<Shipped> {
        let number = self.cloud().rng.usize(0..2);
        Arc::clone(&self.drivers.get().expect("set when the account was made")[number])
    }

    /// The site's rule as it is configured now.
    pub fn managed(&self, site: usize) -> Option<Managed> {
        let mut cloud = self.cloud();
        let name = RuleName(cloud.sites[site].name.clone());
        let mut kept = lock(&self.rules);
        if kept.as_ref().is_none_or(|(made, _)| *made != cloud.rule_changes) {
            let table = cloud.table(self.now());
            let drivers = self.drivers.get().expect("set when the account was made");
            let rules = Rules::new(&table, &drivers[0].settings);
            *kept = Some((cloud.rule_changes, Arc::new(rules)));
        }
        kept.as_ref().and_then(|(_, rules)| rules.get(&name).cloned())
    }

    pub fn start(self: &Arc<Self>, ids: &[String]) -> Result<(), Failure> {
        let now = self.time.clone();
        let mut cloud = self.cloud();
        let changes = cloud.world.start_instances(super::time::stamp(now.moment()), ids)?;
        for (id, before, after) in changes {
            if let (Power::Stopped, Power::Pending { until }) = (before, after) {
                cloud.changes += 1;
                cloud.told.starts += 1;
                let boot = super::time::moment(until) - now.moment();
                // Half-way too: a start that falls back does it there.
                for span in [boot / 2, boot] {
                    self.later(span, |account| account.pass());
                }
                self.announce(&id, &mut cloud);
            }
        }
        Ok(())
    }

    pub fn stop(self: &Arc<Self>, ids: &[String], by_hand: bool) -> Result<(), Failure> {
        let now = self.now();
        let mut cloud = self.cloud();
        let up: Vec<String> = ids.iter().filter(|id| cloud.running(id)).cloned().collect();
        let pending = |id: &String| {
            let instance = cloud.world.instance(id);
            instance.is_some_and(|instance| matches!(instance.life().power, Power::Pending { .. }))
        };
        if !ids.iter().any(pending) {
            cloud.cut(now, &up, by_hand);
        }
        let changes = cloud.world.stop_instances(super::time::stamp(now), ids, false)?;
        for (id, before, after) in changes {
            if let (Power::Running, Power::Stopping { until }) = (before, after) {
                cloud.changes += 1;
                self.later(super::time::moment(until) - now, |account| account.pass());
                self.announce(&id, &mut cloud);
            }
        }
        Ok(())
    }

    /// The program on a machine ends and is there again after this long.
    pub fn reboot(self: &Arc<Self>, machine: &str, down: Moment) {
        self.cloud().up.insert(machine.to_owned(), false);
        let (id, life) = (machine.to_owned(), self.life(machine));
        self.later(10 * SECOND, move |account| {
            if account.life(&id) == life {
                account.cloud().probe(&id, false);
            }
        });
        self.comes_up(machine, down);
    }

    /// Does something after a while.
    pub fn later(self: &Arc<Self>, span: Moment, deed: impl FnOnce(&Arc<Self>) + 'static) {
        let account = Arc::clone(self);
        self.time.spawn(async move {
            account.time.sleep(span).await;
            deed(&account);
        });
    }

    /// How often it was started: another life is another machine.
    fn life(&self, machine: &str) -> u32 {
        self.cloud()
            .world
            .instance(machine)
            .map_or(0, |instance| instance.starts)
    }

    /// What is due happens.
    fn pass(self: &Arc<Self>) {
        let now = self.now();
        let effects = self.cloud().world.advance(super::time::stamp(now));
        for effect in effects {
            match effect {
                Effect::Launch(id) => {
                    let warm = {
                        let mut cloud = self.cloud();
                        cloud.changes += 1;
                        cloud.meters.running(now, &id, true);
                        cloud.rng.i64(5..40) * SECOND
                    };
                    self.announce(&id, &mut self.cloud());
                    self.comes_up(&id, warm);
                }
                Effect::Stopped(id) => {
                    let mut cloud = self.cloud();
                    cloud.changes += 1;
                    self.announce(&id, &mut cloud);
                }
                Effect::Halt(_) | Effect::Changed(..) => {}
            }
        }
    }

    fn comes_up(self: &Arc<Self>, machine: &str, after: Moment) {
        let (id, life) = (machine.to_owned(), self.life(machine));
        self.later(after, move |account| {
            if account.life(&id) == life && account.cloud().running(&id) {
                account.cloud().up.insert(id.clone(), true);
                account.later(20 * SECOND, move |account| account.check(&id));
            }
        });
    }

    /// The health checks of a machine whose program answers pass.
    pub fn check(self: &Arc<Self>, machine: &str) {
        let mut cloud = self.cloud();
        if cloud.up.get(machine) == Some(&true) {
            cloud.probe(machine, true);
            cloud.changes += 1;
        }
    }

    /// EventBridge tells of it, mostly.
    fn announce(self: &Arc<Self>, machine: &str, cloud: &mut Cloud) {
        if cloud.rng.f64() < cloud.weather.events_lost {
            return;
        }
        let after = cloud.rng.i64(1..4) * SECOND;
        let (account, id) = (Arc::clone(self), ResourceId(machine.to_owned()));
        self.time.spawn(async move {
            account.time.sleep(after).await;
            account.state_change(&id).await;
        });
    }

    /// As the function does for such an event.
    async fn state_change(&self, machine: &ResourceId) {
        let driver = self.driver();
        let claimants = driver.ledger.claimants(machine).await.unwrap_or_default();
        if claimants.is_empty() {
            return;
        }
        let Ok(rules) = driver.rules().await else { return };
        for managed in claimants.iter().filter_map(|name| rules.get(name)) {
            // An error is the loss of this one event.
            let _ = driver.look(managed, &Stimulus::StateChange, Effort::Sweep).await;
        }
    }

    /// An operator's word.
    pub async fn command(&self, site: usize, wanted: Wanted) {
        let Some(managed) = self.managed(site) else { return };
        let who = "operator".to_owned();
        let stimulus = Stimulus::Command { wanted, who };
        let _ = self.driver().look(&managed, &stimulus, Effort::Fresh).await;
    }
}
