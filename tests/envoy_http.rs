//! HTTP through a real Envoy: requests to a rule that is asleep are judged, held, and go on whole.
#![cfg(feature = "proxy")]

mod proxy_support;

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proxy_support::web::{ask, get, site};
use proxy_support::*;
use proxymanager::domain::rule::Side;
use proxymanager::gateway::envoy::{Certificate, Edge, HttpListener, NotAcked, RuleView, Verdict, View};

fn plain(name: &str, port: &Port) -> HttpListener {
    HttpListener {
        name: name.to_owned(),
        address: port.at,
        tls: false,
        redirect_to_https: None,
        trusted_hops: 0,
    }
}

fn web(port: &Port, rules: &[RuleView]) -> View {
    View {
        edge: Edge {
            listeners: vec![plain("web", port)],
            ..Edge::default()
        },
        rules: rules.to_vec(),
    }
}

fn page() -> Verdict {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Verdict::Answer {
        status: 503,
        headers: vec![
            header("content-type", "text/html; charset=utf-8"),
            header("X-Autostopping-Phase", "starting"),
            header("set-cookie", "a=1"),
            header("set-cookie", "b=2"),
        ],
        body: "<p>Waking up".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_a_rule_asleep_is_judged_and_answered() {
    let (port, (machine, requests)) = (port(), site("shop").await);
    let mut shop = rule("shop", 3, Side::Waker);
    shop.http = vec![http("web", "Shop.example.com", machine)];
    let mut rig = Rig::new(&web(&port, &[shop.clone()])).await;

    let head = "GET /a//b?c=%2F HTTP/1.1\nHost: shop.EXAMPLE.com:8080\n\
                X-Forwarded-For: 203.0.113.9\nX-Envoy-External-Address: 203.0.113.8\nAccept: text/html";
    let mut asked = ask(port.at, head, b"").await;
    let (request, verdict) = rig.case().await;
    assert_eq!((request.rule.0.as_str(), request.generation), ("shop", 3));
    assert_eq!((request.method.as_str(), request.scheme.as_str()), ("GET", "http"));
    assert_eq!(
        (request.host.as_str(), request.path.as_str()),
        ("shop.EXAMPLE.com:8080", "/a//b?c=%2F")
    );
    assert_eq!(request.headers.get("accept").map(String::as_str), Some("text/html"));
    assert_eq!(
        request.source,
        Some(Ipv4Addr::LOCALHOST.into()),
        "what a client says of itself is not believed"
    );
    verdict.send(page()).expect("somebody waits");
    let answer = asked.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (503, "<p>Waking up"));
    assert_eq!(
        answer.all("content-type").collect::<Vec<_>>(),
        ["text/html; charset=utf-8"]
    );
    assert_eq!(answer.header("x-autostopping-phase"), Some("starting"));
    assert_eq!(answer.all("set-cookie").collect::<Vec<_>>(), ["a=1", "b=2"]);

    // A proxy in front of ours is believed as far as one hop.
    let mut view = web(&port, &[shop.clone()]);
    view.edge.listeners[0].trusted_hops = 1;
    rig.publish(&view).await;
    let head = "GET / HTTP/1.1\nHost: shop.example.com\nX-Forwarded-For: 198.51.100.1, 203.0.113.9";
    let mut asked = ask(port.at, head, b"").await;
    let (request, verdict) = rig.case().await;
    assert_eq!(
        request.source.map(|source| source.to_string()).as_deref(),
        Some("203.0.113.9")
    );
    verdict.send(page()).expect("somebody waits");
    assert_eq!(asked.answer().await.status(), 503);

    // Who leaves is not waited for.
    let asked = ask(port.at, "GET / HTTP/1.1\nHost: shop.example.com", b"").await;
    let (_, mut verdict) = rig.case().await;
    drop(asked);
    within("the judge is let go", verdict.closed()).await;

    assert_eq!(get(port.at, "other.example.com", "/").await.status(), 404);
    shop.side = Side::Backend;
    rig.publish(&web(&port, &[shop])).await;
    let answer = get(port.at, "shop.example.com", "/a//b?c=%2F").await;
    assert_eq!(answer.text(), "shop: GET /a//b?c=%2F HTTP/1.1 with 0 bytes");
    assert!(rig.cases.try_recv().is_err(), "awake nobody is asked");
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_post_is_delivered_once_also_when_the_daemon_is_started_anew() {
    let (port, (machine, requests)) = (port(), site("shop").await);
    let mut shop = rule("shop", 1, Side::Waker);
    shop.http = vec![http("web", "*", machine)];
    let asleep = web(&port, &[shop.clone()]);
    let mut rig = Rig::new(&asleep).await;

    let size = 5 * 1024 * 1024;
    let body = vec![b'x'; size];
    let at = port.at;
    let posting = tokio::spawn(async move {
        let head = format!("POST /in HTTP/1.1\nHost: shop\nContent-Length: {size}");
        ask(at, &head, &body).await.answer().await
    });
    let (_, _judged) = rig.case().await;
    rig.restart(&asleep).await;
    let (request, verdict) = rig.case().await;
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/in"));
    shop.side = Side::Backend;
    rig.publish(&web(&port, &[shop])).await;
    verdict.send(Verdict::Go).expect("somebody waits");
    let answer = within("an answer", posting).await.expect("no panic");
    assert_eq!(answer.text(), format!("shop: POST /in HTTP/1.1 with {size} bytes"));
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

/// Red when a request's route was not forgotten: one of them went on, and the others were held for ever.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_are_let_go_at_once_every_one_goes_on() {
    let (port, (machine, requests)) = (port(), site("shop").await);
    let mut shop = rule("shop", 1, Side::Waker);
    shop.http = vec![http("web", "*", machine)];
    let mut rig = Rig::new(&web(&port, &[shop.clone()])).await;
    let (mut asked, mut verdicts) = (Vec::new(), Vec::new());
    for number in 0..100 {
        asked.push(ask(port.at, &format!("GET /{number} HTTP/1.1\nHost: shop"), b"").await);
        verdicts.push(rig.case().await.1);
    }
    shop.side = Side::Backend;
    rig.publish(&web(&port, &[shop])).await;
    for verdict in verdicts {
        verdict.send(Verdict::Go).expect("somebody waits");
    }
    for (number, mut asked) in asked.into_iter().enumerate() {
        let answer = asked.answer().await.text();
        assert_eq!(answer, format!("shop: GET /{number} HTTP/1.1 with 0 bytes"));
    }
    assert_eq!(requests.load(Ordering::SeqCst), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_opened_asleep_comes_up_and_is_in_progress() {
    let (port, (machine, _)) = (port(), site("shop").await);
    let mut shop = rule("shop", 1, Side::Waker);
    shop.http = vec![http("web", "*", machine)];
    let mut rig = Rig::new(&web(&port, &[shop.clone()])).await;

    let head = "GET /socket HTTP/1.1\nHost: shop\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let asked = ask(port.at, head, b"").await;
    let (_, verdict) = rig.case().await;
    shop.side = Side::Backend;
    rig.publish(&web(&port, &[shop.clone()])).await;
    verdict.send(Verdict::Go).expect("somebody waits");
    let (answer, mut socket) = asked.upgraded().await;
    assert_eq!(answer.status(), 101, "{answer:?}");
    echo(&mut socket, "over the socket").await;
    until("the load reports name it", async || {
        let loads = rig.plane.loads();
        loads
            .rules
            .get(&shop.name)
            .and_then(|loads| loads.last())
            .is_some_and(|load| load.in_progress == 1)
    })
    .await;
    // It lives on when the rule goes to sleep, and Envoy still counts it.
    shop.side = Side::Waker;
    shop.generation = 2;
    rig.publish(&web(&port, &[shop.clone()])).await;
    echo(&mut socket, "still").await;
    let active = proxymanager::gateway::envoy::admin::active(&rig.admin())
        .await
        .expect("counts");
    assert_eq!(active.get(&shop.name), Some(&1));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_what_sleeps_says_so_and_what_is_awake_goes_on() {
    let (port, (machine, _)) = (port(), site("shop").await);
    let mut asleep = rule("asleep", 1, Side::Waker);
    asleep.http = vec![http("web", "asleep", machine)];
    let mut awake = rule("awake", 1, Side::Backend);
    awake.http = vec![http("web", "awake", machine)];
    let mut view = web(&port, &[asleep, awake]);
    view.edge.limits.away = Duration::from_millis(500);
    let rig = Rig::new(&view).await;
    drop(rig.plane);
    let answer = get(port.at, "asleep", "/").await;
    assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("5")));
    assert!(answer.text().contains("asleep"), "{}", answer.text());
    assert_eq!(get(port.at, "awake", "/").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_and_prefixes_find_their_rule() {
    let port = port();
    let mut views = Vec::new();
    for (name, host, prefix) in [
        ("all", "*", "/"),
        ("sub", "*.example.com", "/"),
        ("exact", "www.example.com", "/"),
        ("deep", "www.example.com", "/app/"),
    ] {
        let (machine, _) = site(name).await;
        let mut view = rule(name, 1, Side::Backend);
        view.http = vec![http("web", host, machine)];
        view.http[0].prefix = prefix.to_owned();
        views.push(view);
    }
    let _rig = Rig::new(&web(&port, &views)).await;
    for (host, path, name) in [
        ("anything", "/app", "all"),
        ("a.example.com", "/", "sub"),
        ("www.example.com:8443", "/apple", "exact"),
        ("WWW.example.com.", "/app", "deep"),
        ("www.example.com", "/app/x", "deep"),
        ("www.example.com", "/no/../app/x", "deep"),
    ] {
        let text = get(port.at, host, path).await.text();
        assert!(text.starts_with(&format!("{name}: ")), "{host}{path}: {text}");
    }
}

/// A certificate for this host, signed by itself.
fn certificate(name: &str, host: &str) -> Certificate {
    let folder = tempfile::tempdir().expect("a folder");
    let (key, chain) = (folder.path().join("key"), folder.path().join("chain"));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", &format!("/CN={host}"), "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&chain)
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{made:?}");
    Certificate {
        name: name.to_owned(),
        hosts: vec![host.to_owned()],
        chain_pem: std::fs::read(chain).expect("the certificate"),
        key_pem: std::fs::read(key).expect("the key"),
    }
}

/// The host that the certificate is for which a client of this host is shown, and the protocol agreed on.
async fn shown(port: &Port, host: Option<&str>) -> (String, String) {
    let mut command = tokio::process::Command::new("openssl");
    command.args(["s_client", "-alpn", "h2,http/1.1", "-connect", &port.at.to_string()]);
    match host {
        Some(host) => command.args(["-servername", host]),
        None => command.arg("-noservername"),
    };
    let output = within("a handshake", command.stdin(std::process::Stdio::null()).output())
        .await
        .expect("openssl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let after = |mark: &str| {
        let rest = text.split_once(mark).map(|(_, rest)| rest);
        rest.and_then(|rest| rest.lines().next()).unwrap_or_default().to_owned()
    };
    (after("subject=CN = "), after("ALPN protocol: "))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_host_has_its_certificate_and_a_bad_one_changes_nothing() {
    let (http_port, https_port, (machine, _)) = (port(), port(), site("shop").await);
    let mut shop = rule("shop", 1, Side::Backend);
    shop.http = vec![
        http("https", "a.example.com", machine),
        http("https", "b.example.com", machine),
    ];
    let (a, b) = (certificate("a", "a.example.com"), certificate("b", "b.example.com"));
    let mut view = View {
        edge: Edge {
            listeners: vec![plain("http", &http_port), plain("https", &https_port)],
            certificates: vec![a.clone(), b.clone()],
            ..Edge::default()
        },
        rules: vec![shop],
    };
    view.edge.listeners[0].redirect_to_https = Some(https_port.at.port());
    view.edge.listeners[1].tls = true;
    let rig = Rig::new(&view).await;

    let is = |host: &str| (host.to_owned(), "h2".to_owned());
    assert_eq!(shown(&https_port, Some("a.example.com")).await, is("a.example.com"));
    assert_eq!(shown(&https_port, Some("b.example.com")).await, is("b.example.com"));
    assert_eq!(shown(&https_port, Some("who.example.com")).await, is("a.example.com"));
    assert_eq!(shown(&https_port, None).await, is("a.example.com"));
    let location = async |host: &str| {
        let answer = get(http_port.at, host, "/x?y").await;
        (answer.status(), answer.header("location").map(str::to_owned))
    };
    let to = |authority: &str| (301, Some(format!("https://{authority}/x?y")));
    let other = format!("a.example.com:{}", https_port.at.port());
    assert_eq!(location("a.example.com:8080").await, to(&other));
    view.edge.listeners[0].redirect_to_https = Some(443);
    rig.publish(&view).await;
    for host in ["a.example.com", "a.example.com:80", "a.example.com:8080"] {
        assert_eq!(location(host).await, to("a.example.com"), "{host}");
    }

    // The key of another.
    view.edge.certificates[1].key_pem = a.key_pem.clone();
    let answer = rig.try_publish(&view).await;
    let Err(NotAcked::Rejected(rejections)) = answer else {
        panic!("{answer:?}")
    };
    let named: Vec<_> = rejections.iter().map(|it| (it.kind, it.resource.as_str())).collect();
    assert_eq!(named, [("secret", "b")]);
    assert!(
        rejections[0].words.contains("KEY_VALUES_MISMATCH"),
        "{}",
        rejections[0].words
    );
    assert_eq!(shown(&https_port, Some("b.example.com")).await, is("b.example.com"));

    // A new one takes its place.
    view.edge.certificates[1] = Certificate {
        hosts: vec!["a.example.com".to_owned(), "B.example.com".to_owned()],
        ..certificate("b", "new.example.com")
    };
    rig.publish(&view).await;
    assert_eq!(shown(&https_port, Some("b.example.com")).await, is("new.example.com"));
    assert_eq!(shown(&https_port, Some("a.example.com")).await, is("a.example.com"));
    assert!(!format!("{view:?}").contains("PRIVATE"));
}
