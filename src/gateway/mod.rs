//! What routes a request to backend or waker.

#[cfg(feature = "aws")]
pub mod alb;
#[cfg(feature = "proxy")]
pub mod envoy;

use std::future::Future;

use crate::domain::fault::Fault;
use crate::domain::rule::{Action, GroupId, RouteId};
use crate::domain::seen::GroupHealth;
use crate::domain::table::{ListenerRule, RouteTable};
use crate::domain::time::Timestamp;

/// The port to what routes. An adapter sorts every error into a [`Fault`] and never blocks longer than
/// [`crate::drive::CALL_TIMEOUT`] per call of the service, retries included.
pub trait Gateway: Sync {
    /// All rules of all watched listeners. With a table read before, only some of the tags it has are asked for again, in
    /// turns, so that all are within a few minutes; without one all are read now. What says the same as an earlier one may be
    /// that one, with its `read_at`.
    fn read(
        &self,
        now: Timestamp,
        known: Option<&RouteTable>,
    ) -> impl Future<Output = Result<RouteTable, Fault>> + Send;

    /// The registered targets of these groups and their health. The flag says whether the group has a share of the
    /// requests, and is handed through.
    fn health(&self, groups: &[(GroupId, bool)]) -> impl Future<Output = Result<Vec<GroupHealth>, Fault>> + Send;

    /// All target groups of the account and Region that serve a load balancer.
    fn groups(&self) -> impl Future<Output = Result<Vec<GroupId>, Fault>> + Send;

    /// The target groups that listeners of the table's load balancers lead to which are not in the table, each with the
    /// listener rule that does.
    fn unwatched(&self, table: &RouteTable) -> impl Future<Output = Result<Vec<(GroupId, RouteId)>, Fault>> + Send;

    /// Afterwards exactly one parked rule keeps the final one of these actions alive; others of this route are gone. A
    /// `Conflict`, and nothing done, when the route is no longer managed.
    fn park(
        &self,
        table: &RouteTable,
        route: &RouteId,
        actions: &[Action],
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Ends the parking of a route that is gone or no longer managed: R, if it is there and points at a waker, gets P's
    /// action for its final one; then P is deleted, unless its tag names another R by now.
    fn unpark(&self, parked: &ListenerRule, route: &RouteId) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Points the route at its load balancer's waker. Re-reads it first: if its actions are no longer these,
    /// or it is no longer managed, nothing is changed and the fault is a `Conflict`. No write when it points there already.
    fn flip_to_waker(
        &self,
        table: &RouteTable,
        route: &RouteId,
        actions: &[Action],
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Gives the route these actions. Re-reads it first: if it neither forwards to a waker nor does already what the final
    /// one of these does (same groups, weights and stickiness), somebody else has changed it, nothing is written and the
    /// fault is a `Conflict`.
    fn flip_to_backend(&self, route: &RouteId, actions: &[Action]) -> impl Future<Output = Result<(), Fault>> + Send;

    /// How many requests and connections are under way to these groups right now; none from a gateway that cannot tell.
    fn under_way(&self, groups: &[GroupId]) -> impl Future<Output = Result<Option<u64>, Fault>> + Send {
        let _ = groups;
        async { Ok(None) }
    }
}
