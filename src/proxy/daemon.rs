//! The daemon's life.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::aws::Aws;
use crate::clock::{self, SystemClock};
use crate::compute::kinds::{Kinds, OnAws};
use crate::compute::program::Programs;
use crate::config::Environment;
use crate::config::proxy::ProxyConfig;
use crate::drive::{Driver, Recent};
use crate::gateway::envoy::process::{Bootstrap, Envoy};
use crate::gateway::envoy::{Places, Plane, Signals};
use crate::ledger::Ledger;
use crate::ledger::file::InFolder;
use crate::ledger::folder::Folder;
use crate::rules::RuleSettings;
use crate::wiring::{for_proxy, owner};

use super::certificates::Certificates;
use super::desk::Desk;
use super::front::Front;
use super::judge::Court;
use super::kernel::{SETTINGS, Size, overlap_by};
use super::records::{Records, target};

use super::web;
use super::worker::ProxyDriver;

/// How often Envoy reports its load: so much later it is known that a session has ended.
const REPORTS: Duration = Duration::from_secs(2);
/// How often Envoy is asked what is open, besides whenever something is decided by it.
const COUNT: Duration = Duration::from_secs(5);
/// What Envoy has refused, a port that is taken for example, it is told again after this.
const RETRY: Duration = Duration::from_secs(30);
/// How often the rule files and certificates are looked at.
const RELOAD: Duration = Duration::from_secs(1);
/// How often secrets are read again; a read is paid for.
const SECRETS: Duration = Duration::from_secs(300);
/// The same, while a certificate is missing.
const MISSING: Duration = Duration::from_secs(30);
/// How often machines are asked for by their tags.
const DISCOVER: Duration = Duration::from_secs(60);
/// How often DNS records that are not right are tried again, and the machine's address is asked for.
const ADDRESS: Duration = Duration::from_secs(60);
/// How often those that are right are looked at again; Route 53 takes five calls a second from an account.
const RECORDS: Duration = Duration::from_secs(3600);
/// Connections of a listener that has changed live on for this long.
const DRAIN: Duration = Duration::from_secs(24 * 3600);
/// How long the start waits for Envoy to have what it is told; then it goes on without.
const FIRST_ACK: Duration = Duration::from_secs(10);

/// Runs until it is told to end.
///
/// # Errors
/// A sentence: why it could not begin, or what ended it.
pub async fn run(config: ProxyConfig, envoy: Option<PathBuf>) -> Result<(), String> {
    for warning in config
        .warnings
        .iter()
        .chain(&overlap_by(Path::new(SETTINGS), &config.port_range))
    {
        tracing::warn!("{warning}");
    }
    if envoy.is_none() && config.usage_port == 0 {
        return Err(
            "usageTrackingPort = 0 needs --envoy: an Envoy of its own has to know where to report after a restart"
                .to_owned(),
        );
    }
    let folder = Arc::new(Folder::open(&config.ledger).map_err(|error| error.to_string())?);
    let aws = for_proxy(&Environment, &config).await;
    let aws = aws.map_err(|errors| errors.to_string())?;
    if config.hosted_zone.is_some() && aws.is_none() {
        return Err("hostedZone needs a Region: set region in the configuration".to_owned());
    }
    // From here on it would end a process that does not listen to it.
    let hup = signal(SignalKind::hangup()).map_err(|error| error.to_string())?;
    let ledger = InFolder::open(folder.clone()).map_err(|error| error.to_string())?;
    serve(config, envoy, folder, aws, ledger, hup).await
}

