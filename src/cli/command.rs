//! The commands.

use std::time::Duration;

use serde_json::Value;

use super::output::{Format, line, print, table};
use super::report;
use crate::clock::{Clock, SystemClock};
use crate::domain::fault::Fault;
use crate::domain::phase::Phase;
use crate::domain::record::Record;
use crate::domain::rule::RuleName;
use crate::domain::seen::{Stimulus, Wanted};
use crate::domain::time::{after, until};
use crate::drive::{Effort, Looked};
use crate::ledger::dynamodb::DynamoDb;
use crate::ledger::{Ledger, LedgerError};
use crate::rules::Managed;
use crate::wiring::Operator;

/// What all commands need.
pub type Context = Operator<DynamoDb>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("there is no rule {name:?}. The rules are: {known}")]
    NoSuchRule { name: String, known: String },
    #[error("{rule} is {phase}: {reason}")]
    NotDone {
        rule: RuleName,
        phase: &'static str,
        reason: String,
    },
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
    #[error("nobody can be asked here: look at the changes above, and add --yes to make them")]
    CannotAsk,
    #[error("nothing was changed")]
    Declined,
    #[error("another look at {0} did not end within 15 seconds, so nothing was changed: try again")]
    NotHeard(RuleName),
    #[error(
        "the function watches {0} too: AUTOSTOPPING_LISTENERS has to be here as it is there, or what is read here would stand for all"
    )]
    OtherListeners(String),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("{0}")]
    Fault(#[from] Fault),
}

impl CommandError {
    /// As promised to scripts.
    pub fn exit_code(&self) -> u8 {
        match self {
            CommandError::CannotAsk => 2,
            CommandError::OtherListeners(_) => 64,
            _ => 1,
        }
    }
}

/// The route table is shared: what a command reads and stores is what the function goes by.
///
/// # Errors
/// [`CommandError::OtherListeners`] when the table has a listener that this environment lacks.
pub(super) async fn same_listeners(context: &Context) -> Result<(), CommandError> {
    // A ledger that cannot be read is the command's own error, or what `doctor` finds.
    let Ok(Some(stored)) = context.driver.ledger.load_table().await else {
        return Ok(());
    };
    let mut listeners = stored.table.listeners.into_iter().map(|listener| listener.arn);
    match listeners.find(|arn| !context.settings.listeners.contains(arn)) {
        Some(other) => Err(CommandError::OtherListeners(other)),
        None => Ok(()),
    }
}

/// A rule by its name, as it is now.
async fn rule(context: &Context, name: &str) -> Result<Managed, CommandError> {
    let rules = context.driver.rules_now().await?;
    let found = rules.get(&RuleName(name.to_owned())).cloned();
    found.ok_or_else(|| no_such_rule(name, rules.iter().map(|managed| &managed.rule.name)))
}

pub(super) fn no_such_rule<'r>(name: &str, known: impl Iterator<Item = &'r RuleName>) -> CommandError {
    let known: Vec<_> = known.map(ToString::to_string).collect();
    CommandError::NoSuchRule {
        name: name.to_owned(),
        known: if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        },
    }
}

/// Has the rule do as it is told.
async fn tell(context: &Context, managed: &Managed, stimulus: &Stimulus) -> Result<Record, CommandError> {
    let looked = context.driver.look(managed, stimulus, Effort::Fresh).await?;
    match looked.heard {
        true => Ok(looked.record),
        false => Err(CommandError::NotHeard(managed.rule.name.clone())),
    }
}

pub async fn list(context: &Context, format: Format) -> Result<(), CommandError> {
    let rules = context.driver.rules_now().await?;
    let mut rows = Vec::new();
    for managed in rules.iter() {
        let Looked { record, .. } = context.driver.look(managed, &Stimulus::Tick, Effort::Inspect).await?;
        rows.push((managed, record));
    }
    let now = SystemClock.now();
    let value = Value::Array(
        rows.iter()
            .map(|(managed, record)| report::json(now, managed, record))
            .collect(),
    );
    print(format, &value, || {
        let mut table = table(&["rule", "phase", "machines", "idle after", "note"]);
        for (managed, record) in &rows {
            table.add_row(vec![
                managed.rule.name.to_string(),
                report::phase(now, record),
                record.snapshot.resources.len().to_string(),
                report::short(managed.rule.policy.idle),
                note(record).to_owned(),
            ]);
        }
        table
    });
    Ok(())
}

pub async fn status(context: &Context, name: &str, format: Format) -> Result<(), CommandError> {
    let managed = rule(context, name).await?;
    let Looked { record, withheld, .. } = context.driver.look(&managed, &Stimulus::Tick, Effort::Inspect).await?;
    let now = SystemClock.now();
    print(format, &report::json(now, &managed, &record), || {
        let mut table = table(&[]);
        let mut row = |key: &str, value: String| {
            if !value.is_empty() {
                table.add_row(vec![key.to_owned(), value]);
            }
        };
        row("rule", managed.rule.name.to_string());
        row("phase", report::phase(now, &record));
        row("reason", record.snapshot.phase.reason().unwrap_or_default().to_owned());
        row(
            "wanted",
            format!(
                "{} since {} ({})",
                report::wanted(record.wanted),
                report::time(record.wanted_since),
                record.wanted_by
            ),
        );
        row(
            "last request",
            record.last_request.map(report::time).unwrap_or_default(),
        );
        row(
            "woken today",
            managed
                .rule
                .policy
                .wakes_per_day
                .map(|most| format!("{} of {most} times, by requests", record.woken_today.on(now)))
                .unwrap_or_default(),
        );
        row("last use", record.last_use.map(report::time).unwrap_or_default());
        row(
            "keep awake",
            record
                .keep_awake_until
                .filter(|until| *until > now)
                .map(|until| format!("until {}", report::time(until)))
                .unwrap_or_default(),
        );
        row("kept awake by", record.kept_by.clone().unwrap_or_default());
        row(
            "routes",
            managed
                .routes
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n"),
        );
        row(
            "lead to",
            if record.snapshot.switched { "backend" } else { "waker" }.to_owned(),
        );
        row(
            "machines",
            record
                .snapshot
                .resources
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n"),
        );
        row("idle after", report::short(managed.rule.policy.idle));
        row(
            "problems",
            record
                .snapshot
                .problems
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n"),
        );
        if let Some(failure) = record.failure() {
            let again = report::short(until(now, failure.retry_at));
            row(
                "last failure",
                format!("{} (attempt {}, again in {again})", failure.reason, failure.attempts),
            );
        }
        row(
            "would do",
            withheld
                .iter()
                .map(|action| format!("{action:?}"))
                .collect::<Vec<_>>()
                .join("\n"),
        );
        table
    });
    Ok(())
}

