//! What the world promises, on virtual time.

use serde_json::json;

use super::*;

fn start() -> Timestamp {
    "2026-01-01T10:00:00Z".parse().unwrap()
}

fn second(after: i64) -> Timestamp {
    start() + Duration::from_secs(after as u64)
}

/// A world with one site behind one rule: instance, group, listener, rule.
struct Site {
    world: World,
    instance: String,
    group: String,
    waker: String,
    listener: String,
    rule: String,
}

fn forward(group: &str) -> Value {
    json!({ "Type": "forward", "TargetGroupArn": group })
}

fn host(host: &str) -> Vec<Value> {
    vec![json!({ "Field": "host-header", "HostHeaderConfig": { "Values": [host] } })]
}

fn site() -> Site {
    let mut world = World::new(Settings::default());
    let instance = world.add_instance(start(), "site", Duration::from_secs(8));
    let check = HealthCheck {
        interval: Duration::from_secs(5),
        healthy: 2,
        unhealthy: 3,
        ..HealthCheck::default()
    };
    let group = world
        .create_target_group("site", TargetKind::Instance, "HTTP", 80, check)
        .unwrap();
    let off = HealthCheck {
        enabled: false,
        ..HealthCheck::default()
    };
    let waker = world
        .create_target_group("waker", TargetKind::Lambda, "", 0, off)
        .unwrap();
    world
        .enrol(start(), &waker, &[("arn:function".to_owned(), None)])
        .unwrap();
    world.enrol(start(), &group, &[(instance.clone(), None)]).unwrap();
    let balancer = world.add_balancer(start(), "local");
    let listener = world
        .add_listener(start(), &balancer, 80, vec![forward(&waker)])
        .unwrap();
    let new = NewRule {
        priority: 10,
        conditions: host("a.test"),
        actions: vec![forward(&group)],
        ..NewRule::default()
    };
    let rule = world.create_rule(start(), &listener, new).unwrap();
    world.advance(start());
    Site {
        world,
        instance,
        group,
        waker,
        listener,
        rule,
    }
}

impl Site {
    fn health(&self) -> (&'static str, &'static str) {
        let health = &self.world.target_group(&self.group).unwrap().targets[0].health;
        (health.state.word(), health.reason)
    }

    fn power(&self) -> &'static str {
        self.world.instance(&self.instance).unwrap().life().power.name().0
    }

    fn ids(&self) -> Vec<String> {
        vec![self.instance.clone()]
    }

    /// Runs until `end`, every due check ending with `outcome`.
    fn run(&mut self, from: i64, end: i64, outcome: Outcome) {
        for at in from..=end {
            self.world.advance(second(at));
            for probe in self.world.due_probes(second(at)) {
                self.world.probed(&probe, outcome);
            }
        }
    }
}

#[test]
fn an_instance_boots_serves_and_stops_with_awss_words() {
    let mut site = site();
    assert_eq!(site.power(), "stopped");
    let changes = site.world.start_instances(second(0), &site.ids()).unwrap();
    assert_eq!(
        (changes[0].1.name(), changes[0].2.name()),
        (("stopped", 80), ("pending", 0))
    );
    let stopping = site.world.stop_instances(second(1), &site.ids(), false).unwrap_err();
    assert_eq!(stopping.code, "IncorrectInstanceState");
    let again = site.world.start_instances(second(1), &site.ids()).unwrap();
    assert_eq!(
        again[0].2.name().0,
        "pending",
        "a start of a pending instance is a no-op"
    );
    assert_eq!(
        site.world.advance(second(7)),
        [Effect::Changed(site.instance.clone(), "pending")]
    );
    let effects = site.world.advance(second(8));
    let id = site.instance.clone();
    assert_eq!(
        effects,
        [Effect::Launch(id.clone()), Effect::Changed(id.clone(), "running")]
    );
    assert_eq!(site.world.instance(&id).unwrap().life().launched, second(0));

    site.world.stop_instances(second(20), &site.ids(), false).unwrap();
    assert_eq!(site.power(), "stopping");
    assert_eq!(
        site.world.start_instances(second(21), &site.ids()).unwrap_err().code,
        "IncorrectInstanceState"
    );
    let effects = site.world.advance(second(23));
    assert!(effects.contains(&Effect::Stopped(id.clone())), "{effects:?}");
    let life = site.world.instance(&id).unwrap().life();
    assert_eq!(life.transition, "User initiated (2026-01-01 10:00:20 GMT)");
    let (code, message) = life.reason.clone().unwrap();
    assert_eq!(code, "Client.UserInitiatedShutdown");
    assert_eq!(message, "Client.UserInitiatedShutdown: User initiated shutdown");
    assert_eq!(site.world.instance(&id).unwrap().starts, 1);
}

