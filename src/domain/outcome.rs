//! What became of an action, noted in the record.

use super::fault::{Fault, FaultKind};
use super::plan::Action;
use super::record::{Attempt, Flip, Record};
use super::rule::{ResourceId, RouteId, Side};
use super::time::Timestamp;

/// Notes the outcome of one action in `record`. `before` is the record from before the plan: what was noted in advance
/// is taken back when the call surely had no effect.
pub fn applied(now: Timestamp, record: &mut Record, before: &Record, action: &Action, outcome: &Result<(), Fault>) {
    let of = match action {
        Action::Park { route, .. } => {
            if outcome.is_ok() {
                record.parks.insert(route.clone(), now);
            }
            Attempt::Park
        }
        Action::FlipToWaker { route, .. } => {
            flipped(now, record, before, route, Side::Waker, outcome);
            Attempt::Flip
        }
        Action::FlipToBackend { route, .. } => {
            flipped(now, record, before, route, Side::Backend, outcome);
            Attempt::Flip
        }
        Action::Start { resources } => {
            if surely_without_effect(resources, outcome) {
                record.last_start = before.last_start;
                record.starts = before.starts;
            }
            Attempt::Start
        }
        Action::Stop { resources, .. } => {
            if surely_without_effect(resources, outcome) {
                record.last_stop = before.last_stop;
            }
            Attempt::Stop
        }
    };
    match outcome {
        // A start that is accepted may still fall back, so only machines that run end a start's failure.
        Ok(()) if of == Attempt::Start => {}
        Ok(()) => {
            record.failures.remove(&of);
        }
        Err(fault) => {
            record.note_failure(now, of, fault.pause(), fault.sentence());
            if let Some(failure) = record.failures.get_mut(&of) {
                failure.kind = Some(fault.kind);
                // No room for P, whether by quota or because all priorities are taken, comes as a conflict.
                failure.lasting = fault.lasts() || of == Attempt::Park && fault.kind == FaultKind::Conflict;
            }
        }
    }
}

fn flipped(
    now: Timestamp,
    record: &mut Record,
    before: &Record,
    route: &RouteId,
    side: Side,
    outcome: &Result<(), Fault>,
) {
    let flip = Flip { side, at: now };
    match outcome {
        Ok(()) => {
            record.flips.insert(route.clone(), flip);
            record.asked.remove(route);
        }
        Err(fault) if fault.had_no_effect() => {
            match before.asked.get(route) {
                Some(earlier) => record.asked.insert(route.clone(), *earlier),
                None => record.asked.remove(route),
            };
        }
        Err(_) => {
            // It may take effect as late as now.
            record.asked.insert(route.clone(), flip);
        }
    }
}

/// Of several machines some may have been started or stopped although the call as a whole failed.
fn surely_without_effect(resources: &[ResourceId], outcome: &Result<(), Fault>) -> bool {
    let none = outcome.as_ref().is_err_and(Fault::had_no_effect);
    none && resources.len() <= 1
}
