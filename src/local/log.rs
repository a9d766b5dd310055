//! What happened: the load balancer's access log and the output of the programs, kept to look at and echoed to stderr.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

/// How many entries of each kind are kept.
const KEPT: usize = 20_000;

/// One request as the load balancer saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Access {
    pub at: String,
    pub client: String,
    pub method: String,
    pub host: String,
    /// Path and query as sent.
    pub path: String,
    pub status: u16,
    pub rule: Option<String>,
    pub group: Option<String>,
    /// `lambda`, `INSTANCE:PORT`, or `-` when the load balancer answered itself.
    pub target: String,
    pub millis: u64,
    /// Why the load balancer answered itself, or what the target did wrong; empty when all went well.
    pub reason: String,
}

/// One line that a program wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    pub program: String,
    pub line: String,
}

#[derive(Debug, Default)]
struct Kept {
    access: VecDeque<Access>,
    output: VecDeque<Line>,
}

/// The logs.
#[derive(Debug, Default)]
pub struct Log {
    echo: bool,
    kept: Mutex<Kept>,
}

impl Log {
    /// Logs that are echoed to stderr, or not.
    pub fn new(echo: bool) -> Self {
        Self {
            echo,
            kept: Mutex::default(),
        }
    }

    pub fn access(&self, entry: Access) {
        if self.echo {
            let Access {
                method,
                host,
                path,
                status,
                target,
                millis,
                reason,
                ..
            } = &entry;
            let reason = if reason.is_empty() {
                String::new()
            } else {
                format!(" ({reason})")
            };
            eprintln!("{method} {host}{path} {status} from {target} in {millis} ms{reason}");
        }
        push(&mut self.kept().access, entry);
    }

    pub fn output(&self, program: &str, line: &str) {
        if self.echo {
            eprintln!("[{program}] {line}");
        }
        push(
            &mut self.kept().output,
            Line {
                program: program.to_owned(),
                line: line.to_owned(),
            },
        );
    }

    /// The access log, oldest first.
    pub fn accesses(&self) -> Vec<Access> {
        self.kept().access.iter().cloned().collect()
    }

    /// The output of the programs, oldest first.
    pub fn lines(&self) -> Vec<Line> {
        self.kept().output.iter().cloned().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push<T>(into: &mut VecDeque<T>, entry: T) {
    if into.len() == KEPT {
        into.pop_front();
    }
    into.push_back(entry);
}
