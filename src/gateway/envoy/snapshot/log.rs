//! Access logs: who is connected. Single requests are not logged; that would cost a tenth of the throughput.

use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, LogTypeFilter, access_log, access_log_filter::FilterSpecifier,
};
use envoy_types::pb::envoy::config::core::v3::{ApiVersion, GrpcService};
use envoy_types::pb::envoy::data::accesslog::v3::AccessLogType;
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::{
    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig,
};
use envoy_types::pb::google::protobuf::Any;

use super::super::wire::{USAGE, any, grpc, reconnect};

/// How often a connection that lasts is named.
pub const PERIOD: Duration = Duration::from_secs(60);

pub fn http() -> AccessLog {
    log(
        "envoy.access_loggers.http_grpc",
        any(HttpGrpcAccessLogConfig {
            common_config: Some(common("http")),
            ..Default::default()
        }),
        &[AccessLogType::DownstreamPeriodic],
    )
}

pub fn tcp() -> AccessLog {
    log(
        "envoy.access_loggers.tcp_grpc",
        any(TcpGrpcAccessLogConfig {
            common_config: Some(common("tcp")),
        }),
        &[
            AccessLogType::TcpConnectionStart,
            AccessLogType::TcpUpstreamConnected,
            AccessLogType::TcpPeriodic,
            AccessLogType::TcpConnectionEnd,
        ],
    )
}

fn log(name: &str, config: Any, types: &[AccessLogType]) -> AccessLog {
    AccessLog {
        name: name.to_owned(),
        filter: Some(AccessLogFilter {
            filter_specifier: Some(FilterSpecifier::LogTypeFilter(LogTypeFilter {
                types: types.iter().map(|kind| i32::from(*kind)).collect(),
                exclude: false,
            })),
        }),
        config_type: Some(access_log::ConfigType::TypedConfig(config)),
    }
}

/// All with one name share one stream.
fn common(name: &str) -> CommonGrpcAccessLogConfig {
    CommonGrpcAccessLogConfig {
        log_name: name.to_owned(),
        grpc_service: Some(GrpcService {
            target_specifier: grpc(USAGE, Some(reconnect())),
            ..Default::default()
        }),
        transport_api_version: ApiVersion::V3.into(),
        ..Default::default()
    }
}
