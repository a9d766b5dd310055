//! What a new local cloud holds: one load balancer, the waker, and one sleeping rule per site.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::world::{Failure, HealthCheck, NewRule, TargetKind, World};

/// The ledger's table.
pub const TABLE: &str = "autostopping";
/// The function's name.
pub const FUNCTION: &str = "aws-proxymanager";
/// Parked rules are counted down from here.
const PARKED: u32 = 50_000;

/// A site to be put behind the load balancer.
#[derive(Debug, Clone)]
pub struct Site {
    pub host: String,
    /// Program and arguments; the port is in `PORT`.
    pub command: Vec<String>,
}

/// A rule that was seeded asleep: R forwards to the waker, P holds the backend's action, the instance is stopped.
#[derive(Debug, Clone)]
pub struct Asleep {
    /// `autostopping:name`.
    pub name: String,
    pub host: String,
    pub rule: String,
    pub parked: String,
    /// The value that P's `X-Autostopping-Parked` condition asks for.
    pub marker: String,
    pub instance: String,
    pub group: String,
    /// R's final action while awake, as DescribeRules shows it.
    pub action: Value,
}

/// The ARNs of a seeded world.
#[derive(Debug, Clone)]
pub struct Seeded {
    pub balancer: String,
    pub listener: String,
    pub waker: String,
    pub function: String,
    pub sites: Vec<Asleep>,
}

/// Fills the world: load balancer `local`, a listener on `port` whose default rule forwards to the waker, and each site
/// asleep. The ledger's records are not written here; `cloud::Config::seed_asleep` is where they come from.
pub fn seed(
    world: &mut World,
    now: Timestamp,
    port: u16,
    sites: &[Site],
    boot: Duration,
    idle: Duration,
    check: &HealthCheck,
) -> Result<Seeded, Failure> {
    let (region, account) = (world.settings.region.clone(), world.settings.account.clone());
    let function = format!("arn:aws:lambda:{region}:{account}:function:{FUNCTION}:live");
    world.add_table(TABLE, true);
    let unchecked = HealthCheck {
        enabled: false,
        ..HealthCheck::default()
    };
    let waker = world.create_target_group("autostopping-waker", TargetKind::Lambda, "", 0, unchecked)?;
    world
        .target_group_mut(&waker)?
        .attributes
        .insert("lambda.multi_value_headers.enabled".to_owned(), "true".to_owned());
    world.enrol(now, &waker, &[(function.clone(), None)])?;
    let balancer = world.add_balancer(now, "local");
    let listener = world.add_listener(now, &balancer, port, vec![forward(&waker)])?;
    let mut asleep = Vec::new();
    for (index, site) in sites.iter().enumerate() {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        asleep.push(seed_site(
            world, now, &listener, &waker, site, index, boot, idle, check,
        )?);
    }
    // What is there at the beginning is not news.
    world.advance(now);
    Ok(Seeded {
        balancer,
        listener,
        waker,
        function,
        sites: asleep,
    })
}

#[allow(
    clippy::too_many_arguments,
    reason = "one step of `seed`, which has them all from its caller"
)]
fn seed_site(
    world: &mut World,
    now: Timestamp,
    listener: &str,
    waker: &str,
    site: &Site,
    index: u32,
    boot: Duration,
    idle: Duration,
    check: &HealthCheck,
) -> Result<Asleep, Failure> {
    let name = name_of(&site.host);
    let instance = world.add_instance(now, &name, boot);
    let managed = [("autostopping:managed".to_owned(), "true".to_owned())];
    world.tag_instances(std::slice::from_ref(&instance), &managed)?;
    let group = world.create_target_group(&name, TargetKind::Instance, "HTTP", 80, check.clone())?;
    world.enrol(now, &group, &[(instance.clone(), None)])?;
    let idle = humantime::format_duration(idle).to_string();
    let rule = world.create_rule(
        now,
        listener,
        NewRule {
            priority: 10 * (index + 1),
            conditions: vec![condition(
                "host-header",
                "HostHeaderConfig",
                json!({ "Values": [site.host] }),
            )],
            actions: vec![forward(&group)],
            tags: tags(&[("autostopping:idle", &idle), ("autostopping:name", &name)]),
            ..NewRule::default()
        },
    )?;
    let action = world
        .require_rule(&rule)?
        .view()
        .actions
        .last()
        .cloned()
        .unwrap_or(Value::Null);
    let marker = world.request_id();
    let parked = world.create_rule(
        now,
        listener,
        NewRule {
            priority: PARKED - index,
            conditions: vec![
                condition(
                    "host-header",
                    "HostHeaderConfig",
                    json!({ "Values": ["parked.invalid"] }),
                ),
                condition("source-ip", "SourceIpConfig", json!({ "Values": ["192.0.2.1/32"] })),
                condition(
                    "http-header",
                    "HttpHeaderConfig",
                    json!({ "HttpHeaderName": "X-Autostopping-Parked", "Values": [marker] }),
                ),
            ],
            actions: vec![action.clone()],
            tags: tags(&[("autostopping:parks", &rule)]),
            ..NewRule::default()
        },
    )?;
    world.modify_rule(now, &rule, None, Some(vec![forward(waker)]), None)?;
    let host = site.host.clone();
    Ok(Asleep {
        name,
        host,
        rule,
        parked,
        marker,
        instance,
        group,
        action,
    })
}

/// The rule's name for a host: `plain.localhost` is `plain`, `www.example.com` is `www-example-com`.
pub fn name_of(host: &str) -> String {
    let host = host.strip_suffix(".localhost").unwrap_or(host);
    let name: String = host
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(32)
        .collect();
    name.trim_matches('-').to_owned()
}

fn forward(group: &str) -> Value {
    json!({ "Type": "forward", "TargetGroupArn": group })
}

fn condition(field: &str, config: &str, value: Value) -> Value {
    json!({ "Field": field, config: value })
}

fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}
