//! One running local cloud: everything bound, seeded and started, and ended without a trace.

use std::{
    collections::BTreeMap,
    fmt,
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpListener;

use super::{
    alb,
    api::{self, record::Recorder},
    clock::Clock,
    instances::{self, Instances},
    lambda::{Function, Lambda},
    log::Log,
    process::Processes,
    seed::{self, Asleep, FUNCTION, Seeded, Site, TABLE},
    serve::Guard,
    shared::Shared,
    world::{Deployed, HealthCheck, LATEST, Settings, World},
};

/// Writes what a sleeping rule needs beyond load balancer and instance: the ledger's records, into the world's table
/// [`TABLE`] (`world.table(TABLE)?.put(item)`). Called once, before anything is served.
pub type SeedAsleep = fn(&mut World, Timestamp, &[Asleep]);

/// How a local cloud is to be.
#[derive(Debug, Clone)]
pub struct Config {
    /// 0 is a port of the kernel's choice.
    pub port: u16,
    pub api_port: u16,
    pub boot: Duration,
    /// How long an instance is `stopping`.
    pub stop: Duration,
    pub idle: Duration,
    /// How long after its period a point of a metric is published.
    pub metrics_delay: Duration,
    /// The quota of rules and of target groups on the load balancer.
    pub quota: usize,
    pub sites: Vec<Site>,
    /// Programs on instances that no rule leads to: for `create`.
    pub spares: Vec<Site>,
    pub bootstrap: PathBuf,
    pub seed: u64,
    /// Of the sites' target groups.
    pub check: HealthCheck,
    pub concurrency: usize,
    pub function_timeout: Duration,
    pub init_timeout: Duration,
    pub reap: Duration,
    pub freeze: bool,
    /// How often the function gets a scheduled event; `None` is never.
    pub tick: Option<Duration>,
    /// Whether the function hears of state changes.
    pub events: bool,
    /// More environment for the function; it wins over what the cloud sets.
    pub env: Vec<(String, String)>,
    /// Whether accesses and the programs' output are echoed to stderr.
    pub echo: bool,
    /// Whether the sites' commands are tried out first.
    pub try_out: bool,
    pub seed_asleep: Option<SeedAsleep>,
    /// A folder in which the calls of the function are written down.
    pub record: Option<PathBuf>,
}

impl Config {
    /// The defaults of `proxymanager local`, with kernel-chosen ports and no sites.
    pub fn new(bootstrap: impl Into<PathBuf>) -> Self {
        let second = Duration::from_secs;
        Self {
            port: 0,
            api_port: 0,
            boot: second(8),
            stop: second(3),
            idle: second(60),
            metrics_delay: second(60),
            quota: 100,
            sites: Vec::new(),
            spares: Vec::new(),
            bootstrap: bootstrap.into(),
            seed: 1,
            // What `doctor` recommends: AWS's defaults can take 150 s.
            check: HealthCheck {
                interval: second(5),
                timeout: second(4),
                healthy: 2,
                unhealthy: 2,
                ..HealthCheck::default()
            },
            concurrency: 50,
            function_timeout: second(60),
            init_timeout: second(10),
            reap: second(300),
            freeze: true,
            tick: Some(second(60)),
            events: true,
            env: Vec::new(),
            echo: false,
            try_out: true,
            seed_asleep: None,
            record: None,
        }
    }
}

/// Why a local cloud did not start: a sentence for its user.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("port {port} is taken by another program: choose another with {flag}, or 0 for any")]
    PortTaken { port: u16, flag: &'static str },
    #[error("port {port}: {error}")]
    Port { port: u16, error: std::io::Error },
    #[error("there is no function at {}: build it with `make build`, or name it with --bootstrap", .0.display())]
    NoBootstrap(PathBuf),
    #[error("{} is not executable: build it with `make build`, or name it with --bootstrap", .0.display())]
    NotExecutable(PathBuf),
    #[error("the command of {host} does not run: {reason}")]
    Command { host: String, reason: String },
    #[error("calls cannot be recorded in {}: {error}", folder.display())]
    Record { folder: PathBuf, error: std::io::Error },
    #[error("the local cloud cannot be set up: {0}")]
    Seed(#[from] super::world::Failure),
}

/// A running local cloud. Dropped or stopped, it leaves no process behind.
pub struct Cloud {
    pub shared: Arc<Shared>,
    pub seeded: Seeded,
    /// Where the load balancer listens.
    pub address: SocketAddr,
    /// Where the AWS APIs listen.
    pub api_address: SocketAddr,
    guards: Vec<Guard>,
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud")
            .field("address", &self.address)
            .field("api_address", &self.api_address)
            .finish()
    }
}

impl Cloud {
    /// Starts a local cloud, or says why not and leaves nothing running.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let bootstrap = executable(&config.bootstrap)?;
        let data = bind(config.port, "--port").await?;
        let api = bind(config.api_port, "--api-port").await?;
        let unknown = |port| move |error| StartError::Port { port, error };
        let address = data.local_addr().map_err(unknown(config.port))?;
        let api_address = api.local_addr().map_err(unknown(config.api_port))?;
        let processes = Processes::default();
        if config.try_out {
            for site in &config.sites {
                let tried = instances::try_out(&site.host, &site.command, &processes).await;
                tried.map_err(|reason| StartError::Command {
                    host: site.host.clone(),
                    reason,
                })?;
            }
        }
        let clock = Clock::start();
        let log = Arc::new(Log::new(config.echo));
        let now = clock.now();
        let mut world = World::new(Settings {
            seed: config.seed,
            stop: config.stop,
            metrics_delay: config.metrics_delay,
            quota: config.quota,
            ..Settings::default()
        });
        // Yesterday, so that a describe that is some seconds stale does not see a world in which nothing exists yet.
        let yesterday = now - Duration::from_secs(24 * 3600);
        let seeded = seed::seed(
            &mut world,
            yesterday,
            address.port(),
            &config.sites,
            &config.spares,
            config.boot,
            config.idle,
            &config.check,
        )?;
        if let Some(seed_asleep) = config.seed_asleep {
            seed_asleep(&mut world, now, &seeded.sites);
        }
        let function = function(&config, bootstrap, &seeded, api_address, &world.settings.region);
        let lambda = Lambda::new(function, clock, Arc::clone(&log), processes.clone());
        deploy(&mut world, &lambda, &seeded)?;
        let commands: BTreeMap<String, Site> = seeded
            .sites
            .iter()
            .map(|site| &site.instance)
            .chain(&seeded.spares)
            .zip(config.sites.iter().chain(&config.spares))
            .map(|(instance, site)| (instance.clone(), site.clone()))
            .collect();
        let instances = Instances::new(commands, processes.clone(), Arc::clone(&log));
        let shared = Arc::new(Shared::new(clock, log, processes, lambda, instances, world));
        let recorder = config.record.as_deref().map(|folder| {
            Recorder::new(folder, &shared.lambda.function().env).map_err(|error| StartError::Record {
                folder: folder.to_owned(),
                error,
            })
        });
        let recorder = recorder.transpose()?;
        let mut guards = vec![api::start(api, Arc::clone(&shared), recorder)];
        let balancer = alb::start(data, seeded.listener.clone(), Arc::clone(&shared));
        guards.push(balancer.map_err(unknown(config.port))?);
        guards.push(instances::drive(Arc::clone(&shared), config.events));
        guards.extend(
            config
                .tick
                .map(|period| instances::schedule(Arc::clone(&shared), period)),
        );
        Ok(Self {
            shared,
            seeded,
            address,
            api_address,
            guards,
        })
    }

    /// The URL of the AWS APIs, for `AWS_ENDPOINT_URL`.
    pub fn api_url(&self) -> String {
        format!("http://{}", self.api_address)
    }

    /// The URL of a site, as a browser opens it.
    pub fn site_url(&self, site: &Asleep) -> String {
        format!("http://{}:{}/", site.host, self.address.port())
    }

    /// Ends everything and waits until no process of it is left.
    pub async fn stop(mut self) {
        self.guards.clear();
        let release = || {
            self.shared.instances.end_all();
            self.shared.lambda.forget();
        };
        self.shared.processes.end_all(release).await;
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.shared.processes.kill_all();
    }
}

