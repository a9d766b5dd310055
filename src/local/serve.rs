//! A small HTTP/1 server on hyper, shared by the API, the load balancer, the Lambda runtime API and the sample sites.

use std::{future::Future, net::SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body that is there or still arriving.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body that is there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that is passed on as it arrives.
pub fn streamed(incoming: Incoming) -> Body {
    incoming.map_err(Into::into).boxed_unsync()
}

/// Serves connections until the returned guard is dropped, which ends them all at once. A handler that fails closes
/// its connection without an answer.
pub fn serve<H, F>(listener: TcpListener, handler: H) -> Guard
where
    H: Fn(SocketAddr, Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<Body>, BoxError>> + Send + 'static,
{
    let task = tokio::spawn(async move {
        // A dropped set aborts what is in it: the connections live exactly as long as this task.
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            // Accepting fails when a client has left already or descriptors run out; neither ends the server.
            let Ok((stream, peer)) = accepted else {
                tokio::task::yield_now().await;
                continue;
            };
            let handler = handler.clone();
            connections.spawn(async move {
                // Without it small answers wait for the client's acknowledgement.
                let _ = stream.set_nodelay(true);
                let service = service_fn(move |request| handler(peer, request));
                // An error here is a client that left, or an answer that is meant to be lost.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            });
        }
    });
    Guard(task.abort_handle())
}

/// Ends a task when dropped.
#[derive(Debug)]
pub struct Guard(pub AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}
