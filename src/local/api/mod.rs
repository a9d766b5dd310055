//! AWS's APIs over HTTP, and the control endpoint `/_local/` beside them, on one port.

mod cbor;
mod cloudwatch;
mod control;
mod dynamodb;
mod ec2;
mod elb;
mod groups;
mod lambda;
mod query;
pub mod record;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header::HeaderValue};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use self::record::{FUNCTION_KEY, Recorder};
use super::{
    serve::{Body, BoxError, Guard, full, serve},
    shared::Shared,
    world::{Failure, Service},
};

/// The content of a successful answer, or AWS's error.
pub type Answer = Result<Value, Failure>;

/// The largest request: Lambda's, for a zip of 50 MB in Base64.
const REQUEST_SIZE: usize = 70_000_000;
const JSON: &str = "application/x-amz-json-1.0";
const CBOR: &str = "application/cbor";
/// Where CloudWatch's calls go in CBOR, and what begins their target in JSON.
const CLOUDWATCH: &str = "/service/GraniteServiceVersion20100801/operation/";
const CLOUDWATCH_TARGET: &str = "GraniteServiceVersion20100801.";

/// Serves the APIs until the guard is dropped; the calls of the function are recorded where that is wanted.
pub fn start(listener: TcpListener, shared: Arc<Shared>, recorder: Option<Recorder>) -> Guard {
    let recorder = recorder.map(Arc::new);
    serve(listener, move |_, request| {
        answer(Arc::clone(&shared), recorder.clone(), request)
    })
}

async fn answer(
    shared: Arc<Shared>,
    recorder: Option<Arc<Recorder>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, BoxError> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, REQUEST_SIZE).collect().await?.to_bytes();
    let path = head.uri.path();
    if let Some(path) = path.strip_prefix("/_local/") {
        let (status, value) = control::answer(&shared, &head.method, path, &body).await;
        return respond(status, "application/json", value.to_string(), "");
    }
    let of_lambda = lambda::parse(&head.method, path, head.uri.query(), &body);
    if of_lambda.is_none() && (head.method != Method::POST || (path != "/" && !path.starts_with(CLOUDWATCH))) {
        let message = format!("the local cloud serves POST / and /_local/, not {} {path}", head.method);
        return respond(404, "text/plain", message, "");
    }
    let target = head.headers.get("x-amz-target").and_then(|value| value.to_str().ok());
    let call = match of_lambda {
        Some((name, params)) => Ok(Call {
            wire: Wire::Lambda,
            name: name.to_owned(),
            params,
        }),
        None => called(path, target, &body),
    };
    let call = match call {
        Ok(call) => call,
        Err((wire, failure)) => return refuse(wire, &failure, None, "unknown"),
    };
    let signed = head.headers.get("authorization").and_then(|value| value.to_str().ok());
    if let Some(recorder) = recorder.filter(|_| signed.is_some_and(|signed| signed.contains(FUNCTION_KEY))) {
        recorder.note(&shared.world(), &call);
    }
    let (lost, delay) = shared.world().draw_mishap(&call.name, call.writes());
    tokio::time::sleep(delay).await;
    let code = lambda::code(&shared, &call.name, &call.params).await;
    let (result, stored, id) = {
        let mut world = shared.world();
        let now = shared.clock.now();
        let result = world
            .admit(now, call.wire.service(), &call.name, call.filtered())
            .and_then(|()| match call.wire.service() {
                Service::Ec2 => ec2::call(&mut world, now, &call.name, &call.params),
                Service::Elb => elb::call(&mut world, now, &call.name, &call.params),
                Service::DynamoDb => dynamodb::call(&mut world, &call.name, &call.params),
                Service::CloudWatch => cloudwatch::call(&world, now, &call.name, &call.params),
                Service::Lambda => lambda::call(&mut world, now, &call.name, &call.params, code),
            });
        world.note_call(now, &call.name, result.as_ref().err());
        let failed_condition = matches!(&result, Err(failure) if failure.code == "ConditionalCheckFailedException");
        let stored = if failed_condition {
            dynamodb::item_of_refusal(&mut world, &call.params)
        } else {
            None
        };
        (result, stored, world.request_id())
    };
    let result = match result {
        Ok(_) if call.name == lambda::INVOKE => match lambda::invoke(&shared, &call.params, body, &id).await {
            Ok(_) if lost => Ok(Value::Null),
            Ok(response) => return Ok(response),
            Err(Ok(failure)) => Err(failure),
            Err(Err(error)) => return Err(error),
        },
        result => result,
    };
    match result {
        Ok(_) if lost => Err(format!("the answer of {} is lost on purpose", call.name).into()),
        Ok(content) => accept(&call, content, &id),
        Err(failure) => refuse(call.wire, &failure, stored.map(Value::Object), &id),
    }
}

