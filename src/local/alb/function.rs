//! Function targets: the ALB event and the rules for its answer. Source: "Lambda functions as targets for Application
//! Load Balancers".

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
};
use serde_json::{Map, Value, json};

use super::{Exchange, Served, forwarded, pairs, upgrades};
use crate::local::serve::full;

/// The largest request body and the largest answer.
const SIZE: usize = 1024 * 1024;

/// Asks the function.
pub async fn ask(exchange: &Exchange, group: &str, multi_value: bool, request: Request<Incoming>) -> Served {
    if upgrades(request.headers()) {
        return Served::own(400, "a function cannot switch protocols");
    }
    let (mut head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, SIZE).collect().await else {
        return Served::own(413, "a function takes at most 1 MB");
    };
    forwarded(exchange, &mut head.headers);
    let event = event(
        group,
        multi_value,
        &head.method,
        &head.uri,
        &head.headers,
        &body.to_bytes(),
    );
    let registered = registered(exchange, group);
    let Some(function) = registered else {
        return Served::own(503, "the target group has no target");
    };
    let event = Bytes::from(event.to_string());
    let answer = match exchange.shared.invoke_behind(&function, event).await.1 {
        Ok(answer) => answer,
        Err(error) => return Served::own(502, error.to_string()),
    };
    match response(&answer, multi_value, head.method == Method::HEAD) {
        Ok(response) => Served {
            response: response.map(full),
            target: String::new(),
            reason: String::new(),
        },
        Err(reason) => Served::own(502, reason),
    }
}

/// The ARN of the function in a target group.
fn registered(exchange: &Exchange, group: &str) -> Option<String> {
    let world = exchange.shared.world();
    let group = world.target_group(group)?;
    group.targets.first().map(|target| target.id.clone())
}

/// The event of a request.
fn event(group: &str, multi_value: bool, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Value {
    let query = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty());
    let query: Vec<(String, String)> = query
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let mut event = json!({
        "requestContext": { "elb": { "targetGroupArn": group } },
        "httpMethod": method.as_str(),
        "path": uri.path(),
    });
    if multi_value {
        event["multiValueQueryStringParameters"] = many(query);
        event["multiValueHeaders"] = many(pairs(headers));
    } else {
        event["queryStringParameters"] = last(query);
        event["headers"] = last(pairs(headers));
    }
    let text = (!encodes(headers) || body.is_empty())
        .then(|| std::str::from_utf8(body).ok())
        .flatten();
    event["body"] = text.map_or_else(|| Value::from(STANDARD.encode(body)), Value::from);
    event["isBase64Encoded"] = Value::Bool(text.is_none());
    event
}

fn last(pairs: Vec<(String, String)>) -> Value {
    Value::Object(
        pairs
            .into_iter()
            .map(|(key, value)| (key, Value::from(value)))
            .collect(),
    )
}

fn many(pairs: Vec<(String, String)>) -> Value {
    let mut all = Map::new();
    for (key, value) in pairs {
        if let Value::Array(list) = all.entry(key).or_insert_with(|| Value::Array(Vec::new())) {
            list.push(Value::from(value));
        }
    }
    Value::Object(all)
}

/// Whether a body is passed on in Base64: with a content encoding, or with a type that is not known to be text.
fn encodes(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    let texts = ["application/json", "application/javascript", "application/xml"];
    let text = kind.starts_with("text/") || texts.iter().any(|text| kind.starts_with(text));
    headers.contains_key(header::CONTENT_ENCODING) || !text
}

