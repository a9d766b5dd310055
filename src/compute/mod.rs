//! What is started and stopped.

#[cfg(feature = "aws")]
pub mod ec2;
#[cfg(feature = "proxy")]
pub mod kinds;
#[cfg(feature = "proxy")]
pub mod program;
#[cfg(feature = "proxy")]
pub mod rds;
#[cfg(feature = "proxy")]
pub mod tagged;

use std::future::Future;

use crate::domain::fault::Fault;
use crate::domain::policy::StopKind;
use crate::domain::rule::ResourceId;
use crate::domain::seen::ResourceSeen;

/// The port to what runs. An adapter sorts every error into a [`Fault`] and never blocks longer than
/// [`crate::drive::CALL_TIMEOUT`], retries included.
pub trait Compute: Sync {
    /// One entry for each id, in the order of the ids. An id the service does not know comes back as
    /// [`Power::Terminated`](crate::domain::seen::Power::Terminated), not as an error.
    fn describe(&self, ids: &[ResourceId]) -> impl Future<Output = Result<Vec<ResourceSeen>, Fault>> + Send;

    /// Starts what is stopped; no error for what runs already. One that cannot start does not keep the others from it;
    /// the error then is that one's.
    fn start(&self, ids: &[ResourceId]) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Stops what runs; no error for what is stopped already.
    fn stop(&self, ids: &[ResourceId], kind: StopKind) -> impl Future<Output = Result<(), Fault>> + Send;
}
