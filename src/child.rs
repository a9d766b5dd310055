//! Child processes.

use nix::sys::signal::Signal;
use tokio::process::Command;

/// The kernel kills the program when we are killed without a chance to do it ourselves. Other systems than Linux have
/// nothing like it.
#[cfg(target_os = "linux")]
pub fn die_with_us(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and touches nothing but the new process.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from));
    }
}

#[cfg(not(target_os = "linux"))]
pub fn die_with_us(_: &mut Command) {}
