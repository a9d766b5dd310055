//! An HTTP answer, and how it is handed to ALB.
//!
//! ALB turns a response with a null field, a non-text header or more than 1 MB into a 502, so the JSON is built from
//! plain text alone.

use serde_json::{Value, json};

/// The type of every error that is no page (RFC 9457), whatever the client asked for: a program that reads JSON reads it,
/// and one that reads nothing of it still has the status.
pub const PROBLEM_TYPE: &str = "application/problem+json";
/// The type of the pages.
pub const HTML_TYPE: &str = "text/html; charset=utf-8";

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names are lower-case and ours; values hold no control characters.
    headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    /// An answer that nobody may keep.
    pub fn new(status: u16, content_type: &str, body: String) -> Self {
        let mut answer = Answer {
            status,
            headers: Vec::new(),
            body,
        };
        if !content_type.is_empty() {
            answer = answer.with("content-type", content_type);
        }
        answer.with("cache-control", "no-store")
    }

    /// A problem (RFC 9457): what is wrong in a sentence, and our own members, an object, beside it. Its type says no more
    /// than the status: what is particular is in the members, and no page of documentation is promised for ever.
    pub fn problem(status: u16, detail: &str, members: Value) -> Self {
        let mut body =
            json!({ "type": "about:blank", "title": reason_phrase(status), "status": status, "detail": detail });
        if let (Some(body), Value::Object(members)) = (body.as_object_mut(), members) {
            body.extend(members);
        }
        Answer::new(status, PROBLEM_TYPE, body.to_string())
    }

    /// With one more header; a character no header may hold becomes a space.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        let value = value
            .as_ref()
            .chars()
            .map(|c| if c.is_ascii_graphic() { c } else { ' ' })
            .collect();
        self.headers.push((name, value));
        self
    }

    /// As to a HEAD request: the headers alone.
    #[must_use]
    pub fn without_body(mut self) -> Self {
        self.body.clear();
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.as_str())
    }

    /// As ALB takes it; the header field has to be the one the event used.
    pub fn for_alb(&self, multi_value: bool) -> Value {
        let mut answer = json!({
            "statusCode": self.status,
            "statusDescription": format!("{} {}", self.status, reason_phrase(self.status)),
            "isBase64Encoded": false,
            "body": self.body,
        });
        let (field, headers) = if multi_value {
            (
                "multiValueHeaders",
                self.headers
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), json!([v])))
                    .collect(),
            )
        } else {
            (
                "headers",
                self.headers.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect(),
            )
        };
        answer[field] = Value::Object(headers);
        answer
    }
}

/// RFC 9110, section 15.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        303 => "See Other",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        503 => "Service Unavailable",
        _ => "Answer",
    }
}
