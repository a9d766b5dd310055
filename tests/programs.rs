//! What programs get: a 503 that says when to come again, or with `hold = wait` the way on.

mod support;

use serde_json::Value;
use support::emulator::Emulator;
use support::events::{Ask, Form, body, header};
use support::world::Scene;

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
        assert_eq!(header(&answer, "content-type"), Some("application/json; charset=utf-8"));
        let seconds: u32 = header(&answer, "retry-after")
            .and_then(|text| text.parse().ok())
            .expect("whole seconds");
        assert!((1..=60).contains(&seconds), "{seconds}");
        let body = body(&answer);
        for key in ["rule", "phase", "step", "percent", "eta_seconds", "reason"] {
            assert!(body.get(key).is_some(), "{key} in {body}");
        }
        assert_eq!(body["rule"], "app");
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
