//! Whatever the function is invoked with, the load balancer gets a valid answer, which holds no more of it than text.
//!
//! A story is a fresh account with some hundred events, each answered by the shipped function, and follows from its seed
//! alone. `make fuzz` tells a million events, `make test` some ten thousand, always the same.
//!
//! Seen red: with paths that stay as they came in `Location`, with an origin taken unread, with a path cut in the middle of a
//! character, and with noncharacters left in pages.

#[path = "../days/mod.rs"]
mod days;
mod events;
mod judge;
#[allow(dead_code, reason = "the page's own tests use the rest")]
#[path = "../../src/page/markup.rs"]
mod markup;
mod story;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use story::EVENTS;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |key: &str, default: u64| {
        let mut given = arguments
            .iter()
            .filter_map(|argument| argument.strip_prefix(key)?.strip_prefix('='));
        given.next().map_or(Some(default), |text| text.parse().ok())
    };
    let (Some(cases), Some(seed)) = (number("cases", 10_000), number("seed", 0)) else {
        eprintln!("write cases=NUMBER seed=NUMBER");
        return ExitCode::FAILURE;
    };
    let stories = cases.div_ceil(EVENTS);
    println!("{stories} stories of {EVENTS} events, from seed={seed}");
    let (next, end) = (AtomicU64::new(seed), seed.saturating_add(stories));
    let (kinds, failed) = (Mutex::new(BTreeMap::<String, u64>::new()), Mutex::new(Vec::new()));
    let vocabulary = judge::Vocabulary::of_our_pages();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let stop = !failed.lock().is_ok_and(|failed| failed.is_empty());
                    if seed >= end || stop {
                        return;
                    }
                    match thread::scope(|scope| scope.spawn(|| story::tell(seed, &vocabulary)).join()) {
                        Ok(told) => {
                            let mut kinds = kinds.lock().expect("nothing panics while it counts");
                            for (kind, count) in told {
                                *kinds.entry(kind).or_default() += count;
                            }
                        }
                        Err(_) => failed.lock().expect("nothing panics while it notes").push(seed),
                    }
                }
            });
        }
    });
    for (kind, count) in kinds.into_inner().expect("all threads have ended") {
        println!("{count:>9} {kind}");
    }
    let failed = failed.into_inner().expect("all threads have ended");
    for seed in &failed {
        eprintln!("failed; once more: cargo test --test fuzz -- cases=1 seed={seed}");
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
