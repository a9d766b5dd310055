//! `proxymanager doctor` over the real command line: it finds each of many seeded faults, names a fix for it, and finds
//! nothing where nothing is wrong. Seen red with the judgement of each test left out, and without the note of a Tick. A fault is made by the calls that somebody would make it with on AWS, where there are such.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::collections::BTreeSet;
use std::time::Duration;

use local_support::story::{asleep, run, run_with, sample, site};
use local_support::{ask, control, until};
use proxymanager::local::Cloud;
use serde_json::{Value, json};

/// A cloud that a Tick has been to.
async fn cloud() -> Cloud {
    let cloud = asleep(|config| {
        config.spares = vec![sample("spare.localhost")];
        config.tick = Some(Duration::from_secs(1));
    })
    .await;
    let known = || local_support::story::record(&cloud).is_some_and(|record| record["digest"].is_u64());
    until("a Tick has looked at it", known).await;
    cloud
}

/// A call of ELBv2 or EC2, which has to succeed; its XML.
async fn call(cloud: &Cloud, version: &str, action: &str, parameters: &[(&str, &str)]) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", action).append_pair("Version", version);
    form.extend_pairs(parameters);
    let request = "POST / HTTP/1.1\r\nHost: aws\r\nContent-Type: application/x-www-form-urlencoded";
    let answer = ask(cloud.api_address, request, &form.finish()).await;
    assert_eq!(answer.status, 200, "{action}: {}", answer.text());
    answer.text()
}

async fn elb(cloud: &Cloud, action: &str, parameters: &[(&str, &str)]) -> String {
    call(cloud, "2015-12-01", action, parameters).await
}

async fn ec2(cloud: &Cloud, action: &str, parameters: &[(&str, &str)]) -> String {
    call(cloud, "2016-11-15", action, parameters).await
}

/// A call of Lambda, which has to succeed.
async fn lambda(cloud: &Cloud, method: &str, rest: &str, body: &str) {
    let request = format!("{method} /2015-03-31/functions/aws-proxymanager/{rest} HTTP/1.1\r\nHost: aws");
    let answer = ask(cloud.api_address, &request, body).await;
    assert!(matches!(answer.status, 200 | 201), "{rest}: {}", answer.text());
}

async fn tag(cloud: &Cloud, arn: &str, key: &str, value: &str) {
    let parameters = [
        ("ResourceArns.member.1", arn),
        ("Tags.member.1.Key", key),
        ("Tags.member.1.Value", value),
    ];
    elb(cloud, "AddTags", &parameters).await;
}

/// The findings, each with a fix; and the exit code tells whether there are any.
async fn found(cloud: &Cloud, environment: &[(&str, &str)]) -> Vec<Value> {
    let mut all: Vec<(&str, &str)> = cloud.shared.lambda.environment().into_iter().collect();
    all.extend(environment);
    let output = run_with(&all, &["doctor", "--output", "json"]).await;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {error}"));
    let findings = answer["findings"].as_array().expect("a list").clone();
    assert_eq!(output.status.code(), Some(i32::from(!findings.is_empty())), "{error}");
    for finding in &findings {
        for text in ["of", "what", "fix"] {
            assert!(finding[text].as_str().is_some_and(|text| !text.is_empty()), "{finding}");
        }
    }
    findings
}

fn codes(findings: &[Value]) -> BTreeSet<&str> {
    findings.iter().filter_map(|finding| finding["code"].as_str()).collect()
}

