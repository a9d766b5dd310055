//! The AWS adapters against a real moto server: what they send and read is what AWS's API speaks.
#![cfg(feature = "aws")]

mod support;

use std::collections::BTreeMap;

use proxymanager::activity::Metrics;
use proxymanager::activity::cloudwatch::CloudWatch;
use proxymanager::aws::Aws;
use proxymanager::clock::{Clock, SystemClock};
use proxymanager::compute::Compute;
use proxymanager::compute::ec2::Ec2;
use proxymanager::domain::activity::{Backend, GroupActivity, MINUTE, Question};
use proxymanager::domain::fault::FaultKind;
use proxymanager::domain::policy::StopKind;
use proxymanager::domain::rule::{Action, GroupId, ResourceId, RouteId, final_action};
use proxymanager::domain::seen::{Parked, Power};
use proxymanager::domain::table::{ListenerRule, RouteTable, TAG_PARKS};
use proxymanager::domain::time::Timestamp;
use proxymanager::gateway::Gateway;
use proxymanager::gateway::alb::Alb;
use support::aws::{Api, first};
use support::moto::Moto;
use support::world::{IDLE, Shape, World, actions};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A moto of its own with a small account in it.
struct Account {
    moto: Moto,
    world: World,
}

impl Account {
    fn new() -> Self {
        let moto = Moto::start();
        let world = World::new(Api { port: moto.port });
        Account { moto, world }
    }

    fn aws(&self) -> Aws {
        let environment: BTreeMap<_, _> = self.world.environment(self.moto.port, "unused").into_iter().collect();
        let environment: BTreeMap<&str, &str> = environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        Aws::from_environment(&environment).unwrap()
    }

    fn alb(&self) -> Alb {
        self.alb_with(vec![self.world.listener.clone()], &[&self.world.waker])
    }

    fn alb_with(&self, listeners: Vec<String>, wakers: &[&String]) -> Alb {
        let wakers = wakers.iter().map(|waker| GroupId((*waker).clone())).collect();
        Alb::new(self.aws().elb(), listeners, wakers)
    }

    /// A second listener whose default action is the waker.
    fn second_listener(&self) -> String {
        let made = self.world.api.elb(
            "CreateListener",
            &[
                ("LoadBalancerArn", &self.world.balancer),
                ("Protocol", "HTTP"),
                ("Port", "8080"),
                ("DefaultActions.member.1.Type", "forward"),
                ("DefaultActions.member.1.TargetGroupArn", &self.world.waker),
            ],
        );
        first(&made, "ListenerArn")
    }

