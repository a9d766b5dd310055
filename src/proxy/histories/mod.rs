//! I1 to I10 of the proxy over random histories: the shipped daemon without its sockets (rules, state on the disk, looks,
//! doorbell, delta sessions) between a model of Envoy and machines that have their troubles. It dies at any moment, also between
//! what is stored and what is told, and each time another one goes on. Judged by the world's truth.

mod judge;
mod story;
mod world;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::played::Playing;

use self::story::{Story, turn};
use self::world::Stage;

/// The same histories in every run; PROPTEST_CASES asks for more of them. A failing one is printed, shrunk.
fn runner(cases: u32) -> TestRunner {
    let asked = Config::default();
    let cases = if asked.cases == 256 { cases } else { asked.cases };
    let config = Config {
        cases,
        failure_persistence: None,
        ..asked
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn no_history_of_the_proxy_breaks_a_promise() {
    let sights = RefCell::new(BTreeSet::new());
    runner(12)
        .run(&vec(turn(), 1..50), |turns| {
            let stage = Stage::new(2);
            let _playing = Playing::begin(Arc::new(stage.clone()));
            let mut story = Story::begin(stage.clone());
            for turn in &turns {
                story.tell(turn);
                if let Some(first) = stage.inner().truth.wrong.first() {
                    return Err(TestCaseError::fail(first.clone()));
                }
            }
            story.end();
            let inner = stage.inner();
            sights.borrow_mut().extend(inner.truth.sights.iter().copied());
            match inner.truth.wrong.first() {
                Some(first) => Err(TestCaseError::fail(first.clone())),
                None => Ok(()),
            }
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    let expected = [
        "asleep",
        "awake",
        "checking",
        "delivered",
        "failed",
        "let go",
        "misconfigured",
        "on the backend",
        "served",
        "settling",
        "started",
        "starting",
        "stopped",
        "stopping",
    ];
    // A few histories cannot show everything.
    let missing: Vec<_> = expected
        .iter()
        .filter(|sight| !sights.borrow().contains(**sight))
        .collect();
    assert!(missing.is_empty(), "never seen: {missing:?}");
}
