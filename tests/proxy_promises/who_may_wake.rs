//! Somebody wakes a machine, and nobody else does.

use std::io::Read;
use std::net::TcpStream;

use crate::proxy_daemon::{Place, free_port, serves, site};
use crate::web::Client;

const BROWSER: &str = "Accept: text/html";
const NOBODY: [(&str, &str); 9] = [
    ("/", "User-Agent: ELB-HealthChecker/2.0"),
    ("/", "User-Agent: kube-probe/1.34"),
    (
        "/",
        "User-Agent: Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    ),
    (
        "/",
        "User-Agent: Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    ),
    ("/", "User-Agent: Mozilla/5.0 zgrab/0.x"),
    ("/", "Sec-Purpose: prefetch;prerender"),
    ("/.git/config", BROWSER),
    ("/favicon.ico", "Accept: image/avif,image/webp"),
    // The page asks by itself how far it is.
    ("/", "Accept: application/vnd.autostopping+json"),
];

#[test]
fn only_who_waits_for_an_answer_wakes() {
    let place = Place::new();
    for (name, allow) in [("shop", ""), ("guarded", "allow = [\"192.0.2.0/24\"]")] {
        let port = free_port();
        place.site(name, &format!("{name}.test"), &site(port), port, "");
        place.change(&format!("rules.d/{name}.toml"), "idle", &format!("{allow}\nidle"));
    }
    let port = free_port();
    place.rule("dev", &serves("echo", port), port, "other");
    place.change("rules.d/dev.toml", "idle", "allow = [\"192.0.2.0/24\"]\nidle");
    let daemon = place.start();
    let rules = ["shop", "guarded", "dev"];
    for rule in rules {
        place.becomes(rule, "asleep");
    }
    let mut client = Client::new(&place);
    for (path, header) in NOBODY {
        let answer = client.get("shop.test", path, &[header]);
        assert!(
            !answer.body.contains("\"seen\"") && !answer.head.contains("refresh"),
            "{header} {path}: {answer:?}"
        );
    }
    // An address that may not wake it, whatever it says of itself.
    for header in [
        BROWSER,
        "X-Forwarded-For: 192.0.2.7",
        "X-Envoy-External-Address: 192.0.2.7",
    ] {
        let answer = client.get("guarded.test", "/", &[header]);
        assert_eq!(answer.status, 403, "{answer:?}");
    }
    let mut stranger = TcpStream::connect(place.at("dev")).unwrap();
    assert!(matches!(stranger.read(&mut [0]), Ok(0) | Err(_)), "closed at once");
    // Nor does who asks the daemon.
    for path in ["/", "/status", "/metrics", "/healthz", "/readyz"] {
        assert_eq!(daemon.get(path).0, 200, "{path}");
    }
    assert_eq!(client.get("nobody.test", "/", &[BROWSER]).status, 404);
    assert!(place.programs().is_empty(), "nothing has been started");
    for rule in rules {
        let status = place.status(rule);
        assert_eq!(
            (&status["phase"], &status["wanted"], &status["last_activity"]),
            (&"asleep".into(), &"asleep".into(), &serde_json::Value::Null),
            "{status}"
        );
    }
    // A program that does not say what it is.
    let answer = client.get("shop.test", "/", &["User-Agent: "]);
    assert_eq!(answer.status, 200, "{answer:?}");
    place.becomes("shop", "awake");
}
