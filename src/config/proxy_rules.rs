//! `rules.d/*.toml` of the proxy VM: one rule a file. Its policy is said in the words of the tags, without their prefix,
//! and read by [`tags`], so that it means the same as on a load balancer.

mod conflicts;
mod resources;
mod ways;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use crate::domain::rule::{Problem, RuleName};

use super::file::{FileErrors, Section, Walk};
use super::proxy::ProxyConfig;
use super::tags;
pub use conflicts::conflicts;
pub use resources::Wanted;
pub use ways::{HttpRoute, Protocol, TcpRoute, host};

/// How long somebody waits for a rule at most, unless it says otherwise. A database takes longer to start.
pub const DEFAULT_WAKE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
pub const DEFAULT_DATABASE_WAKE_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// As long as a wake is given by the tags' default.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(15 * 60);

const KEYS: [&str; 5] = ["name", "resources", "http", "tcp", "wake-timeout"];
const WAKE_TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=tags::IDLE_MAX;

/// A rule as its file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRule {
    pub name: RuleName,
    /// Its policy, by the names of the tags; [`tags::policy`] reads it without a problem.
    pub tags: BTreeMap<String, String>,
    /// At least one.
    pub resources: Vec<Wanted>,
    pub http: Vec<HttpRoute>,
    pub tcp: Vec<TcpRoute>,
    /// How long somebody who came while it slept is kept waiting.
    pub wake_timeout: Duration,
}

impl ProxyRule {
    /// Reads the text of a rule file. The rule's name is the file's, unless it says another.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read(file: &Path, text: &str, config: &ProxyConfig) -> Result<Self, FileErrors> {
        let stem = file
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        Walk::through(&file.display().to_string(), text, |walk, root| {
            read(walk, root, &stem, config)
        })
    }
}

fn read<'t>(walk: &mut Walk<'t>, root: Section<'t>, stem: &str, config: &ProxyConfig) -> ProxyRule {
    let is_name = |text: &str| tags::is_name(text).map(|()| text.to_owned());
    let name = match root.has("name") {
        true => walk.read(root, "name", tags::ALLOWED_NAMES, is_name),
        false => is_name(stem).or_else(|| {
            walk.lacks(format!(
                "the file's name {stem:?} is no rule's name: give it a name = \"...\" of {}",
                tags::ALLOWED_NAMES
            ));
            None
        }),
    };
    let name = RuleName(name.unwrap_or_default());
    let resources = resources::read(walk, root);
    let http: Vec<_> = walk
        .sections(root, "http")
        .into_iter()
        .map(|section| ways::http(walk, section))
        .collect();
    let mut tcp: Vec<TcpRoute> = Vec::new();
    for section in walk.sections(root, "tcp") {
        let way = ways::tcp(walk, section, config);
        if way.port > 0 && tcp.iter().any(|other| other.port == way.port) {
            let port = way.port;
            walk.at(
                section,
                format!("tcp.port = {port} has a way in already: one is enough"),
            );
        }
        tcp.push(way);
    }
    if http.is_empty() && tcp.is_empty() && !root.has("http") && !root.has("tcp") {
        walk.lacks("there is no way in: add [[http]] with hosts and port, or [[tcp]] with port");
    }
    let is_database = |one: &Wanted| matches!(one, Wanted::One(id) if id.0.starts_with("rds"));
    let usual = match resources.iter().any(is_database) {
        true => DEFAULT_DATABASE_WAKE_TIMEOUT,
        false => DEFAULT_WAKE_TIMEOUT,
    };
    let wake_timeout = walk.duration(root, "wake-timeout", &WAKE_TIMEOUTS).unwrap_or(usual);
    let pressed = !http.is_empty() || root.has("http");
    let tags = policy(walk, root, &name, wake_timeout, pressed, config);
    let known: Vec<_> = KEYS.into_iter().chain(tags::policy_words()).collect();
    walk.strangers(root, &known);
    ProxyRule {
        name,
        tags,
        resources,
        http,
        tcp,
        wake_timeout,
    }
}

/// What a rule of the proxy says unless it is told otherwise.
pub(super) fn defaults(name: &RuleName, wake_timeout: Duration) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::from([
        // Envoy sees every connection, so the machine's own traffic has nothing to add.
        (tags::BUSY_NETWORK.to_owned(), "off".to_owned()),
        // Held requests cost nothing here, and go on with their bodies.
        (tags::HOLD.to_owned(), "wait".to_owned()),
        (tags::NAME.to_owned(), name.0.clone()),
    ]);
    if wake_timeout > DEFAULT_DEADLINE {
        tags.insert(
            tags::DEADLINE.to_owned(),
            humantime::format_duration(wake_timeout).to_string(),
        );
    }
    tags
}

/// What is wrong with a policy: what the one reader of tags says, and what only a load balancer could act on. `pressed` says
/// whether the rule has a site, whose page has the button.
pub(super) fn problems(
    tags: &BTreeMap<String, String>,
    pressed: bool,
    settle: Duration,
    idle_min: Duration,
) -> Vec<Problem> {
    let (policy, mut problems) = tags::policy(tags, settle, idle_min);
    let mut refuse = |key: &str, allowed: &str| {
        problems.retain(|problem| !matches!(problem, Problem::UnreadableTag { key: told, .. } if told == key));
        problems.push(Problem::UnreadableTag {
            key: key.to_owned(),
            value: tags.get(key).cloned().unwrap_or_default(),
            allowed: allowed.to_owned(),
        });
    };
    for key in [tags::BUSY_NETWORK, tags::BUSY_CPU] {
        if tags.get(key).is_some_and(|said| said.trim() != "off") {
            refuse(
                key,
                "off; the proxy does not ask for a machine's load, and nothing would ever sleep: for work without a \
                 connection say proxymanager proxy keep-awake",
            );
        }
    }
    if policy.confirm && !pressed {
        refuse(
            tags::CONFIRM,
            "false; by TCP nobody can press a button: add a host, on whose page it is, or remove it",
        );
    }
    problems
}

/// The policy as tags.
fn policy<'t>(
    walk: &mut Walk<'t>,
    root: Section<'t>,
    name: &RuleName,
    wake_timeout: Duration,
    pressed: bool,
    config: &ProxyConfig,
) -> BTreeMap<String, String> {
    let mut tags = defaults(name, wake_timeout);
    for word in tags::policy_words().filter(|word| root.has(word)) {
        if let Some(said) = walk.said(root, word) {
            tags.insert(format!("{}{word}", tags::PREFIX), said.text);
        }
    }
    for problem in problems(&tags, pressed, config.settle, config.idle_min) {
        let (key, allowed) = match problem {
            Problem::UnreadableTag { key, allowed, .. } => (key, allowed),
            Problem::UnsupportedTag { key } => (
                key,
                "nothing yet: this version does not act on it; remove it".to_owned(),
            ),
            // The name was read before, and no other key of ours gets here.
            _ => continue,
        };
        let word = key.strip_prefix(tags::PREFIX).unwrap_or(&key);
        match walk.said(root, word) {
            Some(said) => walk.refuse(&said, allowed),
            None if word == "name" => {}
            None => walk.missing(root, word, &allowed),
        }
    }
    tags
}

#[cfg(test)]
#[path = "proxy_rules_tests.rs"]
mod tests;
