//! The way to a machine behind the proxy.

use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use serde_json::{Value, json};

use super::output::{Format, line};
use super::proxy::{self, CONFIG, ProxyError, call, finish, one, read, text};
use crate::config::Environment;
use crate::config::proxy::{ProxyConfig, RecordTarget};
use crate::config::proxy_rules::Protocol;
use crate::wiring::for_proxy;

/// Show the command that leads to a rule's machine through the proxy, or run it.
#[derive(Debug, clap::Args)]
pub struct Connect {
    /// The rule's name.
    rule: String,
    /// The machine's port, when the rule has several.
    #[arg(long)]
    port: Option<u16>,
    /// How clients reach the proxy; without it, what the configuration says.
    #[arg(long)]
    host: Option<String>,
    /// Run it instead of showing it.
    #[arg(long)]
    run: bool,
    /// The proxy's configuration file.
    #[arg(long, default_value = CONFIG)]
    config: PathBuf,
    /// More arguments of the command, after `--`: `-l USER` for ssh, `-U USER DATABASE` for psql.
    #[arg(last = true)]
    more: Vec<String>,
}

pub async fn connect(args: Connect, format: Format) -> ExitCode {
    finish(way(&args, format).await)
}

async fn way(args: &Connect, format: Format) -> Result<(), ProxyError> {
    let config = read(&args.config)?;
    let rule = one(&call(&config, "GET", "/status").await?, &args.rule)?;
    let port = port(&rule, args)?;
    let listen = port["listen"].as_u64().ok_or_else(|| {
        ProxyError::Refused(format!(
            "{} has no port on the proxy: its portRange is used up",
            args.rule
        ))
    })?;
    let host = match &args.host {
        Some(host) => host.clone(),
        None => host(&config).await?,
    };
    let protocol = Protocol::of_word(&text(&port["protocol"])).unwrap_or(Protocol::Other);
    let words = words(protocol, &host, listen, &args.more);
    if args.run {
        let Some((program, rest)) = words.split_first() else {
            return Ok(());
        };
        // Only comes back when it could not be begun.
        let error = Command::new(program).args(rest).exec();
        return Err(ProxyError::Refused(format!("{program} cannot be run: {error}")));
    }
    let command: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    match format {
        Format::Json => line(format_args!(
            "{}",
            json!({ "rule": args.rule, "host": host, "port": listen, "command": words })
        )),
        Format::Table => line(format_args!("{}", command.join(" "))),
    }
    Ok(())
}

fn port(rule: &Value, args: &Connect) -> Result<Value, ProxyError> {
    let ports: Vec<&Value> = rule["ports"].as_array().into_iter().flatten().collect();
    let found = match args.port {
        Some(port) => ports.iter().find(|one| one["port"] == port).copied(),
        None if ports.len() == 1 => ports.first().copied(),
        None => None,
    };
    found.cloned().ok_or_else(|| {
        let known: Vec<_> = ports.iter().map(|one| proxy::text(&one["port"])).collect();
        ProxyError::Refused(match (known.is_empty(), args.port) {
            (true, _) => format!("{} is reached by HTTP alone: open {}", args.rule, text(&rule["hosts"])),
            (false, Some(port)) => format!("{} has no port {port}; its ports are {}", args.rule, known.join(", ")),
            (false, None) => format!(
                "{} has several ports: choose one with --port: {}",
                args.rule,
                known.join(", ")
            ),
        })
    })
}

/// By what clients reach the proxy: what the configuration says, else what EC2 says, else this machine.
async fn host(config: &ProxyConfig) -> Result<String, ProxyError> {
    if let Some(said) = config.address.as_ref().and_then(RecordTarget::one) {
        return Ok(said);
    }
    let listens = config.listen.first().filter(|address| !address.is_unspecified());
    let address = match listens {
        Some(address) => Some(*address),
        None => {
            let aws = for_proxy(&Environment, config).await;
            match aws.map_err(|errors| ProxyError::Configuration(errors.to_string()))? {
                Some(aws) => aws.address().await,
                None => None,
            }
        }
    };
    Ok(address.unwrap_or(IpAddr::from([127, 0, 0, 1])).to_string())
}

fn words(protocol: Protocol, host: &str, port: u64, more: &[String]) -> Vec<String> {
    let port = port.to_string();
    let mut words: Vec<String> = match protocol {
        Protocol::Ssh => vec!["ssh", "-p", &port, host],
        Protocol::Postgres => vec!["psql", "-h", host, "-p", &port],
        Protocol::Mysql => vec!["mysql", "-h", host, "-P", &port],
        Protocol::Rdp => {
            return vec!["xfreerdp".to_owned(), format!("/v:{host}:{port}")]
                .into_iter()
                .chain(more.to_vec())
                .collect();
        }
        Protocol::Other => vec!["nc", host, &port],
    }
    .into_iter()
    .map(str::to_owned)
    .collect();
    // ssh takes what follows the host for the command to run there.
    let at = if protocol == Protocol::Ssh { 3 } else { words.len() };
    words.splice(at..at, more.iter().cloned());
    words
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@=".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_for_each_protocol() {
        let of = |protocol, more: &[&str]| {
            let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
            words(protocol, "vm.test", 50000, &more).join(" ")
        };
        assert_eq!(of(Protocol::Ssh, &["-l", "ubuntu"]), "ssh -p 50000 -l ubuntu vm.test");
        assert_eq!(of(Protocol::Postgres, &["shop"]), "psql -h vm.test -p 50000 shop");
        assert_eq!(of(Protocol::Rdp, &[]), "xfreerdp /v:vm.test:50000");
        assert_eq!(of(Protocol::Other, &[]), "nc vm.test 50000");
        assert_eq!(
            (quoted("a b'c"), quoted("vm.test")),
            ("'a b'\\''c'".to_owned(), "vm.test".to_owned())
        );
    }
}
