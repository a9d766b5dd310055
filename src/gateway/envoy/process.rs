//! Envoy itself: its bootstrap file, and an Envoy started as a child.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::wire::{CONTROL, USAGE};
use crate::child::die_with_us;

/// Older ones leave connections that are open and quiet out of their load reports, and answer what cannot be judged by 403
/// (Envoy's release notes of 1.37).
pub const OLDEST: (u32, u32) = (1, 37);

/// How long an Envoy may take to say its version.
const VERSION: Duration = Duration::from_secs(10);

/// What the bootstrap file says.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// [`Places::xds`](super::Places::xds).
    pub xds: PathBuf,
    /// [`Plane::usage_address`](super::Plane::usage_address).
    pub usage: SocketAddr,
    /// Unix socket of the admin interface.
    pub admin: PathBuf,
    /// The name of this proxy, for example the access point's id.
    pub node: String,
    /// Bytes; near it Envoy refuses requests rather than grow.
    pub max_heap: u64,
    /// Client connections at once; one more is closed.
    pub max_connections: u64,
}

impl Bootstrap {
    /// The file, JSON.
    pub fn text(&self) -> String {
        let control = self.cluster(CONTROL, &json!({"pipe": {"path": self.xds}}));
        let (host, port) = (self.usage.ip().to_string(), self.usage.port());
        let usage = self.cluster(USAGE, &json!({"socket_address": {"address": host, "port_value": port}}));
        let service = |cluster: &str| {
            json!({"envoy_grpc": {
                "cluster_name": cluster,
                // Back within half a second after a restart of the daemon.
                "retry_policy": {"retry_back_off": {"base_interval": "0.2s", "max_interval": "1s"}},
            }})
        };
        let by_ads = json!({"ads": {}, "resource_api_version": "V3"});
        let text = json!({
            "node": {"id": self.node, "cluster": "proxymanager"},
            // Too many clients must not keep the daemon from seeing what is in use.
            "admin": {
                "address": {"pipe": {"path": self.admin, "mode": 0o660}},
                "ignore_global_conn_limit": true,
            },
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": true,
                    "grpc_services": [service(CONTROL)],
                },
                "lds_config": by_ads,
                "cds_config": by_ads,
            },
            "cluster_manager": {"load_stats_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [service(USAGE)],
            }},
            "static_resources": {"clusters": [control, usage]},
            // Most clusters of most rules are never used at once.
            "deferred_stat_options": {"enable_deferred_creation_stats": true},
            "overload_manager": self.overload(),
        });
        text.to_string()
    }

    fn cluster(&self, name: &str, address: &Value) -> Value {
        let most = self.max_connections.saturating_mul(2).min(u64::from(u32::MAX));
        let thresholds = |priority: &str| {
            json!({
                "priority": priority,
                "max_connections": most,
                "max_pending_requests": most,
                "max_requests": most,
                "max_retries": most,
            })
        };
        json!({
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
            // A held request is one: Envoy's default of 1024 is too few.
            "circuit_breakers": {"thresholds": [thresholds("DEFAULT"), thresholds("HIGH")]},
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 1_000_000}},
            }},
        })
    }

    /// Source: Envoy, "Configuring Envoy as an edge proxy".
    fn overload(&self) -> Value {
        let heap = "envoy.resource_monitors.fixed_heap";
        let at = |value: f64| json!([{"name": heap, "threshold": {"value": value}}]);
        json!({
            "refresh_interval": "0.25s",
            "resource_monitors": [
                {"name": heap, "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": self.max_heap,
                }},
                {"name": "envoy.resource_monitors.global_downstream_max_connections", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": self.max_connections,
                }},
            ],
            "actions": [
                {"name": "envoy.overload_actions.shrink_heap", "triggers": at(0.9)},
                {"name": "envoy.overload_actions.stop_accepting_requests", "triggers": at(0.95)},
                {"name": "envoy.overload_actions.stop_accepting_connections", "triggers": at(0.98)},
            ],
        })
    }
}

