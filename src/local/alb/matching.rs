//! The seam to rule matching: the data plane asks only [`matches()`]. The conditions are AWS's JSON.

use std::net::IpAddr;

use serde_json::Value;

use crate::local::wildcard::wildcard;

/// What conditions look at of a request.
#[derive(Debug, Clone)]
pub struct Request<'r> {
    /// The Host header, port included or not.
    pub host: &'r str,
    /// The path as sent, without the query.
    pub path: &'r str,
    /// The query as sent, without the `?`; empty when there is none.
    pub query: &'r str,
    pub method: &'r str,
    pub headers: &'r [(String, String)],
    /// The peer, never X-Forwarded-For.
    pub source: IpAddr,
}

/// Whether a request meets all conditions of a rule. Source: "Condition types for listener rules" of the ALB guide.
pub fn matches(conditions: &[Value], request: &Request<'_>) -> bool {
    conditions.iter().all(|condition| matches_one(condition, request))
}

fn matches_one(condition: &Value, request: &Request<'_>) -> bool {
    let field = condition.get("Field").and_then(Value::as_str).unwrap_or_default();
    let config = |name: &str| condition.get(name).unwrap_or(condition);
    match field {
        "host-header" => {
            let host = without_port(request.host).to_ascii_lowercase();
            let config = config("HostHeaderConfig");
            any(config, "Values", |value| wildcard(&value.to_ascii_lowercase(), &host))
                || any(config, "RegexValues", |value| regex(value, &host, false))
        }
        "path-pattern" => {
            let config = config("PathPatternConfig");
            any(config, "Values", |value| wildcard(value, request.path))
                || any(config, "RegexValues", |value| regex(value, request.path, true))
        }
        "http-header" => {
            let config = config("HttpHeaderConfig");
            let name = config.get("HttpHeaderName").and_then(Value::as_str).unwrap_or_default();
            let mut values = request.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
            values.any(|(_, actual)| {
                let lower = actual.to_ascii_lowercase();
                any(config, "Values", |value| wildcard(&value.to_ascii_lowercase(), &lower))
                    || any(config, "RegexValues", |value| regex(value, actual, true))
            })
        }
        "query-string" => {
            let wanted = config("QueryStringConfig").get("Values").and_then(Value::as_array);
            let pairs = || {
                request
                    .query
                    .split('&')
                    .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            };
            wanted.into_iter().flatten().any(|pair| {
                let part = |key: &str| pair.get(key).and_then(Value::as_str).map(str::to_ascii_lowercase);
                let value = part("Value").unwrap_or_default();
                pairs().any(|(key, actual)| {
                    part("Key").is_none_or(|wanted| wildcard(&wanted, &key.to_ascii_lowercase()))
                        && wildcard(&value, &actual.to_ascii_lowercase())
                })
            })
        }
        "http-request-method" => any(config("HttpRequestMethodConfig"), "Values", |value| {
            value == request.method
        }),
        "source-ip" => any(config("SourceIpConfig"), "Values", |value| {
            value
                .parse::<ipnet::IpNet>()
                .is_ok_and(|net| net.contains(&request.source))
        }),
        _ => false,
    }
}

fn any(config: &Value, list: &str, test: impl Fn(&str) -> bool) -> bool {
    config
        .get(list)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .any(test)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn regex(pattern: &str, actual: &str, case_sensitive: bool) -> bool {
    let built = regex::RegexBuilder::new(pattern)
        .case_insensitive(!case_sensitive)
        .build();
    built.is_ok_and(|regex| regex.is_match(actual))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_condition_kind() {
        let headers = [
            ("x-a".to_owned(), "One".to_owned()),
            ("X-A".to_owned(), "two".to_owned()),
        ];
        let request = Request {
            host: "WWW.Example.com:8080",
            path: "/Img/a",
            query: "v=1&flag&Env=Prod",
            method: "GET",
            headers: &headers,
            source: "10.1.2.3".parse().unwrap(),
        };
        let one = |field: &str, config: &str, values: Value| json!([{ "Field": field, config: values }]);
        let list = |values: Value| json!({ "Values": values });
        for (conditions, expected) in [
            (
                one("host-header", "HostHeaderConfig", list(json!(["no", "*.example.com"]))),
                true,
            ),
            (
                one("host-header", "HostHeaderConfig", list(json!(["example.com"]))),
                false,
            ),
            (
                one("host-header", "HostHeaderConfig", json!({ "RegexValues": ["^www\\."] })),
                true,
            ),
            (json!([{ "Field": "host-header", "Values": ["www.example.com"] }]), true),
            (one("path-pattern", "PathPatternConfig", list(json!(["/Img/*"]))), true),
            (one("path-pattern", "PathPatternConfig", list(json!(["/img/*"]))), false),
            (
                one(
                    "path-pattern",
                    "PathPatternConfig",
                    json!({ "RegexValues": ["^/Img/[a-c]$"] }),
                ),
                true,
            ),
            (
                one("http-request-method", "HttpRequestMethodConfig", list(json!(["POST"]))),
                false,
            ),
            (
                one(
                    "source-ip",
                    "SourceIpConfig",
                    list(json!(["192.0.2.1/32", "10.0.0.0/8"])),
                ),
                true,
            ),
            (one("source-ip", "SourceIpConfig", list(json!(["192.0.2.1/32"]))), false),
            (
                one(
                    "query-string",
                    "QueryStringConfig",
                    list(json!([{ "Key": "env", "Value": "prod" }])),
                ),
                true,
            ),
            (
                one("query-string", "QueryStringConfig", list(json!([{ "Value": "pro?" }]))),
                true,
            ),
            (
                one(
                    "query-string",
                    "QueryStringConfig",
                    list(json!([{ "Key": "v", "Value": "2" }])),
                ),
                false,
            ),
            (
                json!([{ "Field": "http-header", "HttpHeaderConfig": { "HttpHeaderName": "X-a", "Values": ["TWO"] } }]),
                true,
            ),
            (
                json!([{ "Field": "http-header", "HttpHeaderConfig": { "HttpHeaderName": "x-b", "Values": ["*"] } }]),
                false,
            ),
            (json!([{ "Field": "unheard-of" }]), false),
            (json!([]), true),
        ] {
            assert_eq!(
                matches(conditions.as_array().unwrap(), &request),
                expected,
                "{conditions}"
            );
        }
    }
}
