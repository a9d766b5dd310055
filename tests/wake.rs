//! The whole wake: the shipped function under AWS's own runtime emulator, against moto's EC2, ELBv2 and DynamoDB.

mod support;

use serde_json::Value;
use support::aws::first;
use support::emulator::Emulator;
use support::events::{Ask, BROWSER, Form, POLL, header};
use support::succeed;
use support::world::{IDLE, Scene, Shape, Site, World, actions};

/// Asks as a page does until the route leads to the backend; every answer on the way.
///
/// moto keeps an instance's `LaunchTime` when it starts again, so for a minute after our own stop it still looks like the
/// machine that is being stopped, and no route leads there: hence the many polls.
fn wake(function: &Emulator, ask: &Ask<'_>) -> Vec<Value> {
    let mut answers = vec![function.invoke(&ask.event())];
    for _ in 0..180 {
        let poll = Ask {
            headers: &[POLL],
            ..ask.clone()
        };
        let answer = function.invoke(&poll.event());
        let awake = header(&answer, "x-autostopping-phase") == Some("awake");
        answers.push(answer);
        if awake {
            return answers;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    panic!("not awake after 180 polls: {:?}", answers.last());
}

#[test]
fn a_rule_comes_back_as_it_was_whatever_its_actions() {
    let scene = Scene::new();
    let shapes = [
        ("plain", Shape::Plain, Form::Single),
        ("sticky", Shape::WeightedSticky, Form::Multi),
        ("oidc", Shape::Oidc, Form::Single),
        ("cognito", Shape::Cognito, Form::Multi),
    ];
    std::thread::scope(|scope| {
        for (index, (name, shape, form)) in shapes.into_iter().enumerate() {
            let site = scene
                .world
                .site(&format!("{name}.example.com"), &(index + 1).to_string(), shape, &[IDLE]);
            let scene = &scene;
            scope.spawn(move || sleeps_and_comes_back(scene, name, &site, form));
        }
    });
}

fn sleeps_and_comes_back(scene: &Scene, name: &str, site: &Site, form: Form) {
    let world = &scene.world;
    let before = world.api.rule(&site.rule);
    let slept = succeed(&scene.environment, &["sleep", name]);
    assert!(slept.contains("asleep"), "{slept}");

    let asleep = world.api.rule(&site.rule);
    assert!(asleep.contains(&world.waker), "{name}: R leads to the waker: {asleep}");
    for authentication in ["authenticate-oidc", "authenticate-cognito"] {
        assert_eq!(
            asleep.contains(authentication),
            before.contains(authentication),
            "{name}: {asleep}"
        );
    }
    for instance in &site.instances {
        assert_eq!(world.api.power(instance), "stopped", "{name}");
    }
    assert_parked(world, &site.rule, &site.group);

    let function = Emulator::start(&scene.environment);
    let host = format!("{name}.example.com");
    let answers = wake(
        &function,
        &Ask {
            form,
            ..Ask::get(&world.waker, &host, &[BROWSER])
        },
    );
    let page = &answers[0];
    assert_eq!(page["statusCode"], 503, "{page}");
    assert_eq!(header(page, "content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(header(page, "cache-control"), Some("no-store"));
    assert!(header(page, "retry-after").is_some(), "{page}");
    assert_eq!(world.api.rule(&site.rule), before, "{name}: R is what it was");
    for instance in &site.instances {
        assert_eq!(world.api.power(instance), "running", "{name}");
    }
}

/// P is as the design says: once, unreachable, with R's target group, tagged with R's ARN, near the highest priority.
fn assert_parked(world: &World, rule: &str, group: &str) {
    let rules = world.api.elb("DescribeRules", &[("ListenerArn", &world.listener)]);
    let parked: Vec<_> = rules
        .split("<RuleArn>")
        .filter(|xml| xml.contains("parked.invalid") && xml.contains(group))
        .collect();
    let [xml] = parked[..] else {
        panic!("one P for {rule}: {rules}")
    };
    for expected in ["192.0.2.1/32", "X-Autostopping-Parked"] {
        assert!(xml.contains(expected), "{expected} in {xml}");
    }
    let arn = xml.split("</RuleArn>").next().expect("an ARN");
    let tags = world.api.elb("DescribeTags", &[("ResourceArns.member.1", arn)]);
    assert!(tags.contains("autostopping:parks") && tags.contains(rule), "{tags}");
    let priority: u32 = first(xml, "Priority").parse().expect("a number");
    assert!(priority > 49_900, "{priority}");
}

#[test]
fn a_rule_with_two_routes_flips_both() {
    let scene = Scene::new();
    let world = &scene.world;
    let site = world.site("shop.example.com", "1", Shape::Plain, &[IDLE]);
    let second = world.route(
        "api.example.com",
        "2",
        &actions(Shape::Plain, &site.group, None),
        &[IDLE],
    );
    let before = [world.api.rule(&site.rule), world.api.rule(&second)];
    scene.stop_by_hand(&site);
    succeed(&scene.environment, &["sleep", "shop"]);
    for route in [&site.rule, &second] {
        assert!(
            world.api.rule(route).contains(&world.waker),
            "{route} leads to the waker"
        );
    }
    let function = Emulator::start(&scene.environment);
    wake(&function, &Ask::get(&world.waker, "api.example.com", &[BROWSER]));
    assert_eq!([world.api.rule(&site.rule), world.api.rule(&second)], before);
}

/// Red when the wish to wake, or how far it came, is kept in the process: the second one then has nothing to go on.
#[test]
fn a_second_process_finishes_what_the_first_died_in() {
    let scene = Scene::new();
    let world = &scene.world;
    let site = world.site("app.example.com", "1", Shape::Plain, &[IDLE]);
    let before = world.api.rule(&site.rule);
    scene.stop_by_hand(&site);
    succeed(&scene.environment, &["sleep", "app"]);

    let first = Emulator::start(&scene.environment);
    let page = first.invoke(&Ask::get(&world.waker, "app.example.com", &[BROWSER]).event());
    assert_eq!(header(&page, "x-autostopping-phase"), Some("starting"), "{page}");
    first.kill();
    assert!(
        world.api.rule(&site.rule).contains(&world.waker),
        "the wake is half-done"
    );

    let second = Emulator::start(&scene.environment);
    // Polls alone: nobody asks for the site again.
    let poll = Ask::get(&world.waker, "app.example.com", &[POLL]);
    wake(&second, &poll);
    assert_eq!(world.api.rule(&site.rule), before);
    assert_eq!(world.api.power(&site.instances[0]), "running");
}

/// AWS's own sample of an event, in both header forms: a form POST wakes, and its sender is told that it was not sent.
#[test]
fn the_sample_event_of_aws_wakes() {
    let scene = Scene::new();
    let site = scene.asleep("app.example.com", "1", &[]);
    let function = Emulator::start(&scene.environment);
    let sample = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/sam"))
        .args(["local", "generate-event", "alb", "request"])
        .env("SAM_CLI_TELEMETRY", "0")
        .output()
        .expect("sam runs; `make tools` installs it");
    let mut single: Value = serde_json::from_slice(&sample.stdout).expect("JSON");
    single["requestContext"]["elb"]["targetGroupArn"] = scene.world.waker.clone().into();
    single["headers"]["host"] = "app.example.com".into();
    let mut multi = single.clone();
    for (one, many) in [
        ("headers", "multiValueHeaders"),
        ("queryStringParameters", "multiValueQueryStringParameters"),
    ] {
        let fields = multi
            .as_object_mut()
            .and_then(|event| event.remove(one))
            .expect("the sample has it");
        let fields = fields.as_object().expect("an object").iter();
        multi[many] = fields
            .map(|(key, value)| (key.clone(), Value::from(vec![value.clone()])))
            .collect();
    }
    for event in [single, multi] {
        let page = function.invoke(&event);
        assert_eq!(page["statusCode"], 503, "{page}");
        assert_eq!(header(&page, "content-type"), Some("text/html; charset=utf-8"));
        assert!(
            page["body"].as_str().is_some_and(|html| html.contains("not sent")),
            "{page}"
        );
    }
    assert_eq!(scene.world.api.power(&site.instances[0]), "running");
}
