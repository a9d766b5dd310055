//! What an operator does with a listener rule, by the real command line: create, adopt, release. Refusals change nothing,
//! what was interrupted is finished by running it again, and R is byte for byte what it was when all is over.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::time::Duration;

use local_support::operator::{
    SPARE, everything, made, managed, opened, printed, rule_of, runs, said, spare, tags_of, with_a_spare, words,
};
use local_support::story::{asleep, command, run, site};
use local_support::{HOST, control, until};
use proxymanager::local::Cloud;
use proxymanager::local::world::{HealthCheck, HealthState, NewRule, Rule, TargetKind};
use serde_json::{Value, json};

/// Seen red without the question, and with the claims on the machine left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_is_created_sleeps_wakes_and_is_released() {
    let cloud = with_a_spare().await;
    let instance = spare(&cloud);
    runs(&cloud, &instance).await;
    let line = format!("create --host {SPARE} --instance {instance} --port 80 --idle 1h");
    let words = words(&line);

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
    let parks = |other: &Rule| other.tags.get("autostopping:parks").is_some_and(|r| r == rule);
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
    let cloud = with_a_spare().await;
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

/// Seen red with what is parked for a rule that is gone left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_are_released_and_what_is_parked_for_nobody_too() {
    let cloud = with_a_spare().await;
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

/// Seen red with P as the only source of R's own action.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_parked_rule_a_rule_is_restored_from_the_ledger_or_not_touched() {
    let cloud = asleep(|_| {}).await;
    let rule = site(&cloud).rule.clone();
    let asleep = printed(&cloud, &rule).await;
    control(&cloud, "POST", "rules/site/delete-parked", "").await;
    let record = local_support::story::record(&cloud).expect("it was seeded");
    let table = |cloud: &Cloud, item: Value| {
        let item = item.as_object().expect("an item").clone();
        let mut world = cloud.shared.world();
        world
            .table("autostopping")
            .expect("it is there")
            .put(item)
            .expect("it fits");
    };
    let item = |body: &Value, version: u64| {
        json!({
            "pk": { "S": "rule#site" }, "sk": { "S": "record" }, "schema": { "N": "1" },
            "version": { "N": version.to_string() }, "body": { "S": body.to_string() },
        })
    };
    let mut without = record.clone();
    without["originals"] = json!({});
    table(&cloud, item(&without, 5));
    let before = everything(&cloud);
    let output = run(&cloud, &["release", "site", "--yes"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("neither in a parked rule nor in the ledger"),
        "{}",
        said(&output)
    );
    assert_eq!(everything(&cloud), before, "nothing is changed");
    table(&cloud, item(&record, 6));
    command(&cloud, &["release", "site", "--yes"]).await;
    assert_ne!(printed(&cloud, &rule).await, asleep);
    assert_eq!(local_support::story::action(&cloud), site(&cloud).action);
    cloud.stop().await;
}
