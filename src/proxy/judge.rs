//! What becomes of an HTTP request for a rule that sleeps: it goes on when the rule is awake, or it is answered as the
//! function behind a load balancer answers, by the same code.

use serde_json::{Map, Value, json};

use crate::config::branding::Branding;
use crate::config::environment::{LedgerChoice, MetricsChoice, Settings};
use crate::domain::policy::Hold;
use crate::domain::rule::GroupId;
use crate::function::{self, Function};
use crate::gateway::envoy::{CheckedRequest, Judge, Verdict};
use crate::http::event::{AlbRequest, Event};
use crate::http::who::{self, Asker};
use crate::ledger::Ledger;

use super::desk::Desk;
use super::front::{Front, RULE_HEADER, WAKER};
use super::worker::ProxyDriver;
use crate::clock::{self, SystemClock};
use crate::compute::kinds::Kinds;

/// Decides about held requests.
pub struct Court<L> {
    desk: Desk<L>,
    function: Function<Kinds, Front, Front, L, SystemClock>,
}

impl<L: Ledger + Send + Sync + 'static> Court<L> {
    /// `driver` is for the answers, which are by what a rule's own task has seen.
    pub fn new(desk: Desk<L>, driver: ProxyDriver<L>) -> Self {
        let settings = settings(&desk.front);
        Court {
            desk,
            function: Function::that_only_answers(Ok((driver, settings))),
        }
    }

    async fn answer(&self, request: &AlbRequest) -> Verdict {
        // Boxed: the whole future, inlined, is deeper than the compiler follows.
        verdict(&Box::pin(self.function.serve(request)).await)
    }

    /// Whether the request may go on by now; it waits for that if it is one that does.
    async fn goes_on(&self, checked: &CheckedRequest, request: &AlbRequest) -> bool {
        let desk = &self.desk;
        let (name, generation) = (&checked.rule, checked.generation);
        let (Some(rule), Some(worker)) = (desk.front.rule(name), desk.worker_soon(name).await) else {
            return false;
        };
        let Some(managed) = desk.managed(name).await else {
            return false;
        };
        // What was held for an earlier generation has no cluster to go to.
        if desk.front.leads_to_backend(name, generation) {
            return true;
        }
        if !function::wakes(desk.now(), &managed.rule, worker.record().as_ref(), request) {
            return false;
        }
        let who = who_asks(checked);
        if who::asker(request) == Asker::Program && managed.rule.policy.hold == Hold::Wait {
            let awake = desk.wake(&worker, name, generation, &who);
            return clock::timeout(rule.wake_timeout, awake).await == Ok(true);
        }
        if let Err(error) = desk.ask_for(&worker, name, &who).await {
            tracing::warn!(rule = %name, %error, "the rule could not be woken");
        }
        desk.front.leads_to_backend(name, generation)
    }
}

impl<L: Ledger + Send + Sync + 'static> Judge for Court<L> {
    async fn judge(&self, checked: CheckedRequest) -> Verdict {
        // What is made here is always a load balancer's request.
        let Event::Alb(request) = Event::read(&event(&checked)) else {
            return verdict(&Value::Null);
        };
        if self.goes_on(&checked, &request).await {
            return Verdict::Go;
        }
        self.answer(&request).await
    }
}

/// For the history: the address, the path, and what it says to be.
fn who_asks(checked: &CheckedRequest) -> String {
    let short = |text: &str| text.chars().filter(|c| !c.is_control()).take(120).collect::<String>();
    let source = checked
        .source
        .map_or_else(|| "an unknown address".to_owned(), |source| source.to_string());
    let path = checked.path.split('?').next().unwrap_or_default();
    match checked.headers.get("user-agent") {
        Some(agent) => format!("{source} for {} with {}", short(path), short(agent)),
        None => format!("{source} for {}", short(path)),
    }
}

/// The request as a load balancer would hand it to the function.
fn event(checked: &CheckedRequest) -> Value {
    let mut headers = Map::new();
    let ours =
        |name: &str| name.starts_with(':') || name.starts_with("x-forwarded-") || name == RULE_HEADER || name == "host";
    for (name, value) in checked.headers.iter().filter(|(name, _)| !ours(name)) {
        headers.insert(name.clone(), json!([value]));
    }
    let port = checked
        .host
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse::<u16>().ok());
    let port = port.unwrap_or(if checked.scheme == "https" { 443 } else { 80 });
    let source = checked.source.map(|source| source.to_string()).unwrap_or_default();
    for (name, value) in [
        ("host", checked.host.clone()),
        ("x-forwarded-for", source),
        ("x-forwarded-proto", checked.scheme.clone()),
        ("x-forwarded-port", port.to_string()),
        (RULE_HEADER, checked.rule.0.clone()),
    ] {
        headers.insert(name.to_owned(), json!([value]));
    }
    let (path, query) = checked.path.split_once('?').unwrap_or((&checked.path, ""));
    let mut parameters: Map<String, Value> = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let values = parameters.entry(key.to_owned()).or_insert_with(|| json!([]));
        if let Some(values) = values.as_array_mut() {
            values.push(json!(value));
        }
    }
    json!({
        "requestContext": { "elb": { "targetGroupArn": WAKER } },
        "httpMethod": checked.method,
        "path": path,
        "multiValueQueryStringParameters": parameters,
        "multiValueHeaders": headers,
        "body": pressed(checked),
        "isBase64Encoded": false,
    })
}

