//! Whatever comes in, a well-formed answer goes out, and one bad rule harms no other.

mod support;

use serde_json::{Value, json};
use support::emulator::Emulator;
use support::events::{Ask, BROWSER, body, header};
use support::world::{IDLE, Scene, Shape, actions};
use support::{proxymanager, succeed};

/// As ALB checks it: what is malformed becomes a 502 for the visitor.
fn assert_well_formed(answer: &Value) {
    assert!(
        answer["statusCode"].is_u64() && answer["body"].is_string() && answer["statusDescription"].is_string(),
        "{answer}"
    );
    assert!(answer["isBase64Encoded"].is_boolean(), "{answer}");
    let headers = answer
        .get("headers")
        .or(answer.get("multiValueHeaders"))
        .and_then(Value::as_object)
        .expect("headers");
    for (name, value) in headers {
        let texts = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        assert!(
            texts
                .iter()
                .all(|text| text.as_str().is_some_and(|t| t.bytes().all(|b| (32..127).contains(&b)))),
            "{name}: {value}"
        );
    }
    assert!(answer.to_string().len() < 1_000_000);
}

#[test]
fn odd_events_get_an_answer_and_wake_nothing() {
    let scene = Scene::new();
    let site = scene.asleep("app.example.com", "1", &[]);
    let waker = &scene.world.waker;
    let function = Emulator::start(&scene.environment);
    let elb = json!({"elb": {"targetGroupArn": waker}});
    let event = |rest: Value| {
        let mut event = json!({"requestContext": elb, "httpMethod": "GET", "path": "/"});
        event
            .as_object_mut()
            .expect("an object")
            .extend(rest.as_object().expect("an object").clone());
        event
    };
    let odd = [
        ("no host", event(json!({"headers": {}}))),
        ("no headers at all", event(json!({}))),
        (
            "null fields",
            event(json!({"headers": null, "queryStringParameters": null, "body": null, "path": null})),
        ),
        (
            "bad header names",
            event(json!({"headers": {"host": "x", "bad name\u{1}": "a\u{0}b", "": "empty"}})),
        ),
        (
            "control characters in the host",
            event(json!({"headers": {"host": "a\r\nSet-Cookie: x=1", "accept": "text/html"}})),
        ),
        (
            "odd paths",
            event(json!({"path": "\u{0}//\\..%00<script>", "headers": {"host": "<b>", "accept": "text/html"}})),
        ),
        (
            "numbers for text",
            event(json!({"httpMethod": 7, "path": [], "headers": {"host": 1}})),
        ),
        (
            "one MB of body",
            event(json!({"httpMethod": "POST", "headers": {"host": "y"}, "body": "x".repeat(1 << 20)})),
        ),
        (
            "lists and maps for text, text for maps",
            event(
                json!({"headers": {"host": ["x"], "accept": {"a": []}}, "multiValueQueryStringParameters": "q",
                "httpMethod": {}, "body": [], "isBase64Encoded": "no"}),
            ),
        ),
        (
            "text for headers",
            event(json!({"headers": "text/html", "multiValueHeaders": []})),
        ),
        (
            "64 KB of headers",
            event(
                json!({"headers": (0..640).map(|n| (format!("x-{n}"), json!("y".repeat(100))))
                .chain([("host".to_owned(), json!("\u{202e}<b>\"'".repeat(1000))), ("accept".to_owned(), json!("text/html"))])
                .collect::<serde_json::Map<_, _>>()}),
            ),
        ),
        (
            "malformed everything",
            event(
                json!({"path": "/%zz%00?\"<b>", "isBase64Encoded": true, "body": "no base64 \u{0}",
                "headers": {"host": "::%zz", "accept": ",;q=;text/html;;q=9e9", "accept-language": "-,*;q=x,\u{1f600}",
                    "origin": "https://a\r\nSet-Cookie: x", "x-forwarded-for": "<b>", "x-amzn-trace-id": "\"<b>"}}),
            ),
        ),
        (
            "another host",
            Ask::get(waker, "unknown.example.com", &[BROWSER]).event(),
        ),
        (
            "another waker",
            Ask::get("arn:other", "app.example.com", &[BROWSER]).event(),
        ),
    ];
    for (what, event) in odd {
        let answer = function.invoke(&event);
        assert_well_formed(&answer);
        assert_eq!(answer["statusCode"], 404, "{what}: {answer}");
        let text = answer["body"].as_str().expect("checked");
        assert!(!text.contains("<script>") && !text.contains("<b>"), "{what}: {text}");
    }
    assert_eq!(scene.world.api.power(&site.instances[0]), "stopped");
}