/// Keeps a rule from being found idle for a while.
pub async fn keep_awake(
    context: &Context,
    name: &str,
    duration: Option<Duration>,
    format: Format,
) -> Result<(), CommandError> {
    let managed = rule(context, name).await?;
    let until = duration.map(|duration| after(SystemClock.now(), duration));
    let who = "proxymanager".to_owned();
    let stimulus = Stimulus::KeepAwake { until, who };
    let record = tell(context, &managed, &stimulus).await?;
    match format {
        Format::Json => line(format_args!("{:#}", report::json(SystemClock.now(), &managed, &record))),
        Format::Table => {
            let name = &managed.rule.name;
            match record.keep_awake_until {
                Some(until) => line(format_args!("{name}: not idle before {}", report::time(until))),
                None => line(format_args!("{name}: idle as its tag says")),
            }
            if record.wanted == Wanted::Asleep {
                line(format_args!(
                    "{name} is {}: `proxymanager wake {name}` wakes it",
                    words(&record)
                ));
            }
        }
    }
    Ok(())
}

/// The newest events of one rule or of all, newest first.
pub async fn history(context: &Context, name: Option<&str>, most: usize, format: Format) -> Result<(), CommandError> {
    let names = match name {
        Some(name) => vec![rule(context, name).await?.rule.name],
        None => {
            let rules = context.driver.rules_now().await?;
            rules.iter().map(|managed| managed.rule.name.clone()).collect()
        }
    };
    let mut events = Vec::new();
    for rule in names {
        let of_rule = context.driver.ledger.history(&rule, most).await?;
        events.extend(of_rule.into_iter().map(|event| (rule.clone(), event)));
    }
    events.sort_by_key(|(_, event)| std::cmp::Reverse(event.at));
    events.truncate(most);
    let value = events.iter().map(|(rule, event)| report::event(rule, event)).collect();
    print(format, &Value::Array(value), || {
        let mut table = table(&["when", "rule", "what", "why"]);
        for (rule, event) in &events {
            table.add_row(vec![
                report::time(event.at),
                rule.to_string(),
                report::what(event.kind).to_owned(),
                event.why.clone(),
            ]);
        }
        table
    });
    Ok(())
}

/// Tells a rule what to be and, if asked to, drives it until it is.
pub async fn want(
    context: &Context,
    name: &str,
    wanted: Wanted,
    wait: bool,
    format: Format,
) -> Result<(), CommandError> {
    let managed = rule(context, name).await?;
    let command = Stimulus::Command {
        wanted,
        who: "proxymanager".to_owned(),
    };
    let mut record = tell(context, &managed, &command).await?;
    let mut shown = None;
    loop {
        if format == Format::Table && shown.as_ref() != Some(&record.snapshot.phase) {
            line(format_args!("{}: {}", managed.rule.name, words(&record)));
            shown = Some(record.snapshot.phase.clone());
        }
        let reached = match wanted {
            Wanted::Awake => record.snapshot.switched && record.wanted == Wanted::Awake,
            Wanted::Asleep => record.snapshot.phase == Phase::Asleep,
        };
        if reached || !wait {
            break;
        }
        if let Phase::Failed(reason) | Phase::Misconfigured(reason) = &record.snapshot.phase {
            let phase = record.snapshot.phase.name();
            return Err(CommandError::NotDone {
                rule: managed.rule.name.clone(),
                phase,
                reason: reason.clone(),
            });
        }
        if record.wanted != wanted {
            let reason = format!("meanwhile something else was wanted by {}", record.wanted_by);
            return Err(CommandError::NotDone {
                rule: managed.rule.name.clone(),
                phase: record.snapshot.phase.name(),
                reason,
            });
        }
        let pause =
            until(SystemClock.now(), record.next_check).clamp(Duration::from_millis(100), Duration::from_secs(2));
        tokio::time::sleep(pause).await;
        record = context
            .driver
            .look(&managed, &Stimulus::Tick, Effort::Snapshot)
            .await?
            .record;
    }
    if format == Format::Json {
        line(format_args!("{:#}", report::json(SystemClock.now(), &managed, &record)));
    }
    Ok(())
}

/// What is wrong, or what keeps it from sleeping.
fn note(record: &Record) -> &str {
    let reason = record.snapshot.phase.reason();
    reason.or(record.kept_by.as_deref()).unwrap_or_default()
}

fn words(record: &Record) -> String {
    let name = record.snapshot.phase.name();
    record
        .snapshot
        .phase
        .reason()
        .map_or_else(|| name.to_owned(), |reason| format!("{name}: {reason}"))
}