/// How a service is spoken with.
#[derive(Debug, Clone, Copy)]
enum Wire {
    Ec2,
    Elb,
    DynamoDb,
    /// By the AWS CLI and Python's SDK.
    CloudWatchJson,
    /// By the SDKs that prefer CBOR.
    CloudWatchCbor,
    Lambda,
}

impl Wire {
    fn service(self) -> Service {
        match self {
            Self::Ec2 => Service::Ec2,
            Self::Elb => Service::Elb,
            Self::DynamoDb => Service::DynamoDb,
            Self::CloudWatchJson | Self::CloudWatchCbor => Service::CloudWatch,
            Self::Lambda => Service::Lambda,
        }
    }
}

/// A call as it came in.
struct Call {
    wire: Wire,
    name: String,
    params: Map<String, Value>,
}

impl Call {
    fn writes(&self) -> bool {
        !["Describe", "Get", "List", "BatchGet", "Query"]
            .iter()
            .any(|reads| self.name.starts_with(reads))
    }

    fn filtered(&self) -> bool {
        ["Filter", "MaxResults", "NextToken"]
            .iter()
            .any(|key| self.params.contains_key(*key))
    }
}

/// The call that a request makes, by its path, its `X-Amz-Target` and its body.
fn called(path: &str, target: Option<&str>, body: &Bytes) -> Result<Call, (Wire, Failure)> {
    match (path.strip_prefix(CLOUDWATCH), target) {
        (Some(name), _) => cbor_call(name, body),
        (None, Some(target)) => json_call(target, body),
        (None, None) => form_call(body),
    }
}

fn form_call(body: &Bytes) -> Result<Call, (Wire, Failure)> {
    let mut params = query::parse(body);
    let mut take = |key: &str| {
        params
            .shift_remove(key)
            .and_then(|value| value.as_str().map(str::to_owned))
    };
    let (name, version) = (take("Action"), take("Version"));
    let wire = match version.as_deref() {
        Some("2016-11-15") => Wire::Ec2,
        Some("2015-12-01") => Wire::Elb,
        other => {
            let message = format!(
                "the local cloud serves EC2 (2016-11-15) and Elastic Load Balancing (2015-12-01), not version {} of {}",
                other.unwrap_or("none"),
                name.as_deref().unwrap_or("an unnamed call"),
            );
            return Err((Wire::Elb, Failure::refused("InvalidAction", message)));
        }
    };
    let missing = || (wire, Failure::refused("MissingAction", "the request has no Action"));
    Ok(Call {
        wire,
        name: name.ok_or_else(missing)?,
        params,
    })
}

fn cbor_call(name: &str, body: &Bytes) -> Result<Call, (Wire, Failure)> {
    let refusal = "the body is not a CBOR map";
    object_call(Wire::CloudWatchCbor, name, cbor::decode(body).ok(), refusal)
}

fn json_call(target: &str, body: &Bytes) -> Result<Call, (Wire, Failure)> {
    let known = [
        ("DynamoDB_20120810.", Wire::DynamoDb),
        (CLOUDWATCH_TARGET, Wire::CloudWatchJson),
    ];
    let mut known = known.into_iter();
    let found = known.find_map(|(prefix, wire)| Some((wire, target.strip_prefix(prefix)?)));
    let Some((wire, name)) = found else {
        let message = format!("the local cloud serves DynamoDB and CloudWatch by JSON, not {target}");
        return Err((Wire::DynamoDb, Failure::refused("UnknownOperationException", message)));
    };
    let refusal = "the body is not a JSON object";
    object_call(wire, name, serde_json::from_slice(body).ok(), refusal)
}

fn object_call(wire: Wire, name: &str, body: Option<Value>, refusal: &str) -> Result<Call, (Wire, Failure)> {
    match body {
        Some(Value::Object(params)) => Ok(Call {
            wire,
            name: name.to_owned(),
            params,
        }),
        Some(_) | None => Err((wire, Failure::refused("SerializationException", refusal))),
    }
}

