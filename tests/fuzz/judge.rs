//! Whether an answer is one that anybody may get, whatever was asked: by the local load balancer's own reading of it, an
//! HTML parser and a browser's URL parser.

use std::collections::BTreeSet;

use hyper::Response;
use hyper::body::Bytes;
use proxymanager::config::branding::Branding;
use proxymanager::local::alb::function::response;
use proxymanager::page::{self, Advice, BadValue, Language, Phase, Step, View, Wake};
use serde_json::Value;
use url::Url;

use crate::events::MARK;
use crate::markup::{Element, attribute, parse};

/// All that an answer of ours may have.
const HEADERS: [&str; 15] = [
    "content-type",
    "cache-control",
    "content-language",
    "content-security-policy",
    "vary",
    "retry-after",
    "location",
    "x-autostopping-phase",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-expose-headers",
    "access-control-max-age",
    // The load balancer's own.
    "server",
];
const STATUSES: [u16; 7] = [200, 204, 303, 307, 403, 404, 503];
const LONGEST_SHOWN: usize = 600;
/// The event's target group, whose presence makes it a request.
const REQUEST: &str = "/requestContext/elb/targetGroupArn";

/// What our pages are made of when nobody means harm.
pub struct Vocabulary {
    /// Tags and the names of their attributes.
    words: BTreeSet<(String, String)>,
    /// What stands in scripts and styles.
    code: BTreeSet<String>,
}

impl Vocabulary {
    pub fn of_our_pages() -> Self {
        let branding = Branding::NONE;
        let mut vocabulary = Vocabulary {
            words: BTreeSet::new(),
            code: BTreeSet::new(),
        };
        for language in Language::ALL {
            for phase in Phase::ALL {
                for (step, percent, wake) in [
                    (Step::MachineStarting, None, Wake::Link),
                    (Step::Ready, Some(7), Wake::Press),
                    (Step::Ready, None, Wake::Not),
                ] {
                    let view = View {
                        rule: "site",
                        host: "site",
                        path: "/",
                        phase,
                        step,
                        percent,
                        eta_seconds: None,
                        elapsed_seconds: 0,
                        reason: Some("a reason"),
                        retry_in_seconds: None,
                        advice: Advice::Own("an advice"),
                        wake,
                        repeat: true,
                        was_post: true,
                        trace: Some("a trace"),
                        branding: &branding,
                    };
                    vocabulary.learn(&page::html(&view, language));
                }
            }
            let bad = BadValue {
                key: "a key",
                value: "a value",
                allowed: "others",
            };
            vocabulary.learn(&page::not_found("site", language, &branding));
            vocabulary.learn(&page::forbidden("site", language, &branding));
            vocabulary.learn(&page::bad_configuration("site", &[bad], language, &branding));
        }
        vocabulary
    }

    fn learn(&mut self, html: &str) {
        for element in parse(html) {
            self.words.extend(words(&element));
            if is_code(&element) {
                self.code.insert(element.2);
            }
        }
    }
}

fn words((tag, attributes, _): &Element) -> impl Iterator<Item = (String, String)> {
    let names = attributes.iter().map(|(name, _)| name.clone()).chain([String::new()]);
    names.map(move |name| (tag.clone(), name))
}

fn is_code(element: &Element) -> bool {
    matches!(element.0.as_str(), "script" | "style")
}

/// What kind of answer it is, or what is wrong with it.
pub fn judge(event: &Value, answer: &Result<Value, String>, vocabulary: &Vocabulary) -> Result<String, String> {
    let is_request = event.pointer(REQUEST).is_some();
    let answer = match answer {
        Ok(answer) => answer,
        Err(_) if !is_request => return Ok("refused: no request".to_owned()),
        Err(error) => return Err(format!("a request without an answer: {error}")),
    };
    if !is_request {
        return Ok("done: an event".to_owned());
    }
    let multi_value = event.get("multiValueHeaders").is_some_and(Value::is_object);
    let head = event["httpMethod"] == "HEAD";
    let response = response(&Bytes::from(answer.to_string()), multi_value, head)?;
    let status = response.status().as_u16();
    ensure(STATUSES.contains(&status), || format!("the status {status}"))?;
    for (name, value) in response.headers() {
        ensure(HEADERS.contains(&name.as_str()), || format!("the header {name}"))?;
        ensure(value.as_bytes().iter().all(|b| (32..127).contains(b)), || {
            format!("{name}: {value:?}")
        })?;
    }
    let kind = header(&response, "content-type").unwrap_or_default().to_owned();
    if let Some(location) = header(&response, "location") {
        on_the_host(location)?;
    }
    let allowed = header(&response, "access-control-allow-origin");
    ensure(
        allowed.is_none_or(|origin| sent(event, "origin").contains(&origin)),
        || "an origin nobody sent".to_owned(),
    )?;
    let body = std::str::from_utf8(response.body()).map_err(|error| error.to_string())?;
    match kind.as_str() {
        _ if head => ensure(body.is_empty(), || "a HEAD with a body".to_owned())?,
        "text/html; charset=utf-8" => page(event, body, vocabulary)?,
        "application/problem+json" => problem(status, body)?,
        _ => ensure(body.is_empty() && status < 400, || {
            format!("{status} with {kind}: {body}")
        })?,
    }
    Ok(format!("{status} {kind}"))
}

