//! One execution environment: a `bootstrap` process and the runtime API it talks to.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    ops::Range,
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{net::TcpListener, process::Command, sync::oneshot, time::Instant};

use super::{
    Error, Function,
    runtime::{Init, Job, Runtime},
};
use crate::local::{
    api::record::FUNCTION_KEY,
    log::Log,
    process::{Processes, Program},
    serve::{Guard, serve},
    world::Running,
};

/// One environment. It runs one invocation at a time.
#[derive(Debug)]
pub struct Environment {
    /// When it was last used.
    pub used: Instant,
    /// What runs in it, as long as it lives.
    pub running: Running,
    program: Program,
    runtime: Arc<Runtime>,
    _server: Guard,
}

impl Environment {
    /// Starts the process and waits until it asks for its first event, for as long as `limit`; or says why it did not.
    pub async fn start(
        function: &Function,
        running: &Running,
        bootstrap: &Path,
        limit: Duration,
        processes: &Processes,
        log: &Arc<Log>,
    ) -> Result<Self, String> {
        let listener = match TcpListener::bind(("127.0.0.1", 0)).await {
            Ok(listener) => listener,
            Err(error) => return Err(format!("no port for the runtime API: {error}")),
        };
        let address = match listener.local_addr() {
            Ok(address) => address.to_string(),
            Err(error) => return Err(format!("no port for the runtime API: {error}")),
        };
        let spawn = || processes.spawn("lambda", command(function, running, bootstrap, &address), log);
        let mut program = match executable(bootstrap).and_then(|()| spawn()) {
            Ok(program) => program,
            Err(error) => return Err(no_entry(&error)),
        };
        let freeze = function.freeze.then(|| program.group());
        let (runtime, mut init) = Runtime::new(function.arn.clone(), freeze);
        let runtime = Arc::new(runtime);
        let serving = Arc::clone(&runtime);
        let server = serve(listener, move |_, request| Arc::clone(&serving).answer(request));
        let reason = tokio::select! {
            state = init.wait_for(|state| *state != Init::Running) => match state.as_deref() {
                Ok(Init::Failed(said)) => format!("INIT failed: {said}"),
                Ok(Init::Ready | Init::Running) | Err(_) => String::new(),
            },
            status = program.wait() => match status {
                Ok(status) => format!("Runtime.ExitError: Runtime exited without providing a reason ({status})"),
                Err(error) => format!("Runtime.ExitError: {error}"),
            },
            () = tokio::time::sleep(limit) => format!("INIT timed out after {:.2} seconds", limit.as_secs_f64()),
        };
        if reason.is_empty() {
            return Ok(Self {
                used: Instant::now(),
                running: running.clone(),
                program,
                runtime,
                _server: server,
            });
        }
        program.kill().await;
        Err(reason)
    }

    /// Gives the process one event and waits for its answer.
    pub async fn invoke(&mut self, event: Bytes, deadline_ms: i64, timeout: Duration) -> Result<Bytes, Error> {
        let (answer, answered) = oneshot::channel();
        if !self
            .runtime
            .give(Job {
                event,
                deadline_ms,
                answer,
            })
            .await
        {
            return Err(Error::Function("the environment is gone".to_owned()));
        }
        tokio::select! {
            // An answer that is there counts, even when the process died right after it.
            biased;
            Ok(answer) = answered => answer.map_err(Error::Function),
            status = self.program.wait() => Err(Error::Function(match status {
                Ok(status) => format!("Runtime.ExitError: Runtime exited with error: {status}"),
                Err(error) => format!("Runtime.ExitError: {error}"),
            })),
            () = tokio::time::sleep(timeout) => Err(Error::TimedOut(timeout.as_secs_f64())),
        }
    }

    pub fn has_ended(&mut self) -> bool {
        self.program.has_ended()
    }

    /// Kills the process and waits until it is gone.
    pub async fn end(self) {
        self.program.kill().await;
    }
}

/// A bootstrap that cannot even be executed, in AWS's words.
fn no_entry(error: &io::Error) -> String {
    let why = match error.kind() {
        ErrorKind::NotFound => "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]".to_owned(),
        ErrorKind::PermissionDenied => "fork/exec /var/task/bootstrap: permission denied".to_owned(),
        ErrorKind::InvalidData => "fork/exec /var/task/bootstrap: exec format error".to_owned(),
        _ => error.to_string(),
    };
    format!("Runtime.InvalidEntrypoint: {why}")
}

/// Whether the kernel would execute it: a script, or a program for the machine that we are a program for. What it would not,
/// the C library hands to a shell, and Lambda does not.
fn executable(bootstrap: &Path) -> io::Result<()> {
    // Up to `e_machine` of an ELF header, which `#!` of a script is shorter than.
    let begin = |path: &Path| {
        let mut begin = Vec::new();
        File::open(path)?.take(20).read_to_end(&mut begin)?;
        io::Result::Ok(begin)
    };
    let (theirs, ours) = (begin(bootstrap)?, begin(&std::env::current_exe()?)?);
    let same = |range: Range<usize>| theirs.get(range.clone()) == ours.get(range);
    match theirs.starts_with(b"#!") || (same(0..4) && same(18..20)) {
        true => Ok(()),
        false => Err(ErrorKind::InvalidData.into()),
    }
}

fn command(function: &Function, running: &Running, bootstrap: &Path, address: &str) -> Command {
    let root = bootstrap.parent().unwrap_or(Path::new("/"));
    let mut command = Command::new(bootstrap);
    command
        .env_clear()
        .current_dir(root)
        .env("LAMBDA_TASK_ROOT", root)
        .env("LAMBDA_RUNTIME_DIR", root);
    // Source: "Defined runtime environment variables" of the Lambda guide.
    command.envs([
        ("PATH", "/usr/local/bin:/usr/bin:/bin:/opt/bin"),
        ("LANG", "en_US.UTF-8"),
        ("TZ", ":UTC"),
        ("_HANDLER", "bootstrap"),
        ("AWS_LAMBDA_RUNTIME_API", address),
        ("AWS_LAMBDA_FUNCTION_NAME", &function.name),
        ("AWS_LAMBDA_FUNCTION_VERSION", &running.version),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/local"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", address),
    ]);
    command.envs(function.credentials());
    command.env("AWS_ACCESS_KEY_ID", FUNCTION_KEY);
    command.envs(function.env.iter().map(|(key, value)| (key, value)));
    command
}
