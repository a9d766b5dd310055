//! What an operator does with a listener rule, by the real command line: create, adopt, release. Refusals change nothing,
//! what was interrupted is finished by running it again, and R is byte for byte what it was when all is over.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::process::Output;
use std::time::Duration;

use local_support::story::{asleep, command, run, sample, site};
use local_support::visitor::{Kind, Visitor};
use local_support::{HOST, ask, control, until};
use proxymanager::local::Cloud;
use proxymanager::local::world::{HealthCheck, HealthState, NewRule, TargetKind};
use serde_json::{Value, json};
use tokio::time::Instant;

const SPARE: &str = "spare.localhost";
/// A wake within a minute of a stop waits out that minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// One site asleep and one instance that nothing leads to.
async fn cloud() -> Cloud {
    asleep(|config| {
        config.spares = vec![sample(SPARE)];
        config.tick = Some(Duration::from_secs(1));
    })
    .await
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// R as DescribeRules prints it.
async fn printed(cloud: &Cloud, rule: &str) -> String {
    let request = "POST / HTTP/1.1\r\nHost: aws\r\nContent-Type: application/x-www-form-urlencoded";
    let body = format!("Action=DescribeRules&Version=2015-12-01&RuleArns.member.1={rule}");
    let text = ask(cloud.api_address, request, &body).await.text();
    let end = text.find("<ResponseMetadata>").expect("an answer of ELBv2");
    text[..end].to_owned()
}

/// All that an operator's command could have changed.
fn everything(cloud: &Cloud) -> Value {
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

fn spare(cloud: &Cloud) -> String {
    cloud.seeded.spares[0].clone()
}

async fn runs(cloud: &Cloud, instance: &str) {
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
fn rule_of(cloud: &Cloud, host: &str) -> Option<String> {
    let world = cloud.shared.world();
    let names = |rule: &&proxymanager::local::world::Rule| json!(rule.view().conditions).to_string().contains(host);
    world.rules().iter().find(names).map(|rule| rule.arn.clone())
}

fn tags_of(cloud: &Cloud, arn: &str) -> Value {
    json!(cloud.shared.world().elb_tags(arn).expect("it is there"))
}

fn managed(cloud: &Cloud, instance: &str) -> bool {
    let world = cloud.shared.world();
    world
        .instance(instance)
        .is_some_and(|one| one.tags.contains_key("autostopping:managed"))
}

async fn opened(cloud: &Cloud, host: &str) {
    let mut visitor = Visitor::new(Kind::Browser, cloud.address, host, "/", 1);
    assert!(visitor.arrive(Instant::now() + PATIENCE).await, "{}", visitor.story());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_is_created_sleeps_wakes_and_is_released() {
    let cloud = cloud().await;
    let instance = spare(&cloud);
    runs(&cloud, &instance).await;
    let words = [
        "create",
        "--host",
        SPARE,
        "--instance",
        &instance,
        "--port",
        "80",
        "--idle",
        "1h",
    ];

    // Without a terminal nobody can be asked: the plan is shown, nothing is done.
    let before = everything(&cloud);
    let output = run(&cloud, &words).await;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let shown = said(&output);
    for line in [
        "target group spare-localhost",
        "+ autostopping:idle = 1h",
        "+ autostopping:managed = true",
        "--yes",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert_eq!(everything(&cloud), before);

    let mut and_do = words.to_vec();
    and_do.push("--yes");
    command(&cloud, &and_do).await;
    let rule = rule_of(&cloud, SPARE).expect("the rule is made");
    assert!(managed(&cloud, &instance));
    let made = everything(&cloud);
    let again = run(&cloud, &and_do).await;
    assert!(
        again.status.success() && said(&again).contains("nothing to change"),
        "{}",
        said(&again)
    );
    assert_eq!(everything(&cloud), made);

    // A new group's targets are healthy after two checks, five seconds apart.
    opened(&cloud, SPARE).await;
    let original = printed(&cloud, &rule).await;
    command(&cloud, &["sleep", "spare-localhost"]).await;
    assert_ne!(printed(&cloud, &rule).await, original);
    let asleep = run(&cloud, &and_do).await;
    assert!(
        said(&asleep).contains("nothing to change"),
        "it is known asleep too: {}",
        said(&asleep)
    );

    let refused = run(&cloud, &["release", "spare-localhost"]).await;
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(
        said(&refused).contains("action: the waker -> forward to spare-localhost"),
        "{}",
        said(&refused)
    );
    assert!(said(&refused).contains("stopped machines"), "{}", said(&refused));
    command(&cloud, &["release", "spare-localhost", "--yes"]).await;
    assert_eq!(printed(&cloud, &rule).await, original, "byte for byte");
    assert_eq!(tags_of(&cloud, &rule), json!({}));
    assert!(!managed(&cloud, &instance));
    nothing_left(&cloud, &rule, &instance);
    cloud.stop().await;
}

/// No parked rule, and no claim on the machine.
fn nothing_left(cloud: &Cloud, rule: &str, instance: &str) {
    let world = cloud.shared.world();
    let parks =
        |other: &proxymanager::local::world::Rule| other.tags.get("autostopping:parks").is_some_and(|r| r == rule);
    assert!(!world.rules().iter().any(parks), "P is gone");
    let machine = format!("machine#{instance}");
    let mut items = world.tables().flat_map(|(_, table)| table.items().values());
    assert!(
        !items.any(|item| item.get("pk").is_some_and(|pk| pk["S"] == machine)),
        "no claim is left"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_is_adopted_sleeps_wakes_and_is_released() {
    let cloud = cloud().await;
    // Somebody's own site, whose rule has tags of others and a stickiness.
    let instance = spare(&cloud);
    runs(&cloud, &instance).await;
    let now = cloud.shared.clock.now();
    let check = HealthCheck {
        interval: Duration::from_millis(100),
        healthy: 2,
        ..HealthCheck::default()
    };
    let rule = {
        let mut world = cloud.shared.world();
        let group = world
            .create_target_group("theirs", TargetKind::Instance, "HTTP", 80, check)
            .expect("made");
        world
            .enrol(now, &group, &[(instance.clone(), None)])
            .expect("registered");
        let forward = json!({ "Type": "forward", "Order": 1, "ForwardConfig": {
            "TargetGroups": [{ "TargetGroupArn": group, "Weight": 7 }],
            "TargetGroupStickinessConfig": { "Enabled": true, "DurationSeconds": 77 },
        }});
        let new = NewRule {
            priority: 7,
            conditions: vec![json!({ "Field": "host-header", "HostHeaderConfig": { "Values": [SPARE] } })],
            actions: vec![forward],
            tags: [("team".to_owned(), "a".to_owned())].into(),
            ..NewRule::default()
        };
        world.create_rule(now, &cloud.seeded.listener, new).expect("made")
    };
    let original = printed(&cloud, &rule).await;
    let before = everything(&cloud);
    let plan = run(&cloud, &["adopt", "--host", SPARE, "--output", "json"]).await;
    assert_eq!(plan.status.code(), Some(2));
    let plan: Value = serde_json::from_slice(&plan.stdout).expect("JSON");
    assert_eq!(plan["rule"], "theirs");
    assert_eq!(
        plan["changes"][0]["steps"],
        json!([{ "add": "autostopping:idle = 30m" }])
    );
    assert_eq!(
        plan["changes"][1]["steps"],
        json!([{ "add": "autostopping:managed = true" }])
    );
    assert_eq!(everything(&cloud), before);

    command(&cloud, &["adopt", &rule, "--set", "hold=wait", "--yes"]).await;
    let expected = json!({ "autostopping:hold": "wait", "autostopping:idle": "30m", "team": "a" });
    assert_eq!(tags_of(&cloud, &rule), expected);
    let again = run(&cloud, &["adopt", &rule, "--yes"]).await;
    assert!(said(&again).contains("nothing to change"), "{}", said(&again));
    let changed = run(&cloud, &["adopt", &rule, "--idle", "2h"]).await;
    assert!(
        said(&changed).contains("~ autostopping:idle: 30m -> 2h"),
        "{}",
        said(&changed)
    );

    command(&cloud, &["sleep", "theirs"]).await;
    opened(&cloud, SPARE).await;
    command(&cloud, &["sleep", "theirs"]).await;
    command(&cloud, &["release", &rule, "--yes"]).await;
    assert_eq!(printed(&cloud, &rule).await, original, "byte for byte");
    assert_eq!(tags_of(&cloud, &rule), json!({ "team": "a" }));
    assert!(!managed(&cloud, &instance));
    runs(&cloud, &instance).await;
    opened(&cloud, SPARE).await;
    cloud.stop().await;
}

/// A rule of these actions at this host, and its ARN.
fn made(cloud: &Cloud, priority: u32, host: &str, actions: Vec<Value>) -> String {
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

fn group(cloud: &Cloud, name: &str, kind: TargetKind, targets: &[&str]) -> Value {
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

/// Seen red with the judgement left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_managed_is_refused_and_why() {
    let cloud = cloud().await;
    let (instance, other) = (spare(&cloud), site(&cloud).instance.clone());
    let (function, default) = (cloud.seeded.function.clone(), {
        let world = cloud.shared.world();
        let mut rules = world.rules().iter();
        rules
            .find(|rule| rule.view().priority.is_none())
            .expect("there is one")
            .arn
            .clone()
    });
    let redirect =
        json!({ "Type": "redirect", "Order": 1, "RedirectConfig": { "Protocol": "HTTPS", "StatusCode": "HTTP_301" } });
    let fixed = json!({ "Type": "fixed-response", "Order": 1, "FixedResponseConfig": { "StatusCode": "404" } });
    let good = group(&cloud, "good", TargetKind::Instance, &[&instance]);
    let mut refusals: Vec<(String, &str)> = vec![
        (default, "default rule"),
        (
            made(&cloud, 101, "a.test", vec![redirect]),
            "is redirect, and only a forward action",
        ),
        (
            made(&cloud, 102, "b.test", vec![fixed]),
            "is fixed-response, and only a forward action",
        ),
        (
            made(
                &cloud,
                103,
                "c.test",
                vec![group(&cloud, "none", TargetKind::Instance, &[])],
            ),
            "has no registered targets",
        ),
        (
            made(
                &cloud,
                104,
                "d.test",
                vec![group(&cloud, "ip", TargetKind::Ip, &["10.0.0.1"])],
            ),
            "targets of type ip",
        ),
        (
            made(
                &cloud,
                105,
                "e.test",
                vec![group(&cloud, "code", TargetKind::Lambda, &[&function])],
            ),
            "targets of type lambda",
        ),
        (
            made(
                &cloud,
                106,
                "f.test",
                vec![group(&cloud, "shared", TargetKind::Instance, &[&other])],
            ),
            "also belongs to the rule site",
        ),
        (
            made(
                &cloud,
                107,
                "g.test",
                vec![json!({ "Type": "forward", "Order": 1, "TargetGroupArn": cloud.seeded.waker })],
            ),
            "is in neither the rule, the parked rule nor the ledger",
        ),
        (format!("{}x", site(&cloud).rule), "on the watched listeners"),
    ];
    // The same group twice: nobody can tell by one rule that it is not in use.
    let twice = made(&cloud, 108, "h.test", vec![good.clone()]);
    refusals.push((twice.clone(), "is also reachable through"));
    made(&cloud, 109, "i.test", vec![good]);
    let before = everything(&cloud);
    for (rule, why) in &refusals {
        let output = run(&cloud, &["adopt", rule, "--yes"]).await;
        assert_eq!(output.status.code(), Some(1), "{why}: {}", said(&output));
        assert!(said(&output).contains(why), "{why}: {}", said(&output));
    }
    for (words, why) in [
        (
            ["adopt", "--host", "nobody.test", "--yes"].as_slice(),
            "`proxymanager create` makes one",
        ),
        (
            &["adopt", &twice, "--set", "idel=1h", "--yes"],
            "autostopping:idle is probably meant",
        ),
        (
            &["adopt", &twice, "--idle", "1y", "--yes"],
            "autostopping:idle = \"1y\" cannot be read",
        ),
        (
            &[
                "create",
                "--host",
                "new.test",
                "--instance",
                "i-0123",
                "--port",
                "80",
                "--yes",
            ],
            "there is no instance i-0123",
        ),
        (
            &[
                "create",
                "--host",
                "new.test",
                "--instance",
                &instance,
                "--port",
                "80",
                "--yes",
            ],
            "start it first",
        ),
        (
            &["release", "nobody", "--yes"],
            "there is no rule \"nobody\". The rules are: site",
        ),
    ] {
        let output = run(&cloud, words).await;
        assert_eq!(output.status.code(), Some(1), "{why}: {}", said(&output));
        assert!(said(&output).contains(why), "{why}: {}", said(&output));
    }
    for words in [
        ["create", "--host", "http://x", "--instance", "i-1", "--port", "80"].as_slice(),
        &["create", "--host", "x.test", "--instance", "i-1", "--port", "0"],
        &["adopt"],
        &["release", "site", "--all"],
    ] {
        assert_eq!(run(&cloud, words).await.status.code(), Some(2), "{words:?}");
    }
    assert_eq!(everything(&cloud), before, "nothing is changed");

    // What is wrong with the machine or the load balancer.
    let now = cloud.shared.clock.now();
    runs(&cloud, &instance).await;
    let stopped = run(
        &cloud,
        &[
            "create",
            "--host",
            "new.test",
            "--instance",
            &instance,
            "--port",
            "80",
            "--yes",
        ],
    )
    .await;
    assert!(
        said(&stopped).contains("is also reachable through"),
        "{}",
        said(&stopped)
    );
    {
        let mut world = cloud.shared.world();
        let there: Vec<String> = world
            .rules()
            .iter()
            .filter(|rule| rule.view().priority == Some(109))
            .map(|rule| rule.arn.clone())
            .collect();
        world.delete_rule(now, &there[0]).expect("it is there");
        let group = [("aws:autoscaling:groupName".to_owned(), "workers".to_owned())];
        world
            .tag_instances(std::slice::from_ref(&instance), &group)
            .expect("it is there");
    }
    let scaled = run(&cloud, &["adopt", &twice, "--yes"]).await;
    assert!(
        said(&scaled).contains("belongs to the Auto Scaling group workers"),
        "{}",
        said(&scaled)
    );
    {
        let mut world = cloud.shared.world();
        let keys = ["aws:autoscaling:groupName".to_owned()];
        world
            .untag_instances(std::slice::from_ref(&instance), &keys)
            .expect("it is there");
        let controller = [("elbv2.k8s.aws/cluster".to_owned(), "prod".to_owned())].into();
        world
            .add_elb_tags(&cloud.seeded.balancer, &controller)
            .expect("it is there");
    }
    let foreign = run(&cloud, &["adopt", &twice, "--yes"]).await;
    assert!(
        said(&foreign).contains("AWS Load Balancer Controller of cluster prod"),
        "{}",
        said(&foreign)
    );
    let keys = ["elbv2.k8s.aws/cluster".to_owned()];
    cloud
        .shared
        .world()
        .remove_elb_tags(&cloud.seeded.balancer, &keys)
        .expect("it is there");
    command(&cloud, &["adopt", &twice, "--yes"]).await;
    cloud.stop().await;
}

/// Each call that writes is refused once, and then the command is run again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_interrupted_is_finished_by_running_it_again() {
    let cloud = cloud().await;
    let instance = spare(&cloud);
    runs(&cloud, &instance).await;
    let create = [
        "create",
        "--host",
        SPARE,
        "--instance",
        &instance,
        "--port",
        "80",
        "--name",
        "mine",
        "--yes",
    ];
    for call in ["CreateTargetGroup", "RegisterTargets", "CreateTags", "CreateRule"] {
        control(&cloud, "PATCH", "faults", &json!({ "denied": [call] }).to_string()).await;
        let output = run(&cloud, &create).await;
        assert_eq!(output.status.code(), Some(1), "{call}: {}", said(&output));
        assert!(said(&output).contains(call), "{call}: {}", said(&output));
    }
    control(&cloud, "DELETE", "faults", "").await;
    // The answer of CreateRule is lost, and the call is sent again.
    control(
        &cloud,
        "PATCH",
        "faults",
        r#"{"lost_response": 0.6, "lost_calls": ["CreateRule", "CreateTargetGroup"]}"#,
    )
    .await;
    let output = run(&cloud, &create).await;
    control(&cloud, "DELETE", "faults", "").await;
    if !output.status.success() {
        command(&cloud, &create).await;
    }
    let rule = rule_of(&cloud, SPARE).expect("the rule is made");
    assert_eq!(
        tags_of(&cloud, &rule),
        json!({ "autostopping:idle": "30m", "autostopping:name": "mine" })
    );
    {
        let world = cloud.shared.world();
        let of_spare =
            |rule: &&proxymanager::local::world::Rule| json!(rule.view().conditions).to_string().contains(SPARE);
        assert_eq!(world.rules().iter().filter(of_spare).count(), 1);
        assert_eq!(
            world
                .target_groups()
                .iter()
                .filter(|group| group.name == "mine")
                .count(),
            1
        );
    }
    opened(&cloud, SPARE).await;
    let original = printed(&cloud, &rule).await;
    command(&cloud, &["sleep", "mine"]).await;
    for call in ["RemoveTags", "ModifyRule", "DeleteRule", "DeleteTags"] {
        control(&cloud, "PATCH", "faults", &json!({ "denied": [call] }).to_string()).await;
        let output = run(&cloud, &["release", "mine", "--yes"]).await;
        control(&cloud, "DELETE", "faults", "").await;
        assert_eq!(output.status.code(), Some(1), "{call}: {}", said(&output));
        let then = if call == "DeleteTags" {
            "aws ec2 delete-tags"
        } else {
            "run this again"
        };
        assert!(said(&output).contains(then), "{call}: {}", said(&output));
    }
    assert_eq!(printed(&cloud, &rule).await, original);
    assert_eq!(tags_of(&cloud, &rule), json!({}));
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_are_released_and_what_is_parked_for_nobody_too() {
    let cloud = cloud().await;
    let known = || local_support::story::record(&cloud).is_some_and(|record| record["digest"].is_u64());
    until("a Tick has looked at it", known).await;
    made(&cloud, 300, "orphan.test", vec![site(&cloud).action.clone()]);
    let orphan = rule_of(&cloud, "orphan.test").expect("it is made");
    let gone = [("autostopping:parks".to_owned(), format!("{}0", site(&cloud).rule))].into();
    cloud.shared.world().add_elb_tags(&orphan, &gone).expect("it is there");
    command(&cloud, &["release", "--all", "--yes"]).await;
    assert_eq!(local_support::story::action(&cloud), site(&cloud).action);
    assert_eq!(local_support::story::parked(&cloud), 0);
    assert!(rule_of(&cloud, "orphan.test").is_none());
    assert_eq!(tags_of(&cloud, &site(&cloud).rule), json!({}));
    assert!(!managed(&cloud, &site(&cloud).instance));
    let nothing = run(&cloud, &["release", "--all", "--yes"]).await;
    assert!(
        nothing.status.success() && said(&nothing).contains("nothing is managed"),
        "{}",
        said(&nothing)
    );
    // And adopted again it is asleep as it was found, and wakes.
    command(&cloud, &["adopt", "--host", HOST, "--yes"]).await;
    let asleep = || local_support::story::record(&cloud).is_some_and(|record| record["snapshot"]["phase"] == "asleep");
    until("it is found asleep", asleep).await;
    opened(&cloud, HOST).await;
    assert_eq!(local_support::health(&cloud), HealthState::Healthy);
    cloud.stop().await;
}