    /// Sets R's actions, as somebody else does.
    fn set_actions(&self, rule: &str, actions: &[(String, String)]) {
        let mut parameters = vec![("RuleArn", rule)];
        parameters.extend(actions.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        self.world.api.elb("ModifyRule", &parameters);
    }
}

fn rule_of(table: &RouteTable, arn: &str) -> ListenerRule {
    table
        .find(&RouteId(arn.to_owned()))
        .expect("the rule is there")
        .1
        .clone()
}

fn copies(table: &RouteTable, arn: &str) -> Vec<ListenerRule> {
    let rules = table.listeners.iter().flat_map(|listener| &listener.rules);
    rules.filter(|rule| rule.parks() == Some(arn)).cloned().collect()
}

#[tokio::test]
async fn reads_rules_tags_wakers_and_controllers() {
    let account = Account::new();
    let world = &account.world;
    let second = account.second_listener();
    let site = world.site("b.example.com", "20", Shape::Plain, &[]);
    let to_site = actions(Shape::Plain, &site.group, None);
    let tags = [IDLE, ("autostopping:name", "site")];
    let high = world.route("a.example.com", "10", &to_site, &tags);
    // More than one DescribeTags takes.
    for n in 0..25 {
        let (host, priority) = (format!("n{n}.example.com"), (n + 100).to_string());
        world.route(&host, &priority, &to_site, &[IDLE]);
    }

    let table = account
        .alb_with(vec![second.clone(), world.listener.clone()], &[&world.waker])
        .read(NOW, None)
        .await
        .unwrap();
    assert_eq!(table.read_at, NOW);
    let listeners: Vec<_> = table.listeners.iter().map(|l| (l.arn.clone(), l.port)).collect();
    assert_eq!(listeners, [(second.clone(), 8080), (world.listener.clone(), 80)]);
    let rules = &table.listeners[1].rules;
    let priorities: Vec<_> = rules.iter().map(|rule| rule.priority).collect();
    assert_eq!(priorities[..3], [Some(10), Some(20), Some(100)]);
    assert_eq!(priorities.last(), Some(&None));
    assert_eq!((&rules[0].arn.0, &rules[1].arn.0), (&high, &site.rule));
    assert!(rules[0].is_managed() && !rules[1].is_managed());
    assert_eq!(rules[0].tags["autostopping:name"], "site");
    assert_eq!(rules[0].actions[0].groups(), [(GroupId(site.group.clone()), 1)]);
    assert_eq!(rules.iter().filter(|rule| rule.is_managed()).count(), 26);
    for listener in &table.listeners {
        assert_eq!(listener.load_balancer, world.balancer);
        assert_eq!(listener.waker, Some(GroupId(world.waker.clone())));
        assert_eq!(listener.controller, None);
    }

    world.api.elb(
        "AddTags",
        &[
            ("ResourceArns.member.1", &world.balancer),
            ("Tags.member.1.Key", "elbv2.k8s.aws/cluster"),
            ("Tags.member.1.Value", "prod"),
        ],
    );
    let unused = world.group("unused");
    let several = account.alb_with(vec![world.listener.clone()], &[&unused, &world.waker]);
    let table = several.read(NOW, None).await.unwrap();
    assert_eq!(table.listeners[0].controller.as_deref(), Some("prod"));
    assert_eq!(table.listeners[0].waker, Some(GroupId(world.waker.clone())));
    // A waker that a rule names only now is found without a restart.
    world.route("w.example.com", "30", &actions(Shape::Plain, &unused, None), &[]);
    let table = several.read(NOW, None).await.unwrap();
    assert_eq!(table.listeners[0].waker, Some(GroupId(unused)));

    let gone = account.alb_with(vec![format!("{}0", world.listener)], &[]);
    assert_eq!(gone.read(NOW, None).await.unwrap_err().kind, FaultKind::NotFound);
    let none = account.alb_with(vec![], &[]);
    assert_eq!(none.read(NOW, None).await.unwrap().listeners, []);
}

#[tokio::test]
async fn reads_the_health_of_groups() {
    let account = Account::new();
    let (one, two) = (
        account.world.site("one.example.com", "1", Shape::Plain, &[]),
        account.world.site("two.example.com", "2", Shape::Plain, &[]),
    );
    let alb = account.alb();
    let asked = [(GroupId(two.group.clone()), true), (GroupId(one.group.clone()), false)];
    for _ in 0..2 {
        let health = alb.health(&asked).await.unwrap();
        let brief: Vec<_> = health.iter().map(|group| (group.id.clone(), group.weighted)).collect();
        assert_eq!(brief, asked);
        assert!(health.iter().all(|group| group.target_type == "instance"));
        let [target] = &health[1].targets[..] else {
            panic!("one target");
        };
        assert_eq!(target.resource.0, one.instances[0]);
        assert!(target.healthy && target.words.starts_with("healthy"), "{target:?}");
    }
    let gone = [(GroupId(format!("{}0", one.group)), true)];
    assert_eq!(alb.health(&gone).await.unwrap_err().kind, FaultKind::NotFound);
}

#[tokio::test]
async fn parks_exactly_once() {
    let account = Account::new();
    let world = &account.world;
    let second = account.second_listener();
    let alb = account.alb_with(vec![world.listener.clone(), second.clone()], &[&world.waker]);
    let site = world.site("a.example.com", "10", Shape::Oidc, &[IDLE]);
    let to_site = actions(Shape::Plain, &site.group, None);
    world.route("last.example.com", "50000", &to_site, &[]);
    let route = RouteId(site.rule.clone());
    let before = alb.read(NOW, None).await.unwrap();
    let original = rule_of(&before, &site.rule).actions;

    // Twice with the same, older table: the second finds what the first made.
    alb.park(&before, &route, &original).await.unwrap();
    alb.park(&before, &route, &original).await.unwrap();
    let table = alb.read(NOW, None).await.unwrap();
    let [parked] = copies(&table, &site.rule).try_into().unwrap();
    assert_eq!(parked.priority, Some(49_999));
    assert_eq!(parked.tags, BTreeMap::from([(TAG_PARKS.to_owned(), site.rule.clone())]));
    let mut fields: Vec<_> = parked.conditions.iter().filter_map(|c| c.field.as_deref()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["host-header", "http-header", "source-ip"]);
    let shown = serde_json::to_string(&parked.conditions).unwrap();
    for part in ["parked.invalid", "192.0.2.1/32", "X-Autostopping-Parked"] {
        assert!(shown.contains(part), "{shown}");
    }
    // Only the final action, and no login.
    let [action] = <[Action; 1]>::try_from(parked.actions.clone()).unwrap();
    assert_eq!(action.groups(), final_action(&original).unwrap().groups());
    assert_eq!(rule_of(&table, &site.rule), rule_of(&before, &site.rule));

    // A second copy, as a lost answer leaves it, and a stray one on the other listener.
    let tag = [(TAG_PARKS, site.rule.as_str())];
    world.route("parked.invalid", "77", &to_site, &tag);
    world.api.elb(
        "CreateRule",
        &[
            ("ListenerArn", &second),
            ("Priority", "77"),
            ("Conditions.member.1.Field", "host-header"),
            ("Conditions.member.1.Values.member.1", "parked.invalid"),
            ("Actions.member.1.Type", "forward"),
            ("Actions.member.1.TargetGroupArn", &site.group),
            ("Tags.member.1.Key", TAG_PARKS),
            ("Tags.member.1.Value", &site.rule),
        ],
    );
    let table = alb.read(NOW, None).await.unwrap();
    assert!(matches!(table.parked(&route), Parked::Many(copies) if copies.len() == 3));
    alb.park(&table, &route, &original).await.unwrap();
    let table = alb.read(NOW, None).await.unwrap();
    assert_eq!(copies(&table, &site.rule), std::slice::from_ref(&parked));

    // A different original: P follows, in place.
    let weighted = world.site("weighted.example.com", "11", Shape::WeightedSticky, &[]);
    let changed = rule_of(&alb.read(NOW, None).await.unwrap(), &weighted.rule).actions;
    alb.park(&table, &route, &changed).await.unwrap();
    let table = alb.read(NOW, None).await.unwrap();
    let [refreshed] = copies(&table, &site.rule).try_into().unwrap();
    assert_eq!(
        (&refreshed.arn, &refreshed.conditions),
        (&parked.arn, &parked.conditions)
    );
    assert_eq!(refreshed.actions, changed);

    // Conditions that somebody changed, so that requests could meet them.
    world.api.elb(
        "ModifyRule",
        &[
            ("RuleArn", &parked.arn.0),
            ("Conditions.member.1.Field", "host-header"),
            (
                "Conditions.member.1.HostHeaderConfig.Values.member.1",
                "open.example.com",
            ),
        ],
    );
    let table = alb.read(NOW, None).await.unwrap();
    alb.park(&table, &route, &changed).await.unwrap();
    let table = alb.read(NOW, None).await.unwrap();
    let [closed] = copies(&table, &site.rule).try_into().unwrap();
    let shown = serde_json::to_string(&closed.conditions).unwrap();
    assert!(
        shown.contains("parked.invalid") && !shown.contains("open.example.com"),
        "{shown}"
    );

    // What leads to a waker is no backend.
    let waker = table.listeners[0].rules.last().unwrap().actions.clone();
    let fault = alb.park(&table, &route, &waker).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Conflict);
    assert_eq!(copies(&alb.read(NOW, None).await.unwrap(), &site.rule), [closed]);
}

