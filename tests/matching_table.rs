//! What Application Load Balancer's documentation says of rule conditions, as a table. A row's source is a page and its
//! heading; `inferred` marks what AWS leaves open, with what speaks for the reading.

use std::net::IpAddr;

use proptest::prelude::*;
use proptest::test_runner::Config;
use proxymanager::domain::matching::{
    Candidate, Case, Condition, Doubt, FirstMatch, Glob, MatchError, Matcher, Problem, Query, Reason, Request, Seen,
    Verdict, first_match,
};
use serde_json::{Value, json};

/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html>
const GUIDE: &str = "rule-condition-types.html";
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/listener-rules.html>
const RULES: &str = "listener-rules.html";
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/add-rule.html>
const CONSOLE: &str = "add-rule.html";
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/>
const API: &str = "APIReference";
/// <https://github.com/hashicorp/terraform-provider-aws/issues/49147>
const TERRAFORM: &str = "terraform-provider-aws#49147";
/// <https://repost.aws/questions/QUbdKVqaj4TKSZJdPWPZG1Ow>
const REPOST: &str = "repost.aws: options for the Host and X-Forwarded-For headers";
const INFERRED: &str = "inferred";

const YES: Verdict = Verdict::Yes;
const NO: Verdict = Verdict::No;

struct Row {
    source: (&'static str, &'static str),
    conditions: Value,
    request: Ask,
    wanted: Verdict,
}

/// A request for `http://example.com/` from 192.0.2.7, and what a row changes in it.
#[derive(Clone, Debug)]
struct Ask {
    method: &'static str,
    host: &'static str,
    path: &'static str,
    query: &'static str,
    headers: Vec<(String, String)>,
    source_ip: Option<IpAddr>,
    seen: Seen,
}

fn ask() -> Ask {
    Ask {
        method: "GET",
        host: "example.com",
        path: "/",
        query: "",
        headers: Vec::new(),
        source_ip: Some("192.0.2.7".parse().unwrap()),
        seen: Seen::AtGateway,
    }
}

fn host(host: &'static str) -> Ask {
    Ask { host, ..ask() }
}

fn path(path: &'static str) -> Ask {
    Ask { path, ..ask() }
}

fn query(query: &'static str) -> Ask {
    Ask { query, ..ask() }
}

fn method(method: &'static str) -> Ask {
    Ask { method, ..ask() }
}

fn from(address: &str) -> Ask {
    Ask {
        source_ip: Some(address.parse().unwrap()),
        ..ask()
    }
}

fn header(name: &str, values: &[&str]) -> Ask {
    Ask {
        headers: values
            .iter()
            .map(|value| (name.to_owned(), (*value).to_owned()))
            .collect(),
        ..ask()
    }
}

fn behind(ask: Ask) -> Ask {
    Ask {
        seen: Seen::BehindGateway,
        ..ask
    }
}

fn hosts(values: &[&str]) -> Value {
    json!([{"Field": "host-header", "HostHeaderConfig": {"Values": values}}])
}

fn host_regex(value: &str) -> Value {
    json!([{"Field": "host-header", "HostHeaderConfig": {"RegexValues": [value]}}])
}

fn paths(values: &[&str]) -> Value {
    json!([{"Field": "path-pattern", "PathPatternConfig": {"Values": values}}])
}

fn path_regex(value: &str) -> Value {
    json!([{"Field": "path-pattern", "PathPatternConfig": {"RegexValues": [value]}}])
}

fn headers(name: &str, values: &[&str]) -> Value {
    json!([{"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": name, "Values": values}}])
}

fn header_regex(name: &str, value: &str) -> Value {
    json!([{"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": name, "RegexValues": [value]}}])
}

fn queries(pairs: Value) -> Value {
    json!([{"Field": "query-string", "QueryStringConfig": {"Values": pairs}}])
}

fn methods(values: &[&str]) -> Value {
    json!([{"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": values}}])
}

