//! What programs get: a 503 that says when to come again, or with `hold = wait` the way on.

mod support;

use serde_json::{Value, json};
use support::emulator::Emulator;
use support::events::{Ask, BROWSER, Form, body, header};
use support::world::{IDLE, Scene, Shape};

#[test]
fn a_program_is_told_when_to_come_again() {
    let scene = Scene::new();
    let site = scene.asleep("app.example.com", "1", &[]);
    let function = Emulator::start(&scene.environment);
    for form in [Form::Single, Form::Multi] {
        let ask = Ask {
            form,
            ..Ask::get(&scene.world.waker, "app.example.com", &[("accept", "*/*")])
        };
        let answer = function.invoke(&ask.event());
        assert_eq!(answer["statusCode"], 503, "{answer}");
        assert_eq!(header(&answer, "content-type"), Some("application/problem+json"));
        let seconds: u32 = header(&answer, "retry-after")
            .and_then(|text| text.parse().ok())
            .expect("whole seconds");
        assert!((1..=60).contains(&seconds), "{seconds}");
        let body = body(&answer);
        for key in ["rule", "phase", "step", "percent", "eta_seconds", "reason"] {
            assert!(body.get(key).is_some(), "{key} in {body}");
        }
        assert_eq!(body["rule"], "app");
        assert_eq!(
            (&body["type"], &body["title"], &body["status"], &body["detail"]),
            (
                &json!("about:blank"),
                &json!("Service Unavailable"),
                &json!(503),
                &json!("app is starting")
            ),
            "{body}"
        );
    }
    let head = Ask {
        method: "HEAD",
        ..Ask::get(&scene.world.waker, "app.example.com", &[("accept", "*/*")])
    };
    let answer = function.invoke(&head.event());
    assert_eq!(
        (answer["statusCode"].as_i64(), answer["body"].as_str()),
        (Some(503), Some(""))
    );
    assert_eq!(
        scene.world.api.power(&site.instances[0]),
        "running",
        "a program's request wakes"
    );
}

/// Path, query, and the `Location` they come back as.
type Row = (&'static str, &'static [(&'static str, &'static str)], &'static str);

/// Red when a path is decoded, normalised or trusted: each row then comes out differently.
#[test]
fn a_held_program_is_sent_to_the_same_url_on_the_same_host() {
    let scene = Scene::new();
    scene.asleep("app.example.com", "1", &[("autostopping:hold", "wait")]);
    let patient = Emulator::start(&scene.with("AUTOSTOPPING_HOLD_LIMIT", "50s"));
    // Who comes after the flip is kept the longer the later, up to the limit.
    let brief = Emulator::start(&scene.with("AUTOSTOPPING_HOLD_LIMIT", "2s"));
    let rows: [Row; 8] = [
        ("/", &[], "/"),
        ("/a/b;v=1", &[("q", "%26%3D"), ("r", "1+2")], "/a/b;v=1?q=%26%3D&r=1+2"),
        ("/a%2Fb", &[], "/a%2Fb"),
        ("/a//b", &[], "/a//b"),
        ("//evil.example/x", &[], "/.//evil.example/x"),
        ("/\\evil.example", &[], "/./\\evil.example"),
        ("/flag", &[("wsdl", "")], "/flag?wsdl"),
        ("/twice", &[("x", "1"), ("x", "2")], "/twice?x=1&x=2"),
    ];
    // The first of them waits for the whole wake; the others come a moment after it.
    for (number, (path, query, expected)) in rows.into_iter().enumerate() {
        let function = if number == 0 { &patient } else { &brief };
        let ask = Ask {
            path,
            query,
            form: Form::Multi,
            ..Ask::get(&scene.world.waker, "app.example.com", &[("accept", "*/*")])
        };
        let mut answer: Value = function.invoke(&ask.event());
        if header(&answer, "x-autostopping-phase") == Some("checking") {
            // For a minute after a stop, health may be that of the machine's former life: longer than one hold.
            answer = function.invoke(&ask.event());
        }
        assert_eq!(answer["statusCode"], 307, "{path}: {answer}");
        assert_eq!(header(&answer, "location"), Some(expected), "{path}");
        assert_eq!(header(&answer, "x-autostopping-phase"), Some("awake"), "{path}");
    }
}

#[test]
fn no_more_are_held_than_allowed_and_the_rest_is_answered_at_once() {
    let scene = Scene::new();
    scene.asleep("app.example.com", "1", &[("autostopping:hold", "wait")]);
    let function = Emulator::start(&scene.with("AUTOSTOPPING_MAX_HELD", "0"));
    let answer = function.invoke(&Ask::get(&scene.world.waker, "app.example.com", &[("accept", "*/*")]).event());
    assert_eq!(answer["statusCode"], 503, "{answer}");
}

const APP: (&str, &str) = ("origin", "https://app.example.com");
const SAME_SITE: (&str, &str) = ("sec-fetch-site", "same-site");
const OTHER_SITE: (&str, &str) = ("sec-fetch-site", "cross-site");

/// What a browser sends before a script's request.
fn preflight<'a>(scene: &'a Scene, host: &'a str, headers: &'a [(&'a str, &'a str)]) -> Ask<'a> {
    Ask {
        method: "OPTIONS",
        ..Ask::get(&scene.world.waker, host, headers)
    }
}

