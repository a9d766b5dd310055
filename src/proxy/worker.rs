//! One task for each rule: all looks at it happen here, one after the other, so that a rule never waits for its own lease.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::{self, Clock, SystemClock};
use crate::compute::kinds::{self, Kinds};
use crate::domain::phase::Phase;
use crate::domain::record::Record;
use crate::domain::rule::RuleName;
use crate::domain::seen::Stimulus;
use crate::domain::time::{Timestamp, until};
use crate::drive::{Driver, Effort};
use crate::ledger::Ledger;

use super::front::Front;

/// The driver of the proxy's rules.
pub type ProxyDriver<L> = Driver<Kinds, Front, Front, L, SystemClock>;

/// How often a rule in motion is looked at when that costs nothing, and when AWS has to be asked.
const STEP: Duration = Duration::from_millis(150);
const STEP_ON_AWS: Duration = Duration::from_secs(1);
/// A rule at rest is looked at this often.
const REST: Duration = Duration::from_secs(60);
/// After a look that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// The way to a rule's task. Dropped, the task ends after the look it is at.
#[derive(Debug, Clone)]
pub struct Worker {
    wishes: mpsc::UnboundedSender<Wish>,
    seen: watch::Receiver<Option<Record>>,
}

#[derive(Debug)]
struct Wish {
    stimulus: Stimulus,
    answer: oneshot::Sender<Result<Record, String>>,
}

impl Worker {
    /// Begins to look at a rule.
    pub fn start<L: Ledger + Send + Sync + 'static>(driver: Arc<ProxyDriver<L>>, name: RuleName) -> Worker {
        let (wishes, wanted) = mpsc::unbounded_channel();
        let (tell, seen) = watch::channel(None);
        tokio::spawn(work(driver, name, wanted, tell));
        Worker { wishes, seen }
    }

    /// What was last seen.
    pub fn record(&self) -> Option<Record> {
        self.seen.borrow().clone()
    }

    /// A look for this reason, and what it came to.
    ///
    /// # Errors
    /// A sentence when the wish could not be noted.
    pub async fn look(&self, stimulus: Stimulus) -> Result<Record, String> {
        let (answer, answered) = oneshot::channel();
        let gone = "the rule is gone";
        self.wishes
            .send(Wish { stimulus, answer })
            .map_err(|_| gone.to_owned())?;
        answered.await.unwrap_or_else(|_| Err(gone.to_owned()))
    }

    /// Ends when the rule's record is so; false when the rule is gone.
    pub async fn until(&self, is: impl Fn(&Record) -> bool) -> bool {
        let mut seen = self.seen.clone();
        seen.wait_for(|record| record.as_ref().is_some_and(&is)).await.is_ok()
    }
}

async fn work<L: Ledger + Send + Sync + 'static>(
    driver: Arc<ProxyDriver<L>>,
    name: RuleName,
    mut wanted: mpsc::UnboundedReceiver<Wish>,
    tell: watch::Sender<Option<Record>>,
) {
    let mut pause = Duration::ZERO;
    loop {
        let wish = tokio::select! {
            wish = wanted.recv() => match wish {
                Some(wish) => Some(wish),
                None => return,
            },
            () = clock::sleep(pause) => None,
        };
        let (stimulus, effort, answer) = match wish {
            // Whoever comes while it is wanted already learns nothing new by a look of his own.
            Some(Wish { stimulus, answer }) => {
                let effort = if matches!(stimulus, Stimulus::Request { .. }) {
                    Effort::Snapshot
                } else {
                    Effort::Fresh
                };
                (stimulus, effort, Some(answer))
            }
            None => (Stimulus::Tick, Effort::Sweep, None),
        };
        let looked = look(&driver, &name, &stimulus, effort).await;
        pause = match &looked {
            Ok(record) => next(SystemClock.now(), record, &driver, &name),
            Err(_) => PAUSE,
        };
        match &looked {
            Ok(record) => drop(tell.send_replace(Some(record.clone()))),
            Err(error) => tracing::warn!(rule = %name, %error, "the rule could not be looked at"),
        }
        if let Some(answer) = answer {
            let _ = answer.send(looked);
        }
    }
}

async fn look<L: Ledger>(
    driver: &ProxyDriver<L>,
    name: &RuleName,
    stimulus: &Stimulus,
    effort: Effort,
) -> Result<Record, String> {
    let rules = driver.rules().await.map_err(|error| error.to_string())?;
    let managed = rules.get(name).ok_or_else(|| format!("{name} is no rule any more"))?;
    let looked = driver
        .look(managed, stimulus, effort)
        .await
        .map_err(|error| error.to_string())?;
    match looked.heard {
        true => Ok(looked.record),
        false => Err("another proxy is busy with this rule; say it again".to_owned()),
    }
}

/// How long until the next look, unless something happens.
fn next<L>(now: Timestamp, record: &Record, driver: &ProxyDriver<L>, name: &RuleName) -> Duration {
    let due = until(now, record.next_check);
    match record.snapshot.phase {
        Phase::Starting | Phase::Checking | Phase::Switching | Phase::Settling | Phase::Stopping => {
            let here = driver.gateway.rule(name).is_some_and(|rule| {
                driver
                    .gateway
                    .resources(&rule)
                    .iter()
                    .all(|id| kinds::local_host(id).is_some())
            });
            due.min(if here { STEP } else { STEP_ON_AWS })
        }
        Phase::Awake | Phase::Asleep | Phase::Failed(_) | Phase::Misconfigured(_) => {
            let rests = record.rests_until.map_or(due, |rests| until(now, rests));
            rests.clamp(PAUSE, REST)
        }
    }
}