/// The one fault of a new cloud is found, and nothing else.
async fn finds(cloud: &Cloud, code: &str) {
    let findings = found(cloud, &[]).await;
    assert_eq!(codes(&findings), BTreeSet::from([code]), "{findings:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_wrong_with_a_healthy_cloud() {
    let cloud = cloud().await;
    assert_eq!(found(&cloud, &[]).await, Vec::<Value>::new());
    let output = run(&cloud, &["doctor", "site"]).await;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && shown.contains("1 rule looked at: nothing is wrong"),
        "{shown}"
    );
    let nobody = run(&cloud, &["doctor", "nobody"]).await;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("there is no rule \"nobody\""));
    // Looking changes nothing: only the cached table is written.
    let calls = cloud.shared.world().call_counts().clone();
    let writes = [
        "ModifyRule",
        "CreateRule",
        "AddTags",
        "CreateTags",
        "StartInstances",
        "StopInstances",
    ];
    assert!(writes.iter().all(|call| !calls.contains_key(*call)), "{calls:?}");
    cloud.stop().await;
}

/// One cloud, one fault after another, each mended before the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_of_target_groups_and_tags_is_found() {
    let cloud = cloud().await;
    let (group, rule, waker) = (
        site(&cloud).group.clone(),
        site(&cloud).rule.clone(),
        cloud.seeded.waker.clone(),
    );

    let check = |interval: &'static str, successes: &'static str| {
        [
            ("TargetGroupArn", group.clone()),
            ("HealthCheckIntervalSeconds", interval.to_owned()),
            ("HealthyThresholdCount", successes.to_owned()),
        ]
    };
    for (interval, successes, code) in [("30", "5", Some("slow-health-check")), ("6", "2", None)] {
        let parameters = check(interval, successes);
        let parameters: Vec<_> = parameters.iter().map(|(key, value)| (*key, value.as_str())).collect();
        elb(&cloud, "ModifyTargetGroup", &parameters).await;
        match code {
            Some(code) => finds(&cloud, code).await,
            None => assert_eq!(found(&cloud, &[]).await, Vec::<Value>::new()),
        }
    }
    for (key, value, code) in [
        ("autostopping:deadline", "10s", "deadline-too-short"),
        ("autostopping:idle", "for ever", "unreadable-tag"),
        ("autostopping:hodl", "wait", "unknown-tag"),
        ("autostopping:schedule", "mon-fri", "unsupported-tag"),
        ("autostopping:stop", "hibernate", "cannot-hibernate"),
    ] {
        let before = cloud.shared.world().elb_tags(&rule).expect("R").get(key).cloned();
        tag(&cloud, &rule, key, value).await;
        finds(&cloud, code).await;
        match before {
            Some(before) => tag(&cloud, &rule, key, &before).await,
            None => {
                elb(
                    &cloud,
                    "RemoveTags",
                    &[("ResourceArns.member.1", &rule), ("TagKeys.member.1", key)],
                )
                .await;
            }
        }
    }
    tag(&cloud, &cloud.seeded.balancer, "elbv2.k8s.aws/cluster", "prod").await;
    finds(&cloud, "controller-owned").await;
    let balancer = cloud.seeded.balancer.as_str();
    let parameters = [
        ("ResourceArns.member.1", balancer),
        ("TagKeys.member.1", "elbv2.k8s.aws/cluster"),
    ];
    elb(&cloud, "RemoveTags", &parameters).await;

    let on = [("TargetGroupArn", waker.as_str()), ("HealthCheckEnabled", "true")];
    elb(&cloud, "ModifyTargetGroup", &on).await;
    finds(&cloud, "waker-health-check").await;
    let off = [("TargetGroupArn", waker.as_str()), ("HealthCheckEnabled", "false")];
    elb(&cloud, "ModifyTargetGroup", &off).await;
    assert_eq!(found(&cloud, &[]).await, Vec::<Value>::new());
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_of_machines_is_found() {
    let cloud = cloud().await;
    let (instance, spare) = (site(&cloud).instance.clone(), cloud.seeded.spares[0].clone());
    let managed = [
        ("ResourceId.1", instance.as_str()),
        ("Tag.1.Key", "autostopping:managed"),
    ];
    ec2(&cloud, "DeleteTags", &managed).await;
    finds(&cloud, "managed-tag-missing").await;
    ec2(&cloud, "CreateTags", &[managed[0], managed[1], ("Tag.1.Value", "true")]).await;

    // AWS lets nobody but Auto Scaling set this tag.
    let scaling = ("aws:autoscaling:groupName".to_owned(), "workers".to_owned());
    let own = std::slice::from_ref(&instance);
    cloud
        .shared
        .world()
        .tag_instances(own, std::slice::from_ref(&scaling))
        .expect("it is there");
    finds(&cloud, "auto-scaling-member").await;
    cloud
        .shared
        .world()
        .untag_instances(own, &[scaling.0])
        .expect("it is there");

    // A second way: another group with the machine, behind a rule of nobody's.
    let made = elb(
        &cloud,
        "CreateTargetGroup",
        &[("Name", "second"), ("Protocol", "HTTP"), ("Port", "80")],
    )
    .await;
    let second = between(&made, "<TargetGroupArn>", "</TargetGroupArn>");
    let now = cloud.shared.clock.now();
    cloud
        .shared
        .world()
        .enrol(now, &second, &[(instance.clone(), None)])
        .expect("registered while it ran");
    let made = elb(
        &cloud,
        "CreateRule",
        &[
            ("ListenerArn", &cloud.seeded.listener),
            ("Priority", "99"),
            ("Conditions.member.1.Field", "host-header"),
            ("Conditions.member.1.Values.member.1", "other.test"),
            ("Actions.member.1.Type", "forward"),
            ("Actions.member.1.TargetGroupArn", &second),
        ],
    )
    .await;
    let stranger = between(&made, "<RuleArn>", "</RuleArn>");
    finds(&cloud, "second-way").await;
    // Opted in, the stranger shares the machine.
    tag(&cloud, &stranger, "autostopping:idle", "1h").await;
    until("both have claimed it", || claims(&cloud, &instance) == 2).await;
    let findings = found(&cloud, &[]).await;
    assert!(codes(&findings).contains("shared-instance"), "{findings:#?}");
    elb(&cloud, "DeleteRule", &[("RuleArn", &stranger)]).await;
    for parked in parked_for(&cloud, &stranger) {
        elb(&cloud, "DeleteRule", &[("RuleArn", &parked)]).await;
    }
    elb(&cloud, "DeleteTargetGroup", &[("TargetGroupArn", &second)]).await;
    assert_eq!(codes(&found(&cloud, &[]).await), BTreeSet::new());

    // Nothing is registered any more.
    let group = site(&cloud).group.clone();
    let gone = [
        ("TargetGroupArn", group.as_str()),
        ("Targets.member.1.Id", instance.as_str()),
    ];
    let delay = [
        ("TargetGroupArn", group.as_str()),
        ("Attributes.member.1.Key", "deregistration_delay.timeout_seconds"),
        ("Attributes.member.1.Value", "0"),
    ];
    elb(&cloud, "ModifyTargetGroupAttributes", &delay).await;
    elb(&cloud, "DeregisterTargets", &gone).await;
    let empty = || {
        cloud
            .shared
            .world()
            .target_group(&group)
            .is_some_and(|group| group.targets.is_empty())
    };
    until("it has drained", empty).await;
    finds(&cloud, "no-targets").await;

    // A start that falls through, because the key of the volume may not be used.
    let now = cloud.shared.clock.now();
    cloud
        .shared
        .world()
        .enrol(now, &group, &[(spare.clone(), None)])
        .expect("registered while it ran");
    ec2(
        &cloud,
        "CreateTags",
        &[
            ("ResourceId.1", &spare),
            ("Tag.1.Key", "autostopping:managed"),
            ("Tag.1.Value", "true"),
        ],
    )
    .await;
    let key = "arn:aws:kms:us-east-1:123456789012:key/1";
    control(
        &cloud,
        "PATCH",
        "faults",
        &json!({ "falls_back": true, "encrypted_with": key }).to_string(),
    )
    .await;
    control(&cloud, "POST", "instances/spare/start", "").await;
    let fell = || {
        let world = cloud.shared.world();
        let life = world.instance(&spare).expect("it is there").life().clone();
        life.power.name().0 == "stopped" && life.reason.is_some_and(|(code, _)| code == "Client.InternalError")
    };
    until("it fell back", fell).await;
    let findings = found(&cloud, &[]).await;
    assert!(codes(&findings).contains("kms"), "{findings:#?}");
    let kms = findings
        .iter()
        .find(|finding| finding["code"] == "kms")
        .expect("just seen");
    assert!(kms["fix"].as_str().is_some_and(|fix| fix.contains(key)), "{kms}");
    cloud.stop().await;
}

