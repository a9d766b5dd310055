//! The ledger's records of the local cloud's sites, as if they had been put to sleep yesterday.

use serde_json::{Map, Value, json};

use crate::domain::phase::Phase;
use crate::domain::record::Record;
use crate::domain::rule::{Action, ResourceId, RouteId, RuleName};
use crate::domain::seen::Wanted;
use crate::domain::time::Timestamp;
use crate::local::seed::{Asleep, TABLE};
use crate::local::world::World;

const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// Writes one record per site, and its claim on the machine. A new memory would first have to watch for a minute whether what it sees is old news.
pub fn seed_asleep(world: &mut World, now: Timestamp, sites: &[Asleep]) {
    for site in sites {
        let Some(record) = record(now, site) else { continue };
        if let (Ok(item), Ok(table)) = (item(&record), world.table(TABLE)) {
            let _ = table.put(item);
            let _ = table.put(claim(site));
        }
    }
}

fn record(now: Timestamp, site: &Asleep) -> Option<Record> {
    let action: Action = serde_json::from_value(site.action.clone()).ok()?;
    let mut record = Record::new(RuleName(site.name.clone()), now - DAY);
    record.version = 1;
    record.adopted = true;
    record.wanted = Wanted::Asleep;
    record.wanted_by = "the beginning of this local cloud".to_owned();
    record.originals.insert(RouteId(site.rule.clone()), vec![action]);
    record.snapshot.phase = Phase::Asleep;
    record.snapshot.resources = vec![ResourceId(site.instance.clone())];
    Some(record)
}

/// That the rule claims its machine, by which the events of the machine find it.
fn claim(site: &Asleep) -> Map<String, Value> {
    let text = |text: String| json!({ "S": text });
    Map::from_iter([
        ("pk".to_owned(), text(format!("machine#{}", site.instance))),
        ("sk".to_owned(), text(format!("claim#{}", site.name))),
        ("rule".to_owned(), text(site.name.clone())),
        ("nonce".to_owned(), text("seed".to_owned())),
    ])
}

/// As `ledger::dynamodb` stores it, in DynamoDB's JSON.
fn item(record: &Record) -> serde_json::Result<Map<String, Value>> {
    let number = |number: u64| json!({ "N": number.to_string() });
    let text = |text: String| json!({ "S": text });
    Ok(Map::from_iter([
        ("pk".to_owned(), text(format!("rule#{}", record.rule))),
        ("sk".to_owned(), text("record".to_owned())),
        ("version".to_owned(), number(record.version)),
        ("schema".to_owned(), number(u64::from(record.schema))),
        ("phase".to_owned(), text(record.snapshot.phase.name().to_owned())),
        ("body".to_owned(), text(serde_json::to_string(record)?)),
    ]))
}
