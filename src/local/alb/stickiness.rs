//! Target group stickiness: the cookie AWSALBTG keeps a client on the group it was given.

use hyper::{
    HeaderMap,
    header::{self, HeaderValue},
};
use serde_json::Value;

use crate::local::world::group_arns;

const COOKIE: &str = "AWSALBTG";

/// How long, in seconds, the forward action keeps a client on its group; `None` when it does not.
pub fn of(action: &Value) -> Option<u64> {
    let config = action.get("ForwardConfig")?.get("TargetGroupStickinessConfig")?;
    let enabled = config.get("Enabled") == Some(&Value::Bool(true));
    enabled.then(|| config.get("DurationSeconds").and_then(Value::as_u64).unwrap_or(3600))
}

/// The group that the client's cookie names, if it is one of the action's.
pub fn chosen(action: &Value, headers: &HeaderMap) -> Option<String> {
    let cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == COOKIE)?;
    group_arns(action).into_iter().find(|arn| mark(arn) == value)
}

/// Gives the client its cookie.
pub fn stick(headers: &mut HeaderMap, group: &str, seconds: u64) {
    let cookie = format!("{COOKIE}={}; Max-Age={seconds}; Path=/", mark(group));
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        headers.append(header::SET_COOKIE, cookie);
    }
}

/// AWS encrypts the cookie; the id at the end of the ARN says as little.
fn mark(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