fn accept(call: &Call, content: Value, id: &str) -> Result<Response<Body>, BoxError> {
    let root = format!("{}Response", call.name);
    match call.wire {
        Wire::DynamoDb | Wire::CloudWatchJson => respond(200, JSON, content.to_string(), id),
        Wire::Lambda => {
            let status = if call.name == "PublishVersion" { 201 } else { 200 };
            respond(status, "application/json", content.to_string(), id)
        }
        Wire::CloudWatchCbor => respond(200, CBOR, cbor::encode(&content), id),
        Wire::Ec2 => {
            let mut answer = json!({ "requestId": id });
            if let (Some(answer), Value::Object(content)) = (answer.as_object_mut(), content) {
                answer.extend(content);
            }
            let namespace = Some("http://ec2.amazonaws.com/doc/2016-11-15/");
            respond(
                200,
                "text/xml;charset=UTF-8",
                query::to_xml(&root, namespace, &answer, "item"),
                id,
            )
        }
        Wire::Elb => {
            let mut answer = json!({});
            answer[format!("{}Result", call.name)] = content;
            answer["ResponseMetadata"] = json!({ "RequestId": id });
            let namespace = Some("http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/");
            respond(200, "text/xml", query::to_xml(&root, namespace, &answer, "member"), id)
        }
    }
}

fn refuse(wire: Wire, failure: &Failure, stored: Option<Value>, id: &str) -> Result<Response<Body>, BoxError> {
    let Failure { status, code, message } = failure;
    let error = json!({ "Code": code, "Message": message });
    let side = if *status < 500 { "Sender" } else { "Receiver" };
    match wire {
        Wire::CloudWatchJson | Wire::CloudWatchCbor => {
            let answer = json!({ "__type": format!("com.amazonaws.cloudwatch#{code}"), "message": message });
            let mut refusal = match wire {
                Wire::CloudWatchCbor => respond(*status, CBOR, cbor::encode(&answer), id)?,
                _ => respond(*status, JSON, answer.to_string(), id)?,
            };
            // The code of the older protocol, which SDKs prefer.
            let compatible = HeaderValue::from_str(&format!("{code};{side}"))?;
            refusal.headers_mut().insert("x-amzn-query-error", compatible);
            Ok(refusal)
        }
        Wire::Lambda => {
            let answer = json!({ "Type": if *status < 500 { "User" } else { "Service" }, "Message": message });
            let mut refusal = respond(*status, "application/json", answer.to_string(), id)?;
            let kind = HeaderValue::from_str(code)?;
            refusal.headers_mut().insert("x-amzn-errortype", kind);
            Ok(refusal)
        }
        Wire::DynamoDb => {
            let place = match code.as_str() {
                "ValidationException" | "SerializationException" | "UnknownOperationException" => {
                    "com.amazon.coral.validate"
                }
                _ => "com.amazonaws.dynamodb.v20120810",
            };
            let mut answer = json!({ "__type": format!("{place}#{code}"), "message": message });
            if let Some(stored) = stored {
                answer["Item"] = stored;
            }
            respond(*status, JSON, answer.to_string(), id)
        }
        Wire::Ec2 => {
            let answer = json!({ "Errors": { "Error": error }, "RequestID": id });
            respond(
                *status,
                "text/xml;charset=UTF-8",
                query::to_xml("Response", None, &answer, "item"),
                id,
            )
        }
        Wire::Elb => {
            let answer = json!({ "Error": { "Type": side, "Code": code, "Message": message }, "RequestId": id });
            let namespace = Some("http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/");
            respond(
                *status,
                "text/xml",
                query::to_xml("ErrorResponse", namespace, &answer, "member"),
                id,
            )
        }
    }
}

fn respond(status: u16, kind: &str, body: impl Into<Bytes>, id: &str) -> Result<Response<Body>, BoxError> {
    let mut response = Response::builder()
        .status(StatusCode::from_u16(status)?)
        .header("content-type", kind);
    if kind == CBOR {
        response = response.header("smithy-protocol", "rpc-v2-cbor");
    }
    Ok(response.header("x-amzn-requestid", id).body(full(body))?)
}

/// The refusal of a call that the local cloud does not serve.
fn unknown_call(service: &str, name: &str) -> Failure {
    let code = match service {
        "DynamoDB" | "CloudWatch" | "Lambda" => "UnknownOperationException",
        _ => "InvalidAction",
    };
    Failure::refused(
        code,
        format!("the local cloud does not serve the call {name} of {service}"),
    )
}