fn sources(values: &[&str]) -> Value {
    json!([{"Field": "source-ip", "SourceIpConfig": {"Values": values}}])
}

/// All of several conditions.
fn all(lists: &[Value]) -> Value {
    lists.iter().flat_map(|list| list.as_array().unwrap().clone()).collect()
}

fn matcher(conditions: &Value) -> Result<Matcher, MatchError> {
    Matcher::new(&serde_json::from_value::<Vec<Condition>>(conditions.clone()).unwrap())
}

fn request(ask: &Ask) -> Request<'_> {
    Request {
        method: ask.method,
        host: ask.host,
        path: ask.path,
        query: Query::Raw(ask.query),
        headers: &ask.headers,
        source_ip: ask.source_ip,
        seen: ask.seen,
    }
}

fn unknown(doubt: Doubt) -> Verdict {
    Verdict::Unknown(doubt)
}

#[rustfmt::skip]
fn table() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |page, heading, conditions: Value, request: Ask, wanted: Verdict| {
        rows.push(Row { source: (page, heading), conditions, request, wanted });
    };
    let unknown_path = || unknown(Doubt::Path);
    let unknown_query = || unknown(Doubt::Query);

    // Host.
    row(GUIDE, "Host conditions", hosts(&["example.com"]), host("example.com"), YES);
    row(GUIDE, "Host conditions", hosts(&["example.com"]), host("example.org"), NO);
    row(GUIDE, "Host conditions", hosts(&["*.example.com"]), host("test.example.com"), YES);
    row(GUIDE, "Host conditions", hosts(&["*.example.com"]), host("example.com"), NO);
    row(GUIDE, "Host conditions", hosts(&["*.example.com"]), host("a.b.example.com"), YES);
    row(GUIDE, "Host conditions: case", hosts(&["*.Example.COM"]), host("TEST.example.com"), YES);
    row(GUIDE, "Host conditions: `?`", hosts(&["web?.example.com"]), host("web1.example.com"), YES);
    row(GUIDE, "Host conditions: `?`", hosts(&["web?.example.com"]), host("web.example.com"), NO);
    row(GUIDE, "Host conditions: `?`", hosts(&["web?.example.com"]), host("web12.example.com"), NO);
    row(GUIDE, "Condition basics: values", hosts(&["a.example.com", "b.example.com"]), host("b.example.com"), YES);
    row(API, "RuleCondition: Values", json!([{"Field": "host-header", "Values": ["example.com"]}]), host("example.com"), YES);
    row(GUIDE, "Host conditions: regex", host_regex(r"^(.*)\.example\.com$"), host("test.example.com"), YES);
    row(GUIDE, "Host conditions: regex", host_regex(r"^(.*)\.example\.com$"), host("example.com"), NO);
    row(INFERRED, "a dot in a pattern is a dot", hosts(&["a.example.com"]), host("aXexample.com"), NO);
    row(INFERRED, "a host name has no case, so nor has its regex", host_regex(r"^A\.example\.com$"), host("a.Example.com"), YES);
    row(INFERRED, "no anchor is implied: samples carry theirs", host_regex(r"example\.com"), host("a.example.com.test"), YES);
    row(INFERRED, "no `:` in a pattern, and ALB may add its port to Host", hosts(&["example.com"]), host("example.com:8443"), YES);
    row(INFERRED, "a wildcard covers no more than the name or the whole", hosts(&["*.example.com"]), host("a.example.com:8443"), YES);
    row(TERRAFORM, "a port needs a regex", host_regex(r"^example\.com:8443$"), host("example.com:8443"), YES);
    row(TERRAFORM, "a port needs a regex", host_regex(r"^example\.com:8443$"), host("example.com:8444"), NO);
    row(TERRAFORM, "a port needs a regex", host_regex(r"^example\.com:8443$"), host("example.com"), NO);
    row(INFERRED, "the regex may leave the port out too", host_regex(r"^example\.com$"), host("example.com:8443"), YES);
    row(INFERRED, "no host is no match", hosts(&["*.*"]), host(""), NO);
    row(INFERRED, "a trailing dot is a character", hosts(&["example.com"]), host("example.com."), NO);
    row(INFERRED, "an address is a host", hosts(&["192.0.2.*"]), host("192.0.2.1:80"), YES);

    // Path.
    row(GUIDE, "Path conditions", paths(&["/img/*"]), path("/img/picture.jpg"), YES);
    row(GUIDE, "Path conditions", paths(&["/img/*"]), path("/img/"), YES);
    row(GUIDE, "Path conditions", paths(&["/img/*"]), path("/img"), NO);
    row(GUIDE, "Path conditions", paths(&["/img/*/pics"]), path("/img/a/b/pics"), YES);
    row(GUIDE, "Path conditions", paths(&["/img/*/pics"]), path("/img/a/pics/b"), NO);
    row(GUIDE, "Path conditions: case", paths(&["/img/*"]), path("/IMG/a"), NO);
    row(GUIDE, "Path conditions: `?`", paths(&["/v?/x"]), path("/v1/x"), YES);
    row(GUIDE, "Path conditions: `?`", paths(&["/v?/x"]), path("/v12/x"), NO);
    row(GUIDE, "Path conditions: gRPC", paths(&["/package.service/method"]), path("/package.service/method"), YES);
    row(GUIDE, "Path conditions: gRPC", paths(&["/package"]), path("/package.service/method"), NO);
    row(GUIDE, "Path conditions: not the query", paths(&["/a"]), Ask { query: "b=c", ..path("/a") }, YES);
    row(GUIDE, "Path conditions: not the query", paths(&["*b*"]), Ask { query: "b=c", ..path("/a") }, NO);
    row(API, "RuleCondition: Values", json!([{"Field": "path-pattern", "Values": ["/img/*"]}]), path("/img/a"), YES);
    row(GUIDE, "Path conditions: regex", path_regex(r"^\/api\/(.*)$"), path("/api/v1"), YES);
    row(GUIDE, "Path conditions: regex", path_regex(r"^\/api\/(.*)$"), path("/v1/api/"), NO);
    row(GUIDE, "Path conditions: case", path_regex(r"^\/api\/(.*)$"), path("/API/v1"), NO);
    row(INFERRED, "no anchor is implied: samples carry theirs", path_regex(r"/api/"), path("/v1/api/x"), YES);
    row(INFERRED, "inline flags work as usual", path_regex(r"(?i)^/api/"), path("/API/x"), YES);
    row(GUIDE, "Path conditions: normalization", paths(&["/*"]), path("/a//b/../c%41"), YES);
    row(GUIDE, "Path conditions: normalization", paths(&["/x/*"]), path("/a//b/../c%41"), NO);
    row(GUIDE, "Path conditions: normalization, kind not said", paths(&["/img/*"]), path("/%69mg/a"), unknown_path());
    row(GUIDE, "Path conditions: normalization, kind not said", paths(&["/img/*"]), path("/img/../api"), unknown_path());
    row(GUIDE, "Path conditions: normalization, kind not said", paths(&["/api/*"]), path("//api/x"), unknown_path());
    row(INFERRED, "normalization keeps reserved escapes", paths(&["/a/b"]), path("/a%2Fb"), NO);
    row(INFERRED, "a hidden directory is no dot segment", paths(&["/.well-known/*"]), path("/.well-known/acme"), YES);
    row(GUIDE, "Condition basics: visible ASCII", paths(&["/*"]), path("/caf\u{e9}"), YES);
    row(GUIDE, "Condition basics: visible ASCII", paths(&["/caf"]), path("/caf\u{e9}"), unknown_path());
    row(GUIDE, "Path conditions: `&amp;`", paths(&["/a&amp;b"]), path("/a&b"), YES);
    row(INFERRED, "`&` itself is fine too", paths(&["/a&b"]), path("/a&b"), YES);
    row(INFERRED, "a backslash escapes only in queries", paths(&[r"/a\*"]), path("/a*"), NO);

    // Header.
    row(GUIDE, "HTTP header conditions", headers("User-Agent", &["*Chrome*", "*Safari*"]), header("User-Agent", &["Mozilla Safari/1"]), YES);
    row(GUIDE, "HTTP header conditions", headers("User-Agent", &["*Chrome*", "*Safari*"]), header("User-Agent", &["curl/8"]), NO);
    row(GUIDE, "HTTP header conditions: case", headers("User-Agent", &["*chrome*"]), header("USER-AGENT", &["A CHROME b"]), YES);
    row(GUIDE, "HTTP header conditions: no wildcard in the name", headers("User-*", &["*"]), header("User-Agent", &["x"]), NO);
    row(GUIDE, "HTTP header conditions: `?`", headers("X-Env", &["dev?"]), header("X-Env", &["dev1"]), YES);
    row(GUIDE, "HTTP header conditions: the whole value", headers("X-Env", &["dev"]), header("X-Env", &["dev1"]), NO);
    row(API, "HttpHeaderConditionConfig: a repeated header", headers("X-Env", &["b"]), header("X-Env", &["a", "b"]), YES);
    row(INFERRED, "a comma does not split a value", headers("X-Env", &["b"]), header("X-Env", &["a, b"]), NO);
    row(INFERRED, "an absent header meets nothing", headers("X-Env", &["*"]), ask(), NO);
    row(INFERRED, "an empty header meets `*`", headers("X-Env", &["*"]), header("X-Env", &[""]), YES);
    row(GUIDE, "HTTP header conditions: regex", header_regex("User-Agent", ".+"), header("user-agent", &["x"]), YES);
    row(GUIDE, "HTTP header conditions: regex", header_regex("User-Agent", ".+"), header("user-agent", &[""]), NO);
    row(GUIDE, "HTTP header conditions: case", header_regex("X-Env", "^dev$"), header("X-Env", &["DEV"]), YES);
    row(GUIDE, "Condition basics: visible ASCII", headers("X-Env", &["d*"]), header("X-Env", &["d\u{e9}v"]), YES);
    row(GUIDE, "Condition basics: visible ASCII", headers("X-Env", &["dv"]), header("X-Env", &["d\u{e9}v"]), unknown(Doubt::Characters("the header x-env".into())));
    row(CONSOLE, "HTTP header: a space may stand in a value", headers("X-Env", &["a b"]), header("X-Env", &["a b"]), YES);
    row(GUIDE, "Source IP: X-Forwarded-For has a header condition", headers("X-Forwarded-For", &["203.0.113.9"]), header("X-Forwarded-For", &["203.0.113.9"]), YES);
    row(REPOST, "ALB changes X-Forwarded-For", headers("X-Forwarded-For", &["203.0.113.9"]), behind(header("X-Forwarded-For", &["203.0.113.9"])), unknown(Doubt::Header("x-forwarded-for".into())));
    row(REPOST, "ALB may drop X-Forwarded-For", headers("X-Forwarded-For", &["*"]), behind(ask()), unknown(Doubt::Header("x-forwarded-for".into())));
    row(INFERRED, "other headers arrive as sent", headers("X-Env", &["dev"]), behind(header("X-Env", &["dev"])), YES);

    // Query.
    let sample = || queries(json!([{"Key": "version", "Value": "v1"}, {"Value": "*example*"}]));
    row(GUIDE, "Query string conditions", sample(), query("version=v1"), YES);
    row(GUIDE, "Query string conditions", sample(), query("a=b&version=v1"), YES);
    row(GUIDE, "Query string conditions", sample(), query("any=an-example-too"), YES);
    row(GUIDE, "Query string conditions", sample(), query("version=v2"), NO);
    row(GUIDE, "Query string conditions", sample(), query(""), NO);
    row(GUIDE, "Query string conditions: case", sample(), query("VERSION=V1"), YES);
    row(GUIDE, "Query string conditions: one pair", queries(json!([{"Key": "a", "Value": "2"}])), query("a=1&b=2"), NO);
    row(API, "QueryStringConditionConfig: wildcards", queries(json!([{"Key": "v?r*", "Value": "v?"}])), query("version=v12"), NO);
    row(API, "QueryStringConditionConfig: wildcards", queries(json!([{"Key": "v?r*", "Value": "v?"}])), query("verb=v1"), YES);
    row(API, "QueryStringConditionConfig: escapes", queries(json!([{"Value": r"a\*b\?"}])), query("q=a*b?"), YES);
    row(API, "QueryStringConditionConfig: escapes", queries(json!([{"Value": r"a\*b\?"}])), query("q=aXbY"), NO);
    row(INFERRED, "a backslash escapes itself", queries(json!([{"Value": r"a\\*"}])), query(r"q=a\b"), YES);
    row(INFERRED, "a backslash before another character is one", queries(json!([{"Value": r"a\b"}])), query(r"q=a\b"), YES);
    row(INFERRED, "a repeated key: any of them", queries(json!([{"Key": "a", "Value": "2"}])), query("a=1&a=2"), YES);
    row(INFERRED, "only the first `=` divides", queries(json!([{"Key": "a", "Value": "b=c"}])), query("a=b=c"), YES);
    row(INFERRED, "a key without `=` has an empty value", queries(json!([{"Value": "debug"}])), query("debug"), NO);
    row(INFERRED, "a key without `=` has an empty value", queries(json!([{"Key": "debug", "Value": "*"}])), query("debug"), YES);
    row(INFERRED, "an empty pair is none", queries(json!([{"Value": "*"}])), query("&&"), NO);
    row(API, "QueryStringConditionConfig: escapes in the request", queries(json!([{"Value": "a*"}])), query("q=a%20b"), YES);
    row(API, "QueryStringConditionConfig: escapes, effect not said", queries(json!([{"Value": "ab"}])), query("q=%61b"), unknown_query());
    row(INFERRED, "`+` is a plus", queries(json!([{"Value": "a+b"}])), query("q=a+b"), YES);

    // Method.
    row(GUIDE, "HTTP request method", methods(&["CUSTOM-METHOD"]), method("CUSTOM-METHOD"), YES);
    row(GUIDE, "HTTP request method: any of them", methods(&["GET", "HEAD"]), method("HEAD"), YES);
    row(GUIDE, "HTTP request method: case", methods(&["GET"]), method("get"), NO);
    row(GUIDE, "HTTP request method: no wildcards", methods(&["G*"]), method("GET"), NO);

    // Source address.
    row(GUIDE, "Source IP address conditions", sources(&["192.0.2.0/24", "198.51.100.10/32"]), from("192.0.2.200"), YES);
    row(GUIDE, "Source IP address conditions", sources(&["192.0.2.0/24", "198.51.100.10/32"]), from("198.51.100.10"), YES);
    row(GUIDE, "Source IP address conditions", sources(&["192.0.2.0/24", "198.51.100.10/32"]), from("198.51.100.11"), NO);
    row(GUIDE, "Source IP address conditions: IPv6", sources(&["2001:db8::/32"]), from("2001:db8:1::1"), YES);
    row(GUIDE, "Source IP address conditions: IPv6", sources(&["2001:db8::/32"]), from("192.0.2.7"), NO);
    row(INFERRED, "an IPv4 peer on an IPv6 socket is an IPv4 peer", sources(&["192.0.2.0/24"]), from("::ffff:192.0.2.7"), YES);
    row(GUIDE, "Source IP: not X-Forwarded-For", sources(&["203.0.113.0/24"]), header("X-Forwarded-For", &["203.0.113.9"]), NO);
    row(INFERRED, "without an address nothing is decided", sources(&["0.0.0.0/0"]), Ask { source_ip: None, ..ask() }, unknown(Doubt::SourceIp));

    // Several conditions.
    row(RULES, "Rule basics: the default rule has none", json!([]), ask(), YES);
    row(GUIDE, "Condition basics: all must be met", all(&[hosts(&["example.com"]), paths(&["/a"])]), path("/a"), YES);
    row(GUIDE, "Condition basics: all must be met", all(&[hosts(&["example.com"]), paths(&["/a"])]), path("/b"), NO);
    row(GUIDE, "Condition basics: one condition for each string", all(&[headers("X", &["*a*"]), headers("X", &["*b*"])]), header("X", &["ab"]), YES);
    row(GUIDE, "Condition basics: one condition for each string", all(&[headers("X", &["*a*"]), headers("X", &["*b*"])]), header("X", &["a"]), NO);
    row(INFERRED, "a condition not met settles what is unknown", all(&[sources(&["192.0.2.0/24"]), hosts(&["a.test"])]), Ask { source_ip: None, ..ask() }, NO);
    row(INFERRED, "a condition met does not", all(&[hosts(&["example.com"]), sources(&["192.0.2.0/24"])]), Ask { source_ip: None, ..ask() }, unknown(Doubt::SourceIp));
    rows
}

