//! One task for each rule: all looks at it happen here, one after the other, so that a rule never waits for its own lease.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::clock::{self, Clock, SystemClock};
use crate::compute::kinds::{self, Kinds};
use crate::domain::phase::Phase;
use crate::domain::record::Record;
use crate::domain::rule::{Problem, RuleName};
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
/// One that shares a machine is looked at this often: the other may have lost it by its file, and tells so by its next look.
const SHARED: Duration = Duration::from_secs(5);
/// After a look that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Rules at rest are looked at so many at a time: a thousand begin at once.
static AT_REST: Semaphore = Semaphore::const_new(16);

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

    /// Has the rule looked at, because something about it is new.
    pub fn nudge(&self) {
        let stimulus = Stimulus::StateChange;
        let (answer, _) = oneshot::channel();
        // Its task may be ending.
        let _ = self.wishes.send(Wish { stimulus, answer });
    }

    /// What is seen from now on; closed when the rule is gone.
    pub fn seen(&self) -> watch::Receiver<Option<Record>> {
        self.seen.clone()
    }
}

async fn work<L: Ledger + Send + Sync + 'static>(
    driver: Arc<ProxyDriver<L>>,
    name: RuleName,
    mut wanted: mpsc::UnboundedReceiver<Wish>,
    tell: watch::Sender<Option<Record>>,
) {
    forget_flips(&driver, &name).await;
    let mut due = clock::instant();
    let mut rests = true;
    let mut first = None;
    // Of the last look: Envoy may have said so while it was under way.
    let mut unsure = false;
    loop {
        let mut turn = None;
        let wish = match first.take() {
            Some(wish) => Some(wish),
            // In this order, so that no crowd puts off a look that is due.
            None => tokio::select! {
                biased;
                permit = its_time(due, rests) => {
                    turn = permit;
                    None
                }
                () = driver.gateway.sure(&name), if unsure => None,
                wish = wanted.recv() => match wish {
                    Some(wish) => Some(wish),
                    None => return,
                },
            },
        };
        let mut answers = Vec::new();
        let (stimulus, effort) = match wish {
            Some(Wish { stimulus, answer }) => {
                answers.push(answer);
                match stimulus {
                    // A thousand who come at once are one look: each look is written to the disk.
                    Stimulus::Request { .. } => {
                        first = gather(&mut wanted, &mut answers);
                        // Whoever comes while it is wanted already learns nothing new by a look of his own.
                        (stimulus, Effort::Snapshot)
                    }
                    Stimulus::Tick | Stimulus::StateChange | Stimulus::Command { .. } | Stimulus::KeepAwake { .. } => {
                        (stimulus, Effort::Fresh)
                    }
                }
            }
            None => (Stimulus::Tick, Effort::Sweep),
        };
        unsure = !driver.gateway.is_sure(&name);
        let looked = look(&driver, &name, &stimulus, effort).await;
        drop(turn);
        unsure |= !driver.gateway.is_sure(&name);
        let asked = matches!(stimulus, Stimulus::Request { .. });
        let (pause, resting) = match &looked {
            Ok(record) => (next(SystemClock.now(), record, &driver, &name), !is_in_motion(record)),
            Err(_) => (PAUSE, rests),
        };
        let later = clock::instant() + pause;
        // Who asks what is known puts no look off: many may.
        due = if asked && due > clock::instant() {
            due.min(later)
        } else {
            later
        };
        rests = resting;
        match &looked {
            // A thousand may be listening, and most looks see nothing new.
            Ok(record) => drop(tell.send_if_modified(|seen| {
                let news = seen.as_ref() != Some(record);
                if news {
                    *seen = Some(record.clone());
                }
                news
            })),
            Err(error) => tracing::warn!(rule = %name, %error, "the rule could not be looked at"),
        }
        for answer in answers {
            let _ = answer.send(looked.clone());
        }
    }
}

/// A rule that was taken away sleeps, and what is remembered of a flip a moment ago is wrong of it when it comes back.
async fn forget_flips<L: Ledger>(driver: &ProxyDriver<L>, name: &RuleName) {
    let Ok(Some(mut record)) = driver.ledger.load(name).await else {
        return;
    };
    let flips = record.flips.len();
    record.flips.retain(|_, flip| flip.side == driver.gateway.side(name));
    if record.flips.len() != flips
        && let Err(error) = driver.ledger.store(&record).await
    {
        tracing::warn!(rule = %name, %error, "an earlier flip could not be forgotten");
    }
}

/// Ends when a look by itself is due, and at a rule at rest when it has its turn.
async fn its_time(due: Instant, rests: bool) -> Option<SemaphorePermit<'static>> {
    clock::sleep(due.saturating_duration_since(clock::instant())).await;
    match rests {
        // It is never closed.
        true => AT_REST.acquire().await.ok(),
        false => None,
    }
}

/// Takes the requests that have come meanwhile, and returns what comes after them.
fn gather(
    wanted: &mut mpsc::UnboundedReceiver<Wish>,
    answers: &mut Vec<oneshot::Sender<Result<Record, String>>>,
) -> Option<Wish> {
    while let Ok(wish) = wanted.try_recv() {
        match wish.stimulus {
            Stimulus::Request { .. } => answers.push(wish.answer),
            Stimulus::Tick | Stimulus::StateChange | Stimulus::Command { .. } | Stimulus::KeepAwake { .. } => {
                return Some(wish);
            }
        }
    }
    None
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
    if is_in_motion(record) {
        let here = driver.gateway.rule(name).is_some_and(|rule| {
            driver
                .gateway
                .resources(&rule)
                .iter()
                .all(|id| kinds::local_host(id).is_some())
        });
        return due.min(if here { STEP } else { STEP_ON_AWS });
    }
    let shared = |problem: &Problem| matches!(problem, Problem::SharedInstance { .. });
    let longest = match record.snapshot.problems.iter().any(shared) {
        true => SHARED,
        false => REST,
    };
    let rests = record.rests_until.map_or(due, |rests| until(now, rests));
    rests.clamp(PAUSE, longest)
}

fn is_in_motion(record: &Record) -> bool {
    match record.snapshot.phase {
        Phase::Starting | Phase::Checking | Phase::Switching | Phase::Settling | Phase::Stopping => true,
        Phase::Awake | Phase::Asleep | Phase::Failed(_) | Phase::Misconfigured(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red when each of them had a look of its own.
    #[test]
    fn requests_that_wait_together_get_one_look_and_a_command_its_own() {
        let (wishes, mut wanted) = mpsc::unbounded_channel();
        let wish = |stimulus| {
            let (answer, answered) = oneshot::channel();
            wishes.send(Wish { stimulus, answer }).unwrap();
            answered
        };
        let request = || Stimulus::Request {
            who: "somebody".to_owned(),
        };
        let _waiting = [request(), request(), Stimulus::Tick, request()].map(wish);
        let mut answers = Vec::new();
        let next = gather(&mut wanted, &mut answers);
        assert_eq!(
            (answers.len(), next.map(|next| next.stimulus)),
            (2, Some(Stimulus::Tick))
        );
        assert!(gather(&mut wanted, &mut answers).is_none());
        assert_eq!(answers.len(), 3);
    }
}