#[tokio::test]
async fn a_flip_there_and_back_changes_nothing() {
    let account = Account::new();
    let (world, alb) = (&account.world, account.alb());
    let shapes = [Shape::Plain, Shape::WeightedSticky, Shape::Oidc, Shape::Cognito];
    for (shape, place) in shapes.into_iter().zip(1..) {
        let host = format!("h{place}.example.com");
        let site = world.site(&host, &place.to_string(), shape, &[IDLE]);
        let route = RouteId(site.rule.clone());
        let table = alb.read(NOW, None).await.unwrap();
        let (before, raw_before) = (rule_of(&table, &site.rule), world.api.rule(&site.rule));
        let logins = before.actions.len() - 1;

        alb.park(&table, &route, &before.actions).await.unwrap();
        for _ in 0..2 {
            alb.flip_to_waker(&table, &route, &before.actions).await.unwrap();
        }
        let asleep = rule_of(&alb.read(NOW, None).await.unwrap(), &site.rule);
        assert_eq!(asleep.actions[..logins], before.actions[..logins], "{shape:?}");
        let waker = vec![(GroupId(world.waker.clone()), 1)];
        assert_eq!(final_action(&asleep.actions).unwrap().groups(), waker, "{shape:?}");
        let untouched = |rule: &ListenerRule| (rule.priority, rule.conditions.clone(), rule.tags.clone());
        assert_eq!(untouched(&asleep), untouched(&before), "{shape:?}");

        for _ in 0..2 {
            alb.flip_to_backend(&route, &before.actions).await.unwrap();
        }
        let awake = alb.read(NOW, None).await.unwrap();
        let json = |rule: &ListenerRule| serde_json::to_string_pretty(rule).unwrap();
        assert_eq!(json(&rule_of(&awake, &site.rule)), json(&before), "{shape:?}");
        assert_eq!(world.api.rule(&site.rule), raw_before, "{shape:?}");
        assert_eq!(copies(&awake, &site.rule).len(), 1, "{shape:?}");
        if shape == Shape::Oidc {
            let sent = world.api.elb("DescribeRules", &[("RuleArns.member.1", &site.rule)]);
            assert!(sent.contains("<UseExistingClientSecret>true"), "{sent}");
            assert!(!serde_json::to_string(&awake).unwrap().contains("Secret"));
        }
    }
}

