//! How what belongs to a rule is named in Envoy.

use std::fmt;

use crate::domain::rule::RuleName;

/// `RULE@GENERATION/WAY`, for example `shop@7/http-8080`. A rule's name may have `@` and `/` in it; a way has neither.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClusterName {
    pub rule: RuleName,
    pub generation: u64,
    /// `http-PORT`, `tcp-PORT`, and `http-PORT-2` where one port is spoken to in several ways.
    pub way: String,
}

impl ClusterName {
    pub fn parse(text: &str) -> Option<ClusterName> {
        let (rest, way) = text.rsplit_once('/')?;
        let (rule, generation) = rest.rsplit_once('@')?;
        Some(ClusterName {
            rule: RuleName(rule.to_owned()),
            generation: generation.parse().ok()?,
            way: way.to_owned(),
        })
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}/{}", self.rule, self.generation, self.way)
    }
}

/// A name as it stands in Envoy's statistics, where a colon would become an underscore and a dot part two words:
/// whatever is no letter, digit, `-` or `_` is written `%XX`.
pub(super) fn statistic(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => text.push(char::from(byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

/// The name that [`statistic`] wrote.
pub(super) fn from_statistic(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let hex = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = after.get(2..)?;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(rule in ".{0,20}", generation: u64, port: u16) {
            let name = ClusterName { rule: RuleName(rule), generation, way: format!("tcp-{port}") };
            prop_assert_eq!(ClusterName::parse(&name.to_string()), Some(name.clone()));
            prop_assert_eq!(from_statistic(&statistic(&name.to_string())), Some(name.to_string()));
        }
    }
}