/// Red when the preflight is taken for a request, which wakes; and when a site's own preflight could be skipped later.
#[test]
fn a_script_of_another_origin_may_ask_and_read() {
    let scene = Scene::new();
    let site = scene.asleep("app.example.com", "1", &[("autostopping:allow", "203.0.113.0/24")]);
    let function = Emulator::start(&scene.environment);
    let asked = [
        APP,
        SAME_SITE,
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "content-type,x\r\ny: z,X-Token"),
    ];
    for form in [Form::Single, Form::Multi] {
        let ask = preflight(&scene, "app.example.com", &asked);
        let answer = function.invoke(&Ask { form, ..ask }.event());
        assert_eq!(
            (&answer["statusCode"], &answer["body"]),
            (&json!(204), &json!("")),
            "{answer}"
        );
        for (name, value) in [
            ("access-control-allow-origin", "https://app.example.com"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "PUT"),
            ("access-control-allow-headers", "content-type, x-token"),
            ("access-control-max-age", "0"),
        ] {
            assert_eq!(header(&answer, name), Some(value), "{name} in {answer}");
        }
        assert!(header(&answer, "vary").is_some_and(|vary| vary.contains("origin")));
    }
    let other_site = [APP, OTHER_SITE, ("access-control-request-method", "PUT")];
    let stranger = [
        APP,
        SAME_SITE,
        ("access-control-request-method", "PUT"),
        ("x-forwarded-for", "198.51.100.1"),
    ];
    for (host, headers, status) in [
        ("app.example.com", &other_site[..], 403),
        ("app.example.com", &stranger, 403),
        ("unknown.example.com", &asked, 404),
    ] {
        let answer = function.invoke(&preflight(&scene, host, headers).event());
        assert_eq!(answer["statusCode"], status, "{host} {headers:?}: {answer}");
    }
    assert_eq!(
        scene.world.api.power(&site.instances[0]),
        "stopped",
        "no preflight wakes"
    );

    let get = Ask::get(
        &scene.world.waker,
        "app.example.com",
        &[APP, SAME_SITE, ("accept", "*/*")],
    )
    .event();
    let answer = function.invoke(&get);
    assert_eq!(
        header(&answer, "access-control-allow-origin"),
        Some("https://app.example.com")
    );
    assert_eq!(
        header(&answer, "access-control-expose-headers"),
        Some("retry-after, x-autostopping-phase")
    );
    assert_eq!(scene.world.api.power(&site.instances[0]), "running", "the request does");
}

#[test]
fn an_options_without_a_script_is_a_request_like_any_other() {
    let scene = Scene::new();
    let site = scene.asleep("app.example.com", "1", &[]);
    let function = Emulator::start(&scene.environment);
    let answer = function.invoke(&preflight(&scene, "app.example.com", &[("accept", "*/*")]).event());
    assert_eq!(answer["statusCode"], 503, "{answer}");
    assert_eq!(header(&answer, "access-control-allow-origin"), None);
    assert_eq!(scene.world.api.power(&site.instances[0]), "running");
}

#[test]
fn why_is_told_to_scripts_of_the_same_site_alone() {
    let scene = Scene::new();
    scene.world.site(
        "typo.example.com",
        "1",
        Shape::Plain,
        &[IDLE, ("autostopping:healthy", "some")],
    );
    let function = Emulator::start(&scene.environment);
    let ask = |site| {
        let headers = [APP, site, ("accept", "*/*")];
        function.invoke(&Ask::get(&scene.world.waker, "typo.example.com", &headers).event())
    };
    assert!(
        ask(SAME_SITE)["body"]
            .as_str()
            .is_some_and(|text| text.contains("autostopping:healthy"))
    );
    let told = ask(OTHER_SITE);
    assert_eq!(body(&told)["reason"], Value::Null);
    assert_eq!(body(&told)["phase"], "misconfigured");
    assert!(
        told["body"].as_str().is_some_and(|text| !text.contains("autostopping")),
        "{told}"
    );
}

/// Red when `Accept: text/html` beside it makes a page of it, and when gRPC is redirected, which ends its call.
#[test]
fn streams_and_calls_never_get_a_page() {
    let scene = Scene::new();
    scene.asleep("app.example.com", "1", &[("autostopping:hold", "wait")]);
    let brief = Emulator::start(&scene.with("AUTOSTOPPING_HOLD_LIMIT", "1s"));
    let patient = Emulator::start(&scene.with("AUTOSTOPPING_HOLD_LIMIT", "50s"));
    let post = |function: &Emulator, headers: &[(&str, &str)]| {
        let ask = Ask {
            method: "POST",
            ..Ask::get(&scene.world.waker, "app.example.com", headers)
        };
        function.invoke(&ask.event())
    };
    let grpc = [("content-type", "application/grpc+proto"), ("te", "trailers")];
    for headers in [
        &grpc[..],
        &[("content-type", "application/grpc-web+proto"), BROWSER],
        &[("accept", "text/event-stream, text/html")],
    ] {
        let answer = post(&brief, headers);
        assert_eq!(answer["statusCode"], 503, "{headers:?}: {answer}");
        assert_eq!(header(&answer, "content-type"), Some("application/problem+json"));
        assert!(header(&answer, "retry-after").is_some());
    }
    let mut held = post(&patient, &grpc);
    if header(&held, "x-autostopping-phase") == Some("checking") {
        // As above.
        held = post(&patient, &grpc);
    }
    assert_eq!(held["statusCode"], 503, "{held}");
    assert_eq!(
        header(&held, "x-autostopping-phase"),
        Some("awake"),
        "it was kept until then"
    );
    assert_eq!(
        post(&patient, &[("content-type", "application/grpc-web")])["statusCode"],
        307
    );
}