#[tokio::test]
async fn a_flip_never_overwrites_what_somebody_changed() {
    let account = Account::new();
    let (world, alb) = (&account.world, account.alb());
    let site = world.site("a.example.com", "1", Shape::Plain, &[IDLE]);
    let other = world.site("b.example.com", "2", Shape::Plain, &[]);
    let route = RouteId(site.rule.clone());
    let table = alb.read(NOW, None).await.unwrap();
    let original = rule_of(&table, &site.rule).actions;

    // Another group, other weights, a mixture with the waker.
    for (shape, one, two) in [
        (Shape::Plain, &other.group, None),
        (Shape::WeightedSticky, &site.group, Some(other.group.as_str())),
        (Shape::WeightedSticky, &site.group, Some(world.waker.as_str())),
    ] {
        account.set_actions(&site.rule, &actions(shape, one, two));
        let theirs = world.api.rule(&site.rule);
        let fault = alb.flip_to_waker(&table, &route, &original).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Conflict);
        let fault = alb.flip_to_backend(&route, &original).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Conflict);
        assert_eq!(world.api.rule(&site.rule), theirs);
    }

    // From the waker to no backend at all.
    account.set_actions(&site.rule, &actions(Shape::Plain, &world.waker, None));
    let asleep = rule_of(&alb.read(NOW, None).await.unwrap(), &site.rule).actions;
    for no_backend in [&asleep[..], &[]] {
        let fault = alb.flip_to_backend(&route, no_backend).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Conflict);
    }

    // A login added while the rule sleeps stays.
    account.set_actions(&site.rule, &actions(Shape::Cognito, &world.waker, None));
    alb.flip_to_backend(&route, &original).await.unwrap();
    let after = rule_of(&alb.read(NOW, None).await.unwrap(), &site.rule).actions;
    assert_eq!(after[0].kind, "authenticate-cognito");
    assert_eq!(final_action(&after).unwrap().groups(), original[0].groups());

    world.api.elb("DeleteRule", &[("RuleArn", &site.rule)]);
    let fault = alb.flip_to_backend(&route, &original).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound);
    let fault = alb.flip_to_waker(&table, &route, &original).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound);
}

