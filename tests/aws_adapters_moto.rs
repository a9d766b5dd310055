//! The AWS adapters against a real moto server: what they send and read is what AWS's API speaks.
#![cfg(feature = "aws")]

mod support;

use aws_sdk_elasticloadbalancingv2::types::{Action as SdkAction, Rule as SdkRule, Tag};
use proxymanager::compute::Compute;
use proxymanager::compute::ec2::Ec2;
use proxymanager::domain::fault::FaultKind;
use proxymanager::domain::policy::StopKind;
use proxymanager::domain::rule::{Action, GroupId, ResourceId, RouteId, final_action};
use proxymanager::domain::seen::{Parked, Power};
use proxymanager::domain::table::{ListenerRule, RouteTable, TAG_IDLE, TAG_PARKS};
use proxymanager::domain::time::Timestamp;
use proxymanager::gateway::Gateway;
use proxymanager::gateway::alb::Alb;
use support::{Moto, World, actions};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn alb(moto: &Moto, world: &World) -> Alb {
    let wakers = vec![GroupId(world.waker.clone())];
    Alb::new(&moto.clients(), world.listeners.to_vec(), wakers)
}

fn rule_of(table: &RouteTable, arn: &str) -> ListenerRule {
    table
        .find(&RouteId(arn.to_owned()))
        .expect("the rule is there")
        .1
        .clone()
}

/// Copies of R, as they are now.
fn copies(table: &RouteTable, arn: &str) -> Vec<ListenerRule> {
    let rules = table.listeners.iter().flat_map(|listener| &listener.rules);
    rules.filter(|rule| rule.parks() == Some(arn)).cloned().collect()
}

async fn raw(world: &World, arn: &str) -> SdkRule {
    let found = world.elbv2.describe_rules().rule_arns(arn).send().await.unwrap();
    found.rules()[0].clone()
}

#[tokio::test]
async fn reads_rules_tags_wakers_and_controllers() {
    let moto = Moto::start();
    let world = World::create(&moto).await;
    let alb = alb(&moto, &world);
    let low = world
        .rule(0, 20, "b.example.com", vec![actions::to(&world.groups[1])], &[])
        .await;
    let tags = [(TAG_IDLE, "15m"), ("autostopping:name", "site")];
    let high = world
        .rule(0, 10, "a.example.com", vec![actions::to(&world.groups[0])], &tags)
        .await;
    // More than one DescribeTags takes.
    for n in 0..25 {
        let host = format!("n{n}.example.com");
        world
            .rule(
                1,
                n + 1,
                &host,
                vec![actions::to(&world.groups[0])],
                &[(TAG_IDLE, "1h")],
            )
            .await;
    }

    let table = alb.read(NOW).await.unwrap();
    assert_eq!(table.read_at, NOW);
    let listeners: Vec<_> = table.listeners.iter().map(|l| (l.arn.clone(), l.port)).collect();
    assert_eq!(
        listeners,
        [(world.listeners[0].clone(), 80), (world.listeners[1].clone(), 8080)]
    );
    let rules = &table.listeners[0].rules;
    let priorities: Vec<_> = rules.iter().map(|rule| rule.priority).collect();
    assert_eq!(priorities, [Some(10), Some(20), None]);
    assert_eq!((&rules[0].arn.0, &rules[1].arn.0), (&high, &low));
    assert!(rules[0].is_managed() && !rules[1].is_managed());
    assert_eq!(rules[0].tags["autostopping:name"], "site");
    assert_eq!(rules[0].actions[0].groups(), [(GroupId(world.groups[0].clone()), 1)]);
    assert!(table.listeners[1].rules.iter().filter(|rule| rule.is_managed()).count() == 25);
    for listener in &table.listeners {
        assert_eq!(listener.load_balancer, world.load_balancer);
        assert_eq!(listener.waker, Some(GroupId(world.waker.clone())));
        assert_eq!(listener.controller, None);
    }

    let tag = Tag::builder().key("elbv2.k8s.aws/cluster").value("prod").build();
    world
        .elbv2
        .add_tags()
        .resource_arns(&world.load_balancer)
        .tags(tag)
        .send()
        .await
        .unwrap();
    let several = vec![GroupId(world.groups[1].clone()), GroupId(world.waker.clone())];
    let several = Alb::new(&moto.clients(), world.listeners.to_vec(), several);
    let table = several.read(NOW).await.unwrap();
    assert_eq!(table.listeners[1].controller.as_deref(), Some("prod"));
    // Both groups are this load balancer's: the first one counts.
    assert_eq!(table.listeners[0].waker, Some(GroupId(world.groups[1].clone())));

    let gone = Alb::new(&moto.clients(), vec![format!("{}0", world.listeners[0])], vec![]);
    assert_eq!(gone.read(NOW).await.unwrap_err().kind, FaultKind::NotFound);
    assert_eq!(
        Alb::new(&moto.clients(), vec![], vec![])
            .read(NOW)
            .await
            .unwrap()
            .listeners,
        []
    );
}

