//! Instances are real local programs: started when the virtual machine runs, asked to end when it stops, checked over
//! real HTTP. Here the world's effects meet processes and sockets.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener as StdListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::{net::TcpStream, process::Command};

use super::{
    log::Log,
    process::{Group, Processes, Program},
    seed::Site,
    serve::Guard,
    shared::Shared,
    world::{Effect, Outcome, Probe},
};

/// How often the world is looked at. Boot times and checks are seconds, so this is not seen.
const STEP: Duration = Duration::from_millis(25);
/// How long a command is watched before it counts as one that keeps running.
const TRIAL: Duration = Duration::from_secs(1);

/// A running program and the loopback port it was told to listen on.
#[derive(Debug)]
struct Running {
    program: Program,
    port: u16,
}

/// The programs of all instances, by instance id.
#[derive(Debug)]
pub struct Instances {
    commands: BTreeMap<String, Site>,
    processes: Processes,
    running: Mutex<BTreeMap<String, Running>>,
    log: Arc<Log>,
}

impl Instances {
    /// `commands` is the site that runs on each instance id.
    pub fn new(commands: BTreeMap<String, Site>, processes: Processes, log: Arc<Log>) -> Self {
        Self {
            commands,
            processes,
            running: Mutex::default(),
            log,
        }
    }

    /// The loopback port on which the instance's program listens; `None` when it has no program now.
    pub fn port_of(&self, id: &str) -> Option<u16> {
        self.running().get(id).map(|running| running.port)
    }

    /// The program dies; the machine runs on.
    pub fn crash(&self, id: &str) {
        self.signal(id, Signal::SIGKILL);
    }

    fn launch(&self, id: &str) {
        let Some(site) = self.commands.get(id) else { return };
        match start(&site.host, &site.command, &self.processes, &self.log) {
            Ok(running) => drop(self.running().insert(id.to_owned(), running)),
            Err(error) => self.log.output(&site.host, &format!("did not start: {error}")),
        }
    }

    fn signal(&self, id: &str, signal: Signal) {
        if let Some(running) = self.running().get(id) {
            Group::signal(running.program.group(), signal);
        }
    }

    /// Nothing of the instance's program is left.
    fn end(&self, id: &str) {
        self.running().remove(id);
    }

    /// Nothing of any program is left.
    pub fn end_all(&self) {
        self.running().clear();
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start(name: &str, command: &[String], processes: &Processes, log: &Arc<Log>) -> std::io::Result<Running> {
    let [program, arguments @ ..] = command else {
        return Err(std::io::Error::other("the command is empty"));
    };
    // The port is free a moment ago; a program cannot be handed a bound socket by an environment variable.
    let port = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("PORT", port.to_string())
        .env("HOST", "127.0.0.1");
    Ok(Running {
        program: processes.spawn(name, command, log)?,
        port,
    })
}

/// Runs a command for a moment, so that one that does not exist or ends at once is told before the cloud is up.
pub async fn try_out(name: &str, command: &[String], processes: &Processes) -> Result<(), String> {
    let log = Arc::new(Log::default());
    let Running { mut program, port } = start(name, command, processes, &log).map_err(|error| error.to_string())?;
    let listening = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(STEP).await;
        }
    };
    let ended = tokio::select! {
        status = program.wait() => Some(status),
        () = listening => None,
        () = tokio::time::sleep(TRIAL) => None,
    };
    program.kill().await;
    let Some(status) = ended else { return Ok(()) };
    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    // Its output is read by another task, which a moment suffices for.
    tokio::time::sleep(STEP).await;
    let said = log
        .lines()
        .last()
        .map(|line| format!(": {}", line.line))
        .unwrap_or_default();
    Err(format!("it ended at once ({status}){said}"))
}

/// Lets the world's time pass until the guard is dropped. `events`: the function hears of state changes.
pub fn drive(shared: Arc<Shared>, events: bool) -> Guard {
    let task = tokio::spawn(async move {
        loop {
            let now = shared.clock.now();
            let (effects, probes) = {
                let mut world = shared.world();
                (world.advance(now), world.due_probes(now))
            };
            for effect in effects {
                match effect {
                    Effect::Launch(id) => shared.instances.launch(&id),
                    Effect::Halt(id) => shared.instances.signal(&id, Signal::SIGTERM),
                    Effect::Stopped(id) => shared.instances.end(&id),
                    Effect::Changed(id, state) if events => tell(&shared, &state_change(&shared, &id, state)),
                    Effect::Changed(..) => {}
                }
            }
            for probe in probes {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let outcome = check(shared.instances.port_of(&probe.target), &probe).await;
                    shared.world().probed(&probe, outcome);
                });
            }
            shared.lambda.reap();
            tokio::time::sleep(STEP).await;
        }
    });
    Guard(task.abort_handle())
}

/// Invokes the function with a scheduled event each `period` until the guard is dropped.
pub fn schedule(shared: Arc<Shared>, period: Duration) -> Guard {
    let task = tokio::spawn(async move {
        loop {
            tokio::time::sleep(period).await;
            let event = event(&shared, "Scheduled Event", "aws.events", "rule/autostopping", json!({}));
            tell(&shared, &event);
        }
    });
    Guard(task.abort_handle())
}

/// EventBridge's event of a state change.
fn state_change(shared: &Shared, id: &str, state: &str) -> Value {
    let detail = json!({ "instance-id": id, "state": state });
    event(
        shared,
        "EC2 Instance State-change Notification",
        "aws.ec2",
        &format!("instance/{id}"),
        detail,
    )
}

fn event(shared: &Shared, kind: &str, source: &str, resource: &str, detail: Value) -> Value {
    let mut world = shared.world();
    let id = world.request_id();
    let (region, account) = (&world.settings.region, &world.settings.account);
    let service = source.trim_start_matches("aws.");
    json!({
        "version": "0",
        "id": id,
        "detail-type": kind,
        "source": source,
        "account": account,
        "time": shared.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "region": region,
        "resources": [format!("arn:aws:{service}:{region}:{account}:{resource}")],
        "detail": detail,
    })
}

fn tell(shared: &Arc<Shared>, event: &Value) {
    let event = Bytes::from(event.to_string());
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        // A failure is in the function's log; the next tick comes anyway.
        let _ = shared.invoke(event).await;
    });
}

/// One health check, as the load balancer makes it.
async fn check(port: Option<u16>, probe: &Probe) -> Outcome {
    let Some(port) = port else { return Outcome::Failed };
    match tokio::time::timeout(probe.timeout, get(port, &probe.path)).await {
        Ok(Ok(status)) => Outcome::Status(status),
        Ok(Err(_)) => Outcome::Failed,
        Err(_) => Outcome::TimedOut,
    }
}

async fn get(port: u16, path: &str) -> Result<u16, super::serve::BoxError> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", format!("127.0.0.1:{port}"))
        .header("user-agent", "ELB-HealthChecker/2.0")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await;
    connection.abort();
    Ok(answer?.status().as_u16())
}
