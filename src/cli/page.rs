//! `page`: any phase of the page, to be looked at without anything asleep.

use std::io::Write as _;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use super::output::{Format, line};
use crate::config::branding::Branding;
use crate::page::{self, Advice, Language, Phase, Step, View, Wake};

/// What is to be seen.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The phase.
    #[arg(long, value_parser = PossibleValuesParser::new(Phase::ALL.map(Phase::as_str)).try_map(phase))]
    phase: Phase,
    /// The step, where the phase has more than one.
    #[arg(long, value_parser = PossibleValuesParser::new(STEPS.map(Step::as_str)).try_map(step))]
    step: Option<Step>,
    /// The language.
    #[arg(long, default_value = "en", value_parser = PossibleValuesParser::new(Language::ALL.map(Language::tag)).try_map(language))]
    language: Language,
    /// The rule's name.
    #[arg(long, default_value = "shop")]
    rule: String,
    /// Seconds left; 0 is overdue, and without it nobody knows.
    #[arg(long)]
    eta: Option<u32>,
    /// As of a rule that wakes only when its button is pressed.
    #[arg(long)]
    confirm: bool,
    /// As after a form that was sent.
    #[arg(long)]
    post: bool,
    /// Write the page to this file instead of the standard output.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

const STEPS: [Step; 5] = [
    Step::MachineStopping,
    Step::MachineStarting,
    Step::Booting,
    Step::HealthChecks { healthy: 1, needed: 2 },
    Step::Switching,
];
/// For how long the page has been there.
const ELAPSED: u32 = 34;

fn phase(name: String) -> Result<Phase, String> {
    named(Phase::ALL, Phase::as_str, &name)
}

fn step(name: String) -> Result<Step, String> {
    named(STEPS, Step::as_str, &name)
}

fn language(name: String) -> Result<Language, String> {
    named(Language::ALL, Language::tag, &name)
}

fn named<T: Copy, const N: usize>(all: [T; N], of: fn(T) -> &'static str, name: &str) -> Result<T, String> {
    let found = all.into_iter().find(|value| of(*value) == name);
    found.ok_or_else(|| format!("{name} is none of them"))
}

/// Prints the page, or with `--output json` what a program gets.
///
/// # Errors
/// When the file cannot be written.
pub fn run(args: &Args, branding: &Branding, format: Format) -> std::io::Result<()> {
    let own_step = match args.phase {
        Phase::Asleep | Phase::Starting => Step::MachineStarting,
        Phase::Checking | Phase::Failed | Phase::Misconfigured => Step::HealthChecks { healthy: 0, needed: 1 },
        Phase::Switching => Step::Switching,
        Phase::Awake => Step::Ready,
        Phase::Settling | Phase::Stopping => Step::MachineStopping,
    };
    let reason = match args.phase {
        Phase::Failed => Some(
            "The machine runs and did not become healthy in time: i-0123456789abcdef0 is unhealthy (Target.Timeout: Request timed out).",
        ),
        Phase::Misconfigured => Some(
            "autostopping:idle = \"soon\" of the listener rule cannot be used; allowed: a duration with its unit, such as 90s or 5m, from 5m to 24h",
        ),
        Phase::Asleep
        | Phase::Starting
        | Phase::Checking
        | Phase::Switching
        | Phase::Awake
        | Phase::Settling
        | Phase::Stopping => None,
    };
    let host = format!("{}.example.com", args.rule);
    let view = View {
        rule: &args.rule,
        host: &host,
        path: "/",
        phase: args.phase,
        step: args.step.unwrap_or(own_step),
        percent: args.eta.map(|eta| (ELAPSED * 95 / ELAPSED.saturating_add(eta)) as u8),
        eta_seconds: args.eta,
        elapsed_seconds: ELAPSED,
        reason,
        retry_in_seconds: (args.phase == Phase::Failed).then_some(45),
        advice: if args.phase == Phase::Misconfigured {
            Advice::Settings
        } else {
            Advice::Health
        },
        wake: if args.confirm { Wake::Press } else { Wake::Link },
        repeat: false,
        was_post: args.post,
        trace: Some("Root=1-67891233-abcdef012345678912345678"),
        branding,
    };
    let text = match format {
        Format::Json => format!("{:#}", page::json(&view, args.language)),
        Format::Table => page::html(&view, args.language),
    };
    match &args.to {
        Some(file) => std::fs::File::create(file)?.write_all(text.as_bytes()),
        None => {
            line(format_args!("{text}"));
            Ok(())
        }
    }
}