#[tokio::test]
async fn reads_the_health_of_groups() {
    let moto = Moto::start();
    let world = World::create(&moto).await;
    let alb = alb(&moto, &world);
    world
        .rule(
            0,
            10,
            "a.example.com",
            vec![actions::weighted_and_sticky(&world.groups)],
            &[],
        )
        .await;
    let asked = [
        (GroupId(world.groups[1].clone()), true),
        (GroupId(world.groups[0].clone()), false),
    ];
    for _ in 0..2 {
        let health = alb.health(&asked).await.unwrap();
        let brief: Vec<_> = health.iter().map(|group| (group.id.clone(), group.weighted)).collect();
        assert_eq!(brief, asked);
        assert!(health.iter().all(|group| group.target_type == "instance"));
        let targets: Vec<_> = health[1]
            .targets
            .iter()
            .map(|target| target.resource.0.clone())
            .collect();
        assert_eq!(targets, world.machines[..2]);
        assert!(
            health[1]
                .targets
                .iter()
                .all(|target| target.healthy && target.words.starts_with("healthy"))
        );
    }
    let gone = [(GroupId(format!("{}0", world.groups[0])), true)];
    assert_eq!(alb.health(&gone).await.unwrap_err().kind, FaultKind::NotFound);
}

#[tokio::test]
async fn parks_exactly_once() {
    let moto = Moto::start();
    let world = World::create(&moto).await;
    let alb = alb(&moto, &world);
    let arn = world
        .rule(
            0,
            10,
            "a.example.com",
            actions::behind_oidc(&world.groups[0]),
            &[(TAG_IDLE, "15m")],
        )
        .await;
    world
        .rule(0, 50_000, "last.example.com", vec![actions::to(&world.groups[1])], &[])
        .await;
    let route = RouteId(arn.clone());
    let before = alb.read(NOW).await.unwrap();
    let original = rule_of(&before, &arn).actions;

    // Twice with the same, older table: the second finds what the first made.
    alb.park(&before, &route, &original).await.unwrap();
    alb.park(&before, &route, &original).await.unwrap();
    let table = alb.read(NOW).await.unwrap();
    let [parked] = copies(&table, &arn).try_into().unwrap();
    assert_eq!(parked.priority, Some(49_999));
    assert_eq!(parked.tags.iter().collect::<Vec<_>>(), [(&TAG_PARKS.to_owned(), &arn)]);
    let mut fields: Vec<_> = parked
        .conditions
        .iter()
        .filter_map(|condition| condition.field.as_deref())
        .collect();
    fields.sort_unstable();
    assert_eq!(fields, ["host-header", "http-header", "source-ip"]);
    let shown = serde_json::to_string(&parked.conditions).unwrap();
    for part in ["parked.invalid", "192.0.2.1/32", "X-Autostopping-Parked"] {
        assert!(shown.contains(part), "{shown}");
    }
    // Only the final action, and no login.
    let [action] = <[Action; 1]>::try_from(parked.actions.clone()).unwrap();
    assert_eq!(action.groups(), final_action(&original).unwrap().groups());
    assert_eq!(rule_of(&table, &arn), rule_of(&before, &arn));

    // A second copy, as a lost answer leaves it, and a stray one on the other listener.
    for listener in 0..2 {
        world
            .rule(
                listener,
                77,
                "parked.invalid",
                vec![actions::to(&world.groups[0])],
                &[(TAG_PARKS, &arn)],
            )
            .await;
    }
    let table = alb.read(NOW).await.unwrap();
    assert!(matches!(table.parked(&route), Parked::Many(copies) if copies.len() == 3));
    alb.park(&table, &route, &original).await.unwrap();
    let table = alb.read(NOW).await.unwrap();
    assert_eq!(copies(&table, &arn), [parked.clone()]);

    // A different original: P follows, in place.
    let changed = rule_actions(&world, actions::weighted_and_sticky(&world.groups)).await;
    alb.park(&table, &route, &changed).await.unwrap();
    let table = alb.read(NOW).await.unwrap();
    let [refreshed] = copies(&table, &arn).try_into().unwrap();
    assert_eq!(
        (&refreshed.arn, &refreshed.conditions),
        (&parked.arn, &parked.conditions)
    );
    assert_eq!(refreshed.actions[0].forward_config, changed[0].forward_config);

    // Conditions that somebody changed, so that requests could meet them.
    let condition = aws_sdk_elasticloadbalancingv2::types::RuleCondition::builder();
    let condition = condition.field("host-header").values("open.example.com").build();
    world
        .elbv2
        .modify_rule()
        .rule_arn(&parked.arn.0)
        .conditions(condition)
        .send()
        .await
        .unwrap();
    let table = alb.read(NOW).await.unwrap();
    alb.park(&table, &route, &changed).await.unwrap();
    let table = alb.read(NOW).await.unwrap();
    let [closed] = copies(&table, &arn).try_into().unwrap();
    assert!(
        serde_json::to_string(&closed.conditions)
            .unwrap()
            .contains("parked.invalid")
    );

    // What leads to a waker is no backend.
    let waker = rule_actions(&world, actions::to(&world.waker)).await;
    let fault = alb.park(&table, &route, &waker).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Conflict);
    assert_eq!(copies(&alb.read(NOW).await.unwrap(), &arn), [closed]);
}

