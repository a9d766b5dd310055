//! From a condition as AWS writes it to one that can be judged. Anything not understood is a [`Problem`].

use ipnet::IpNet;

use super::condition::{Condition, KeyValue, Other, Values};
use super::pattern::{self, Case, Glob, Pattern};
use super::{Problem, Test};

pub(super) fn test(condition: &Condition) -> Result<Test, Problem> {
    let Condition {
        field,
        values,
        host_header_config: host,
        path_pattern_config: path,
        http_header_config: header,
        query_string_config: query,
        http_request_method_config: method,
        source_ip_config: source,
        regex_values,
        other,
    } = condition;
    let field = field.as_deref().ok_or(Problem::Missing("Field"))?;
    nothing_else(other)?;
    let configs = [
        ("host-header", host.is_some()),
        ("path-pattern", path.is_some()),
        ("http-header", header.is_some()),
        ("query-string", query.is_some()),
        ("http-request-method", method.is_some()),
        ("source-ip", source.is_some()),
    ];
    if !configs.iter().any(|(name, _)| *name == field) {
        return Err(Problem::UnknownField);
    }
    if configs.iter().any(|(name, given)| *given && *name != field) {
        return Err(Problem::Contradiction("Field and its configuration"));
    }
    if regex_values.is_some() && !matches!(field, "host-header" | "path-pattern" | "http-header") {
        return Err(Problem::Contradiction("Field and RegexValues"));
    }
    match field {
        "host-header" | "path-pattern" => {
            let case = if field == "host-header" {
                Case::Insensitive
            } else {
                Case::Sensitive
            };
            let config = host.as_ref().or(path.as_ref());
            if let Some(config) = config {
                nothing_else(&config.other)?;
            }
            let values = one_of(values.as_ref(), config.and_then(|config| config.values.as_ref()))?;
            let regexes = one_of(
                regex_values.as_ref(),
                config.and_then(|config| config.regex_values.as_ref()),
            )?;
            let patterns = patterns(values, regexes, case)?;
            Ok(if field == "host-header" {
                Test::Host(patterns)
            } else {
                Test::Path(with_ampersands(patterns, values))
            })
        }
        "http-header" => {
            let config = header.as_ref().ok_or(Problem::Missing("HttpHeaderConfig"))?;
            nothing_else(&config.other)?;
            let name = config
                .http_header_name
                .as_deref()
                .unwrap_or_default()
                .to_ascii_lowercase();
            match name.as_str() {
                "" => return Err(Problem::Missing("HttpHeaderName")),
                "host" => {
                    let reason = "AWS allows the host only in a host-header condition".to_owned();
                    return Err(Problem::Unreadable { value: name, reason });
                }
                _ => {}
            }
            let values = one_of(values.as_ref(), config.values.as_ref())?;
            let regexes = one_of(regex_values.as_ref(), config.regex_values.as_ref())?;
            Ok(Test::Header {
                name,
                patterns: patterns(values, regexes, Case::Insensitive)?,
            })
        }
        "query-string" => {
            let config = query.as_ref().ok_or(Problem::Missing("QueryStringConfig"))?;
            nothing_else(&config.other)?;
            if !values.as_deref().unwrap_or_default().is_empty() {
                return Err(Problem::Contradiction("Values and QueryStringConfig"));
            }
            let pairs = config.values.as_deref().unwrap_or_default();
            if pairs.is_empty() {
                return Err(Problem::Missing("Values"));
            }
            pairs.iter().map(pair).collect::<Result<_, _>>().map(Test::Query)
        }
        "http-request-method" => Ok(Test::Method(plain_values(values.as_ref(), method.as_ref())?.to_vec())),
        "source-ip" => {
            let nets = plain_values(values.as_ref(), source.as_ref())?.iter().map(|value| {
                let unreadable = |error| Problem::Unreadable {
                    value: value.clone(),
                    reason: format!("{error}"),
                };
                value.parse::<IpNet>().map_err(unreadable)
            });
            Ok(Test::SourceIp(nets.collect::<Result<_, _>>()?))
        }
        _ => Err(Problem::UnknownField),
    }
}

fn pair(pair: &KeyValue) -> Result<(Option<Glob>, Glob), Problem> {
    nothing_else(&pair.other)?;
    let value = pair
        .value
        .as_deref()
        .filter(|value| !value.is_empty())
        .ok_or(Problem::Missing("Value"))?;
    // An absent key is any key. AWS accepts an empty one from some tools as absent (inferred).
    let key = pair.key.as_deref().filter(|key| !key.is_empty());
    let glob = |pattern| Glob::with_escapes(pattern, Case::Insensitive);
    Ok((key.map(glob), glob(value)))
}

fn patterns(values: &[String], regexes: &[String], case: Case) -> Result<Vec<Pattern>, Problem> {
    match (values, regexes) {
        ([], []) => Err(Problem::Missing("Values")),
        (values, []) if values.iter().any(String::is_empty) => Err(Problem::Missing("a value")),
        (values, []) => Ok(values
            .iter()
            .map(|value| Pattern::Glob(Glob::new(value, case)))
            .collect()),
        ([], regexes) => regexes
            .iter()
            .map(|value| match pattern::regex(value, case) {
                Ok(regex) => Ok(Pattern::Regex(regex)),
                Err(reason) => Err(Problem::Unreadable {
                    value: value.clone(),
                    reason,
                }),
            })
            .collect(),
        _ => Err(Problem::Contradiction("Values and RegexValues")),
    }
}

/// The guide allows `&` in a path pattern "using `&amp;`", and no `;`. Which of the two a pattern then holds is not said, so
/// either spelling matches `&` (inferred).
fn with_ampersands(mut patterns: Vec<Pattern>, values: &[String]) -> Vec<Pattern> {
    let spelled = values.iter().filter(|value| value.contains("&amp;"));
    patterns.extend(spelled.map(|value| Pattern::Glob(Glob::new(&value.replace("&amp;", "&"), Case::Sensitive))));
    patterns
}

fn plain_values<'a>(values: Option<&'a Vec<String>>, config: Option<&'a Values>) -> Result<&'a [String], Problem> {
    if let Some(config) = config {
        nothing_else(&config.other)?;
    }
    match one_of(values, config.and_then(|config| config.values.as_ref()))? {
        [] => Err(Problem::Missing("Values")),
        values => Ok(values),
    }
}

/// The same list may stand in the condition and in its configuration; AWS prints hosts and paths twice.
fn one_of<'a>(older: Option<&'a Vec<String>>, newer: Option<&'a Vec<String>>) -> Result<&'a [String], Problem> {
    let filled = |list: Option<&'a Vec<String>>| list.map(Vec::as_slice).unwrap_or_default();
    match (filled(older), filled(newer)) {
        (older, []) => Ok(older),
        ([], newer) => Ok(newer),
        (older, newer) if older == newer => Ok(newer),
        _ => Err(Problem::Contradiction(
            "the values of the condition and those of its configuration",
        )),
    }
}

fn nothing_else(other: &Other) -> Result<(), Problem> {
    other
        .keys()
        .next()
        .map_or(Ok(()), |member| Err(Problem::UnknownMember(member.clone())))
}