/// The response that a function's answer stands for.
///
/// # Errors
/// What is wrong with the answer: the visitor gets a 502.
pub fn response(answer: &Bytes, multi_value: bool, head: bool) -> Result<Response<Bytes>, String> {
    if answer.len() > SIZE {
        return Err("the answer is larger than 1 MB".to_owned());
    }
    let answer: Value = serde_json::from_slice(answer).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let answer = answer.as_object().ok_or("the answer is not a JSON object")?;
    if let Some((key, _)) = answer.iter().find(|(_, value)| value.is_null()) {
        return Err(format!("{key} is null in the answer"));
    }
    let status = answer
        .get("statusCode")
        .and_then(Value::as_u64)
        .and_then(|status| u16::try_from(status).ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let status = status
        .filter(|status| status.as_u16() >= 200)
        .ok_or("the answer's statusCode is no status")?;
    if answer.get("statusDescription").is_some_and(|words| !words.is_string()) {
        return Err("statusDescription is not a string".to_owned());
    }
    let encoded = match answer.get("isBase64Encoded") {
        None => false,
        Some(Value::Bool(encoded)) => *encoded,
        Some(_) => return Err("isBase64Encoded is not a truth value".to_owned()),
    };
    let body = match answer.get("body") {
        None => Bytes::new(),
        Some(Value::String(body)) if encoded => Bytes::from(
            STANDARD
                .decode(body)
                .map_err(|error| format!("the body is not Base64: {error}"))?,
        ),
        Some(Value::String(body)) => Bytes::from(body.clone()),
        Some(_) => return Err("body is not a string".to_owned()),
    };
    let mut response = Response::new(if head { Bytes::new() } else { body });
    *response.status_mut() = status;
    let (right, wrong) = if multi_value {
        ("multiValueHeaders", "headers")
    } else {
        ("headers", "multiValueHeaders")
    };
    if answer.contains_key(wrong) && !answer.contains_key(right) {
        return Err(format!(
            "the answer has {wrong} where the target group asks for {right}"
        ));
    }
    for (name, value) in header_pairs(answer.get(right), multi_value)? {
        let hop = [
            "connection",
            "keep-alive",
            "transfer-encoding",
            "upgrade",
            "content-length",
        ];
        if hop.contains(&name.to_ascii_lowercase().as_str()) {
            continue;
        }
        let key = HeaderName::try_from(&name).map_err(|_| format!("'{name}' is not a header name"))?;
        let value = HeaderValue::try_from(&value).map_err(|_| format!("the value of {name} is not a header value"))?;
        response.headers_mut().append(key, value);
    }
    let headers = response.headers_mut();
    headers
        .entry(header::CONTENT_TYPE)
        .or_insert(HeaderValue::from_static("application/octet-stream"));
    headers
        .entry(header::SERVER)
        .or_insert(HeaderValue::from_static("awselb/2.0"));
    Ok(response)
}

fn header_pairs(headers: Option<&Value>, multi_value: bool) -> Result<Vec<(String, String)>, String> {
    let Some(headers) = headers else { return Ok(Vec::new()) };
    let headers = headers.as_object().ok_or("the headers are not a JSON object")?;
    let mut pairs = Vec::new();
    for (name, value) in headers {
        let values = match value {
            Value::Array(values) if multi_value => values.iter().collect(),
            value if !multi_value => vec![value],
            _ => return Err(format!("the header {name} is not a list")),
        };
        for value in values {
            let text = value
                .as_str()
                .ok_or_else(|| format!("the value of the header {name} is not a string"))?;
            pairs.push((name.clone(), text.to_owned()));
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(answer: &str, multi_value: bool) -> Result<Response<Bytes>, String> {
        response(&Bytes::from(answer.to_owned()), multi_value, false)
    }

    #[test]
    fn events_have_the_last_value_or_all_and_are_never_decoded() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-a", "2"), ("content-type", "text/plain")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let uri: Uri = "/a%2Fb//c?x=%26&x=2&flag&=e".parse().unwrap();
        let one = event("g", false, &Method::POST, &uri, &headers, &Bytes::from_static(b"hi"));
        let expected = json!({
            "requestContext": { "elb": { "targetGroupArn": "g" } },
            "httpMethod": "POST",
            "path": "/a%2Fb//c",
            "queryStringParameters": { "x": "2", "flag": "", "": "e" },
            "headers": { "x-a": "2", "content-type": "text/plain" },
            "body": "hi",
            "isBase64Encoded": false,
        });
        assert_eq!(one, expected);
        let all = event("g", true, &Method::POST, &uri, &headers, &Bytes::new());
        assert_eq!(all["multiValueHeaders"]["x-a"], json!(["1", "2"]));
        assert_eq!(all["multiValueQueryStringParameters"]["x"], json!(["%26", "2"]));
        assert!(all.get("headers").is_none() && all.get("queryStringParameters").is_none());
        assert_eq!((&all["body"], &all["isBase64Encoded"]), (&json!(""), &json!(false)));
        let binary = event(
            "g",
            true,
            &Method::POST,
            &uri,
            &HeaderMap::new(),
            &Bytes::from_static(b"\xff"),
        );
        assert_eq!(
            (&binary["body"], &binary["isBase64Encoded"]),
            (&json!("/w=="), &json!(true))
        );
    }

    #[test]
    fn a_good_answer_becomes_its_response() {
        let answer = r#"{"statusCode":503,"statusDescription":"503 Service Unavailable","isBase64Encoded":true,
            "headers":{"Retry-After":"5","Content-Length":"99","Content-Type":"text/html"},"body":"aGk="}"#;
        let response = made(answer, false).unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "5");
        assert!(!response.headers().contains_key("content-length"));
        assert_eq!(response.body().as_ref(), b"hi");
        let cookies = r#"{"statusCode":200,"multiValueHeaders":{"Set-Cookie":["a=1","b=2"]}}"#;
        assert_eq!(
            made(cookies, true)
                .unwrap()
                .headers()
                .get_all("set-cookie")
                .iter()
                .count(),
            2
        );
        assert_eq!(made(r#"{"statusCode":204}"#, true).unwrap().status(), 204);
    }

    #[test]
    fn malformed_answers_are_named() {
        for (answer, multi_value, expected) in [
            ("nonsense", false, "not JSON"),
            ("[]", false, "not a JSON object"),
            (r#"{"body":"x"}"#, false, "statusCode"),
            (r#"{"statusCode":"200"}"#, false, "statusCode"),
            (r#"{"statusCode":99}"#, false, "statusCode"),
            (r#"{"statusCode":200,"headers":null}"#, false, "headers is null"),
            (r#"{"statusCode":200,"body":null}"#, false, "body is null"),
            (
                r#"{"statusCode":200,"statusDescription":null}"#,
                false,
                "statusDescription is null",
            ),
            (r#"{"statusCode":200,"headers":{"a":1}}"#, false, "not a string"),
            (r#"{"statusCode":200,"headers":{"a":["1"]}}"#, false, "not a string"),
            (
                r#"{"statusCode":200,"headers":{"a b":"1"}}"#,
                false,
                "not a header name",
            ),
            (
                r#"{"statusCode":200,"headers":{"a":"x\ny"}}"#,
                false,
                "not a header value",
            ),
            (
                r#"{"statusCode":200,"multiValueHeaders":{"a":"1"}}"#,
                true,
                "not a list",
            ),
            (
                r#"{"statusCode":200,"headers":{"a":"1"}}"#,
                true,
                "asks for multiValueHeaders",
            ),
            (
                r#"{"statusCode":200,"multiValueHeaders":{"a":["1"]}}"#,
                false,
                "asks for headers",
            ),
            (r#"{"statusCode":200,"body":7}"#, false, "body is not a string"),
            (
                r#"{"statusCode":200,"body":"?","isBase64Encoded":true}"#,
                false,
                "not Base64",
            ),
            (r#"{"statusCode":200,"isBase64Encoded":"no"}"#, false, "isBase64Encoded"),
        ] {
            let reason = made(answer, multi_value).expect_err(answer);
            assert!(reason.contains(expected), "{answer}: {reason}");
        }
        let large = format!(r#"{{"statusCode":200,"body":"{}"}}"#, "x".repeat(SIZE));
        assert!(made(&large, false).unwrap_err().contains("1 MB"));
    }

    #[test]
    fn a_body_to_a_head_is_dropped() {
        let answer = Bytes::from_static(br#"{"statusCode":200,"body":"x"}"#);
        assert_eq!(response(&answer, false, true).unwrap().body().len(), 0);
    }
}