#[test]
fn one_unknown_id_fails_a_whole_batch() {
    let mut site = site();
    let ids = [site.instance.clone(), "i-unknown".to_owned()];
    assert_eq!(
        site.world.start_instances(second(0), &ids).unwrap_err().code,
        "InvalidInstanceID.NotFound"
    );
    assert_eq!(site.power(), "stopped");
}

#[test]
fn a_start_without_capacity_is_refused_and_one_that_falls_back_says_why() {
    let mut site = site();
    site.world.faults.no_capacity = true;
    let failure = site.world.start_instances(second(0), &site.ids()).unwrap_err();
    assert_eq!(
        (failure.status, failure.code.as_str()),
        (500, "InsufficientInstanceCapacity")
    );
    assert_eq!(site.power(), "stopped");
    site.world.faults = Faults {
        falls_back: true,
        ..Faults::default()
    };
    site.world.start_instances(second(10), &site.ids()).unwrap();
    site.world.advance(second(12));
    assert_eq!(site.power(), "pending");
    let effects = site.world.advance(second(30));
    assert_eq!(
        effects,
        [Effect::Changed(site.instance.clone(), "stopped")],
        "its program never ran"
    );
    let life = site.world.instance(&site.instance).unwrap().life().clone();
    assert_eq!(life.reason.unwrap().0, "Client.InternalError");
    site.world.faults = Faults::default();
    site.world.start_instances(second(40), &site.ids()).unwrap();
    site.world.advance(second(48));
    assert_eq!(site.power(), "running");
}

#[test]
fn health_takes_the_thresholds_and_follows_the_rule_and_the_instance() {
    let mut site = site();
    assert_eq!(site.health(), ("unused", "Target.InvalidState"));
    site.world.start_instances(second(0), &site.ids()).unwrap();
    site.run(1, 8, Outcome::Failed);
    assert_eq!(site.health().0, "initial");
    site.run(9, 13, Outcome::Status(200));
    assert_eq!(site.health().0, "initial", "one success is not two");
    site.run(14, 18, Outcome::Status(200));
    assert_eq!(site.health(), ("healthy", ""));
    site.run(19, 28, Outcome::Status(500));
    assert_eq!(site.health().0, "healthy", "two failures are not three");
    site.run(29, 33, Outcome::Status(500));
    assert_eq!(site.health(), ("unhealthy", "Target.ResponseCodeMismatch"));
    site.run(34, 43, Outcome::Status(200));
    assert_eq!(site.health().0, "healthy");

    // The rule moves to the waker and nothing names the group any more.
    let to_waker = vec![forward(&site.waker)];
    site.world
        .modify_rule(second(44), &site.rule, None, Some(to_waker), None)
        .unwrap();
    assert_eq!(site.health(), ("unused", "Target.NotInUse"));
    let parked = NewRule {
        priority: 50_000,
        conditions: host("parked.invalid"),
        actions: vec![forward(&site.group)],
        ..NewRule::default()
    };
    site.world.create_rule(second(45), &site.listener, parked).unwrap();
    assert_eq!(site.health().0, "initial", "a parked rule keeps the health visible");
    site.world.stop_instances(second(46), &site.ids(), false).unwrap();
    assert_eq!(site.health(), ("unused", "Target.InvalidState"));
    assert_eq!(site.world.due_probes(second(60)), []);
}

#[test]
fn a_check_that_ends_after_the_stop_says_nothing() {
    let mut site = site();
    site.world.start_instances(second(0), &site.ids()).unwrap();
    site.world.advance(second(8));
    let probes = site.world.due_probes(second(8));
    assert_eq!(probes.len(), 1);
    assert_eq!(site.world.due_probes(second(8)), [], "each check is handed out once");
    site.world.stop_instances(second(9), &site.ids(), false).unwrap();
    site.world.probed(&probes[0], Outcome::Status(200));
    assert_eq!(site.health(), ("unused", "Target.InvalidState"));
}

