//! How code is tried out before it is live: a load balancer's health check and the function's own self-check. Neither
//! changes anything.

use serde_json::{Value, json};

/// What an invocation was answered with.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    pub payload: Value,
    /// Lambda's `X-Amz-Function-Error`: the function failed, or never started.
    pub failed: bool,
}

/// The health check of a load balancer.
pub fn health_check(target_group: &str) -> Value {
    json!({
        "requestContext": { "elb": { "targetGroupArn": target_group } },
        "httpMethod": "GET",
        "path": "/",
        "queryStringParameters": {},
        "headers": { "user-agent": "ELB-HealthChecker/2.0" },
        "body": "",
        "isBase64Encoded": false,
    })
}

/// Whether the answer to [`health_check`] is a healthy function's; else what is wrong.
pub fn is_healthy(answered: &Answered) -> Result<(), String> {
    started(answered)?;
    match answered.payload["statusCode"].as_u64() {
        Some(200) => Ok(()),
        _ => Err(format!(
            "it answers a health check with {} instead of status 200",
            short(&answered.payload)
        )),
    }
}

/// What a self-check that is all right says the version of the code is; else what is wrong.
pub fn is_sound(answered: &Answered) -> Result<String, String> {
    started(answered)?;
    let payload = &answered.payload;
    let (Some(version), Some(checks)) = (payload["version"].as_str(), payload["checks"].as_object()) else {
        return Err(format!("it answers its self-check with {}", short(payload)));
    };
    let wrong = checks.iter().filter(|(_, found)| *found != "ok");
    let wrong: Vec<String> = wrong
        .map(|(what, found)| format!("{what}: {}", found.as_str().map_or_else(|| short(found), str::to_owned)))
        .collect();
    if wrong.is_empty() {
        return Ok(version.to_owned());
    }
    Err(format!("its self-check (version {version}) finds {}", wrong.join("; ")))
}

fn started(answered: &Answered) -> Result<(), String> {
    if !answered.failed {
        return Ok(());
    }
    let text = |key: &str| answered.payload[key].as_str();
    Err(match (text("errorType"), text("errorMessage")) {
        (Some(kind), Some(words)) => format!("it fails with {kind}: {words}"),
        (_, Some(words)) => format!("it fails with {words}"),
        _ => format!("it fails with {}", short(&answered.payload)),
    })
}

fn short(value: &Value) -> String {
    const LONGEST: usize = 200;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::event::Event;

    fn answered(payload: Value) -> Answered {
        Answered { payload, failed: false }
    }

    #[test]
    fn only_a_200_is_healthy() {
        assert_eq!(is_healthy(&answered(json!({ "statusCode": 200 }))), Ok(()));
        for payload in [
            json!({ "statusCode": 503 }),
            json!({ "statusCode": "200" }),
            json!([]),
            Value::Null,
        ] {
            is_healthy(&answered(payload)).unwrap_err();
        }
        let died = Answered {
            payload: json!({ "errorType": "Runtime.ExitError", "errorMessage": "exit status 1" }),
            failed: true,
        };
        assert_eq!(
            is_healthy(&died).unwrap_err(),
            "it fails with Runtime.ExitError: exit status 1"
        );
    }

    #[test]
    fn every_check_has_to_be_ok() {
        let sound = json!({ "version": "1.2.3", "checks": { "ledger": "ok", "listeners": "ok" } });
        assert_eq!(is_sound(&answered(sound)), Ok("1.2.3".to_owned()));
        let broken = json!({ "version": "1.2.3", "checks": { "ledger": "gone", "listeners": "ok" } });
        let wrong = is_sound(&answered(broken)).unwrap_err();
        assert_eq!(wrong, "its self-check (version 1.2.3) finds ledger: gone");
        for payload in [
            json!({ "checks": {} }),
            json!({ "version": "1" }),
            json!("x".repeat(1000)),
        ] {
            assert!(is_sound(&answered(payload)).unwrap_err().len() < 300);
        }
    }

    #[test]
    fn the_health_check_is_a_request_to_the_function() {
        assert!(matches!(Event::read(&health_check("g")), Event::Alb(request) if request.path == "/"));
    }
}
