//! What create, adopt and release refuse, by the real command line: refusals say why and change nothing, and what was
//! interrupted is finished by running it again.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use local_support::control;
use local_support::operator::{
    SPARE, everything, group, made, opened, printed, rule_of, runs, said, spare, tags_of, with_a_spare, words,
};
use local_support::story::{command, run, run_with, site};
use proxymanager::local::world::{Rule, TargetKind};
use serde_json::json;

/// Seen red with the judgement left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_managed_is_refused_and_why() {
    let cloud = with_a_spare().await;
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
    let create_with = |instance: &str| format!("create --host new.test --instance {instance} --port 80 --yes");
    let (create, unknown) = (create_with(&instance), create_with("i-0123"));
    for (line, why) in [
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
        (&words(&unknown), "there is no instance i-0123"),
        (&words(&create), "start it first"),
        (
            &["release", "nobody", "--yes"],
            "there is no rule \"nobody\". The rules are: site",
        ),
    ] {
        let output = run(&cloud, line).await;
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
    let stopped = run(&cloud, &words(&create)).await;
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
/// Seen red with a release that does not know what an earlier one has left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_interrupted_is_finished_by_running_it_again() {
    let cloud = with_a_spare().await;
    let instance = spare(&cloud);
    runs(&cloud, &instance).await;
    let line = format!("create --host {SPARE} --instance {instance} --port 80 --name mine --yes");
    let create = words(&line);
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
        let of_spare = |rule: &&Rule| json!(rule.view().conditions).to_string().contains(SPARE);
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

/// Seen red without the question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_watch_what_the_function_watches_is_told_so() {
    let cloud = with_a_spare().await;
    command(&cloud, &["list"]).await;
    let mut environment = cloud.shared.lambda.environment();
    let listener = environment["AUTOSTOPPING_LISTENERS"];
    let other = format!("{}/0123456789abcdef", listener.rsplit_once('/').expect("an ARN").0);
    environment.insert("AUTOSTOPPING_LISTENERS", &other);
    let environment: Vec<_> = environment.into_iter().collect();
    let before = everything(&cloud);
    for words in [["list"].as_slice(), &["release", "--all", "--yes"]] {
        let output = run_with(&environment, words).await;
        assert_eq!(output.status.code(), Some(64), "{}", said(&output));
        assert!(said(&output).contains(listener), "{}", said(&output));
    }
    assert_eq!(everything(&cloud), before, "nothing is changed");
    cloud.stop().await;
}