#[test]
fn every_row_of_the_table_holds() {
    let wrong: Vec<String> = table()
        .iter()
        .filter_map(|row| {
            let got = matcher(&row.conditions).map(|matcher| matcher.matches(&request(&row.request)));
            let line = || {
                format!(
                    "{} ({}): {} on {:?}\n  wanted {:?}, got {got:?}",
                    row.source.1, row.source.0, row.conditions, row.request, row.wanted
                )
            };
            (got.as_ref() != Ok(&row.wanted)).then(line)
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn pairs_of_a_lambda_event_match_as_the_raw_query_does() {
    for row in table() {
        let pairs: Vec<(String, String)> = row
            .request
            .query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let request = Request {
            query: Query::Pairs(&pairs),
            ..request(&row.request)
        };
        assert_eq!(
            matcher(&row.conditions).unwrap().matches(&request),
            row.wanted,
            "{} {:?}",
            row.conditions,
            row.request
        );
    }
}

#[test]
fn conditions_that_cannot_be_read_are_named() {
    let unreadable = |value: &str, conditions: Value| match matcher(&conditions) {
        Err(MatchError {
            problem: Problem::Unreadable { value: named, .. },
            ..
        }) => assert_eq!(named, value),
        other => panic!("{conditions}: {other:?}"),
    };
    unreadable("(?=a)", path_regex("(?=a)"));
    unreadable(r"(a)\1", host_regex(r"(a)\1"));
    unreadable("a++", header_regex("X", "a++"));
    unreadable("192.0.2.7", sources(&["192.0.2.7"]));
    unreadable("192.0.2.*", sources(&["192.0.2.*"]));
    unreadable("host", headers("Host", &["a.test"]));

    for (conditions, wanted) in [
        (json!([{"Field": "geo", "Values": ["DE"]}]), Problem::UnknownField),
        (json!([{"Values": ["a.test"]}]), Problem::Missing("Field")),
        (json!([{"Field": "path-pattern"}]), Problem::Missing("Values")),
        (
            json!([{"Field": "path-pattern", "Values": []}]),
            Problem::Missing("Values"),
        ),
        (
            json!([{"Field": "path-pattern", "Values": [""]}]),
            Problem::Missing("a value"),
        ),
        (
            json!([{"Field": "http-header", "Values": ["a"]}]),
            Problem::Missing("HttpHeaderConfig"),
        ),
        (queries(json!([{"Key": "a"}])), Problem::Missing("Value")),
        (queries(json!([])), Problem::Missing("Values")),
        (
            json!([{"Field": "source-ip", "SourceIpConfig": {"IpAddressType": "ipv6"}}]),
            Problem::UnknownMember("IpAddressType".into()),
        ),
        (
            json!([{"Field": "path-pattern", "Values": ["/a"], "Negate": true}]),
            Problem::UnknownMember("Negate".into()),
        ),
        (
            json!([{"Field": "host-header", "HostHeaderConfig": {"Values": ["a.test"], "RegexValues": ["a"]}}]),
            Problem::Contradiction("Values and RegexValues"),
        ),
        (
            json!([{"Field": "host-header", "PathPatternConfig": {"Values": ["/a"]}}]),
            Problem::Contradiction("Field and its configuration"),
        ),
        (
            json!([{"Field": "host-header", "Values": ["a.test"], "HostHeaderConfig": {"Values": ["b.test"]}}]),
            Problem::Contradiction("the values of the condition and those of its configuration"),
        ),
        (all(&[hosts(&["a.test"]), hosts(&["b.test"])]), Problem::Repeated),
        (all(&[methods(&["GET"]), methods(&["PUT"])]), Problem::Repeated),
    ] {
        assert_eq!(
            matcher(&conditions).map_err(|error| error.problem).err(),
            Some(wanted),
            "{conditions}"
        );
    }

    let error = matcher(&all(&[hosts(&["a.test"]), path_regex("(")])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "condition 2 (path-pattern): `(` cannot be read: unclosed group"
    );
}

/// <https://docs.aws.amazon.com/cli/latest/reference/elbv2/describe-rules.html>, the guide's samples, and members to come.
#[test]
fn conditions_are_written_back_as_they_were_read() {
    for sample in [
        json!([{"Field": "path-pattern", "Values": ["/img/*"], "PathPatternConfig": {"Values": ["/img/*"]}}]),
        json!([{"Field": "host-header", "Values": [], "HostHeaderConfig": {"RegexValues": ["^(.*)\\.example\\.com$"]}}]),
        json!([{"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "User-Agent", "Values": ["*Chrome*"]}}]),
        queries(json!([{"Key": "version", "Value": "v1"}, {"Value": "*example*"}])),
        methods(&["CUSTOM-METHOD"]),
        sources(&["192.0.2.0/24", "2001:db8::/32"]),
        json!([{"Field": "source-ip", "SourceIpConfig": {"IpAddressType": "ipv6"}}]),
        json!([{"Field": "path-pattern", "RegexValues": ["^/a$"], "Later": {"Deep": [1, null]}}]),
    ]
    .into_iter()
    .chain(table().into_iter().map(|row| row.conditions))
    {
        let read: Vec<Condition> = serde_json::from_value(sample.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), sample);
    }
}

#[test]
fn the_first_rule_is_the_lowest_number_whatever_the_order() {
    let rule = |priority, id, conditions: Value| Candidate {
        priority,
        id,
        matcher: matcher(&conditions),
    };
    let mut rules = vec![
        rule(30, "all", paths(&["*"])),
        rule(10, "api", paths(&["/api/*"])),
        rule(20, "unreadable", path_regex("(")),
        rule(15, "office", all(&[paths(&["/office/*"]), sources(&["192.0.2.0/24"])])),
    ];
    let check = |rules: &[Candidate<&'static str>]| {
        let first = |ask: &Ask| match first_match(rules, &request(ask)) {
            FirstMatch::Rule(id) => format!("rule {id}"),
            FirstMatch::Undecided {
                rule,
                reason: Reason::Unreadable(_),
            } => format!("cannot read {rule}"),
            FirstMatch::Undecided {
                rule,
                reason: Reason::Unknown(doubt),
            } => format!("cannot judge {rule}: {doubt:?}"),
            FirstMatch::Default => "default".to_owned(),
        };
        assert_eq!(first(&path("/api/x")), "rule api");
        assert_eq!(first(&path("/office/x")), "rule office");
        assert_eq!(
            first(&Ask {
                source_ip: None,
                ..path("/office/x")
            }),
            "cannot judge office: SourceIp"
        );
        assert_eq!(first(&path("/other")), "cannot read unreadable");
    };
    check(&rules);
    rules.reverse();
    check(&rules);
    rules.sort_by_key(|rule| rule.priority);
    check(&rules);

    // Behind the gateway, rules that do not forward to the caller are left out.
    let readable = rules.iter().filter(|rule| rule.id != "unreadable");
    assert_eq!(
        first_match(readable, &request(&path("/other"))),
        FirstMatch::Rule(&"all")
    );
    assert_eq!(first_match(&rules[..2], &request(&path("/other"))), FirstMatch::Default);
}

fn naive(pattern: &str, escapes: bool, case: Case) -> regex::bytes::Regex {
    let mut text = String::from(if case == Case::Insensitive {
        "(?is-u)^"
    } else {
        "(?s-u)^"
    });
    let mut chars = pattern.chars().peekable();
    while let Some(char) = chars.next() {
        let literal = match char {
            '*' => {
                text.push_str(".*");
                continue;
            }
            '?' => {
                text.push('.');
                continue;
            }
            '\\' if escapes => chars.next_if(|next| "*?\\".contains(*next)).unwrap_or(char),
            other => other,
        };
        text.push_str(&regex::escape(&literal.to_string()));
    }
    text.push('$');
    regex::bytes::Regex::new(&text).unwrap()
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, cases: 2_000, ..Config::default() })]

    #[test]
    fn a_wildcard_pattern_is_its_regular_expression(
        pattern in r"[abA*?\\/.]{0,12}", text in r"[abA*?\\/.]{0,16}", escapes: bool, blind: bool
    ) {
        let case = if blind { Case::Insensitive } else { Case::Sensitive };
        let glob = if escapes { Glob::with_escapes(&pattern, case) } else { Glob::new(&pattern, case) };
        prop_assert_eq!(glob.matches(text.as_bytes()), naive(&pattern, escapes, case).is_match(text.as_bytes()));
    }

    #[test]
    fn a_wildcard_pattern_takes_any_bytes(pattern: String, text: Vec<u8>) {
        for case in [Case::Sensitive, Case::Insensitive] {
            let _ = Glob::new(&pattern, case).matches(&text);
            let _ = Glob::with_escapes(&pattern, case).matches(&text);
        }
    }

    #[test]
    fn no_request_and_no_condition_panics(
        pattern in r"[*?\\a()\[\]{},+^$&;:-]{1,10}|\PC{1,10}",
        host: String, path in r"(/|\.|%|2e|2F|é|\PC){0,12}", query in r"(&|=|%|4|1|a|\PC){0,12}", name: String, value: String,
        seen in prop_oneof![Just(Seen::AtGateway), Just(Seen::BehindGateway)],
    ) {
        let headers = [("x".to_owned(), value.clone()), (name.clone(), value)];
        let request = Request {
            method: &name, host: &host, path: &path, query: Query::Raw(&query), headers: &headers, source_ip: None, seen,
        };
        let pattern = [pattern.as_str()];
        let pair = queries(json!([{"Key": pattern[0], "Value": pattern[0]}]));
        for conditions in [
            hosts(&pattern), host_regex(pattern[0]), paths(&pattern), path_regex(pattern[0]), headers_of(&pattern),
            header_regex("x", pattern[0]), pair, methods(&pattern), sources(&pattern),
        ] {
            if let Ok(matcher) = matcher(&conditions) {
                let _ = matcher.matches(&request);
            }
        }
    }
}

fn headers_of(values: &[&str]) -> Value {
    headers("x", values)
}
