//! Faults and hands at random moments of a wake, drawn from a seed.

use std::{fmt, time::Duration};

use proxymanager::local::{Cloud, world::Faults};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::story::{self, site};

/// One thing that goes wrong, for a while or at one moment.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    Latency {
        ms: u64,
        jitter: u64,
    },
    Throttle,
    NoCapacity,
    FallsBack,
    LostResponse {
        share: f64,
    },
    Stale {
        ms: u64,
    },
    Propagation {
        ms: u64,
    },
    FunctionThrottled,
    Denied {
        call: &'static str,
    },
    Broken {
        call: &'static str,
    },
    StopByHand,
    StartByHand,
    /// Somebody gives R one more host.
    Edited,
    /// Somebody's Terraform gives R its own action back.
    EditedToBackend,
    ParkedDeleted,
    /// Every environment of the function dies, in the middle of whatever it does.
    FunctionCrash,
    /// Every idle environment of the function ends.
    FunctionForgotten,
}

/// When it begins and ends, from the first request on.
#[derive(Debug, Clone)]
pub struct Spell {
    pub trouble: Trouble,
    pub from: Duration,
    pub to: Duration,
}

/// A wake with its troubles.
#[derive(Debug, Clone)]
pub struct Mix {
    pub seed: u64,
    pub boot: Duration,
    pub hold: &'static str,
    pub spells: Vec<Spell>,
    name: Option<&'static str>,
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => write!(f, "{name} alone")?,
            None => write!(f, "seed {}", self.seed)?,
        }
        write!(f, ", boot {:?}, hold={}", self.boot, self.hold)?;
        for Spell { trouble, from, to } in &self.spells {
            write!(f, "; {trouble:?} from {from:.1?} to {to:.1?}")?;
        }
        Ok(())
    }
}

/// The last fault is over by then.
const LAST: u64 = 9_000;

impl Mix {
    /// The mix of a seed: two to five troubles.
    pub fn of(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let boot = Duration::from_millis(rng.u64(50..=300));
        let hold = if rng.bool() { "page" } else { "wait" };
        let mut spells: Vec<Spell> = Vec::new();
        for _ in 0..rng.usize(2..=5) {
            let trouble = draw(&mut rng);
            let same = |spell: &Spell| std::mem::discriminant(&spell.trouble) == std::mem::discriminant(&trouble);
            if spells.iter().any(same) {
                continue;
            }
            let from = rng.u64(0..6_000);
            let to = rng.u64(from + 500..=LAST.min(from + 6_000));
            spells.push(Spell {
                trouble,
                from: Duration::from_millis(from),
                to: Duration::from_millis(to),
            });
        }
        Self {
            seed,
            boot,
            hold,
            spells,
            name: None,
        }
    }

