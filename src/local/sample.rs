//! The two sample sites of the demo: a small page, at once or after a while of warming up.

use std::{process::ExitCode, sync::Arc, time::Duration};

use hyper::{Response, StatusCode};
use tokio::net::TcpListener;

use super::serve::{Body, BoxError, full, serve};

/// A site named `name` on 127.0.0.1 at the port in `port`, which answers 503 until it has run for `warm`. Runs until
/// it is killed.
pub async fn run(name: &str, port: u16, warm: Duration) -> ExitCode {
    let listener = match TcpListener::bind(("127.0.0.1", port)).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let begun = tokio::time::Instant::now();
    let name: Arc<str> = name.into();
    let _serving = serve(listener, move |_, request| {
        let (name, warm_now) = (Arc::clone(&name), begun.elapsed() >= warm);
        async move { answer(&name, warm_now, request.uri().path()) }
    });
    std::future::pending().await
}

fn answer(name: &str, warm: bool, path: &str) -> Result<Response<Body>, BoxError> {
    let path = path.replace('&', "&amp;").replace('<', "&lt;");
    let (status, words) = match warm {
        true => (
            StatusCode::OK,
            "This page comes from your own machine, which was asleep a moment ago.",
        ),
        false => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The machine is up, the program is still warming up.",
        ),
    };
    let page = format!(
        r#"<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>
<meta name="viewport" content="width=device-width"><style>
body{{font:18px/1.5 system-ui,sans-serif;max-width:34em;margin:15vh auto;padding:0 1em;color:#1c2733}}
h1{{font-size:2em;margin:0}}p{{color:#51606f}}code{{background:#eef1f4;padding:.1em .3em;border-radius:4px}}
</style></head><body><h1>{name} is awake</h1><p>{words}</p><p>You asked for <code>{path}</code>.</p></body></html>
"#
    );
    let response = Response::builder()
        .status(status)
        .header("content-type", "text/html; charset=utf-8");
    Ok(response.header("cache-control", "no-store").body(full(page))?)
}
