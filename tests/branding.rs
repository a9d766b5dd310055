//! An operator's logo, colour and message: on the pages of the real function, and in the command line's preview.
//!
//! Seen red: with the style sheet of the colour missing in the policy.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::process::{Command, Output};

use local_support::{
    HOST, ask,
    browser::Browser,
    story::{asleep, site},
};

const LOGO: &str = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==";
const ALL: [(&str, &str); 3] = [
    ("AUTOSTOPPING_LOGO", LOGO),
    ("AUTOSTOPPING_COLOR", "#0b5cad"),
    ("AUTOSTOPPING_MESSAGE", "Questions? Ask <us>."),
];

fn preview(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_proxymanager"))
        .arg("page")
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the command line runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_shows_logo_colour_and_message_under_the_pages_policy() {
    let cloud = asleep(|config| {
        config.boot = std::time::Duration::from_secs(600);
        config.env = ALL.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    })
    .await;
    let browser = Browser::start("branding");
    browser.prefers("light");
    browser.open(&cloud.site_url(site(&cloud)));
    let logo = browser.run("const logo = document.querySelector('img'); return [logo.src, logo.naturalWidth]");
    assert_eq!(logo, serde_json::json!([LOGO, 1]));
    let colour = "return getComputedStyle(document.getElementById('bar')).color";
    assert_eq!(browser.run(colour), "rgb(11, 92, 173)");
    browser.prefers("dark");
    assert_ne!(browser.run(colour), "rgb(11, 92, 173)", "too dark for the dark theme");
    assert_eq!(browser.text(".message"), "Questions? Ask <us>.");
    drop(browser);
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logo_that_is_no_image_is_refused_by_name() {
    let bad = ("AUTOSTOPPING_LOGO", "https://example.com/logo.png");
    let cloud = asleep(|config| config.env = vec![(bad.0.to_owned(), bad.1.to_owned())]).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/html");
    let page = ask(cloud.address, &request, "").await;
    assert_eq!(page.status, 503);
    let text = page.text();
    assert!(
        text.contains("<code>AUTOSTOPPING_LOGO</code>") && text.contains("<code>https://example.com/logo.png</code>"),
        "{text}"
    );
    assert!(text.contains("as a data URI in base64"), "{text}");
    cloud.stop().await;
    let output = preview(&["--phase", "checking"], &[bad]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(64), &b""[..]));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.starts_with("AUTOSTOPPING_LOGO = \"https://example.com/logo.png\" cannot be used; allowed: "),
        "{told}"
    );
}

#[test]
fn any_phase_can_be_looked_at_without_anything_asleep() {
    for phase in [
        "asleep",
        "starting",
        "checking",
        "switching",
        "awake",
        "settling",
        "stopping",
        "failed",
        "misconfigured",
    ] {
        let output = preview(&["--phase", phase, "--language", "de", "--eta", "40"], &ALL);
        let page = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(output.status.code(), Some(0), "{phase}");
        assert!(
            page.starts_with("<!doctype html>\n<html lang=\"de\">"),
            "{phase}: {page}"
        );
        assert!(
            page.contains(&format!("&#34;phase&#34;:&#34;{phase}&#34;")),
            "{phase}: {page}"
        );
        assert!(
            page.contains(LOGO) && page.contains("Questions? Ask &#60;us&#62;."),
            "{phase}: {page}"
        );
    }
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("preview.html");
    let path = file.to_string_lossy();
    let output = preview(&["--phase", "checking", "--step", "booting", "--to", &path], &[]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b""[..]));
    let page = std::fs::read_to_string(&file).expect("it was written");
    assert!(page.contains("its system is booting"), "{page}");
    let output = preview(&["--phase", "dreaming"], &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2) && told.contains("possible values: asleep, starting"),
        "{told}"
    );
}
