//! The load balancer's data plane: rules by priority, forward with weights and stickiness, fixed response, redirect.
//!
//! An own small server with ALB's habits, no attempt at a general proxy. What it does not do: HTTP/2, TLS, asking an
//! identity provider (authenticate actions are taken as passed).

mod counted;
pub mod function;
mod instance;
pub mod matching;
mod redirect;
mod stickiness;

use std::{net::SocketAddr, sync::Arc};

use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use serde_json::Value;
use tokio::net::TcpListener;

use super::{
    log::Access,
    serve::{Body, BoxError, Guard, full, serve},
    shared::Shared,
    world::{Pick, Routed},
};

/// One request on its way, as far as everybody who handles it has to know.
pub struct Exchange {
    pub shared: Arc<Shared>,
    pub peer: SocketAddr,
    /// The port of the listener.
    pub port: u16,
}

/// An answer, with what the access log is to say of it.
pub struct Served {
    pub response: Response<Body>,
    pub target: String,
    pub reason: String,
}

impl Served {
    /// An answer that the load balancer gives itself.
    pub fn own(status: u16, reason: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        let words = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
        let page = format!(
            "<html>\r\n<head><title>{words}</title></head>\r\n<body>\r\n<center><h1>{words}</h1></center>\r\n</body>\r\n</html>\r\n"
        );
        let mut response = Response::new(full(page));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::SERVER, HeaderValue::from_static("awselb/2.0"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
        Self {
            response,
            target: "-".to_owned(),
            reason: reason.into(),
        }
    }

    /// The same answer with the target named that was asked.
    pub fn by(self, target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            ..self
        }
    }
}

/// Serves one listener until the guard is dropped.
pub fn start(socket: TcpListener, listener: String, shared: Arc<Shared>) -> std::io::Result<Guard> {
    let port = socket.local_addr()?.port();
    Ok(serve(socket, move |peer, request| {
        answer(
            Exchange {
                shared: Arc::clone(&shared),
                peer,
                port,
            },
            listener.clone(),
            request,
        )
    }))
}

async fn answer(exchange: Exchange, listener: String, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    let begun = exchange.shared.clock.now();
    let uri = request.uri();
    let host = request
        .headers()
        .get(header::HOST)
        .map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let mut entry = Access {
        at: begun.to_string(),
        client: exchange.peer.to_string(),
        method: request.method().to_string(),
        host: host.clone().unwrap_or_default(),
        path: uri
            .path_and_query()
            .map_or_else(|| uri.path().to_owned(), ToString::to_string),
        status: 0,
        rule: None,
        group: None,
        target: "-".to_owned(),
        millis: 0,
        reason: String::new(),
    };
    let served = match host {
        Some(_) => route(&exchange, &listener, request, &mut entry).await,
        None => Served::own(400, "no Host header"),
    };
    entry.status = served.response.status().as_u16();
    entry.target = served.target;
    entry.reason = served.reason;
    let millis = exchange.shared.clock.now().duration_since(begun).as_millis();
    entry.millis = u64::try_from(millis).unwrap_or_default();
    exchange.shared.log.access(entry);
    Ok(served.response)
}

async fn route(exchange: &Exchange, listener: &str, request: Request<Incoming>, entry: &mut Access) -> Served {
    let headers = pairs(request.headers());
    let looked_at = matching::Request {
        host: &entry.host,
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        method: request.method().as_str(),
        headers: &headers,
        source: exchange.peer.ip(),
    };
    let now = exchange.shared.clock.now();
    let routed = {
        let mut world = exchange.shared.world();
        world.route(now, listener, |conditions| matching::matches(conditions, &looked_at))
    };
    let Some(Routed { rule, action }) = routed else {
        return Served::own(503, "the listener has no rule");
    };
    entry.rule = Some(rule);
    match action.get("Type").and_then(Value::as_str) {
        Some("forward") => forward(exchange, &action, request, entry).await,
        Some("redirect") => redirect::redirect(exchange.port, &action, &entry.host, request.uri()),
        Some("fixed-response") => redirect::fixed(&action),
        other => Served::own(
            500,
            format!("the local load balancer cannot do {}", other.unwrap_or("nothing")),
        ),
    }
}

async fn forward(exchange: &Exchange, action: &Value, request: Request<Incoming>, entry: &mut Access) -> Served {
    let sticky = stickiness::of(action);
    let stuck = sticky.and_then(|_| stickiness::chosen(action, request.headers()));
    let pick = {
        let mut world = exchange.shared.world();
        let now = exchange.shared.clock.now();
        let group = stuck.or_else(|| world.choose_group(action));
        group.and_then(|group| world.choose_target(now, &group))
    };
    let Some(pick) = pick else {
        return Served::own(503, "no target group has a weight");
    };
    let (group, mut served) = match pick {
        Pick::Nobody { group } => (group, Served::own(503, "the target group has no usable target")),
        Pick::Function { group, multi_value } => {
            let served = function::ask(exchange, &group, multi_value, request).await.by("lambda");
            (group, served)
        }
        Pick::Instance { group, id, port } => {
            let served = instance::ask(exchange, &id, request).await.by(format!("{id}:{port}"));
            (group, served)
        }
    };
    if let Some(seconds) = sticky {
        stickiness::stick(served.response.headers_mut(), &group, seconds);
    }
    entry.group = Some(group);
    served
}

/// Headers as text; bytes that are no text are taken as Latin-1, for a header is forwarded whatever it holds.
pub fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().iter().map(|byte| char::from(*byte)).collect(),
    };
    headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}

/// The headers that the load balancer adds: where the request came from, and its trace id.
pub fn forwarded(exchange: &Exchange, headers: &mut HeaderMap) {
    let peer = exchange.peer.ip().to_string();
    let before: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let chain = if before.is_empty() {
        peer
    } else {
        format!("{}, {peer}", before.join(", "))
    };
    match exchange.shared.world().forwarded_for(exchange.port) {
        "preserve" => {}
        "remove" => {
            headers.remove("x-forwarded-for");
        }
        _ => set(headers, "x-forwarded-for", &chain),
    }
    set(headers, "x-forwarded-proto", "http");
    set(headers, "x-forwarded-port", &exchange.port.to_string());
    let second = exchange.shared.clock.now().as_second();
    let unique = exchange.shared.world().request_id().replace('-', "");
    let own = format!("1-{second:08x}-{}", &unique[..24]);
    let theirs = headers
        .get("x-amzn-trace-id")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    // Source: "Request tracing for your Application Load Balancer".
    let trace = match theirs {
        Some(theirs) if theirs.contains("Root=") => format!("Self={own};{theirs}"),
        Some(theirs) => format!("Root={own};{theirs}"),
        None => format!("Root={own}"),
    };
    set(headers, "x-amzn-trace-id", &trace);
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Whether the request asks to switch protocols.
pub fn upgrades(headers: &HeaderMap) -> bool {
    let tokens = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let asked = tokens
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    asked && headers.contains_key(header::UPGRADE)
}
