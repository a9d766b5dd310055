//! Which listener rule a request meets, by an Application Load Balancer's own semantics.
//!
//! The event that ALB hands to a Lambda does not say which rule matched, so the rules are matched again here. Facts are
//! from "Condition types for listener rules"
//! (<https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html>, "the guide" below)
//! and the API reference; `tests/matching_table.rs` gives the source of each, and marks what AWS leaves open.
//!
//! What cannot be read is never guessed: an unreadable rule is a [`MatchError`], and a request that cannot be judged is
//! [`Verdict::Unknown`]. Where AWS allows several readings of a text, every reading is tried, and only if all agree is the
//! answer Yes or No.
//!
//! A rule with transforms is matched by ALB before it rewrites, but the target sees the rewritten host and URL. Such a
//! request cannot be matched again from behind the gateway; the caller must not manage those rules, or must know.

mod condition;
mod pattern;
mod read;
pub(super) mod text;

use std::net::IpAddr;

use ipnet::IpNet;

pub use self::condition::{Condition, HttpHeaderConfig, KeyValue, Other, Patterns, QueryStringConfig, Values};
use self::pattern::Pattern;
pub use self::pattern::{Case, Glob};

/// Headers that ALB sets, extends or drops on the way to a target, so that a condition on them cannot be judged there.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/x-forwarded-headers.html>, and (inferred) the
/// connection's own headers of RFC 9110, 7.6.1.
const REWRITTEN: [&str; 12] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-amzn-trace-id",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// As [`REWRITTEN`], by how the name starts: what authentication and TLS add.
const REWRITTEN_PREFIXES: [&str; 3] = ["x-amzn-oidc-", "x-amzn-mtls-", "x-amzn-tls-"];

/// A request as it is compared with conditions. Nothing is decoded: every text is as it came on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, e.g. `GET`.
    pub method: &'a str,
    /// The Host header (or `:authority`), with its port if it has one.
    pub host: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    pub query: Query<'a>,
    /// All headers, a repeated one as often as it came.
    pub headers: &'a [(String, String)],
    /// The peer's address; `None` if it is not known for certain. X-Forwarded-For is not it, unless ALB wrote its end.
    pub source_ip: Option<IpAddr>,
    pub seen: Seen,
}

/// A query as a server has it or as a Lambda event has it; either undecoded.
#[derive(Clone, Copy, Debug)]
pub enum Query<'a> {
    /// What follows the first `?`, or empty.
    Raw(&'a str),
    /// Keys and values; a key without `=` has an empty value.
    Pairs(&'a [(String, String)]),
}

/// On which side of the gateway a request was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// As the client sent it: we are the gateway.
    AtGateway,
    /// As ALB handed it on: some headers are no longer the client's.
    BehindGateway,
}

/// Whether a request meets all conditions of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All conditions are met.
    Yes,
    /// At least one condition is not met, whatever else is unknown.
    No,
    /// No condition is known not to be met, and this one cannot be judged.
    Unknown(Doubt),
}

/// Why a condition cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// There is a source-ip condition and the peer's address is not known.
    #[error("a source-ip condition needs the client's address, which is not known")]
    SourceIp,
    /// The outcome depends on how the path is normalized.
    #[error("whether the path matches depends on how the load balancer normalizes it")]
    Path,
    /// The outcome depends on whether escapes in the query are undone.
    #[error("whether the query matches depends on how the load balancer reads escapes in it")]
    Query,
    /// The outcome depends on characters that are not visible ASCII.
    #[error("whether {0} matches depends on characters that are not visible ASCII")]
    Characters(String),
    /// The load balancer itself sets this header, so the client's value is not known.
    #[error("the load balancer changes the header {0} on the way, so the condition on it cannot be judged")]
    Header(String),
}

/// Conditions that cannot be read, named by position (from 1) and field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("condition {position} ({field}): {problem}")]
pub struct MatchError {
    pub position: usize,
    pub field: String,
    pub problem: Problem,
}

