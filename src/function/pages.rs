//! From a record to the answer that shows it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::ConfigErrors;
use crate::config::branding::Branding;
use crate::domain::fault::FaultKind;
use crate::domain::phase::{Phase, Step};
use crate::domain::progress::progress as progress_of;
use crate::domain::record::Record;
use crate::domain::rule::{Problem, RuleName};
use crate::domain::seen::Wanted;
use crate::domain::time::{Timestamp, until};
use crate::http::answer::{Answer, HTML_TYPE};
use crate::http::cors::{self, Reader};
use crate::http::event::AlbRequest;
use crate::http::redirect;
use crate::http::who::{self, Asker};
use crate::page::{self, Advice, Language, View, Wake};

use super::refusal::Refusal;

/// A request, and how its answer is to be written.
pub(super) struct Asked<'r> {
    request: &'r AlbRequest,
    pub(super) asker: Asker,
    language: Language,
    branding: &'r Branding,
    /// The script of another origin that reads the answer.
    reader: Option<Reader<'r>>,
    /// Why it wakes nothing, if it does not.
    pub(super) refusal: Option<Refusal>,
    /// The wish to wake the rule could not be noted: it has to be said again, which the page does by itself.
    pub(super) repeat: bool,
}

impl<'r> Asked<'r> {
    pub(super) fn new(request: &'r AlbRequest, branding: Option<&'r Branding>) -> Self {
        Asked {
            request,
            asker: who::asker(request),
            language: Language::from_accept_language(request.header("accept-language").unwrap_or_default()),
            branding: branding.unwrap_or(const { &Branding::NONE }),
            reader: Reader::of(request),
            refusal: None,
            repeat: false,
        }
    }

    /// Who asked, for the history: the address that ALB saw, the path, and what it says to be.
    pub(super) fn who(&self) -> String {
        let peer = self
            .request
            .peer()
            .map_or_else(|| "an unknown address".to_owned(), |peer| peer.to_string());
        let short = |text: &str| text.chars().filter(|c| !c.is_control()).take(120).collect::<String>();
        let path = short(&self.request.path);
        match self.request.header("user-agent") {
            Some(agent) => format!("{peer} for {path} with {}", short(agent)),
            None => format!("{peer} for {path}"),
        }
    }

    /// The same URL again, safe to be written into a header or a page.
    fn location(&self) -> String {
        redirect::location(&self.request.path_and_query())
    }

    /// Whether the answer is shown to somebody: it is the page, or news for it.
    fn is_shown(&self) -> bool {
        matches!(self.asker, Asker::Browser | Asker::PagePoll)
    }

    fn was_post(&self) -> bool {
        !matches!(self.request.method.as_str(), "GET" | "HEAD")
    }

    /// What the page offers while the rule sleeps.
    fn wake(&self) -> Wake {
        self.refusal.as_ref().map_or(Wake::Link, |refusal| refusal.wake)
    }

    fn html(&self, status: u16, body: String) -> Answer {
        Answer::new(status, HTML_TYPE, body)
            .with("content-language", self.language.tag())
            .with("vary", "accept-language")
            .with(
                "content-security-policy",
                page::content_security_policy(self.branding, self.wake()),
            )
    }

    /// What no page is: a script that asked for it may read it.
    fn plain(&self, answer: Answer) -> Answer {
        let answer = answer.with("vary", cors::VARY);
        match self.reader {
            Some(reader) => answer
                .with("access-control-allow-origin", reader.origin)
                .with("access-control-allow-credentials", "true")
                .with("access-control-expose-headers", cors::EXPOSED),
            None => answer,
        }
    }

    /// Whether a reason may be told: it may name machines, roles and accounts, which are not for scripts of other sites.
    fn may_know_why(&self) -> bool {
        self.reader.is_none_or(|reader| reader.same_site)
    }

    /// For people a page, for programs a problem with this sentence.
    fn notice(&self, status: u16, phase: &str, page: impl FnOnce() -> String, sentence: &str) -> Answer {
        let answer = if self.asker == Asker::Browser {
            self.html(status, page())
        } else {
            let reason = self.may_know_why().then_some(sentence);
            let known = json!({
                "rule": null, "phase": phase, "step": null, "percent": null, "eta_seconds": null, "reason": reason,
            });
            let detail = reason.unwrap_or("nothing more is told to a script of another site");
            self.plain(Answer::problem(status, detail, known))
        };
        answer.with("x-autostopping-phase", phase)
    }
}

/// Until when a program should not ask again: soon while a wake is under way, and before a retry there is nothing to see.
/// Whom it would not wake has no reason to ask soon.
fn retry_after(now: Timestamp, asked: &Asked<'_>, record: &Record) -> Duration {
    let left = match (progress_of(now, record).eta, record.failure()) {
        _ if asked.refusal.is_some() && record.wanted == Wanted::Asleep => Duration::MAX,
        (_, Some(failure)) if now < failure.retry_at => until(now, failure.retry_at),
        (Some(eta), _) if !eta.is_zero() => eta,
        (Some(_) | None, _) => Duration::from_secs(5),
    };
    left.clamp(Duration::from_secs(2), Duration::from_secs(60))
}

