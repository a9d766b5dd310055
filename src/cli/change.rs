//! Changes as they are shown before they are made, and the question whether to make them.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use serde_json::{Value, json};

use super::command::CommandError;
use super::output::{Format, line};

/// What is to be changed of one thing.
#[derive(Debug, Clone)]
pub struct Change {
    /// The thing in words, with its ARN or id.
    pub of: String,
    pub steps: Vec<Step>,
}

/// One line of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Add(String),
    Remove(String),
    Replace { what: String, from: String, to: String },
}

impl Change {
    /// What tags become; none when they are so already.
    pub fn of_tags(of: String, before: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> Option<Change> {
        let steps: Vec<Step> = wanted
            .iter()
            .filter_map(|(key, value)| match before.get(key) {
                None => Some(Step::Add(format!("{key} = {value}"))),
                Some(there) if there == value => None,
                Some(there) => Some(Step::Replace {
                    what: key.clone(),
                    from: there.clone(),
                    to: value.clone(),
                }),
            })
            .collect();
        (!steps.is_empty()).then_some(Change { of, steps })
    }

    fn json(&self) -> Value {
        let steps = self.steps.iter().map(|step| match step {
            Step::Add(what) => json!({ "add": what }),
            Step::Remove(what) => json!({ "remove": what }),
            Step::Replace { what, from, to } => json!({ "replace": what, "from": from, "to": to }),
        });
        json!({ "of": self.of, "steps": steps.collect::<Vec<_>>() })
    }
}

/// Shows the changes and what is to be known besides.
pub fn show(format: Format, rule: &str, changes: &[Change], notes: &[String]) {
    if format == Format::Json {
        let changes: Vec<Value> = changes.iter().map(Change::json).collect();
        line(format_args!(
            "{:#}",
            json!({ "rule": rule, "changes": changes, "notes": notes })
        ));
        return;
    }
    for change in changes {
        line(format_args!("{}", change.of));
        for step in &change.steps {
            match step {
                Step::Add(what) => line(format_args!("  + {what}")),
                Step::Remove(what) => line(format_args!("  - {what}")),
                Step::Replace { what, from, to } => line(format_args!("  ~ {what}: {from} -> {to}")),
            }
        }
    }
    for note in notes {
        line(format_args!("Note: {note}"));
    }
}

/// Whether to make the changes that were shown: `--yes`, or somebody at a terminal says so.
///
/// # Errors
/// [`CommandError::CannotAsk`] without a terminal, [`CommandError::Declined`] when the answer is no.
pub fn agree(yes: bool, format: Format) -> Result<(), CommandError> {
    if yes {
        return Ok(());
    }
    if format == Format::Json || !io::stdin().is_terminal() {
        return Err(CommandError::CannotAsk);
    }
    let _ = write!(io::stdout(), "Make these changes? [y/N] ");
    let _ = io::stdout().flush();
    let mut answer = String::new();
    match io::stdin().read_line(&mut answer) {
        Ok(_) if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") => Ok(()),
        Ok(_) | Err(_) => Err(CommandError::Declined),
    }
}
