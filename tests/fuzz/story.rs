//! An account with some sites, and the events that come in.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use proxymanager::config::branding::Branding;
use proxymanager::config::environment::{LedgerChoice, MetricsChoice, Settings};
use proxymanager::function::Function;
use proxymanager::http::event::parse;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::days::account::Shipped;
use crate::days::scene::Scene;
use crate::days::time::{BEGIN, SECOND};
use crate::events;
use crate::judge::{self, Vocabulary};

pub const EVENTS: u64 = 250;
/// Every so many stories a site is awake, and held requests are redirected: two seconds each, so many at once.
const REDIRECTS_EVERY: u64 = 40;

type Shipping = Function<
    crate::days::ports::Aws,
    crate::days::ports::Aws,
    crate::days::ports::Aws,
    crate::days::ledger::Counted,
    crate::days::time::Time,
>;

/// Tells one story, and how often which answer was given.
///
/// # Panics
/// When an answer is not what it has to be.
pub fn tell(seed: u64, vocabulary: &Vocabulary) -> BTreeMap<String, u64> {
    let mut rng = Rng::with_seed(seed);
    let scene = Scene::stopped(0, 1);
    let hosts = sites(&scene);
    let waker = scene.account.cloud().waker.clone();
    scene.account.cloud().world.faults.no_capacity = rng.bool();
    let function = function(&scene);
    let runtime = Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    // The routes are found leading to machines at rest, and put on the waker.
    let swept = runtime.block_on(scene.driver().sweep());
    assert!(swept.is_ok_and(|swept| swept.failed.is_empty()));
    let mut story = Story {
        scene,
        kinds: BTreeMap::new(),
    };
    let awake = seed % REDIRECTS_EVERY == REDIRECTS_EVERY - 1;
    if awake {
        wake(&mut story.scene, &runtime, &function, &waker);
    }
    let texts: Vec<String> = (0..EVENTS).map(|_| events::event(&mut rng, &waker, &hosts)).collect();
    if awake {
        let asked = texts.iter().map(|text| async {
            let event = parse(text);
            let answer = function.handle(&event).await.map_err(|error| error.to_string());
            (event, answer)
        });
        for (event, answer) in runtime.block_on(join_all(asked)) {
            story.judge(&event, &answer, vocabulary);
        }
        return story.kinds;
    }
    for text in texts {
        let event = parse(&text);
        let answer = runtime
            .block_on(function.handle(&event))
            .map_err(|error| error.to_string());
        story.judge(&event, &answer, vocabulary);
        if rng.u8(..32) == 0 {
            // Never so long that a machine gets healthy: then somebody would be held for two seconds of real time.
            story.scene.wait(SECOND);
        }
    }
    story.kinds
}

struct Story {
    scene: Scene,
    kinds: BTreeMap<String, u64>,
}

impl Story {
    fn judge(&mut self, event: &Value, answer: &Result<Value, String>, vocabulary: &Vocabulary) {
        let kind = judge::judge(event, answer, vocabulary).unwrap_or_else(|wrong| {
            let event: String = event.to_string().chars().take(4_000).collect();
            let answer: String = format!("{answer:?}").chars().take(4_000).collect();
            panic!("{wrong}\nthe event: {event}\nthe answer: {answer}")
        });
        *self.kinds.entry(kind).or_default() += 1;
    }
}

/// One of each kind; the last takes every host, so that pages of a rule show what the client claims to want.
fn sites(scene: &Scene) -> Vec<String> {
    let mut cloud = scene.account.cloud();
    let idle = ("autostopping:idle", "15m");
    let kinds = [
        ("plain", vec![idle]),
        ("held", vec![idle, ("autostopping:hold", "wait")]),
        ("typo", vec![idle, ("autostopping:healthy", "some @zqx=")]),
        ("closed", vec![idle, ("autostopping:allow", "198.51.100.0/24")]),
        ("pressed", vec![idle, ("autostopping:confirm", "true")]),
        ("any", vec![idle]),
    ];
    for (name, tags) in &kinds {
        cloud.add_site(BEGIN, name, 1, 1, tags);
    }
    let last = cloud.sites.last().expect("they were added").routes[0].clone();
    let any = vec![json!({ "Field": "path-pattern", "Values": ["*"] })];
    let modified = cloud
        .world
        .modify_rule(crate::days::time::stamp(BEGIN), &last, Some(any), None, None);
    modified.expect("R is there");
    cloud.rules_changed(BEGIN);
    cloud.sites.iter().map(|site| site.hosts[0].clone()).collect()
}

fn function(scene: &Scene) -> Shipping {
    let driver: Shipped = scene.driver();
    let listener = scene.account.cloud().listeners[0].0.clone();
    let settings = Settings {
        listeners: vec![listener],
        ledger: LedgerChoice::Memory,
        wakers: driver.settings.wakers.clone(),
        // Nobody is held while a machine starts.
        hold_limit: Duration::ZERO,
        max_held: u32::MAX,
        settle: driver.settings.settle,
        metrics_delay: driver.settings.metrics_delay,
        idle_min: driver.settings.idle_min,
        log: "info".to_owned(),
        metrics: MetricsChoice::Off,
        branding: Branding::NONE,
    };
    Function::new(Ok((driver, settings)))
}

/// Has the site that takes every host woken.
fn wake(scene: &mut Scene, runtime: &Runtime, function: &Shipping, waker: &str) {
    scene.account.cloud().world.faults.no_capacity = false;
    let ask = |accept: &str| {
        json!({
            "requestContext": { "elb": { "targetGroupArn": waker } }, "httpMethod": "GET", "path": "/",
            "headers": { "host": "x", "accept": accept, "x-forwarded-port": "80" },
        })
    };
    let woken = runtime.block_on(function.handle(&ask("*/*")));
    assert!(woken.is_ok(), "{woken:?}");
    for _ in 0..60 {
        scene.wait(5 * SECOND);
        let polled = runtime.block_on(function.handle(&ask("application/vnd.autostopping+json")));
        if polled.is_ok_and(|answer| answer["headers"]["x-autostopping-phase"] == "awake") {
            return;
        }
    }
    panic!("the site does not wake");
}
