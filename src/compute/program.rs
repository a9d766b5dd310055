//! Programs on this machine, for demonstrations, tests and small servers. A resource is `program:COMMAND`; the command is
//! run by `sh -c` in a process group of its own and outlives the daemon, as a machine would.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, SystemClock};
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::policy::StopKind;
use crate::domain::rule::ResourceId;
use crate::domain::seen::{Power, ResourceSeen};
use crate::domain::time::Timestamp;
use crate::ledger::folder::Folder;

use super::Compute;

/// What such an id begins with.
pub const PREFIX: &str = "program:";
const FILE: &str = "programs.json";
/// How long a program may take to end by itself. Shorter than a call may take.
const GRACE: Duration = Duration::from_secs(4);
const STEP: Duration = Duration::from_millis(20);

/// Clones share their programs.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: Arc<Folder>,
    running: Arc<Mutex<BTreeMap<ResourceId, Running>>>,
    /// Where relative paths of commands begin.
    home: PathBuf,
}

/// A program that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    /// The leader of its process group.
    group: i32,
    /// In clock ticks since the machine was booted (proc(5), `starttime`): with the number, it is this process and no other.
    begun: u64,
    at: Timestamp,
}

impl Programs {
    /// Finds again what an earlier daemon has started.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(folder: Arc<Folder>, home: PathBuf) -> io::Result<Self> {
        let known = match folder.get(FILE)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other)?,
            None => BTreeMap::new(),
        };
        Ok(Programs {
            folder,
            running: Arc::new(Mutex::new(known)),
            home,
        })
    }

    fn running(&self, id: &ResourceId) -> Option<Running> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(id).filter(|one| is_up(one)).cloned()
    }

    fn begin(&self, id: &ResourceId) -> io::Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.get(id).is_some_and(is_up) {
            return Ok(());
        }
        let command = id.0.strip_prefix(PREFIX).unwrap_or(&id.0);
        let mut child = tokio::process::Command::new("/bin/sh")
            .args(["-c", command])
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .ok_or_else(|| io::Error::other("it ended at once"))?;
        let begun = started(group).unwrap_or_default();
        // Whoever started it has to take note of its end; without that it would stay as a zombie.
        tokio::spawn(async move { child.wait().await });
        let at = SystemClock.now();
        running.insert(id.clone(), Running { group, begun, at });
        let noted = serde_json::to_vec(&*running).map_err(io::Error::other);
        noted.and_then(|bytes| self.folder.put(FILE, &bytes))
    }

    async fn end(&self, id: &ResourceId) -> io::Result<()> {
        let Some(one) = self.running(id) else {
            return Ok(());
        };
        let group = Pid::from_raw(one.group);
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            match killpg(group, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            }
            for _ in 0..GRACE.as_millis() / STEP.as_millis() {
                // The group as a whole: what its leader leaves behind would keep its port.
                if killpg(group, None) == Err(Errno::ESRCH) {
                    return Ok(());
                }
                tokio::time::sleep(STEP).await;
            }
        }
        Err(io::Error::other("it does not end"))
    }

    /// Ends all of them: when the daemon is run by hand, nothing stays behind.
    pub async fn end_all(&self) {
        let all: Vec<ResourceId> = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.keys().cloned().collect()
        };
        for id in all {
            if let Err(error) = self.end(&id).await {
                tracing::warn!(program = %id, %error, "the program could not be ended");
            }
        }
    }
}

/// Whether the process is there and is the one that was started. A zombie is not.
fn is_up(one: &Running) -> bool {
    started(one.group) == Some(one.begun)
}

/// The start time of a process (proc(5): field 22 of `/proc/PID/stat`; the name in field 2 may have spaces and brackets).
fn started(process: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let begun = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(begun)
}

fn failed(operation: &str, id: &ResourceId, error: &io::Error) -> Fault {
    Fault::new(FaultKind::Other, operation, format!("{id}: {error}"))
}

impl Compute for Programs {
    async fn describe(&self, ids: &[ResourceId]) -> Result<Vec<ResourceSeen>, Fault> {
        let seen = |id: &ResourceId| {
            let running = self.running(id);
            ResourceSeen {
                id: id.clone(),
                power: if running.is_some() {
                    Power::Running
                } else {
                    Power::Stopped
                },
                launched: running.map(|one| one.at),
                changed_by_user: None,
                fell_back: None,
                scaling_group: None,
                other_owner: None,
                other_way: None,
            }
        };
        Ok(ids.iter().map(seen).collect())
    }

    async fn start(&self, ids: &[ResourceId]) -> Result<(), Fault> {
        let begin = |id: &ResourceId| self.begin(id).map_err(|error| failed("program:start", id, &error));
        let mut outcomes: Vec<_> = ids.iter().map(begin).filter(Result::is_err).collect();
        outcomes.pop().unwrap_or(Ok(()))
    }

    async fn stop(&self, ids: &[ResourceId], _kind: StopKind) -> Result<(), Fault> {
        let ends = ids
            .iter()
            .map(async |id| self.end(id).await.map_err(|error| failed("program:stop", id, &error)));
        let outcomes = futures_util::future::join_all(ends).await;
        outcomes.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
