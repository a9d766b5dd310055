//! The Lambda runtime API, version 2018-06-01, for one environment.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, Response, body::Incoming};
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, oneshot, watch};

use crate::local::{
    process::Group,
    serve::{Body, BoxError, full},
};

/// The largest answer of a synchronous invocation.
const ANSWER_SIZE: usize = 6 * 1024 * 1024;

/// Where INIT is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    Running,
    Ready,
    Failed(String),
}

/// Where the function's answer goes, or what it said in an error.
type Reply = oneshot::Sender<Result<Bytes, String>>;
/// The invocation that the runtime is working on: its id and where its answer goes.
type Current = (String, Reply);

/// One invocation on its way in.
#[derive(Debug)]
pub struct Job {
    pub event: Bytes,
    pub deadline_ms: i64,
    pub answer: Reply,
}

/// The state behind the runtime API.
#[derive(Debug)]
pub struct Runtime {
    arn: String,
    freeze: Option<Group>,
    init: watch::Sender<Init>,
    give: mpsc::Sender<Job>,
    jobs: tokio::sync::Mutex<mpsc::Receiver<Job>>,
    current: Mutex<Option<Current>>,
    number: AtomicU64,
}

impl Runtime {
    /// The state, and where INIT is. `freeze` is the group that stands still while there is nothing to do.
    pub fn new(arn: String, freeze: Option<Group>) -> (Self, watch::Receiver<Init>) {
        let (init, watching) = watch::channel(Init::Running);
        let (give, jobs) = mpsc::channel(1);
        let jobs = tokio::sync::Mutex::new(jobs);
        (
            Self {
                arn,
                freeze,
                init,
                give,
                jobs,
                current: Mutex::default(),
                number: AtomicU64::new(0),
            },
            watching,
        )
    }

    /// Hands over a job; false when the environment is gone.
    pub async fn give(&self, job: Job) -> bool {
        self.give.send(job).await.is_ok()
    }

    /// Answers one call of the runtime.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
        let path = request.uri().path().to_owned();
        let Some(call) = path.strip_prefix("/2018-06-01/runtime/") else {
            return Ok(refused(404, "NotFound", "there is no such path in the runtime API"));
        };
        match (request.method(), call) {
            (&Method::GET, "invocation/next") => self.next().await,
            (&Method::POST, "init/error") => {
                let said = self.read(request).await.unwrap_or_default();
                self.init
                    .send_replace(Init::Failed(String::from_utf8_lossy(&said).into_owned()));
                Ok(accepted())
            }
            (&Method::POST, call) => {
                let (id, error) = match call.strip_prefix("invocation/").and_then(|rest| rest.split_once('/')) {
                    Some((id, "response")) => (id.to_owned(), false),
                    Some((id, "error")) => (id.to_owned(), true),
                    Some(_) | None => return Ok(refused(404, "NotFound", "there is no such path in the runtime API")),
                };
                let Some(said) = self.read(request).await else {
                    self.settle(&id, Err("Function.ResponseSizeTooLarge".to_owned()));
                    return Ok(refused(
                        413,
                        "RequestEntityTooLarge",
                        "Exceeded maximum allowed payload size",
                    ));
                };
                let outcome = if error {
                    Err(String::from_utf8_lossy(&said).into_owned())
                } else {
                    Ok(said)
                };
                if self.settle(&id, outcome) {
                    return Ok(accepted());
                }
                Ok(refused(400, "InvalidRequestID", "Invalid request ID"))
            }
            _ => Ok(refused(
                405,
                "MethodNotAllowed",
                "the runtime API does not know this method here",
            )),
        }
    }

    async fn next(&self) -> Result<Response<Body>, BoxError> {
        self.init.send_if_modified(|state| {
            let first = *state == Init::Running;
            if first {
                *state = Init::Ready;
            }
            first
        });
        let mut jobs = self.jobs.lock().await;
        let job = match jobs.try_recv() {
            Ok(job) => Some(job),
            Err(_) => {
                // Stopped and woken by this one task, in this order, so that no event meets a process standing still.
                self.signal(Signal::SIGSTOP);
                let job = jobs.recv().await;
                self.signal(Signal::SIGCONT);
                job
            }
        };
        let Some(job) = job else {
            return Err("the environment is ending".into());
        };
        let number = self.number.fetch_add(1, Relaxed) + 1;
        let id = format!("00000000-0000-4000-8000-{number:012x}");
        *self.current() = Some((id.clone(), job.answer));
        let response = Response::builder()
            .header("content-type", "application/json")
            .header("lambda-runtime-aws-request-id", &id)
            .header("lambda-runtime-deadline-ms", job.deadline_ms.to_string())
            .header("lambda-runtime-invoked-function-arn", &self.arn)
            .header(
                "lambda-runtime-trace-id",
                format!("Root=1-00000000-{number:024x};Sampled=0"),
            );
        Ok(response.body(full(job.event))?)
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.freeze {
            group.signal(signal);
        }
    }

    fn settle(&self, id: &str, outcome: Result<Bytes, String>) -> bool {
        let mut current = self.current();
        if current.as_ref().is_none_or(|(known, _)| known != id) {
            return false;
        }
        // Nobody listens any more when the invocation has timed out meanwhile.
        current.take().is_some_and(|(_, answer)| answer.send(outcome).is_ok())
    }

    async fn read(&self, request: Request<Incoming>) -> Option<Bytes> {
        let body = Limited::new(request.into_body(), ANSWER_SIZE).collect().await;
        body.ok().map(|body| body.to_bytes())
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accepted() -> Response<Body> {
    let mut response = Response::new(full(r#"{"status":"OK"}"#));
    *response.status_mut() = hyper::StatusCode::ACCEPTED;
    response
}

fn refused(status: u16, kind: &str, message: &str) -> Response<Body> {
    let body = serde_json::json!({ "errorType": kind, "errorMessage": message }).to_string();
    let mut response = Response::new(full(body));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::BAD_REQUEST);
    response
}
