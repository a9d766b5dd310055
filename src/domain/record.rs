//! What the ledger remembers of a rule between two looks.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::fault::FaultKind;
use super::phase::{Phase, Step};
use super::rule::{Action, Problem, ResourceId, RouteId, RuleName, Side};
use super::seen::Wanted;
use super::time::{Timestamp, after, backoff};
use super::today::DailyWakes;

/// The schema of [`Record`]. A record of a later schema is refused, never guessed at.
pub const SCHEMA: u32 = 1;

/// How long after our own write a contradicting Describe is taken for stale: eventual consistency of the ELBv2 and EC2
/// Describe calls has no documented bound, a minute is far beyond what is reported.
pub const DESCRIBE_IS_STALE_FOR: Duration = Duration::from_secs(60);

/// The pause after a first failure; doubled with each further one, up to [`LONGEST_PAUSE`].
pub const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause between two attempts.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How many wakes the estimate of the next one looks back on.
pub const WAKES_REMEMBERED: usize = 8;

/// How [`Record::wanted_by`] begins when an operator said it.
pub const COMMAND: &str = "command of ";

/// One rule's memory; one ledger item.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    pub schema: u32,
    /// Raised by every write; 0 before the first.
    pub version: u64,
    pub rule: RuleName,
    pub wanted: Wanted,
    /// Whether `wanted` was ever decided. Until a first look has seen the machines it is not, and nothing follows from it.
    pub adopted: bool,
    /// When `wanted` last changed; when it was by hand, the time EC2 gives for it.
    pub wanted_since: Timestamp,
    /// Who or what changed it.
    pub wanted_by: String,
    /// The last request that counted as use.
    pub last_request: Option<Timestamp>,
    /// When the wake under way began: at the wish, or when an awake rule was found dead.
    #[serde(default)]
    pub waking_since: Option<Timestamp>,
    /// The moment a wake under way becomes a failed one. None when no wake is under way.
    pub deadline_at: Option<Timestamp>,
    /// When we last asked for a start. Written before the call.
    pub last_start: Option<Timestamp>,
    /// When we last asked for a stop. Written before the call, taken back when the call surely had no effect.
    pub last_stop: Option<Timestamp>,
    /// When a machine was last known to go down other than by us. Health seen up to a minute later may be older than that.
    #[serde(default)]
    pub last_down: Option<Timestamp>,
    /// How many starts this wake has asked for, those taken back not counted.
    #[serde(default)]
    pub starts: u32,
    /// The machines that somebody stopped by hand while the rule as a whole is wanted, and when.
    #[serde(default)]
    pub left_stopped: BTreeMap<ResourceId, Timestamp>,
    /// What failed and is not over. One for each kind: a failed start must not end the pause of a failed park.
    #[serde(default)]
    pub failures: BTreeMap<Attempt, Failure>,
    /// R's final say before we touched it, by route.
    pub originals: BTreeMap<RouteId, Vec<Action>>,
    /// Our last successful `ModifyRule`, by route.
    pub flips: BTreeMap<RouteId, Flip>,
    /// A `ModifyRule` under way, by route. Written before the call; what is left after it had no answer, and for a while
    /// nobody knows which side the route is on.
    #[serde(default)]
    pub asked: BTreeMap<RouteId, Flip>,
    /// When P was last put right, by route: a Describe that does not show it yet is no reason to make another.
    #[serde(default)]
    pub parks: BTreeMap<RouteId, Timestamp>,
    /// Since when all routes are known to lead to the waker, while the rule is wanted asleep.
    #[serde(default)]
    pub settling_since: Option<Timestamp>,
    /// Since when the rule has been awake without a break.
    #[serde(default)]
    pub awake_since: Option<Timestamp>,
    /// The end of the last minute with a request to the backend, or whose requests nobody can tell.
    #[serde(default)]
    pub last_use: Option<Timestamp>,
    /// The requests of all minutes up to here have been counted since the rule is awake.
    #[serde(default)]
    pub counted_until: Option<Timestamp>,
    /// Put to sleep as idle: the requests of the minutes from here on have yet to be proven none.
    #[serde(default)]
    pub prove_from: Option<Timestamp>,
    /// An operator's word: not idle before this.
    #[serde(default)]
    pub keep_awake_until: Option<Timestamp>,
    /// Why a rule without requests is kept awake, in words.
    #[serde(default)]
    pub kept_by: Option<String>,
    /// How many times requests have woken it today, while its policy limits that.
    #[serde(default)]
    pub woken_today: DailyWakes,
    /// How long the last wakes took, oldest first, in seconds.
    pub wakes: Vec<u32>,
    pub snapshot: Snapshot,
    /// Not before this does anybody need to look, unless something happens.
    pub next_check: Timestamp,
    /// A Tick that finds the rule at rest and nothing changed needs no look before this.
    #[serde(default)]
    pub rests_until: Option<Timestamp>,
    /// A digest of what the last look saw: whether anything changed since. Another version of this program may compute
    /// another one, which costs a look.
    #[serde(default)]
    pub digest: Option<u64>,
    pub lease: Option<Lease>,
}

