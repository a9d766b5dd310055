//! A process of a function and the runtime API it talks to, one invocation at a time, timed from outside.

#![allow(clippy::disallowed_methods, reason = "real time is what is measured")]

use std::{
    io,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use crate::usage;

/// A function that has asked for its first event.
pub struct Process {
    child: Child,
    /// From the start of the process to its first poll.
    pub start: Duration,
    events: Sender<String>,
    answers: Receiver<Instant>,
}

impl Process {
    /// Starts it and waits for its first poll.
    pub fn start(mut command: Command) -> Process {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (events, next_event) = channel();
        let (answered, answers) = channel();
        let (polled, first_poll) = channel();
        thread::spawn(move || serve(&listener, &next_event, &answered, &polled));
        // What a runtime reads at its start. Source: AWS Lambda developer guide, "Defined runtime environment variables".
        command.envs([
            ("AWS_LAMBDA_RUNTIME_API", address.to_string().as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", "bench"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "bench"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "bench"),
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begin = Instant::now();
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let polled = first_poll.recv_timeout(Duration::from_secs(30));
        Process {
            child,
            start: polled.expect("it polls the runtime API").duration_since(begin),
            events,
            answers,
        }
    }

    /// One invocation: how long the answer took.
    pub fn invoke(&self, event: &str) -> Duration {
        let begin = Instant::now();
        self.events.send(event.to_owned()).expect("the runtime API is there");
        let answered = self.answers.recv_timeout(Duration::from_secs(30));
        answered.expect("it answers").duration_since(begin)
    }

    /// Processor time so far.
    pub fn cpu(&self) -> Duration {
        usage::cpu(self.child.id())
    }

    /// Resident memory, MB.
    pub fn memory(&self) -> f64 {
        usage::memory(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The runtime API over one connection after the other, which is how a runtime uses it.
fn serve(listener: &TcpListener, events: &Receiver<String>, answered: &Sender<Instant>, polled: &Sender<Instant>) {
    for stream in listener.incoming().flatten() {
        let _ = stream.set_nodelay(true);
        let _ = connection(stream, events, answered, polled);
    }
}

fn connection(
    stream: TcpStream,
    events: &Receiver<String>,
    answered: &Sender<Instant>,
    polled: &Sender<Instant>,
) -> io::Result<()> {
    let mut to = stream.try_clone()?;
    let mut from = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if from.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or_default();
            }
        }
        io::copy(&mut from.by_ref().take(length), &mut io::sink())?;
        let now = Instant::now();
        if first.starts_with("GET") {
            let _ = polled.send(now);
            let Ok(event) = events.recv() else { return Ok(()) };
            write!(
                to,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 Lambda-Runtime-Aws-Request-Id: 1\r\nLambda-Runtime-Deadline-Ms: 9999999999999\r\n\
                 Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:bench\r\n\r\n{event}",
                event.len()
            )?;
        } else {
            let _ = answered.send(now);
            write!(to, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")?;
        }
    }
}
