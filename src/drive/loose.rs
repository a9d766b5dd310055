//! Parked rules whose R is gone or no longer opted in. R gets its own action back, its machines are left as they are, and
//! P goes.

use std::time::Duration;

use super::{Driver, LEASE};
use crate::activity::Metrics;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::plan::{Event, EventKind};
use crate::domain::record::{DESCRIBE_IS_STALE_FOR, Record};
use crate::domain::rule::{RouteId, RuleName, Side};
use crate::domain::table::{ListenerRule, RouteTable};
use crate::domain::time::{after, since};
use crate::gateway::Gateway;
use crate::ledger::{Ledger, LedgerError, lease};
use crate::rules::{self, Rules};

/// Seen loose for this long, so in two Ticks: one reading may be from between a deletion and a creation of R.
const LOOSE_FOR: Duration = Duration::from_secs(50);

impl<C: Compute, G: Gateway, M: Metrics, L: Ledger, K: Clock> Driver<C, G, M, L, K> {
    /// Restores and deletes what has been loose for long enough. One that cannot be tidied keeps no other from it.
    pub(super) async fn tidy(&self, table: &RouteTable, rules: &Rules) -> Vec<(RuleName, LedgerError)> {
        let now = self.clock.now();
        let mut failed = Vec::new();
        for (parked, route) in loose(table) {
            let since_when = table.loose.get(&parked.arn);
            if since_when.is_none_or(|seen| since(now, *seen) < LOOSE_FOR) {
                continue;
            }
            let name = rules::name_of(table, &route, &self.settings.wakers);
            if let Err(error) = self.unpark(parked, &route, name.as_ref(), rules).await {
                failed.push((name.unwrap_or_else(|| RuleName(route.0.clone())), error));
            }
        }
        failed
    }

    async fn unpark(
        &self,
        parked: &ListenerRule,
        route: &RouteId,
        name: Option<&RuleName>,
        rules: &Rules,
    ) -> Result<(), LedgerError> {
        // A rule that still has other routes is not over.
        let over = name.filter(|name| rules.get(name).is_none());
        let stored = match over {
            Some(name) => self.ledger.load(name).await?,
            None => None,
        };
        // What is shown may be older than our last write: a later Tick will see.
        if stored
            .as_ref()
            .is_some_and(|record| self.is_seen(record, route).is_err())
        {
            return Ok(());
        }
        let now = self.clock.now();
        let held = match &stored {
            Some(record) => Some(lease::acquire(&self.ledger, record, &self.owner, now, after(now, LEASE)).await?),
            None => None,
        };
        self.gateway.unpark(parked, route).await?;
        tracing::info!(route = %route, parked = %parked.arn, "no longer managed: restored, and its parked rule deleted");
        match held {
            Some(held) => self.forget(&held, "its listener rule is no longer opted in").await,
            None => Ok(()),
        }
    }

    /// A route that was put on the waker a moment ago may still be shown on its backend. Who believed that would delete P
    /// and forget the original while R has neither.
    pub(super) fn is_seen(&self, record: &Record, route: &RouteId) -> Result<(), LedgerError> {
        let flips = [record.flips.get(route), record.asked.get(route)].into_iter().flatten();
        let now = self.clock.now();
        let mut unseen = flips.filter(|flip| flip.side == Side::Waker && since(now, flip.at) < DESCRIBE_IS_STALE_FOR);
        match unseen.next() {
            None => Ok(()),
            Some(_) => {
                let words = format!("{route} was put on the waker less than a minute ago: run this again in a minute");
                Err(Fault::new(FaultKind::Conflict, "elasticloadbalancing:ModifyRule", words).into())
            }
        }
    }

    /// Under the lease of a rule that is no longer managed: what is opted in again later is taken as it is found then. The
    /// record is written anew, not deleted, since a look that has read it before would bring a deleted one back.
    pub(super) async fn forget(&self, held: &Record, why: &str) -> Result<(), LedgerError> {
        let now = self.clock.now();
        let fresh = Record {
            version: held.version,
            ..Record::new(held.rule.clone(), now)
        };
        self.ledger.store(&fresh).await?;
        let event = Event {
            at: now,
            kind: EventKind::Released,
            why: why.to_owned(),
            took: None,
        };
        self.ledger.append(&held.rule, &[event]).await
    }
}

/// The parked rules without a managed R, and the R they name.
pub(super) fn loose(table: &RouteTable) -> Vec<(&ListenerRule, RouteId)> {
    let rules = || table.listeners.iter().flat_map(|listener| &listener.rules);
    let named = rules().filter_map(|rule| Some((rule, RouteId(rule.parks()?.to_owned()))));
    named
        .filter(|(_, route)| !table.find(route).is_some_and(|(_, rule)| rule.is_managed()))
        .collect()
}
