//! What a page promises, checked on every phase in every language.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

use super::markup::{Element, attribute, base64_sha256, parse, with_id};
use super::*;
use crate::config::branding::Colour;

/// Would break out of text, of an attribute, of a script and of a style, and reads from right to left.
const HOSTILE: &str =
    "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;{rule}</style><!--\u{202e}\u{2028}";
/// The same as it is shown: nothing turns the text round it.
const HOSTILE_SHOWN: &str =
    "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;{rule}</style><!--\u{fffd}\u{2028}";
const PNG: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

fn view<'a>(phase: Phase, branding: &'a Branding) -> View<'a> {
    let step = match phase {
        Phase::Asleep | Phase::Starting | Phase::Settling => Step::MachineStarting,
        Phase::Checking | Phase::Failed | Phase::Misconfigured => Step::HealthChecks { healthy: 1, needed: 2 },
        Phase::Switching => Step::Switching,
        Phase::Awake => Step::Ready,
        Phase::Stopping => Step::MachineStopping,
    };
    View {
        rule: "shop",
        host: "shop.example.com",
        path: "/",
        phase,
        step,
        percent: Some(40),
        eta_seconds: Some(42),
        elapsed_seconds: 75,
        reason: None,
        retry_in_seconds: None,
        advice: Advice::Health,
        wake: Wake::Link,
        repeat: false,
        was_post: false,
        trace: None,
        branding,
    }
}

fn branding() -> Branding {
    Branding {
        logo: Some(PNG.to_owned()),
        colour: Colour::parse("#0af"),
        message: Some("Questions? Ask the platform team.".to_owned()),
    }
}

/// Every page there is, with its name.
fn all_pages(text: &str, branding: &Branding) -> Vec<(String, String)> {
    let mut pages = Vec::new();
    for language in Language::ALL {
        for phase in Phase::ALL {
            let view = View {
                rule: text,
                host: text,
                path: text,
                reason: Some(text),
                trace: Some(text),
                retry_in_seconds: Some(30),
                was_post: true,
                ..view(phase, branding)
            };
            pages.push((format!("{phase:?} {language:?}"), html(&view, language)));
        }
        let bad = [
            BadValue {
                key: text,
                value: text,
                allowed: text,
            },
            BadValue {
                key: "K",
                value: "",
                allowed: "any",
            },
        ];
        pages.push((
            format!("switched {language:?}"),
            switched(text, text, text, true, language, branding),
        ));
        pages.push((format!("not found {language:?}"), not_found(text, language, branding)));
        pages.push((format!("forbidden {language:?}"), forbidden(text, language, branding)));
        pages.push((
            format!("bad configuration {language:?}"),
            bad_configuration(text, &bad, language, branding),
        ));
    }
    pages
}

#[test]
fn hostile_text_stays_text() {
    let branding = Branding {
        message: Some(HOSTILE.to_owned()),
        ..branding()
    };
    for ((name, hostile), (_, tame)) in all_pages(HOSTILE, &branding).iter().zip(all_pages("tame", &branding)) {
        let (hostile, tame) = (parse(hostile), parse(&tame));
        let shape = |page: &[Element]| -> Vec<(String, Vec<String>)> {
            page.iter()
                .map(|(tag, list, _)| (tag.clone(), list.iter().map(|(key, _)| key.clone()).collect()))
                .collect()
        };
        assert_eq!(shape(&hostile), shape(&tame), "{name}: an element or attribute more");
        let host = hostile.iter().find(|element| element.0 == "bdi").unwrap();
        assert_eq!(
            host.2.trim_end_matches('\n'),
            HOSTILE_SHOWN,
            "{name}: the host reads as it was given, direction controls aside"
        );
        if name.starts_with("Failed") {
            assert_eq!(with_id(&hostile, "reason").2.trim_end_matches('\n'), HOSTILE_SHOWN);
            assert!(with_id(&hostile, "headline").2.starts_with(HOSTILE_SHOWN));
            let state = hostile
                .iter()
                .find_map(|element| attribute(element, "data-state"))
                .unwrap();
            assert_eq!(serde_json::from_str::<Value>(state).unwrap()["rule"], HOSTILE_SHOWN);
        }
    }
}

