//! Child processes that never outlive us: each in its own process group, killed as a group, and by the kernel when we
//! die without a word.

use std::{
    collections::BTreeSet,
    io,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
};

use super::log::Log;
use crate::child::die_with_us;

/// The process groups that are alive, so that all can be killed at once whoever owns them.
#[derive(Debug, Clone, Default)]
pub struct Processes(Arc<Mutex<Alive>>);

#[derive(Debug, Default)]
struct Alive {
    groups: BTreeSet<i32>,
    /// Nothing is started any more.
    ended: bool,
}

impl Processes {
    /// Starts `command` in a process group of its own; its output goes to the log under `name`.
    pub fn spawn(&self, name: &str, mut command: Command, log: &Arc<Log>) -> io::Result<Program> {
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        die_with_us(&mut command);
        // Under the lock, so that none is started behind the back of who ends them all.
        let (mut child, group) = {
            let mut alive = self.alive();
            if alive.ended {
                return Err(io::Error::other("the local cloud is ending"));
            }
            let child = command.spawn()?;
            let group = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
            alive.groups.insert(group);
            (child, group)
        };
        if let Some(out) = child.stdout.take() {
            tokio::spawn(copy_lines(name.to_owned(), out, Arc::clone(log)));
        }
        if let Some(err) = child.stderr.take() {
            tokio::spawn(copy_lines(name.to_owned(), err, Arc::clone(log)));
        }
        Ok(Program {
            child,
            group: Group(group),
            processes: self.clone(),
        })
    }

    /// Does something while no program is started.
    pub fn while_none_starts<T>(&self, what: impl FnOnce() -> T) -> T {
        let _alive = self.alive();
        what()
    }

    /// Kills every group that is alive, starts no other, and says which they were.
    pub fn kill_all(&self) -> BTreeSet<i32> {
        let mut alive = self.alive();
        alive.ended = true;
        for group in &alive.groups {
            Group(*group).signal(Signal::SIGKILL);
        }
        std::mem::take(&mut alive.groups)
    }

    /// As [`Processes::kill_all`], and waits, for at most ten seconds, until the kernel knows none of them.
    /// `release` drops the programs, whoever owns them: the kernel knows a dead child until its owner lets go.
    pub async fn end_all(&self, release: impl FnOnce()) {
        let groups = self.kill_all();
        release();
        for _ in 0..2000 {
            if groups.iter().all(|group| killpg(Pid::from_raw(*group), None).is_err()) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    fn alive(&self) -> MutexGuard<'_, Alive> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process group.
#[derive(Debug, Clone, Copy)]
pub struct Group(i32);

impl Group {
    /// Sends a signal to every process of the group. A group that is gone is fine.
    pub fn signal(self, signal: Signal) {
        if self.0 > 0 {
            let _ = killpg(Pid::from_raw(self.0), signal);
        }
    }
}

/// A running program. Dropped, it is killed with everything it started in its group.
#[derive(Debug)]
pub struct Program {
    child: Child,
    group: Group,
    processes: Processes,
}

impl Program {
    pub fn group(&self) -> Group {
        self.group
    }

    /// Waits for the program itself to end; may be called again.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Whether the program itself has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills the group and waits until the program itself is gone.
    pub async fn kill(mut self) {
        self.group.signal(Signal::SIGKILL);
        let _ = self.child.wait().await;
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.group.signal(Signal::SIGKILL);
        self.processes.alive().groups.remove(&self.group.0);
    }
}

async fn copy_lines(name: String, from: impl AsyncRead + Unpin, log: Arc<Log>) {
    let mut lines = BufReader::new(from).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        log.output(&name, String::from_utf8_lossy(&line).trim_end());
    }
}
