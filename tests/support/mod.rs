//! What the tests against real components share.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::disallowed_methods, reason = "real processes are waited for in real time")]

pub mod aws;
pub mod counting;
pub mod emulator;
pub mod events;
pub mod moto;
pub mod world;

use std::process::{Command, Output};

/// Runs the command line with this environment and nothing else.
pub fn proxymanager(environment: &[(String, String)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxymanager"));
    command
        .args(arguments)
        .env_clear()
        .envs(environment.iter().map(|(key, value)| (key, value)));
    command.output().expect("the command line runs")
}

/// As [`proxymanager`], and it has to succeed; its standard output.
pub fn succeed(environment: &[(String, String)], arguments: &[&str]) -> String {
    let output = proxymanager(environment, arguments);
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{arguments:?} failed with {:?}\n{out}\n{error}",
        output.status.code()
    );
    out.into_owned()
}
