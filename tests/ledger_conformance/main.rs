//! What every ledger promises, asked of each of them: the one in memory, the one in a folder, and DynamoDB as moto speaks it.

mod database;
#[path = "../support/moto.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod moto;
mod promises;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use moto::Moto;
use proxymanager::aws::Aws;
use proxymanager::domain::plan::{Event, EventKind};
use proxymanager::domain::record::{Record, SCHEMA};
use proxymanager::domain::rule::{ResourceId, RuleName};
use proxymanager::domain::table::RouteTable;
use proxymanager::domain::time::{Timestamp, after};
use proxymanager::ledger::dynamodb::DynamoDb;
use proxymanager::ledger::file::InFolder;
use proxymanager::ledger::folder::Folder;
use proxymanager::ledger::memory::Memory;
use proxymanager::ledger::{Ledger, LedgerError, lease};

const SECOND: Duration = Duration::from_secs(1);

/// A ledger that several can open at once, as several environments of the function do.
trait Shared: Sync {
    type Ledger: Ledger;
    fn open(&self) -> Self::Ledger;
}

impl Shared for Memory {
    type Ledger = Memory;
    fn open(&self) -> Memory {
        self.clone()
    }
}

/// A folder, which one process has and its tasks share.
struct OneFolder {
    ledger: InFolder,
    _place: tempfile::TempDir,
}

impl OneFolder {
    fn new() -> Self {
        let place = tempfile::TempDir::new().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        OneFolder {
            ledger: InFolder::open(Arc::new(folder)).unwrap(),
            _place: place,
        }
    }
}

impl Shared for OneFolder {
    type Ledger = InFolder;
    fn open(&self) -> InFolder {
        self.ledger.clone()
    }
}

/// A table of a moto server.
struct Table {
    moto: Arc<Moto>,
    name: &'static str,
}

impl Table {
    fn new(name: &'static str) -> Self {
        let moto = Moto::shared();
        moto.create_table(name);
        Table { moto, name }
    }

    fn client(&self) -> Client {
        let url = format!("http://127.0.0.1:{}", self.moto.port);
        let environment = BTreeMap::from([
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &url),
        ]);
        Aws::from_environment(&environment).unwrap().dynamodb()
    }

    /// All items of a partition.
    async fn items(&self, pk: &str) -> Vec<BTreeMap<String, AttributeValue>> {
        let query = self.client().query().table_name(self.name);
        let query = query.key_condition_expression("pk = :pk");
        let query = query.expression_attribute_values(":pk", AttributeValue::S(pk.to_owned()));
        let items: Result<Vec<_>, _> = query.into_paginator().items().send().collect().await;
        items
            .unwrap()
            .into_iter()
            .map(|item| item.into_iter().collect())
            .collect()
    }

    /// Overwrites one attribute of an item.
    async fn spoil(&self, pk: &str, sk: &str, attribute: &str, value: AttributeValue) {
        let update = self.client().update_item().table_name(self.name);
        let update = update
            .key("pk", AttributeValue::S(pk.to_owned()))
            .key("sk", AttributeValue::S(sk.to_owned()))
            .update_expression("SET #a = :value")
            .expression_attribute_names("#a", attribute)
            .expression_attribute_values(":value", value);
        update.send().await.unwrap();
    }
}

impl Shared for Table {
    type Ledger = DynamoDb;
    fn open(&self) -> DynamoDb {
        DynamoDb::new(self.client(), self.name)
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(work)
}

/// As many at once, each with a ledger of its own, all starting together.
fn at_once<S: Shared, T: Send>(shared: &S, many: usize, work: impl AsyncFn(usize, S::Ledger) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(many);
    let one = |number: usize| {
        run(async {
            let ledger = shared.open();
            barrier.wait();
            work(number, ledger).await
        })
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..many).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn at(seconds: u32) -> Timestamp {
    after("2026-01-01T00:00:00Z".parse().unwrap(), seconds * SECOND)
}

fn name(text: &str) -> RuleName {
    RuleName(text.to_owned())
}

fn record(rule: &str) -> Record {
    Record::new(name(rule), at(0))
}

/// A table with that many listener rules; about 300 bytes of JSON each.
fn table(read_at: Timestamp, rules: usize) -> RouteTable {
    let rule = |number: usize| {
        serde_json::json!({
            "arn": format!("arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener-rule/app/a/1/2/{number}"),
            "priority": number + 1,
            "conditions": [{"Field": "path-pattern", "PathPatternConfig": {"Values": [format!("/ä€𝄞/{number}/{read_at}")]}}],
            "actions": [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}],
            "tags": {"autostopping:idle": "15m"},
        })
    };
    let rules: Vec<_> = (0..rules).map(rule).collect();
    let table = serde_json::json!({
        "schema": SCHEMA,
        "read_at": read_at,
        "swept_at": read_at,
        "listeners": [{"arn": "l", "load_balancer": "b", "port": 80, "waker": null, "controller": null, "rules": rules}],
    });
    serde_json::from_value(table).unwrap()
}

fn event(seconds: u32, why: &str) -> Event {
    Event {
        at: at(seconds),
        kind: EventKind::Woke,
        why: why.to_owned(),
        took: None,
    }
}

macro_rules! each_keeps {
    ($($promise:ident)*) => {
        mod memory {
            $(#[test] fn $promise() { super::promises::$promise(&super::Memory::default()); })*
        }
        mod file {
            $(#[test] fn $promise() { super::promises::$promise(&super::OneFolder::new()); })*
        }
        mod dynamodb {
            $(#[test] fn $promise() { super::promises::$promise(&super::Table::new(stringify!($promise))); })*
        }
    };
}

each_keeps! {
    a_record_comes_back_as_it_was_written
    of_two_writers_the_second_has_lost
    of_many_writers_at_once_one_wins
    a_lease_has_one_owner_at_a_time
    of_many_who_want_a_lease_one_gets_it
    one_of_many_claims_the_table
    the_table_read_last_wins
    a_large_table_is_never_seen_in_halves
    claims_on_machines_are_mutual
    held_requests_are_counted_over_two_windows
    history_comes_newest_first
    what_a_later_version_wrote_is_left_alone
    many_records_come_in_their_order
    a_spoilt_record_harms_no_other
}