fn ensure(is: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if is { Ok(()) } else { Err(wrong()) }
}

fn header<'a>(response: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

/// All values of a header in the event.
fn sent<'a>(event: &'a Value, name: &str) -> Vec<&'a str> {
    let fields = ["multiValueHeaders", "headers"]
        .into_iter()
        .filter_map(|key| event[key].as_object());
    let fields = fields.flatten().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    fields
        .flat_map(|(_, value)| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice))
        .filter_map(Value::as_str)
        .collect()
}

/// As a browser resolves it, from wherever it is.
fn on_the_host(location: &str) -> Result<(), String> {
    let base = Url::parse("https://site.example:8443/dir/page?query#part").map_err(|error| error.to_string())?;
    let led = base.join(location).map_err(|error| format!("{location}: {error}"))?;
    ensure(led.origin() == base.origin() && led.username().is_empty(), || {
        format!("{location} leads to {led}")
    })
}

fn problem(status: u16, body: &str) -> Result<(), String> {
    let problem: Value = serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))?;
    let text = |key: &str| problem[key].is_string();
    let present = |key: &str| problem.get(key).is_some();
    let whole = text("type")
        && text("title")
        && text("detail")
        && problem["status"] == status
        && ["rule", "phase", "step", "percent", "eta_seconds", "reason"]
            .into_iter()
            .all(present);
    ensure(whole, || format!("no problem: {problem}"))
}

/// What somebody sent stands in it as text and as nothing else.
fn page(event: &Value, body: &str, vocabulary: &Vocabulary) -> Result<(), String> {
    let elements = parse(body);
    for element in &elements {
        let (tag, attributes, text) = element;
        let strange = words(element).find(|word| !vocabulary.words.contains(word));
        ensure(strange.is_none(), || format!("{strange:?} is in no page of ours"))?;
        ensure(!is_code(element) || vocabulary.code.contains(text), || {
            format!("a {tag} of somebody else")
        })?;
        for (name, value) in attributes {
            let plain = matches!(name.as_str(), "src" | "action" | "style" | "class" | "id");
            ensure(!(plain && value.contains(MARK)), || format!("{name}={value:?}"))?;
            if (tag.as_str(), name.as_str()) == ("a", "href") {
                on_the_host(value)?;
            }
            if (tag.as_str(), name.as_str()) == ("meta", "content")
                && let Some((_, url)) = value.split_once("; url=")
            {
                on_the_host(url)?;
            }
        }
    }
    let state = elements.iter().find_map(|element| attribute(element, "data-state"));
    let json = state.is_none_or(|state| serde_json::from_str::<Value>(state).is_ok_and(|state| state.is_object()));
    ensure(json, || format!("{state:?} is no JSON"))?;
    let shown = elements
        .iter()
        .find(|element| element.0 == "bdi")
        .map(|element| element.2.as_str());
    let hosts = sent(event, "host");
    let fits = |host: &&str| shown.is_some_and(|shown| reads(shown, host));
    ensure(hosts.is_empty() || hosts.iter().any(fits), || {
        format!("{shown:?} for the hosts {hosts:?}")
    })
}

/// Whether this is the text as it was sent: cut, and with what would turn or hide other text replaced.
fn reads(shown: &str, sent: &str) -> bool {
    let shown = shown.trim_end_matches('\n').chars();
    let sent = sent.trim_end_matches('\n').chars();
    let mut pairs = shown.zip(sent.take(LONGEST_SHOWN));
    pairs.all(|(shown, sent)| shown == sent || shown == '\u{fffd}')
}