#[test]
fn deregistered_targets_drain_and_go_and_a_stopped_instance_cannot_be_registered() {
    let mut site = site();
    let target = [(site.instance.clone(), None)];
    site.world.deregister_targets(second(0), &site.group, &target).unwrap();
    assert_eq!(site.health(), ("draining", "Target.DeregistrationInProgress"));
    site.world.advance(second(299));
    assert_eq!(site.world.target_group(&site.group).unwrap().targets.len(), 1);
    site.world.advance(second(300));
    assert_eq!(site.world.target_group(&site.group).unwrap().targets.len(), 0);
    let refused = site
        .world
        .register_targets(second(301), &site.group, &target)
        .unwrap_err();
    assert_eq!(refused.code, "InvalidTarget");
}

#[test]
fn rules_keep_awss_quotas_and_errors() {
    let mut site = site();
    let new = |priority| NewRule {
        priority,
        conditions: host("b.test"),
        actions: vec![json!({ "Type": "fixed-response", "FixedResponseConfig": { "StatusCode": "200" } })],
        ..NewRule::default()
    };
    let mut codes = Vec::new();
    for priority in [10, 0, 50_001] {
        codes.push(
            site.world
                .create_rule(start(), &site.listener, new(priority))
                .unwrap_err()
                .code,
        );
    }
    assert_eq!(codes, ["PriorityInUse", "ValidationError", "ValidationError"]);
    for priority in 101..200 {
        site.world.create_rule(start(), &site.listener, new(priority)).unwrap();
    }
    assert_eq!(
        site.world
            .create_rule(start(), &site.listener, new(200))
            .unwrap_err()
            .code,
        "TooManyRules"
    );
    let gone = forward("arn:gone");
    let unknown = site
        .world
        .modify_rule(start(), &site.rule, None, Some(vec![gone]), None)
        .unwrap_err();
    assert_eq!(unknown.code, "TargetGroupNotFound");
    assert_eq!(
        site.world.delete_rule(start(), "arn:gone").unwrap_err().code,
        "RuleNotFound"
    );
    let default = site.world.rules()[0].arn.clone();
    assert_eq!(
        site.world.delete_rule(start(), &default).unwrap_err().code,
        "OperationNotPermitted"
    );
    let six = json!({ "Field": "host-header", "HostHeaderConfig": { "Values": ["1", "2", "3", "4", "5", "6"] } });
    let many = site
        .world
        .modify_rule(start(), &site.rule, Some(vec![six]), None, None)
        .unwrap_err();
    assert_eq!(many.code, "ValidationError");
}

#[test]
fn modify_replaces_lists_given_and_keeps_the_others_and_oidc_needs_its_secret_or_the_word() {
    let mut site = site();
    let oidc = |extra: Value| {
        let mut config = json!({ "Issuer": "https://id", "ClientId": "c" });
        config
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        json!({ "Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": config })
    };
    let backend = json!({ "Type": "forward", "Order": 2, "TargetGroupArn": site.group });
    let set = |site: &mut Site, first: Value, last: &Value| {
        site.world
            .modify_rule(start(), &site.rule.clone(), None, Some(vec![first, last.clone()]), None)
    };
    let refused = set(&mut site, oidc(json!({})), &backend).unwrap_err();
    assert_eq!(refused.code, "InvalidLoadBalancerAction");
    let view = set(&mut site, oidc(json!({ "ClientSecret": "s" })), &backend).unwrap();
    assert_eq!(
        view.actions[0]["AuthenticateOidcConfig"],
        json!({ "Issuer": "https://id", "ClientId": "c" })
    );
    assert_eq!(view.conditions[0]["Values"], json!(["a.test"]), "conditions stay");
    let waker = json!({ "Type": "forward", "Order": 2, "TargetGroupArn": site.waker });
    let kept = set(&mut site, oidc(json!({ "UseExistingClientSecret": true })), &waker).unwrap();
    assert_eq!(kept.actions[0], view.actions[0]);
    // The order of actions is by `Order`, and an authenticate action cannot be the last.
    let only = site.world.modify_rule(
        start(),
        &site.rule,
        None,
        Some(vec![oidc(json!({ "ClientSecret": "s" }))]),
        None,
    );
    assert_eq!(only.unwrap_err().code, "InvalidLoadBalancerAction");
}

