//! What a load balancer does with X-Forwarded-For: the function is told the address of a client by nothing else.
//!
//! Source: "HTTP headers and Application Load Balancers", X-Forwarded-For.

use std::collections::BTreeSet;

use super::Alb;
use crate::aws::fault;
use crate::domain::fault::Fault;
use crate::domain::table::{ForwardedFor, Listener, ListenerRule, RouteTable, TAG_ALLOW};

const DESCRIBE_ATTRIBUTES: &str = "elasticloadbalancing:DescribeLoadBalancerAttributes";
const MODE: &str = "routing.http.xff_header_processing.mode";
/// The default.
const APPEND: &str = "append";

impl Alb {
    /// Asks the load balancers of rules with `autostopping:allow`, but not those whose listeners were taken over from `before`
    /// with all in order. One that does not answer keeps what it said last: this must not take the table down.
    pub(super) async fn learn_forwarded_for(&self, listeners: &mut [Listener], before: Option<&RouteTable>) {
        let needed = |rule: &ListenerRule| rule.is_managed() && rule.tags.contains_key(TAG_ALLOW);
        let unknown = |listener: &&Listener| {
            listener.forwarded_for != Some(ForwardedFor::Appended) && listener.rules.iter().any(needed)
        };
        let balancers = listeners.iter().filter(unknown).map(|one| one.load_balancer.clone());
        for balancer in balancers.collect::<BTreeSet<_>>() {
            let mut earlier = before.into_iter().flat_map(|table| &table.listeners);
            let said = match self.forwarded_for(&balancer).await {
                Ok(said) => said,
                Err(fault) => earlier
                    .find(|listener| listener.load_balancer == balancer)
                    .and_then(|listener| listener.forwarded_for.clone())
                    .unwrap_or_else(|| ForwardedFor::Unreadable(fault.sentence())),
            };
            for listener in listeners.iter_mut().filter(|one| one.load_balancer == balancer) {
                listener.forwarded_for = Some(said.clone());
            }
        }
    }

    async fn forwarded_for(&self, balancer: &str) -> Result<ForwardedFor, Fault> {
        let call = self
            .client
            .describe_load_balancer_attributes()
            .load_balancer_arn(balancer);
        let answer = call.send().await.map_err(|error| fault(DESCRIBE_ATTRIBUTES, error))?;
        let mode = answer
            .attributes()
            .iter()
            .find(|attribute| attribute.key() == Some(MODE));
        Ok(match mode.and_then(|mode| mode.value()) {
            None | Some(APPEND) => ForwardedFor::Appended,
            Some(other) => ForwardedFor::Otherwise(other.to_owned()),
        })
    }
}