#[test]
fn only_script_and_styles_with_the_policys_hashes() {
    for branding in [Branding::default(), branding()] {
        let policy = content_security_policy(&branding, Wake::Link);
        assert!(
            policy.is_ascii() && !policy.contains("unsafe") && !policy.contains("http"),
            "{policy}"
        );
        let expected: Vec<_> = policy
            .split(['\'', ';', ' '])
            .filter(|part| part.starts_with("sha256-"))
            .collect();
        for (name, page) in all_pages("shop", &branding) {
            for (tag, attributes, content) in parse(&page) {
                assert!(
                    !attributes
                        .iter()
                        .any(|(key, _)| key == "style" || key.starts_with("on")),
                    "{name}"
                );
                if tag == "script" || tag == "style" {
                    // The text after the element's end tag is not part of what is hashed; ours is a line end.
                    let end = if tag == "script" { "})();\n" } else { "}\n" };
                    let content = content.trim_end().to_owned() + "\n";
                    assert!(content.ends_with(end), "{name}");
                    let with_end = base64_sha256(&content);
                    let without = base64_sha256(content.trim_end());
                    assert!(
                        expected.contains(&&*with_end) || expected.contains(&&*without),
                        "{name}: {tag}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_page_is_small() {
    let mut largest = 0;
    for (name, page) in all_pages(&"a long reason of the machine ".repeat(8), &branding()) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(page.as_bytes()).unwrap();
        let size = encoder.finish().unwrap().len();
        assert!(size <= 14 * 1024, "{name}: {size} bytes gzipped");
        largest = largest.max(size);
    }
    println!("largest page: {largest} bytes gzipped");
    let huge = all_pages(&"<&\"".repeat(30_000), &Branding::default());
    assert!(
        huge.iter().all(|(_, page)| page.len() < 128 * 1024),
        "a long text is cut"
    );
}

#[test]
fn no_page_asks_for_anything_but_itself() {
    for (name, page) in all_pages("shop", &branding()) {
        // The name of a namespace is an address that nobody fetches.
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains("http://") && !page.contains("https://"), "{name}");
        assert!(
            !page.contains("@import") && !page.contains("url(http") && !page.contains("\r"),
            "{name}"
        );
        for element in parse(&page) {
            assert_ne!(element.0, "base", "{name}");
            for key in ["src", "href", "action", "srcset", "poster", "data"] {
                let value = attribute(&element, key).unwrap_or("data:");
                assert!(value.is_empty() || value.starts_with("data:"), "{name}: {key}={value}");
            }
        }
    }
}

#[test]
fn json_has_one_shape_in_every_phase() {
    let branding = Branding::default();
    let json = |view: &View| super::json(view, Language::English);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let first = keys(&json(&view(Phase::Asleep, &branding)));
    for phase in Phase::ALL {
        let value = json(&view(phase, &branding));
        assert_eq!(keys(&value), first);
        assert_eq!(value["phase"], phase.as_str());
    }
    let value = json(&View {
        percent: Some(255),
        eta_seconds: None,
        reason: Some("no capacity"),
        retry_in_seconds: Some(30),
        ..view(Phase::Failed, &branding)
    });
    let expected = json!({
        "rule": "shop", "phase": "failed", "step": "health_checks", "healthy": 1, "needed": 2, "percent": 100,
        "eta_seconds": null, "elapsed_seconds": 75, "reason": "no capacity", "retry_in_seconds": 30, "advice": "Tell the people who run shop, with the reason above. They can see whether the program starts \
            with the machine, and answers the health check of its target group.",
        "repeat": false,
    });
    assert_eq!(value, expected);
}

#[test]
fn the_time_left_is_honest() {
    let branding = Branding::default();
    let table = [
        (None, "Time left not known yet", "Restzeit noch nicht bekannt"),
        (Some(0), "Taking longer than usual", "Es dauert länger als sonst"),
        (Some(1), "Only a few seconds left", "Nur noch wenige Sekunden"),
        (Some(9), "Only a few seconds left", "Nur noch wenige Sekunden"),
        (Some(10), "About 10 seconds left", "Noch etwa 10 Sekunden"),
        (Some(41), "About 45 seconds left", "Noch etwa 45 Sekunden"),
        (Some(55), "About 55 seconds left", "Noch etwa 55 Sekunden"),
        (Some(56), "About a minute left", "Noch etwa eine Minute"),
        (Some(89), "About a minute left", "Noch etwa eine Minute"),
        (Some(90), "About 2 minutes left", "Noch etwa 2 Minuten"),
        (
            Some(u32::MAX),
            "About 71582788 minutes left",
            "Noch etwa 71582788 Minuten",
        ),
    ];
    for (eta_seconds, english, german) in table {
        let view = View {
            eta_seconds,
            ..view(Phase::Starting, &branding)
        };
        for (language, expected) in [(Language::English, english), (Language::German, german)] {
            assert_eq!(with_id(&parse(&html(&view, language)), "eta").2, expected);
        }
    }
}

#[test]
fn progress_is_a_number_only_when_it_is_known() {
    let branding = Branding::default();
    let bar = |view: &View| -> Option<String> {
        let page = parse(&html(view, Language::English));
        attribute(with_id(&page, "bar"), "value").map(str::to_owned)
    };
    assert_eq!(bar(&view(Phase::Starting, &branding)).as_deref(), Some("40"));
    assert_eq!(
        bar(&View {
            percent: Some(200),
            ..view(Phase::Starting, &branding)
        })
        .as_deref(),
        Some("100")
    );
    assert_eq!(
        bar(&View {
            percent: None,
            ..view(Phase::Starting, &branding)
        }),
        None
    );
    assert_eq!(bar(&view(Phase::Awake, &branding)).as_deref(), Some("100"));
}

#[test]
fn without_scripts_the_page_comes_back_by_itself_but_never_wakes_what_sleeps() {
    let branding = Branding::default();
    for phase in Phase::ALL {
        let page = html(&view(phase, &branding), Language::English);
        assert_eq!(
            page.contains("<noscript><meta http-equiv=\"refresh\""),
            phase != Phase::Asleep,
            "{phase:?}"
        );
    }
    assert!(
        switched("shop", "h", "/", false, Language::English, &branding)
            .contains("http-equiv=\"refresh\" content=\"2; url=/\"")
    );
}

#[test]
fn without_scripts_the_page_comes_back_to_the_same_host() {
    let branding = Branding::default();
    let table = [
        ("/", "2; url=/"),
        ("/a?x=%2F&y;z", "2; url=/a?x=%2F&#38;y;z"),
        ("/a?", "2; url=/a?"),
        ("//evil.example/x", "2; url=/.//evil.example/x"),
        ("/\\evil.example", "2; url=/./\\evil.example"),
        ("/\t/evil.example", "2"),
        ("/a b", "2"),
        ("/ä", "2"),
        ("/a#b", "2"),
        ("https://evil.example/", "2"),
        ("", "2"),
        ("/\"><script>", "2; url=/&#34;&#62;&#60;script&#62;"),
    ];
    for (path, expected) in table {
        let page = switched("shop", "h", path, false, Language::English, &branding);
        assert!(
            page.contains(&format!("http-equiv=\"refresh\" content=\"{expected}\"")),
            "{path}"
        );
    }
}

#[test]
fn a_lost_form_is_told() {
    let branding = Branding::default();
    for phase in Phase::ALL {
        let view = view(phase, &branding);
        assert!(html(&View { was_post: true, ..view }, Language::English).contains("Your form was not sent."));
        assert!(!html(&view, Language::English).contains("Your form was not sent."));
    }
}

#[test]
fn after_a_lost_form_nothing_navigates_by_itself_and_a_link_asks_without_it() {
    let branding = Branding::default();
    for phase in Phase::ALL {
        let view = View {
            was_post: true,
            path: "/order?step=2",
            ..view(phase, &branding)
        };
        let page = html(&view, Language::English);
        assert!(!page.contains("http-equiv"), "{phase:?}");
        let elements = parse(&page);
        assert_eq!(attribute(with_id(&elements, "anew"), "href"), Some("/order?step=2"));
        assert_eq!(
            attribute(with_id(&elements, "back"), "hidden"),
            Some(""),
            "a script has to show it"
        );
    }
}

#[test]
fn what_is_wrong_comes_with_what_can_be_done() {
    let branding = Branding::default();
    let advices = [
        (Advice::Capacity, "another instance type", "Instanztyp"),
        (Advice::Permission, "the permission", "Berechtigung"),
        (Advice::Gone, "put back", "wiederherstellen"),
        (Advice::Health, "health check", "Zustandsprüfung"),
        (Advice::Machine, "system log", "Systemprotokoll"),
        (Advice::Passes, "passes by itself", "von selbst"),
        (Advice::Settings, "proxymanager status shop", "proxymanager status shop"),
    ];
    for (advice, english, german) in advices {
        let failed = View {
            advice,
            ..view(Phase::Failed, &branding)
        };
        for (language, words, who) in [
            (Language::English, english, "the people who run shop"),
            (Language::German, german, "denen Bescheid geben, die shop betreiben"),
        ] {
            let shown = with_id(&parse(&html(&failed, language)), "advice").2.trim().to_owned();
            assert!(shown.contains(words) && shown.contains(who), "{shown}");
            assert_eq!(json(&failed, language)["advice"], shown);
        }
    }
    assert_eq!(
        json(&view(Phase::Checking, &branding), Language::English)["advice"],
        Value::Null
    );
}

#[test]
fn a_button_is_on_the_page_that_may_send_it_and_on_no_other() {
    let branding = Branding::default();
    for (wake, tags, form) in [
        (Wake::Link, &["a"][..], "form-action 'none'"),
        (Wake::Press, &["form", "input", "button"], "form-action 'self'"),
        (Wake::Not, &[], "form-action 'none'"),
    ] {
        let asleep = View {
            wake,
            ..view(Phase::Asleep, &branding)
        };
        let page = parse(&html(&asleep, Language::English));
        let place = page
            .iter()
            .position(|element| attribute(element, "id") == Some("wake"))
            .unwrap();
        let after: Vec<_> = page[place + 1..].iter().map(|element| element.0.as_str()).collect();
        let offered: Vec<_> = after.into_iter().take_while(|tag| *tag != "dl").collect();
        assert_eq!(offered, tags, "{wake:?}");
        let policy = content_security_policy(&branding, wake);
        assert!(
            policy.contains(form) && policy.matches("form-action").count() == 1,
            "{policy}"
        );
        if wake == Wake::Press {
            let [form, input] = [&page[place + 1], &page[place + 2]];
            assert_eq!(
                (attribute(form, "method"), attribute(form, "action")),
                (Some("post"), None),
                "to the same URL"
            );
            assert_eq!(
                (attribute(input, "name"), attribute(input, "value")),
                (Some("autostopping"), Some("wake"))
            );
        }
    }
}

#[test]
fn bad_values_are_all_listed() {
    let bad = [
        BadValue {
            key: "AUTOSTOPPING_SETTLE",
            value: "5",
            allowed: "a duration with a unit, such as 5m",
        },
        BadValue {
            key: "AUTOSTOPPING_LEDGER",
            value: "",
            allowed: "dynamodb:TABLE",
        },
    ];
    let page = bad_configuration("shop.example.com", &bad, Language::English, &Branding::default());
    for expected in [
        "AUTOSTOPPING_SETTLE",
        "<code>5</code>",
        "such as 5m",
        "AUTOSTOPPING_LEDGER",
        "not set",
        "dynamodb:TABLE",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
}
