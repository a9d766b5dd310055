//! What may happen, and its telling: the shipped daemon without its sockets, on a thread with virtual time.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::clock::{Clock, SystemClock};
use crate::compute::kinds::Kinds;
use crate::compute::program::Programs;
use crate::config::proxy::ProxyConfig;
use crate::domain::phase::Phase;
use crate::domain::rule::RuleName;
use crate::domain::seen::{Power, Stimulus, Wanted};
use crate::drive::{Driver, Recent};
use crate::gateway::envoy::model::{Envoy, Millis, Socket};
use crate::ledger::folder::Folder;
use crate::ledger::memory::Memory;
use crate::proxy::daemon::{attend, settings};
use crate::proxy::desk::Desk;
use crate::proxy::front::Front;
use crate::proxy::state;

use super::world::{Doom, Fate, Stage, machine};

const SECOND: Millis = 1_000;
const IDLE: Millis = 60 * SECOND;
const SETTLE: Millis = 10 * SECOND;
/// How long a connection waits for its rule.
const PATIENCE: Millis = 90 * SECOND;
/// With no more trouble, whoever wants to is served within this time: a pause after failures, a lease, a boot.
const SERVED_WITHIN: Millis = 500 * SECOND;
/// And what nobody uses sleeps.
const ASLEEP_WITHIN: Millis = IDLE + 600 * SECOND;

pub const RULES: [&str; 2] = ["a", "b"];

#[derive(Debug, Clone)]
pub enum Turn {
    /// So many seconds.
    Wait(u64),
    Connect(usize),
    /// The oldest connection or wait of a rule ends.
    Leave(usize),
    Hand(u32, bool),
    Works(u32, bool),
    BootsIn(u32, Millis),
    NextStart(u32, Fate),
    /// How long messages and load reports take.
    Slow(Millis, Millis),
    LoseResources,
    LoseBell,
    LoseLoad,
    Reconnect,
    EnvoyRestarts,
    Refuse(usize, bool),
    Command(usize, Wanted),
    /// The rule files change: both, without the second, a third that shares a machine with it, or their machines swapped.
    Files(u8),
    /// The daemon dies now, and is back after so many milliseconds.
    Kill(Millis),
    /// It dies at that point.
    Doomed(Doom, Millis),
}

pub fn turn() -> impl Strategy<Value = Turn> {
    use Wanted::{Asleep, Awake};
    let rule = || 0..RULES.len();
    let machine = || 1..=2_u32;
    let fate = prop::sample::select(vec![Fate::Refused, Fate::AnswerLost, Fate::Lost]);
    let doom = prop_oneof![Just(Doom::Published), (0..4_u32).prop_map(Doom::Call)];
    let away = || prop_oneof![Just(100), 100..60_000_u64];
    prop_oneof![
        8 => (1..=20_u64).prop_map(Turn::Wait),
        4 => (30..=200_u64).prop_map(Turn::Wait),
        10 => rule().prop_map(Turn::Connect),
        6 => rule().prop_map(Turn::Leave),
        2 => (machine(), any::<bool>()).prop_map(|(machine, start)| Turn::Hand(machine, start)),
        2 => (machine(), any::<bool>()).prop_map(|(machine, works)| Turn::Works(machine, works)),
        1 => (machine(), 0..100_000_u64).prop_map(|(machine, time)| Turn::BootsIn(machine, time)),
        1 => (machine(), fate).prop_map(|(machine, fate)| Turn::NextStart(machine, fate)),
        2 => (1..3_000_u64, 0..4_000_u64).prop_map(|(all, reports)| Turn::Slow(all, reports)),
        2 => Just(Turn::LoseResources),
        1 => Just(Turn::LoseBell),
        2 => Just(Turn::LoseLoad),
        4 => Just(Turn::Reconnect),
        1 => Just(Turn::EnvoyRestarts),
        2 => (rule(), any::<bool>()).prop_map(|(rule, refused)| Turn::Refuse(rule, refused)),
        4 => (rule(), prop::sample::select(vec![Asleep, Asleep, Awake])).prop_map(|(rule, wanted)| Turn::Command(rule, wanted)),
        2 => (0..4_u8).prop_map(Turn::Files),
        2 => away().prop_map(Turn::Kill),
        4 => (doom, away()).prop_map(|(doom, away)| Turn::Doomed(doom, away)),
    ]
}

struct Daemon {
    desk: Desk<Memory>,
    socket: Socket,
}

