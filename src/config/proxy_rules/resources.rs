//! `resources`: what a rule runs on.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::file::{Section, Walk};
use crate::domain::rule::ResourceId;

/// What a rule runs on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// `i-...`, `rds:NAME`, `rds-cluster:NAME` or `program:COMMAND`.
    One(ResourceId),
    /// All EC2 instances that have all of these tags.
    Tagged(BTreeMap<String, String>),
}

const RESOURCES: &str =
    "\"i-0123456789abcdef0\", \"rds:NAME\", \"rds-cluster:NAME\", \"program:COMMAND\" or { tag = { KEY = \"VALUE\" } }";

pub(super) fn read<'t>(walk: &mut Walk<'t>, root: Section<'t>) -> Vec<Wanted> {
    let mut all = BTreeSet::new();
    let elements = walk.list(root, "resources");
    if elements.is_empty() {
        walk.missing(root, "resources", RESOURCES);
    }
    for element in elements {
        let found = match element.section("resources") {
            Some(section) => tagged(walk, section),
            None => {
                let said = element.said();
                let one = resource(&said.text);
                if one.is_none() {
                    walk.refuse(&said, RESOURCES);
                }
                one.map(Wanted::One)
            }
        };
        all.extend(found);
    }
    all.into_iter().collect()
}

fn tagged<'t>(walk: &mut Walk<'t>, section: Section<'t>) -> Option<Wanted> {
    walk.strangers(section, &["tag"]);
    let Some(wanted) = walk
        .list(section, "tag")
        .first()
        .and_then(|element| element.section("resources.tag"))
    else {
        walk.at(section, "resources: allowed is { tag = { KEY = \"VALUE\" } }");
        return None;
    };
    let keys: Vec<&str> = wanted.keys().collect();
    let tags: BTreeMap<_, _> = keys
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), walk.said(wanted, key)?.text)))
        .collect();
    if tags.is_empty() {
        walk.at(
            section,
            "resources: a tag filter without tags would mean every machine; allowed is { tag = { KEY = \"VALUE\" } }",
        );
        return None;
    }
    Some(Wanted::Tagged(tags))
}

/// Ids as AWS gives them: 8 or 17 hexadecimal digits (Amazon EC2 user guide, "Resource IDs"); names of databases are 1 to
/// 63 letters, digits and hyphens, which RDS keeps in lower case and takes in any (Amazon RDS API reference,
/// CreateDBInstance): here one database has one spelling, else it would have two owners.
fn resource(text: &str) -> Option<ResourceId> {
    let database = |name: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&name.len()) && name.bytes().all(fits) && name.as_bytes()[0].is_ascii_alphabetic()
    };
    let right = match text.split_once(':') {
        Some(("rds" | "rds-cluster", name)) if database(name) => return Some(ResourceId(text.to_ascii_lowercase())),
        Some(("rds" | "rds-cluster", _)) => false,
        Some(("program", command)) => !command.trim().is_empty() && !command.contains('\0'),
        _ => text.strip_prefix("i-").is_some_and(|digits| {
            matches!(digits.len(), 8 | 17) && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        }),
    };
    right.then(|| ResourceId(text.to_owned()))
}
