//! The sockets: resources, doorbell and held requests on a Unix socket, load reports and access logs on a port.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{Node, node::UserAgentVersionType};
use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_server::AccessLogServiceServer;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::AuthorizationServer;
use envoy_types::pb::envoy::service::cluster::v3::cluster_discovery_service_server::{
    ClusterDiscoveryService, ClusterDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
    aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
};
use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_server::LoadReportingServiceServer;
use futures_util::{Stream, stream};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::transport::Server;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status, Streaming};

use super::access::Accesses;
use super::authz::Court;
use super::delta::{Said, Told};
use super::hub::{Hub, Peer};
use super::load::Reports;
use super::plane::Judge;
use super::snapshot::Kind;

/// A message may tell of ten thousand resources. Only Envoy can reach the sockets.
const LARGEST_MESSAGE: usize = 64 * 1024 * 1024;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(super) fn stream_of<T: Send + 'static>(receiver: mpsc::UnboundedReceiver<Result<T, Status>>) -> Answers<T> {
    Box::pin(stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| (item, receiver))
    }))
}

/// Serves on the Unix socket until the hub closes. The socket is there when this returns.
pub fn serve_control<J: Judge>(path: &Path, hub: &Arc<Hub>, judge: Arc<J>) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
    let incoming = stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let control = Arc::new(Control { hub: Arc::clone(hub) });
    let court = Court {
        hub: Arc::clone(hub),
        judge,
    };
    let router = server()
        .add_service(
            AggregatedDiscoveryServiceServer::from_arc(Arc::clone(&control)).max_decoding_message_size(LARGEST_MESSAGE),
        )
        .add_service(ClusterDiscoveryServiceServer::from_arc(control).max_decoding_message_size(LARGEST_MESSAGE))
        .add_service(AuthorizationServer::new(court));
    let hub = Arc::clone(hub);
    tokio::spawn(async move { router.serve_with_incoming_shutdown(incoming, hub.closed()).await });
    Ok(())
}

/// Serves on the port until the hub closes; the address it has got.
pub async fn serve_usage(address: SocketAddr, hub: &Arc<Hub>, interval: Duration) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let incoming = stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let reports = Reports {
        hub: Arc::clone(hub),
        interval,
    };
    let accesses = Accesses { hub: Arc::clone(hub) };
    let router = server()
        .add_service(LoadReportingServiceServer::new(reports).max_decoding_message_size(LARGEST_MESSAGE))
        .add_service(AccessLogServiceServer::new(accesses).max_decoding_message_size(LARGEST_MESSAGE));
    let hub = Arc::clone(hub);
    tokio::spawn(async move { router.serve_with_incoming_shutdown(incoming, hub.closed()).await });
    Ok(bound)
}

/// A held request is a stream: hyper's default of 200 on a connection is too few. Clients that go away reset theirs, and more
/// than h2's 20 of them at once would end the connection with everybody on it.
fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(1_000_000)
        .http2_max_pending_accept_reset_streams(Some(1_000_000))
}

struct Control {
    hub: Arc<Hub>,
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Control {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("use incremental xDS"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let hub = Arc::clone(&self.hub);
        let id = hub
            .begin(peer(&request))
            .map_err(|taken| Status::already_exists(taken.to_string()))?;
        tokio::spawn(async move {
            converse(&hub, id, request.into_inner(), &sender).await;
            hub.end(id);
        });
        Ok(Response::new(stream_of(receiver)))
    }
}

/// The process that has connected.
fn peer<T>(request: &Request<T>) -> Peer {
    request.extensions().get::<UdsConnectInfo>()?.peer_cred?.pid()
}

async fn converse(
    hub: &Hub,
    id: u64,
    mut incoming: Streaming<DeltaDiscoveryRequest>,
    outgoing: &mpsc::UnboundedSender<Result<DeltaDiscoveryResponse, Status>>,
) {
    let mut news = hub.news();
    while let Some((told, due_at)) = hub.tell(id) {
        for told in told {
            if outgoing.send(Ok(written(told))).is_err() {
                return;
            }
        }
        tokio::select! {
            message = incoming.message() => {
                let Ok(Some(mut message)) = message else { return };
                if let Some(node) = message.node.take() {
                    hub.meet(id, version(node));
                }
                if let Some(kind) = Kind::of(&message.type_url)
                    && !hub.receive(id, kind, said(message))
                {
                    return;
                }
            }
            _ = news.changed() => {}
            () = due(due_at) => {}
            () = hub.closed() => return,
        }
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// As `1.40.0`.
fn version(node: Node) -> Option<String> {
    match node.user_agent_version_type? {
        UserAgentVersionType::UserAgentVersion(version) => Some(version),
        UserAgentVersionType::UserAgentBuildVersion(build) => {
            let version = build.version?;
            let numbers = [version.major_number, version.minor_number, version.patch];
            Some(numbers.map(|number| number.to_string()).join("."))
        }
    }
}

fn said(message: DeltaDiscoveryRequest) -> Said {
    Said {
        subscribe: message.resource_names_subscribe,
        unsubscribe: message.resource_names_unsubscribe,
        has: message.initial_resource_versions.into_iter().collect(),
        nonce: message.response_nonce,
        refused: message.error_detail.map(|error| error.message),
    }
}

fn written(told: Told) -> DeltaDiscoveryResponse {
    let resources = told.resources.into_iter().map(|(name, resource)| Resource {
        name,
        version: resource.version.clone(),
        resource: Some(resource.body.clone()),
        ..Default::default()
    });
    DeltaDiscoveryResponse {
        resources: resources.collect(),
        type_url: told.kind.type_url().to_owned(),
        removed_resources: told.removed,
        nonce: told.nonce,
        ..Default::default()
    }
}

/// The doorbell.
#[tonic::async_trait]
impl ClusterDiscoveryService for Control {
    type StreamClustersStream = Answers<DiscoveryResponse>;
    type DeltaClustersStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_clusters(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamClustersStream>, Status> {
        Err(Status::unimplemented("use incremental xDS"))
    }

    async fn delta_clusters(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaClustersStream>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let hub = Arc::clone(&self.hub);
        tokio::spawn(async move {
            let (id, mut gone) = hub.hang();
            let mut incoming = request.into_inner();
            let mut asked = BTreeSet::new();
            loop {
                tokio::select! {
                    message = incoming.message() => {
                        let Ok(Some(message)) = message else { break };
                        asked.extend(message.resource_names_subscribe.iter().cloned());
                        hub.rung(message.resource_names_subscribe);
                    }
                    names = gone.recv() => {
                        let Some(mut names) = names else { break };
                        names.retain(|name| asked.remove(name));
                        if names.is_empty() {
                            continue;
                        }
                        let answer = DeltaDiscoveryResponse {
                            type_url: Kind::Cluster.type_url().to_owned(),
                            nonce: "gone".to_owned(),
                            removed_resources: names,
                            ..Default::default()
                        };
                        if sender.send(Ok(answer)).is_err() {
                            break;
                        }
                    }
                    () = hub.closed() => break,
                }
            }
            hub.unhang(id);
        });
        Ok(Response::new(stream_of(receiver)))
    }

    async fn fetch_clusters(&self, _: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("use incremental xDS"))
    }
}
