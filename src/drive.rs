//! One look at one rule: lease, observe, plan, apply. Generic over the ports, so that the Lambda, the command line and the
//! tests drive the same code.
//!
//! The fence: nothing is changed but under the rule's lease, and no action begins that could outlast it. So a wake and a
//! stop of one rule never overlap; see ARCHITECTURE.md for the argument.

mod count;
mod loose;
mod observe;
#[cfg(feature = "cli")]
mod preview;
mod recent;
#[cfg(feature = "cli")]
mod release;
mod sweep;
mod table;
mod ways;

use observe::Observed;
#[cfg(feature = "cli")]
pub use preview::Preview;
pub use recent::Recent;
#[cfg(feature = "cli")]
pub use release::{Released, Unreleased};
pub use sweep::Swept;

use std::sync::Arc;
use std::time::Duration;

use crate::activity::Metrics;
use crate::clock::{self, Clock};
use crate::compute::Compute;
use crate::domain::activity::Counted;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::outcome;
use crate::domain::plan::{Action, Event, EventKind, Plan, plan};
use crate::domain::record::Record;
use crate::domain::rest;
use crate::domain::seen::{Seen, Stimulus, Wanted};
use crate::domain::table::RouteTable;
use crate::domain::time::{Timestamp, after, until};
use crate::gateway::Gateway;
use crate::ledger::{Ledger, LedgerError, lease};
use crate::rules::{Managed, RuleSettings, Rules};
use crate::telemetry::METRICS;

/// The longest that one call of an adapter may take, retries included.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(8);
/// The longest that one action may take; an action is a few calls.
pub const ACTION_TIMEOUT: Duration = Duration::from_secs(12);
/// How long a lease lasts. Longer than a look and an action together; what would outlast it is not begun.
pub const LEASE: Duration = Duration::from_secs(40);
/// The route table is read again when it is older.
pub const TABLE_AGE: Duration = Duration::from_secs(10);
/// How long a wake waits for another actor to finish: a wish to wake must not get lost.
const PATIENCE: Duration = Duration::from_secs(15);
const PATIENCE_STEP: Duration = Duration::from_millis(150);

/// Drives rules through the ports.
pub struct Driver<C, G, M, L, K> {
    pub compute: C,
    pub gateway: G,
    pub metrics: M,
    pub ledger: L,
    pub clock: K,
    pub settings: RuleSettings,
    /// Who holds the leases: unique to this process.
    pub owner: String,
    pub recent: Recent,
}

/// How much a look may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Somebody waits: a recent snapshot is answer enough.
    Snapshot,
    /// A fresh look, written only when something has to be done or has changed.
    Sweep,
    /// As a sweep, and asks again which other rules claim the machines.
    Inspect,
    /// A fresh look in any case.
    Fresh,
}

/// What the caller of a look knows already.
#[derive(Debug, Default)]
pub struct Known {
    /// The record as it was a moment ago. Should it be outdated, the lease is not given and it is read again.
    pub record: Option<Record>,
    pub counted: Option<Counted>,
}

/// What a look came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    pub record: Record,
    /// What was done, with its outcome.
    pub done: Vec<(Action, Result<(), Fault>)>,
    /// What a dry run would have done.
    pub withheld: Vec<Action>,
    /// Whether what a request or a command wants is in the record. It is not when another had the lease all the time; then
    /// it has to be said again.
    pub heard: bool,
}

impl<C: Compute, G: Gateway, M: Metrics, L: Ledger, K: Clock> Driver<C, G, M, L, K> {
    /// Looks at one rule and does what has to be done next.
    ///
    /// # Errors
    /// When the ledger cannot be used: without it nothing is decided and nothing is done.
    pub async fn look(&self, managed: &Managed, stimulus: &Stimulus, effort: Effort) -> Result<Looked, LedgerError> {
        self.look_knowing(managed, stimulus, effort, Known::default()).await
    }

