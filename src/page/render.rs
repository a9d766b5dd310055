//! Fills the templates. The only file that knows askama.

use std::borrow::Cow;

use askama::Template;
use serde_json::json;

use super::accent;
use super::messages::{Messages, fill};
use super::mood::Mood;
use super::{Advice, BadValue, Language, Phase, Step, View, Wake};
use crate::config::branding::Branding;
use crate::http::press;

pub(super) const CSS: &str = include_str!("../../templates/page.css");
pub(super) const JS: &str = include_str!("../../templates/page.js");

/// Longer texts are cut: a host may be 64 KB of somebody's idea of fun, and the page has a budget.
const LONGEST: usize = 600;
const LONGEST_PATH: usize = 4096;
/// In large letters such a name would take the whole screen of a phone.
const LONG_NAME: usize = 24;

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
    /// Where the sun stands: percent from the left, and pixels from the top of a sky of 120.
    sun: (u8, u8),
    css: &'static str,
    accent: Option<String>,
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
    long: bool,
    detail: String,
    refresh: Option<String>,
    was_post: bool,
    post_text: String,
    address: Cow<'a, str>,
    no_script: Option<&'static str>,
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
    advice: String,
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
    let refresh = refresh(view, mood);
    let rule = shown(view.rule);
    let values = [("rule", &*rule)];
    let icons: serde_json::Map<_, _> = Mood::ALL
        .into_iter()
        .map(|mood| (mood.name().to_owned(), json!(mood.icon())))
        .collect();
    let waking = matches!(mood, Mood::Waking | Mood::Ready);
    let page = Page {
        frame: frame(
            mood,
            sun(mood, percent, reached(view, mood)),
            view.host,
            language,
            view.branding,
        ),
        m,
        js: JS,
        state: super::json(view, language).to_string(),
        // A struct of plain strings; there is nothing in it that could fail.
        words: serde_json::to_string(m).unwrap_or_default(),
        icons: serde_json::Value::Object(icons).to_string(),
        title: fill(mood.title(m), &values),
        headline: fill(mood.headline(m), &values),
        long: rule.chars().count() > LONG_NAME,
        detail: detail(view, mood, m),
        no_script: match (&refresh, view.was_post) {
            (Some(_), _) => Some(m.no_script),
            (None, true) => Some(m.post_no_script),
            (None, false) => None,
        },
        refresh,
        was_post: view.was_post,
        post_text: fill(if mood == Mood::Ready { m.post_ready } else { m.post_text }, &values),
        // Without a path that can be repeated: this very address, as a link always asks by GET.
        address: same_host(view.path).unwrap_or_default(),
        asleep: mood == Mood::Asleep,
        wake: view.wake,
        field: press::FIELD,
        waking,
        trouble: is_trouble(view, mood),
        show_steps: !matches!(mood, Mood::Asleep | Mood::Misconfigured),
        show_hint: mood == Mood::Waking && !view.was_post,
        percent: percent.filter(|_| waking),
        eta: if mood == Mood::Ready {
            m.eta_ready.to_owned()
        } else {
            eta(view.eta_seconds, m)
        },
        // A request that was on its way during the flip has not waited; "0:00" would claim that it was measured.
        elapsed: match (mood, view.elapsed_seconds) {
            (Mood::Ready, 0) => String::new(),
            (Mood::Ready, seconds) => fill(m.took, &[("time", &clock(seconds))]),
            (_, seconds) => fill(m.elapsed, &[("time", &clock(seconds))]),
        },
        reason: view.reason.map(shown),
        next: next(view, mood, m),
        advice: advice(view, language).unwrap_or_default(),
        advice_is_english: matches!(view.advice, Advice::Own(_)),
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
        frame: frame(mood, sun(mood, None, 0), host, language, branding),
        m,
        title,
        lead,
        help,
        bad_values,
    };
    finish(page.render())
}

/// The sun goes along the bar and rises. While nobody knows how long it takes, it stands where the steps have come.
fn sun(mood: Mood, percent: Option<u8>, reached: u8) -> (u8, u8) {
    let place = percent.unwrap_or(4 + 25 * reached);
    match mood {
        Mood::Asleep | Mood::Waking | Mood::Ready => (place, 130 - (u16::from(place) * 3 / 5) as u8),
        Mood::Failed | Mood::Misconfigured => (4 + 25 * reached.min(3), 124),
    }
}

fn frame<'a>(mood: Mood, sun: (u8, u8), host: &'a str, language: Language, branding: &'a Branding) -> Frame<'a> {
    Frame {
        lang: language.tag(),
        mood: mood.name(),
        icon: mood.icon(),
        sun,
        css: CSS,
        accent: branding.colour.map(accent::css),
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
        (Mood::Ready, _) if view.was_post => "",
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

fn is_trouble(view: &View, mood: Mood) -> bool {
    matches!(mood, Mood::Failed | Mood::Misconfigured) || (view.reason.is_some() && mood != Mood::Ready)
}

/// What can be done about what is wrong; none where nothing is.
pub(super) fn advice(view: &View, language: Language) -> Option<String> {
    if !is_trouble(view, Mood::of(view.phase)) {
        return None;
    }
    let m = Messages::of(language);
    let they_can = match view.advice {
        Advice::Own(sentence) => return Some(shown(sentence).into_owned()),
        Advice::Capacity => m.advice_capacity,
        Advice::Permission => m.advice_permission,
        Advice::Gone => m.advice_gone,
        Advice::Health => m.advice_health,
        Advice::Machine => m.advice_machine,
        Advice::Passes => m.advice_passes,
        Advice::Settings => m.advice_settings,
    };
    let rule = shown(view.rule);
    let tell = fill(m.help_default, &[("rule", &rule)]);
    Some(format!("{tell} {}", fill(they_can, &[("rule", &rule)])))
}

/// How many steps are done.
fn reached(view: &View, mood: Mood) -> u8 {
    match (mood, view.step) {
        (Mood::Ready, _) => 4,
        (_, Step::MachineStopping | Step::MachineStarting) => 0,
        (_, Step::Booting) => 1,
        (_, Step::HealthChecks { .. }) => 2,
        (_, Step::Switching | Step::Ready) => 3,
    }
}

fn steps(view: &View, mood: Mood, m: &'static Messages) -> Vec<Item> {
    let now = usize::from(reached(view, mood));
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

/// Without scripts the page navigates instead. Not while asleep: that would wake what nobody asked for. Nor after a form: who
/// sent it finds out on this page that it has to be sent again, and wants to go back to it.
fn refresh(view: &View, mood: Mood) -> Option<String> {
    if view.was_post {
        return None;
    }
    let seconds = match mood {
        _ if view.repeat => 5,
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

/// Control characters, Unicode's direction controls (UAX 9), of which one in a rule's name would turn the whole headline
/// round, and noncharacters, which HTML does not allow.
fn disturbs(c: char) -> bool {
    let direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let none = matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe;
    direction || none || (c.is_control() && c != '\n' && c != '\t')
}