#[test]
fn while_a_flip_propagates_both_sides_are_live_and_then_only_the_new_one() {
    let mut site = site();
    site.world.faults.propagation_ms = 20_000;
    let to_waker = vec![forward(&site.waker)];
    site.world
        .modify_rule(second(0), &site.rule, None, Some(to_waker), None)
        .unwrap();
    let seen = |site: &mut Site, at: i64| {
        let mut groups = std::collections::BTreeSet::new();
        for _ in 0..64 {
            let routed = site.world.route(second(at), &site.listener.clone(), |_| true).unwrap();
            groups.insert(site.world.choose_group(&routed.action).unwrap());
        }
        groups.len()
    };
    assert_eq!(seen(&mut site, 19), 2);
    assert_eq!(seen(&mut site, 20), 1);
}

#[test]
fn a_stale_describe_shows_the_past_and_never_an_older_one_than_it_may() {
    let mut site = site();
    site.world.start_instances(second(100), &site.ids()).unwrap();
    site.world.faults.stale_ms = 10_000;
    let mut seen = |at: i64| {
        let mut names = std::collections::BTreeSet::new();
        for _ in 0..64 {
            let found = site.world.describe_instances(second(at), &[]).unwrap();
            names.insert(found[0].1.power.name().0);
        }
        names.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(seen(105), ["pending", "stopped"]);
    assert_eq!(seen(111), ["pending"]);
}

#[test]
fn weights_share_and_weight_zero_gets_nothing() {
    let mut site = site();
    let action = |backend: u64, waker: u64| {
        json!({ "Type": "forward", "ForwardConfig": { "TargetGroups": [
            { "TargetGroupArn": site.group, "Weight": backend }, { "TargetGroupArn": site.waker, "Weight": waker } ] } })
    };
    let (three_to_one, none, zero) = (action(3, 1), action(0, 0), action(0, 1));
    let hits = (0..4_000)
        .filter(|_| site.world.choose_group(&three_to_one).unwrap() == site.group)
        .count();
    assert!(
        (2_800..3_200).contains(&hits),
        "{hits} of 4000 went to the group of weight 3 of 4"
    );
    assert_eq!(site.world.choose_group(&none), None);
    assert!((0..100).all(|_| site.world.choose_group(&zero).as_ref() == Some(&site.waker)));
}

#[test]
fn only_unhealthy_targets_are_asked_when_there_is_no_healthy_one_and_initial_ones_never() {
    let mut site = site();
    let nobody = Pick::Nobody {
        group: site.group.clone(),
    };
    assert_eq!(
        site.world.choose_target(second(0), &site.group.clone()),
        Some(nobody.clone())
    );
    site.world.start_instances(second(0), &site.ids()).unwrap();
    site.run(1, 8, Outcome::Failed);
    assert_eq!(site.world.choose_target(second(8), &site.group.clone()), Some(nobody));
    site.run(9, 30, Outcome::TimedOut);
    assert_eq!(site.health(), ("unhealthy", "Target.Timeout"));
    let open = Pick::Instance {
        group: site.group.clone(),
        id: site.instance.clone(),
        port: 80,
    };
    assert_eq!(site.world.choose_target(second(30), &site.group.clone()), Some(open));
    let requests = site.world.metrics.requests_of(&site.group);
    assert_eq!(
        requests,
        [(start().as_second(), 1)],
        "what finds no target is not counted"
    );
}

#[test]
fn items_expire_two_days_late_as_on_aws() {
    let mut world = World::new(Settings::default());
    world.add_table("t", true);
    let expires = start().as_second().to_string();
    let item = json!({ "pk": { "S": "a" }, "sk": { "S": "b" }, "expires": { "N": expires } });
    world
        .table("t")
        .unwrap()
        .put(item.as_object().unwrap().clone())
        .unwrap();
    world.advance(second(60));
    assert_eq!(world.table("t").unwrap().items().len(), 1);
    world.advance(second(48 * 3600));
    assert_eq!(world.table("t").unwrap().items().len(), 0);
}

#[test]
fn one_seed_is_one_run() {
    let drawn = |seed: u64| {
        let mut world = World::new(Settings {
            seed,
            ..Settings::default()
        });
        world.faults.lost_response = 0.5;
        (0..32)
            .map(|_| world.draw_mishap("StartInstances", true).0)
            .collect::<Vec<_>>()
    };
    assert_eq!(drawn(7), drawn(7));
    assert_ne!(drawn(7), drawn(8));
}