pub struct Story {
    pub stage: Stage,
    place: TempDir,
    config: ProxyConfig,
    // Before the runtime it is of no use, after it nobody would be left to let go of the folder.
    daemon: Option<Daemon>,
    runtime: Runtime,
    daemons: u32,
    clients: u64,
    /// How long a doomed daemon will be away.
    away: Millis,
}

fn name(rule: usize) -> RuleName {
    RuleName(RULES[rule].to_owned())
}

fn runtime(stage: &Stage) -> Runtime {
    let idle = Arc::clone(&stage.idle);
    let mut builder = Builder::new_current_thread();
    builder.on_thread_park(move || idle.notify_one()).build().unwrap()
}

impl Story {
    pub fn begin(stage: Stage) -> Story {
        let place = TempDir::new().unwrap();
        let text = "listen = \"127.0.0.1\"\nhttpPorts = []\nportRange = \"50000-50009\"\nledger = \"file:state\"\nsettle = \"10s\"\nidleMin = \"5s\"\nmetricsDelay = \"10s\"\ndescribeDelay = \"5s\"\n";
        let config = ProxyConfig::read(&place.path().join("config.toml"), text).unwrap();
        fs::create_dir(place.path().join("rules.d")).unwrap();
        let runtime = runtime(&stage);
        let mut story = Story {
            stage,
            place,
            config,
            daemon: None,
            runtime,
            daemons: 0,
            clients: 0,
            away: 0,
        };
        story.write_rules(0);
        story.revive();
        story.run(2 * SECOND);
        story
    }

    fn write_rules(&mut self, variant: u8) {
        let folder = self.place.path().join("rules.d");
        let rule = |machine: u32, more: &str| {
            format!(
                "idle = \"60s\"\ndeadline = \"60s\"\nwake-timeout = \"90s\"\nresources = \"i-{machine:017}\"\n[[tcp]]\nport = 22\n{more}"
            )
        };
        let (one, two) = if variant == 3 { (2, 1) } else { (1, 2) };
        let second = rule(two, "[[tcp]]\nport = 5432\n");
        let third = rule(2, "");
        let files = [
            ("a", Some(rule(one, ""))),
            ("b", (variant != 1).then_some(second)),
            ("c", (variant == 2).then_some(third)),
        ];
        for (name, text) in &files {
            let path = folder.join(format!("{name}.toml"));
            match text {
                Some(text) => fs::write(&path, text).unwrap(),
                None => drop(fs::remove_file(&path)),
            }
        }
        let mut inner = self.stage.inner();
        let now = inner.now;
        for (rule, index) in [("a", one), ("b", two), ("c", 2)] {
            let there = files.iter().any(|(name, text)| *name == rule && text.is_some());
            let truth = inner.truth.rules.entry(RuleName(rule.to_owned())).or_default();
            truth.all_machines.insert(machine(index));
            let machines = there.then(|| machine(index)).into_iter().collect();
            if truth.machines != machines {
                (truth.machines, truth.since) = (machines, now);
            }
            (truth.idle, truth.settle) = (IDLE, SETTLE);
        }
    }

    fn revive(&mut self) {
        self.daemons += 1;
        let owner = format!("daemon-{}", self.daemons);
        let ledger = self.stage.inner().ledger.clone();
        let (config, here) = (self.config.clone(), self.place.path());
        let daemon = self.runtime.block_on(begin(config, here, ledger, owner));
        let stage = self.stage.clone();
        let mut inner = stage.inner();
        let now = inner.now;
        inner.envoy.connect_to(now, &daemon.socket);
        inner.ring_again();
        self.daemon = Some(daemon);
    }

    fn kill(&mut self) {
        // With its runtime all that it was doing ends.
        self.runtime = runtime(&self.stage);
        self.daemon = None;
        let mut inner = self.stage.inner();
        (inner.dead, inner.doom) = (false, None);
        inner.envoy.streams().cut();
    }

    /// Lets time pass; a doomed daemon dies on the way.
    fn run(&mut self, span: Millis) {
        let until = self.stage.inner().now + span;
        while self.runtime.block_on(self.stage.live(until)) {
            self.kill();
            let away = std::mem::take(&mut self.away);
            self.run(away);
            self.revive();
        }
        let stored = fs::read(self.config.ledger.join(state::FILE)).ok();
        self.stage.inner().judge_stored(stored);
    }

