//! Every fault alone, and 200 mixes of faults at random moments of a wake. Whatever happens, everybody ends on the site,
//! and until then holds a page or JSON that says why not.
//!
//! Seen red: without the limit on an answer's time, by a 502 while every call took two seconds.
//!
//! One mix again: `cargo test --test story_faults -- seed=17`. So that it takes such an argument, it has a main of its own.

mod local_support;

use std::{collections::BTreeMap, process::ExitCode, sync::Arc, time::Duration};

use proxymanager::local::Cloud;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use local_support::{
    HOST,
    story::{self, asleep, site},
    trouble::{Mix, Trouble},
    visitor::{Kind, Seen, Visitor, tally},
};

const SEEDS: u64 = 200;
/// Clouds at one time, which mostly wait; and between the starts of two, since a start is what costs.
const AT_ONCE: usize = 72;
const APART: Duration = Duration::from_millis(150);
const VISITORS: u64 = 4;
/// From the end of the last fault until everybody is on the site: no flip within a minute of a stop, and half a minute
/// after a first failure, are the longest waits by design, and a failure may come at the end of the other. Twice that,
/// since a busy machine is no fault of ours: what is stuck is stuck for ever.
const HEALED_IN: Duration = Duration::from_secs(260);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let one = arguments.iter().find_map(|argument| argument.strip_prefix("seed="));
    let mut filters = arguments.iter();
    let filter = filters.find(|argument| !argument.starts_with('-') && !argument.contains('='));
    let mut tests: Vec<(&'static str, Vec<Mix>)> = match one.map(str::parse) {
        Some(Ok(seed)) => vec![("one_seed", vec![Mix::of(seed)])],
        Some(Err(_)) => {
            eprintln!("write seed=NUMBER");
            return ExitCode::FAILURE;
        }
        None => vec![
            ("every_fault_alone", Mix::alone()),
            ("random_mixes", (0..SEEDS).map(Mix::of).collect()),
        ],
    };
    tests.retain(|(name, _)| one.is_some() || filter.is_none_or(|filter| name.contains(filter)));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    if runtime.block_on(all(tests)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// All mixes of all tests at the same time, since they mostly wait; false when one failed.
async fn all(tests: Vec<(&'static str, Vec<Mix>)>) -> bool {
    let begun = Instant::now();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    let mut reports: BTreeMap<&'static str, Report> = BTreeMap::new();
    let mixes = tests
        .into_iter()
        .flat_map(|(name, mixes)| mixes.into_iter().map(move |mix| (name, mix)));
    for (number, (name, mix)) in (0..).zip(mixes) {
        let places = Arc::clone(&places);
        running.spawn(async move {
            sleep_until(begun + APART * number).await;
            let _place = places.acquire_owned().await.expect("it is never closed");
            let story = tokio::spawn(story(mix.clone())).await;
            let story = story.unwrap_or_else(|panicked| Err(format!("it panicked: {panicked}")));
            (name, mix, story)
        });
    }
    while let Some(ended) = running.join_next().await {
        let (name, mix, story) = ended.expect("a story that panics is told");
        reports.entry(name).or_default().note(&mix, story);
    }
    for (name, report) in &mut reports {
        report.print(name);
    }
    println!("all of it took {:.1} s", begun.elapsed().as_secs_f64());
    reports.values().all(|report| report.failed == 0)
}

/// What the mixes of one test came to.
#[derive(Default)]
struct Report {
    healed: Vec<f64>,
    answers: BTreeMap<String, usize>,
    failed: usize,
}

impl Report {
    fn note(&mut self, mix: &Mix, story: Result<Told, String>) {
        match story {
            Ok(told) => {
                self.healed.push(told.healed);
                for (what, count) in told.answers {
                    *self.answers.entry(what).or_default() += count;
                }
            }
            Err(why) => {
                self.failed += 1;
                println!("{mix}\n  {why}\n  again: {}", mix.again());
            }
        }
    }

    fn print(&mut self, name: &str) {
        self.healed.sort_by(f64::total_cmp);
        let part = |share: usize| {
            let place = self.healed.len() * share / 100;
            self.healed
                .get(place)
                .or(self.healed.last())
                .copied()
                .unwrap_or_default()
        };
        println!(
            "{name}: {} mixes, {} clients each: {:?}",
            self.healed.len() + self.failed,
            VISITORS + 1,
            self.answers
        );
        println!(
            "  all on the site after the last fault: half within {:.0} s, 90 % within {:.0} s, all within {:.0} s",
            part(50),
            part(90),
            part(100)
        );
        let verdict = if self.failed == 0 { "ok" } else { "FAILED" };
        println!("test {name} ... {verdict} ({} failed)", self.failed);
    }
}

struct Told {
    /// Seconds from the end of the last fault until the last client was on the site.
    healed: f64,
    answers: BTreeMap<String, usize>,
}

async fn story(mix: Mix) -> Result<Told, String> {
    let cloud = asleep(|config| {
        config.seed = mix.seed;
        config.boot = mix.boot;
        config.stop = Duration::from_millis(300);
        config.check.interval = Duration::from_millis(300);
        config.tick = Some(Duration::from_secs(5));
    })
    .await;
    story::tag(&cloud, "autostopping:hold", mix.hold);
    let begun = Instant::now();
    let quiet = begun + mix.ends();
    let mut visitors = JoinSet::new();
    for number in 0..VISITORS {
        let kind = if number % 2 == 0 { Kind::Browser } else { Kind::Program };
        let mut visitor =
            Visitor::new(kind, cloud.address, HOST, &format!("/{number}"), mix.seed + number).at_pace(0.5);
        let comes = begun + Duration::from_millis(700 * number);
        visitors.spawn(async move {
            sleep_until(comes).await;
            (visitor.arrive(quiet + HEALED_IN).await, visitor)
        });
    }
    mix.play(&cloud, begun).await;
    let stories = visitors.join_all().await;
    let healed = quiet.elapsed().as_secs_f64();
    let mut visitors = Vec::new();
    for (arrived, visitor) in stories {
        if !arrived {
            return Err(format!("never on the site: {}\n  {}", visitor.story(), scene(&cloud)));
        }
        visitors.push(visitor);
    }
    // Somebody may have arrived before the last fault: who comes now ends on the site too.
    let mut last = Visitor::new(Kind::Browser, cloud.address, HOST, "/last", mix.seed).at_pace(0.5);
    if !last.arrive(Instant::now() + HEALED_IN).await {
        return Err(format!("stuck: {}\n  {}", last.story(), scene(&cloud)));
    }
    visitors.push(last);
    for visitor in &visitors {
        if let Some(bad) = visitor.steps.iter().find(|step| !fair(&step.seen, &mix)) {
            return Err(format!("{bad}, of {}", visitor.story()));
        }
    }
    let unfair =
        |entry: &proxymanager::local::log::Access| entry.status == 502 && !mix.causes(&entry.target, &entry.reason);
    if let Some(entry) = cloud.shared.log.accesses().into_iter().find(unfair) {
        return Err(format!("a 502 that nobody caused: {entry:?}"));
    }
    if story::action(&cloud) != site(&cloud).action {
        return Err(format!("R does not lead where it led: {}", story::action(&cloud)));
    }
    let answers = tally(visitors.iter().flat_map(|visitor| &visitor.steps));
    cloud.stop().await;
    Ok(Told { healed, answers })
}

fn fair(seen: &Seen, mix: &Mix) -> bool {
    match seen {
        Seen::Site | Seen::Told(..) | Seen::Redirect => true,
        // Whose access log entry says why, and is judged there.
        Seen::Bare(502) => true,
        // A machine that somebody stops by hand, or a route that somebody points there, is nothing of ours to answer.
        // Nor when somebody takes P away between a look and the flip: a backend in no rule has no health, and begins anew.
        Seen::Bare(503) => mix.has(|trouble| {
            matches!(
                trouble,
                Trouble::StopByHand | Trouble::EditedToBackend | Trouble::ParkedDeleted
            )
        }),
        Seen::Bare(_) | Seen::Lost | Seen::Wrong(_) => false,
    }
}

/// What is there when somebody is stuck.
fn scene(cloud: &Cloud) -> String {
    let action = story::action(cloud);
    let side = if action == site(cloud).action {
        "backend"
    } else {
        "elsewhere"
    };
    let record = story::record(cloud).unwrap_or_default();
    format!(
        "machine {}, R on {side}, {} parked, health {:?}, record {record}",
        story::power(cloud),
        story::parked(cloud),
        local_support::health(cloud)
    )
}
