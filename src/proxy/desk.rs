//! The daemon's rules at work: a task for each, and what rings, requests and operators want of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::{self, Clock, SystemClock};
use crate::config::discovered::{Here, Tagged, discovered};
use crate::domain::record::Record;
use crate::domain::rule::{ResourceId, RuleName, Side};
use crate::domain::seen::{Stimulus, Wanted};
use crate::gateway::envoy::{Access, Ring};
use crate::ledger::Ledger;
use crate::rules::Managed;

use super::front::Front;
use super::rule_files::RuleFiles;
use super::worker::{ProxyDriver, Worker};

/// How long a start waits for Envoy at most, and some more.
const STAFFED: Duration = Duration::from_secs(20);
/// Who waits for what cannot be woken is let go after this, and after twice as long each time he is back, up to 32 times: each
/// time costs a write, and a listener whose old connections Envoy keeps for a day.
const LET_GO: Duration = Duration::from_secs(2);
const LET_GO_DOUBLES: u32 = 5;
/// Whoever is back later than this is let go as quickly as the first.
const LET_GO_FORGOTTEN: Duration = Duration::from_secs(600);
/// Before something that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// What was found beside the rule files.
#[derive(Default)]
struct Found {
    /// The machines that opt themselves in.
    tagged: Vec<Tagged>,
    /// The one that this is.
    machine: Option<ResourceId>,
    /// What is wrong with their tags, or cannot be because others have it.
    tags: Vec<(ResourceId, String)>,
    /// What is wrong with the certificates.
    certificates: Vec<String>,
    /// What is wrong with the DNS records.
    records: Vec<String>,
}

/// Clones share everything.
pub struct Desk<L> {
    pub front: Front,
    pub driver: Arc<ProxyDriver<L>>,
    workers: Arc<Mutex<BTreeMap<RuleName, Worker>>>,
    /// Counts how often the tasks were brought in line with the rules.
    staffed: Arc<watch::Sender<u64>>,
    files: Arc<Mutex<RuleFiles>>,
    found: Arc<Mutex<Found>>,
    /// Who used a rule last, in words.
    users: Arc<Mutex<BTreeMap<RuleName, String>>>,
    /// How often in a row those who waited for a rule were let go, and when last.
    let_go: Arc<Mutex<BTreeMap<RuleName, (u32, Instant)>>>,
    /// Whether there is news that could not be put to use.
    unused: Arc<AtomicBool>,
}

