//! Small parts of Envoy's API that many messages need.
//!
//! A map in a message is written in no particular order, and a resource's version is the digest of its bytes. So no map
//! has more than one entry.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiConfigSource, ApiVersion, BackoffStrategy, CidrRange, ConfigSource, DataSource,
    GrpcService, RetryPolicy, SocketAddress, TcpKeepalive, TransportSocket, address, api_config_source::ApiType,
    config_source::ConfigSourceSpecifier, data_source, grpc_service, socket_address::PortSpecifier, transport_socket,
};
use envoy_types::pb::google::protobuf::{self, Any, BoolValue, UInt32Value};
use envoy_types::util::pack_any;
use ipnet::IpNet;

/// The cluster that is our Unix socket.
pub(super) const CONTROL: &str = "proxymanager";
/// The cluster that is our port for load reports and access logs.
pub(super) const USAGE: &str = "proxymanager-usage";

pub(super) fn any<T: prost::Message + prost::Name>(message: T) -> Any {
    pack_any(message)
}

pub(super) fn uint(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(super) fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

pub(super) fn duration(value: Duration) -> Option<protobuf::Duration> {
    Some(protobuf::Duration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or(0),
    })
}

pub(super) fn span(value: Option<&protobuf::Duration>) -> Duration {
    value.map_or(Duration::ZERO, |value| {
        Duration::new(
            u64::try_from(value.seconds).unwrap_or(0),
            u32::try_from(value.nanos).unwrap_or(0).min(999_999_999),
        )
    })
}

pub(super) fn socket(host: String, port: u16) -> Option<Address> {
    Some(Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host,
            port_specifier: Some(PortSpecifier::PortValue(u32::from(port))),
            ..Default::default()
        })),
    })
}

pub(super) fn socket_address(at: SocketAddr) -> Option<Address> {
    socket(at.ip().to_string(), at.port())
}

/// What [`socket_address`] wrote.
pub(super) fn socket_of(address: Option<&Address>) -> Option<SocketAddr> {
    match address?.address.as_ref()? {
        address::Address::SocketAddress(socket) => {
            let port = match socket.port_specifier.as_ref()? {
                PortSpecifier::PortValue(port) => u16::try_from(*port).ok()?,
                PortSpecifier::NamedPort(_) => return None,
            };
            Some(SocketAddr::new(socket.address.parse::<IpAddr>().ok()?, port))
        }
        _ => None,
    }
}

pub(super) fn range(net: &IpNet) -> CidrRange {
    CidrRange {
        address_prefix: net.network().to_string(),
        prefix_len: uint(u32::from(net.prefix_len())),
    }
}

pub(super) fn inline(bytes: &[u8]) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(data_source::Specifier::InlineBytes(bytes.to_vec())),
        ..Default::default()
    })
}

pub(super) fn tls_socket(context: Any) -> Option<TransportSocket> {
    Some(TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(context)),
    })
}

/// Told by the stream that all resources share.
pub(super) fn by_ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    })
}

/// The doorbell: a stream of its own. On the shared one a paused connection would be closed after 15 s.
///
/// An initial fetch that takes long would hold up other rules' rings, and ours is never answered.
pub(super) fn doorbell() -> Option<ConfigSource> {
    Some(ConfigSource {
        initial_fetch_timeout: duration(Duration::from_millis(50)),
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(ApiConfigSource {
            api_type: ApiType::DeltaGrpc.into(),
            transport_api_version: ApiVersion::V3.into(),
            grpc_services: vec![GrpcService {
                target_specifier: grpc(CONTROL, Some(reconnect())),
                ..Default::default()
            }],
            set_node_on_first_message_only: true,
            ..Default::default()
        })),
        ..Default::default()
    })
}

pub(super) fn grpc(cluster: &str, retry_policy: Option<RetryPolicy>) -> Option<grpc_service::TargetSpecifier> {
    Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc_service::EnvoyGrpc {
        cluster_name: cluster.to_owned(),
        retry_policy,
        ..Default::default()
    }))
}

/// Back within half a second after a restart of the daemon; Envoy's default takes up to ten.
pub(super) fn reconnect() -> RetryPolicy {
    RetryPolicy {
        retry_back_off: Some(BackoffStrategy {
            base_interval: duration(Duration::from_millis(200)),
            max_interval: duration(Duration::from_secs(1)),
        }),
        ..Default::default()
    }
}

/// A peer that is gone without a word is noticed within two minutes. No idle time-out does that: a quiet SSH session is in
/// use.
pub(super) fn keepalive() -> TcpKeepalive {
    TcpKeepalive {
        keepalive_probes: uint(3),
        keepalive_time: uint(60),
        keepalive_interval: uint(20),
    }
}
