//! Which cores a process may use: proxies one, everything else the others.

use std::process::Command;
use std::thread::available_parallelism;

/// This process and all that it starts from now on.
pub fn generators() {
    let cores = available_parallelism().map_or(1, usize::from);
    if cores > 1 {
        pin(std::process::id(), &format!("1-{}", cores - 1));
    }
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
