//! The status page for everybody who reaches its port, and the control verbs for whoever may open the socket.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};

use crate::domain::rule::RuleName;
use crate::domain::seen::{Stimulus, Wanted};
use crate::domain::time::after;
use crate::ledger::Ledger;

use super::desk::Desk;
use super::report::Report;

/// Slow clients are let go.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest that a rule may be kept awake.
const LONGEST_KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

type Page = Response<Full<Bytes>>;

/// Serves the status page.
pub async fn status<L: Ledger + Send + Sync + 'static>(listener: TcpListener, desk: Desk<L>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(talk(stream, desk.clone(), false))),
            // Out of file descriptors, most likely: it passes.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A socket for the owner alone, in the place of one that an earlier daemon left.
///
/// # Errors
/// When it cannot be made.
pub fn control_socket(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Under another name until its rights are right, so that nobody gets in before.
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

/// Serves the control verbs.
pub async fn control<L: Ledger + Send + Sync + 'static>(listener: UnixListener, desk: Desk<L>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(talk(stream, desk.clone(), true))),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn talk<S, L>(stream: S, desk: Desk<L>, may_tell: bool)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    L: Ledger + Send + Sync + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(answer(&desk, &request, may_tell).await) }
    });
    let mut server = http1::Builder::new();
    let server = server
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(16 * 1024);
    // A client that leaves or talks nonsense is its own affair.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer<L: Ledger + Send + Sync + 'static>(
    desk: &Desk<L>,
    request: &Request<Incoming>,
    may_tell: bool,
) -> Page {
    let path = request.uri().path();
    match (request.method(), path) {
        (&Method::GET | &Method::HEAD, "/") => {
            let report = Report::of(desk);
            let accept = request
                .headers()
                .get("accept")
                .and_then(|accept| accept.to_str().ok())
                .unwrap_or_default();
            match accept.contains("text/html") {
                true => page(200, "text/html; charset=utf-8", report.html()),
                false => told(200, &json!(report)),
            }
        }
        (&Method::GET | &Method::HEAD, "/status") => told(200, &json!(Report::of(desk))),
        (&Method::GET | &Method::HEAD, "/healthz") => page(200, "text/plain", "ok\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/readyz") => match Report::of(desk).unready() {
            None => page(200, "text/plain", "ready\n".to_owned()),
            Some(why) => page(503, "text/plain", format!("{why}\n")),
        },
        (&Method::GET | &Method::HEAD, "/metrics") => {
            page(200, "text/plain; version=0.0.4", Report::of(desk).metrics())
        }
        (&Method::POST, path) if may_tell => tell(desk, path).await,
        _ => told(
            404,
            &json!({ "error": "there is nothing here: / /status /healthz /readyz /metrics" }),
        ),
    }
}

/// `POST /rules/NAME/VERB`, where the name may have slashes.
async fn tell<L: Ledger + Send + Sync + 'static>(desk: &Desk<L>, path: &str) -> Page {
    let wish = path.strip_prefix("/rules/").and_then(|rest| rest.rsplit_once('/'));
    let Some((name, verb)) = wish else {
        return told(404, &json!({ "error": "allowed: POST /rules/NAME/VERB" }));
    };
    let who = "the command line".to_owned();
    let stimulus = match verb.split_once('=').unwrap_or((verb, "")) {
        ("wake", "") => Stimulus::Command {
            wanted: Wanted::Awake,
            who,
        },
        ("sleep", "") => Stimulus::Command {
            wanted: Wanted::Asleep,
            who,
        },
        ("keep-awake", "off") => Stimulus::KeepAwake { until: None, who },
        ("keep-awake", text) => match humantime::parse_duration(text) {
            Ok(duration) if duration <= LONGEST_KEEP => Stimulus::KeepAwake {
                until: Some(after(desk.now(), duration)),
                who,
            },
            _ => {
                return told(
                    400,
                    &json!({ "error": "allowed: keep-awake=DURATION of at most 30 days, or keep-awake=off" }),
                );
            }
        },
        _ => {
            return told(
                404,
                &json!({ "error": format!("there is no verb {verb:?}: wake, sleep, keep-awake") }),
            );
        }
    };
    let name = RuleName(name.to_owned());
    let Some(worker) = desk.worker(&name) else {
        let known: Vec<_> = desk.front.rules().iter().map(|rule| rule.name.to_string()).collect();
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        return told(
            404,
            &json!({ "error": format!("there is no rule {:?}. The rules are: {known}", name.0) }),
        );
    };
    match worker.look(stimulus).await {
        Ok(_) => {
            let report = Report::of(desk).rules.into_iter().find(|rule| rule.rule == name);
            told(200, &json!(report))
        }
        Err(error) => told(503, &json!({ "error": error })),
    }
}

fn told(status: u16, value: &Value) -> Page {
    page(status, "application/json", format!("{value}\n"))
}

fn page(status: u16, kind: &str, body: String) -> Page {
    let page = Response::builder()
        .status(status)
        .header("content-type", kind)
        .header("cache-control", "no-store")
        .header("x-content-type-options", "nosniff")
        .header(
            "content-security-policy",
            "default-src 'none'; style-src 'unsafe-inline'",
        );
    page.body(Full::from(body)).unwrap_or_default()
}