#[test]
fn what_is_not_somebody_wakes_nothing() {
    let scene = Scene::new();
    let site = scene.asleep("app.example.com", "1", &[("autostopping:allow", "203.0.113.0/24")]);
    let waker = &scene.world.waker;
    let function = Emulator::start(&scene.environment);
    let health = json!({"requestContext": {"elb": {"targetGroupArn": waker}}, "httpMethod": "GET", "path": "/",
        "headers": {"user-agent": "ELB-HealthChecker/2.0"}, "body": "", "isBase64Encoded": false});
    assert_eq!(function.invoke(&health)["statusCode"], 200);
    let ask = |headers: &[(&str, &str)], path: &str| {
        function.invoke(
            &Ask {
                path,
                ..Ask::get(waker, "app.example.com", headers)
            }
            .event(),
        )
    };
    for (headers, path, status) in [
        (&[BROWSER, ("sec-purpose", "prefetch;prerender")][..], "/", 503),
        (
            &[BROWSER, ("user-agent", "Mozilla/5.0 (compatible; Googlebot/2.1)")],
            "/",
            503,
        ),
        (&[("user-agent", "Mozilla/5.0+(compatible; UptimeRobot/2.0)")], "/", 503),
        (&[BROWSER], "/favicon.ico", 503),
        (&[BROWSER], "/robots.txt", 503),
        (&[("accept", "application/vnd.autostopping+json")], "/", 503),
        // The peer is what the load balancer appended, whatever the client wrote before it.
        (&[BROWSER, ("x-forwarded-for", "203.0.113.7, 198.51.100.1")], "/", 403),
    ] {
        let answer = ask(headers, path);
        assert_well_formed(&answer);
        assert_eq!(answer["statusCode"], status, "{headers:?} {path}: {answer}");
        assert!(header(&answer, "x-autostopping-phase").is_some(), "{answer}");
    }
    assert_eq!(scene.world.api.power(&site.instances[0]), "stopped");
    assert_eq!(ask(&[BROWSER], "/")["statusCode"], 503);
    assert_eq!(
        scene.world.api.power(&site.instances[0]),
        "running",
        "a person does wake it"
    );
}

