//! Steering a running local cloud from the command line: starts and stops by hand, faults, a look at everything.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value};
use tokio::net::TcpStream;

use super::serve::BoxError;

/// What to do to the local cloud that runs on `--api-port`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub enum Action {
    /// Start an instance by hand
    Start {
        /// Its name or id
        instance: String,
    },
    /// Stop an instance by hand
    Stop {
        /// Its name or id
        instance: String,
    },
    /// Kill an instance's program while the instance runs on
    Crash {
        /// Its name or id
        instance: String,
    },
    /// Delete the parked rule of a rule, as somebody in the console might
    DeleteParked {
        /// The rule's name or ARN
        rule: String,
    },
    /// Switch faults on and off: `latency_ms=300 throttle=true denied=StartInstances`, or `off` for none
    Fault {
        #[arg(required = true, value_name = "FAULT=VALUE")]
        settings: Vec<String>,
    },
    /// Print the environment for `proxymanager list` and all other commands: eval "$(proxymanager local env)"
    Env,
    /// Show something as JSON
    Show {
        #[arg(value_parser = ["world", "faults", "calls", "access", "output", "lambda", "table"])]
        what: String,
    },
}

impl Action {
    /// The call of the control endpoint: method, path, body; or what is wrong with the settings.
    fn call(&self) -> Result<(Method, String, String), String> {
        let post = |path: String| Ok((Method::POST, path, String::new()));
        match self {
            Self::Start { instance } => post(format!("instances/{instance}/start")),
            Self::Stop { instance } => post(format!("instances/{instance}/stop")),
            Self::Crash { instance } => post(format!("instances/{instance}/crash")),
            Self::DeleteParked { rule } => post(format!("rules/{rule}/delete-parked")),
            Self::Env => Ok((Method::GET, "environment".to_owned(), String::new())),
            Self::Show { what } => Ok((Method::GET, what.clone(), String::new())),
            Self::Fault { settings } if settings == &["off"] => {
                Ok((Method::DELETE, "faults".to_owned(), String::new()))
            }
            Self::Fault { settings } => {
                let mut patch = Map::new();
                for setting in settings {
                    let (key, value) = setting
                        .split_once('=')
                        .ok_or_else(|| format!("write FAULT=VALUE, not {setting}"))?;
                    patch.insert(key.to_owned(), value_of(key, value));
                }
                Ok((Method::PATCH, "faults".to_owned(), Value::Object(patch).to_string()))
            }
        }
    }
}

/// `denied`, `broken` and `lost_calls` are lists of calls; everything else is a number or a truth value.
fn value_of(key: &str, value: &str) -> Value {
    if matches!(key, "denied" | "broken" | "lost_calls") {
        return value
            .split(',')
            .filter(|call| !call.is_empty())
            .map(Value::from)
            .collect();
    }
    serde_json::from_str(value).unwrap_or_else(|_| Value::from(value))
}

/// Does it to the local cloud whose AWS APIs are on `port`, and prints what it answers; 1 when it refuses or there is
/// none, 2 when the settings cannot be read.
pub async fn steer(action: &Action, port: u16) -> ExitCode {
    let call = match action.call() {
        Ok(call) => call,
        Err(sentence) => {
            eprintln!("proxymanager local: {sentence}");
            return ExitCode::from(2);
        }
    };
    match send(port, call).await {
        Ok((200, answer)) => {
            // A reader that has seen enough (`| head`) is no reason to fail.
            let _ = match (action, &answer) {
                (Action::Env, Value::Object(variables)) => exports(variables, io::stdout()),
                _ => writeln!(io::stdout(), "{answer:#}"),
            };
            ExitCode::SUCCESS
        }
        Ok((_, answer)) => {
            let message = answer
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or("it was refused");
            eprintln!("proxymanager local: {message}");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("proxymanager local: no local cloud answers on port {port}: start one, or name its --api-port");
            ExitCode::FAILURE
        }
    }
}

/// As a shell reads it; no value has a quote in it, but one that had could do no harm.
fn exports(variables: &Map<String, Value>, mut out: impl Write) -> io::Result<()> {
    for (key, value) in variables {
        let value = value.as_str().unwrap_or_default().replace('\'', r"'\''");
        writeln!(out, "export {key}='{value}'")?;
    }
    Ok(())
}

async fn send(port: u16, (method, path, body): (Method, String, String)) -> Result<(u16, Value), BoxError> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(format!("/_local/{path}"))
        .header("host", "local");
    let answer = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
    let status = answer.status().as_u16();
    Ok((
        status,
        serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?,
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fault_settings_become_a_patch() {
        let fault = |settings: &[&str]| Action::Fault {
            settings: settings.iter().map(|s| (*s).to_owned()).collect(),
        };
        let (method, path, body) = fault(&["latency_ms=300", "throttle=true", "lost_response=0.5", "denied=A,B"])
            .call()
            .unwrap();
        assert_eq!((method, path.as_str()), (Method::PATCH, "faults"));
        let expected = json!({ "latency_ms": 300, "throttle": true, "lost_response": 0.5, "denied": ["A", "B"] });
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
        assert_eq!(fault(&["off"]).call().unwrap().0, Method::DELETE);
        assert!(fault(&["throttle"]).call().unwrap_err().contains("FAULT=VALUE"));
    }
}
