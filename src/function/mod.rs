//! The Lambda function: an event in, an answer out. What never wakes anything is answered before anything is read.

mod check;
mod hold;
mod pages;
mod refusal;

use std::time::Duration;

use serde_json::Value;

use crate::activity::Metrics;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::config::ConfigErrors;
use crate::config::environment::Settings;
use crate::domain::policy::Hold;
use crate::domain::record::Record;
use crate::domain::rule::ResourceId;
#[cfg(feature = "proxy")]
use crate::domain::rule::Rule;
use crate::domain::seen::{Stimulus, Wanted};
#[cfg(feature = "proxy")]
use crate::domain::time::Timestamp;
use crate::domain::time::after;
use crate::drive::{Driver, Effort, Known};
use crate::gateway::Gateway;
use crate::http::answer::Answer;
use crate::http::cors;
use crate::http::event::{AlbRequest, Event};
use crate::http::press;
use crate::http::who::{self, Asker};
use crate::ledger::{Ledger, LedgerError};
use crate::rules::Found;

use pages::Asked;
use refusal::Refusal;

/// Beyond the longest hold, until a request is answered whatever else is still slow. Lambda ends a function that takes
/// longer than its time-out, and then the load balancer answers a 502 without a word.
const GRACE: Duration = Duration::from_secs(5);

/// What the function was configured to, or what is wrong with that.
pub type Configured<C, G, M, L, K> = Result<(Driver<C, G, M, L, K>, Settings), ConfigErrors>;

/// The function, with its configuration or with what is wrong with it.
pub struct Function<C, G, M, L, K> {
    state: Configured<C, G, M, L, K>,
    /// Whether a request is a reason to look at its rule.
    looks: bool,
}

