//! What shows use.

pub mod cloudwatch;

use std::future::Future;

use crate::domain::activity::{Activity, Question};
use crate::domain::seen::Fact;

/// The port to what was counted. An adapter sorts every error into a [`Fault`](crate::domain::fault::Fault) and never
/// blocks longer than [`crate::drive::CALL_TIMEOUT`], retries included.
pub trait Metrics: Sync {
    /// One answer for each question, in their order. Points outside `from..until` are left out, except that the load of the
    /// machines is given for the last 20 minutes before `until`. An error is that of the one call that failed: it does not
    /// harm the answers of other calls.
    fn read(&self, questions: &[Question]) -> impl Future<Output = Vec<Fact<Activity>>> + Send;
}