/// What is wrong with a condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("this kind of condition is not known")]
    UnknownField,
    #[error("the member {0} is not known")]
    UnknownMember(String),
    #[error("{0} is missing or empty")]
    Missing(&'static str),
    #[error("{0} contradict each other")]
    Contradiction(&'static str),
    #[error("a rule has at most one condition of this kind")]
    Repeated,
    #[error("`{value}` cannot be read: {reason}")]
    Unreadable { value: String, reason: String },
}

/// The conditions of one rule, ready to match. All must be met; within one, any of its values may be.
#[derive(Clone, Debug)]
pub struct Matcher {
    tests: Vec<Test>,
}

/// A rule as [`first_match`] takes it.
#[derive(Clone, Debug)]
pub struct Candidate<I> {
    /// 1 to 50000; the lowest is asked first.
    pub priority: u32,
    /// The rule's conditions, or why they cannot be read.
    pub matcher: Result<Matcher, MatchError>,
    /// What the caller calls the rule.
    pub id: I,
}

/// The answer of [`first_match`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstMatch<'a, I> {
    /// The request meets this rule and none before it.
    Rule(&'a I),
    /// The request meets no rule before this one, and this one cannot be judged.
    Undecided { rule: &'a I, reason: Reason },
    /// The request meets none of the rules: ALB applies the default rule, which has no conditions.
    Default,
}

/// Why a rule cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error(transparent)]
    Unreadable(MatchError),
    #[error(transparent)]
    Unknown(Doubt),
}

#[derive(Clone, Debug)]
enum Test {
    Host(Vec<Pattern>),
    Path(Vec<Pattern>),
    Header { name: String, patterns: Vec<Pattern> },
    Query(Vec<(Option<Glob>, Glob)>),
    Method(Vec<String>),
    SourceIp(Vec<IpNet>),
}

/// The first rule that the request meets, as ALB evaluates them: lowest priority number first, whatever their order here.
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/listener-rules.html>
///
/// A rule that cannot be judged, because its conditions are unreadable or a fact is missing, ends the search as
/// [`FirstMatch::Undecided`]: passing over it could start the machines of a rule that never gets the request. It does not
/// matter if a rule of lower number matches. A caller behind the gateway may leave out rules that do not forward to it:
/// they cannot have brought the request, so they need no verdict.
pub fn first_match<'a, I: 'a>(
    rules: impl IntoIterator<Item = &'a Candidate<I>>,
    request: &Request<'_>,
) -> FirstMatch<'a, I> {
    let mut first = (u32::MAX, FirstMatch::Default);
    for rule in rules {
        if rule.priority >= first.0 {
            continue;
        }
        let reason = match &rule.matcher {
            Err(error) => Reason::Unreadable(error.clone()),
            Ok(matcher) => match matcher.matches(request) {
                Verdict::Yes => {
                    first = (rule.priority, FirstMatch::Rule(&rule.id));
                    continue;
                }
                Verdict::No => continue,
                Verdict::Unknown(doubt) => Reason::Unknown(doubt),
            },
        };
        first = (rule.priority, FirstMatch::Undecided { rule: &rule.id, reason });
    }
    first.1
}

impl Matcher {
    /// Reads a rule's conditions. No conditions match every request, as the default rule does.
    ///
    /// Limits on number and length of values are AWS's to enforce (they are quotas and may grow); that a rule has at most
    /// one host-header, path-pattern, http-request-method and source-ip condition is checked, since several would need a
    /// meaning that AWS does not give.
    pub fn new(conditions: &[Condition]) -> Result<Self, MatchError> {
        let mut tests: Vec<Test> = Vec::with_capacity(conditions.len());
        for (index, condition) in conditions.iter().enumerate() {
            let test = read::test(condition).and_then(|test| {
                let many = matches!(test, Test::Header { .. } | Test::Query(_));
                let same = |other: &Test| std::mem::discriminant(other) == std::mem::discriminant(&test);
                if !many && tests.iter().any(same) {
                    Err(Problem::Repeated)
                } else {
                    Ok(test)
                }
            });
            tests.push(test.map_err(|problem| MatchError {
                position: index + 1,
                field: condition.field.clone().unwrap_or_else(|| "no field".to_owned()),
                problem,
            })?);
        }
        Ok(Self { tests })
    }