/// What Envoy is started with. Connections of a listener that has changed live on for the drain time; by default they would
/// be cut after ten minutes.
pub fn arguments(bootstrap: &Path, drain: Duration) -> Vec<String> {
    [
        "--config-path",
        &bootstrap.display().to_string(),
        "--drain-time-s",
        &drain.as_secs().to_string(),
        "--disable-hot-restart",
        "--log-level",
        "warning",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Why there is no Envoy.
#[derive(Debug, thiserror::Error)]
pub enum NoEnvoy {
    #[error("{path}: {error}; Envoy {}.{} or later is needed", OLDEST.0, OLDEST.1)]
    Missing { path: PathBuf, error: io::Error },
    #[error("{path} does not say its version but {said}; Envoy {}.{} or later is needed", OLDEST.0, OLDEST.1)]
    Unknown { path: PathBuf, said: String },
    #[error("{path} is Envoy {version}; {}.{} or later is needed", OLDEST.0, OLDEST.1)]
    TooOld { path: PathBuf, version: String },
    #[error("{path}: {error}")]
    Bootstrap { path: PathBuf, error: io::Error },
}

/// The version of the Envoy at this path, such as `1.40.0`.
///
/// # Errors
/// It cannot be run, is something else, or too old.
pub async fn version(path: &Path) -> Result<String, NoEnvoy> {
    let path = path.to_owned();
    let mut command = Command::new(&path);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(VERSION, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(NoEnvoy::Missing { path, error }),
        Err(_) => {
            let said = format!("nothing within {} s", VERSION.as_secs());
            return Err(NoEnvoy::Unknown { path, said });
        }
    };
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let quoted = || format!("{said:?}");
    let Some(version) = said_version(&said) else {
        return Err(NoEnvoy::Unknown { path, said: quoted() });
    };
    match new_enough(&version) {
        Some(true) => Ok(version),
        Some(false) => Err(NoEnvoy::TooOld { path, version }),
        None => Err(NoEnvoy::Unknown { path, said: quoted() }),
    }
}

/// Whether this version is at least the [`OLDEST`]; nothing when it is no version.
pub fn new_enough(version: &str) -> Option<bool> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    Some((parts.next()??, parts.next()??) >= OLDEST)
}

/// What to say of an Envoy that has connected, when it would not understand everything that it is told.
pub fn too_old(version: &str) -> Option<String> {
    let said = || {
        format!(
            "Envoy {version} is connected; {}.{} or later is needed",
            OLDEST.0, OLDEST.1
        )
    };
    (new_enough(version) == Some(false)).then(said)
}

/// `envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`
fn said_version(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("version: ")?;
    Some(rest.split('/').nth(1)?.to_owned())
}

/// An Envoy that is our child, in a process group of its own. Dropped, it is killed.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    group: Option<Pid>,
}

impl Envoy {
    /// Writes the bootstrap file and starts Envoy with it. What it logs goes to our standard error.
    ///
    /// # Errors
    /// See [`NoEnvoy`].
    pub async fn start(path: &Path, bootstrap: &Bootstrap, file: &Path, drain: Duration) -> Result<Envoy, NoEnvoy> {
        version(path).await?;
        let written = std::fs::write(file, bootstrap.text());
        // A socket left by one that was killed would be in its way.
        let _ = std::fs::remove_file(&bootstrap.admin);
        written.map_err(|error| NoEnvoy::Bootstrap {
            path: file.to_owned(),
            error,
        })?;
        let mut command = Command::new(path);
        command
            .args(arguments(file, drain))
            .process_group(0)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        die_with_us(&mut command);
        let child = command.spawn().map_err(|error| NoEnvoy::Missing {
            path: path.to_owned(),
            error,
        })?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Envoy { child, group })
    }

    /// Ends when Envoy has ended by itself.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.group = None;
        status
    }

    /// Asks it to end, and waits until it has.
    pub async fn stop(mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It may have ended already.
            let _ = killpg(group, signal);
        }
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_envoy_says() {
        let said = "/usr/bin/envoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL";
        assert_eq!(said_version(said).as_deref(), Some("1.40.0"));
        let judged = ["1.37.0", "1.40.0", "2.0.0", "1.9.1", "1.36.9", "one.two", ""].map(new_enough);
        assert_eq!(
            judged,
            [Some(true), Some(true), Some(true), Some(false), Some(false), None, None]
        );
        assert_eq!(said_version("GNU bash, version 5"), None);
    }
}
