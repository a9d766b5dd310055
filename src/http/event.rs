//! What the function is invoked with, read leniently: AWS forwards header names and characters that strict types refuse,
//! and a refused event is a 502 for the visitor.
//!
//! Shape: <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html>

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::domain::matching::{Query, Request, Seen};
use crate::domain::rule::{GroupId, ResourceId};

use super::press;

/// What the function can be invoked with.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Alb(AlbRequest),
    /// EventBridge's schedule.
    Tick,
    /// "EC2 Instance State-change Notification".
    StateChange {
        instance: ResourceId,
        state: String,
    },
    /// An operator asks the function whether it is all right. No load balancer and no EventBridge sends this: its one member
    /// is none of theirs, and theirs are looked for first.
    SelfCheck,
    /// None of ours; what it seems to be.
    Unknown(String),
}

/// A request as ALB hands it over. Nothing is decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct AlbRequest {
    /// The waker's target group.
    pub target_group: GroupId,
    pub method: String,
    /// Empty or odd paths are kept as they are.
    pub path: String,
    /// In ALB's order, a repeated key as often as it came when the target group has multi-value headers on.
    pub query: Vec<(String, String)>,
    /// Names as they came.
    pub headers: Vec<(String, String)>,
    /// Whether its body is the form of our page's button.
    pub is_our_form: bool,
    /// Whether the answer has to use the multi-value fields too.
    pub multi_value: bool,
}

/// The event of [`Event::SelfCheck`].
pub fn self_check() -> Value {
    json!({ "autostopping": "self-check" })
}

/// The JSON of an event. Half a surrogate pair, which JSON may write and Rust's text cannot hold, becomes U+FFFD; what is
/// no JSON at all is null.
pub fn parse(text: &str) -> Value {
    serde_json::from_str(text)
        .unwrap_or_else(|_| serde_json::from_str(&without_lone_surrogates(text)).unwrap_or(Value::Null))
}

/// The `X-Amzn-Trace-Id` that the load balancer gave a request, by which its access log and ours are compared.
pub fn trace_id(event: &Value) -> Option<&str> {
    let of = |headers: &str, pick: fn(&Value) -> Option<&str>| pick(event.get(headers)?.get("x-amzn-trace-id")?);
    of("headers", Value::as_str).or_else(|| of("multiValueHeaders", |values| values.get(0)?.as_str()))
}

fn without_lone_surrogates(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let unit = |text: &str| {
            text.strip_prefix("\\u")
                .and_then(|hex| u16::from_str_radix(hex.get(..4)?, 16).ok())
        };
        let (take, write) = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => (12, None),
            (Some(0xD800..=0xDFFF), _) => (6, Some("\\uFFFD")),
            (Some(_), _) => (6, None),
            // Any other escape is two characters long.
            (None, _) => (1 + escape.chars().nth(1).map_or(0, char::len_utf8), None),
        };
        mended.push_str(write.unwrap_or(&escape[..take]));
        rest = &escape[take..];
    }
    mended.push_str(rest);
    mended
}

impl Event {
    /// Reads an event. Never fails: what is not understood is [`Event::Unknown`].
    pub fn read(event: &Value) -> Self {
        if let Some(target_group) = event.pointer("/requestContext/elb/targetGroupArn") {
            return Event::Alb(AlbRequest::read(event, target_group));
        }
        let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
        match (text("source"), text("detail-type")) {
            ("aws.events" | "aws.scheduler", "Scheduled Event") => Event::Tick,
            ("aws.ec2", "EC2 Instance State-change Notification") => {
                let detail = |key: &str| {
                    event
                        .pointer(&format!("/detail/{key}"))
                        .and_then(Value::as_str)
                        .map(str::to_owned)
                };
                match (detail("instance-id"), detail("state")) {
                    (Some(instance), Some(state)) => Event::StateChange {
                        instance: ResourceId(instance),
                        state,
                    },
                    _ => Event::Unknown("a state-change notification without instance-id or state".to_owned()),
                }
            }
            _ if *event == self_check() => Event::SelfCheck,
            ("", "") => Event::Unknown("neither a request of a load balancer nor an event of EventBridge".to_owned()),
            (source, detail) => Event::Unknown(format!("an event of source {source:?} and detail-type {detail:?}")),
        }
    }
}

