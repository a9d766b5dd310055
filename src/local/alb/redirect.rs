//! The actions that need no target: redirect and fixed response.

use hyper::{
    StatusCode, Uri,
    header::{self, HeaderValue},
};
use serde_json::Value;

use super::Served;
use crate::local::serve::full;

/// A redirect action's answer. Absent parts keep those of the request. Source: `RedirectActionConfig`.
pub fn redirect(port: u16, action: &Value, host: &str, uri: &Uri) -> Served {
    let part = |key: &str, default: &str| {
        let given = action
            .get("RedirectConfig")
            .and_then(|config| config.get(key))
            .and_then(Value::as_str);
        let own = host.rsplit_once(':').map_or(host, |(name, _)| name);
        given
            .unwrap_or(default)
            .replace("#{protocol}", "http")
            .replace("#{host}", own)
            .replace("#{port}", &port.to_string())
            .replace("#{path}", uri.path().trim_start_matches('/'))
            .replace("#{query}", uri.query().unwrap_or_default())
    };
    let query = part("Query", "#{query}");
    let query = if query.is_empty() { query } else { format!("?{query}") };
    let protocol = part("Protocol", "#{protocol}").to_ascii_lowercase();
    let location = format!(
        "{protocol}://{}:{}{}{query}",
        part("Host", "#{host}"),
        part("Port", "#{port}"),
        part("Path", "/#{path}")
    );
    let status = if part("StatusCode", "HTTP_302") == "HTTP_301" {
        301
    } else {
        302
    };
    let mut served = Served::own(status, "");
    match HeaderValue::from_str(&location) {
        Ok(location) => drop(served.response.headers_mut().insert(header::LOCATION, location)),
        Err(_) => return Served::own(500, "the redirect's location is not a header value"),
    }
    served
}

/// A fixed-response action's answer.
pub fn fixed(action: &Value) -> Served {
    let part = |key: &str| {
        action
            .get("FixedResponseConfig")
            .and_then(|config| config.get(key))
            .and_then(Value::as_str)
    };
    let mut served = Served::own(200, "");
    let status = part("StatusCode").and_then(|status| status.parse().ok());
    *served.response.status_mut() = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    *served.response.body_mut() = full(part("MessageBody").unwrap_or_default().to_owned());
    let kind = HeaderValue::from_str(part("ContentType").unwrap_or("text/plain; charset=utf-8"));
    if let Ok(kind) = kind {
        served.response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    served
}