/// Why an invocation has no answer. Only what is not a load balancer's request can fail: a visitor always gets one.
#[derive(Debug, thiserror::Error)]
pub enum FunctionError {
    #[error(
        "not an event of this function: {0}. Allowed: requests of an Application Load Balancer, EventBridge's scheduled events, EC2 Instance State-change Notifications, {{\"autostopping\":\"self-check\"}}. Nothing was done."
    )]
    UnknownEvent(String),
    #[error("{0}")]
    Configuration(ConfigErrors),
    #[error("{failed} of {all} rules could not be looked at; the first: {first}")]
    Rules { failed: usize, all: usize, first: String },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl<C: Compute, G: Gateway, M: Metrics, L: Ledger, K: Clock> Function<C, G, M, L, K> {
    /// A function that answers every request with what is wrong, when something is.
    pub fn new(state: Configured<C, G, M, L, K>) -> Self {
        Function { state, looks: true }
    }

    /// One that answers by what is remembered: somebody else looks at the rules. A look for a client that leaves would die with
    /// its request, and its lease would keep the others from the rule.
    #[cfg(feature = "proxy")]
    pub fn that_only_answers(state: Configured<C, G, M, L, K>) -> Self {
        Function { state, looks: false }
    }

    /// One invocation.
    ///
    /// # Errors
    /// [`FunctionError`], never for a request of a load balancer.
    pub async fn handle(&self, event: &Value) -> Result<Value, FunctionError> {
        match Event::read(event) {
            Event::Alb(request) => Ok(self.serve(&request).await),
            Event::Tick => self.tick().await,
            Event::StateChange { instance, .. } => self.state_change(&instance).await,
            Event::SelfCheck => Ok(check::check(&self.state).await),
            Event::Unknown(what) => Err(FunctionError::UnknownEvent(what)),
        }
    }

    /// The answer to a request, as a load balancer takes it.
    pub async fn serve(&self, request: &AlbRequest) -> Value {
        let answer = self.answer_in_time(request).await;
        let answer = match request.method.as_str() {
            "HEAD" => answer.without_body(),
            _ => answer,
        };
        answer.for_alb(request.multi_value)
    }

    /// What is cut off here is a look that died: its lease outlasts what it had under way, and the next look goes on.
    async fn answer_in_time(&self, request: &AlbRequest) -> Answer {
        let Ok((_, settings)) = &self.state else {
            return self.answer(request).await;
        };
        let answer = tokio::time::timeout(settings.hold_limit + GRACE, self.answer(request)).await;
        answer.unwrap_or_else(|_| pages::unavailable(&self.asked(request), "AWS answers too slowly right now"))
    }

    fn asked<'a>(&'a self, request: &'a AlbRequest) -> Asked<'a> {
        let settings = self.state.as_ref().ok().map(|(_, settings)| settings);
        Asked::new(request, settings.map(|settings| &settings.branding))
    }

    /// The one table of answers.
    async fn answer(&self, request: &AlbRequest) -> Answer {
        let mut asked = self.asked(request);
        let asker = asked.asker;
        if asker == Asker::HealthCheck {
            return Answer::new(200, "text/plain", String::new());
        }
        let (driver, settings) = match &self.state {
            Ok(state) => (&state.0, &state.1),
            Err(errors) => return pages::bad_configuration(&asked, errors),
        };
        let arrived = driver.clock.now();
        let (waker, port, matched) = (&request.target_group, request.port(), request.as_matched());
        // Somebody may just have made a rule that this process does not know.
        let known = driver.recent_rules();
        let known = known.filter(|rules| matches!(rules.find(waker, port, &matched), Found::Rule { .. }));
        let rules = match known {
            Some(rules) => rules,
            None => match driver.rules().await {
                Ok(rules) => rules,
                Err(error) => return pages::unavailable(&asked, &error.to_string()),
            },
        };
        let managed = match rules.find(waker, port, &matched) {
            Found::Rule { rule, .. } => rule,
            Found::Nothing => return pages::not_found(&asked),
            Found::Undecided { route, reason } => {
                return pages::unavailable(
                    &asked,
                    &format!("which rule this request is for cannot be told: {route}: {reason}"),
                );
            }
        };
        if !who::allowed(&managed.rule.policy.allow, request) {
            return pages::forbidden(&asked);
        }
        if cors::is_preflight(request) {
            return pages::preflight(&asked);
        }
        let record = match driver.ledger.load(&managed.rule.name).await {
            Ok(record) => record,
            Err(error) => return pages::unavailable(&asked, &error.to_string()),
        };
        let refusal = |record: Option<&Record>| Refusal::of(driver.clock.now(), &managed.rule, record, request, asker);
        asked.refusal = refusal(record.as_ref());
        let somebody = matches!(asker, Asker::Browser | Asker::Program);
        let pressed = somebody && managed.rule.policy.confirm && press::is_pressed(request);
        if let Some(record) = record.as_ref().filter(|record| leads_to_backend(record))
            && asker != Asker::Nobody
            && !pressed
            && let Some(answer) = hold::on_the_way(driver, settings, managed, record, &asked, self.looks).await
        {
            return answer;
        }
        let looks = self.looks
            && match asker {
                Asker::Nobody => false,
                Asker::PagePoll | Asker::HealthCheck => true,
                // Nothing is asked of AWS for those who wake nothing; what is under way they are shown like everybody.
                Asker::Browser | Asker::Program => asked.refusal.is_none() || !record.as_ref().is_some_and(is_at_rest),
            };
        let record = match record {
            Some(record) if !looks => record,
            None if !looks => return pages::unavailable(&asked, "this rule has not been looked at yet"),
            record => {
                let wakes = asked.refusal.is_none() && asker != Asker::PagePoll;
                let stimulus = if wakes {
                    Stimulus::Request { who: asked.who() }
                } else {
                    Stimulus::Tick
                };
                let known = Known { record, counted: None };
                match driver.look_knowing(managed, &stimulus, Effort::Snapshot, known).await {
                    Ok(looked) => {
                        asked.repeat = !looked.heard;
                        looked.record
                    }
                    Err(error) => return pages::unavailable(&asked, &error.to_string()),
                }
            }
        };
        if pressed {
            // Also when it could not be noted: the page with its button comes back, and nothing speaks of a lost form.
            return pages::pressed(&asked);
        }
        let now = driver.clock.now();
        asked.refusal = refusal(Some(&record));
        match (asker, managed.rule.policy.hold) {
            (Asker::Browser, _) => pages::progress(now, &asked, &record),
            (Asker::Program, Hold::Wait)
                if !asked.repeat && (asked.refusal.is_none() || record.wanted == Wanted::Awake) =>
            {
                let until = after(arrived, settings.hold_limit);
                hold::wait(driver, settings, managed, record, &asked, until).await
            }
            (Asker::Program | Asker::PagePoll | Asker::Nobody | Asker::HealthCheck, _) => {
                pages::program(now, &asked, &record)
            }
        }
    }

    /// Looks at every rule that needs a look; one that cannot be looked at keeps nobody else waiting.
    async fn tick(&self) -> Result<Value, FunctionError> {
        let swept = self.driver()?.sweep().await?;
        for (rule, error) in &swept.failed {
            tracing::warn!(%rule, %error, "the rule could not be looked at");
        }
        match swept.failed.first() {
            Some((rule, error)) => Err(FunctionError::Rules {
                failed: swept.failed.len(),
                all: swept.rules,
                first: format!("{rule}: {error}"),
            }),
            None => Ok(serde_json::json!({ "rules": swept.rules, "looked": swept.looked, "left": swept.left })),
        }
    }

    /// Looks at the rules of a machine that changed its state. The machines of strangers cost one read of the ledger.
    async fn state_change(&self, machine: &ResourceId) -> Result<Value, FunctionError> {
        let driver = self.driver()?;
        let claimants = driver.ledger.claimants(machine).await?;
        if claimants.is_empty() {
            return Ok(serde_json::json!({ "rules": 0 }));
        }
        let rules = driver.rules().await?;
        let claimed: Vec<_> = claimants.iter().filter_map(|name| rules.get(name)).collect();
        let mut failed = None;
        for managed in &claimed {
            if let Err(error) = driver.look(managed, &Stimulus::StateChange, Effort::Sweep).await {
                failed = Some(error);
            }
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        Ok(serde_json::json!({ "rules": claimed.len() }))
    }

    fn driver(&self) -> Result<&Driver<C, G, M, L, K>, FunctionError> {
        match &self.state {
            Ok((driver, _)) => Ok(driver),
            Err(errors) => Err(FunctionError::Configuration(errors.clone())),
        }
    }
}

/// Whether a request may wake a rule: it is somebody's, from where it is allowed, for a path that does.
#[cfg(feature = "proxy")]
pub fn wakes(now: Timestamp, rule: &Rule, record: Option<&Record>, request: &AlbRequest) -> bool {
    let asker = who::asker(request);
    matches!(asker, Asker::Browser | Asker::Program)
        && who::allowed(&rule.policy.allow, request)
        && !cors::is_preflight(request)
        && Refusal::of(now, rule, record, request, asker).is_none()
}

/// Whether nothing is wanted of the rule, as far as a first look has told.
fn is_at_rest(record: &Record) -> bool {
    record.adopted && record.wanted == Wanted::Asleep
}

/// Whether a request that comes here can only have been on the way. While the rule goes to sleep the snapshot may be from
/// before the flip, and who comes then is to wake it.
fn leads_to_backend(record: &Record) -> bool {
    record.snapshot.switched && record.wanted == Wanted::Awake
}
