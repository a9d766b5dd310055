//! The commands.

use std::time::Duration;

use serde_json::Value;

use super::output::{Format, line, print, table};
use super::report;
use crate::clock::{Clock, SystemClock};
use crate::config::{ConfigErrors, Lookup};
use crate::domain::phase::Phase;
use crate::domain::record::Record;
use crate::domain::rule::RuleName;
use crate::domain::seen::{Stimulus, Wanted};
use crate::domain::time::until;
use crate::drive::{Effort, Looked};
use crate::ledger::LedgerError;
use crate::ledger::dynamodb::DynamoDb;
use crate::rules::Managed;
use crate::wiring::{self, AwsDriver};

/// What all commands need.
pub struct Context {
    driver: AwsDriver<DynamoDb>,
}

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
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Context {
    /// Reads the same environment as the function, with the credentials of the AWS CLI.
    pub async fn new(lookup: &impl Lookup) -> Result<Self, ConfigErrors> {
        Ok(Context {
            driver: wiring::for_command_line(lookup).await?,
        })
    }

    async fn rule(&self, name: &str) -> Result<Managed, CommandError> {
        let rule = RuleName(name.to_owned());
        let rules = self.driver.rules_now().await?;
        rules.get(&rule).cloned().ok_or_else(|| {
            let known: Vec<_> = rules.iter().map(|managed| managed.rule.name.to_string()).collect();
            CommandError::NoSuchRule {
                name: name.to_owned(),
                known: if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                },
            }
        })
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
            .map(|(managed, record)| report::json(managed, record))
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
                record.snapshot.phase.reason().unwrap_or_default().to_owned(),
            ]);
        }
        table
    });
    Ok(())
}

pub async fn status(context: &Context, name: &str, format: Format) -> Result<(), CommandError> {
    let managed = context.rule(name).await?;
    let Looked { record, withheld, .. } = context.driver.look(&managed, &Stimulus::Tick, Effort::Inspect).await?;
    let now = SystemClock.now();
    print(format, &report::json(&managed, &record), || {
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

/// Tells a rule what to be and, if asked to, drives it until it is.
pub async fn want(
    context: &Context,
    name: &str,
    wanted: Wanted,
    wait: bool,
    format: Format,
) -> Result<(), CommandError> {
    let managed = context.rule(name).await?;
    let command = Stimulus::Command {
        wanted,
        who: "proxymanager".to_owned(),
    };
    let mut record = context.driver.look(&managed, &command, Effort::Fresh).await?.record;
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
        line(format_args!("{:#}", report::json(&managed, &record)));
    }
    Ok(())
}

fn words(record: &Record) -> String {
    let name = record.snapshot.phase.name();
    record
        .snapshot
        .phase
        .reason()
        .map_or_else(|| name.to_owned(), |reason| format!("{name}: {reason}"))
}