/// Our own write of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flip {
    pub side: Side,
    pub at: Timestamp,
}

/// The last failure and when the next attempt may be made.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Failure {
    pub of: Attempt,
    /// In words.
    pub reason: String,
    pub at: Timestamp,
    /// In a row, of the same kind.
    pub attempts: u32,
    pub retry_at: Timestamp,
    /// The same call will be refused until somebody changes something.
    #[serde(default)]
    pub lasting: bool,
    /// None when it was no call that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<FaultKind>,
}

/// What can fail, each with a pause of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attempt {
    Look,
    Park,
    Flip,
    Start,
    Stop,
    /// Reading the metrics.
    Count,
}

impl Failure {
    /// One more failure: the pause doubles as long as the same thing fails.
    pub fn next(last: Option<&Failure>, now: Timestamp, of: Attempt, pause: Duration, reason: String) -> Self {
        let attempts = last.filter(|last| last.of == of).map_or(0, |last| last.attempts);
        let retry_at = after(now, backoff(pause, LONGEST_PAUSE, attempts));
        Failure {
            of,
            reason,
            at: now,
            attempts: attempts.saturating_add(1),
            retry_at,
            lasting: false,
            kind: None,
        }
    }
}

/// What everybody who only wants to know is told, without a look of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Snapshot {
    #[serde(flatten)]
    pub phase: Phase,
    pub step: Step,
    pub at: Timestamp,
    pub resources: Vec<ResourceId>,
    /// All problems, also while a rule that may wake is waking. Those that only newer code knows are passed over: each look
    /// finds them anew.
    #[serde(default, deserialize_with = "those_known")]
    pub problems: Vec<Problem>,
    /// Whether all routes lead to the backend, by our own writes or as seen.
    pub switched: bool,
}

fn those_known<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Problem>, D::Error> {
    let all = Vec::<serde_json::Value>::deserialize(from)?;
    Ok(all
        .into_iter()
        .filter_map(|one| serde_json::from_value(one).ok())
        .collect())
}

/// The right to act on a rule, for a limited time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    pub owner: String,
    pub until: Timestamp,
}

impl Record {
    /// The record of a rule seen for the first time: the first look takes what it sees for what is wanted.
    pub fn new(rule: RuleName, now: Timestamp) -> Self {
        Record {
            schema: SCHEMA,
            version: 0,
            rule,
            wanted: Wanted::Awake,
            adopted: false,
            wanted_since: now,
            wanted_by: "first seen".to_owned(),
            last_request: None,
            waking_since: None,
            deadline_at: None,
            last_start: None,
            last_stop: None,
            last_down: None,
            starts: 0,
            left_stopped: BTreeMap::new(),
            failures: BTreeMap::new(),
            originals: BTreeMap::new(),
            flips: BTreeMap::new(),
            asked: BTreeMap::new(),
            parks: BTreeMap::new(),
            settling_since: None,
            awake_since: None,
            last_use: None,
            counted_until: None,
            prove_from: None,
            keep_awake_until: None,
            kept_by: None,
            woken_today: DailyWakes::default(),
            wakes: Vec::new(),
            snapshot: Snapshot {
                phase: Phase::Asleep,
                step: Step::Resting,
                at: now,
                resources: Vec::new(),
                problems: Vec::new(),
                switched: false,
            },
            next_check: now,
            rests_until: None,
            digest: None,
            lease: None,
        }
    }

    /// Notes one more failure.
    pub fn note_failure(&mut self, now: Timestamp, of: Attempt, pause: Duration, reason: String) {
        let failure = Failure::next(self.failures.get(&of), now, of, pause, reason);
        self.failures.insert(of, failure);
    }

    /// The newest failure that is not over.
    pub fn failure(&self) -> Option<&Failure> {
        self.failures.values().max_by_key(|failure| failure.at)
    }

    /// Whether an operator said what is wanted.
    pub fn by_command(&self) -> bool {
        self.wanted_by.starts_with(COMMAND)
    }

    /// Whether somebody else than `owner` has the lease.
    pub fn leased_to_another(&self, now: Timestamp, owner: &str) -> bool {
        self.lease
            .as_ref()
            .is_some_and(|lease| lease.owner != owner && lease.until > now)
    }

    /// The same but for what every write changes: nothing worth a write happened between equal ones.
    pub fn same_as(&self, other: &Record) -> bool {
        let bare = |r: &Record| Record {
            version: 0,
            lease: None,
            next_check: Timestamp::UNIX_EPOCH,
            rests_until: None,
            snapshot: Snapshot {
                at: Timestamp::UNIX_EPOCH,
                ..r.snapshot.clone()
            },
            ..r.clone()
        };
        bare(self) == bare(other)
    }
}
