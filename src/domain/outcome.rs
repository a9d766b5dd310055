//! What became of an action, noted in the record.

use std::time::Duration;

use super::fault::{Fault, FaultKind};
use super::plan::Action;
use super::record::{Attempt, FIRST_PAUSE, Failure, Flip, Record};
use super::rule::Side;
use super::time::Timestamp;

/// Notes the outcome of one action in `record`. `before` is the record from before the plan: what was noted in advance
/// is taken back when the call surely had no effect.
pub fn applied(now: Timestamp, record: &mut Record, before: &Record, action: &Action, outcome: &Result<(), Fault>) {
    let of = match action {
        Action::Park { .. } => Attempt::Park,
        Action::FlipToWaker { .. } | Action::FlipToBackend { .. } => Attempt::Flip,
        Action::Start { .. } => Attempt::Start,
        Action::Stop { .. } => Attempt::Stop,
    };
    match (action, outcome) {
        (Action::FlipToWaker { route, .. }, Ok(())) => {
            record.flips.insert(
                route.clone(),
                Flip {
                    side: Side::Waker,
                    at: now,
                },
            );
        }
        (Action::FlipToBackend { route, .. }, Ok(())) => {
            record.flips.insert(
                route.clone(),
                Flip {
                    side: Side::Backend,
                    at: now,
                },
            );
        }
        (Action::FlipToWaker { route, .. } | Action::FlipToBackend { route, .. }, Err(fault))
            if !fault.had_no_effect() =>
        {
            // The next Describe knows better than an older memory of ours.
            record.flips.remove(route);
        }
        (Action::Stop { .. }, Err(fault)) if fault.had_no_effect() => record.last_stop = before.last_stop,
        (Action::Start { .. }, Err(fault)) if fault.had_no_effect() => record.last_start = before.last_start,
        (_, Ok(()) | Err(_)) => {}
    }
    match outcome {
        // A start that is accepted may still fall back, so only a running machine ends a start's failure.
        Ok(()) if of != Attempt::Start => {
            record.failure.take_if(|failure| failure.of == of);
        }
        Ok(()) => {}
        Err(fault) => {
            let pause = match fault.kind {
                FaultKind::Throttled | FaultKind::Conflict => Duration::from_secs(5),
                FaultKind::Denied | FaultKind::NoCapacity | FaultKind::NotFound | FaultKind::Other => FIRST_PAUSE,
            };
            record.failure = Some(Failure::next(record.failure.as_ref(), now, of, pause, fault.sentence()));
        }
    }
}
