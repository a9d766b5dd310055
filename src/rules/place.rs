//! Where among a listener's rules one for a new site belongs.

use crate::domain::matching::{Condition, Matcher, Patterns, Query, Request, Seen, Verdict};
use crate::domain::rule::RouteId;
use crate::domain::table::{Listener, ListenerRule};

/// The priorities of AWS end at 50,000, and parked rules are counted down from there.
const LAST: u32 = 49_000;
/// The distance to the last rule, so that something fits in between later.
const STEP: u32 = 10;

/// Why there is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    #[error(
        "{before} (priority {priority}) already gets these requests, and no priority before it is free: make room with \
         `aws elbv2 set-rule-priorities`"
    )]
    Crowded { before: RouteId, priority: u32 },
    #[error("the listener has no free priority")]
    Full,
}

/// The conditions of a site: its host, and the pattern of its path if it has only a part of it.
pub fn conditions(host: &str, path: Option<&str>) -> Vec<Condition> {
    let patterns = |value: &str| {
        Some(Patterns {
            values: Some(vec![value.to_owned()]),
            ..Patterns::default()
        })
    };
    let of_host = Condition {
        field: Some("host-header".to_owned()),
        host_header_config: patterns(host),
        ..Condition::default()
    };
    let of_path = path.map(|path| Condition {
        field: Some("path-pattern".to_owned()),
        path_pattern_config: patterns(path),
        ..Condition::default()
    });
    std::iter::once(of_host).chain(of_path).collect()
}

/// The hosts or the paths that a listener rule names.
fn values(rule: &ListenerRule, field: &str) -> Option<Vec<String>> {
    let mut conditions = rule.conditions.iter();
    let condition = conditions.find(|condition| condition.field.as_deref() == Some(field))?;
    let config = match field {
        "host-header" => condition.host_header_config.as_ref(),
        _ => condition.path_pattern_config.as_ref(),
    };
    config
        .and_then(|config| config.values.clone())
        .or_else(|| condition.values.clone())
}

/// A text that a pattern fits.
fn sample(pattern: &str) -> String {
    pattern.replace(['*', '?'], "x")
}

fn get<'r>(host: &'r str, path: &'r str) -> Request<'r> {
    Request {
        method: "GET",
        host,
        path,
        query: Query::Raw(""),
        headers: &[],
        source_ip: None,
        seen: Seen::AtGateway,
    }
}

/// Whether a site with these conditions would get requests that a listener rule is for. What cannot be told is taken for so.
fn covers(site: &[Condition], rule: &ListenerRule) -> bool {
    let Ok(site) = Matcher::new(site) else { return true };
    let named = |field, otherwise: &str| values(rule, field).unwrap_or_else(|| vec![otherwise.to_owned()]);
    let (hosts, paths) = (named("host-header", "x"), named("path-pattern", "/"));
    let mut requests = hosts
        .iter()
        .flat_map(|host| paths.iter().map(move |path| (sample(host), sample(path))));
    requests.any(|(host, path)| site.matches(&get(&host, &path)) != Verdict::No)
}

/// The listener rule with just these conditions.
pub fn same_site<'l>(listener: &'l Listener, host: &str, path: Option<&str>) -> Option<&'l ListenerRule> {
    listener.rules.iter().find(|rule| {
        let of = |field| values(rule, field);
        let only = |values: Option<Vec<String>>, value: &str, fold: bool| match values.as_deref() {
            Some([one]) => one == value || (fold && one.eq_ignore_ascii_case(value)),
            _ => false,
        };
        rule.conditions.len() == 1 + usize::from(path.is_some())
            && only(of("host-header"), host, true)
            && path.is_none_or(|path| only(of("path-pattern"), path, false))
    })
}

