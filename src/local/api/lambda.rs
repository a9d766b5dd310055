//! Lambda's API, REST and JSON: what the function is, what its alias leads to, and who may invoke it.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Map, Value, json};

use super::{Answer, unknown_call};
use crate::local::world::World;

/// Where its calls go.
pub const PATH: &str = "/2015-03-31/functions/";

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
        ("GET", [function, "configuration"]) => ("GetFunctionConfiguration", function, None),
        ("GET", [function, "policy"]) => ("GetPolicy", function, None),
        ("POST", [function, "policy"]) => ("AddPermission", function, None),
        ("DELETE", [function, "policy", id]) => ("RemovePermission", function, Some(("StatementId", id))),
        ("POST", [function, "versions"]) => ("PublishVersion", function, None),
        ("GET", [function, "aliases", name]) => ("GetAlias", function, Some(("Name", name))),
        ("PUT", [function, "aliases", name]) => ("UpdateAlias", function, Some(("Name", name))),
        _ => return None,
    };
    let mut params = serde_json::from_slice(body).unwrap_or_default();
    params = match params {
        Value::Object(members) => Value::Object(members),
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

/// Answers one call.
pub fn call(world: &mut World, name: &str, params: &Map<String, Value>) -> Answer {
    let text = |key: &str| params.get(key).and_then(Value::as_str);
    let function = text("FunctionName").unwrap_or_default();
    let qualifier = text("Qualifier");
    match name {
        "GetFunctionConfiguration" => world.function_configuration(function, qualifier),
        "GetPolicy" => world.function_policy(function, qualifier),
        "AddPermission" => world.add_permission(function, qualifier, &Value::Object(params.clone())),
        "RemovePermission" => {
            let id = text("StatementId").unwrap_or_default();
            world.remove_permission(function, qualifier, id).map(|()| json!({}))
        }
        "PublishVersion" => world.publish_version(function),
        "GetAlias" => world.alias(function, text("Name").unwrap_or_default()),
        "UpdateAlias" => {
            let version = text("FunctionVersion").unwrap_or_default();
            world.update_alias(function, text("Name").unwrap_or_default(), version)
        }
        _ => Err(unknown_call("Lambda", name)),
    }
}

/// A part of a path without its escapes.
fn decoded(part: &str) -> String {
    // A plus in a path is itself, and in a form a space.
    let part = format!("={}", part.replace('+', "%2B"));
    form_urlencoded::parse(part.as_bytes())
        .map(|(_, value)| value.into_owned())
        .collect()
}
