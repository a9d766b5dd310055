//! The end of managing a rule, by an operator's word. It differs from what a Tick does to a rule whose tag is gone (`loose`)
//! in that it happens at once, and without a parked rule too.

use super::{ACTION_TIMEOUT, CALL_TIMEOUT, Driver, LEASE, PATIENCE, PATIENCE_STEP};
use crate::activity::Metrics;
use crate::clock::{self, Clock};
use crate::compute::Compute;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::record::{Flip, Record};
use crate::domain::rule::{Action, GroupId, ResourceId, RouteId, RuleName, Side};
use crate::domain::seen::Parked;
use crate::domain::table::{ListenerRule, RouteTable};
use crate::domain::time::after;
use crate::gateway::Gateway;
use crate::ledger::{Ledger, LedgerError, lease};
use crate::rules::{Rules, side};

/// What a release left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// The machines that the rule had claimed, in the order of their ids.
    pub machines: Vec<ResourceId>,
    /// Those of them that no other rule claims.
    pub unclaimed: Vec<ResourceId>,
}

/// A route, with what it is to get back.
#[derive(Debug, Clone, PartialEq)]
pub struct Unreleased {
    pub route: RouteId,
    /// Where it leads; a route that is gone leads nowhere and counts as the backend.
    pub side: Side,
    /// The original actions; none when R has them. An error when they are nowhere.
    pub original: Result<Option<Vec<Action>>, ()>,
    pub parked: Vec<ListenerRule>,
}

impl<C: Compute, G: Gateway, M: Metrics, L: Ledger, K: Clock> Driver<C, G, M, L, K> {
    /// What a release of these routes has to put back.
    ///
    /// # Errors
    /// When the ledger cannot be used.
    pub async fn unreleased(
        &self,
        table: &RouteTable,
        name: &RuleName,
        routes: &[RouteId],
    ) -> Result<Vec<Unreleased>, LedgerError> {
        let record = self.ledger.load(name).await?;
        let left = routes
            .iter()
            .map(|route| self.one_unreleased(table, record.as_ref(), route));
        Ok(left.collect())
    }

    fn one_unreleased(&self, table: &RouteTable, record: Option<&Record>, route: &RouteId) -> Unreleased {
        let found = table.find(route);
        let rules = table.listeners.iter().flat_map(|listener| &listener.rules);
        let parked: Vec<ListenerRule> = rules.filter(|rule| rule.parks() == Some(&route.0)).cloned().collect();
        let side = found.map_or(Side::Backend, |(_, rule)| side(rule, &self.settings.wakers));
        let remembered = || record.and_then(|record| record.originals.get(route)).cloned();
        let original = match side {
            Side::Backend => Ok(None),
            Side::Waker => match (remembered(), table.parked(route)) {
                (Some(actions), _) => Ok(Some(actions)),
                (None, Parked::One(actions)) => Ok(Some(actions)),
                (None, Parked::Many(copies)) if copies.iter().all(|copy| *copy == copies[0]) => {
                    Ok(copies.into_iter().next())
                }
                (None, Parked::Missing | Parked::Many(_)) => Err(()),
            },
        };
        Unreleased {
            route: route.clone(),
            side,
            original,
            parked,
        }
    }

    /// Gives routes that are no longer opted in their own actions back, deletes what was parked for them, and forgets the
    /// rule. Machines are left as they are. Done twice it is done once; what an interruption leaves, a Tick or the next
    /// release ends.
    ///
    /// # Errors
    /// [`LedgerError::Lost`] when another actor keeps the rule's lease; a [`FaultKind::Conflict`] when one of the routes is
    /// managed again or its original is nowhere; others as AWS answers.
    pub async fn release(&self, name: &RuleName, routes: &[RouteId]) -> Result<Released, LedgerError> {
        let mut held = self.lease_of(name).await?;
        let result = self.put_back(&mut held, routes).await;
        if result.is_err() {
            let _ = lease::release(&self.ledger, &held, &self.owner).await;
        }
        result
    }

    async fn put_back(&self, held: &mut Record, routes: &[RouteId]) -> Result<Released, LedgerError> {
        let table = self
            .read_table(
                self.ledger.load_table().await?.map(|stored| stored.table).as_ref(),
                None,
            )
            .await?;
        for route in routes {
            if self.lease_left(held) < ACTION_TIMEOUT + CALL_TIMEOUT {
                return Err(LedgerError::Lost);
            }
            let left = self.one_unreleased(&table, Some(held), route);
            if left.side == Side::Backend {
                self.is_seen(held, route)?;
            }
            match &left.original {
                Ok(Some(original)) => {
                    self.gateway.flip_to_backend(route, original).await?;
                    // Should the rest fail, the next run must not take this for a stale answer.
                    let (side, at) = (Side::Backend, self.clock.now());
                    held.asked.remove(route);
                    held.flips.insert(route.clone(), Flip { side, at });
                }
                Ok(None) => {}
                Err(()) => {
                    let words = format!("the original action of {route} is nowhere: set it by hand");
                    return Err(Fault::new(FaultKind::Conflict, "elasticloadbalancing:ModifyRule", words).into());
                }
            }
            for parked in &left.parked {
                self.gateway.unpark(parked, route).await?;
            }
        }
        let mut machines = self.machines_of(&table, held, routes).await?;
        machines.extend(held.snapshot.resources.iter().cloned());
        machines.sort();
        machines.dedup();
        let table = self.read_table(Some(&table), None).await?;
        let rules = Rules::new(&table, &self.settings);
        let exists = |other: &RuleName| rules.get(other).is_some();
        let mut unclaimed = Vec::new();
        if !exists(&held.rule) {
            self.ledger.own(&held.rule, &[], &machines, &exists).await?;
            self.forget(held, "released").await?;
        } else {
            lease::release(&self.ledger, held, &self.owner).await?;
        }
        for machine in &machines {
            if !self.ledger.claimants(machine).await?.iter().any(exists) {
                unclaimed.push(machine.clone());
            }
        }
        Ok(Released { machines, unclaimed })
    }

    /// The instances behind these routes.
    async fn machines_of(
        &self,
        table: &RouteTable,
        held: &Record,
        routes: &[RouteId],
    ) -> Result<Vec<ResourceId>, LedgerError> {
        let seen: Vec<_> = routes.iter().filter_map(|route| self.route(table, route)).collect();
        let groups: Vec<(GroupId, bool)> = super::observe::backend(&seen, held, &self.settings.wakers);
        let health = self.gateway.health(&groups).await?;
        let instances = health.into_iter().filter(|group| group.target_type == "instance");
        Ok(instances
            .flat_map(|group| group.targets)
            .map(|target| target.resource)
            .collect())
    }

    /// The rule's lease, waited for.
    async fn lease_of(&self, name: &RuleName) -> Result<Record, LedgerError> {
        let give_up_at = after(self.clock.now(), PATIENCE);
        loop {
            let now = self.clock.now();
            let stored = self.ledger.load(name).await?;
            let record = stored.unwrap_or_else(|| Record::new(name.clone(), now));
            match lease::acquire(&self.ledger, &record, &self.owner, now, after(now, LEASE)).await {
                Err(LedgerError::Lost) if now < give_up_at => clock::sleep(PATIENCE_STEP).await,
                done => return done,
            }
        }
    }
}
