//! Measures the shipped daemon with a real Envoy and writes its part of `bench/RESULTS.md`: `make bench-proxy`.
//!
//! What is compared runs by turns in one run, so that whatever else the machine does happens to all of them.

#![allow(clippy::disallowed_methods, reason = "real time is what is measured")]

mod awake;
mod fronts;
mod held;
mod many;
mod ours;
mod pins;
#[path = "../../tests/proxy_daemon/mod.rs"]
mod proxy_daemon;
#[path = "../report.rs"]
mod report;
mod traffic;
#[path = "../usage.rs"]
mod usage;

use report::Report;

/// `rounds=NUMBER` makes it shorter or longer.
const ROUNDS: usize = 20;

fn main() {
    let told =
        |key: &str| std::env::args().find_map(|word| Some(word.strip_prefix(key)?.strip_prefix('=')?.to_owned()));
    let rounds = told("rounds").map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    // `only=awake`, `only=held` or `only=many` is for trying things: nothing is written.
    let only = told("only");
    let wanted = |part: &str| only.as_ref().is_none_or(|only| only == part);
    let mut report = Report::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    if wanted("awake") {
        awake::measure(rounds, &mut report);
    }
    if wanted("held") {
        runtime.block_on(held::measure(&mut report));
    }
    if wanted("many") {
        many::measure(&mut report);
    }
    if only.is_some() {
        return;
    }
    report.save(
        "The proxy",
        "Written by `make bench-proxy`, which repeats all of it: the release build of the daemon and Envoy 1.40, on loopback. \
         Clients and what is behind the proxy are on the same machine.",
    );
}
