//! The proxy VM's daemon, and what it is asked and told through its control socket.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::forget_records::{ForgetRecords, forget_records};
use super::output::{Format, line, print, table};
use super::{BAD_CONFIGURATION, FAILED};
use crate::config::proxy::ProxyConfig;
use crate::proxy::daemon;

/// Where the configuration is, unless told otherwise.
pub const CONFIG: &str = "/etc/proxymanager/config.toml";
/// Longer than the daemon takes for any look.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serve Envoy on this machine, or ask and tell the one that does.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Proxy {
    /// The configuration file.
    #[arg(long, default_value = CONFIG, global = true)]
    pub config: PathBuf,
    /// Start this Envoy too, and end it and all local programs at the end; without it, Envoy is a service of its own.
    #[arg(long)]
    envoy: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the proxy's rules, their phases and ports.
    List,
    /// Show all there is to know about one rule, or about the proxy.
    Status {
        /// The rule's name; without it, the proxy.
        rule: Option<String>,
    },
    /// Wake a rule.
    Wake {
        /// The rule's name.
        rule: String,
    },
    /// Put a rule to sleep; established connections end when its machines stop.
    Sleep {
        /// The rule's name.
        rule: String,
    },
    /// Keep a rule from being found idle for a while; it wakes nothing.
    KeepAwake {
        /// The rule's name.
        rule: String,
        /// For how long, such as 2h or 3days; at most 30 days.
        #[arg(required_unless_present = "off", value_parser = super::for_how_long)]
        duration: Option<Duration>,
        /// Take it back.
        #[arg(long, conflicts_with = "duration")]
        off: bool,
    },
    /// Remove the DNS records that the proxy has made for hosts no rule has any more.
    ForgetRecords(ForgetRecords),
}

/// Why the proxy was not asked.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("{0}")]
    Configuration(String),
    #[error("the proxy cannot be reached at {socket}: {error}. Is it running, and may you open the socket?")]
    Unreachable { socket: PathBuf, error: String },
    #[error("{0}")]
    Refused(String),
}

impl ProxyError {
    pub fn exit_code(&self) -> u8 {
        match self {
            ProxyError::Configuration(_) => BAD_CONFIGURATION,
            ProxyError::Unreachable { .. } | ProxyError::Refused(_) => FAILED,
        }
    }
}

impl Proxy {
    /// Whether this is the daemon itself.
    pub fn serves(&self) -> bool {
        self.verb.is_none()
    }
}

/// Reads a configuration file.
///
/// # Errors
/// All that is wrong with it.
pub fn read(file: &Path) -> Result<ProxyConfig, ProxyError> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| {
        ProxyError::Configuration(format!("{}: {error}; name the file with --config", file.display()))
    })?;
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    ProxyConfig::read(&file, &text).map_err(|errors| ProxyError::Configuration(errors.to_string()))
}

pub async fn proxy(args: Proxy, format: Format) -> ExitCode {
    let done = match read(&args.config) {
        Ok(config) => match args.verb {
            None => serve(config, args.envoy).await,
            Some(verb) => ask(&config, verb, format).await,
        },
        Err(error) => Err(error),
    };
    finish(done)
}