    /// Each trouble alone, for most of the wake.
    pub fn alone() -> Vec<Self> {
        let all: [(&'static str, Trouble); 19] = [
            (
                "latency",
                Trouble::Latency {
                    ms: 1_000,
                    jitter: 1_000,
                },
            ),
            // Just short of what the function waits for a call: a look takes longer than the function may.
            ("slow", Trouble::Latency { ms: 2_000, jitter: 300 }),
            // Longer than the function waits for any call.
            ("no answer", Trouble::Latency { ms: 9_000, jitter: 0 }),
            ("throttle", Trouble::Throttle),
            ("no_capacity", Trouble::NoCapacity),
            ("falls_back", Trouble::FallsBack),
            ("lost_response", Trouble::LostResponse { share: 1.0 }),
            ("stale", Trouble::Stale { ms: 8_000 }),
            ("propagation", Trouble::Propagation { ms: 10_000 }),
            ("function_throttled", Trouble::FunctionThrottled),
            ("denied", Trouble::Denied { call: "StartInstances" }),
            (
                "broken",
                Trouble::Broken {
                    call: "DescribeTargetHealth",
                },
            ),
            ("stop_by_hand", Trouble::StopByHand),
            ("start_by_hand", Trouble::StartByHand),
            ("edited", Trouble::Edited),
            ("edited_to_backend", Trouble::EditedToBackend),
            ("parked_deleted", Trouble::ParkedDeleted),
            ("function_crash", Trouble::FunctionCrash),
            ("function_forgotten", Trouble::FunctionForgotten),
        ];
        let seeded = all.into_iter().enumerate();
        let mixes = seeded.map(|(seed, (name, trouble))| {
            // What is done by hand is done when there is something to do it to.
            let from = Duration::from_millis(if trouble.lasts() { 0 } else { 2_500 });
            let to = Duration::from_secs(if name == "slow" { 40 } else { 6 });
            Self {
                seed: seed as u64,
                boot: Duration::from_millis(200),
                hold: "page",
                spells: vec![Spell { trouble, from, to }],
                name: Some(name),
            }
        });
        mixes.collect()
    }

    pub fn ends(&self) -> Duration {
        let ends = self.spells.iter().map(|spell| {
            // A change made at the end of the spell propagates on.
            let on = match spell.trouble {
                Trouble::Propagation { ms } => Duration::from_millis(ms),
                _ => Duration::ZERO,
            };
            spell.to + on
        });
        ends.max().unwrap_or_default()
    }

    pub fn has(&self, is: impl Fn(&Trouble) -> bool) -> bool {
        self.spells.iter().any(|spell| is(&spell.trouble))
    }

    /// Whether this mix itself is why a request got a 502 from this target with these words.
    pub fn causes(&self, target: &str, reason: &str) -> bool {
        let told = |words: &[&str]| words.iter().any(|word| reason.contains(word));
        let throttled = told(&["throttled"]) && self.has(|trouble| *trouble == Trouble::FunctionThrottled);
        let crashed = told(&["Runtime.ExitError", "INIT", "the environment is gone"])
            && self.has(|trouble| *trouble == Trouble::FunctionCrash);
        // Whoever is with a machine that somebody stops.
        let stopped = target.starts_with("i-") && self.has(|trouble| *trouble == Trouble::StopByHand);
        throttled || crashed || stopped
    }

    /// The command that plays it again.
    pub fn again(&self) -> String {
        match self.name {
            Some(_) => "cargo test --test story_faults -- every_fault_alone".to_owned(),
            None => format!("cargo test --test story_faults -- seed={}", self.seed),
        }
    }

    /// Lets it happen, until all of it is over.
    pub async fn play(&self, cloud: &Cloud, begun: Instant) {
        let mut moments: Vec<(Duration, bool, &Trouble)> = Vec::new();
        for spell in &self.spells {
            moments.push((spell.from, true, &spell.trouble));
            if spell.trouble.lasts() {
                moments.push((spell.to, false, &spell.trouble));
            }
        }
        moments.sort_by_key(|(at, ..)| *at);
        for (at, on, trouble) in moments {
            sleep_until(begun + at).await;
            if trouble.lasts() {
                trouble.switch(&mut cloud.shared.world().faults, on);
            } else {
                trouble.strike(cloud);
            }
        }
    }
}

fn draw(rng: &mut fastrand::Rng) -> Trouble {
    match rng.u32(0..17) {
        0 => Trouble::Latency {
            ms: rng.u64(50..=1_500),
            jitter: rng.u64(0..=1_000),
        },
        1 => Trouble::Throttle,
        2 => Trouble::NoCapacity,
        3 => Trouble::FallsBack,
        4 => Trouble::LostResponse {
            share: rng.u64(1..=10) as f64 / 10.0,
        },
        5 | 6 => Trouble::Stale {
            ms: rng.u64(500..=20_000),
        },
        7 | 8 => Trouble::Propagation {
            ms: rng.u64(0..=20_000),
        },
        9 => Trouble::FunctionThrottled,
        10 => {
            let calls = ["StartInstances", "ModifyRule", "CreateRule", "DescribeInstances"];
            Trouble::Denied {
                call: calls[rng.usize(..4)],
            }
        }
        11 => {
            let calls = ["DescribeTargetHealth", "DescribeRules", "StartInstances", "ModifyRule"];
            Trouble::Broken {
                call: calls[rng.usize(..4)],
            }
        }
        12 => Trouble::StopByHand,
        13 => Trouble::StartByHand,
        14 => [Trouble::Edited, Trouble::EditedToBackend][rng.usize(..2)].clone(),
        15 => Trouble::ParkedDeleted,
        _ => [Trouble::FunctionCrash, Trouble::FunctionForgotten][rng.usize(..2)].clone(),
    }
}

impl Trouble {
    /// Whether it is on for a while; what is not happens once.
    fn lasts(&self) -> bool {
        !matches!(
            self,
            Self::StopByHand
                | Self::StartByHand
                | Self::Edited
                | Self::EditedToBackend
                | Self::ParkedDeleted
                | Self::FunctionCrash
                | Self::FunctionForgotten
        )
    }

    fn switch(&self, faults: &mut Faults, on: bool) {
        let quiet = Faults::default();
        match self {
            Self::Latency { ms, jitter } => {
                (faults.latency_ms, faults.jitter_ms) = if on { (*ms, *jitter) } else { (0, 0) };
            }
            Self::Throttle => faults.throttle = on,
            Self::NoCapacity => faults.no_capacity = on,
            Self::FallsBack => faults.falls_back = on,
            Self::LostResponse { share } => faults.lost_response = if on { *share } else { 0.0 },
            Self::Stale { ms } => faults.stale_ms = if on { *ms } else { 0 },
            Self::Propagation { ms } => faults.propagation_ms = if on { *ms } else { 0 },
            Self::FunctionThrottled => faults.lambda_throttle = on,
            Self::Denied { call } => faults.denied = if on { vec![(*call).to_owned()] } else { quiet.denied },
            Self::Broken { call } => faults.broken = if on { vec![(*call).to_owned()] } else { quiet.broken },
            _ => {}
        }
    }

    fn strike(&self, cloud: &Cloud) {
        let now = cloud.shared.clock.now();
        let ids = [site(cloud).instance.clone()];
        let rule = &site(cloud).rule;
        match self {
            // AWS may refuse what is done by hand as it refuses us: then nothing has happened.
            Self::StopByHand => drop(cloud.shared.world().stop_instances(now, &ids, false)),
            Self::StartByHand => drop(cloud.shared.world().start_instances(now, &ids)),
            Self::Edited => {
                let hosts = json!({
                    "Field": "host-header",
                    "HostHeaderConfig": { "Values": [site(cloud).host, "another.localhost"] },
                });
                let edited = cloud
                    .shared
                    .world()
                    .modify_rule(now, rule, Some(vec![hosts]), None, None);
                edited.expect("R is there");
            }
            Self::EditedToBackend => {
                let actions = vec![site(cloud).action.clone()];
                let edited = cloud.shared.world().modify_rule(now, rule, None, Some(actions), None);
                edited.expect("R is there");
            }
            Self::ParkedDeleted => {
                let mut world = cloud.shared.world();
                let parks = |tag: &String| tag == rule;
                let mut rules = world.rules().iter();
                let parked = rules.find(|other| other.tags.get("autostopping:parks").is_some_and(parks));
                if let Some(parked) = parked.map(|parked| parked.arn.clone()) {
                    world.delete_rule(now, &parked).expect("P is there");
                }
            }
            Self::FunctionCrash => story::crash_function(cloud),
            Self::FunctionForgotten => cloud.shared.lambda.forget(),
            _ => {}
        }
    }
}