impl<L> Clone for Desk<L> {
    fn clone(&self) -> Self {
        Desk {
            front: self.front.clone(),
            driver: self.driver.clone(),
            workers: self.workers.clone(),
            staffed: self.staffed.clone(),
            files: self.files.clone(),
            found: self.found.clone(),
            users: self.users.clone(),
            let_go: self.let_go.clone(),
            unused: self.unused.clone(),
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<L: Ledger + Send + Sync + 'static> Desk<L> {
    pub fn new(front: Front, driver: ProxyDriver<L>) -> Self {
        Desk {
            front,
            driver: Arc::new(driver),
            workers: Arc::default(),
            staffed: Arc::default(),
            files: Arc::default(),
            found: Arc::default(),
            users: Arc::default(),
            let_go: Arc::default(),
            unused: Arc::default(),
        }
    }

    /// The first rules, those of files and of tags at once: what were left out for a moment would be taken for gone.
    ///
    /// # Errors
    /// As `reload`.
    pub async fn begin(&self) -> Result<(), String> {
        self.read_files();
        self.read_tags().await;
        self.put_to_use()
    }

    /// Takes in the rule files as they are now. Whether anything is new.
    ///
    /// # Errors
    /// A sentence when the rules could not be put to use; they are tried again.
    pub async fn reload(&self) -> Result<bool, String> {
        let news = self.read_files() || self.unused.load(Ordering::Relaxed);
        if news {
            self.find_tagged().await;
            self.put_to_use()?;
        }
        Ok(news)
    }

    /// Takes in what opts itself in by its tags. Whether anything is new. What cannot be asked stays as it was.
    ///
    /// # Errors
    /// As `reload`.
    pub async fn discover(&self) -> Result<bool, String> {
        let news = self.read_tags().await;
        if news {
            self.put_to_use()?;
        }
        Ok(news)
    }

    /// Whether the files say anything new.
    fn read_files(&self) -> bool {
        let config = self.front.config();
        let mut files = lock(&self.files);
        let news = files.refresh(&config.rules, config);
        if news {
            for error in files.errors() {
                tracing::warn!("{error}");
            }
        }
        news
    }

    /// Of the files' rules: one that is not in use yet needs its machines before it is.
    async fn find_tagged(&self) {
        let rules = lock(&self.files).rules();
        self.nudge(&self.front.find_tagged(&rules).await);
    }

    /// What has changed is looked at: a machine that is new to an awake rule may be asleep.
    fn nudge(&self, changed: &[RuleName]) {
        let workers = lock(&self.workers);
        for worker in changed.iter().filter_map(|name| workers.get(name)) {
            worker.nudge();
        }
    }

    /// Whether the tags say anything new.
    async fn read_tags(&self) -> bool {
        self.find_tagged().await;
        let (tagged, machine) = (self.front.opted_in().await, self.front.machine().await);
        let mut found = lock(&self.found);
        let news = (&found.tagged, &found.machine) != (&tagged, &machine);
        (found.tagged, found.machine) = (tagged, machine);
        news
    }

    fn put_to_use(&self) -> Result<(), String> {
        self.unused.store(true, Ordering::Relaxed);
        let config = self.front.config();
        // One at a time, and each with the newest files: who comes last must not have the older ones.
        let mut found = lock(&self.found);
        let mut rules = lock(&self.files).rules();
        let here = Here {
            access_point: config.access_point.as_deref(),
            machine: found.machine.as_ref(),
            settle: config.settle,
            idle_min: config.idle_min,
        };
        let discovered = discovered(&found.tagged, &self.front.last_tags(), &rules, &here);
        found.tags = discovered.problems;
        rules.extend(discovered.rules);
        let set = self.front.set_rules(rules, discovered.last);
        self.nudge(&set.map_err(|fault| fault.sentence())?);
        self.unused.store(false, Ordering::Relaxed);
        for missing in self.front.missing() {
            tracing::warn!(rule = %missing.rule, "{missing}");
        }
        Ok(())
    }

    /// What is wrong with the certificates.
    pub fn note_certificates(&self, problems: Vec<String>) {
        lock(&self.found).certificates = problems;
    }

    /// What is wrong with the DNS records.
    pub fn note_records(&self, problems: Vec<String>) {
        lock(&self.found).records = problems;
    }

    /// The hosts of all rules.
    pub fn hosts(&self) -> BTreeSet<String> {
        let rules = self.front.rules();
        let ways = rules.iter().flat_map(|rule| &rule.http);
        ways.flat_map(|way| way.hosts.clone()).collect()
    }

    /// Everything wrong with the rules, whoever said them, the certificates and the DNS records.
    pub fn errors(&self) -> Vec<String> {
        let mut errors: Vec<_> = lock(&self.files).errors().iter().map(ToString::to_string).collect();
        let found = lock(&self.found);
        let tags = found.tags.iter().map(|(id, problem)| format!("{id}: {problem}"));
        let others = found.certificates.iter().chain(&found.records);
        errors.extend(tags.chain(others.cloned()));
        errors.extend(self.front.missing().iter().map(ToString::to_string));
        errors
    }

    /// A task for each rule there is, and none for those that are gone.
    pub fn staff(&self) {
        let rules = self.front.rules();
        let mut workers = lock(&self.workers);
        workers.retain(|name, _| rules.iter().any(|rule| rule.name == *name));
        for rule in rules {
            let start = || Worker::start(self.driver.clone(), rule.name.clone());
            workers.entry(rule.name.clone()).or_insert_with(start);
        }
        drop(workers);
        self.staffed.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub fn worker(&self, name: &RuleName) -> Option<Worker> {
        lock(&self.workers).get(name).cloned()
    }

    /// A rule's task, once it is there: Envoy asks before the daemon is ready, and before a new rule has its task.
    pub async fn worker_soon(&self, name: &RuleName) -> Option<Worker> {
        let mut staffed = self.staffed.subscribe();
        let there = async {
            loop {
                staffed.mark_unchanged();
                let worker = self.worker(name);
                if worker.is_some() || self.front.rule(name).is_none() || staffed.changed().await.is_err() {
                    return worker;
                }
            }
        };
        clock::timeout(STAFFED, there).await.ok().flatten()
    }

    /// Says to a rule's task that somebody asks for it.
    ///
    /// # Errors
    /// A sentence when it could not be noted.
    pub async fn ask_for(&self, worker: &Worker, name: &RuleName, who: &str) -> Result<(), String> {
        let record = worker.look(Stimulus::Request { who: who.to_owned() }).await?;
        // What was last seen may be from before somebody took the rule away and brought it back.
        if record.snapshot.switched && self.front.side(name) == Side::Waker {
            worker.look(Stimulus::StateChange).await?;
        }
        Ok(())
    }

    /// Wakes a rule for somebody who waits at this generation of it, and ends when Envoy leads there; false when it is not to
    /// be, or no more.
    pub async fn wake(&self, worker: &Worker, name: &RuleName, generation: u64, who: &str) -> bool {
        while let Err(error) = self.ask_for(worker, name, who).await {
            tracing::warn!(rule = %name, %error, "the rule could not be woken; trying again");
            clock::sleep(PAUSE).await;
        }
        let (mut seen, mut changes) = (worker.seen(), self.front.changes());
        loop {
            seen.mark_unchanged();
            changes.mark_unchanged();
            // Before the question: Envoy may acknowledge right after it.
            let sure = self.front.is_sure(name);
            if self.front.leads_to_backend(name, generation) {
                return true;
            }
            let wanted = seen.borrow().as_ref().map(|record| record.wanted);
            if self.front.generation(name) != generation || wanted == Some(Wanted::Asleep) {
                return false;
            }
            let there = tokio::select! {
                biased;
                changed = seen.changed() => changed,
                changed = changes.changed() => changed,
                () = self.front.sure(name), if !sure => Ok(()),
            };
            if there.is_err() {
                return false;
            }
        }
    }

    /// What was last seen of a rule.
    pub fn record(&self, name: &RuleName) -> Option<Record> {
        self.worker(name)?.record()
    }

    pub async fn managed(&self, name: &RuleName) -> Option<Managed> {
        self.driver.rules().await.ok()?.get(name).cloned()
    }

    pub fn last_user(&self, name: &RuleName) -> Option<String> {
        lock(&self.users).get(name).cloned()
    }

    pub fn note_access(&self, access: &Access) {
        let Some(rule) = &access.rule else { return };
        let source = access
            .source
            .map_or_else(|| "an unknown address".to_owned(), |source| source.to_string());
        tracing::debug!(%rule, kind = ?access.kind, %source, lasted = ?access.lasted, received = access.received, sent = access.sent, "access");
        lock(&self.users).insert(rule.clone(), source);
    }

    /// Somebody waits by TCP: wakes the rule, and ends the wait when it takes too long.
    pub async fn answer_ring(self, ring: Ring) {
        let Ring { rule: name, generation } = ring;
        let waits = || self.front.side(&name) == Side::Waker && self.front.generation(&name) == generation;
        let Some(rule) = self.front.rule(&name).filter(|_| waits()) else {
            return;
        };
        let began = clock::instant();
        let source = self.last_user(&name).unwrap_or_else(|| "somebody".to_owned());
        let woken = async {
            let Some(worker) = self.worker_soon(&name).await else {
                return false;
            };
            let policy = loop {
                match self.managed(&name).await {
                    Some(managed) => break managed.rule.policy,
                    None => clock::sleep(PAUSE).await,
                }
            };
            // Nobody can press a button by TCP.
            !policy.confirm && self.wake(&worker, &name, generation, &format!("{source} by TCP")).await
        };
        if clock::timeout(rule.wake_timeout, woken).await == Ok(true) {
            lock(&self.let_go).remove(&name);
            return;
        }
        // Who is let go may come again at once.
        let until = began + self.patience(&name).min(rule.wake_timeout);
        clock::sleep(until.saturating_duration_since(clock::instant())).await;
        // At this generation Envoy rings no more, so it must not stay.
        while waits() {
            tracing::warn!(rule = %name, "not to be woken, or not in time: those who waited are let go");
            if let Err(fault) = self.front.give_up(&name, generation) {
                tracing::warn!(rule = %name, %fault, "their wait could not be ended; trying again");
                clock::sleep(PAUSE).await;
            }
        }
    }

    /// How long those wait who cannot wake this rule.
    fn patience(&self, name: &RuleName) -> Duration {
        let now = clock::instant();
        let mut let_go = lock(&self.let_go);
        let_go.retain(|_, (_, at)| now.saturating_duration_since(*at) < LET_GO_FORGOTTEN);
        let (times, at) = let_go.entry(name.clone()).or_insert((0, now));
        let patience = LET_GO * 2_u32.pow((*times).min(LET_GO_DOUBLES));
        (*times, *at) = (*times + 1, now);
        patience
    }

    /// Tells Envoy what is wanted and waits until the rules that are asleep are so in Envoy too.
    pub async fn publish(&self) {
        let Some(version) = self.front.begin() else { return };
        if let Some(plane) = self.front.plane()
            && let Err(error) = plane.acked(version).await
        {
            tracing::warn!(%error, "Envoy does not have all of it");
        }
    }

    pub fn now(&self) -> crate::domain::time::Timestamp {
        SystemClock.now()
    }
}