/// Says what went wrong, if anything.
pub fn finish(done: Result<(), ProxyError>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ ProxyError::Configuration(_)) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
        Err(error) => {
            eprintln!("proxymanager: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn serve(config: ProxyConfig, envoy: Option<PathBuf>) -> Result<(), ProxyError> {
    crate::telemetry::human(&config.log);
    daemon::run(config, envoy).await.map_err(ProxyError::Refused)
}

async fn ask(config: &ProxyConfig, verb: Verb, format: Format) -> Result<(), ProxyError> {
    let tell = async |rule: &str, verb: &str| call(config, "POST", &format!("/rules/{rule}/{verb}")).await;
    let value = match verb {
        Verb::List => {
            let report = call(config, "GET", "/status").await?;
            show_list(format, &report);
            return Ok(());
        }
        Verb::ForgetRecords(which) => return forget_records(config, &which, format).await,
        Verb::Status { rule: None } => {
            show_status(format, &call(config, "GET", "/status").await?);
            return Ok(());
        }
        Verb::Status { rule: Some(rule) } => one(&call(config, "GET", "/status").await?, &rule)?,
        Verb::Wake { rule } => tell(&rule, "wake").await?,
        Verb::Sleep { rule } => tell(&rule, "sleep").await?,
        Verb::KeepAwake { rule, duration, .. } => {
            let duration = duration.map_or_else(|| "off".to_owned(), |duration| format!("{}s", duration.as_secs()));
            tell(&rule, &format!("keep-awake={duration}")).await?
        }
    };
    print(format, &value, || {
        let mut table = table(&[]);
        for (key, value) in value.as_object().into_iter().flatten() {
            table.add_row(vec![key.replace('_', " "), text(value)]);
        }
        table
    });
    Ok(())
}

/// The proxy itself, then its rules as a list of their own: in one cell they would be a line of a thousand characters.
fn show_status(format: Format, report: &Value) {
    print(format, report, || {
        let envoy = match report["envoy"].as_bool() {
            Some(true) => "connected",
            _ => "not connected",
        };
        let mut table = table(&[]);
        for (name, value) in [
            ("account", text(&report["account"])),
            ("access point", text(&report["access_point"])),
            ("version", text(&report["version"])),
            ("Envoy", envoy.to_owned()),
        ] {
            table.add_row(vec![name.to_owned(), value]);
        }
        table
    });
    if format == Format::Table {
        line(format_args!(""));
        show_list(format, report);
    }
}

fn show_list(format: Format, report: &Value) {
    print(format, &report["rules"], || {
        let mut table = table(&["rule", "phase", "ports", "hosts", "note"]);
        for rule in report["rules"].as_array().into_iter().flatten() {
            let ports = rule["ports"].as_array().into_iter().flatten();
            let port = |port: &Value| {
                format!(
                    "{} -> {} {}",
                    text(&port["listen"]),
                    text(&port["port"]),
                    text(&port["protocol"])
                )
            };
            let ports: Vec<_> = ports.map(port).collect();
            let note = [&rule["reason"], &rule["last_error"], &rule["kept_by"]].map(text);
            table.add_row(vec![
                text(&rule["rule"]),
                text(&rule["phase"]),
                ports.join(", "),
                text(&rule["hosts"]),
                note.into_iter().find(|note| !note.is_empty()).unwrap_or_default(),
            ]);
        }
        table
    });
    if format == Format::Json {
        return;
    }
    if report["envoy"] == false {
        line(format_args!(
            "Envoy is not connected: `journalctl -u proxymanager-envoy -n 50` says why"
        ));
    }
    for error in report["errors"].as_array().into_iter().flatten() {
        line(format_args!("{}", text(error)));
    }
    for rejection in report["rejections"].as_array().into_iter().flatten() {
        line(format_args!("Envoy refuses {}", text(rejection)));
    }
}

/// A value as people read it.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(members) => {
            let member = |(key, value): (&String, &Value)| format!("{key} {}", text(value));
            members.iter().map(member).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

/// One rule out of a report.
pub fn one(report: &Value, name: &str) -> Result<Value, ProxyError> {
    let mut rules = report["rules"].as_array().into_iter().flatten();
    rules.find(|rule| rule["rule"] == name).cloned().ok_or_else(|| {
        let known: Vec<_> = report["rules"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|rule| text(&rule["rule"]))
            .collect();
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        ProxyError::Refused(format!("there is no rule {name:?}. The rules are: {known}"))
    })
}

/// Asks the daemon through its control socket.
pub async fn call(config: &ProxyConfig, method: &str, path: &str) -> Result<Value, ProxyError> {
    let socket = &config.control_socket;
    let unreachable = |error: String| ProxyError::Unreachable {
        socket: socket.clone(),
        error,
    };
    let asked = async {
        let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
        let talk = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = talk.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "proxy");
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes();
        let value: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        Ok((status.is_success(), value))
    };
    let asked = tokio::time::timeout(PATIENCE, asked).await;
    match asked.unwrap_or_else(|_| Err("no answer within a minute".to_owned())) {
        Ok((true, value)) => Ok(value),
        Ok((false, value)) => Err(ProxyError::Refused(text(&value["error"]))),
        Err(error) => Err(unreachable(error)),
    }
}