#[tokio::test]
async fn machines_stop_and_start() {
    let account = Account::new();
    let ec2 = Ec2::new(account.aws().ec2());
    let group = account.world.group("site");
    let ids: Vec<_> = (0..3).map(|_| ResourceId(account.world.instance(&group))).collect();
    let powers = async |ids: &[ResourceId]| -> Vec<Power> {
        ec2.describe(ids).await.unwrap().iter().map(|seen| seen.power).collect()
    };
    assert_eq!(powers(&ids).await, [Power::Running; 3]);
    ec2.start(&ids).await.unwrap();

    for kind in [StopKind::Stop, StopKind::Hibernate, StopKind::Stop] {
        ec2.stop(&ids[..2], kind).await.unwrap();
    }
    assert_eq!(powers(&ids).await, [Power::Stopped, Power::Stopped, Power::Running]);
    let seen = ec2.describe(&ids).await.unwrap();
    assert!(seen[0].changed_by_user.is_some(), "{:?}", seen[0]);
    assert_eq!(seen[0].fell_back, None);
    assert!(seen[0].launched.is_some());

    ec2.start(&ids).await.unwrap();
    ec2.start(&ids).await.unwrap();
    assert_eq!(powers(&ids).await, [Power::Running; 3]);

    // One that is gone keeps the others neither from stopping nor from starting; nothing of it is left to stop.
    let mut with_a_gone_one = ids.clone();
    with_a_gone_one.insert(1, ResourceId("i-0123456789abcdef0".to_owned()));
    assert_eq!(powers(&with_a_gone_one).await[1], Power::Terminated);
    ec2.stop(&with_a_gone_one, StopKind::Stop).await.unwrap();
    assert_eq!(powers(&ids).await, [Power::Stopped; 3]);
    let fault = ec2.start(&with_a_gone_one).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound);
    assert_eq!(powers(&ids).await, [Power::Running; 3]);
}

#[tokio::test]
async fn requests_and_healthy_hosts_are_counted_by_the_minute() {
    let account = Account::new();
    let site = account.world.site("a.example.com", "10", Shape::Plain, &[]);
    let group = site.group.rsplit(':').next().unwrap();
    let balancer = account.world.balancer.split_once(":loadbalancer/").unwrap().1;
    // Within the days that CloudWatch keeps minutes.
    let begin = Timestamp::from_second(SystemClock.now().as_second() / 300 * 300 - 3600).unwrap();
    let minute = |n: i64| Timestamp::from_second(begin.as_second() + 60 * n).unwrap();
    for (metric, at, value) in [
        ("RequestCount", 1, "2"),
        ("RequestCount", 1, "3"),
        ("HealthyHostCount", 0, "1"),
        ("HealthyHostCount", 1, "0"),
        ("HealthyHostCount", 2, "1"),
        // Not asked for any more.
        ("RequestCount", 3, "7"),
    ] {
        let parameters = [
            ("Namespace", "AWS/ApplicationELB"),
            ("MetricData.member.1.MetricName", metric),
            ("MetricData.member.1.Value", value),
            ("MetricData.member.1.Timestamp", &minute(at).to_string()),
            ("MetricData.member.1.Dimensions.member.1.Name", "TargetGroup"),
            ("MetricData.member.1.Dimensions.member.1.Value", group),
            ("MetricData.member.1.Dimensions.member.2.Name", "LoadBalancer"),
            ("MetricData.member.1.Dimensions.member.2.Value", balancer),
        ];
        account.world.api.call("monitoring", "PutMetricData", &parameters);
    }
    let group = GroupId(site.group.clone());
    let question = Question {
        groups: vec![Backend {
            group: group.clone(),
            load_balancer: account.world.balancer.clone(),
        }],
        machines: Vec::new(),
        network: true,
        cpu: true,
        period: MINUTE,
        from: minute(0),
        until: minute(3),
    };
    let answers = CloudWatch::new(account.aws().get_metric_data()).read(&[question]).await;
    let expected = GroupActivity {
        requests: [(minute(1), 5)].into(),
        alive: (0..3).map(minute).collect(),
    };
    assert_eq!(answers[0].as_ref().unwrap().groups, [(group, expected)].into());
}