fn with_phase(answer: Answer, now: Timestamp, asked: &Asked<'_>, record: &Record) -> Answer {
    let seconds = retry_after(now, asked, record).as_secs_f64().ceil();
    answer
        .with("retry-after", format!("{seconds}"))
        .with("x-autostopping-phase", record.snapshot.phase.name())
}

/// The progress page.
pub(super) fn progress(now: Timestamp, asked: &Asked<'_>, record: &Record) -> Answer {
    with_phase(
        asked.html(503, view(now, asked, record, |view| page::html(view, asked.language))),
        now,
        asked,
        record,
    )
}

/// The same for programs and for the page's poll.
pub(super) fn program(now: Timestamp, asked: &Asked<'_>, record: &Record) -> Answer {
    let mut known = view(now, asked, record, |view| page::json(view, asked.language));
    if !asked.may_know_why() {
        known["reason"] = Value::Null;
        known["advice"] = Value::Null;
    }
    let (rule, phase) = (&record.rule, record.snapshot.phase.name());
    let detail = match known["reason"].as_str() {
        _ if asked.repeat => format!("{rule} is {phase}, and this request could not be noted: repeat it"),
        Some(reason) => format!("{rule} is {phase}: {reason}"),
        None => format!("{rule} is {phase}"),
    };
    with_phase(asked.plain(Answer::problem(503, &detail, known)), now, asked, record)
}

/// For a browser whose request was on the way during the flip: reloads after two seconds.
pub(super) fn switched(asked: &Asked<'_>, rule: &RuleName) -> Answer {
    let html = page::switched(
        &rule.0,
        asked.request.host(),
        &asked.location(),
        asked.was_post(),
        asked.language,
        asked.branding,
    );
    asked
        .html(503, html)
        .with("retry-after", "2")
        .with("x-autostopping-phase", Phase::Awake.name())
}

/// For a program whose rule is awake by now: the same URL again.
pub(super) fn redirect(asked: &Asked<'_>) -> Answer {
    let awake = Phase::Awake.name();
    if who::follows_no_redirect(asked.request) {
        let page = || String::new();
        return asked
            .notice(503, awake, page, "it is awake by now: repeat the call")
            .with("retry-after", "1");
    }
    asked
        .plain(Answer::new(307, "", String::new()))
        .with("location", asked.location())
        .with("x-autostopping-phase", awake)
}

/// To a preflight. It is the same whatever the rule is at, so nothing has to be read for it.
pub(super) fn preflight(asked: &Asked<'_>) -> Answer {
    let Some(grant) = asked.reader.and_then(|reader| reader.grant(asked.request)) else {
        let why = "while this rule sleeps, a page of another site may ask by GET and HEAD alone; nothing was started";
        return asked.notice(403, "none", String::new, why);
    };
    let answer = asked.plain(Answer::new(204, "", String::new()));
    let answer = answer
        .with("access-control-allow-methods", grant.method)
        // A yes of ours that a browser keeps would later stand in for the site's own answer.
        .with("access-control-max-age", "0")
        .with("x-autostopping-phase", "none");
    match grant.headers.as_str() {
        "" => answer,
        names => answer.with("access-control-allow-headers", names),
    }
}

/// After the button was pressed: the same URL with a GET, so that no reload presses it again.
pub(super) fn pressed(asked: &Asked<'_>) -> Answer {
    Answer::new(303, "", String::new())
        .with("location", asked.location())
        .with("x-autostopping-phase", "none")
}

pub(super) fn not_found(asked: &Asked<'_>) -> Answer {
    let host = asked.request.host();
    let page = || page::not_found(host, asked.language, asked.branding);
    let why = "no rule is made for this host and path; nothing was started";
    asked.notice(404, "none", page, why)
}

pub(super) fn forbidden(asked: &Asked<'_>) -> Answer {
    let page = || page::forbidden(asked.request.host(), asked.language, asked.branding);
    asked.notice(
        403,
        "none",
        page,
        "this address may not wake this rule; nothing was started",
    )
}

/// What keeps us from knowing, in words. Asking again may help.
pub(super) fn unavailable(asked: &Asked<'_>, why: &str) -> Answer {
    tracing::warn!(why, "a request could not be served");
    let shown = page::View {
        rule: asked.request.host(),
        host: asked.request.host(),
        path: &asked.location(),
        phase: page::Phase::Failed,
        step: page::Step::MachineStarting,
        percent: None,
        eta_seconds: None,
        elapsed_seconds: 0,
        reason: Some(why),
        retry_in_seconds: Some(5),
        advice: Advice::Passes,
        wake: asked.wake(),
        repeat: true,
        was_post: asked.was_post(),
        trace: asked.request.header("x-amzn-trace-id"),
        branding: asked.branding,
    };
    let page = || page::html(&shown, asked.language);
    asked
        .notice(503, page::Phase::Failed.as_str(), page, why)
        .with("retry-after", "5")
}

