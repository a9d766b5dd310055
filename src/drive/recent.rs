//! The rules of the last route table, so that they are worked out once for each table and not for each request.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Driver, TABLE_AGE};
use crate::activity::Metrics;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::domain::table::RouteTable;
use crate::domain::time::{Timestamp, since};
use crate::gateway::Gateway;
use crate::ledger::Ledger;
use crate::rules::Rules;

/// What this process knows of the rules, and when it was read from the listeners.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Option<(Timestamp, Arc<Rules>)>>);

impl<C: Compute, G: Gateway, M: Metrics, L: Ledger, K: Clock> Driver<C, G, M, L, K> {
    /// The rules as this process knows them, unless they were read more than [`TABLE_AGE`] ago. It asks nobody, so somebody
    /// who has just changed a rule may not be in it.
    pub fn recent_rules(&self) -> Option<Arc<Rules>> {
        let recent = self.recent.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_at, rules) = recent.as_ref()?;
        (since(self.clock.now(), *read_at) < TABLE_AGE).then(|| rules.clone())
    }

    /// The rules of a stored table, which its `read_at` tells from all others.
    pub(super) fn rules_of(&self, table: &RouteTable) -> Arc<Rules> {
        let mut recent = self.recent.0.lock().unwrap_or_else(PoisonError::into_inner);
        match recent.as_ref() {
            Some((read_at, rules)) if *read_at == table.read_at => rules.clone(),
            Some(_) | None => {
                let rules = Arc::new(Rules::new(table, &self.settings));
                *recent = Some((table.read_at, rules.clone()));
                rules
            }
        }
    }
}
