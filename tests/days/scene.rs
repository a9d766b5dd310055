//! A few sites and nothing in the way: for one promise at a time.

use std::sync::Arc;

use proxymanager::drive::{Driver, Recent};
use proxymanager::rules::RuleSettings;

use super::account::{Account, Shipped};
use super::hands;
use super::ports::Aws;
use super::time::{BEGIN, MINUTE, Moment, Tasks, Time};

pub struct Scene {
    pub account: Arc<Account>,
    tasks: Tasks,
}

impl Scene {
    /// So many sites, each with one machine that runs and one route that leads to it, and `idle` of 15 minutes.
    pub fn awake(sites: usize) -> Self {
        let scene = Scene::stopped(sites, 1);
        for site in 0..sites {
            scene.start(site);
        }
        scene
    }

    /// The same with machines at rest, and so many routes each.
    pub fn stopped(sites: usize, routes: usize) -> Self {
        let time = Time::new();
        let tasks = Tasks::new(&time);
        let account = Account::new(1, &time);
        for number in 0..sites {
            let name = format!("site-{number}");
            let site = account.cloud().add_site(BEGIN, &name, 1, routes, &[]);
            hands::set_idle(&account, site, 15 * MINUTE);
        }
        Scene { account, tasks }
    }

    /// A Tick every minute from here on.
    pub fn ticking(self) -> Self {
        let account = Arc::clone(&self.account);
        self.account.time.spawn(async move {
            loop {
                account.time.sleep(MINUTE).await;
                let swept = account.driver().sweep().await;
                assert!(swept.is_ok(), "{swept:?}");
            }
        });
        self
    }

    /// Somebody starts it by hand.
    pub fn start(&self, site: usize) {
        let machines = self.account.cloud().sites[site].machines.clone();
        self.account.start(&machines).expect("nothing is in the way");
    }

    pub fn wait(&mut self, span: Moment) {
        let until = self.account.now() + span;
        self.tasks.run_until(until);
    }

    pub fn block_on<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> T {
        self.tasks.block_on(future)
    }

    /// A user's request to the site; whether the site itself answered.
    pub fn request(&self, site: usize, host: usize) -> bool {
        let now = self.account.now();
        self.account.cloud().request(now, site, host) == super::cloud::Way::Served
    }

    pub fn runs(&self, site: usize) -> bool {
        hands::running(&self.account, site) > 0
    }

    pub fn routes_on_waker(&self, site: usize) -> Vec<bool> {
        let cloud = self.account.cloud();
        let routes = cloud.sites[site].routes.iter();
        routes.map(|route| cloud.on_waker(route)).collect()
    }

    pub fn on_waker(&self, site: usize) -> bool {
        self.routes_on_waker(site).into_iter().all(|is| is)
    }

    pub fn sleeps(&self, site: usize) -> bool {
        self.account.cloud().all_at_rest(site) && self.on_waker(site)
    }

    pub fn stops(&self) -> u64 {
        self.account.cloud().told.stops
    }

    /// Waits until this is so, looking every few seconds; how long it took.
    pub fn until(&mut self, what: &str, most: Moment, is: impl Fn(&Self) -> bool) -> Moment {
        let begun = self.account.now();
        while !is(self) {
            assert!(
                self.account.now() - begun < most,
                "{what}: not within {} minutes",
                most / MINUTE
            );
            self.wait(5_000);
        }
        self.account.now() - begun
    }

    /// Another driver over the same ports: one that can be given away.
    pub fn driver(&self) -> Shipped {
        let shipped = self.account.driver();
        let settings: RuleSettings = shipped.settings.clone();
        let port = || Aws(Arc::clone(&self.account));
        Driver {
            compute: port(),
            gateway: port(),
            metrics: port(),
            ledger: self.account.ledger.clone(),
            clock: self.account.time.clone(),
            settings,
            owner: "another".to_owned(),
            recent: Recent::default(),
        }
    }
}