    /// Compares a request with every condition. One condition that is not met settles it as [`Verdict::No`], so a missing
    /// source address matters only to a request that meets all the rest.
    pub fn matches(&self, request: &Request<'_>) -> Verdict {
        let mut doubt = None;
        for test in &self.tests {
            match test.judge(request) {
                Verdict::Yes => {}
                Verdict::No => return Verdict::No,
                Verdict::Unknown(reason) => doubt = doubt.or(Some(reason)),
            }
        }
        doubt.map_or(Verdict::Yes, Verdict::Unknown)
    }
}

impl Test {
    fn judge(&self, request: &Request<'_>) -> Verdict {
        match self {
            Self::Host(patterns) => {
                let [sent, bare] = text::hosts(request.host).map(text::visible);
                let met = sent
                    .iter()
                    .zip(&bare)
                    .map(|(sent, bare)| any(patterns, sent) || any(patterns, bare));
                agreed(met, || Doubt::Characters("the host".to_owned()))
            }
            Self::Path(patterns) => agreed(text::paths(request.path).iter().map(|path| any(patterns, path)), || {
                Doubt::Path
            }),
            Self::Header { name, patterns } => judge_header(name, patterns, request),
            Self::Query(pairs) => match request.query {
                Query::Raw(raw) => any_pair(pairs, raw.split('&').filter(|pair| !pair.is_empty()).map(split_pair)),
                Query::Pairs(given) => any_pair(pairs, given.iter().map(|(key, value)| (key.as_str(), value.as_str()))),
            },
            Self::Method(methods) => known(methods.iter().any(|method| method == request.method)),
            Self::SourceIp(nets) => match request.source_ip {
                // A socket that serves both families shows an IPv4 peer as ::ffff:a.b.c.d.
                Some(address) => known(nets.iter().any(|net| net.contains(&address.to_canonical()))),
                None => Verdict::Unknown(Doubt::SourceIp),
            },
        }
    }
}

/// The same header several times is searched in order until one matches; an absent one meets no pattern, not even `*`.
fn judge_header(name: &str, patterns: &[Pattern], request: &Request<'_>) -> Verdict {
    let rewritten = REWRITTEN.contains(&name) || REWRITTEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if rewritten && request.seen == Seen::BehindGateway {
        return Verdict::Unknown(Doubt::Header(name.to_owned()));
    }
    let values = request
        .headers
        .iter()
        .filter(|(given, _)| given.eq_ignore_ascii_case(name));
    or(values.map(|(_, value)| {
        let met = text::visible(value).into_iter().map(|value| any(patterns, &value));
        agreed(met, || Doubt::Characters(format!("the header {name}")))
    }))
}

fn any_pair<'a>(wanted: &[(Option<Glob>, Glob)], given: impl Iterator<Item = (&'a str, &'a str)>) -> Verdict {
    or(given.map(|(key, value)| {
        let (keys, values) = (text::query_texts(key), text::query_texts(value));
        let met = keys
            .iter()
            .flat_map(|key| values.iter().map(move |value| (key, value)))
            .map(|(key, value)| {
                wanted.iter().any(|(want_key, want_value)| {
                    want_key.as_ref().is_none_or(|want| want.matches(key)) && want_value.matches(value)
                })
            });
        agreed(met, || Doubt::Query)
    }))
}

fn split_pair(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}

fn any(patterns: &[Pattern], text: &[u8]) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}

fn known(met: bool) -> Verdict {
    if met { Verdict::Yes } else { Verdict::No }
}

/// The answer that all readings of a text give.
fn agreed(mut readings: impl Iterator<Item = bool>, doubt: impl Fn() -> Doubt) -> Verdict {
    let Some(first) = readings.next() else {
        return Verdict::No;
    };
    if readings.all(|met| met == first) {
        known(first)
    } else {
        Verdict::Unknown(doubt())
    }
}

fn or(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
    let mut sum = Verdict::No;
    for verdict in verdicts {
        match verdict {
            Verdict::Yes => return Verdict::Yes,
            Verdict::No => {}
            unknown @ Verdict::Unknown(_) => sum = unknown,
        }
    }
    sum
}
