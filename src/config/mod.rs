//! Configuration: text in, types out. Pure; whatever is wrong is told all at once, each with its key.

pub mod branding;
#[cfg(feature = "proxy")]
pub mod certificate;
#[cfg(feature = "proxy")]
pub mod discovered;
pub mod environment;
#[cfg(feature = "proxy")]
pub mod file;
#[cfg(feature = "proxy")]
pub mod proxy;
#[cfg(feature = "proxy")]
pub mod proxy_rules;
pub mod tags;
mod text;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::env::VarError;
use std::fmt;

/// Where values come from.
pub trait Lookup {
    /// The value of this key; none when it is not set, or empty.
    fn get(&self, key: &str) -> Option<String>;

    /// All keys there are, so that a mistyped one is found; empty for a source that cannot tell.
    fn keys(&self) -> Vec<String> {
        Vec::new()
    }
}

impl<K: Borrow<str> + Ord, V: AsRef<str>> Lookup for BTreeMap<K, V> {
    fn get(&self, key: &str) -> Option<String> {
        BTreeMap::get(self, key).and_then(|value| said(value.as_ref()))
    }

    fn keys(&self) -> Vec<String> {
        BTreeMap::keys(self).map(|key| key.borrow().to_owned()).collect()
    }
}

impl<F: Fn(&str) -> Option<String>> Lookup for F {
    fn get(&self, key: &str) -> Option<String> {
        self(key).and_then(|value| said(&value))
    }
}

/// An empty value says nothing: it is how templates and shells write a variable that they cannot leave out.
fn said(value: &str) -> Option<String> {
    (!value.trim().is_empty()).then(|| value.to_owned())
}

/// The environment of this process. What is not UTF-8 in it comes with replacement characters, which nothing accepts, so
/// that it is reported as a bad value rather than as a missing one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Environment;

#[allow(clippy::disallowed_methods, reason = "the one place where the environment is read")]
impl Lookup for Environment {
    fn get(&self, key: &str) -> Option<String> {
        match std::env::var(key) {
            Ok(value) => said(&value),
            Err(VarError::NotUnicode(value)) => said(&value.to_string_lossy()),
            Err(VarError::NotPresent) => None,
        }
    }

    fn keys(&self) -> Vec<String> {
        std::env::vars_os()
            .map(|(key, _)| key.to_string_lossy().into_owned())
            .collect()
    }
}

/// One value that cannot be used. No key read here holds a secret, so the value is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadValue {
    pub key: String,
    /// Of a list, the element in question. Empty when there is none.
    pub value: String,
    /// What would be right, in words.
    pub allowed: String,
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadValue { key, value, allowed } = self;
        if value.is_empty() {
            write!(f, "{key} is not set; allowed: {allowed}")
        } else {
            write!(f, "{key} = {value:?} cannot be used; allowed: {allowed}")
        }
    }
}

/// Everything that is wrong with a configuration; never empty. One line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<BadValue>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, bad) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            bad.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<BadValue> for ConfigErrors {
    fn from(bad: BadValue) -> Self {
        ConfigErrors(vec![bad])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_key_value_and_what_is_allowed_one_a_line() {
        let bad = |key: &str, value: &str| BadValue {
            key: key.to_owned(),
            value: value.to_owned(),
            allowed: "a number".to_owned(),
        };
        let errors = ConfigErrors(vec![bad("A", "x\n"), bad("B", "")]);
        assert_eq!(
            errors.to_string(),
            "A = \"x\\n\" cannot be used; allowed: a number\nB is not set; allowed: a number"
        );
    }

    #[test]
    fn closures_and_maps_and_the_process_are_lookups() {
        let map = BTreeMap::from([("EMPTY", " "), ("K", "v")]);
        assert_eq!(Lookup::get(&map, "K").as_deref(), Some("v"));
        assert_eq!(Lookup::get(&map, "EMPTY"), None);
        assert_eq!(Lookup::keys(&map), ["EMPTY", "K"]);
        let closure = |key: &str| (key == "K").then(|| "w".to_owned());
        assert_eq!(closure.get("K").as_deref(), Some("w"));
        assert!(Environment.get("PATH").is_some());
        assert!(Environment.keys().contains(&"PATH".to_owned()));
        assert_eq!(Environment.get("A_VARIABLE_THAT_NOBODY_SETS"), None);
    }
}