impl AlbRequest {
    fn read(event: &Value, target_group: &Value) -> Self {
        let multi_value = event.get("multiValueHeaders").is_some_and(Value::is_object);
        let fields = |many: &str, one: &str| {
            let object = event
                .get(many)
                .filter(|v| v.is_object())
                .or_else(|| event.get(one))
                .and_then(Value::as_object);
            object.map(pairs).unwrap_or_default()
        };
        let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        AlbRequest {
            target_group: GroupId(target_group.as_str().unwrap_or_default().to_owned()),
            method: text("httpMethod"),
            path: text("path"),
            query: fields("multiValueQueryStringParameters", "queryStringParameters"),
            headers: fields("multiValueHeaders", "headers"),
            is_our_form: press::is_form(&text("body"), event["isBase64Encoded"] == true),
            multi_value,
        }
    }

    /// The first value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The Host header; empty when there is none.
    pub fn host(&self) -> &str {
        self.header("host").unwrap_or_default()
    }

    /// The listener's port, if the header is a number.
    pub fn port(&self) -> Option<u16> {
        self.header("x-forwarded-port")
            .and_then(|port| port.trim().parse().ok())
    }

    /// The address of the peer, which is what ALB appended last to X-Forwarded-For; what stands before it is the client's
    /// own claim. An address with a port (`xff_client_port`) is understood, and an IPv4 address written as IPv6 is taken for
    /// what it is. All this holds while the load balancer's `routing.http.xff_header_processing.mode` is `append`.
    pub fn peer(&self) -> Option<IpAddr> {
        let chain = self
            .headers
            .iter()
            .rev()
            .find(|(key, _)| key.eq_ignore_ascii_case("x-forwarded-for"))?;
        let last = chain.1.rsplit(',').next()?.trim();
        let bare = || last.parse::<IpAddr>().ok();
        let with_port = || last.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
        let bracketed = || {
            last.strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .and_then(|ip| ip.parse().ok())
        };
        let peer = bare().or_else(with_port).or_else(bracketed);
        peer.map(|address| address.to_canonical())
    }

    /// Path and query as they came. A key without `=` and one with an empty value are the same to ALB's event; the
    /// shorter form is written.
    pub fn path_and_query(&self) -> String {
        if self.query.is_empty() {
            return self.path.clone();
        }
        let pair = |(key, value): &(String, String)| {
            if value.is_empty() {
                key.clone()
            } else {
                format!("{key}={value}")
            }
        };
        format!(
            "{}?{}",
            self.path,
            self.query.iter().map(pair).collect::<Vec<_>>().join("&")
        )
    }

    /// As the listener's rules are compared with it.
    pub fn as_matched(&self) -> Request<'_> {
        Request {
            method: &self.method,
            host: self.host(),
            path: &self.path,
            query: Query::Pairs(&self.query),
            headers: &self.headers,
            source_ip: self.peer(),
            seen: Seen::BehindGateway,
        }
    }
}

