//! Events as an Application Load Balancer makes them.

use serde_json::{Value, json};

/// Whether the waker's target group has multi-value headers on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Single,
    Multi,
}

/// A request on its way to the waker.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    pub waker: &'a str,
    pub host: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a [(&'a str, &'a str)],
    pub headers: &'a [(&'a str, &'a str)],
    pub form: Form,
}

pub const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
pub const POLL: (&str, &str) = ("accept", "application/vnd.autostopping+json");

impl<'a> Ask<'a> {
    pub fn get(waker: &'a str, host: &'a str, headers: &'a [(&'a str, &'a str)]) -> Self {
        Ask {
            waker,
            host,
            method: "GET",
            path: "/",
            query: &[],
            headers,
            form: Form::Single,
        }
    }

    pub fn event(&self) -> Value {
        let mut headers = vec![
            ("host", self.host),
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-port", "80"),
            ("x-forwarded-proto", "http"),
            ("x-amzn-trace-id", "Root=1-67891233-abcdef012345678912345678"),
        ];
        headers.extend_from_slice(self.headers);
        let mut event = json!({
            "requestContext": {"elb": {"targetGroupArn": self.waker}},
            "httpMethod": self.method,
            "path": self.path,
            "body": "",
            "isBase64Encoded": false,
        });
        let (of_headers, of_query) = match self.form {
            Form::Single => ("headers", "queryStringParameters"),
            Form::Multi => ("multiValueHeaders", "multiValueQueryStringParameters"),
        };
        event[of_headers] = self.form.object(&headers);
        event[of_query] = self.form.object(self.query);
        event
    }
}

impl Form {
    fn object(self, pairs: &[(&str, &str)]) -> Value {
        let mut object = serde_json::Map::new();
        for (key, value) in pairs {
            match self {
                Form::Single => {
                    object.insert((*key).to_owned(), json!(value));
                }
                Form::Multi => match object.entry((*key).to_owned()).or_insert_with(|| json!([])) {
                    Value::Array(values) => values.push(json!(value)),
                    _ => unreachable!("only arrays are put in"),
                },
            }
        }
        Value::Object(object)
    }
}

/// A header of an answer, in whichever form it came.
pub fn header<'a>(answer: &'a Value, name: &str) -> Option<&'a str> {
    let single = answer.get("headers").and_then(|headers| headers.get(name));
    let multi = || {
        answer
            .get("multiValueHeaders")
            .and_then(|headers| headers.get(name)?.get(0))
    };
    single.or_else(multi).and_then(Value::as_str)
}

/// The JSON in an answer's body.
pub fn body(answer: &Value) -> Value {
    let text = answer["body"].as_str().expect("a body is text");
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
