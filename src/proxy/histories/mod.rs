//! I1 to I10 of the proxy over random histories: the shipped daemon without its sockets (rules, state on the disk, looks,
//! doorbell, delta sessions) between a model of Envoy and machines that have their troubles. It dies at any moment, also between
//! what is stored and what is told, and each time another one goes on. Judged by the world's truth.
//!
//! Seen red: with health not asked for (I1); with a stop right at the flip, and with generations that stay (I2); with rings for
//! earlier generations heard (I6); with a next look that is now (I5); with another rule's claim on the machine unheeded (I8); with
//! nothing stored before it is told, and with the ports of a rule that is gone given away (I10).

mod judge;
mod story;
mod world;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::domain::rule::RuleName;
use crate::domain::seen::Wanted;
use crate::played::Playing;

use self::story::{Story, Turn, turn};
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

/// What was seen in this history; an error is the first promise that was broken in it.
fn told(turns: &[Turn]) -> Result<BTreeSet<&'static str>, String> {
    let stage = Stage::new(2);
    let _playing = Playing::begin(Arc::new(stage.clone()));
    let mut story = Story::begin(stage.clone());
    for turn in turns {
        story.tell(turn);
        if let Some(first) = stage.inner().truth.wrong.first() {
            return Err(first.clone());
        }
    }
    story.end();
    let inner = stage.inner();
    match inner.truth.wrong.first() {
        Some(first) => Err(first.clone()),
        None => Ok(inner.truth.sights.clone()),
    }
}

/// What random histories and readers have found, each red before it was mended.
#[test]
fn what_once_broke_a_promise_does_so_no_more() {
    use self::world::Doom;
    use Turn::{Command, Connect, Doomed, Files, Kill, Leave, LoseLoad, LoseResources, Reconnect, Slow, Wait};
    let awake = |rule| Command(rule, Wanted::Awake);
    let asleep = |rule| Command(rule, Wanted::Asleep);
    let histories = [
        // A report after a pause covered all of it, also what came to clusters that were new in it.
        vec![awake(0), LoseLoad, Wait(73), Connect(0)],
        // Envoy said what it has while a look was under way, and the next look was a minute later: by then the rule had been
        // taken for awake for longer than it takes to be idle.
        vec![
            Connect(1),
            Slow(1_195, 277),
            Wait(4),
            Slow(2_338, 2_931),
            Doomed(Doom::Call(0), 35_389),
            Kill(100),
            asleep(1),
            LoseResources,
            Reconnect,
            Wait(1),
        ],
        // A rule was idle for the time in which it was away, though somebody was still connected.
        vec![Connect(1), Wait(30), Files(1), Wait(80)],
        // A session stayed open to a machine that became another rule's.
        vec![Connect(0), Wait(60), Files(3), Wait(200), Leave(0), Wait(30)],
        // Whoever came while a rule was taken away was let go, and nobody could ring for it when it was back.
        vec![Slow(11, 0), Files(1), Connect(1), Wait(1)],
        // A claim was made and the daemon died before it was noted: nobody gave the machine up.
        vec![Wait(1), Wait(1), Files(3), Kill(100)],
        // A rule that was away for a moment was taken for awake by the flip before that.
        vec![Connect(0), Wait(20), Leave(0), Files(1), Files(0), Connect(1), Wait(10)],
    ];
    for history in histories {
        if let Err(broken) = told(&history) {
            panic!("{broken}: {history:?}");
        }
    }
}

/// Tells these turns; `look` says what is to be seen then.
fn seen_after(turns: &[Turn], look: impl Fn(&world::Inner) -> bool) -> bool {
    let stage = Stage::new(2);
    let _playing = Playing::begin(Arc::new(stage.clone()));
    let mut story = Story::begin(stage.clone());
    turns.iter().for_each(|turn| story.tell(turn));
    look(&stage.inner())
}

/// Red when a rule whose file changed was looked at in its next minute: until then its clients came to a machine that is down.
#[test]
fn an_awake_rule_with_another_machine_is_looked_at_at_once() {
    use Turn::{Connect, Files, Wait};
    let holds = |inner: &world::Inner| inner.envoy.leads(&RuleName("a".to_owned())).is_empty();
    assert!(seen_after(&[Connect(0), Wait(20), Files(3), Wait(1)], holds));
}

/// Red when the flip before it went away was still believed: whoever came waited for as long as that is.
#[test]
fn a_rule_that_was_away_for_a_moment_serves_at_once() {
    use Turn::{Connect, Files, Leave, Wait};
    let served = |inner: &world::Inner| inner.truth.clients.values().any(|(_, opened)| opened.is_some());
    let turns = [Connect(1), Wait(9), Leave(1), Files(1), Files(0), Connect(1), Wait(2)];
    assert!(seen_after(&turns, served));
}

#[test]
fn no_history_of_the_proxy_breaks_a_promise() {
    let sights = RefCell::new(BTreeSet::new());
    runner(100)
        .run(&vec(turn(), 1..50), |turns| {
            let seen = told(&turns).map_err(TestCaseError::fail)?;
            sights.borrow_mut().extend(seen);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    let expected = [
        "asleep",
        "awake",
        "delivered",
        "failed",
        "let go",
        "on the backend",
        "served",
        "settling",
        "started",
        "starting",
        "stopped",
    ];
    let sights = sights.into_inner();
    let missing: Vec<_> = expected.iter().filter(|sight| !sights.contains(**sight)).collect();
    assert!(missing.is_empty(), "never seen: {missing:?}");
}
