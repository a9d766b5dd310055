//! Fills the templates. The only file that knows askama.

use std::borrow::Cow;

use askama::Template;
use serde_json::json;

use super::messages::{Messages, fill};
use super::mood::Mood;
use super::{BadValue, Branding, Language, Phase, Step, View, Wake};
use crate::http::press;

pub(super) const CSS: &str = include_str!("../../templates/page.css");
pub(super) const JS: &str = include_str!("../../templates/page.js");

/// Longer texts are cut: a host may be 64 KB of somebody's idea of fun, and the page has a budget.
const LONGEST: usize = 600;
const LONGEST_PATH: usize = 4096;

pub(super) enum Notice {
    NotFound,
    Forbidden,
    BadConfiguration,
}

/// What all pages share.
struct Frame<'a> {
    lang: &'static str,
    mood: &'static str,
    icon: &'static str,
    /// The sun's height: 16 is risen, 48 is below the horizon.
    sun: u8,
    css: &'static str,
    accent: Option<&'a str>,
    logo: Option<&'a str>,
    message: Option<&'a str>,
    host: Cow<'a, str>,
}

struct Item {
    name: &'static str,
    is: &'static str,
    said: &'static str,
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    frame: Frame<'a>,
    m: &'static Messages,
    js: &'static str,
    state: String,
    words: String,
    icons: String,
    title: String,
    headline: String,
    detail: String,
    refresh: Option<String>,
    was_post: bool,
    post_text: String,
    asleep: bool,
    wake: Wake,
    /// What the button sends.
    field: (&'static str, &'static str),
    waking: bool,
    trouble: bool,
    show_steps: bool,
    show_hint: bool,
    percent: Option<u8>,
    eta: String,
    elapsed: String,
    reason: Option<Cow<'a, str>>,
    next: String,
    advice: Cow<'a, str>,
    advice_is_english: bool,
    steps: Vec<Item>,
    trace: Option<Cow<'a, str>>,
}

#[derive(Template)]
#[template(path = "notice.html")]
struct NoticePage<'a> {
    frame: Frame<'a>,
    m: &'static Messages,
    title: &'static str,
    lead: &'static str,
    help: &'static str,
    bad_values: Vec<BadValue<'a>>,
}

pub(super) fn progress(view: &View, language: Language) -> String {
    let m = Messages::of(language);
    let mood = Mood::of(view.phase);
    let percent = match mood {
        Mood::Ready => Some(100),
        Mood::Asleep | Mood::Waking | Mood::Failed | Mood::Misconfigured => view.percent.map(|p| p.min(100)),
    };
    let rule = shown(view.rule);
    let values = [("rule", &*rule)];
    let icons: serde_json::Map<_, _> = Mood::ALL
        .into_iter()
        .map(|mood| (mood.name().to_owned(), json!(mood.icon())))
        .collect();
    let waking = matches!(mood, Mood::Waking | Mood::Ready);
    let page = Page {
        frame: frame(mood, percent, view.host, language, view.branding),
        m,
        js: JS,
        state: super::json(view).to_string(),
        // A struct of plain strings; there is nothing in it that could fail.
        words: serde_json::to_string(m).unwrap_or_default(),
        icons: serde_json::Value::Object(icons).to_string(),
        title: fill(mood.title(m), &values),
        headline: fill(mood.headline(m), &values),
        detail: detail(view, mood, m),
        refresh: refresh(view, mood),
        was_post: view.was_post,
        post_text: fill(m.post_text, &values),
        asleep: mood == Mood::Asleep,
        wake: view.wake,
        field: press::FIELD,
        waking,
        trouble: matches!(mood, Mood::Failed | Mood::Misconfigured) || (view.reason.is_some() && mood != Mood::Ready),
        show_steps: !matches!(mood, Mood::Asleep | Mood::Misconfigured),
        show_hint: mood == Mood::Waking,
        percent: percent.filter(|_| waking),
        eta: if mood == Mood::Ready {
            m.eta_ready.to_owned()
        } else {
            eta(view.eta_seconds, m)
        },
        // A request that was on its way during the flip has not waited; "0:00" would claim that it was measured.
        elapsed: match (mood, view.elapsed_seconds) {
            (Mood::Ready, 0) => String::new(),
            (_, seconds) => fill(m.elapsed, &[("time", &clock(seconds))]),
        },
        reason: view.reason.map(shown),
        next: next(view, mood, m),
        advice: view.advice.map_or_else(|| fill(m.help_default, &values).into(), shown),
        advice_is_english: view.advice.is_some(),
        steps: steps(view, mood, m),
        trace: view.trace.map(shown),
    };
    finish(page.render())
}

