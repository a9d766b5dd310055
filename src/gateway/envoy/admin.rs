//! Envoy's admin interface: what is active at this moment.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::names::{ClusterName, from_statistic};
use crate::domain::rule::RuleName;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Requests and TCP connections under way, rule by rule. Those of a cluster that Envoy has been told to forget are among
/// them, as long as they last. A rule with none is left out.
///
/// # Errors
/// The interface does not answer within 5 s, or not as it should.
pub async fn active(admin: &Path) -> io::Result<BTreeMap<RuleName, u64>> {
    #[cfg(test)]
    if let Some(world) = crate::played::world() {
        return world.active().await;
    }
    let (status, body) = get(admin, "/stats?filter=^cluster\\..*\\.upstream_rq_active$").await?;
    if !status.is_success() {
        return Err(io::Error::other(format!("Envoy answers {status}")));
    }
    let mut rules = BTreeMap::new();
    for line in body.lines() {
        let Some((name, count)) = line.rsplit_once(": ") else {
            continue;
        };
        let rule = name
            .strip_prefix("cluster.")
            .and_then(|name| name.strip_suffix(".upstream_rq_active"))
            .and_then(from_statistic)
            .and_then(|name| ClusterName::parse(&name));
        let count: u64 = count.trim().parse().map_err(io::Error::other)?;
        if let Some(name) = rule.filter(|_| count > 0) {
            *rules.entry(name.rule).or_default() += count;
        }
    }
    Ok(rules)
}

/// Whether Envoy takes connections: it has been told everything once.
///
/// # Errors
/// As [`active`].
pub async fn ready(admin: &Path) -> io::Result<bool> {
    Ok(get(admin, "/ready").await?.1.trim() == "LIVE")
}

async fn get(admin: &Path, path: &str) -> io::Result<(StatusCode, String)> {
    let answer = tokio::time::timeout(TIMEOUT, ask(admin, path)).await;
    answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn ask(admin: &Path, path: &str) -> io::Result<(StatusCode, String)> {
    let stream = TokioIo::new(UnixStream::connect(admin).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
        .await
        .map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", "envoy")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(io::Error::other)?
        .to_bytes();
    connection.abort();
    Ok((status, String::from_utf8(body.to_vec()).map_err(io::Error::other)?))
}
