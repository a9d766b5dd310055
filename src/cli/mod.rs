//! The command line: what an operator asks and tells.

mod command;
mod output;
mod report;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Environment;
use crate::domain::seen::Wanted;

pub use output::Format;

/// Machines in your own AWS account sleep when nobody uses them and wake when somebody does.
#[derive(Debug, Parser)]
#[command(name = "proxymanager", version, propagate_version = true)]
pub struct Cli {
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List all rules and their phases.
    List,
    /// Show all there is to know about one rule.
    Status {
        /// The rule's name.
        rule: String,
    },
    /// Wake a rule.
    Wake {
        /// The rule's name.
        rule: String,
        /// Return at once instead of waiting until it is awake.
        #[arg(long)]
        no_wait: bool,
    },
    /// Put a rule to sleep: flip its routes to the waker, settle, stop its machines.
    Sleep {
        /// The rule's name.
        rule: String,
        /// Return at once instead of waiting until it is asleep; the schedule does the rest.
        #[arg(long)]
        no_wait: bool,
    },
}

/// Exit codes, as promised to scripts. Usage errors (2) are clap's.
const FAILED: u8 = 1;
const BAD_CONFIGURATION: u8 = 64;

/// Runs one command.
pub async fn run(cli: Cli) -> ExitCode {
    let context = match command::Context::new(&Environment).await {
        Ok(context) => context,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let format = cli.output;
    let result = match cli.command {
        Command::List => command::list(&context, format).await,
        Command::Status { rule } => command::status(&context, &rule, format).await,
        Command::Wake { rule, no_wait } => command::want(&context, &rule, Wanted::Awake, !no_wait, format).await,
        Command::Sleep { rule, no_wait } => command::want(&context, &rule, Wanted::Asleep, !no_wait, format).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxymanager: {error}");
            ExitCode::from(FAILED)
        }
    }
}
