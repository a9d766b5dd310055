//! What the function is invoked with: requests that somebody meant to do harm with, and worse.

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// What breaks out of something, somewhere. A tag or attribute with this word in its name is the attacker's.
pub const MARK: &str = "zqx";
const FRAGMENTS: [&str; 40] = [
    "\"'><zqx onzqx=zqx>",
    "<script zqx>zqx()</script>",
    "</script></style></title><zqx>",
    "--><zqx>",
    "<!--",
    "'onzqx='zqx",
    "\"onzqx=\"zqx",
    "`onzqx=`",
    "\r\nSet-Cookie: zqx=1",
    "\n\n",
    "\u{0}",
    "\t",
    "\u{7f}\u{1b}[31m",
    "\u{202e}\u{2066}\u{200f}",
    "\u{2028}\u{feff}\u{fffe}",
    "\u{1f600}\u{10ffff}",
    "\u{e4}\u{df}",
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/./",
    "/../",
    "@evil.example",
    ":80@evil.example",
    "https://evil.example/",
    "javascript:zqx()",
    "0;url=//evil.example",
    "%0d%0aSet-Cookie:%20zqx=1",
    "%2f%2fevil.example",
    "%zz%",
    "%00",
    "&amp;&#60;zqx&#62;",
    "{rule}{{7*7}}{% zqx %}",
    "?a=b&c",
    "#fragment",
    ", ,;q=x;q=9999",
    "\\ud800",
    "a",
    "/",
];
const METHODS: [&str; 9] = ["GET", "GET", "GET", "POST", "HEAD", "OPTIONS", "PUT", "get", ""];
const ACCEPTS: [&str; 9] = [
    "text/html,application/xhtml+xml,*/*;q=0.8",
    "text/html",
    "text/html",
    "text/html, image/webp",
    "Text/HTML;q=1",
    "*/*",
    "application/vnd.autostopping+json",
    "text/event-stream",
    "application/json",
];
const HEADERS: [&str; 16] = [
    "accept-language",
    "user-agent",
    "origin",
    "access-control-request-method",
    "access-control-request-headers",
    "sec-fetch-site",
    "sec-purpose",
    "content-type",
    "x-forwarded-for",
    "x-forwarded-port",
    "x-amzn-trace-id",
    "cookie",
    "te",
    "upgrade",
    "Host",
    "",
];
const VALUES: [&str; 16] = [
    "de,en;q=0.5",
    "Mozilla/5.0",
    "https://app.example.com",
    "PUT",
    "content-type,x-token",
    "same-site",
    "prefetch",
    "application/grpc",
    "203.0.113.7",
    "80",
    "Root=1-67891233-abcdef012345678912345678",
    "null",
    "cross-site",
    "ELB-HealthChecker/2.0",
    "en",
    "GET",
];

