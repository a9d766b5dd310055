//! A wire for tests: answers each call of the SDK from a script, in the service's own dialect, and records it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep, Sleep};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;

use super::Aws;
use super::settings::Endpoints;

/// What comes back for one attempt of a call.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Body(u16, String),
    /// The connection breaks after the request was sent.
    Lost,
    /// Nothing comes back, ever.
    Never,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<String>) -> Self {
        Answer::Body(200, body.into())
    }

    pub(crate) fn ec2_error(code: &str, message: &str) -> Self {
        let body = format!(
            "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors></Response>"
        );
        Answer::Body(400, body)
    }

    pub(crate) fn elb_error(code: &str, message: &str) -> Self {
        let body = format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
             </ErrorResponse>"
        );
        Answer::Body(400, body)
    }

    pub(crate) fn json_error(code: &str, message: &str) -> Self {
        let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"{message}"}}"#);
        Answer::Body(400, body)
    }
}

/// The script and what was asked so far.
#[derive(Debug, Clone)]
pub(crate) struct Wire(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    script: Vec<(String, Answer)>,
    asked: Vec<String>,
}

impl Wire {
    /// Each answer is for the next call whose body has the text beside it (`Action=StartInstances` has
    /// `StartInstances`); a DynamoDB call is known by its target header. Calls may come in any order.
    pub(crate) fn new(script: Vec<(&str, Answer)>) -> Self {
        let script = script
            .into_iter()
            .map(|(call, answer)| (call.to_owned(), answer))
            .collect();
        Wire(Arc::new(Mutex::new(State {
            script,
            asked: Vec::new(),
        })))
    }

    pub(crate) fn aws(&self) -> Aws {
        self.aws_with_time_through(1)
    }

    /// For what ends by a time-out: all time-outs and pauses are divided by 20.
    pub(crate) fn hurried_aws(&self) -> Aws {
        self.aws_with_time_through(20)
    }

    fn aws_with_time_through(&self, divisor: u32) -> Aws {
        let connector = SharedHttpConnector::new(self.clone());
        let http = http_client_fn(move |_, _| connector.clone());
        let endpoints = Endpoints {
            all: Some("http://127.0.0.1:1".to_owned()),
            ..Endpoints::default()
        };
        let token = Some("hidden-token".to_owned());
        let credentials = Credentials::new("AKIDEXAMPLE", "hidden", token, None, "test");
        let credentials = SharedCredentialsProvider::new(credentials);
        Aws {
            sleep: SharedAsyncSleep::new(Divided(divisor)),
            ..Aws::new("us-east-1".to_owned(), credentials, http, endpoints)
        }
    }

    /// The requests' texts (a query string as sent) so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }

    /// Those that have this text.
    pub(crate) fn asked_for(&self, call: &str) -> Vec<String> {
        self.asked().into_iter().filter(|text| text.contains(call)).collect()
    }

    /// What of the script was never asked for.
    pub(crate) fn left(&self) -> Vec<String> {
        let state = self.0.lock().unwrap();
        state.script.iter().map(|(call, _)| call.clone()).collect()
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default());
        let text = format!("{target}{body}");
        let mut state = self.0.lock().unwrap();
        let place = state.script.iter().position(|(call, _)| text.contains(call.as_str()));
        let answer = match place {
            Some(place) => state.script.remove(place).1,
            None => Answer::Body(400, format!("no answer in the script for {text}")),
        };
        state.asked.push(text);
        HttpConnectorFuture::new(async move {
            match answer {
                Answer::Body(status, body) => {
                    let status = status.try_into().expect("a status");
                    Ok(HttpResponse::new(status, SdkBody::from(body)))
                }
                Answer::Lost => Err(ConnectorError::io("connection reset".into())),
                Answer::Never => std::future::pending().await,
            }
        })
    }
}

#[derive(Debug)]
struct Divided(u32);

impl AsyncSleep for Divided {
    fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(tokio::time::sleep(duration / self.0))
    }
}
