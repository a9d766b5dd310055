//! What rules have against each other.

use std::collections::BTreeMap;

use super::ProxyRule;
use crate::config::file::FileError;

/// What two rules cannot both have: a name, a host with a path, a fixed port. The later one of `rules` is told, and the
/// index says which; the rest stands.
pub fn conflicts(rules: &[(String, ProxyRule)]) -> Vec<(usize, FileError)> {
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    let mut errors = Vec::new();
    for (at, (file, rule)) in rules.iter().enumerate() {
        let name = std::iter::once(format!("the name {}", rule.name));
        let sites = rule.http.iter().flat_map(|route| {
            let site = |host: &String| format!("the host {host} with the path {}", route.path);
            route.hosts.iter().map(site).collect::<Vec<_>>()
        });
        let fixed = rule
            .tcp
            .iter()
            .filter_map(|route| route.listen)
            .map(|port| format!("the port {port}"));
        let mut refused = false;
        let mut mine: Vec<String> = Vec::new();
        for what in name.chain(sites).chain(fixed) {
            let other = taken.get(&what).map(|other| rules[*other].0.as_str());
            if let Some(other) = other.or_else(|| mine.contains(&what).then_some(file.as_str())) {
                let what = format!("{what} is in {other} already: give each rule its own");
                let error = FileError {
                    file: file.clone(),
                    line: 0,
                    what,
                };
                errors.push((at, error));
                refused = true;
            }
            mine.push(what);
        }
        // What is refused takes nothing away from the next one.
        if !refused {
            taken.extend(mine.into_iter().map(|what| (what, at)));
        }
    }
    errors
}