pub(super) fn notice(
    notice: Notice,
    host: &str,
    bad_values: &[BadValue],
    language: Language,
    branding: &Branding,
) -> String {
    let m = Messages::of(language);
    let (mood, title, lead, help) = match notice {
        Notice::NotFound => (Mood::Asleep, m.not_found_title, m.not_found_lead, m.not_found_help),
        Notice::Forbidden => (Mood::Asleep, m.forbidden_title, m.forbidden_lead, m.forbidden_help),
        Notice::BadConfiguration => (Mood::Misconfigured, m.bad_title, m.bad_lead, ""),
    };
    let cut: Vec<_> = bad_values
        .iter()
        .map(|bad| (shown(bad.key), shown(bad.value), shown(bad.allowed)))
        .collect();
    let bad_values = cut
        .iter()
        .map(|(key, value, allowed)| BadValue { key, value, allowed })
        .collect();
    let page = NoticePage {
        frame: frame(mood, None, host, language, branding),
        m,
        title,
        lead,
        help,
        bad_values,
    };
    finish(page.render())
}

fn frame<'a>(mood: Mood, percent: Option<u8>, host: &'a str, language: Language, branding: &'a Branding) -> Frame<'a> {
    let sun = match (mood, percent) {
        (Mood::Asleep, _) => 48,
        (Mood::Failed | Mood::Misconfigured, _) | (Mood::Waking | Mood::Ready, None) => 34,
        (Mood::Waking | Mood::Ready, Some(percent)) => 40 - (u16::from(percent) * 24 / 100) as u8,
    };
    Frame {
        lang: language.tag(),
        mood: mood.name(),
        icon: mood.icon(),
        sun,
        css: CSS,
        accent: branding.accent.as_deref(),
        logo: branding.logo.as_deref(),
        message: branding.message.as_deref(),
        host: shown(host),
    }
}

/// A template fails only if a value's own formatting does, and ours are strings and numbers.
fn finish(page: askama::Result<String>) -> String {
    page.unwrap_or_default()
}

fn detail(view: &View, mood: Mood, m: &'static Messages) -> String {
    let text = match (mood, view.phase) {
        (Mood::Asleep, _) => m.detail_asleep,
        (Mood::Ready, _) => m.detail_ready,
        (Mood::Failed, _) => m.detail_failed,
        (Mood::Misconfigured, _) => m.detail_misconfigured,
        (Mood::Waking, Phase::Settling) => m.detail_settling,
        (Mood::Waking, Phase::Stopping) => m.detail_stopping,
        (Mood::Waking, _) => match view.step {
            Step::MachineStopping => m.step_machine_stopping,
            Step::MachineStarting => m.step_machine_starting,
            Step::Booting => m.step_booting,
            Step::HealthChecks { healthy, needed } if needed > 1 => {
                let values = [("healthy", &*healthy.to_string()), ("needed", &*needed.to_string())];
                return fill(m.step_health_checks_many, &values);
            }
            Step::HealthChecks { .. } => m.step_health_checks,
            Step::Switching => m.step_switching,
            Step::Ready => m.step_ready,
        },
    };
    text.to_owned()
}