    /// As `look`, without asking again for what is known.
    ///
    /// # Errors
    /// As `look`.
    pub async fn look_knowing(
        &self,
        managed: &Managed,
        stimulus: &Stimulus,
        effort: Effort,
        known: Known,
    ) -> Result<Looked, LedgerError> {
        let Known { mut record, counted } = known;
        let counted = counted.as_ref();
        let name = &managed.rule.name;
        let give_up_at = after(self.clock.now(), PATIENCE);
        loop {
            let now = self.clock.now();
            let record = match record.take() {
                Some(record) => record,
                None => {
                    let stored = self.ledger.load(name).await?;
                    stored.unwrap_or_else(|| Record::new(name.clone(), now))
                }
            };
            if effort == Effort::Snapshot && fresh_enough(now, &record, stimulus) {
                return Ok(Looked::of(record));
            }
            if matches!(effort, Effort::Sweep | Effort::Inspect)
                && !self.needs_a_hand(managed, &record, stimulus, effort, counted).await?
            {
                return Ok(Looked::of(record));
            }
            match lease::acquire(&self.ledger, &record, &self.owner, now, after(now, LEASE)).await {
                Ok(record) => return self.hold(managed, record, stimulus, effort, counted).await,
                Err(LedgerError::Lost) if may_be_skipped(&record, stimulus) || now >= give_up_at => {
                    let record = self.ledger.load(name).await?.unwrap_or(record);
                    let heard = may_be_skipped(&record, stimulus);
                    return Ok(Looked {
                        heard,
                        ..Looked::of(record)
                    });
                }
                Err(LedgerError::Lost) => clock::sleep(PATIENCE_STEP).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// A look without the lease: whether anything would be done or remembered.
    async fn needs_a_hand(
        &self,
        managed: &Managed,
        record: &Record,
        stimulus: &Stimulus,
        effort: Effort,
        counted: Option<&Counted>,
    ) -> Result<bool, LedgerError> {
        let now = self.clock.now();
        let Observed { managed, seen, .. } = self.observe(managed, record, effort, counted).await?;
        let plan = plan(now, &managed.rule, &seen, stimulus);
        let digest = digest(&managed, &seen);
        let rested = record.digest == digest && record.rests_until.is_some_and(|until| now < until);
        let restless = plan.record.rests_until.is_some_and(|until| now < until) && !rested;
        Ok(!plan.actions.is_empty() || !plan.record.same_as(record) || restless || record.version == 0)
    }

    /// Under the lease: observe, plan, remember, act, remember.
    async fn hold(
        &self,
        managed: &Managed,
        record: Record,
        stimulus: &Stimulus,
        effort: Effort,
        counted: Option<&Counted>,
    ) -> Result<Looked, LedgerError> {
        let held = record.clone();
        let result = self.act(managed, record, stimulus, effort, counted).await;
        if result.is_err() {
            // Somebody may be waiting to say that the rule is wanted. After a first write this is refused, and the lease runs
            // out: what was begun by then may still be under way.
            let _ = lease::release(&self.ledger, &held, &self.owner).await;
        }
        if let Err(error) = &result
            && !matches!(error, LedgerError::Lost)
        {
            tracing::warn!(rule = %managed.rule.name, %error, "the ledger failed in the middle of a look; the lease runs out by itself");
        }
        result
    }

    async fn act(
        &self,
        managed: &Managed,
        record: Record,
        stimulus: &Stimulus,
        effort: Effort,
        counted: Option<&Counted>,
    ) -> Result<Looked, LedgerError> {
        // The time before the look: what is seen may be that old, and never younger than it is taken for.
        let now = self.clock.now();
        let Observed {
            mut managed,
            mut seen,
            mut table,
        } = self.observe(managed, &record, effort, counted).await?;
        let mut plan = plan(now, &managed.rule, &seen, stimulus);
        if plan.actions.iter().any(|action| matches!(action, Action::Stop { .. })) {
            // Never on old news: whose the machines are, and where the routes lead, is read again before a stop.
            let now = self.clock.now();
            let fresh = self
                .observe_before_stop(&managed.rule.name, &record, seen.counted)
                .await?;
            let Some(observed) = fresh else {
                tracing::warn!(rule = %managed.rule.name, "no longer managed: not stopped");
                return Err(LedgerError::Lost);
            };
            Observed { managed, seen, table } = observed;
            plan = self::plan(now, &managed.rule, &seen, stimulus);
        }
        if !plan.actions.is_empty() && self.lease_left(&record) < ACTION_TIMEOUT + CALL_TIMEOUT {
            tracing::warn!(rule = %managed.rule.name, "the look took nearly the whole lease; it is left to the next one");
            return Err(LedgerError::Lost);
        }
        let Plan {
            actions,
            withheld,
            record: planned,
            mut events,
            ..
        } = plan;
        let mut now_known = Record {
            digest: digest(&managed, &seen),
            ..planned
        };
        if !actions.is_empty() {
            now_known.version = self.ledger.store(&now_known).await?;
        }
        let mut done = Vec::new();
        for action in actions {
            if self.lease_left(&now_known) < ACTION_TIMEOUT + CALL_TIMEOUT {
                tracing::warn!(rule = %managed.rule.name, "the lease is nearly over; the rest is left to the next look");
                break;
            }
            let outcome = match clock::timeout(ACTION_TIMEOUT, self.apply(&table, &action)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Fault::new(FaultKind::Other, operation(&action), "no answer in time")),
            };
            tracing::info!(rule = %managed.rule.name, action = operation(&action), outcome = ?outcome.as_ref().err(), "acted");
            outcome::applied(self.clock.now(), &mut now_known, &record, &action, &outcome);
            let failed = outcome.is_err();
            done.push((action, outcome));
            if failed {
                break;
            }
        }
        if !done.is_empty() {
            now_known = self.settle_snapshot(&managed, &seen, now_known, &mut events);
        }
        let stored = self.finish(now_known, &events).await?;
        Ok(Looked {
            record: stored,
            done,
            withheld,
            heard: true,
        })
    }

    /// The phase after what was just done, from the same facts and the new memory. Nothing more is done in this look.
    fn settle_snapshot(&self, managed: &Managed, seen: &Seen, record: Record, events: &mut Vec<Event>) -> Record {
        let now = self.clock.now();
        let seen = Seen {
            record: record.clone(),
            ..seen.clone()
        };
        let next = plan(now, &managed.rule, &seen, &Stimulus::Tick);
        if next.actions.is_empty() {
            events.extend(next.events);
            return next.record;
        }
        Record {
            next_check: after(now, Duration::from_secs(1)),
            ..record
        }
    }

    fn lease_left(&self, record: &Record) -> Duration {
        record
            .lease
            .as_ref()
            .map_or(Duration::ZERO, |lease| until(self.clock.now(), lease.until))
    }

    async fn finish(&self, record: Record, events: &[Event]) -> Result<Record, LedgerError> {
        let released = Record { lease: None, ..record };
        let version = self.ledger.store(&released).await?;
        for event in events {
            tell(&released, event);
        }
        if !events.is_empty() {
            self.ledger.append(&released.rule, events).await?;
        }
        Ok(Record { version, ..released })
    }

    async fn apply(&self, table: &RouteTable, action: &Action) -> Result<(), Fault> {
        match action {
            Action::Park { route, actions } => self.gateway.park(table, route, actions).await,
            Action::FlipToWaker { route, actions } => self.gateway.flip_to_waker(table, route, actions).await,
            Action::FlipToBackend { route, actions } => self.gateway.flip_to_backend(route, actions).await,
            Action::Start { resources } => self.compute.start(resources).await,
            Action::Stop { resources, kind } => self.compute.stop(resources, *kind).await,
        }
    }

    /// The rules of all watched listeners, at most [`TABLE_AGE`] old.
    ///
    /// # Errors
    /// When neither the ledger nor the load balancer can be read.
    pub async fn rules(&self) -> Result<Arc<Rules>, LedgerError> {
        Ok(self.rules_of(&self.table().await?))
    }

    /// The rules as they are now: for somebody who has just made one.
    ///
    /// # Errors
    /// When the load balancer cannot be read or the ledger cannot be used.
    pub async fn rules_now(&self) -> Result<Rules, LedgerError> {
        let before = self.ledger.load_table().await?.map(|stored| stored.table);
        Ok(Rules::new(
            &self.read_table(before.as_ref(), None).await?,
            &self.settings,
        ))
    }
}

impl Looked {
    fn of(record: Record) -> Self {
        Looked {
            record,
            done: Vec::new(),
            withheld: Vec::new(),
            heard: true,
        }
    }
}

/// A turn in the life of a rule, for the log and the metrics.
fn tell(record: &Record, event: &Event) {
    let rule = record.rule.0.as_str();
    let (phase, why) = (record.snapshot.phase.name(), event.why.as_str());
    match event.kind {
        EventKind::Failed => tracing::warn!(rule, phase, why, "failed"),
        EventKind::Woke => {
            tracing::info!(rule, phase, why, "woke");
            tracing::info!(target: METRICS, rule, Wakes = 1, WakeSeconds = event.took.unwrap_or_default());
        }
        EventKind::Slept => {
            tracing::info!(rule, phase, why, "slept");
            tracing::info!(target: METRICS, rule, Sleeps = 1);
        }
        EventKind::WakeWanted | EventKind::SleepWanted | EventKind::Released | EventKind::KeptAwake => {
            tracing::info!(rule, phase, why, "{:?}", event.kind);
        }
    }
}

/// What there is to compare with at the next Tick; nothing when something could not be seen.
fn digest(managed: &Managed, seen: &Seen) -> Option<u64> {
    let machines = seen.resources.as_ref().ok()?;
    seen.health.as_ref().ok()?;
    Some(rest::digest(&managed.rule, &seen.routes, machines))
}

/// Whether the snapshot answers everybody who merely waits.
fn fresh_enough(now: Timestamp, record: &Record, stimulus: &Stimulus) -> bool {
    let nothing_new = match stimulus {
        Stimulus::Request { .. } => record.wanted == Wanted::Awake,
        Stimulus::Tick => true,
        Stimulus::StateChange | Stimulus::Command { .. } | Stimulus::KeepAwake { .. } => false,
    };
    record.adopted && nothing_new && now < record.next_check
}

/// Whether another actor's look serves as well as ours.
fn may_be_skipped(record: &Record, stimulus: &Stimulus) -> bool {
    match stimulus {
        Stimulus::Request { .. } => record.adopted && record.wanted == Wanted::Awake,
        Stimulus::Tick | Stimulus::StateChange => true,
        Stimulus::Command { .. } | Stimulus::KeepAwake { .. } => false,
    }
}

fn operation(action: &Action) -> &'static str {
    match action {
        Action::Park { .. } => "park",
        Action::FlipToWaker { .. } => "flip to waker",
        Action::FlipToBackend { .. } => "flip to backend",
        Action::Start { .. } => "start",
        Action::Stop { .. } => "stop",
    }
}
