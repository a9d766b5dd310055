//! The command line of `proxymanager local`.

use std::{path::PathBuf, time::Duration};

use super::{cloud::Config, seed::Site, steer::Action};

/// Run the whole system on this machine, without AWS.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Steer a local cloud that runs already, instead of running one
    #[command(subcommand)]
    pub action: Option<Action>,
    /// Port of the load balancer on 127.0.0.1; 0 for any
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Port of the AWS APIs on 127.0.0.1; 0 for any
    #[arg(long, default_value_t = 4566, global = true)]
    pub api_port: u16,
    /// How long an instance boots
    #[arg(long, default_value = "8s", value_parser = humantime::parse_duration)]
    pub boot: Duration,
    /// How long a site is left awake without requests
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub idle: Duration,
    /// Put your own program behind the load balancer: it is run by `sh -c` with PORT in its environment (repeatable)
    #[arg(long = "app", value_name = "HOST=COMMAND", value_parser = parse_app)]
    pub apps: Vec<(String, String)>,
    /// The function's executable [default: beside this program, then target/lambda/bootstrap]
    #[arg(long, value_name = "PATH")]
    pub bootstrap: Option<PathBuf>,
    /// Where all chance comes from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How often the function looks whether something is idle
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, hide = true)]
    pub tick: Duration,
    /// Be a sample site instead: its name
    #[arg(long, hide = true)]
    pub serve_sample: Option<String>,
    /// How long the sample site warms up
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration, hide = true)]
    pub warm: Duration,
    /// The sample site's port
    #[arg(long, env = "PORT", hide = true)]
    pub sample_port: Option<u16>,
}

impl Args {
    /// The cloud these arguments ask for, or what is wrong with them.
    pub fn config(&self) -> Result<Config, String> {
        let mut sites: Vec<Site> = Vec::new();
        for (host, command) in &self.apps {
            if let Some(twice) = sites
                .iter()
                .find(|site| site.host == *host || super::seed::name_of(&site.host) == super::seed::name_of(host))
            {
                return Err(match twice.host == *host {
                    true => format!("--app names the host {host} twice"),
                    false => format!("--app: {host} and {} would get the same name", twice.host),
                });
            }
            let command = ["sh", "-c", command].map(str::to_owned).to_vec();
            sites.push(Site {
                host: host.clone(),
                command,
            });
        }
        let own = !sites.is_empty();
        if !own {
            sites = samples()?;
        }
        let spares = vec![sample("spare", "0s")?];
        let bootstrap = self.bootstrap.clone().unwrap_or_else(default_bootstrap);
        if self.port == self.api_port && self.port != 0 {
            return Err(format!("--port and --api-port are both {}", self.port));
        }
        Ok(Config {
            port: self.port,
            api_port: self.api_port,
            boot: self.boot,
            idle: self.idle,
            // AWS takes a minute and more, and nobody wants to watch that.
            metrics_delay: Duration::from_secs(2),
            sites,
            spares,
            seed: self.seed,
            tick: Some(self.tick).filter(|tick| !tick.is_zero()),
            echo: true,
            try_out: own,
            ..Config::new(bootstrap)
        })
    }
}

/// The two sites of the demo.
fn samples() -> Result<Vec<Site>, String> {
    Ok(vec![sample("plain", "0s")?, sample("slow", "20s")?])
}

/// A site served by this very program.
fn sample(name: &str, warm: &str) -> Result<Site, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program does not find itself: {error}"))?;
    let program = program.to_string_lossy().into_owned();
    let command = [program.as_str(), "local", "--serve-sample", name, "--warm", warm]
        .map(str::to_owned)
        .to_vec();
    Ok(Site {
        host: format!("{name}.localhost"),
        command,
    })
}

fn default_bootstrap() -> PathBuf {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|program| program.parent().map(|dir| dir.join("bootstrap")));
    beside
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from("target/lambda/bootstrap"))
}

fn parse_app(text: &str) -> Result<(String, String), String> {
    let (host, command) = text.split_once('=').ok_or("write HOST=COMMAND")?;
    let host = host.trim().to_ascii_lowercase();
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if host.is_empty() || !host.chars().all(valid) || super::seed::name_of(&host).is_empty() {
        return Err(format!("'{host}' is not a host name"));
    }
    if command.trim().is_empty() {
        return Err(format!("the command of {host} is empty"));
    }
    Ok((host, command.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn config(arguments: &[&str]) -> Result<Config, String> {
        let all = std::iter::once("x").chain(arguments.iter().copied());
        <Cli as clap::Parser>::try_parse_from(all)
            .map_err(|error| error.to_string())?
            .args
            .config()
    }

    #[test]
    fn without_apps_there_are_two_samples() {
        let config = config(&[]).unwrap();
        let hosts: Vec<&str> = config.sites.iter().map(|site| site.host.as_str()).collect();
        assert_eq!(hosts, ["plain.localhost", "slow.localhost"]);
        assert_eq!((config.port, config.api_port), (8080, 4566));
    }

    #[test]
    fn bad_input_is_told_in_words() {
        for (arguments, expected) in [
            (
                &["--app", "a.test=x", "--app", "A.test=y"][..],
                "names the host a.test twice",
            ),
            (&["--app", "a-b=x", "--app", "a.b=y"], "would get the same name"),
            (&["--app", "nonsense"], "HOST=COMMAND"),
            (&["--app", "a/b=x"], "not a host name"),
            (&["--app", "a.test= "], "is empty"),
            (&["--boot", "8"], "--boot"),
            (&["--port", "70000"], "--port"),
            (&["--port", "81", "--api-port", "81"], "are both 81"),
        ] {
            let error = config(arguments).expect_err(expected);
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }
}
