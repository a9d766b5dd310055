//! A Tick: all rules in one go, with as few calls as it takes to see that nothing changed.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use super::{Driver, Effort, Known};
use crate::activity::Metrics;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::domain::activity::Counted;
use crate::domain::phase::Phase;
use crate::domain::record::Record;
use crate::domain::rest;
use crate::domain::rule::{ResourceId, RuleName};
use crate::domain::seen::{Fact, ResourceSeen, Stimulus};
use crate::domain::table::RouteTable;
use crate::domain::time::{Timestamp, after};
use crate::gateway::Gateway;
use crate::ledger::{Ledger, LedgerError};
use crate::rules::Managed;
use crate::telemetry::METRICS;

/// No look is begun later than this after the beginning of a sweep. A look lasts at most as long as its lease, so what was
/// begun ends before the next but one Tick; what was left is looked at first then.
const SWEEP: Duration = Duration::from_secs(30);
/// How many looks run at once: more would only be throttled by AWS.
const WIDTH: usize = 4;

/// What a sweep came to.
#[derive(Debug, Default)]
pub struct Swept {
    /// How many rules there are.
    pub rules: usize,
    /// How many of them had to be looked at.
    pub looked: usize,
    /// How many of those there was no time for; they come first next time.
    pub left: usize,
    pub failed: Vec<(RuleName, LedgerError)>,
}

/// A rule that needs a look.
struct Due<'a> {
    managed: &'a Managed,
    record: Option<Record>,
    counted: Option<Counted>,
}

impl<C: Compute, G: Gateway, M: Metrics, L: Ledger, K: Clock> Driver<C, G, M, L, K> {
    /// Looks at every rule that is in motion, due, or not as its last look left it. A rule at rest costs its share of one
    /// batched read of the ledger and of EC2. One that cannot be looked at keeps no other from it.
    ///
    /// # Errors
    /// When the route table or the ledger cannot be read at all.
    pub async fn sweep(&self) -> Result<Swept, LedgerError> {
        let end = after(self.clock.now(), SWEEP);
        let table = self.table_of_tick().await?;
        let rules = self.rules_of(&table);
        let all: Vec<&Managed> = rules.iter().collect();
        let names: Vec<RuleName> = all.iter().map(|managed| managed.rule.name.clone()).collect();
        let records = self.ledger.load_all(&names).await?;
        let mut swept = Swept {
            rules: all.len(),
            ..Swept::default()
        };
        let mut known = Vec::new();
        for (managed, record) in all.into_iter().zip(records) {
            match record {
                Ok(record) => known.push((managed, record)),
                Err(error) => swept.failed.push((managed.rule.name.clone(), error)),
            }
        }
        tell(&known);
        let mut due = self.due(&table, known).await;
        swept.looked = due.len();
        self.ask_metrics(&table, &mut due).await;
        let looks = due.into_iter().map(|due| async move {
            if self.clock.now() >= end {
                return None;
            }
            let Due {
                managed,
                record,
                counted,
            } = due;
            let looked = self
                .look_knowing(managed, &Stimulus::Tick, Effort::Sweep, Known { record, counted })
                .await;
            Some((&managed.rule.name, looked))
        });
        let mut looks = stream::iter(looks).buffer_unordered(WIDTH);
        while let Some(look) = looks.next().await {
            match look {
                // Another actor was faster, and has done what there was to do.
                Some((_, Ok(_) | Err(LedgerError::Lost))) => {}
                Some((rule, Err(error))) => swept.failed.push((rule.clone(), error)),
                None => swept.left += 1,
            }
        }
        swept.failed.extend(self.tidy(&table, &rules).await);
        // Last, since it takes many calls and no look waits for it but one that stops.
        self.renew_ways(table).await?;
        Ok(swept)
    }

    /// The rules that need a look, those first that have waited longest for one.
    async fn due<'a>(&self, table: &RouteTable, known: Vec<(&'a Managed, Option<Record>)>) -> Vec<Due<'a>> {
        let now = self.clock.now();
        let records = known.iter().filter_map(|(_, record)| record.as_ref());
        let resting = records.filter(|record| record.rests_until.is_some_and(|until| now < until));
        let mut ids: Vec<ResourceId> = resting.flat_map(|record| record.snapshot.resources.clone()).collect();
        ids.sort();
        ids.dedup();
        let machines = match ids.is_empty() {
            true => Ok(Vec::new()),
            false => self.compute.describe(&ids).await,
        };
        let machines = machines.map(|seen| seen.into_iter().map(|machine| (machine.id.clone(), machine)).collect());
        let mut due: Vec<Due<'a>> = known
            .into_iter()
            .filter(|(managed, record)| !self.rests(now, table, managed, record.as_ref(), &machines))
            .map(|(managed, record)| Due {
                managed,
                record,
                counted: None,
            })
            .collect();
        due.sort_by_key(|due| due.record.as_ref().map_or(Timestamp::MIN, |record| record.snapshot.at));
        due
    }

    fn rests(
        &self,
        now: Timestamp,
        table: &RouteTable,
        managed: &Managed,
        record: Option<&Record>,
        machines: &Fact<BTreeMap<ResourceId, ResourceSeen>>,
    ) -> bool {
        let Some(record) = record else { return false };
        let Ok(machines) = machines else {
            // A look would be refused the same question: only what is due anyway tries.
            return record.adopted && record.rests_until.is_some_and(|until| now < until);
        };
        let own: Option<Vec<ResourceSeen>> = record
            .snapshot
            .resources
            .iter()
            .map(|id| machines.get(id).cloned())
            .collect();
        own.is_some_and(|own| {
            rest::rests(
                now,
                record,
                rest::digest(&managed.rule, &self.routes(managed, table), &own),
            )
        })
    }

    /// Asks for all of them at once what each would ask for itself.
    async fn ask_metrics(&self, table: &RouteTable, due: &mut [Due<'_>]) {
        let asked: Vec<_> = due
            .iter()
            .enumerate()
            .filter_map(|(place, due)| {
                let routes = self.routes(due.managed, table);
                let question = self.question(due.managed, due.record.as_ref()?, table, &routes)?;
                Some((place, question))
            })
            .collect();
        let (places, questions): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        for (place, counted) in places.into_iter().zip(self.count(questions).await) {
            due[place].counted = Some(counted);
        }
    }
}

/// How many rules stand where, for the metrics.
fn tell(known: &[(&Managed, Option<Record>)]) {
    let records = || known.iter().filter_map(|(_, record)| record.as_ref());
    let count = |is: fn(&Phase) -> bool| records().filter(|record| is(&record.snapshot.phase)).count() as u64;
    tracing::info!(
        target: METRICS,
        AwakeRules = count(|phase| *phase == Phase::Awake),
        AsleepRules = count(|phase| *phase == Phase::Asleep),
        FailedRules = count(|phase| matches!(phase, Phase::Failed(_))),
    );
}
