//! The route table: read from the ledger by everybody, from the load balancer by one.

use std::time::Duration;

use super::Driver;
use super::loose::loose;
use crate::activity::Metrics;
use crate::clock::{self, Clock};
use crate::compute::Compute;
use crate::domain::rule::RouteId;
use crate::domain::table::{ForwardedFor, RouteTable};
use crate::domain::time::{Timestamp, after, since};
use crate::gateway::Gateway;
use crate::ledger::{Ledger, LedgerError};
use crate::rules;

/// A Tick that found the table fresh, because somebody else had just read it, says so only this often: it is a write.
const SWEPT_AGE: Duration = Duration::from_secs(3 * 60);
/// How often and how long apart the first table is looked for while somebody else reads it.
const FIRST_TABLE_LOOKS: u32 = 15;
const FIRST_TABLE_PAUSE: Duration = Duration::from_millis(200);

impl<C: Compute, G: Gateway, M: Metrics, L: Ledger, K: Clock> Driver<C, G, M, L, K> {
    /// The route table, renewed when it is older than the settings allow and nobody else is at it. An older table is served
    /// when the load balancer cannot be read: conditions seldom change, and every write re-reads its rule.
    pub(super) async fn table(&self) -> Result<RouteTable, LedgerError> {
        self.renewed(None).await
    }

    /// As [`Driver::table`], for a Tick: notes in the ledger that it was here.
    pub(super) async fn table_of_tick(&self) -> Result<RouteTable, LedgerError> {
        let now = self.clock.now();
        let mut table = self.renewed(Some(now)).await?;
        if table.swept_at.is_none_or(|swept_at| since(now, swept_at) >= SWEPT_AGE) {
            table.swept_at = Some(now);
            self.ledger.store_table(&table).await?;
        }
        Ok(table)
    }

    async fn renewed(&self, swept_at: Option<Timestamp>) -> Result<RouteTable, LedgerError> {
        let stored = self.ledger.load_table().await?.map(|stored| stored.table);
        let now = self.clock.now();
        if let Some(table) = &stored
            && since(now, table.read_at) < self.settings.table_age
        {
            return Ok(table.clone());
        }
        let mine = self
            .ledger
            .claim_table(&self.owner, now, after(now, self.settings.table_age))
            .await?;
        match (stored, mine) {
            (Some(table), false) => Ok(table),
            (None, false) => self.first_table().await,
            (before, true) => match self.read_and_store(before.as_ref(), before.as_ref(), swept_at).await {
                Ok(table) => Ok(table),
                Err(error) => match before {
                    Some(table) => {
                        tracing::warn!(%error, age = ?since(now, table.read_at), "the listeners could not be read; using the last table");
                        Ok(table)
                    }
                    None => Err(error),
                },
            },
        }
    }

    /// Somebody else reads the very first table: waits for it, and reads it too if that takes long.
    async fn first_table(&self) -> Result<RouteTable, LedgerError> {
        for _ in 0..FIRST_TABLE_LOOKS {
            clock::sleep(FIRST_TABLE_PAUSE).await;
            if let Some(stored) = self.ledger.load_table().await? {
                return Ok(stored.table);
            }
        }
        self.read_table(None, None).await
    }

    /// Reads the listeners now and stores what they say. Tags may be taken from `known`, what only we know is taken from
    /// `before`.
    pub(super) async fn read_table(
        &self,
        before: Option<&RouteTable>,
        known: Option<&RouteTable>,
    ) -> Result<RouteTable, LedgerError> {
        self.read_and_store(before, known, None).await
    }

    async fn read_and_store(
        &self,
        before: Option<&RouteTable>,
        known: Option<&RouteTable>,
        swept_at: Option<Timestamp>,
    ) -> Result<RouteTable, LedgerError> {
        let mut table = self.gateway.read(self.clock.now(), known).await?;
        // The same reading once more.
        if let (Some(before), None) = (before, swept_at)
            && before.read_at == table.read_at
            && before.listeners == table.listeners
        {
            return Ok(before.clone());
        }
        table.swept_at = swept_at;
        if let Some(before) = before {
            table.swept_at = swept_at.or(before.swept_at);
            table.names.clone_from(&before.names);
            table.ways.clone_from(&before.ways);
        }
        for listener in &mut table.listeners {
            // A call that failed is no news.
            if let Some(ForwardedFor::Unreadable(_)) = listener.forwarded_for {
                let mut earlier = before.into_iter().flat_map(|table| &table.listeners);
                let same = earlier.find(|one| one.load_balancer == listener.load_balancer);
                if let Some(said) = same.and_then(|same| same.forwarded_for.clone()) {
                    listener.forwarded_for = Some(said);
                }
            }
        }
        table.names = rules::names(&table, &self.settings);
        let known = before.map(|before| &before.loose);
        let since_when = |parked: &RouteId| {
            known
                .and_then(|known| known.get(parked))
                .copied()
                .unwrap_or(table.read_at)
        };
        table.loose = loose(&table)
            .into_iter()
            .map(|(parked, _)| (parked.arn.clone(), since_when(&parked.arn)))
            .collect();
        self.ledger.store_table(&table).await?;
        Ok(table)
    }
}