#[test]
fn a_bad_rule_is_named_and_harms_no_other() {
    let scene = Scene::new();
    let world = &scene.world;
    let good = scene.asleep("good.example.com", "1", &[]);
    world.site("typo.example.com", "2", Shape::Plain, &[("autostopping:idle", "30")]);
    let empty = world.group("empty");
    world.route("empty.example.com", "3", &actions(Shape::Plain, &empty, None), &[IDLE]);
    let gone = world.site("gone.example.com", "4", Shape::Plain, &[IDLE]);
    world
        .api
        .ec2("TerminateInstances", &[("InstanceId.1", &gone.instances[0])]);
    let scaled = world.site("scaled.example.com", "5", Shape::Plain, &[IDLE]);
    let group = [
        ("Tag.1.Key", "aws:autoscaling:groupName"),
        ("Tag.1.Value", "web"),
        ("ResourceId.1", scaled.instances[0].as_str()),
    ];
    world.api.ec2("CreateTags", &group);
    let one = world.site("one.example.com", "6", Shape::Plain, &[IDLE]);
    let other = world.group("other");
    world.register(&other, &one.instances[0]);
    world.route("other.example.com", "7", &actions(Shape::Plain, &other, None), &[IDLE]);
    let twin = world.site("twin.example.com", "8", Shape::Plain, &[IDLE]);
    let second = world.group("second");
    world.register(&second, &world.instance(&twin.group));
    world.route("twin.example.com", "9", &actions(Shape::Plain, &second, None), &[IDLE]);

    succeed(&scene.environment, &["list"]);
    for (rule, named) in [
        ("typo", "autostopping:idle"),
        ("empty", "no registered targets"),
        ("gone", "no registered targets"), // a terminated instance drops out of its target group
        ("scaled", "Auto Scaling group web"),
        ("one", "also belongs to the rule other"),
        ("other", "also belongs to the rule one"),
        ("second", "the same conditions"),
    ] {
        let status = succeed(&scene.environment, &["status", rule]);
        assert!(
            status.contains("misconfigured") && status.contains(named),
            "{rule}: {named} in\n{status}"
        );
        let slept = proxymanager(&scene.environment, &["sleep", rule]);
        assert_eq!(slept.status.code(), Some(1), "{rule} is not put to sleep");
        let route_untouched = !world
            .api
            .elb("DescribeRules", &[("ListenerArn", &world.listener)])
            .is_empty();
        assert!(route_untouched);
    }
    for site in [&scaled, &one, &twin] {
        assert_eq!(
            world.api.power(&site.instances[0]),
            "running",
            "what is misconfigured is never stopped"
        );
    }
    let function = Emulator::start(&scene.environment);
    let page = function.invoke(&Ask::get(&world.waker, "typo.example.com", &[BROWSER]).event());
    assert!(
        page["body"]
            .as_str()
            .is_some_and(|html| html.contains("autostopping:idle")),
        "the page names it: {page}"
    );
    let page = function.invoke(&Ask::get(&world.waker, "good.example.com", &[BROWSER]).event());
    assert_eq!(header(&page, "x-autostopping-phase"), Some("starting"), "{page}");
    assert_eq!(world.api.power(&good.instances[0]), "running");
}

#[test]
fn a_bad_environment_is_answered_with_its_keys() {
    let scene = Scene::new();
    let mut environment = scene.with("AUTOSTOPPING_SETTLE", "5");
    environment.retain(|(key, _)| key != "AUTOSTOPPING_LISTENERS");
    let function = Emulator::start(&environment);
    for headers in [&[BROWSER][..], &[("accept", "*/*")]] {
        let answer = function.invoke(&Ask::get(&scene.world.waker, "app.example.com", headers).event());
        assert_well_formed(&answer);
        assert_eq!(answer["statusCode"], 503);
        let text = answer["body"].as_str().expect("checked");
        assert!(
            text.contains("AUTOSTOPPING_SETTLE") && text.contains("AUTOSTOPPING_LISTENERS"),
            "{text}"
        );
    }
    let output = proxymanager(&environment, &["list"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{error}");
    assert!(
        error.contains("AUTOSTOPPING_SETTLE") && error.contains("AUTOSTOPPING_LISTENERS"),
        "{error}"
    );
}

#[test]
fn the_command_line_says_what_there_is() {
    let scene = Scene::new();
    scene.asleep("app.example.com", "1", &[]);
    let output = proxymanager(&scene.environment, &["status", "ap"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("The rules are: app"));
    assert_eq!(proxymanager(&scene.environment, &["slep"]).status.code(), Some(2));
    let list: Value = serde_json::from_str(&succeed(&scene.environment, &["list", "--output", "json"])).expect("JSON");
    assert_eq!(
        (list[0]["rule"].as_str(), list[0]["phase"].as_str()),
        (Some("app"), Some("asleep"))
    );
    let function = Emulator::start(&scene.environment);
    let program = function.invoke(&Ask::get(&scene.world.waker, "app.example.com", &[("accept", "*/*")]).event());
    assert_eq!(body(&program)["phase"], "starting");
}