async fn serve<L: Ledger + Clone + Send + Sync + 'static>(
    config: ProxyConfig,
    path: Option<PathBuf>,
    folder: Arc<Folder>,
    aws: Option<Aws>,
    ledger: L,
    hup: Signal,
) -> Result<(), String> {
    let here = config.rules.parent().unwrap_or(Path::new("/")).to_owned();
    let programs = Programs::open(folder.clone(), here).map_err(|error| error.to_string())?;
    let compute = Kinds {
        programs: programs.clone(),
        aws: aws.as_ref().map(|aws| Arc::new(OnAws::new(aws))),
    };
    let front = Front::open(config.clone(), folder, compute.clone())?;
    let driver = |what: &str| -> ProxyDriver<L> {
        Driver {
            compute: compute.clone(),
            gateway: front.clone(),
            metrics: front.clone(),
            ledger: ledger.clone(),
            clock: SystemClock,
            settings: settings(&config),
            owner: owner(what),
            recent: Recent::default(),
        }
    };
    let desk = Desk::new(front.clone(), driver("proxy"));
    let mut certificates = Certificates::new(&config.tls, aws.as_ref().map(Aws::secrets), &front.certificates());
    certificates.renew(desk.now(), true).await;
    desk.note_certificates(certificates.problems(desk.now()));
    front
        .set_certificates(certificates.in_use())
        .map_err(|fault| fault.sentence())?;
    desk.begin().await?;
    let (plane, signals) = plane(&config, Court::new(desk.clone(), driver("proxy-request"))).await?;
    let usage = plane.usage_address();
    front.connect(plane);
    front.begin();
    let status = SocketAddr::new(config.status_address, config.proxy_port);
    let status = TcpListener::bind(status)
        .await
        .map_err(|error| format!("proxyPort: {status} cannot be had: {error}"))?;
    let address = status.local_addr().map_err(|error| error.to_string())?;
    let control = web::control_socket(&config.control_socket);
    let control = control.map_err(|error| format!("controlSocket: {}: {error}", config.control_socket.display()))?;
    let mut child = start_envoy(&front, &config, path.as_deref(), usage).await?;
    attend(&desk, signals).await;
    tokio::spawn(web::status(status, desk.clone()));
    tokio::spawn(web::control(control, desk.clone()));
    tokio::spawn(reload(desk.clone(), certificates, hup));
    if let Some(aws) = aws.clone()
        && let Some(kept) = Records::new(&config, &aws)
    {
        tokio::spawn(records(desk.clone(), aws, kept));
    }
    tokio::spawn(discover(desk.clone()));
    println!("ready http://{address}");
    let ended = until_told(&mut child).await;
    // Run by hand, everything it started ends with it; on a VM, Envoy and the machines go on.
    if let Some(envoy) = child {
        let _ = envoy.stop().await;
        programs.end_all().await;
    }
    let _ = std::fs::remove_file(&config.control_socket);
    ended
}

pub(super) fn settings(config: &ProxyConfig) -> RuleSettings {
    RuleSettings {
        wakers: vec![crate::domain::rule::GroupId(super::front::WAKER.to_owned())],
        settle: config.settle,
        idle_min: config.idle_min,
        metrics_delay: config.metrics_delay,
        // Finer than what is reported could not be known.
        metrics_period: REPORTS,
        describe_delay: config.describe_delay,
        // The rules are what the daemon has read; nobody else is asked.
        table_age: Duration::ZERO,
    }
}

async fn plane<L: Ledger + Send + Sync + 'static>(
    config: &ProxyConfig,
    court: Court<L>,
) -> Result<(Plane, Signals), String> {
    if let Some(folder) = config.xds_socket.parent() {
        std::fs::create_dir_all(folder).map_err(|error| format!("xdsSocket: {}: {error}", folder.display()))?;
    }
    let places = Places {
        xds: config.xds_socket.clone(),
        usage: SocketAddr::from(([127, 0, 0, 1], config.usage_port)),
        load_interval: REPORTS,
        retry: RETRY,
    };
    Plane::start(places, court, SystemClock)
        .await
        .map_err(|error| error.to_string())
}

/// Writes Envoy's bootstrap file, for whoever starts it, and starts it when a path is given.
async fn start_envoy(
    front: &Front,
    config: &ProxyConfig,
    path: Option<&Path>,
    usage: SocketAddr,
) -> Result<Option<Envoy>, String> {
    let size = Size::here();
    let bootstrap = Bootstrap {
        xds: config.xds_socket.clone(),
        usage,
        admin: front.admin_socket(),
        node: config.access_point.clone().unwrap_or_else(|| "proxy".to_owned()),
        max_heap: size.heap,
        max_connections: size.connections,
    };
    let file = config.xds_socket.with_file_name("envoy.json");
    std::fs::write(&file, bootstrap.text()).map_err(|error| format!("{}: {error}", file.display()))?;
    let Some(path) = path else { return Ok(None) };
    let envoy = Envoy::start(path, &bootstrap, &file, DRAIN).await;
    envoy.map(Some).map_err(|error| error.to_string())
}