fn function(config: &Config, bootstrap: PathBuf, seeded: &Seeded, api: SocketAddr, region: &str) -> Function {
    // Some seconds more than it takes: a point that is looked for too early is a minute in which nothing is known.
    let published = config.metrics_delay + Duration::from_secs(3);
    let waker = seeded.waker.split('/').nth(1).unwrap_or_default();
    let mut env: Vec<(String, String)> = [
        ("AWS_ENDPOINT_URL", format!("http://{api}")),
        ("AUTOSTOPPING_LISTENERS", seeded.listener.clone()),
        ("AUTOSTOPPING_LEDGER", format!("dynamodb:{TABLE}")),
        // By name, as a template has to.
        ("AUTOSTOPPING_WAKER", waker.to_owned()),
        // Nobody wants to wait eight minutes for a demo to fall asleep.
        ("AUTOSTOPPING_SETTLE", "10s".to_owned()),
        ("AUTOSTOPPING_METRICS_DELAY", format!("{}s", published.as_secs())),
        ("AUTOSTOPPING_IDLE_MIN", "1s".to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    env.extend(config.env.iter().cloned());
    Function {
        arn: seeded.function.clone(),
        name: FUNCTION.to_owned(),
        bootstrap,
        env,
        region: region.to_owned(),
        timeout: config.function_timeout,
        init: config.init_timeout,
        concurrency: config.concurrency,
        reap: config.reap,
        freeze: config.freeze,
    }
}

/// The function as Lambda's API shows it: its alias stands on `$LATEST`, and the waker target group may invoke it.
fn deploy(world: &mut World, lambda: &Lambda, seeded: &Seeded) -> Result<(), super::world::Failure> {
    let function = lambda.function();
    let (arn, alias) = function.arn.rsplit_once(':').unwrap_or((&function.arn, "live"));
    world.deploy(Deployed {
        name: function.name.clone(),
        arn: arn.to_owned(),
        timeout: function.timeout.as_secs(),
        environment: function.env.iter().cloned().collect(),
        state: "Active".to_owned(),
        architecture: if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "x86_64"
        }
        .to_owned(),
        latest: lambda.first_code(),
        updated: None,
        versions: Vec::new(),
        aliases: BTreeMap::from([(alias.to_owned(), LATEST.to_owned())]),
        policies: BTreeMap::new(),
        revisions: BTreeMap::new(),
    });
    let permission = json!({
        "StatementId": "waker",
        "Action": "lambda:InvokeFunction",
        "Principal": "elasticloadbalancing.amazonaws.com",
        "SourceArn": seeded.waker,
    });
    world.add_permission(&function.name, Some(alias), &permission).map(drop)
}

fn executable(path: &Path) -> Result<PathBuf, StartError> {
    use std::os::unix::fs::PermissionsExt;
    let missing = || StartError::NoBootstrap(path.to_owned());
    let path = path.canonicalize().map_err(|_| missing())?;
    let meta = path.metadata().map_err(|_| missing())?;
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return Err(StartError::NotExecutable(path));
    }
    Ok(path)
}

async fn bind(port: u16, flag: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => StartError::PortTaken { port, flag },
            _ => StartError::Port { port, error },
        })
}
