//! What is more than a request and its answer: WebSocket, gRPC, big bodies.

use std::process::Command;

use serde_json::Value;

use crate::proxy_daemon::{Place, Session, free_port, said, serves, site, talks};

#[test]
fn a_websocket_and_a_grpc_call_opened_asleep_come_up_and_talk_both_ways() {
    let place = Place::new();
    let (chat, calls) = (free_port(), free_port());
    place.site("chat", "chat.test", &serves("websocket", chat), chat, "");
    place.site("calls", "calls.test", &serves("grpc", calls), calls, "http2 = true");
    let _daemon = place.start();
    let at = format!("{}:8080", place.address);
    for _ in 0..2 {
        place.becomes("chat", "asleep");
        place.becomes("calls", "asleep");
        let mut chat = Session::begin(talks("websocket", &at, "chat.test"));
        let mut call = Session::begin(talks("grpc", &at, "calls.test"));
        assert_eq!(chat.line(), "open");
        for word in ["one", "two"] {
            assert_eq!(chat.say(word), word.to_uppercase());
            // Each answer comes before the next message is sent.
            assert_eq!(call.say(word), word.to_uppercase());
        }
        assert_eq!(chat.end(), "");
        assert_eq!(call.end(), "OK 2", "the trailers");
        place.tell("chat", "sleep");
        place.tell("calls", "sleep");
    }
}

#[test]
fn a_big_post_is_held_and_delivered_once() {
    let place = Place::new();
    let port = free_port();
    place.site("shop", "shop.test", &site(port), port, "");
    let _daemon = place.start();
    let body: Vec<u8> = (0..5_u32 << 20)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    std::fs::write(place.path("body"), body).unwrap();
    let digest = {
        let mut sum = Command::new("sha256sum");
        sum.arg(place.path("body"));
        said(sum).split(' ').next().unwrap().to_owned()
    };
    // With `Expect`, nothing is sent before the machine has said that it wants it.
    for expect in ["Expect:", "Expect: 100-continue"] {
        place.becomes("shop", "asleep");
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "--fail",
            "--max-time",
            "60",
            "-H",
            "Host: shop.test",
            "-H",
            expect,
            "--data-binary",
        ]);
        curl.arg(format!("@{}", place.path("body").display()));
        curl.arg(format!("http://{}:8080/post", place.address));
        let told: Value = serde_json::from_str(&said(curl)).unwrap();
        assert_eq!(
            (&told["body"], &told["sha256"]),
            (&(5 << 20).into(), &digest.as_str().into())
        );
        assert_eq!(told["seen"], serde_json::json!(["/post"]), "once");
        place.tell("shop", "sleep");
    }
}
