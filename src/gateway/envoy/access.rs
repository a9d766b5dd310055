//! Access logs: who is connected, from where, how long.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use envoy_types::pb::envoy::data::accesslog::v3::{AccessLogCommon, AccessLogType};
use envoy_types::pb::envoy::service::accesslog::v3::{
    StreamAccessLogsMessage, StreamAccessLogsResponse, access_log_service_server::AccessLogService,
    stream_access_logs_message::LogEntries,
};
use tonic::{Request, Response, Status, Streaming};

use super::hub::Hub;
use super::names::ClusterName;
use super::plane::{Access, AccessKind};
use super::view::View;
use super::wire::{socket_of, span};
use crate::domain::rule::RuleName;

/// Which rule a TCP listener belongs to. A connection that still waits has no cluster to tell it by.
#[derive(Debug, Default)]
pub struct Ports(BTreeMap<u16, Vec<(IpAddr, RuleName)>>);

impl Ports {
    pub fn of(view: &View) -> Ports {
        let mut ports = Ports::default();
        for rule in &view.rules {
            for way in &rule.tcp {
                let owners = ports.0.entry(way.listen.port()).or_default();
                owners.push((way.listen.ip(), rule.name.clone()));
            }
        }
        ports
    }

    /// Two rules may share a port on different addresses.
    fn rule(&self, at: SocketAddr) -> Option<RuleName> {
        let owners = self.0.get(&at.port())?;
        owners
            .iter()
            .find(|(ip, _)| *ip == at.ip())
            .or_else(|| owners.iter().find(|(ip, _)| ip.is_unspecified()))
            .map(|(_, rule)| rule.clone())
    }
}

/// The service.
pub struct Accesses {
    pub hub: Arc<Hub>,
}

#[tonic::async_trait]
impl AccessLogService for Accesses {
    async fn stream_access_logs(
        &self,
        request: Request<Streaming<StreamAccessLogsMessage>>,
    ) -> Result<Response<StreamAccessLogsResponse>, Status> {
        let mut messages = request.into_inner();
        loop {
            let message = tokio::select! {
                message = messages.message() => message?,
                () = self.hub.closed() => None,
            };
            let Some(message) = message else { break };
            for access in self.hub.with_ports(|ports| read(ports, message)) {
                self.hub.access(access);
            }
        }
        Ok(Response::new(StreamAccessLogsResponse {}))
    }
}

fn read(ports: &Ports, message: StreamAccessLogsMessage) -> Vec<Access> {
    match message.log_entries {
        None => Vec::new(),
        Some(LogEntries::TcpLogs(logs)) => {
            let entries = logs.log_entry.into_iter().filter_map(|entry| {
                let bytes = entry.connection_properties.unwrap_or_default();
                let common = entry.common_properties?;
                let at = socket_of(common.downstream_local_address.as_ref());
                let rule = named(&common).or_else(|| ports.rule(at?));
                access(&common, rule, bytes.received_bytes, bytes.sent_bytes)
            });
            entries.collect()
        }
        Some(LogEntries::HttpLogs(logs)) => {
            let entries = logs.log_entry.into_iter().filter_map(|entry| {
                let common = entry.common_properties?;
                let (received, sent) = (common.downstream_wire_bytes_received, common.downstream_wire_bytes_sent);
                access(&common, named(&common), received, sent)
            });
            entries.collect()
        }
    }
}

fn named(common: &AccessLogCommon) -> Option<RuleName> {
    ClusterName::parse(&common.upstream_cluster).map(|name| name.rule)
}

fn access(common: &AccessLogCommon, rule: Option<RuleName>, received: u64, sent: u64) -> Option<Access> {
    let kind = match AccessLogType::try_from(common.access_log_type).ok()? {
        AccessLogType::TcpConnectionStart | AccessLogType::DownstreamStart => AccessKind::Started,
        AccessLogType::TcpUpstreamConnected => AccessKind::Connected,
        AccessLogType::TcpPeriodic | AccessLogType::DownstreamPeriodic => AccessKind::Periodic,
        AccessLogType::TcpConnectionEnd | AccessLogType::DownstreamEnd => AccessKind::Ended,
        _ => return None,
    };
    let began = common.start_time.as_ref()?;
    Some(Access {
        rule,
        kind,
        began: crate::domain::time::Timestamp::new(began.seconds, began.nanos).ok()?,
        source: socket_of(common.downstream_remote_address.as_ref()).map(|source| source.ip()),
        lasted: span(common.duration.as_ref()),
        received,
        sent,
    })
}
