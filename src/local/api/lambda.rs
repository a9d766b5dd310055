//! Lambda's API, REST and JSON: what the function is, its code and versions, what its alias leads to, who may invoke it, and
//! invocations.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::{Method, Response};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Answer, unknown_call};
use crate::local::{
    lambda::{Error, NotTaken},
    serve::{Body, BoxError, full},
    shared::Shared,
    world::{Failure, World},
};

/// Where its calls go.
pub const PATH: &str = "/2015-03-31/functions/";

/// The call that runs the function; its body is the event.
pub const INVOKE: &str = "Invoke";

/// The name of a call and its parameters, which are spread over path, query and body: `FunctionName`, `Qualifier`, `Name` of an
/// alias, `StatementId`, and the members of the body. `path` begins with [`PATH`].
pub fn parse(
    method: &Method,
    path: &str,
    query: Option<&str>,
    body: &Bytes,
) -> Option<(&'static str, Map<String, Value>)> {
    let parts: Vec<String> = path.strip_prefix(PATH)?.split('/').map(decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (call, function, more) = match (method.as_str(), parts.as_slice()) {
        ("GET", [function]) => ("GetFunction", function, None),
        ("PUT", [function, "code"]) => ("UpdateFunctionCode", function, None),
        ("POST", [function, "invocations"]) => (INVOKE, function, None),
        ("GET", [function, "versions"]) => ("ListVersionsByFunction", function, None),
        ("GET", [function, "configuration"]) => ("GetFunctionConfiguration", function, None),
        ("GET", [function, "policy"]) => ("GetPolicy", function, None),
        ("POST", [function, "policy"]) => ("AddPermission", function, None),
        ("DELETE", [function, "policy", id]) => ("RemovePermission", function, Some(("StatementId", id))),
        ("POST", [function, "versions"]) => ("PublishVersion", function, None),
        ("GET", [function, "aliases", name]) => ("GetAlias", function, Some(("Name", name))),
        ("PUT", [function, "aliases", name]) => ("UpdateAlias", function, Some(("Name", name))),
        _ => return None,
    };
    let members = if call == INVOKE {
        None
    } else {
        serde_json::from_slice(body).ok()
    };
    let mut params = match members {
        Some(Value::Object(members)) => Value::Object(members),
        _ => json!({}),
    };
    params["FunctionName"] = Value::from(*function);
    if let Some((key, value)) = more {
        params[key] = Value::from(*value);
    }
    for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        params[key.as_ref()] = Value::from(value.as_ref());
    }
    match params {
        Value::Object(params) => Some((call, params)),
        _ => None,
    }
}

/// The digest of the code that an `UpdateFunctionCode` brings, unpacked and ready to run; none for other calls.
///
/// # Errors
/// What AWS refuses the code with.
pub async fn code(shared: &Arc<Shared>, name: &str, params: &Map<String, Value>) -> Result<Option<String>, Failure> {
    if name != "UpdateFunctionCode" {
        return Ok(None);
    }
    let refused = |message: &str| Failure::refused("InvalidParameterValueException", message);
    let Some(zip) = params.get("ZipFile").and_then(Value::as_str) else {
        return Err(refused("Please provide a source for function code."));
    };
    let zip = STANDARD.decode(zip).map_err(|error| refused(&error.to_string()))?;
    let keeping = Arc::clone(shared);
    let taken = tokio::task::spawn_blocking(move || keeping.lambda.take_package(&zip)).await;
    match taken {
        Ok(Ok(digest)) => Ok(Some(digest)),
        Ok(Err(error)) => {
            let message = error.to_string();
            Err(match error {
                NotTaken::NoZip => refused(&message),
                NotTaken::TooLarge => Failure::trouble(413, "RequestEntityTooLargeException", message),
                NotTaken::Disk(_) => Failure::trouble(500, "ServiceException", message),
            })
        }
        Err(_) => Err(Failure::trouble(500, "ServiceException", "the cloud is ending")),
    }
}

