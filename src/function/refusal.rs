//! Why a request leaves a sleeping rule asleep, and what would wake it.

use crate::domain::path::Unwanted;
use crate::domain::record::Record;
use crate::domain::rule::Rule;
use crate::domain::time::Timestamp;
use crate::domain::today;
use crate::http::event::AlbRequest;
use crate::http::press;
use crate::http::who::{self, Asker};
use crate::page::Wake;

/// What those are told whose request wakes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// A sentence; none where the page's button says enough.
    pub reason: Option<String>,
    /// What can be done, a sentence.
    pub advice: Option<String>,
    /// What the page offers.
    pub wake: Wake,
}

impl Refusal {
    /// None when the request may wake the rule. It depends on the request and on the day, not on whether the rule sleeps.
    pub(super) fn of(
        now: Timestamp,
        rule: &Rule,
        record: Option<&Record>,
        request: &AlbRequest,
        asker: Asker,
    ) -> Option<Self> {
        let name = &rule.name;
        let refused = |reason: String, advice: String| {
            Some(Refusal {
                reason: Some(reason),
                advice: Some(advice),
                wake: Wake::Not,
            })
        };
        if asker == Asker::Nobody {
            let reason = "A monitor, a crawler, a scanner, a link preview or a prefetch wakes nothing.";
            return refused(reason.to_owned(), open(name));
        }
        match who::unwanted(&rule.policy, request) {
            Some(Unwanted::Never) => {
                let reason = "This path does not wake it (autostopping:never-wake-paths).";
                return refused(reason.to_owned(), open(name));
            }
            Some(Unwanted::NotNamed) => {
                let paths: Vec<_> = rule.policy.wake_paths.iter().map(ToString::to_string).collect();
                let reason = format!(
                    "Only these paths wake it: {} (autostopping:wake-paths).",
                    paths.join(" ")
                );
                return refused(reason, open(name));
            }
            Some(Unwanted::Usual) => {
                let reason = "Browsers, crawlers and scanners ask every site for this path, so it does not wake it.";
                let advice = "Open another page of the site. Its operator can add the path to autostopping:wake-paths.";
                return refused(reason.to_owned(), advice.to_owned());
            }
            None => {}
        }
        if let Some(again) = record.and_then(|record| today::used_up(now, rule, record)) {
            let most = rule.policy.wakes_per_day.unwrap_or_default();
            let reason = format!(
                "It has been woken as often as autostopping:wakes-per-day allows, {most} times today. It can be woken again from {again:.0}."
            );
            return refused(
                reason,
                format!("Its operator can wake it at any time: proxymanager wake {name}"),
            );
        }
        if rule.policy.confirm && !press::is_pressed(request) {
            let (name, value) = press::FIELD;
            let program = asker == Asker::Program;
            return Some(Refusal {
                reason: program.then(|| "It wakes only when somebody presses the button on its page.".to_owned()),
                advice: program.then(|| format!("Open it in a browser, or send a POST with the body {name}={value}.")),
                wake: Wake::Press,
            });
        }
        None
    }
}

fn open(name: &impl std::fmt::Display) -> String {
    format!("Open another page of the site in a browser, or ask its operator: proxymanager wake {name}")
}
