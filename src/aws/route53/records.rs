//! What has to change so that a name leads to a target. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::proxy::RecordTarget as Target;

/// A record set as Route 53 writes and reads it. Source: Amazon Route 53 API reference, `ResourceRecordSet`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RecordSet {
    pub(super) name: String,
    #[serde(rename = "Type")]
    kind: String,
    /// Of weighted and other routed sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    set_identifier: Option<String>,
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    ttl: Option<u32>,
    #[serde(default)]
    resource_records: Records,
    #[serde(skip_serializing)]
    alias_target: Option<Alias>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Records {
    #[serde(rename = "ResourceRecord", default)]
    all: Vec<One>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct One {
    #[serde(rename = "Value")]
    value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Alias {}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Change {
    action: &'static str,
    resource_record_set: RecordSet,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Nothing,
    Change(Vec<Change>),
    Refuse(String),
}

/// As long as a client may keep it: a proxy's address changes rarely, and then it should be noticed soon.
const TTL: u32 = 60;
/// The types that lead somewhere.
const LEADING: [&str; 3] = ["A", "AAAA", "CNAME"];
const MARK: &str = "_autostopping";

/// A name in one form: lower case, without the last dot, `*` as such (Route 53 lists it as `\052`).
pub(super) fn normal(name: &str) -> String {
    let name = name.trim_end_matches('.').replace("\\052", "*");
    name.to_ascii_lowercase()
}

/// Where the mark of a name stands; a wildcard's beside its parent's own.
pub(super) fn mark(name: &str) -> String {
    match name.strip_prefix("*.") {
        Some(parent) => format!("{MARK}-any.{parent}"),
        None => format!("{MARK}.{name}"),
    }
}

/// `there` is all there is at the name, `marks` all at [`mark`]'s; `name` is in its normal form.
pub(super) fn decide(name: &str, target: &Target, owner: &str, there: &[RecordSet], marks: &[RecordSet]) -> Decision {
    let wanted = wanted(name, target);
    let leading: Vec<_> = there
        .iter()
        .filter(|set| LEADING.contains(&set.kind.as_str()))
        .collect();
    let right = |wanted: &RecordSet| leading.iter().any(|set| set.same(wanted));
    if leading.len() == wanted.len() && wanted.iter().all(right) {
        return Decision::Nothing;
    }
    let mine = marked_by(name, owner);
    let marked = marks.iter().any(|set| set.same_records(&mine));
    let refuse = |what: &RecordSet, why: &str| {
        let Records { all } = &what.resource_records;
        let values: Vec<_> = all.iter().map(|one| one.value.as_str()).collect();
        let shown = match &what.alias_target {
            Some(_) => "an alias".to_owned(),
            None => values.join(" "),
        };
        Decision::Refuse(format!(
            "{name} is there already as {} {shown}, {why}: delete it, or take the name out of the rule",
            what.kind
        ))
    };
    if let Some(other) = marks.iter().find(|set| set.kind == "TXT").filter(|_| !marked) {
        return refuse(other, "the mark of another proxy");
    }
    if let Some(routed) = leading.iter().find(|set| set.is_routed()) {
        return refuse(routed, "which this proxy did not make");
    }
    if !marked && let Some(theirs) = leading.first() {
        return refuse(theirs, "which this proxy did not make");
    }
    let beside = there.iter().find(|set| !LEADING.contains(&set.kind.as_str()));
    if let (Target::Name(_), Some(beside)) = (target, beside) {
        return refuse(beside, "and a CNAME shares its name with nothing");
    }
    let change = |action, set: &RecordSet| Change {
        action,
        resource_record_set: set.clone(),
    };
    let of_kind = |kind: &str| wanted.iter().any(|wanted| wanted.kind == kind);
    let mut changes = Vec::new();
    changes.extend(
        leading
            .iter()
            .filter(|set| !of_kind(&set.kind))
            .map(|set| change("DELETE", set)),
    );
    // CREATE fails where somebody else has been faster; what is marked is ours to replace.
    let action = if marked { "UPSERT" } else { "CREATE" };
    changes.extend(
        wanted
            .iter()
            .filter(|wanted| !right(wanted))
            .map(|set| change(action, set)),
    );
    if !marked {
        changes.push(change("CREATE", &mine));
    }
    Decision::Change(changes)
}

/// What this proxy has made and still leads to the target, by name, with what removes it and its mark. `all` is all there is in
/// the zone. Who has the address later would have the name too.
pub(super) fn own(all: &[RecordSet], target: &Target, owner: &str) -> BTreeMap<String, Vec<Change>> {
    let mut at: BTreeMap<String, Vec<&RecordSet>> = BTreeMap::new();
    for set in all {
        at.entry(normal(&set.name)).or_default().push(set);
    }
    let remove = |set: &RecordSet| Change {
        action: "DELETE",
        resource_record_set: set.clone(),
    };
    let one = |(name, sets): (&String, &Vec<&RecordSet>)| {
        let mine = marked_by(name, owner);
        let marks = at.get(&mark(name))?;
        let mark = marks.iter().find(|set| set.same(&mine))?;
        let leading: Vec<_> = sets.iter().filter(|set| LEADING.contains(&set.kind.as_str())).collect();
        let wanted = wanted(name, target);
        let ours = |set: &&&RecordSet| wanted.iter().any(|wanted| set.same(wanted));
        let is_ours = !leading.is_empty() && leading.iter().all(ours);
        is_ours.then(|| {
            let sets = leading.into_iter().chain([mark]);
            (name.clone(), sets.map(|set| remove(set)).collect())
        })
    };
    at.iter().filter_map(one).collect()
}

/// The mark of a name.
fn marked_by(name: &str, owner: &str) -> RecordSet {
    set(mark(name), "TXT", vec![format!("\"autostopping-proxy={owner}\"")])
}

/// The body of ChangeResourceRecordSets.
pub(super) fn batch(changes: &[Change]) -> String {
    #[derive(Serialize)]
    struct Request<'a> {
        #[serde(rename = "@xmlns")]
        xmlns: &'static str,
        #[serde(rename = "ChangeBatch")]
        batch: Batch<'a>,
    }
    #[derive(Serialize)]
    struct Batch<'a> {
        #[serde(rename = "Changes")]
        changes: Changes<'a>,
    }
    #[derive(Serialize)]
    struct Changes<'a> {
        #[serde(rename = "Change")]
        all: &'a [Change],
    }
    let request = Request {
        xmlns: "https://route53.amazonaws.com/doc/2013-04-01/",
        batch: Batch {
            changes: Changes { all: changes },
        },
    };
    quick_xml::se::to_string_with_root("ChangeResourceRecordSetsRequest", &request).expect("texts and numbers are XML")
}

