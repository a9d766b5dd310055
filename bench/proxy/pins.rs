//! Which cores a process may use: proxies one, everything else the others.

use std::process::Command;

use crate::usage::cores;

/// This process and all that it starts from now on leave one core to the proxies.
pub fn generators() {
    let cores = cores();
    if cores > 1 {
        pin(std::process::id(), &format!("1-{}", cores - 1));
    }
}

/// As before [`generators`].
pub fn nobody() {
    pin(std::process::id(), &format!("0-{}", cores() - 1));
}

/// A proxy, or a part of one.
pub fn front(process: u32) {
    pin(process, "0");
}

fn pin(process: u32, cores: &str) {
    let process = process.to_string();
    let words = ["--all-tasks", "--cpu-list", "--pid", cores, &process];
    let output = Command::new("taskset").args(words).output().expect("taskset is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