    pub fn tell(&mut self, turn: &Turn) {
        match turn {
            Turn::Wait(seconds) => self.run(seconds * SECOND),
            Turn::Command(rule, wanted) => self.command(name(*rule), *wanted),
            Turn::Files(variant) => {
                self.write_rules(*variant);
                self.reload();
            }
            Turn::Kill(away) => {
                self.kill();
                self.run(*away);
                self.revive();
            }
            Turn::Doomed(_, away) => {
                self.away = *away;
                self.happen(turn);
            }
            _ => self.happen(turn),
        }
        self.run(10);
    }

    /// What needs no daemon.
    fn happen(&mut self, turn: &Turn) {
        let stage = self.stage.clone();
        let inner = &mut *stage.inner();
        let now = inner.now;
        let on_machine = |index: &u32| machine(*index);
        match turn {
            Turn::Wait(_) | Turn::Command(..) | Turn::Files(_) | Turn::Kill(_) => {}
            Turn::Connect(rule) => drop(self.connect(inner, &name(*rule))),
            Turn::Leave(rule) => {
                let name = name(*rule);
                let client = inner.truth.clients.iter().find(|(_, (of, _))| *of == name);
                if let Some(client) = client.map(|(client, _)| *client) {
                    inner.leave(client);
                }
            }
            Turn::Hand(index, start) => inner.by_hand(&on_machine(index), *start),
            Turn::Works(index, works) => inner.machine(&on_machine(index)).works = *works,
            Turn::BootsIn(index, time) => inner.machine(&on_machine(index)).boots_in = *time,
            Turn::NextStart(index, fate) => inner.machine(&on_machine(index)).fate = Some(*fate),
            Turn::Refuse(rule, true) => drop(inner.envoy.config.refuses.insert(name(*rule))),
            Turn::Refuse(rule, false) => drop(inner.envoy.config.refuses.remove(&name(*rule))),
            Turn::Slow(all, reports) => {
                (inner.envoy.streams().takes, inner.envoy.streams().reports_take) = (*all, *reports)
            }
            Turn::LoseResources => inner.envoy.streams().lose_resources(),
            Turn::LoseBell => inner.envoy.streams().lose_bell(),
            Turn::LoseLoad => inner.envoy.streams().lose_load(),
            Turn::Reconnect => {
                inner.envoy.reconnect(now);
                inner.ring_again();
            }
            Turn::EnvoyRestarts => {
                inner.envoy.streams().end();
                inner.envoy = Envoy::default();
                inner.truth.clients.clear();
                if let Some(daemon) = &self.daemon {
                    inner.envoy.connect_to(now, &daemon.socket);
                }
            }
            Turn::Doomed(doom, _) => inner.doom = Some(*doom),
        }
    }

    fn reload(&self) {
        if let Some(daemon) = &self.daemon {
            let desk = daemon.desk.clone();
            self.runtime.block_on(async move {
                desk.reload().await.unwrap();
                desk.staff();
            });
        }
    }

    /// A new client; none when nobody listens.
    fn connect(&mut self, inner: &mut super::world::Inner, rule: &RuleName) -> Option<u64> {
        let now = inner.now;
        self.clients += 1;
        let client = self.clients;
        if let Some(truth) = inner.truth.rules.get_mut(rule) {
            truth.asked = Some(now);
        }
        if !inner.envoy.connect(now, client, &rule.0, PATIENCE) {
            return None;
        }
        inner.truth.clients.insert(client, (rule.clone(), None));
        inner.judge();
        Some(client)
    }

    fn command(&mut self, rule: RuleName, wanted: Wanted) {
        let Some(worker) = self.daemon.as_ref().and_then(|daemon| daemon.desk.worker(&rule)) else {
            return;
        };
        let stage = self.stage.clone();
        let now = stage.inner().now;
        if let Some(truth) = stage.inner().truth.rules.get_mut(&rule) {
            match wanted {
                Wanted::Asleep => truth.told_to_sleep = Some(now),
                Wanted::Awake => truth.asked = Some(now),
            }
        }
        self.runtime.spawn(async move {
            let who = "an operator".to_owned();
            let heard = worker.look(Stimulus::Command { wanted, who }).await.is_ok();
            if let Some(truth) = stage.inner().truth.rules.get_mut(&rule)
                && heard
                && wanted == Wanted::Awake
                && truth.told_to_sleep.is_some_and(|at| at < now)
            {
                truth.told_to_sleep = None;
            }
        });
    }