/// A free priority for a rule of this site: before the first rule that gets its requests now, and otherwise after all; but
/// behind every rule that is more special, which would get no request any more and sleep under its users.
///
/// # Errors
/// When there is no such priority.
pub fn priority(listener: &Listener, host: &str, path: Option<&str>) -> Result<u32, NoPlace> {
    let site = conditions(host, path);
    let (host, path) = (sample(host), path.map_or_else(|| "/".to_owned(), sample));
    let request = get(&host, &path);
    let rules = || listener.rules.iter().filter(|rule| rule.parks().is_none());
    let gets = |rule: &&ListenerRule| {
        Matcher::new(&rule.conditions).is_ok_and(|matcher| matcher.matches(&request) == Verdict::Yes)
    };
    let first = rules()
        .filter(|rule| rule.priority.is_some())
        .filter(gets)
        .min_by_key(|rule| rule.priority);
    let taken = |priority: &u32| listener.rules.iter().any(|rule| rule.priority == Some(*priority));
    let behind = |end: u32| {
        let covered = rules()
            .filter(|rule| covers(&site, rule))
            .filter_map(|rule| rule.priority);
        covered.filter(|priority| *priority < end).max().unwrap_or_default() + 1
    };
    match first.and_then(|rule| Some((rule, rule.priority?))) {
        Some((rule, before)) => {
            let lowest = behind(before);
            let wish = before.saturating_sub(STEP).max(lowest);
            let free = (lowest..=wish).rev().chain(wish + 1..before);
            let free = free.into_iter().find(|priority| *priority < before && !taken(priority));
            free.ok_or_else(|| NoPlace::Crowded {
                before: rule.arn.clone(),
                priority: before,
            })
        }
        None => {
            let last = rules()
                .filter_map(|rule| rule.priority)
                .filter(|priority| *priority <= LAST)
                .max();
            let after = last.unwrap_or_default() + STEP;
            let free = (after..=LAST)
                .chain((behind(LAST)..after.min(LAST + 1)).rev())
                .find(|priority| !taken(priority));
            free.ok_or(NoPlace::Full)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn rule(priority: Option<u32>, host: &str, path: Option<&str>, tags: &[(&str, &str)]) -> ListenerRule {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        ListenerRule {
            arn: RouteId(format!("{host}{}", path.unwrap_or_default())),
            priority,
            conditions: if priority.is_some() {
                conditions(host, path)
            } else {
                Vec::new()
            },
            actions: Vec::new(),
            transforms: Vec::new(),
            tags: tags.iter().map(owned).collect::<BTreeMap<_, _>>(),
        }
    }

    fn listener(rules: Vec<ListenerRule>) -> Listener {
        Listener {
            arn: "l".to_owned(),
            load_balancer: "b".to_owned(),
            port: 80,
            waker: None,
            controller: None,
            forwarded_for: None,
            rules,
        }
    }

    #[test]
    fn before_the_first_that_gets_its_requests_and_after_all_others() {
        let parked = [("autostopping:parks", "x")];
        let there = listener(vec![
            rule(Some(5), "app.test", Some("/api/*"), &[]),
            rule(Some(20), "*.test", None, &[]),
            rule(Some(30), "other.example", None, &[]),
            rule(Some(50_000), "parked.invalid", None, &parked),
            rule(None, "", None, &[]),
        ]);
        assert_eq!(priority(&there, "app.test", None), Ok(10));
        assert_eq!(priority(&there, "*.app.test", None), Ok(10));
        assert_eq!(priority(&there, "app.test", Some("/api/v1/*")), Ok(1));
        assert_eq!(priority(&there, "new.example", None), Ok(40));
        assert_eq!(priority(&listener(Vec::new()), "a.test", None), Ok(10));
    }

    /// Red with the place right before the first that gets a sample of the site's requests.
    #[test]
    fn behind_what_is_more_special() {
        let mut rules = vec![rule(Some(50_000), "*", None, &[])];
        for (host, path) in [
            ("app.test", Some("/api/*")),
            ("app.test", None),
            ("*.test", None),
            ("new.test", None),
        ] {
            let place = priority(&listener(rules.clone()), host, path).unwrap();
            rules.push(rule(Some(place), host, path, &[]));
        }
        let mut placed: Vec<_> = rules.iter().map(|rule| (rule.priority, rule.arn.0.as_str())).collect();
        placed.sort();
        let order: Vec<_> = placed.into_iter().map(|(_, of)| of).collect();
        let before = |one: &str, other: &str| {
            let place = |of: &str| order.iter().position(|at| *at == of);
            assert!(place(one) < place(other), "{one} before {other}: {order:?}");
        };
        before("app.test/api/*", "app.test");
        before("app.test", "*.test");
        before("new.test", "*.test");
        before("*.test", "*");
    }

    #[test]
    fn no_place_is_told() {
        let there = listener(vec![rule(Some(1), "*.test", None, &[])]);
        let before = RouteId("*.test".to_owned());
        let crowded = NoPlace::Crowded { before, priority: 1 };
        assert_eq!(priority(&there, "app.test", None), Err(crowded));
        let full = (1..=LAST).map(|priority| rule(Some(priority), &format!("{priority}.example"), None, &[]));
        assert_eq!(priority(&listener(full.collect()), "a.test", None), Err(NoPlace::Full));
    }

    #[test]
    fn the_same_site_has_the_same_conditions_and_no_more() {
        let there = listener(vec![
            rule(Some(1), "app.test", Some("/a/*"), &[]),
            rule(Some(2), "App.test", None, &[]),
        ]);
        let found = |host, path| same_site(&there, host, path).and_then(|rule| rule.priority);
        assert_eq!(found("app.test", None), Some(2));
        assert_eq!(found("app.test", Some("/a/*")), Some(1));
        assert_eq!(found("app.test", Some("/A/*")), None);
        assert_eq!(found("other.test", None), None);
    }
}
