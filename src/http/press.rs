//! The button of a rule that is woken by pressing it (`autostopping:confirm`).

use super::event::AlbRequest;

/// The only content of the page's form.
pub const FIELD: (&str, &str) = ("autostopping", "wake");
/// That form as it is sent.
const BODY: &str = "autostopping=wake";
/// The same as ALB hands it over: it encodes what is not known to be text, and a form's type is not among those. Source:
/// "Lambda functions as targets for Application Load Balancers".
const BODY_IN_BASE64: &str = "YXV0b3N0b3BwaW5nPXdha2U=";

/// Whether this is the body of a pressed button, to the byte: nothing of a stranger's form is parsed.
pub(super) fn is_form(body: &str, base64: bool) -> bool {
    body.trim_end() == if base64 { BODY_IN_BASE64 } else { BODY }
}

/// Whether this request is a press that wakes: a POST of our form that no other site had a browser send.
///
/// Browsers say so in `Sec-Fetch-Site` over TLS and on localhost; over plain HTTP in `Origin`, whose scheme and name must
/// be those that were asked for. Ports are not compared: ALB may have written its own into Host. A request with neither
/// header comes from no browser in use, since all of them send `Origin` with another site's POST, and so from nobody who
/// could be tricked into it: a program may press.
pub fn is_pressed(request: &AlbRequest) -> bool {
    request.method == "POST" && request.is_our_form && is_same_origin(request)
}

fn is_same_origin(request: &AlbRequest) -> bool {
    if let Some(site) = request.header("sec-fetch-site") {
        return site.eq_ignore_ascii_case("same-origin");
    }
    let Some(origin) = request.header("origin") else {
        return true;
    };
    let Some((scheme, host)) = origin.split_once("://") else {
        return false;
    };
    let asked = request.header("x-forwarded-proto").unwrap_or_default();
    let (from, to) = (without_port(host), without_port(request.host()));
    scheme.eq_ignore_ascii_case(asked) && !to.is_empty() && from.eq_ignore_ascii_case(to)
}

pub(super) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::event::Event;
    use super::*;

    fn pressed(method: &str, headers: serde_json::Value, body: &str, base64: bool) -> bool {
        let event = json!({"requestContext": {"elb": {"targetGroupArn": "arn:tg"}}, "httpMethod": method,
            "headers": headers, "body": body, "isBase64Encoded": base64});
        match Event::read(&event) {
            Event::Alb(request) => is_pressed(&request),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_form_is_taken_in_both_its_forms_and_no_other() {
        let none = json!({});
        assert_eq!(BODY, format!("{}={}", FIELD.0, FIELD.1));
        assert!(pressed("POST", none.clone(), "autostopping=wake", false));
        assert!(pressed("POST", none.clone(), "autostopping=wake\r\n", false));
        assert!(pressed("POST", none.clone(), BODY_IN_BASE64, true));
        for (method, body, base64) in [
            ("GET", BODY, false),
            ("PUT", BODY, false),
            ("POST", "", false),
            ("POST", BODY, true),
            ("POST", BODY_IN_BASE64, false),
            ("POST", "autostopping=wake&more=1", false),
            ("POST", "x=1&autostopping=wake", false),
            ("POST", "AUTOSTOPPING=WAKE", false),
        ] {
            assert!(!pressed(method, none.clone(), body, base64), "{method} {body}");
        }
    }

    #[test]
    fn another_site_cannot_press() {
        for (headers, expected) in [
            (
                json!({"sec-fetch-site": "same-origin", "origin": "https://evil.example"}),
                true,
            ),
            (json!({"sec-fetch-site": "same-site"}), false),
            (
                json!({"sec-fetch-site": "cross-site", "origin": "http://app.example.com"}),
                false,
            ),
            (json!({"sec-fetch-site": "none"}), false),
            (json!({"sec-fetch-site": ""}), false),
            (json!({"origin": "http://app.example.com"}), true),
            (json!({"origin": "http://APP.example.com"}), true),
            (json!({"origin": "http://app.example.com:8080"}), true),
            (json!({"origin": "https://app.example.com"}), false),
            (json!({"origin": "http://app.example.com.evil.example"}), false),
            (json!({"origin": "http://evil.example"}), false),
            (json!({"origin": "null"}), false),
            (json!({"origin": ""}), false),
            (json!({}), true),
        ] {
            for host in ["app.example.com", "app.example.com:80"] {
                let mut headers = headers.clone();
                headers["host"] = json!(host);
                headers["x-forwarded-proto"] = json!("http");
                assert_eq!(pressed("POST", headers.clone(), BODY, false), expected, "{headers}");
            }
        }
        assert!(
            !pressed("POST", json!({"origin": "http://"}), BODY, false),
            "nobody's host is nobody's"
        );
    }
}
