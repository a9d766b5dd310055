//! The self-check: whether this code, with this environment and role, can read what it works with. It changes nothing and
//! wakes nobody. Only who may call `lambda:InvokeFunction` can ask for it.

use std::fmt::Display;

use serde_json::{Value, json};

use super::Configured;
use crate::activity::Metrics;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::domain::record::SCHEMA;
use crate::domain::rule::RuleName;
use crate::domain::table::RouteTable;
use crate::drive::Driver;
use crate::gateway::Gateway;
use crate::ledger::Ledger;
use crate::rules::{self, Rules};

const OK: &str = "ok";
const UNTRIED: &str = "not tried, as the environment cannot be used";

/// The version of the code, the newest schema of records it reads, and each thing that was tried: `ok`, or what is wrong.
pub(super) async fn check<C: Compute, G: Gateway, M: Metrics, L: Ledger, K: Clock>(
    state: &Configured<C, G, M, L, K>,
) -> Value {
    let (configuration, ledger, listeners) = match state {
        Ok((driver, _)) => {
            let (ledger, listeners) = read(driver).await;
            (OK.to_owned(), ledger, listeners)
        }
        Err(errors) => (errors.to_string(), UNTRIED.to_owned(), UNTRIED.to_owned()),
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "schema": SCHEMA,
        "checks": { "configuration": configuration, "ledger": ledger, "listeners": listeners },
    })
}

/// Reads the ledger's route table, then the listeners, then the records of all rules that are found in them.
async fn read<C: Compute, G: Gateway, M: Metrics, L: Ledger, K: Clock>(
    driver: &Driver<C, G, M, L, K>,
) -> (String, String) {
    let stored = driver.ledger.load_table().await;
    let listeners = driver.gateway.read(driver.clock.now(), None).await;
    let ledger = match (&stored, &listeners) {
        (Err(error), _) => error.to_string(),
        (Ok(stored), listeners) => {
            let before = stored.as_ref().map(|stored| &stored.table);
            let table = listeners.as_ref().ok().or(before);
            let names = table.map(|table| names(driver, table, before)).unwrap_or_default();
            records(&driver.ledger, &names).await
        }
    };
    (ledger, said(&listeners))
}

/// The rules of a table that was just read; what was known of their names before is kept.
fn names<C, G, M, L, K>(
    driver: &Driver<C, G, M, L, K>,
    table: &RouteTable,
    before: Option<&RouteTable>,
) -> Vec<RuleName> {
    let mut table = table.clone();
    if let Some(before) = before {
        table.names.clone_from(&before.names);
    }
    table.names = rules::names(&table, &driver.settings);
    let rules = Rules::new(&table, &driver.settings);
    rules.iter().map(|managed| managed.rule.name.clone()).collect()
}

async fn records<L: Ledger>(ledger: &L, names: &[RuleName]) -> String {
    match ledger.load_all(names).await {
        Ok(records) => {
            let all = records.len();
            let broken: Vec<String> = records
                .into_iter()
                .filter_map(Result::err)
                .map(|error| error.to_string())
                .collect();
            match broken.as_slice() {
                [] => OK.to_owned(),
                [first, ..] => format!("{} of {all} records cannot be used; the first: {first}", broken.len()),
            }
        }
        Err(error) => error.to_string(),
    }
}

fn said<T, E: Display>(result: &Result<T, E>) -> String {
    result.as_ref().map_or_else(ToString::to_string, |_| OK.to_owned())
}