    /// From here on there is no trouble, and nobody is there. Then somebody comes for each rule, and leaves again.
    pub fn end(&mut self) {
        self.write_rules(0);
        self.reload();
        {
            let stage = self.stage.clone();
            let mut inner = stage.inner();
            inner.doom = None;
            for machine in inner.machines.values_mut() {
                (machine.works, machine.boots_in, machine.fate) = (true, 5_000, None);
            }
            let now = inner.now;
            let clients: Vec<u64> = inner.truth.clients.keys().copied().collect();
            for client in clients {
                inner.leave(client);
            }
            let envoy = &mut inner.envoy;
            envoy.config.refuses.clear();
            (envoy.streams().takes, envoy.streams().reports_take) = (5, 5);
            envoy.streams().lose_resources();
            envoy.reconnect(now);
            inner.ring_again();
        }
        self.run(30 * SECOND);
        let begun = self.stage.inner().now;
        let mut served = [None; RULES.len()];
        loop {
            for (rule, client) in served.iter_mut().enumerate() {
                let stage = self.stage.clone();
                let mut inner = stage.inner();
                let waits = client.is_some_and(|client| inner.truth.clients.contains_key(&client));
                if !waits {
                    *client = self.connect(&mut inner, &name(rule));
                }
            }
            self.run(10 * SECOND);
            let stage = self.stage.clone();
            let mut inner = stage.inner();
            let open = |client: &Option<u64>| {
                client.is_some_and(|client| inner.truth.clients.get(&client).is_some_and(|(_, open)| open.is_some()))
            };
            if served.iter().all(open) {
                break;
            }
            if inner.now - begun > SERVED_WITHIN {
                for rule in (0..RULES.len())
                    .filter(|rule| !open(&served[*rule]))
                    .collect::<Vec<_>>()
                {
                    let told = inner.told(&name(rule));
                    inner
                        .truth
                        .wrong
                        .push(format!("I6: {} is not served: {told}", RULES[rule]));
                }
                return;
            }
            if !inner.truth.wrong.is_empty() {
                return;
            }
        }
        {
            let stage = self.stage.clone();
            let mut inner = stage.inner();
            for client in served.into_iter().flatten() {
                inner.leave(client);
            }
        }
        let begun = self.stage.inner().now;
        while self.stage.inner().now < begun + ASLEEP_WITHIN
            && (0..RULES.len()).any(|rule| self.sleeplessness(rule).is_some())
        {
            self.run(10 * SECOND);
        }
        for (rule, name) in RULES.iter().enumerate() {
            if let Some(why) = self.sleeplessness(rule) {
                self.stage
                    .inner()
                    .truth
                    .wrong
                    .push(format!("I6: {name} does not sleep: {why}"));
            }
        }
    }

    /// Why a rule cannot be said to sleep.
    fn sleeplessness(&self, rule: usize) -> Option<String> {
        let inner = self.stage.inner();
        let record = inner.record(&name(rule));
        let asleep = record.is_some_and(|record| record.snapshot.phase == Phase::Asleep);
        let power = inner
            .machines
            .get(&machine(u32::try_from(rule).unwrap() + 1))
            .map(|machine| machine.power);
        let reached = !inner.envoy.leads(&name(rule)).is_empty();
        let sleeps = asleep && power == Some(Power::Stopped) && !reached;
        (!sleeps).then(|| {
            format!(
                "its machine is {power:?}, reached {reached}, {}",
                inner.told(&name(rule))
            )
        })
    }
}

async fn begin(config: ProxyConfig, here: &Path, ledger: Memory, owner: String) -> Daemon {
    let folder = Arc::new(Folder::open(&config.ledger).unwrap());
    let compute = Kinds {
        programs: Programs::open(folder.clone(), here.to_owned()).unwrap(),
        aws: None,
    };
    let front = Front::open(config.clone(), folder, compute.clone()).unwrap();
    let driver = Driver {
        compute,
        gateway: front.clone(),
        metrics: front.clone(),
        ledger,
        clock: SystemClock,
        settings: settings(&config),
        owner,
        recent: Recent::default(),
    };
    let desk = Desk::new(front.clone(), driver);
    desk.begin().await.unwrap();
    let (plane, signals, socket) = Socket::open(|| SystemClock.now());
    front.connect(plane);
    front.begin();
    let attended = desk.clone();
    tokio::spawn(async move { attend(&attended, signals).await });
    Daemon { desk, socket }
}