/// Answers one call. `code` is the digest of the code that it brings.
pub fn call(
    world: &mut World,
    now: Timestamp,
    name: &str,
    params: &Map<String, Value>,
    code: Result<Option<String>, Failure>,
) -> Answer {
    let text = |key: &str| params.get(key).and_then(Value::as_str);
    let function = text("FunctionName").unwrap_or_default();
    let qualifier = text("Qualifier");
    let request = || Value::Object(params.clone());
    match name {
        // What it runs is asked for again when it is run.
        INVOKE => world.code_behind(now, function, qualifier).map(|_| json!({})),
        "GetFunction" => {
            let configuration = world.function_configuration(now, function, qualifier)?;
            let code = json!({ "RepositoryType": "S3" });
            Ok(json!({ "Configuration": configuration, "Code": code, "Tags": {} }))
        }
        "GetFunctionConfiguration" => world.function_configuration(now, function, qualifier),
        "ListVersionsByFunction" => world.versions(now, function),
        "UpdateFunctionCode" => {
            world.may_update_code(now, function, &request())?;
            let code = code?.unwrap_or_default();
            world.update_code(now, function, &request(), &code)
        }
        "GetPolicy" => world.function_policy(function, qualifier),
        "AddPermission" => world.add_permission(function, qualifier, &request()),
        "RemovePermission" => {
            let id = text("StatementId").unwrap_or_default();
            world.remove_permission(function, qualifier, id).map(|()| json!({}))
        }
        "PublishVersion" => world.publish_version(now, function, &request()),
        "GetAlias" => world.alias(function, text("Name").unwrap_or_default()),
        "UpdateAlias" => world.update_alias(function, text("Name").unwrap_or_default(), &request()),
        _ => Err(unknown_call("Lambda", name)),
    }
}

/// Runs the function and answers as `Invoke` does when it waits for the answer. A function that failed is a success of the
/// call: the header `X-Amz-Function-Error` tells.
pub async fn invoke(
    shared: &Arc<Shared>,
    params: &Map<String, Value>,
    event: Bytes,
    id: &str,
) -> Result<Response<Body>, Result<Failure, BoxError>> {
    let text = |key: &str| params.get(key).and_then(Value::as_str).unwrap_or_default();
    let arn = {
        let mut world = shared.world();
        world.deployed_mut(text("FunctionName")).map_err(Ok)?.arn.clone()
    };
    let qualifier = Some(text("Qualifier")).filter(|qualifier| !qualifier.is_empty());
    let arn = qualifier.map_or_else(|| arn.clone(), |qualifier| format!("{arn}:{qualifier}"));
    let (version, answer) = shared.invoke_behind(&arn, event).await;
    let mut response = Response::builder()
        .header("content-type", "application/json")
        .header("x-amzn-requestid", id)
        .header("x-amz-executed-version", version);
    let payload = match answer {
        Ok(answer) => answer,
        Err(Error::Throttled) => {
            return Err(Ok(Failure::trouble(429, "TooManyRequestsException", "Rate Exceeded.")));
        }
        Err(error) => {
            response = response.header("x-amz-function-error", "Unhandled");
            Bytes::from(error_payload(&error, id).to_string())
        }
    };
    response.body(full(payload)).map_err(|error| Err(error.into()))
}

/// What a function that failed is said to have answered: its own words, or those of Lambda.
fn error_payload(error: &Error, id: &str) -> Value {
    let said = match error {
        Error::Function(said) => said.clone(),
        Error::TimedOut(_) => format!("Sandbox.Timedout: {error}"),
        Error::Throttled => error.to_string(),
    };
    let own: Option<Value> = serde_json::from_str(&said).ok();
    own.filter(Value::is_object).unwrap_or_else(|| {
        let (kind, words) = said.split_once(": ").unwrap_or(("Runtime.Unknown", &said));
        json!({ "errorType": kind, "errorMessage": format!("RequestId: {id} Error: {words}") })
    })
}

/// A part of a path without its escapes.
fn decoded(part: &str) -> String {
    // A plus in a path is itself, and in a form a space.
    let part = format!("={}", part.replace('+', "%2B"));
    form_urlencoded::parse(part.as_bytes())
        .map(|(_, value)| value.into_owned())
        .collect()
}
