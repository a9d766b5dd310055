//! The command line: what an operator asks and tells.

mod adopt;
mod change;
mod command;
#[cfg(feature = "proxy")]
mod connect;
mod create;
mod doctor;
#[cfg(feature = "proxy")]
mod forget_records;
mod output;
mod page;
mod policy;
#[cfg(feature = "proxy")]
mod proxy;
mod release;
mod report;
#[cfg(feature = "local")]
mod seed;
mod site;
mod upgrade;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::{Environment, environment};
use crate::domain::seen::Wanted;
use crate::wiring;

pub use output::Format;
#[cfg(feature = "local")]
pub use seed::seed_asleep;

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
    /// Run the whole system on this machine, without AWS.
    #[cfg(feature = "local")]
    Local(crate::local::Args),
    /// Show a phase of the page, with the logo, colour and message of the environment.
    Page(page::Args),
    #[cfg(feature = "proxy")]
    Proxy(proxy::Proxy),
    #[cfg(feature = "proxy")]
    Connect(connect::Connect),
    #[command(flatten)]
    OfRules(OfRules),
}

/// What is asked and told of rules, on AWS or wherever `AWS_ENDPOINT_URL` leads.
#[derive(Debug, Subcommand)]
enum OfRules {
    /// List all rules and their phases.
    List,
    /// Show all there is to know about one rule, or about the function.
    Status {
        /// The rule's name; without it, the function.
        rule: Option<String>,
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
    /// Keep a rule from being found idle for a while; it wakes nothing.
    KeepAwake {
        /// The rule's name.
        rule: String,
        /// For how long, such as 2h or 3days; at most 30 days.
        #[arg(value_parser = for_how_long, required_unless_present = "off")]
        duration: Option<Duration>,
        /// Take it back.
        #[arg(long, conflicts_with = "duration")]
        off: bool,
    },
    Create(create::Create),
    Adopt(adopt::Adopt),
    Release(release::Release),
    Doctor(doctor::Doctor),
    Upgrade(upgrade::Upgrade),
    /// Show what happened: who or what woke rules and put them to sleep, and when.
    History {
        /// The rule's name; all rules without it.
        rule: Option<String>,
        /// How many events to show at most.
        #[arg(long, default_value_t = 50)]
        last: usize,
    },
}

/// Exit codes, as promised to scripts. Usage errors (2) are clap's.
const FAILED: u8 = 1;
const BAD_CONFIGURATION: u8 = 64;

/// Runs one command.
pub async fn run(cli: Cli) -> ExitCode {
    // A daemon says what it does, in as much detail as its configuration asks for.
    #[cfg(feature = "proxy")]
    let serves = matches!(&cli.command, Command::Proxy(args) if args.serves());
    #[cfg(not(feature = "proxy"))]
    let serves = false;
    if !serves {
        crate::telemetry::human("warn");
    }
    match cli.command {
        #[cfg(feature = "local")]
        Command::Local(args) => crate::local::run(args, Some(seed::seed_asleep)).await,
        Command::Page(args) => preview(&args, cli.output),
        #[cfg(feature = "proxy")]
        Command::Proxy(args) => proxy::proxy(args, cli.output).await,
        #[cfg(feature = "proxy")]
        Command::Connect(args) => connect::connect(args, cli.output).await,
        #[cfg(feature = "proxy")]
        Command::OfRules(OfRules::Doctor(args)) if args.proxy => match doctor::proxy(&args, cli.output).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(FAILED),
            Err(error) => proxy::finish(Err(error)),
        },
        Command::OfRules(command) => of_rules(command, cli.output).await,
    }
}

fn preview(args: &page::Args, format: Format) -> ExitCode {
    let branding = match environment::branding(&Environment) {
        Ok(branding) => branding,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    match page::run(args, &branding, format) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxymanager: the page cannot be written: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn for_how_long(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= LONGEST && !duration.is_zero() => Ok(duration),
        Ok(_) => Err("allowed: more than nothing and at most 30 days".to_owned()),
        Err(error) => Err(format!("{error}; write it as 90m, 2h or 3days")),
    }
}

async fn of_rules(command: OfRules, format: Format) -> ExitCode {
    let context = match wiring::for_command_line(&Environment).await {
        Ok(context) => context,
        Err(errors) => {
            eprintln!("{errors}");
            #[cfg(feature = "local")]
            eprintln!("To see a local cloud: eval \"$(proxymanager local env)\"");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    if let Err(error) = command::same_listeners(&context).await {
        eprintln!("proxymanager: {error}");
        return ExitCode::from(error.exit_code());
    }
    let result = match command {
        OfRules::List => command::list(&context, format).await,
        OfRules::Status { rule: Some(rule) } => command::status(&context, &rule, format).await,
        OfRules::Status { rule: None } => upgrade::status(&context, format).await,
        OfRules::Wake { rule, no_wait } => command::want(&context, &rule, Wanted::Awake, !no_wait, format).await,
        OfRules::KeepAwake { rule, duration, .. } => command::keep_awake(&context, &rule, duration, format).await,
        OfRules::History { rule, last } => command::history(&context, rule.as_deref(), last, format).await,
        OfRules::Create(args) => create::create(&context, &args, format).await,
        OfRules::Adopt(args) => adopt::adopt(&context, &args, format).await,
        OfRules::Release(args) => release::release(&context, &args, format).await,
        OfRules::Doctor(args) => match doctor::doctor(&context, &args, format).await {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::from(FAILED),
            Err(error) => Err(error),
        },
        OfRules::Upgrade(args) => upgrade::upgrade(&context, &args, format).await,
        OfRules::Sleep { rule, no_wait } => command::want(&context, &rule, Wanted::Asleep, !no_wait, format).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxymanager: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
