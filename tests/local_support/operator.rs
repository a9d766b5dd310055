//! What the tests of an operator's commands share: a cloud with a spare instance, and a look at what was changed.

use std::{process::Output, time::Duration};

use proxymanager::local::{
    Cloud,
    world::{HealthCheck, NewRule, Rule, TargetKind},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    ask,
    story::{asleep, sample},
    until,
    visitor::{Kind, Visitor},
};

pub const SPARE: &str = "spare.localhost";
/// A wake within a minute of a stop waits out that minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// The arguments in a line that has none with a space in it.
pub fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// One site asleep and one instance that nothing leads to.
pub async fn with_a_spare() -> Cloud {
    asleep(|config| {
        config.spares = vec![sample(SPARE)];
        config.tick = Some(Duration::from_secs(1));
    })
    .await
}

pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// R as DescribeRules prints it.
pub async fn printed(cloud: &Cloud, rule: &str) -> String {
    let request = "POST / HTTP/1.1\r\nHost: aws\r\nContent-Type: application/x-www-form-urlencoded";
    let body = format!("Action=DescribeRules&Version=2015-12-01&RuleArns.member.1={rule}");
    let text = ask(cloud.api_address, request, &body).await.text();
    let end = text.find("<ResponseMetadata>").expect("an answer of ELBv2");
    text[..end].to_owned()
}

/// All that an operator's command could have changed.
pub fn everything(cloud: &Cloud) -> Value {
    let world = cloud.shared.world();
    let rules = world.rules().iter();
    let rules = rules.map(|rule| (&rule.arn, format!("{:?}", rule.view()), &rule.tags));
    let groups = world.target_groups().iter();
    let groups = groups.map(|group| {
        let targets: Vec<_> = group.targets.iter().map(|target| &target.id).collect();
        (&group.arn, targets)
    });
    let instances = world.instances().map(|instance| (&instance.id, &instance.tags));
    json!([
        rules.collect::<Vec<_>>(),
        groups.collect::<Vec<_>>(),
        instances.collect::<Vec<_>>()
    ])
}

pub fn spare(cloud: &Cloud) -> String {
    cloud.seeded.spares[0].clone()
}

pub async fn runs(cloud: &Cloud, instance: &str) {
    let now = cloud.shared.clock.now();
    let ids = [instance.to_owned()];
    cloud.shared.world().start_instances(now, &ids).expect("it starts");
    let runs = || {
        let world = cloud.shared.world();
        world
            .instance(instance)
            .is_some_and(|one| one.life().power.name().0 == "running")
    };
    until("the instance runs", runs).await;
}

/// The ARN of the listener rule for this host.
pub fn rule_of(cloud: &Cloud, host: &str) -> Option<String> {
    let world = cloud.shared.world();
    let names = |rule: &&Rule| json!(rule.view().conditions).to_string().contains(host);
    world.rules().iter().find(names).map(|rule| rule.arn.clone())
}

pub fn tags_of(cloud: &Cloud, arn: &str) -> Value {
    json!(cloud.shared.world().elb_tags(arn).expect("it is there"))
}

pub fn managed(cloud: &Cloud, instance: &str) -> bool {
    let world = cloud.shared.world();
    world
        .instance(instance)
        .is_some_and(|one| one.tags.contains_key("autostopping:managed"))
}

pub async fn opened(cloud: &Cloud, host: &str) {
    let mut visitor = Visitor::new(Kind::Browser, cloud.address, host, "/", 1);
    assert!(visitor.arrive(Instant::now() + PATIENCE).await, "{}", visitor.story());
}

/// A rule of these actions at this host, and its ARN.
pub fn made(cloud: &Cloud, priority: u32, host: &str, actions: Vec<Value>) -> String {
    let now = cloud.shared.clock.now();
    let new = NewRule {
        priority,
        conditions: vec![json!({ "Field": "host-header", "HostHeaderConfig": { "Values": [host] } })],
        actions,
        ..NewRule::default()
    };
    cloud
        .shared
        .world()
        .create_rule(now, &cloud.seeded.listener, new)
        .expect("the rule is made")
}

pub fn group(cloud: &Cloud, name: &str, kind: TargetKind, targets: &[&str]) -> Value {
    let now = cloud.shared.clock.now();
    let mut world = cloud.shared.world();
    let protocol = if kind == TargetKind::Lambda { "" } else { "HTTP" };
    let group = world
        .create_target_group(name, kind, protocol, 80, HealthCheck::default())
        .expect("made");
    let targets: Vec<_> = targets.iter().map(|target| ((*target).to_owned(), None)).collect();
    world.enrol(now, &group, &targets).expect("registered");
    json!({ "Type": "forward", "Order": 1, "TargetGroupArn": group })
}
