//! Every page there is, in a real browser: axe-core finds nothing in it, and it fits the screen of a phone.
//!
//! Seen red: with soft text of half the contrast, and with a headline that does not break.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::{collections::BTreeMap, fs, path::Path};

use local_support::{
    browser::Browser,
    front::{Front, answer, page},
};
use proxymanager::{
    config::{BadValue as Bad, branding::Branding, environment},
    page::{self as pages, Advice, BadValue, Language, Phase, Step, View, Wake},
};
use serde_json::Value;

const LONG: &str = "a-rule-with-a-name-that-goes-on-and-on-and-on-and-on-and-on-and-on-and-on";
const REASON: &str = "The machine runs and did not become healthy in time: i-0123456789abcdef0 is unhealthy.";

fn branding() -> Branding {
    let values = BTreeMap::from([
        (environment::COLOR, "#ffe600"),
        (environment::MESSAGE, "Questions? Ask the platform team."),
    ]);
    environment::branding(&values).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The pages by their paths.
fn all(branding: &Branding) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for language in Language::ALL {
        let tag = language.tag();
        let view = |phase, rule, eta_seconds: Option<u32>, was_post| View {
            rule,
            host: "shop.example.com",
            path: "/order",
            phase,
            step: match phase {
                Phase::Awake => Step::Ready,
                Phase::Settling | Phase::Stopping => Step::MachineStopping,
                _ => Step::HealthChecks { healthy: 1, needed: 2 },
            },
            percent: eta_seconds.map(|_| 60),
            eta_seconds,
            elapsed_seconds: 34,
            reason: matches!(phase, Phase::Failed | Phase::Misconfigured).then_some(REASON),
            retry_in_seconds: Some(45),
            advice: Advice::Health,
            wake: Wake::Link,
            repeat: false,
            was_post,
            trace: Some("Root=1-67891233-abcdef012345678912345678"),
            branding,
        };
        for phase in Phase::ALL {
            let name = format!("/{}-{tag}", phase.as_str());
            all.insert(name, pages::html(&view(phase, "shop", Some(24), false), language));
        }
        let special = [
            ("unknown", view(Phase::Starting, LONG, None, false)),
            ("overdue", view(Phase::Checking, "shop", Some(0), false)),
            ("form", view(Phase::Starting, LONG, None, true)),
            ("form-ready", view(Phase::Awake, "shop", None, true)),
        ];
        let refused = View {
            reason: Some("This path does not wake it (autostopping:never-wake-paths)."),
            advice: Advice::Own("Open another page of the site in a browser."),
            wake: Wake::Not,
            ..view(Phase::Asleep, "shop", None, false)
        };
        all.insert(format!("/refused-{tag}"), pages::html(&refused, language));
        let press = View {
            wake: Wake::Press,
            ..view(Phase::Asleep, "shop", None, false)
        };
        all.insert(format!("/press-{tag}"), pages::html(&press, language));
        for (name, view) in special {
            all.insert(format!("/{name}-{tag}"), pages::html(&view, language));
        }
        let bad = Bad {
            key: "AUTOSTOPPING_SETTLE".to_owned(),
            value: "5".to_owned(),
            allowed: "a duration with its unit, such as 90s or 5m, from 1s to 1h".to_owned(),
        };
        let bad = [BadValue {
            key: &bad.key,
            value: &bad.value,
            allowed: &bad.allowed,
        }];
        let host = "shop.example.com";
        all.insert(format!("/not-found-{tag}"), pages::not_found(host, language, branding));
        all.insert(format!("/forbidden-{tag}"), pages::forbidden(host, language, branding));
        let configuration = pages::bad_configuration(host, &bad, language, branding);
        all.insert(format!("/bad-configuration-{tag}"), configuration);
    }
    all
}

/// What `make tools` has installed.
fn axe() -> String {
    let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/lib");
    let pythons =
        fs::read_dir(&libraries).unwrap_or_else(|error| panic!("{}: {error}; run make tools", libraries.display()));
    let mut files = pythons
        .flatten()
        .map(|python| python.path().join("site-packages/axe_playwright_python/axe.min.js"));
    let file = files
        .find(|file| file.is_file())
        .expect("axe-core is there; `make tools` installs it");
    fs::read_to_string(file).expect("axe-core can be read")
}

/// Each thing that axe-core finds wrong, or cannot tell, in one line. It judges a moment, so nothing moves, and the texts on
/// their grounds, so the drawing behind them is not seen.
const RUN: &str = "
const done = arguments[arguments.length - 1];
const still = new CSSStyleSheet();
still.replaceSync('*, *::before, *::after { animation: none !important; transition: none !important } .scene { visibility: hidden }');
document.adoptedStyleSheets = [still];
const line = kind => found => found.nodes.map(node => `${kind} ${found.id}: ${node.target} ${node.failureSummary}`);
axe.run(document, { resultTypes: ['violations', 'incomplete'] }).then(
  result => (document.adoptedStyleSheets = [], done([...result.violations.flatMap(line('wrong')), ...result.incomplete.flatMap(line('unclear'))])),
  error => done([String(error)]));";

/// How many elements, the drawing aside, are wider than the screen.
const WIDE: &str = "
const width = document.documentElement.clientWidth;
const parts = [...document.querySelectorAll('main :not(svg, svg *)')];
return parts.filter(part => part.getBoundingClientRect().right > width + 1).length";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn axe_core_finds_nothing_in_any_phase_language_and_theme() {
    let branding = branding();
    let pages = all(&branding);
    let names: Vec<String> = pages.keys().cloned().collect();
    let front = Front::start(move |request| match pages.get(&request.path) {
        Some(html) if request.is_navigation() => page(html),
        _ => answer("502 Bad Gateway", &[], ""),
    })
    .await;
    let axe = axe();
    let browser = Browser::start("axe");
    let mut found = Vec::new();
    for name in &names {
        browser.open(&front.url("shop.localhost", name));
        browser.run(&axe);
        for (theme, width, height) in [("light", 1280, 800), ("dark", 360, 740)] {
            browser.prefers(theme);
            browser.screen(width, height);
            let lines = browser.run_later(RUN);
            let lines = lines.as_array().expect("lines").iter().filter_map(Value::as_str);
            found.extend(lines.map(|line| format!("{name} {theme}: {line}")));
            let wide = browser.run(WIDE);
            if wide.as_u64() != Some(0) {
                found.push(format!("{name} {theme}: {wide} elements stand out to the right"));
            }
            if name.ends_with("-en") {
                browser.screenshot(&format!("page{}-{theme}.png", name.replace('/', "-")));
            }
        }
    }
    assert_eq!(found, [""; 0], "{}", found.join("\n"));
    assert_eq!(front.navigations(), names.len(), "no page left by itself");
}
