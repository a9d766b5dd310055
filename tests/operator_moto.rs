//! What an operator's commands write and read, against a real moto: the wire format is AWS's.
//! Seen red with another health check, and with the tags left at a release.
#![cfg(all(feature = "cli", feature = "lambda"))]

mod support;

use std::collections::BTreeMap;

use proxymanager::aws::Aws;
use proxymanager::compute::ec2::Ec2;
use proxymanager::domain::rule::{GroupId, ResourceId};
use proxymanager::gateway::alb::Alb;
use support::aws::first;
use support::world::Scene;
use support::{proxymanager, succeed};

fn tags(scene: &Scene, arn: &str) -> String {
    scene.world.api.elb("DescribeTags", &[("ResourceArns.member.1", arn)])
}

fn instance_tags(scene: &Scene, instance: &str) -> String {
    scene.world.api.ec2("DescribeInstances", &[("InstanceId.1", instance)])
}

#[test]
fn create_and_release_speak_awss_api() {
    let scene = Scene::new();
    let api = scene.world.api;
    let nowhere = scene.world.group("nowhere");
    let instance = scene.world.instance(&nowhere);
    let untag = [
        ("ResourceId.1", instance.as_str()),
        ("Tag.1.Key", "autostopping:managed"),
    ];
    api.ec2("DeleteTags", &untag);
    let create = |port: u16, more: &str| {
        format!("create --host app.example.com --path /app/* --instance {instance} --port {port} {more}--yes")
    };
    let first_time = create(8080, "--idle 2h --set hold=wait ");
    let first_time: Vec<&str> = first_time.split(' ').collect();
    succeed(&scene.environment, &first_time);
    let group = api.elb("DescribeTargetGroups", &[("Names.member.1", "app-example-com")]);
    for (element, value) in [
        ("Protocol", "HTTP"),
        ("Port", "8080"),
        ("VpcId", &scene.world.vpc),
        ("TargetType", "instance"),
        ("HealthCheckIntervalSeconds", "5"),
        ("HealthCheckTimeoutSeconds", "4"),
        ("HealthyThresholdCount", "2"),
        ("UnhealthyThresholdCount", "2"),
        ("HealthCheckPath", "/"),
        ("HttpCode", "200-399"),
    ] {
        assert_eq!(first(&group, element), value, "{element}: {group}");
    }
    let arn = first(&group, "TargetGroupArn");
    let health = api.elb("DescribeTargetHealth", &[("TargetGroupArn", &arn)]);
    assert_eq!(first(&health, "Id"), instance);
    let rules = api.elb("DescribeRules", &[("ListenerArn", &scene.world.listener)]);
    let rule = first(&rules, "RuleArn");
    let printed = api.rule(&rule);
    for part in [
        "<member>app.example.com</member>",
        "<member>/app/*</member>",
        &arn,
        "<Priority>10</Priority>",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let tagged = tags(&scene, &rule);
    assert!(
        tagged.contains("autostopping:idle") && tagged.contains("<Value>2h</Value>"),
        "{tagged}"
    );
    assert!(tagged.contains("autostopping:hold"), "{tagged}");
    assert!(instance_tags(&scene, &instance).contains("autostopping:managed"));
    let again = succeed(&scene.environment, &first_time);
    assert!(again.contains("nothing to change"), "{again}");
    let other = create(81, "");
    let other: Vec<&str> = other.split(' ').collect();
    let refused = proxymanager(&scene.environment, &other);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("there is a target group app-example-com already"),
        "{said}"
    );

    // Awake, asleep, and back.
    succeed(&scene.environment, &["status", "app-example-com"]);
    scene.world.api.ec2("StopInstances", &[("InstanceId.1", &instance)]);
    succeed(&scene.environment, &["sleep", "app-example-com"]);
    assert_ne!(api.rule(&rule), printed);
    succeed(&scene.environment, &["release", "app-example-com", "--yes"]);
    assert_eq!(api.rule(&rule), printed, "byte for byte");
    assert!(!tags(&scene, &rule).contains("autostopping"), "{}", tags(&scene, &rule));
    assert!(!instance_tags(&scene, &instance).contains("autostopping"));
    let rules = api.elb("DescribeRules", &[("ListenerArn", &scene.world.listener)]);
    assert!(!rules.contains("parked.invalid"), "{rules}");
    // Adopted again by its host.
    succeed(&scene.environment, &["adopt", "--host", "APP.example.com", "--yes"]);
    assert!(tags(&scene, &rule).contains("autostopping:idle"));
}

#[tokio::test]
async fn settings_limits_and_volumes_are_read() {
    let scene = Scene::new();
    let api = scene.world.api;
    let group = scene.world.group("some");
    let instance = scene.world.instance(&group);
    let environment: BTreeMap<String, String> = scene.environment.iter().cloned().collect();
    let aws = Aws::from_environment(&environment).expect("it is complete");
    let alb = Alb::new(
        aws.elb(),
        vec![scene.world.listener.clone()],
        vec![GroupId(scene.world.waker.clone())],
    );
    api.elb(
        "ModifyTargetGroup",
        &[
            ("TargetGroupArn", &group),
            ("HealthCheckIntervalSeconds", "30"),
            ("HealthyThresholdCount", "5"),
        ],
    );
    let gone = GroupId(format!("{group}0"));
    let settings = alb
        .settings_of(&[GroupId(group.clone()), gone.clone()])
        .await
        .expect("they are read");
    assert!(!settings.contains_key(&gone));
    let some = &settings[&GroupId(group.clone())];
    assert_eq!(
        (some.until_healthy().as_secs(), some.kind.as_str(), some.port),
        (150, "instance", Some(80))
    );
    assert_eq!(some.vpc.as_ref(), Some(&scene.world.vpc));
    assert_eq!(
        alb.group_named("some").await.expect("it is read").map(|some| some.id.0),
        Some(group)
    );
    assert_eq!(alb.group_named("none").await, Ok(None));
    assert_eq!(alb.limits().await.expect("they are read").rules, Some(100));

    let ec2 = Ec2::new(aws.ec2());
    let id = ResourceId(instance.clone());
    let [machine] = <[_; 1]>::try_from(
        ec2.machines(&[id.clone(), ResourceId("i-0".to_owned())])
            .await
            .expect("read"),
    )
    .expect("one is known");
    assert_eq!(
        (machine.id, machine.vpc.as_ref(), machine.instance_store),
        (id.clone(), Some(&scene.world.vpc), false)
    );
    assert_eq!(machine.tags["autostopping:managed"], "true");
    assert_eq!(ec2.encrypted_volumes(std::slice::from_ref(&id)).await, Ok(Vec::new()));
    let made = api.ec2(
        "CreateVolume",
        &[("Size", "1"), ("AvailabilityZone", "us-east-1a"), ("Encrypted", "true")],
    );
    let volume = first(&made, "volumeId");
    api.ec2(
        "AttachVolume",
        &[("VolumeId", &volume), ("InstanceId", &instance), ("Device", "/dev/sdf")],
    );
    let [encrypted] =
        <[_; 1]>::try_from(ec2.encrypted_volumes(std::slice::from_ref(&id)).await.expect("read")).expect("one");
    assert_eq!((encrypted.id, encrypted.instance), (volume, id));
    assert!(!encrypted.key.is_empty());
}