/// Any event: mostly a request, spoilt more or less, as the text that Lambda hands over.
pub fn event(rng: &mut Rng, waker: &str, hosts: &[String]) -> String {
    match rng.u8(..) {
        0..=7 => {
            let bytes: Vec<u8> = (0..rng.usize(..200)).map(|_| rng.u8(..)).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        8..=15 => value(rng, 4).to_string(),
        16..=180 => request(rng, waker, hosts).to_string(),
        181..=235 => {
            let mut event = request(rng, waker, hosts);
            for _ in 0..rng.usize(1..4) {
                spoil(rng, &mut event);
            }
            event.to_string()
        }
        _ => {
            let mut bytes = request(rng, waker, hosts).to_string().into_bytes();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bytes.len());
                match rng.u8(..4) {
                    0 => bytes[at] = rng.u8(..),
                    1 => bytes.insert(at, rng.u8(..)),
                    2 => bytes.splice(at..at, *b"\\ud800").for_each(drop),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }
}

/// A request in either form, with the headers of a browser or a program and with what an attacker adds.
fn request(rng: &mut Rng, waker: &str, hosts: &[String]) -> Value {
    let host = match rng.u8(..4) {
        0 => hostile(rng),
        _ => hosts[rng.usize(..hosts.len())].clone(),
    };
    let mut method = rng.choice(METHODS).unwrap_or_default();
    let mut headers = vec![
        ("host".to_owned(), host),
        ("x-forwarded-port".to_owned(), "80".to_owned()),
    ];
    if rng.u8(..8) > 0 {
        let accept = rng.choice(ACCEPTS).unwrap_or_default();
        headers.push(("accept".to_owned(), either(rng, accept)));
    }
    if rng.u8(..8) > 0 {
        headers.push(("x-forwarded-for".to_owned(), either(rng, "203.0.113.7")));
    }
    for _ in 0..rng.usize(..5) {
        let at = rng.usize(..HEADERS.len());
        // Mostly what belongs there.
        let fitting = if rng.u8(..4) == 0 {
            rng.usize(..VALUES.len())
        } else {
            at
        };
        headers.push((HEADERS[at].to_owned(), either(rng, VALUES[fitting])));
    }
    if rng.u8(..12) == 0 {
        for at in 2..6 {
            headers.push((HEADERS[at].to_owned(), either(rng, VALUES[at])));
        }
        method = "OPTIONS";
    }
    match rng.u8(..100) {
        0 => headers.extend((0..600).map(|number| (format!("x-{number}"), "y".repeat(100)))),
        1 => headers.push(("x-long".to_owned(), hostile(rng).repeat(1_000))),
        2 => headers[0].1 = hostile(rng).repeat(500),
        _ => {}
    }
    let query: Vec<(String, String)> = (0..rng.usize(..3))
        .map(|_| (either(rng, "q"), either(rng, "1")))
        .collect();
    let path = match rng.u8(..3) {
        0 => "/".to_owned(),
        1 => hostile(rng),
        _ => format!("/{}", hostile(rng)),
    };
    let body = match rng.u16(..1_000) {
        0 => "x".repeat(900_000),
        1..50 => "no base64 \u{0}".to_owned(),
        _ => String::new(),
    };
    let mut event = json!({
        "requestContext": { "elb": { "targetGroupArn": waker } },
        "httpMethod": either(rng, method),
        "path": path,
        "body": body,
        "isBase64Encoded": rng.bool(),
    });
    if rng.bool() {
        event["headers"] = one(headers);
        event["queryStringParameters"] = one(query);
    } else {
        event["multiValueHeaders"] = many(headers);
        event["multiValueQueryStringParameters"] = many(query);
    }
    event
}

fn one(pairs: Vec<(String, String)>) -> Value {
    Value::Object(pairs.into_iter().map(|(key, value)| (key, json!(value))).collect())
}

fn many(pairs: Vec<(String, String)>) -> Value {
    let mut all: Map<String, Value> = Map::new();
    for (key, value) in pairs {
        if let Value::Array(list) = all.entry(key).or_insert_with(|| json!([])) {
            list.push(json!(value));
        }
    }
    Value::Object(all)
}

fn either(rng: &mut Rng, usual: &str) -> String {
    match rng.u8(..6) {
        0 => hostile(rng),
        1 => format!("{usual}{}", hostile(rng)),
        _ => usual.to_owned(),
    }
}

pub fn hostile(rng: &mut Rng) -> String {
    let mut text = String::new();
    for _ in 0..rng.usize(..6) {
        match rng.u8(..8) {
            0 => text.push(rng.char(..)),
            1 => text.push_str(&"A".repeat(rng.usize(..300))),
            _ => text.push_str(rng.choice(FRAGMENTS).unwrap_or_default()),
        }
    }
    text
}

/// Any JSON, so many levels deep.
fn value(rng: &mut Rng, depth: u8) -> Value {
    match rng.u8(..if depth == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => json!(rng.bool()),
        2 => json!(rng.i64(..)),
        3 => json!(rng.f64()),
        4 => json!(hostile(rng)),
        5 => (0..rng.usize(..4)).map(|_| value(rng, depth - 1)).collect(),
        _ => {
            let keys = [
                "requestContext",
                "elb",
                "targetGroupArn",
                "headers",
                "path",
                "source",
                "detail-type",
                "detail",
            ];
            let pairs = (0..rng.usize(..4)).map(|_| {
                let key = rng.choice(keys).unwrap_or_default();
                (either(rng, key), value(rng, depth - 1))
            });
            Value::Object(pairs.collect())
        }
    }
}

/// Puts something else somewhere: another type, nothing, another key.
fn spoil(rng: &mut Rng, event: &mut Value) {
    let inner = match event {
        Value::Object(fields) if !fields.is_empty() && rng.u8(..4) > 0 => {
            let key = fields
                .keys()
                .nth(rng.usize(..fields.len()))
                .cloned()
                .unwrap_or_default();
            match rng.u8(..6) {
                0 => return drop(fields.remove(&key)),
                1 => return drop(fields.insert(hostile(rng), json!(hostile(rng)))),
                _ => fields.get_mut(&key),
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = rng.usize(..list.len());
            list.get_mut(at)
        }
        _ => None,
    };
    match inner {
        Some(inner) => spoil(rng, inner),
        None => *event = value(rng, 2),
    }
}
