//! What somebody who waits sees: a phase as HTML for people and as JSON for the page's own poll and for programs.
//!
//! Pure functions of their arguments. Every user's text (host, rule, reason) goes through askama's escaper, and through
//! nothing else; askama's types stay in `render`.

mod accent;
mod language;
#[cfg(test)]
mod markup;
mod messages;
mod mood;
mod policy;
mod render;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use crate::config::branding::Branding;

pub use language::Language;
pub use policy::content_security_policy;

/// What the page's own poll asks for.
pub const POLL_MEDIA_TYPE: &str = "application/vnd.autostopping+json";
/// Every answer of ours carries it; the page takes its absence as the site's own answer.
pub const PHASE_HEADER: &str = "X-Autostopping-Phase";

/// Where a rule is, as far as one who waits is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing runs, and nobody has asked for it yet.
    Asleep,
    /// The machines are starting.
    Starting,
    /// They run and are being checked.
    Checking,
    /// They are healthy and the routes are being flipped.
    Switching,
    /// The routes are flipped: a reload reaches the site.
    Awake,
    /// Was about to sleep; a request brings it back.
    Settling,
    /// The machines are stopping; they start again afterwards.
    Stopping,
    /// It did not become healthy; `View::reason` says why.
    Failed,
    /// Its settings cannot be acted on; `View::reason` names the problem.
    Misconfigured,
}

/// What somebody can do about a rule that sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Ask again: that wakes it.
    Link,
    /// Press a button: only that wakes it.
    Press,
    /// Nothing, from here.
    Not,
}

/// What is happening right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A machine must finish stopping before it can start.
    MachineStopping,
    MachineStarting,
    Booting,
    HealthChecks {
        healthy: u32,
        needed: u32,
    },
    Switching,
    Ready,
}

/// All there is to show of one rule at one moment.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub rule: &'a str,
    pub host: &'a str,
    /// Path and query as they were asked for; without scripts the page returns to them.
    pub path: &'a str,
    pub phase: Phase,
    /// In `Failed` and `Stopping` the step at which it stands.
    pub step: Step,
    /// How far it is, if anything tells; more than 100 counts as 100.
    pub percent: Option<u8>,
    /// `None`: not known. `Some(0)`: due already, and said so.
    pub eta_seconds: Option<u32>,
    /// Since the request that woke the rule.
    pub elapsed_seconds: u32,
    /// What is wrong, a sentence in English.
    pub reason: Option<&'a str>,
    /// When it is tried again. `None`: there is no retry, it is only checked.
    pub retry_in_seconds: Option<u32>,
    /// What can be done; shown where something is wrong or was refused.
    pub advice: Advice<'a>,
    pub wake: Wake,
    /// The request counted for nothing and has to be repeated: the page does it by itself, some times.
    pub repeat: bool,
    /// The request was not a GET or HEAD: its body is lost, and the page says so.
    pub was_post: bool,
    /// What finds this request in the logs, such as `X-Amzn-Trace-Id`.
    pub trace: Option<&'a str>,
    pub branding: &'a Branding,
}

/// What those who run a rule can do about what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice<'a> {
    /// A sentence in English, for whoever sees the page.
    Own(&'a str),
    /// AWS has no machine to give.
    Capacity,
    /// The function's role may not do something.
    Permission,
    /// What was named does not exist any more.
    Gone,
    /// The machine runs and its health checks fail.
    Health,
    /// The machine does not come up.
    Machine,
    /// It passes by itself, if anything does.
    Passes,
    /// Something has to be put right in the settings.
    Settings,
}

/// A setting that cannot be used.
#[derive(Clone, Copy, Debug)]
pub struct BadValue<'a> {
    pub key: &'a str,
    /// Empty: not set.
    pub value: &'a str,
    /// What is allowed, in English.
    pub allowed: &'a str,
}

impl Phase {
    pub const ALL: [Phase; 9] = [
        Phase::Asleep,
        Phase::Starting,
        Phase::Checking,
        Phase::Switching,
        Phase::Awake,
        Phase::Settling,
        Phase::Stopping,
        Phase::Failed,
        Phase::Misconfigured,
    ];

    /// Its name in JSON and in [`PHASE_HEADER`].
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Asleep => "asleep",
            Phase::Starting => "starting",
            Phase::Checking => "checking",
            Phase::Switching => "switching",
            Phase::Awake => "awake",
            Phase::Settling => "settling",
            Phase::Stopping => "stopping",
            Phase::Failed => "failed",
            Phase::Misconfigured => "misconfigured",
        }
    }
}

impl Step {
    pub fn as_str(self) -> &'static str {
        match self {
            Step::MachineStopping => "machine_stopping",
            Step::MachineStarting => "machine_starting",
            Step::Booting => "booting",
            Step::HealthChecks { .. } => "health_checks",
            Step::Switching => "switching",
            Step::Ready => "ready",
        }
    }
}

/// The progress page, for a browser's navigation.
pub fn html(view: &View, language: Language) -> String {
    render::progress(view, language)
}

/// The same for the page's poll and for programs. Every key is always there; what is not known is null, and so is the advice
/// where nothing is wrong. All but the advice is English or no text at all.
pub fn json(view: &View, language: Language) -> Value {
    let (healthy, needed) = match view.step {
        Step::HealthChecks { healthy, needed } => (Some(healthy), Some(needed)),
        Step::MachineStopping | Step::MachineStarting | Step::Booting | Step::Switching | Step::Ready => (None, None),
    };
    json!({
        "rule": render::shown(view.rule),
        "phase": view.phase.as_str(),
        "step": view.step.as_str(),
        "healthy": healthy,
        "needed": needed,
        "percent": view.percent.map(|percent| percent.min(100)),
        "eta_seconds": view.eta_seconds,
        "elapsed_seconds": view.elapsed_seconds,
        "reason": view.reason.map(render::shown),
        "retry_in_seconds": view.retry_in_seconds,
        "advice": render::advice(view, language),
        "repeat": view.repeat,
    })
}

/// The routes are flipped already and this request was on its way: the page reloads after two seconds.
pub fn switched(rule: &str, host: &str, path: &str, was_post: bool, language: Language, branding: &Branding) -> String {
    html(
        &View {
            rule,
            host,
            path,
            phase: Phase::Awake,
            step: Step::Ready,
            percent: Some(100),
            eta_seconds: None,
            elapsed_seconds: 0,
            reason: None,
            retry_in_seconds: None,
            advice: Advice::Passes,
            wake: Wake::Link,
            repeat: false,
            was_post,
            trace: None,
            branding,
        },
        language,
    )
}

/// 404: no rule for this host.
pub fn not_found(host: &str, language: Language, branding: &Branding) -> String {
    render::notice(render::Notice::NotFound, host, &[], language, branding)
}

/// 403: this source may not wake anything here.
pub fn forbidden(host: &str, language: Language, branding: &Branding) -> String {
    render::notice(render::Notice::Forbidden, host, &[], language, branding)
}

/// 503: settings are missing or bad, each with what is allowed.
pub fn bad_configuration(host: &str, values: &[BadValue], language: Language, branding: &Branding) -> String {
    render::notice(render::Notice::BadConfiguration, host, values, language, branding)
}
