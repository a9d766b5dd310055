//! The ledger in a folder, for a single proxy VM. All of it is in memory too, so that reading costs nothing; what is
//! remembered is on the disk first.
//!
//! | file | what |
//! |---|---|
//! | `records/RULE.json` | a rule's record |
//! | `claims.json` | which rules claim a machine |
//! | `history/RULE.jsonl` | its history, a line for each event |
//!
//! The route table, who renews it and how many requests are held lives as long as this process, which is the only one.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::domain::fault::{Fault, FaultKind};
use crate::domain::plan::Event;
use crate::domain::record::{Record, SCHEMA};
use crate::domain::rule::{ResourceId, RuleName};
use crate::domain::table::RouteTable;
use crate::domain::time::{Timestamp, since};

use super::folder::Folder;
use super::memory::Memory;
use super::stored::{decode, encode, event_key, unreadable};
use super::{KEEP_HISTORY, Ledger, LedgerError, StoredTable};

const CLAIMS: &str = "claims.json";

/// Clones share one folder.
#[derive(Debug, Clone)]
pub struct InFolder {
    held: Arc<Mutex<Held>>,
    /// For what needs no disk.
    memory: Memory,
}

#[derive(Debug)]
struct Held {
    memory: Memory,
    folder: Arc<Folder>,
}

/// An item as it lies in its file.
#[derive(Debug, Serialize, Deserialize)]
struct Stored<'a> {
    rule: RuleName,
    version: u64,
    schema: u32,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// A line of a history.
#[derive(Debug, Serialize, Deserialize)]
struct Line<'a> {
    rule: RuleName,
    key: String,
    at: Timestamp,
    schema: u32,
    #[serde(borrow)]
    body: &'a RawValue,
}

impl InFolder {
    /// Reads what the folder remembers.
    ///
    /// # Errors
    /// When a file cannot be read or is not what this program writes: deciding without it could stop what is in use.
    pub fn open(folder: Arc<Folder>) -> Result<Self, LedgerError> {
        let memory = Memory::default();
        for name in folder.list("records").map_err(|error| failed("records", error))? {
            let bytes = read(&folder, &name)?;
            let stored: Stored<'_> = parse(&name, &bytes)?;
            let body = without_lease(&name, &stored)?;
            memory.keep(stored.rule, stored.version, stored.schema, &body);
        }
        if let Some(bytes) = folder.get(CLAIMS).map_err(|error| failed(CLAIMS, error))? {
            memory.set_claims(parse(CLAIMS, &bytes)?);
        }
        for name in folder.list("history").map_err(|error| failed("history", error))? {
            history(&memory, &folder, &name)?;
        }
        let held = Held {
            memory: memory.clone(),
            folder,
        };
        Ok(InFolder {
            held: Arc::new(Mutex::new(held)),
            memory,
        })
    }

    /// The folder, for what else has to survive.
    pub fn folder(&self) -> Arc<Folder> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.folder.clone()
    }

    /// Runs one step to its end, even when whoever wanted it is gone: memory and disk never part.
    async fn step<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Held) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let held = self.held.clone();
        let step = tokio::task::spawn_blocking(move || work(&held.lock().unwrap_or_else(PoisonError::into_inner)));
        step.await.map_err(|error| failed(what, error))?
    }
}

/// A record as it is when its owner has died. The folder is locked, so nobody else has it, and what was begun under the lease
/// stands in the record. What cannot be read is left as it is: it is told when its rule is asked for.
fn without_lease(name: &str, stored: &Stored<'_>) -> Result<String, LedgerError> {
    let body = stored.body.get();
    match decode::<Record>(name, stored.schema, body) {
        Ok(record) if record.lease.is_some() => encode(name, &Record { lease: None, ..record }),
        Ok(_) | Err(_) => Ok(body.to_owned()),
    }
}

/// A history without the line that was being written when an earlier process ended, and without what has expired. A line that
/// cannot be read is passed over: nothing is decided by it.
fn history(memory: &Memory, folder: &Folder, name: &str) -> Result<(), LedgerError> {
    let bytes = read(folder, name)?;
    let text = String::from_utf8_lossy(&bytes);
    let (whole, torn) = text.rsplit_once('\n').unwrap_or(("", &text));
    let read = |line: &str| -> Result<(Timestamp, RuleName, String, String), LedgerError> {
        let line: Line<'_> = serde_json::from_str(line).map_err(|error| unreadable(name, error))?;
        let _: Event = decode(name, line.schema, line.body.get())?;
        Ok((line.at, line.rule, line.key, line.body.get().to_owned()))
    };
    let lines: Vec<_> = whole.lines().map(|line| (line, read(line))).collect();
    let newest = lines.iter().filter_map(|(_, read)| Some(read.as_ref().ok()?.0)).max();
    let (mut kept, mut expired) = (String::new(), false);
    for (number, (line, read)) in (1..).zip(lines) {
        match read {
            Ok((at, ..)) if newest.is_some_and(|newest| since(newest, at) >= KEEP_HISTORY) => {
                expired = true;
                continue;
            }
            Ok((at, rule, key, body)) => memory.keep_event(rule, key, at, &body),
            Err(error) => tracing::warn!(line = number, %error, "a line of the history is passed over"),
        }
        kept.push_str(line);
        kept.push('\n');
    }
    if expired || !torn.is_empty() {
        folder.put(name, kept.as_bytes()).map_err(|error| failed(name, error))?;
    }
    Ok(())
}

fn read(folder: &Folder, name: &str) -> Result<Vec<u8>, LedgerError> {
    let bytes = folder.get(name).map_err(|error| failed(name, error))?;
    bytes.ok_or_else(|| unreadable(name, "it is gone"))
}