/// These actions as AWS prints them, by way of a rule.
async fn rule_actions(world: &World, action: SdkAction) -> Vec<Action> {
    let arn = world.rule(1, 999, "scratch.example.com", vec![action], &[]).await;
    let moto_sees = raw(world, &arn).await;
    world.elbv2.delete_rule().rule_arn(&arn).send().await.unwrap();
    let shown = moto_sees.actions().iter().map(|action| {
        let config = action.forward_config();
        serde_json::json!({
            "Type": "forward",
            "TargetGroupArn": action.target_group_arn(),
            "ForwardConfig": config.map(|config| serde_json::json!({
                "TargetGroups": config.target_groups().iter().map(|group| serde_json::json!({
                    "TargetGroupArn": group.target_group_arn(), "Weight": group.weight()})).collect::<Vec<_>>(),
                "TargetGroupStickinessConfig": config.target_group_stickiness_config().map(|sticky| serde_json::json!({
                    "Enabled": sticky.enabled(), "DurationSeconds": sticky.duration_seconds()})),
            })),
        })
    });
    shown.map(|action| serde_json::from_value(action).unwrap()).collect()
}

#[tokio::test]
async fn a_flip_there_and_back_changes_nothing() {
    let moto = Moto::start();
    let world = World::create(&moto).await;
    let alb = alb(&moto, &world);
    let all = [
        ("plain", vec![actions::to(&world.groups[0])]),
        ("weighted", vec![actions::weighted_and_sticky(&world.groups)]),
        ("oidc", actions::behind_oidc(&world.groups[0])),
        ("cognito", actions::behind_cognito(&world.groups[1])),
    ];
    for (place, (name, actions)) in (1..).zip(all) {
        let logins = actions.len() - 1;
        let host = format!("{name}.example.com");
        let arn = world.rule(0, place, &host, actions, &[(TAG_IDLE, "15m")]).await;
        let route = RouteId(arn.clone());
        let table = alb.read(NOW).await.unwrap();
        let (before, raw_before) = (rule_of(&table, &arn), raw(&world, &arn).await);

        alb.park(&table, &route, &before.actions).await.unwrap();
        for _ in 0..2 {
            alb.flip_to_waker(&table, &route, &before.actions).await.unwrap();
        }
        let asleep = rule_of(&alb.read(NOW).await.unwrap(), &arn);
        assert_eq!(asleep.actions[..logins], before.actions[..logins], "{name}");
        let waker = vec![(GroupId(world.waker.clone()), 1)];
        assert_eq!(final_action(&asleep.actions).unwrap().groups(), waker, "{name}");
        let untouched = |rule: &ListenerRule| (rule.priority, rule.conditions.clone(), rule.tags.clone());
        assert_eq!(untouched(&asleep), untouched(&before), "{name}");

        for _ in 0..2 {
            alb.flip_to_backend(&route, &before.actions).await.unwrap();
        }
        let awake = alb.read(NOW).await.unwrap();
        let after = rule_of(&awake, &arn);
        assert_eq!(
            serde_json::to_string_pretty(&after).unwrap(),
            serde_json::to_string_pretty(&before).unwrap(),
            "{name}"
        );
        if name == "oidc" {
            let sent = raw(&world, &arn).await.actions()[0]
                .authenticate_oidc_config
                .clone()
                .unwrap();
            assert_eq!(sent.use_existing_client_secret, Some(true));
            assert!(!serde_json::to_string(&awake).unwrap().contains("a-client-secret"));
        } else {
            assert_eq!(raw(&world, &arn).await, raw_before, "{name}");
        }
        assert_eq!(copies(&awake, &arn).len(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_flip_never_overwrites_what_somebody_changed() {
    let moto = Moto::start();
    let world = World::create(&moto).await;
    let alb = alb(&moto, &world);
    let arn = world
        .rule(
            0,
            1,
            "a.example.com",
            vec![actions::to(&world.groups[0])],
            &[(TAG_IDLE, "15m")],
        )
        .await;
    let route = RouteId(arn.clone());
    let table = alb.read(NOW).await.unwrap();
    let original = rule_of(&table, &arn).actions;
    let set = async |action: SdkAction| {
        world
            .elbv2
            .modify_rule()
            .rule_arn(&arn)
            .actions(action)
            .send()
            .await
            .unwrap();
        raw(&world, &arn).await
    };

    let theirs = set(actions::to(&world.groups[1])).await;
    let fault = alb.flip_to_waker(&table, &route, &original).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Conflict);
    let fault = alb.flip_to_backend(&route, &original).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Conflict);
    assert_eq!(raw(&world, &arn).await, theirs);

    // Other weights are somebody's doing too.
    let theirs = set(actions::weighted_and_sticky(&world.groups)).await;
    assert!(alb.flip_to_backend(&route, &original).await.is_err());
    assert_eq!(raw(&world, &arn).await, theirs);

    // To the waker and back to no backend at all.
    set(actions::to(&world.waker)).await;
    let asleep = rule_of(&alb.read(NOW).await.unwrap(), &arn).actions;
    for no_backend in [&asleep[..], &[]] {
        let fault = alb.flip_to_backend(&route, no_backend).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Conflict);
    }

    // A login added while the rule sleeps stays.
    let login = actions::behind_cognito(&world.waker);
    let call = world.elbv2.modify_rule().rule_arn(&arn).set_actions(Some(login));
    call.send().await.unwrap();
    alb.flip_to_backend(&route, &original).await.unwrap();
    let after = rule_of(&alb.read(NOW).await.unwrap(), &arn).actions;
    assert_eq!(after[0].kind, "authenticate-cognito");
    assert_eq!(final_action(&after).unwrap().groups(), original[0].groups());

    world.elbv2.delete_rule().rule_arn(&arn).send().await.unwrap();
    let fault = alb.flip_to_backend(&route, &original).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound);
    let fault = alb.flip_to_waker(&table, &route, &original).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound);
}

