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
/// The distance of EC2's points. One covers more than a shorter idle time, so the traffic of the last visit would keep such
/// a site awake long after it has become idle.
const NETWORK_POINTS: Duration = Duration::from_secs(300);

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
    /// Ids of stopped instances that nothing leads to.
    pub spares: Vec<String>,
}

/// Fills the world: load balancer `local`, a listener on `port` whose default rule forwards to the waker, and each site
/// asleep, and an instance for each spare that nothing leads to yet. The ledger's records are not written here; `cloud::Config::seed_asleep` is where they come from.
#[allow(clippy::too_many_arguments, reason = "what a cloud's configuration says")]
pub fn seed(
    world: &mut World,
    now: Timestamp,
    port: u16,
    sites: &[Site],
    spares: &[Site],
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
    let spares = spares
        .iter()
        .map(|spare| world.add_instance(now, &name_of(&spare.host), boot));
    let spares = spares.collect();
    // What is there at the beginning is not news.
    world.advance(now);
    Ok(Seeded {
        balancer,
        listener,
        waker,
        function,
        sites: asleep,
        spares,
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
    let idle_tag = humantime::format_duration(idle).to_string();
    let mut own_tags = tags(&[("autostopping:idle", &idle_tag), ("autostopping:name", &name)]);
    if idle < NETWORK_POINTS {
        own_tags.insert("autostopping:busy-network".to_owned(), "off".to_owned());
    }
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
            tags: own_tags,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::world::Settings;

    #[test]
    fn a_site_starts_asleep_as_if_we_had_put_it_to_sleep() {
        let mut world = World::new(Settings::default());
        let now: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
        let sites = [Site {
            host: "plain.localhost".to_owned(),
            command: Vec::new(),
        }];
        let (boot, idle) = (Duration::from_secs(8), Duration::from_secs(60));
        let seeded = seed(&mut world, now, 80, &sites, &[], boot, idle, &HealthCheck::default()).unwrap();
        let site = &seeded.sites[0];
        let rule = world.require_rule(&site.rule).unwrap();
        assert_eq!(rule.view().actions[0]["TargetGroupArn"], seeded.waker);
        let expected = tags(&[
            ("autostopping:busy-network", "off"),
            ("autostopping:idle", "1m"),
            ("autostopping:name", "plain"),
        ]);
        assert_eq!(rule.tags, expected);
        let parked = world.require_rule(&site.parked).unwrap();
        assert_eq!(parked.view().priority, Some(50_000));
        assert_eq!(
            parked.view().actions,
            std::slice::from_ref(&site.action),
            "R's final action, verbatim"
        );
        assert_eq!(parked.tags, tags(&[("autostopping:parks", &site.rule)]));
        let fields: Vec<&Value> = parked
            .view()
            .conditions
            .iter()
            .map(|condition| &condition["Field"])
            .collect();
        assert_eq!(fields, ["host-header", "source-ip", "http-header"]);
        assert_eq!(world.instance(&site.instance).unwrap().life().power.name().0, "stopped");
        let health = &world.target_group(&site.group).unwrap().targets[0].health;
        assert_eq!(health.reason, "Target.InvalidState", "P keeps the health visible");
        assert_eq!(world.advance(now), [], "what is there at the beginning is not news");
    }

    #[test]
    fn names_are_those_of_the_host() {
        for (host, name) in [
            ("plain.localhost", "plain"),
            ("www.example.com", "www-example-com"),
            ("-.", ""),
        ] {
            assert_eq!(name_of(host), name);
        }
    }
}