fn parse<'b, T: Deserialize<'b>>(name: &str, bytes: &'b [u8]) -> Result<T, LedgerError> {
    serde_json::from_slice(bytes).map_err(|error| unreadable(name, error))
}

fn failed(what: &str, error: impl ToString) -> LedgerError {
    Fault::new(FaultKind::Other, &format!("ledger:{what}"), error.to_string()).into()
}

/// The text of a record's file.
fn file_of(record: &Record) -> Result<Vec<u8>, LedgerError> {
    let body = encode("record", record)?;
    let body = RawValue::from_string(body).map_err(|error| unreadable("record", error))?;
    let stored = Stored {
        rule: record.rule.clone(),
        version: record.version + 1,
        schema: record.schema,
        body: &body,
    };
    Ok(encode("record", &stored)?.into_bytes())
}

/// A file's name for a rule's name, which may have slashes and be as long as a file's name can be.
fn file_name(rule: &RuleName) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if rule.0.len() <= 100 && !rule.0.is_empty() && rule.0.bytes().all(plain) {
        return rule.0.clone();
    }
    let digest = Sha256::digest(rule.0.as_bytes());
    let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let readable: String = rule
        .0
        .bytes()
        .map(|byte| if plain(byte) { byte as char } else { '_' })
        .take(60)
        .collect();
    format!("{readable}.{digest}")
}

/// What is in memory answers at once.
fn now<T>(work: impl Future<Output = Result<T, LedgerError>>) -> Result<T, LedgerError> {
    work.now_or_never()
        .unwrap_or_else(|| Err(failed("memory", "it waited")))
}

impl Ledger for InFolder {
    async fn load(&self, rule: &RuleName) -> Result<Option<Record>, LedgerError> {
        let rule = rule.clone();
        self.step("load", move |held| now(held.memory.load(&rule))).await
    }

    async fn load_all(&self, rules: &[RuleName]) -> Result<Vec<Result<Option<Record>, LedgerError>>, LedgerError> {
        let rules = rules.to_vec();
        self.step("load", move |held| now(held.memory.load_all(&rules))).await
    }

    async fn store(&self, record: &Record) -> Result<u64, LedgerError> {
        let record = record.clone();
        self.step("store", move |held| {
            if held
                .memory
                .version(&record.rule)
                .is_some_and(|version| version != record.version)
            {
                return Err(LedgerError::Lost);
            }
            let name = format!("records/{}.json", file_name(&record.rule));
            let bytes = file_of(&record)?;
            held.folder.put(&name, &bytes).map_err(|error| failed(&name, error))?;
            now(held.memory.store(&record))
        })
        .await
    }

    async fn load_table(&self) -> Result<Option<StoredTable>, LedgerError> {
        self.memory.load_table().await
    }

    async fn claim_table(&self, owner: &str, at: Timestamp, until: Timestamp) -> Result<bool, LedgerError> {
        self.memory.claim_table(owner, at, until).await
    }

    async fn store_table(&self, table: &RouteTable) -> Result<(), LedgerError> {
        self.memory.store_table(table).await
    }

    async fn own(
        &self,
        rule: &RuleName,
        machines: &[ResourceId],
        no_longer: &[ResourceId],
        known: &(dyn Fn(&RuleName) -> bool + Sync),
    ) -> Result<Vec<Option<RuleName>>, LedgerError> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let before = held.memory.claims();
        let others = now(held.memory.own(rule, machines, no_longer, known))?;
        let after = held.memory.claims();
        if before != after {
            let put = encode(CLAIMS, &after).map(String::into_bytes);
            let put = put.and_then(|bytes| held.folder.put(CLAIMS, &bytes).map_err(|error| failed(CLAIMS, error)));
            if let Err(error) = put {
                held.memory.set_claims(before);
                return Err(error);
            }
        }
        Ok(others)
    }

    async fn claimants(&self, machine: &ResourceId) -> Result<Vec<RuleName>, LedgerError> {
        let machine = machine.clone();
        self.step("claims", move |held| now(held.memory.claimants(&machine)))
            .await
    }

    async fn enter_hold(&self, at: Timestamp, window: Duration) -> Result<u32, LedgerError> {
        self.step("held", move |held| now(held.memory.enter_hold(at, window)))
            .await
    }

    async fn append(&self, rule: &RuleName, events: &[Event]) -> Result<(), LedgerError> {
        let (rule, events) = (rule.clone(), events.to_vec());
        self.step("history", move |held| {
            let mut lines = String::new();
            for (place, event) in events.iter().enumerate() {
                let body = encode("event", event)?;
                let key = event_key(place, event, &body);
                if held.memory.has_event(&rule, &key) {
                    continue;
                }
                let body = RawValue::from_string(body).map_err(|error| unreadable("event", error))?;
                let line = Line {
                    rule: rule.clone(),
                    key,
                    at: event.at,
                    schema: SCHEMA,
                    body: &body,
                };
                lines.push_str(&encode("event", &line)?);
                lines.push('\n');
            }
            if !lines.is_empty() {
                let name = format!("history/{}.jsonl", file_name(&rule));
                added(&held.folder, &name, lines.as_bytes()).map_err(|error| failed(&name, error))?;
            }
            now(held.memory.append(&rule, &events))
        })
        .await
    }

    async fn history(&self, rule: &RuleName, most: usize) -> Result<Vec<Event>, LedgerError> {
        let rule = rule.clone();
        self.step("history", move |held| now(held.memory.history(&rule, most)))
            .await
    }
}

fn added(folder: &Folder, name: &str, bytes: &[u8]) -> io::Result<()> {
    match folder.append(name, bytes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => folder.put(name, bytes),
        done => done,
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