fn wanted(name: &str, target: &Target) -> Vec<RecordSet> {
    let values = |all: &BTreeSet<IpAddr>, four: bool| -> Vec<String> {
        let those = all.iter().filter(|address| address.is_ipv4() == four);
        those.map(ToString::to_string).collect()
    };
    let sets = match target {
        Target::Addresses(all) => vec![("A", values(all, true)), ("AAAA", values(all, false))],
        Target::Name(other) => vec![("CNAME", vec![normal(other)])],
    };
    let sets = sets.into_iter().filter(|(_, values)| !values.is_empty());
    sets.map(|(kind, values)| set(name.to_owned(), kind, values)).collect()
}

fn set(name: String, kind: &str, values: Vec<String>) -> RecordSet {
    RecordSet {
        name,
        kind: kind.to_owned(),
        set_identifier: None,
        ttl: Some(TTL),
        resource_records: Records {
            all: values.into_iter().map(|value| One { value }).collect(),
        },
        alias_target: None,
    }
}

impl RecordSet {
    fn is_routed(&self) -> bool {
        self.alias_target.is_some() || self.set_identifier.is_some()
    }

    /// Whether it leads to the same; the time to live does not matter.
    fn same(&self, wanted: &RecordSet) -> bool {
        !self.is_routed() && self.same_records(wanted)
    }

    fn same_records(&self, wanted: &RecordSet) -> bool {
        let values = |set: &RecordSet| -> BTreeSet<String> {
            let one = |value: &String| match set.kind.as_str() {
                "CNAME" => normal(value),
                // One address has several forms.
                "AAAA" => value
                    .parse()
                    .map_or(value.clone(), |address: IpAddr| address.to_string()),
                _ => value.clone(),
            };
            set.resource_records
                .all
                .iter()
                .map(|record| one(&record.value))
                .collect()
        };
        self.kind == wanted.kind && values(self) == values(wanted)
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
