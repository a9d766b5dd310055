//! The command line.

use std::process::ExitCode;

use clap::Parser;
use proxymanager::cli::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(Cli::parse()).await
}
