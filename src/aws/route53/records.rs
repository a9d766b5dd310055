//! What has to change so that a name leads to a target. Pure.

use std::collections::BTreeSet;
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
    let mine = set(mark(name), "TXT", vec![format!("\"autostopping-proxy={owner}\"")]);
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
mod tests {
    use super::*;

    const NAME: &str = "db.example.com";

    fn addresses(texts: &[&str]) -> Target {
        Target::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn at(kind: &str, values: &[&str]) -> RecordSet {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        set(format!("{NAME}."), kind, values)
    }

    fn marks(owner: &str) -> Vec<RecordSet> {
        let value = format!("\"autostopping-proxy={owner}\"");
        vec![set(format!("_autostopping.{NAME}."), "TXT", vec![value])]
    }

    /// The changes in short, or why there are none.
    fn decided(target: &Target, there: &[RecordSet], marks: &[RecordSet]) -> Result<Vec<String>, String> {
        match decide(NAME, target, "me", there, marks) {
            Decision::Nothing => Ok(Vec::new()),
            Decision::Refuse(why) => Err(why),
            Decision::Change(changes) => Ok(changes
                .iter()
                .map(|change| format!("{} {}", change.action, change.resource_record_set.kind))
                .collect()),
        }
    }

    #[test]
    fn a_free_name_is_taken_and_marked_in_one_batch() {
        let both = addresses(&["192.0.2.1", "2001:db8::1"]);
        assert_eq!(
            decided(&both, &[], &[]).unwrap(),
            ["CREATE A", "CREATE AAAA", "CREATE TXT"]
        );
        // What else is there does not lead anywhere, and only a CNAME cannot stand beside it.
        let mail = [at("MX", &["10 mail.example.com"])];
        let one = addresses(&["192.0.2.1"]);
        assert_eq!(decided(&one, &mail, &[]).unwrap(), ["CREATE A", "CREATE TXT"]);
        let name = Target::Name("proxy.example.net".to_owned());
        assert!(decided(&name, &mail, &[]).unwrap_err().contains("shares its name"));
    }

    #[test]
    fn what_is_right_is_left_alone_whoever_made_it() {
        let both = addresses(&["192.0.2.1", "2001:db8::1"]);
        let there = [at("A", &["192.0.2.1"]), at("AAAA", &["2001:DB8:0::1"])];
        assert_eq!(decided(&both, &there, &[]), Ok(Vec::new()));
        assert_eq!(decided(&both, &there, &marks("me")), Ok(Vec::new()));
        let name = Target::Name("Proxy.example.net".to_owned());
        assert_eq!(
            decided(&name, &[at("CNAME", &["proxy.example.net."])], &[]),
            Ok(Vec::new())
        );
    }

    #[test]
    fn what_is_ours_follows_the_proxy() {
        let moved = addresses(&["192.0.2.2"]);
        let mine = marks("me");
        assert_eq!(
            decided(&moved, &[at("A", &["192.0.2.1"])], &mine).unwrap(),
            ["UPSERT A"]
        );
        let other_kind = [at("CNAME", &["old.example.net"])];
        assert_eq!(
            decided(&moved, &other_kind, &mine).unwrap(),
            ["DELETE CNAME", "UPSERT A"]
        );
        let one_more = [at("A", &["192.0.2.2"]), at("AAAA", &["2001:db8::1"])];
        assert_eq!(decided(&moved, &one_more, &mine).unwrap(), ["DELETE AAAA"]);
    }

    #[test]
    fn what_is_not_ours_is_never_replaced() {
        let wanted = addresses(&["192.0.2.2"]);
        let theirs = [at("A", &["192.0.2.1"])];
        let why = decided(&wanted, &theirs, &[]).unwrap_err();
        assert!(why.contains("A 192.0.2.1, which this proxy did not make"), "{why}");
        let why = decided(&wanted, &theirs, &marks("other")).unwrap_err();
        assert!(why.contains("autostopping-proxy=other"), "{why}");
        let why = decided(&wanted, &[], &marks("other")).unwrap_err();
        assert!(why.contains("the mark of another proxy"), "{why}");
        let mut alias = at("A", &[]);
        alias.alias_target = Some(Alias {});
        let why = decided(&wanted, &[alias], &marks("me")).unwrap_err();
        assert!(why.contains("A an alias"), "{why}");
        let mut weighted = at("A", &["192.0.2.2"]);
        weighted.set_identifier = Some("one".to_owned());
        decided(&wanted, &[weighted], &marks("me")).unwrap_err();
    }

    #[test]
    fn names_come_in_one_form() {
        assert_eq!(normal("\\052.Dev.example.com."), "*.dev.example.com");
        assert_eq!(mark("*.dev.example.com"), "_autostopping-any.dev.example.com");
        assert_ne!(mark("*.dev.example.com"), mark("dev.example.com"));
    }

    #[test]
    fn a_batch_is_what_route_53_reads() {
        let Decision::Change(changes) = decide("a&b.example.com", &addresses(&["192.0.2.1"]), "me", &[], &[]) else {
            panic!("something to do");
        };
        let expected = "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
            <ChangeBatch><Changes><Change><Action>CREATE</Action><ResourceRecordSet><Name>a&amp;b.example.com</Name>\
            <Type>A</Type><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord>\
            </ResourceRecords></ResourceRecordSet></Change>";
        assert!(batch(&changes).starts_with(expected), "{}", batch(&changes));
    }
}