fn claims(cloud: &Cloud, instance: &str) -> usize {
    let world = cloud.shared.world();
    let items = world.tables().flat_map(|(_, table)| table.items().values());
    items
        .filter(|item| {
            item.get("pk")
                .is_some_and(|pk| pk["S"] == format!("machine#{instance}"))
        })
        .count()
}

fn parked_for(cloud: &Cloud, rule: &str) -> Vec<String> {
    let world = cloud.shared.world();
    let parked = world.rules().iter();
    let parked = parked.filter(|other| other.tags.get("autostopping:parks").is_some_and(|parks| parks == rule));
    parked.map(|rule| rule.arn.clone()).collect()
}

fn between(text: &str, start: &str, end: &str) -> String {
    let from = text.find(start).expect("it begins") + start.len();
    let length = text[from..].find(end).expect("it ends");
    text[from..from + length].to_owned()
}

/// At once, as AWS is only after a while.
fn empty(cloud: &Cloud, group: &str) {
    let mut world = cloud.shared.world();
    world.target_group_mut(group).expect("it is there").targets.clear();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_of_the_function_and_the_account_is_found() {
    let cloud = cloud().await;
    let (waker, function) = (cloud.seeded.waker.clone(), cloud.seeded.function.clone());

    let registered = [
        ("TargetGroupArn", waker.as_str()),
        ("Targets.member.1.Id", function.as_str()),
    ];
    elb(&cloud, "DeregisterTargets", &registered).await;
    let now = cloud.shared.clock.now();
    empty(&cloud, &waker);
    finds(&cloud, "waker-empty").await;
    let elsewhere = function.replace(":live", ":gone");
    cloud
        .shared
        .world()
        .enrol(now, &waker, &[(elsewhere, None)])
        .expect("registered");
    finds(&cloud, "function-gone").await;
    empty(&cloud, &waker);
    elb(&cloud, "RegisterTargets", &registered).await;

    lambda(&cloud, "DELETE", "policy/waker?Qualifier=live", "").await;
    finds(&cloud, "not-invocable").await;
    let permission = json!({ "StatementId": "again", "Action": "lambda:InvokeFunction",
        "Principal": "elasticloadbalancing.amazonaws.com", "SourceArn": waker });
    lambda(&cloud, "POST", "policy?Qualifier=live", &permission.to_string()).await;

    // The alias stays on version 1 while another code is uploaded.
    lambda(&cloud, "POST", "versions", "{}").await;
    lambda(&cloud, "PUT", "aliases/live", r#"{"FunctionVersion": "1"}"#).await;
    assert_eq!(found(&cloud, &[]).await, Vec::<Value>::new(), "the same code is live");
    let deployed = |change: &dyn Fn(&mut proxymanager::local::world::Deployed)| {
        let mut world = cloud.shared.world();
        change(world.deployed_mut("aws-proxymanager").expect("it is deployed"));
    };
    deployed(&|deployed| deployed.latest = "another".to_owned());
    finds(&cloud, "uploaded-but-not-live").await;
    lambda(&cloud, "PUT", "aliases/live", r#"{"FunctionVersion": "$LATEST"}"#).await;
    deployed(&|deployed| deployed.state = "Failed".to_owned());
    finds(&cloud, "function-not-active").await;
    deployed(&|deployed| deployed.state = "Active".to_owned());
    deployed(&|deployed| deployed.timeout = 10);
    finds(&cloud, "function-timeout").await;
    deployed(&|deployed| deployed.timeout = 60);

    for (call, operation) in [
        ("DescribeAccountLimits", "elasticloadbalancing:DescribeAccountLimits"),
        ("DescribeInstances", "ec2:DescribeInstances"),
        ("GetFunctionConfiguration", "lambda:GetFunctionConfiguration"),
        ("GetPolicy", "lambda:GetPolicy"),
        ("DescribeRules", "elasticloadbalancing:DescribeRules"),
    ] {
        control(&cloud, "PATCH", "faults", &json!({ "denied": [call] }).to_string()).await;
        let findings = found(&cloud, &[]).await;
        let denied = findings.iter().find(|finding| finding["code"] == "permission-denied");
        assert_eq!(
            denied.map(|denied| &denied["of"]),
            Some(&json!(operation)),
            "{call}: {findings:#?}"
        );
        control(&cloud, "DELETE", "faults", "").await;
    }

    let listeners = format!("{},{}0", cloud.seeded.listener, cloud.seeded.listener);
    let findings = found(&cloud, &[("AUTOSTOPPING_LISTENERS", &listeners)]).await;
    let expected = BTreeSet::from(["listener-gone", "other-environment"]);
    assert_eq!(codes(&findings), expected, "{findings:#?}");

    // A listener that nobody watches, with a rule that is opted in.
    let now = cloud.shared.clock.now();
    {
        let mut world = cloud.shared.world();
        let action = json!({ "Type": "forward", "TargetGroupArn": waker });
        let listener = world
            .add_listener(now, &cloud.seeded.balancer, 8443, vec![action.clone()])
            .expect("made");
        let new = proxymanager::local::world::NewRule {
            priority: 1,
            conditions: vec![json!({ "Field": "host-header", "HostHeaderConfig": { "Values": ["forgotten.test"] } })],
            actions: vec![action],
            tags: [("autostopping:idle".to_owned(), "1h".to_owned())].into(),
            ..proxymanager::local::world::NewRule::default()
        };
        world.create_rule(now, &listener, new).expect("made");
    }
    finds(&cloud, "not-watched").await;
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_load_balancer_is_found() {
    let cloud = asleep(|config| {
        config.tick = Some(Duration::from_secs(1));
        config.quota = 10;
    })
    .await;
    let known = || local_support::story::record(&cloud).is_some_and(|record| record["digest"].is_u64());
    until("a Tick has looked at it", known).await;
    assert_eq!(found(&cloud, &[]).await, Vec::<Value>::new());
    for priority in 100..106 {
        let (host, priority) = (format!("h{priority}.test"), priority.to_string());
        let parameters = [
            ("ListenerArn", cloud.seeded.listener.as_str()),
            ("Priority", &priority),
            ("Conditions.member.1.Field", "host-header"),
            ("Conditions.member.1.Values.member.1", &host),
            ("Actions.member.1.Type", "fixed-response"),
            ("Actions.member.1.FixedResponseConfig.StatusCode", "404"),
        ];
        elb(&cloud, "CreateRule", &parameters).await;
    }
    finds(&cloud, "quota").await;
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_that_never_arrives_is_found() {
    let cloud = asleep(|_| {}).await;
    finds(&cloud, "no-ticks").await;
    let tick = json!({ "source": "aws.events", "detail-type": "Scheduled Event", "detail": {} }).to_string();
    cloud.shared.invoke(tick.into()).await.expect("the Tick succeeds");
    assert_eq!(found(&cloud, &[]).await, Vec::<Value>::new());
    cloud.stop().await;
}
