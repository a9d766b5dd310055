//! The whole system: a local cloud with the real function, whose site is asleep.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use proxymanager::{
    cli::seed_asleep,
    local::{Cloud, Config, seed::Asleep, seed::Site},
};
use serde_json::Value;

use super::HOST;

/// The function under test: what `make` built, else what cargo built beside this test.
pub fn bootstrap() -> PathBuf {
    std::env::var_os("TEST_BOOTSTRAP").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_bootstrap")), PathBuf::from)
}

/// The sample site of the demo at this host.
pub fn sample(host: &str) -> Site {
    let program = env!("CARGO_BIN_EXE_proxymanager");
    let name = host.split('.').next().unwrap_or(host);
    let command = [program, "local", "--serve-sample", name].map(str::to_owned).to_vec();
    Site {
        host: host.to_owned(),
        command,
    }
}

/// A cloud with the real function and one site asleep, and times in milliseconds. Nothing sleeps again by itself.
pub async fn asleep(change: impl FnOnce(&mut Config)) -> Cloud {
    let mut config = Config::new(bootstrap());
    config.sites = vec![sample(HOST)];
    config.seed_asleep = Some(seed_asleep);
    config.boot = Duration::from_millis(200);
    config.stop = Duration::from_millis(100);
    config.idle = Duration::from_secs(3600);
    config.check.interval = Duration::from_millis(100);
    config.tick = None;
    config.try_out = false;
    config.record = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("recorded-calls"));
    change(&mut config);
    Cloud::start(config).await.expect("the cloud starts")
}

pub fn site(cloud: &Cloud) -> &Asleep {
    &cloud.seeded.sites[0]
}

/// R's final action, as it is now.
pub fn action(cloud: &Cloud) -> Value {
    let world = cloud.shared.world();
    let rule = world.require_rule(&site(cloud).rule).expect("R is there");
    rule.view().actions.last().cloned().expect("R has an action")
}

/// How many parked rules R has.
pub fn parked(cloud: &Cloud) -> usize {
    let world = cloud.shared.world();
    let parks = |tag: &String| *tag == site(cloud).rule;
    let rules = world.rules().iter();
    rules
        .filter(|rule| rule.tags.get("autostopping:parks").is_some_and(parks))
        .count()
}

/// Gives R this tag.
pub fn tag(cloud: &Cloud, key: &str, value: &str) {
    let tags = [(key.to_owned(), value.to_owned())].into();
    cloud
        .shared
        .world()
        .add_elb_tags(&site(cloud).rule, &tags)
        .expect("R is there");
}

/// How many starts of its machine took effect.
pub fn starts(cloud: &Cloud) -> u32 {
    let world = cloud.shared.world();
    world
        .instance(&site(cloud).instance)
        .expect("the machine is there")
        .starts
}

/// The EC2 instance state of its machine.
pub fn power(cloud: &Cloud) -> &'static str {
    let world = cloud.shared.world();
    let instance = world.instance(&site(cloud).instance).expect("the machine is there");
    instance.life().power.name().0
}

/// The calls of EC2 and ELBv2 so far, by operation.
pub fn aws_calls(cloud: &Cloud) -> Vec<(String, u64)> {
    let world = cloud.shared.world();
    let counts = world.call_counts().iter();
    let dynamodb = |name: &str| {
        ["Item", "Items", "Query", "Scan", "Table"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    counts
        .filter(|(name, _)| !dynamodb(name))
        .map(|(name, count)| (name.clone(), *count))
        .collect()
}

/// The rule's record as the ledger holds it.
pub fn record(cloud: &Cloud) -> Option<Value> {
    let world = cloud.shared.world();
    let items = world.tables().flat_map(|(_, table)| table.items().values());
    let mut records = items.filter(|item| item.get("sk").is_some_and(|sk| sk["S"] == "record"));
    let body = records.next()?.get("body")?["S"].as_str()?.to_owned();
    serde_json::from_str(&body).ok()
}

/// Kills every environment of the function, whatever it is at.
pub fn crash_function(cloud: &Cloud) {
    let endpoint = format!("AWS_ENDPOINT_URL={}\0", cloud.api_url()).into_bytes();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.windows(endpoint.len()).any(|part| part == endpoint) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// How often this call was made.
pub fn calls_of(cloud: &Cloud, name: &str) -> u64 {
    cloud
        .shared
        .world()
        .call_counts()
        .get(name)
        .copied()
        .unwrap_or_default()
}

/// How many entries of this kind the rule's history has.
pub fn events(cloud: &Cloud, kind: &str) -> usize {
    let kind = format!("\"kind\":\"{kind}\"");
    let world = cloud.shared.world();
    let items = world.tables().flat_map(|(_, table)| table.items().values());
    let bodies = items.filter_map(|item| item.get("body")?["S"].as_str());
    bodies.filter(|body| body.contains(&kind)).count()
}

/// Runs the command line against this cloud; it has to succeed.
pub async fn command(cloud: &Cloud, words: &[&str]) {
    let output = run(cloud, words).await;
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs the command line with the function's environment and without a terminal.
pub async fn run(cloud: &Cloud, words: &[&str]) -> Output {
    let environment: Vec<_> = cloud.shared.lambda.environment().into_iter().collect();
    run_with(&environment, words).await
}

/// As [`run`], with another environment.
pub async fn run_with(environment: &[(&str, &str)], words: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_proxymanager"));
    let command = command.args(words).env_clear().envs(environment.iter().copied());
    let output = command.stdin(Stdio::null()).output().await;
    output.expect("the command line runs")
}