/// The page's form, as far as it can be told without the body, which Envoy keeps: by its type and its exact length.
fn pressed(checked: &CheckedRequest) -> &'static str {
    const FORM: &str = "autostopping=wake";
    let is = |name: &str, value: &str| checked.headers.get(name).is_some_and(|said| said == value);
    let form = is("content-type", "application/x-www-form-urlencoded") && is("content-length", &FORM.len().to_string());
    if checked.method == "POST" && form { FORM } else { "" }
}

/// The function's answer as Envoy gives it.
fn verdict(answer: &Value) -> Verdict {
    let headers = answer["multiValueHeaders"].as_object().into_iter().flatten();
    let headers = headers.flat_map(|(name, values)| {
        let values = values.as_array().into_iter().flatten().filter_map(Value::as_str);
        values.map(|value| (name.clone(), value.to_owned())).collect::<Vec<_>>()
    });
    Verdict::Answer {
        status: answer["statusCode"]
            .as_u64()
            .and_then(|status| u16::try_from(status).ok())
            .unwrap_or(503),
        headers: headers.collect(),
        body: answer["body"].as_str().unwrap_or_default().to_owned(),
    }
}

/// What the function has to know. It holds nothing itself: holding is done here.
fn settings(front: &Front) -> Settings {
    let config = front.config();
    Settings {
        listeners: Vec::new(),
        ledger: LedgerChoice::Memory,
        wakers: vec![GroupId(WAKER.to_owned())],
        hold_limit: std::time::Duration::from_secs(20),
        max_held: 0,
        settle: config.settle,
        metrics_delay: config.metrics_delay,
        idle_min: config.idle_min,
        branding: Branding::NONE,
        log: config.log.clone(),
        metrics: MetricsChoice::Off,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::rule::RuleName;

    fn checked(method: &str, path: &str, headers: &[(&str, &str)]) -> CheckedRequest {
        CheckedRequest {
            rule: RuleName("site".to_owned()),
            generation: 1,
            method: method.to_owned(),
            scheme: "https".to_owned(),
            host: "app.test:8443".to_owned(),
            path: path.to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>(),
            source: Some("192.0.2.7".parse().unwrap()),
        }
    }

    fn read(checked: &CheckedRequest) -> AlbRequest {
        match Event::read(&event(checked)) {
            Event::Alb(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nobody_says_for_himself_where_he_comes_from_or_which_rule_he_wants() {
        let request = read(&checked(
            "GET",
            "/a%2Fb?x=1&y&x=2",
            &[
                ("x-forwarded-for", "10.0.0.1"),
                ("x-autostopping-rule", "other"),
                (":authority", "evil"),
                ("accept", "*/*"),
            ],
        ));
        assert_eq!(request.peer(), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(request.header(RULE_HEADER), Some("site"));
        assert_eq!((request.host(), request.port()), ("app.test:8443", Some(8443)));
        assert_eq!(request.path_and_query(), "/a%2Fb?x=1&x=2&y");
    }

    #[test]
    fn only_the_form_of_the_page_is_a_press() {
        let form = ("content-type", "application/x-www-form-urlencoded");
        assert!(read(&checked("POST", "/", &[form, ("content-length", "17")])).is_our_form);
        assert!(!read(&checked("POST", "/", &[form, ("content-length", "18")])).is_our_form);
        assert!(!read(&checked("POST", "/", &[("content-length", "17")])).is_our_form);
        assert!(!read(&checked("GET", "/", &[form, ("content-length", "17")])).is_our_form);
    }

    #[test]
    fn an_answer_keeps_its_status_headers_and_body() {
        let answer = json!({"statusCode": 403, "multiValueHeaders": {"a": ["1", "2"], "b": ["3"]}, "body": "no"});
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = vec![header("a", "1"), header("a", "2"), header("b", "3")];
        let body = "no".to_owned();
        assert_eq!(
            verdict(&answer),
            Verdict::Answer {
                status: 403,
                headers,
                body
            }
        );
    }
}
