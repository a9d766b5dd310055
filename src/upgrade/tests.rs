use std::collections::{BTreeSet, VecDeque};

use super::*;

const OURS: &str = "ours";
const OLD: &str = "old";

fn seen(live: &str, code: &str, update: Update) -> Seen {
    Seen {
        live: live.to_owned(),
        alias_revision: "a".to_owned(),
        latest: Latest {
            code: code.to_owned(),
            revision: "r".to_owned(),
            architecture: "x86_64".to_owned(),
            update,
        },
    }
}

fn done(kept: bool, uploaded: bool, proven: bool) -> Done {
    Done {
        kept: kept.then(|| "1".to_owned()),
        uploaded,
        proven,
    }
}

/// What a step does when it succeeds.
fn after(step: &Step, seen: &Seen, done: &Done) -> Option<(Seen, Done)> {
    let (mut seen, mut done) = (seen.clone(), done.clone());
    match step {
        Step::Wait => seen.latest.update = Update::Successful,
        Step::Keep => {
            seen.live = "1".to_owned();
            done.kept = Some("1".to_owned());
        }
        Step::Upload => {
            seen.latest.code = OURS.to_owned();
            seen.latest.update = Update::InProgress;
            done.uploaded = true;
        }
        Step::Prove => done.proven = true,
        Step::GoLive => seen.live = LATEST.to_owned(),
        Step::GoBack(version) => seen.live.clone_from(version),
        Step::Finished => return None,
    }
    Some((seen, done))
}

/// From every state, ended after any step and begun anew or not: the end is reached, and no code is live that was neither
/// live before nor proven.
#[test]
fn whoever_is_interrupted_anywhere_runs_it_again_and_gets_there() {
    let starts = [OLD, OURS].into_iter().flat_map(|code| {
        [LATEST, "1"].into_iter().flat_map(move |live| {
            [Update::InProgress, Update::Successful].map(|update| {
                (
                    seen(live, code, update),
                    Done::default(),
                    live == LATEST && code == OURS,
                )
            })
        })
    });
    let mut open: VecDeque<_> = starts.collect();
    let mut known = BTreeSet::new();
    let mut finished = 0;
    while let Some((seen, done, was_live)) = open.pop_front() {
        if !known.insert(format!("{seen:?}{done:?}{was_live}")) {
            continue;
        }
        assert!(
            seen.live != LATEST || seen.latest.code != OURS || done.proven || was_live,
            "unproven and live: {seen:?} {done:?}"
        );
        let step = next(&seen, &done, OURS).unwrap();
        match after(&step, &seen, &done) {
            Some((seen, done)) => {
                let was_live = was_live || (done.proven && seen.live == LATEST);
                open.push_back((seen.clone(), done, was_live));
                // The process dies and somebody runs it again.
                open.push_back((seen, Done::default(), was_live));
            }
            None => {
                finished += 1;
                assert_eq!(
                    (seen.live.as_str(), seen.latest.code.as_str(), done.proven),
                    (LATEST, OURS, true)
                );
            }
        }
    }
    assert!(finished > 1, "several ways lead there");
}

#[test]
fn the_running_code_is_kept_before_anything_is_uploaded() {
    let step = next(&seen(LATEST, OLD, Update::Successful), &Done::default(), OURS);
    assert_eq!(step, Ok(Step::Keep));
    let step = next(&seen("1", OLD, Update::Successful), &done(true, false, false), OURS);
    assert_eq!(step, Ok(Step::Upload));
}

#[test]
fn code_of_somebody_else_ends_it() {
    for live in [LATEST, "1"] {
        for (uploaded, proven) in [(true, false), (true, true), (false, true)] {
            for update in [Update::Successful, Update::InProgress] {
                let step = next(&seen(live, "theirs", update), &done(true, uploaded, proven), OURS);
                assert_eq!(step, Err(Stuck::Overtaken));
            }
        }
    }
}

#[test]
fn what_became_live_unproven_goes_back_at_once() {
    for update in [Update::InProgress, Update::Successful] {
        let step = next(&seen(LATEST, OURS, update), &done(true, true, false), OURS);
        assert_eq!(step, Ok(Step::GoBack("1".to_owned())));
    }
}

#[test]
fn a_failed_update_is_uploaded_again_once() {
    let failed = || Update::Failed("out of disk".to_owned());
    let again = next(&seen("1", OURS, failed()), &Done::default(), OURS);
    assert_eq!(again, Ok(Step::Upload));
    let stuck = Err(Stuck::NotInPlace("out of disk".to_owned()));
    assert_eq!(next(&seen("1", OURS, failed()), &done(true, true, false), OURS), stuck);
    assert_eq!(next(&seen(LATEST, OLD, failed()), &Done::default(), OURS), stuck);
}

#[test]
fn the_way_back_is_the_newest_version_with_other_code() {
    let versions: Vec<_> = [(LATEST, "c"), ("1", "a"), ("2", "b"), ("3", "c")]
        .map(|(version, code)| (version.to_owned(), code.to_owned()))
        .into();
    assert_eq!(before(&versions, "c"), Some("2"));
    assert_eq!(before(&versions, "b"), Some("3"));
    assert_eq!(before(&versions[..1], "c"), None);
}