#[tokio::test]
async fn machines_stop_and_start() {
    let moto = Moto::start();
    let world = World::create(&moto).await;
    let ec2 = Ec2::new(&moto.clients());
    let ids: Vec<_> = world.machines.iter().map(|id| ResourceId(id.clone())).collect();
    let powers = async |ids: &[ResourceId]| -> Vec<Power> {
        ec2.describe(ids).await.unwrap().iter().map(|seen| seen.power).collect()
    };
    assert_eq!(powers(&ids).await, [Power::Running; 4]);
    ec2.start(&ids).await.unwrap();

    for kind in [StopKind::Stop, StopKind::Hibernate, StopKind::Stop] {
        ec2.stop(&ids[..2], kind).await.unwrap();
    }
    assert_eq!(
        powers(&ids).await,
        [Power::Stopped, Power::Stopped, Power::Running, Power::Running]
    );
    let seen = ec2.describe(&ids).await.unwrap();
    assert!(seen[0].changed_by_user.is_some(), "{:?}", seen[0]);
    assert_eq!(seen[0].fell_back, None);
    assert!(seen[0].launched.is_some());

    ec2.start(&ids).await.unwrap();
    ec2.start(&ids).await.unwrap();
    assert_eq!(powers(&ids).await, [Power::Running; 4]);

    // One that is gone keeps neither the others from starting nor from stopping.
    ec2.stop(&ids, StopKind::Stop).await.unwrap();
    let mut with_a_gone_one = ids.clone();
    with_a_gone_one.insert(1, ResourceId("i-0123456789abcdef0".to_owned()));
    let fault = ec2.start(&with_a_gone_one).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound);
    assert_eq!(powers(&with_a_gone_one).await[1], Power::Terminated);
    assert_eq!(powers(&ids).await, [Power::Running; 4]);
    let fault = ec2.stop(&with_a_gone_one, StopKind::Stop).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound);
    assert_eq!(powers(&ids).await, [Power::Stopped; 4]);
}