/// Single values and lists alike; whatever is not text is left out.
fn pairs(object: &Map<String, Value>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (key, value) in object {
        match value {
            Value::String(text) => pairs.push((key.clone(), text.clone())),
            Value::Array(values) => {
                pairs.extend(
                    values
                        .iter()
                        .filter_map(Value::as_str)
                        .map(|text| (key.clone(), text.to_owned())),
                );
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {}
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alb(rest: Value) -> AlbRequest {
        let mut event = json!({"requestContext": {"elb": {"targetGroupArn": "arn:tg"}}});
        if let (Some(event), Some(rest)) = (event.as_object_mut(), rest.as_object()) {
            event.extend(rest.clone());
        }
        match Event::read(&event) {
            Event::Alb(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_header_forms_read_the_same() {
        let one = alb(
            json!({"httpMethod": "GET", "path": "/a", "headers": {"Host": "x"}, "queryStringParameters": {"q": "%26"}}),
        );
        let many = alb(
            json!({"httpMethod": "GET", "path": "/a", "multiValueHeaders": {"Host": ["x"]},
            "multiValueQueryStringParameters": {"q": ["%26"]}}),
        );
        assert_eq!(one.headers, many.headers);
        assert_eq!(one.path_and_query(), "/a?q=%26");
        assert_eq!(many.path_and_query(), "/a?q=%26");
        assert!(many.multi_value && !one.multi_value);
    }

    #[test]
    fn the_peer_is_what_the_load_balancer_appended() {
        let peer = |value: &str| {
            alb(json!({"headers": {"x-forwarded-for": value}}))
                .peer()
                .map(|ip| ip.to_string())
        };
        assert_eq!(peer("10.0.0.1, 203.0.113.9").as_deref(), Some("203.0.113.9"));
        assert_eq!(peer("203.0.113.9:4711").as_deref(), Some("203.0.113.9"));
        assert_eq!(peer("2001:db8::1").as_deref(), Some("2001:db8::1"));
        assert_eq!(peer("[2001:db8::1]:443").as_deref(), Some("2001:db8::1"));
        assert_eq!(peer("::ffff:203.0.113.9").as_deref(), Some("203.0.113.9"));
        assert_eq!(peer("[::ffff:203.0.113.9]:4711").as_deref(), Some("203.0.113.9"));
        assert_eq!(peer("unknown"), None);
        // What the client wrote last is not last any more; an entry that is no address is not looked past.
        assert_eq!(peer("203.0.113.9,"), None);
        assert_eq!(peer("203.0.113.9, evil"), None);
    }

    #[test]
    fn half_a_surrogate_pair_loses_no_request() {
        let text = r#"{"path": "/\\ud800", "a": "\ud83d\ude00", "b": "\ud800x", "c": "\\\udfff"}"#
            .replace(r"\\ud800", r"\ud800");
        let event = parse(&text);
        assert_eq!(
            event,
            json!({"path": "/\u{fffd}", "a": "\u{1f600}", "b": "\u{fffd}x", "c": "\\\u{fffd}"})
        );
        assert_eq!(parse("no JSON"), Value::Null);
    }

    #[test]
    fn a_self_check_is_this_and_nothing_else() {
        assert_eq!(Event::read(&self_check()), Event::SelfCheck);
        // What a visitor can put into a request never becomes one, nor does anything with more in it.
        let mut request =
            json!({"requestContext": {"elb": {"targetGroupArn": "g"}}, "path": "/", "body": self_check().to_string()});
        request["headers"] = self_check();
        request["queryStringParameters"] = self_check();
        assert!(matches!(Event::read(&request), Event::Alb(_)));
        request["autostopping"] = json!("self-check");
        assert!(matches!(Event::read(&request), Event::Alb(_)));
        let with_more = json!({"autostopping": "self-check", "source": "aws.events", "detail-type": "Scheduled Event"});
        assert_eq!(Event::read(&with_more), Event::Tick);
        for odd in [
            json!({"autostopping": "self-check", "and": "more"}),
            json!({"autostopping": "wake"}),
            json!({"autostopping": null}),
            json!("self-check"),
        ] {
            assert!(matches!(Event::read(&odd), Event::Unknown(_)), "{odd}");
        }
    }

    #[test]
    fn odd_events_are_read_as_far_as_they_go() {
        let odd = alb(json!({"headers": null, "path": 7, "queryStringParameters": {"a": null}, "body": null}));
        assert_eq!((odd.host(), odd.path.as_str(), odd.query.len()), ("", "", 0));
        assert!(matches!(Event::read(&json!(null)), Event::Unknown(_)));
        assert_eq!(
            Event::read(&json!({"source": "aws.events", "detail-type": "Scheduled Event"})),
            Event::Tick
        );
    }
}