/// Begins to look at the rules and to listen to who wants them.
pub(super) async fn attend<L: Ledger + Send + Sync + 'static>(desk: &Desk<L>, signals: Signals) {
    // What Envoy is told about rules that sleep must be so before anything is stopped on the strength of it.
    if clock::timeout(FIRST_ACK, first_ack(desk)).await.is_err() {
        tracing::warn!("Envoy has not connected yet; going on without it");
    }
    desk.staff();
    tokio::spawn(count_open(desk.clone()));
    tokio::spawn(listen(signals, desk.clone()));
}

async fn count_open<L: Ledger + Send + Sync + 'static>(desk: Desk<L>) {
    loop {
        desk.front.note_open().await;
        clock::sleep(COUNT).await;
    }
}

async fn first_ack<L: Ledger + Send + Sync + 'static>(desk: &Desk<L>) {
    while !desk.front.plane().is_some_and(Plane::connected) {
        clock::sleep(Duration::from_millis(20)).await;
    }
    desk.publish().await;
}

/// Every now and then, and all of it at once on SIGHUP.
async fn reload<L: Ledger + Send + Sync + 'static>(desk: Desk<L>, mut certificates: Certificates, mut told: Signal) {
    for round in 1_u64.. {
        // What is not there yet keeps a port closed.
        let often = if certificates.is_whole() { SECRETS } else { MISSING };
        let all = tokio::select! {
            () = tokio::time::sleep(RELOAD) => round.is_multiple_of(often.as_secs()),
            _ = told.recv() => true,
        };
        match desk.reload().await {
            Ok(true) => desk.staff(),
            Ok(false) => {}
            Err(error) => tracing::warn!(error, "the rules could not be put to use"),
        }
        if certificates.renew(desk.now(), all).await
            && let Err(fault) = desk.front.set_certificates(certificates.in_use())
        {
            tracing::warn!(%fault, "the certificates could not be put to use");
        }
        desk.note_certificates(certificates.problems(desk.now()));
    }
}

/// When there are other hosts, and every now and then: the machine's address may change.
async fn records<L: Ledger + Send + Sync + 'static>(desk: Desk<L>, aws: Aws, mut records: Records) {
    let mut last = None;
    for round in 0_u64.. {
        let hosts = desk.hosts();
        if round.is_multiple_of(ADDRESS.as_secs()) || last.as_ref() != Some(&hosts) {
            if round.is_multiple_of(RECORDS.as_secs()) {
                records.forget();
            }
            let target = target(desk.front.config(), &aws).await;
            match target {
                Some(target) => records.renew(&hosts, &target).await,
                None => records.nowhere(),
            }
            desk.note_records(records.problems());
            last = Some(hosts);
        }
        tokio::time::sleep(RELOAD).await;
    }
}

async fn discover<L: Ledger + Send + Sync + 'static>(desk: Desk<L>) {
    loop {
        tokio::time::sleep(DISCOVER).await;
        match desk.discover().await {
            Ok(true) => desk.staff(),
            Ok(false) => {}
            Err(error) => tracing::warn!(error, "the rules of tags could not be put to use"),
        }
    }
}

async fn listen<L: Ledger + Send + Sync + 'static>(mut signals: Signals, desk: Desk<L>) {
    loop {
        tokio::select! {
            biased;
            Some(ring) = signals.rings.recv() => drop(tokio::spawn(desk.clone().answer_ring(ring))),
            Some(access) = signals.accesses.recv() => desk.note_access(&access),
            else => return,
        }
    }
}

async fn until_told(child: &mut Option<Envoy>) -> Result<(), String> {
    let term = signal(SignalKind::terminate());
    let int = signal(SignalKind::interrupt());
    let (mut term, mut int) = term
        .and_then(|term| Ok((term, int?)))
        .map_err(|error| error.to_string())?;
    let envoy = async {
        match child {
            Some(envoy) => envoy.ended().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        ended = envoy => Err(match ended {
            Ok(status) => format!("Envoy has ended by itself: {status}; see what it said above"),
            Err(error) => format!("Envoy is lost: {error}"),
        }),
    }
}
