//! `proxymanager local`: start, say where, wait for a signal, leave nothing behind.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    args::Args,
    cloud::{Cloud, SeedAsleep},
    sample, steer,
};

/// Bad usage, as clap's own errors end.
const USAGE: u8 = 2;

/// Runs the local cloud until Ctrl-C or SIGTERM; 0 when it was ended so, 1 when it could not start, 2 when the
/// arguments contradict each other. `seed_asleep` writes the ledger's records of the rules that start asleep.
pub async fn run(args: Args, seed_asleep: Option<SeedAsleep>) -> ExitCode {
    if let Some(name) = &args.serve_sample {
        return sample::run(name, args.sample_port.unwrap_or_default(), args.warm).await;
    }
    if let Some(action) = &args.action {
        return steer::steer(action, args.api_port).await;
    }
    let mut config = match args.config() {
        Ok(config) => config,
        Err(sentence) => return say(&sentence, USAGE),
    };
    config.seed_asleep = seed_asleep;
    // Before anything runs, so that no signal finds a half-started cloud without a handler.
    let (mut interrupt, mut terminate, mut hang_up) = match signals() {
        Ok(signals) => signals,
        Err(error) => return say(&format!("signals cannot be handled: {error}"), 1),
    };
    let cloud = tokio::select! {
        started = Cloud::start(config) => match started {
            Ok(cloud) => cloud,
            Err(error) => return say(&error.to_string(), 1),
        },
        _ = interrupt.recv() => return ExitCode::SUCCESS,
        _ = terminate.recv() => return ExitCode::SUCCESS,
        _ = hang_up.recv() => return ExitCode::SUCCESS,
    };
    let sites: Vec<String> = cloud.seeded.sites.iter().map(|site| cloud.site_url(site)).collect();
    // A reader that has gone is no reason to end.
    let _ = writeln!(io::stdout(), "ready {} (AWS API {})", sites.join(" "), cloud.api_url());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    cloud.stop().await;
    ExitCode::SUCCESS
}

fn signals() -> io::Result<(Signal, Signal, Signal)> {
    Ok((
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ))
}

fn say(sentence: &str, code: u8) -> ExitCode {
    eprintln!("proxymanager local: {sentence}");
    ExitCode::from(code)
}
