//! Instance targets: bodies streamed both ways, protocols switched and passed through, 502 for a target that refuses or
//! resets, and never a second try.

use std::time::Duration;

use hyper::{
    HeaderMap, Request, StatusCode,
    body::Incoming,
    client::conn::http1,
    header::{self, HeaderName},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Exchange, Served, counted::Counted, forwarded, upgrades};
use crate::local::serve::{BoxError, streamed};

/// ALB's connect time-out, and its default idle time-out, within which a target has to begin its answer.
const CONNECT: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);

/// Headers that concern one connection only.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Asks the instance's program, once, over a connection of its own.
pub async fn ask(exchange: &Exchange, id: &str, mut request: Request<Incoming>) -> Served {
    let Some(port) = exchange.shared.instances.port_of(id) else {
        return Served::own(502, "the instance runs no program");
    };
    let stream = match tokio::time::timeout(CONNECT, TcpStream::connect(("127.0.0.1", port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Served::own(502, format!("the target refused: {error}")),
        Err(_) => return Served::own(504, "the target did not accept the connection in time"),
    };
    let switching = upgrades(request.headers());
    let client = switching.then(|| hyper::upgrade::on(&mut request));
    let request = match outgoing(exchange, request, switching) {
        Ok(request) => request,
        Err(error) => return Served::own(400, error.to_string()),
    };
    let _ = stream.set_nodelay(true);
    let stream = Counted::new(stream, id, &exchange.shared);
    let (mut sender, connection) = match http1::handshake(TokioIo::new(stream)).await {
        Ok(pair) => pair,
        Err(error) => return Served::own(502, format!("the target failed: {error}")),
    };
    tokio::spawn(connection.with_upgrades());
    let mut answer = match tokio::time::timeout(IDLE, sender.send_request(request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Served::own(502, format!("the target failed: {error}")),
        Err(_) => return Served::own(504, "the target did not answer in time"),
    };
    let switched = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    if let (true, Some(client)) = (switched, client) {
        let target = hyper::upgrade::on(&mut answer);
        tokio::spawn(async move {
            if let (Ok(client), Ok(target)) = (client.await, target.await) {
                // Either side closing ends it, which is no error of ours.
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(target)).await;
            }
        });
    }
    let mut response = answer.map(streamed);
    without_hop_by_hop(response.headers_mut(), switched);
    Served {
        response,
        target: String::new(),
        reason: String::new(),
    }
}

fn outgoing(exchange: &Exchange, request: Request<Incoming>, switching: bool) -> Result<Request<Incoming>, BoxError> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = path.parse()?;
    head.version = hyper::Version::HTTP_11;
    without_hop_by_hop(&mut head.headers, switching);
    forwarded(exchange, &mut head.headers);
    Ok(Request::from_parts(head, body))
}

fn without_hop_by_hop(headers: &mut HeaderMap, switching: bool) {
    let kept = [header::CONNECTION, header::UPGRADE];
    for name in HOP_BY_HOP.iter().filter(|name| !(switching && kept.contains(name))) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}