fn steps(view: &View, mood: Mood, m: &'static Messages) -> Vec<Item> {
    let now = match (mood, view.step) {
        // Past the last: all are done.
        (Mood::Ready, _) => 5,
        (_, Step::MachineStopping | Step::MachineStarting) => 0,
        (_, Step::Booting) => 1,
        (_, Step::HealthChecks { .. }) => 2,
        (_, Step::Switching | Step::Ready) => 3,
    };
    let item = |(place, name): (usize, &&'static str)| {
        let (is, said) = match place.cmp(&now) {
            std::cmp::Ordering::Less => ("done", m.is_done),
            std::cmp::Ordering::Greater => ("later", m.is_later),
            std::cmp::Ordering::Equal if mood == Mood::Failed => ("failed", m.is_failed),
            std::cmp::Ordering::Equal => ("now", m.is_now),
        };
        Item { name, is, said }
    };
    m.list.iter().enumerate().map(item).collect()
}

/// Rounded the more coarsely the further off, since that is how much is known.
fn eta(seconds: Option<u32>, m: &'static Messages) -> String {
    match seconds {
        None => m.eta_unknown.to_owned(),
        Some(0) => m.eta_overdue.to_owned(),
        Some(1..10) => m.eta_moments.to_owned(),
        Some(seconds @ 10..56) => fill(m.eta_seconds, &[("seconds", &(seconds.div_ceil(5) * 5).to_string())]),
        Some(56..90) => m.eta_minute.to_owned(),
        Some(seconds) => fill(
            m.eta_minutes,
            &[("minutes", &(seconds.saturating_add(30) / 60).to_string())],
        ),
    }
}

fn next(view: &View, mood: Mood, m: &'static Messages) -> String {
    match (mood, view.retry_in_seconds) {
        (Mood::Misconfigured, _) => m.next_misconfigured.to_owned(),
        (_, None) => m.next_checked.to_owned(),
        (_, Some(0)) => m.next_now.to_owned(),
        (_, Some(seconds)) => fill(m.next_retry, &[("time", &clock(seconds))]),
    }
}

/// Without scripts the page navigates instead. Not while asleep: that would wake what nobody asked for.
fn refresh(view: &View, mood: Mood) -> Option<String> {
    let seconds = match mood {
        Mood::Asleep => return None,
        Mood::Ready => 2,
        Mood::Waking => view.eta_seconds.map_or(5, |eta| (eta / 4).clamp(4, 15)),
        Mood::Failed | Mood::Misconfigured => 30,
    };
    // To its own address with a fragment a browser only scrolls and asks nobody. So the address is named without one; that
    // loses the fragment, which is better than waiting for ever.
    Some(match same_host(view.path) {
        Some(path) => format!("{seconds}; url={path}"),
        None => seconds.to_string(),
    })
}

/// The path so that it stays on this host: browsers take `//` and `/\` at the start for another one, and pass over tabs and
/// line ends between the two. What cannot be part of a request's target is not repeated at all.
fn same_host(path: &str) -> Option<Cow<'_, str>> {
    let fine = path.starts_with('/') && path.len() <= LONGEST_PATH;
    if !fine || !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return None;
    }
    Some(if path.starts_with("//") || path.starts_with("/\\") {
        format!("/.{path}").into()
    } else {
        path.into()
    })
}

fn clock(seconds: u32) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// User's text as it is shown: cut, and with what would hide or reorder the text around it made visible.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    let cut = text.char_indices().nth(LONGEST).map(|(end, _)| end);
    if cut.is_none() && !text.contains(disturbs) {
        return text.into();
    }
    let mut shown = text[..cut.unwrap_or(text.len())].replace(disturbs, "\u{fffd}");
    if cut.is_some() {
        shown.push('…');
    }
    shown.into()
}

/// Control characters and Unicode's direction controls (UAX 9): one in a rule's name would turn the whole headline round.
fn disturbs(c: char) -> bool {
    let direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    direction || (c.is_control() && c != '\n' && c != '\t')
}