pub(super) fn bad_configuration(asked: &Asked<'_>, errors: &ConfigErrors) -> Answer {
    let values: Vec<_> = errors
        .0
        .iter()
        .map(|bad| page::BadValue {
            key: &bad.key,
            value: &bad.value,
            allowed: &bad.allowed,
        })
        .collect();
    let page = || page::bad_configuration(asked.request.host(), &values, asked.language, asked.branding);
    asked
        .notice(503, page::Phase::Misconfigured.as_str(), page, &errors.to_string())
        .with("retry-after", "60")
}

/// What those who run the rule can do about what is wrong.
fn advice(record: &Record) -> Advice<'static> {
    let failure = record.failure();
    match (&record.snapshot.phase, failure.and_then(|failure| failure.kind)) {
        (Phase::Misconfigured(_), _) => Advice::Settings,
        (_, Some(FaultKind::NoCapacity)) => Advice::Capacity,
        (_, Some(FaultKind::Denied)) => Advice::Permission,
        (_, Some(FaultKind::NotFound)) => Advice::Gone,
        (_, Some(FaultKind::Throttled | FaultKind::Conflict | FaultKind::Other)) => Advice::Passes,
        (_, None) => match record.snapshot.step {
            Step::HealthChecks { .. } if failure.is_none() => Advice::Health,
            _ => Advice::Machine,
        },
    }
}

fn problems_may_wake(record: &Record) -> bool {
    record.snapshot.problems.iter().all(Problem::may_wake)
}

fn view<T>(now: Timestamp, asked: &Asked<'_>, record: &Record, show: impl FnOnce(&View<'_>) -> T) -> T {
    let progress = progress_of(now, record);
    let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    let snapshot = &record.snapshot;
    let problems = snapshot
        .problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    // Whatever the machine still does: to somebody in front of it, what nobody has woken is asleep.
    let at_rest = record.wanted == Wanted::Asleep && problems_may_wake(record);
    let refusal = asked.refusal.as_ref().filter(|_| record.wanted == Wanted::Asleep);
    let refused = refusal.and_then(|refusal| refusal.reason.as_deref());
    let (phase, own_reason) = match &snapshot.phase {
        Phase::Failed(reason) | Phase::Misconfigured(reason) if at_rest && asked.is_shown() => {
            (page::Phase::Asleep, Some(reason.as_str()))
        }
        Phase::Settling | Phase::Stopping if at_rest && asked.is_shown() => (page::Phase::Asleep, None),
        Phase::Asleep => (page::Phase::Asleep, None),
        Phase::Starting => (page::Phase::Starting, None),
        Phase::Checking => (page::Phase::Checking, None),
        Phase::Switching => (page::Phase::Switching, None),
        Phase::Awake => (page::Phase::Awake, None),
        Phase::Settling => (page::Phase::Settling, None),
        Phase::Stopping => (page::Phase::Stopping, None),
        Phase::Failed(reason) => (page::Phase::Failed, Some(reason.as_str())),
        Phase::Misconfigured(problem) => (page::Phase::Misconfigured, Some(problem.as_str())),
    };
    let step = match snapshot.step {
        Step::WaitingForStop | Step::Stopping => page::Step::MachineStopping,
        Step::Resting | Step::Starting => page::Step::MachineStarting,
        Step::Booting => page::Step::Booting,
        Step::HealthChecks { healthy, needed } => page::Step::HealthChecks { healthy, needed },
        Step::Switching => page::Step::Switching,
        Step::Serving => page::Step::Ready,
    };
    let retry = record
        .failure()
        .filter(|failure| now < failure.retry_at)
        .map(|failure| seconds(until(now, failure.retry_at)));
    show(&View {
        rule: &record.rule.0,
        host: asked.request.host(),
        path: &asked.location(),
        phase,
        step,
        percent: progress.percent,
        eta_seconds: progress.eta.map(seconds),
        elapsed_seconds: seconds(progress.elapsed),
        reason: own_reason
            .or(refused)
            .or(Some(problems.as_str()).filter(|problems| !problems.is_empty())),
        retry_in_seconds: retry,
        advice: match refusal.and_then(|refusal| refusal.advice.as_deref()) {
            Some(advice) => Advice::Own(advice),
            None => advice(record),
        },
        wake: asked.wake(),
        repeat: asked.repeat,
        was_post: asked.was_post(),
        trace: asked.request.header("x-amzn-trace-id"),
        branding: asked.branding,
    })
}
