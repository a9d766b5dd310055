//! The tags that an operator asks for on the command line.

use std::collections::BTreeMap;

use crate::config::tags;

/// What a rule that was never opted in gets.
const IDLE: &str = "30m";

/// How the rule is to sleep and wake.
#[derive(Debug, Clone, clap::Args)]
pub struct PolicyArgs {
    /// Without use for this long it sleeps, such as 30m or 2h [default: 30m]
    #[arg(long)]
    idle: Option<String>,
    /// The rule's name; listener rules with one name are one rule [default: the target group's name]
    #[arg(long)]
    pub name: Option<String>,
    /// Another tag of the rule, such as hold=wait for autostopping:hold (repeatable)
    #[arg(long = "set", value_name = "TAG=VALUE", value_parser = pair)]
    more: Vec<(String, String)>,
}

impl PolicyArgs {
    /// The tags to be given to a listener rule that has these.
    pub fn tags(&self, before: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut wanted: BTreeMap<String, String> = self.more.iter().cloned().collect();
        if let Some(name) = &self.name {
            wanted.insert(tags::NAME.to_owned(), name.clone());
        }
        let idle = self.idle.clone().or_else(|| wanted.get(tags::IDLE).cloned());
        let idle = idle.or_else(|| before.get(tags::IDLE).cloned());
        wanted.insert(tags::IDLE.to_owned(), idle.unwrap_or_else(|| IDLE.to_owned()));
        wanted
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write TAG=VALUE, such as hold=wait")?;
    let key = key.strip_prefix(tags::PREFIX).unwrap_or(key);
    Ok((format!("{}{key}", tags::PREFIX), value.to_owned()))
}
