//! Those who come to a sleeping site: a browser that does what the page's script does, and a program that honours
//! `Retry-After` and follows redirects. Each notes every answer it gets.

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{Answer, Connection};

const NAVIGATION: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const POLL: &str = "application/vnd.autostopping+json";
const PHASE: &str = "x-autostopping-phase";
/// Longer than any answer may take: the load balancer itself gives up after a minute.
const PATIENCE: Duration = Duration::from_secs(70);
/// The longest pause that the page makes, and that `Retry-After` asks for.
const LONGEST: f64 = 60.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Browser,
    Program,
}

/// What an answer is to somebody who wants the site.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    Site,
    /// The page or its JSON, with the phase and, where something is wrong, with the reason.
    Told(String, Option<String>),
    /// The same URL again.
    Redirect,
    /// An error without a word of ours: the load balancer's own.
    Bare(u16),
    /// No answer.
    Lost,
    /// An answer that nobody may ever get, in words.
    Wrong(String),
}

/// One answer on the way to the site.
#[derive(Debug, Clone)]
pub struct Step {
    pub at: f64,
    pub asked: &'static str,
    pub seen: Seen,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s {}: {:?}", self.at, self.asked, self.seen)
    }
}

/// One client on its way to the site.
pub struct Visitor {
    pub kind: Kind,
    pub steps: Vec<Step>,
    address: SocketAddr,
    host: String,
    path: String,
    begun: Instant,
    /// 1.0 makes the pauses that the page makes, 0.5 half of them.
    pace: f64,
    rng: fastrand::Rng,
    kept: Option<Connection>,
    script: Script,
}

/// The variables of the page's script.
#[derive(Default)]
struct Script {
    last_reload: Option<Instant>,
    reloads: u32,
    fails: u32,
    busy: u32,
    idle: u32,
}

impl Visitor {
    pub fn new(kind: Kind, address: SocketAddr, host: &str, path: &str, seed: u64) -> Self {
        Self {
            kind,
            steps: Vec::new(),
            address,
            host: host.to_owned(),
            path: path.to_owned(),
            begun: Instant::now(),
            pace: 1.0,
            rng: fastrand::Rng::with_seed(seed),
            kept: None,
            script: Script::default(),
        }
    }

    /// Makes this share of the page's pauses.
    pub fn at_pace(self, pace: f64) -> Self {
        Self { pace, ..self }
    }

    /// Goes on until it is on the site; false when it is not by `give_up`.
    pub async fn arrive(&mut self, give_up: Instant) -> bool {
        self.begun = Instant::now();
        let arrived = timeout(give_up.saturating_duration_since(Instant::now()), async {
            match self.kind {
                Kind::Browser => self.browse().await,
                Kind::Program => self.call().await,
            }
        });
        arrived.await.is_ok()
    }

    /// How often this kind of answer was given.
    pub fn count(&self, asked: &str, is: impl Fn(&Seen) -> bool) -> usize {
        let steps = self.steps.iter();
        steps.filter(|step| step.asked == asked && is(&step.seen)).count()
    }

    /// How often the browser loaded the URL as a whole, or the program asked.
    pub fn navigations(&self) -> usize {
        self.count("load", |_| true)
    }

    pub fn redirects(&self) -> usize {
        self.count("load", |seen| *seen == Seen::Redirect)
    }

    /// What it saw, for the words of a failed test; repetitions are told once.
    pub fn story(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        let mut before: Option<&Step> = None;
        for step in &self.steps {
            if before.is_none_or(|before| (before.asked, &before.seen) != (step.asked, &step.seen)) {
                lines.push(step.to_string());
            }
            before = Some(step);
        }
        format!("{:?} {}: {}", self.kind, self.path, lines.join("; "))
    }

    async fn call(&mut self) {
        let mut bare = 0;
        loop {
            let (seen, answer) = self.ask("load", "*/*").await;
            self.kept = None;
            let after = answer.as_ref().and_then(retry_after).map(|after| after.min(LONGEST));
            match seen {
                Seen::Site => return,
                Seen::Redirect => {}
                Seen::Told(..) | Seen::Wrong(_) => self.pause(after.unwrap_or(5.0)).await,
                Seen::Bare(_) | Seen::Lost => {
                    bare += 1;
                    self.pause(after.unwrap_or(backoff(bare))).await;
                }
            }
        }
    }

    /// A person with a browser: loads, lets the page's script do its work, presses its button when the page says that
    /// the site is asleep, and reloads what is no page at all.
    async fn browse(&mut self) {
        let mut bare = 0;
        loop {
            let (seen, answer) = self.ask("load", NAVIGATION).await;
            match seen {
                Seen::Site => return,
                Seen::Told(..) => self.stay(answer.as_ref().and_then(state)).await,
                Seen::Redirect | Seen::Bare(_) | Seen::Lost | Seen::Wrong(_) => {
                    bare += 1;
                    self.pause(backoff(bare)).await;
                }
            }
        }
    }

    /// `templates/page.js`, until it reloads.
    async fn stay(&mut self, state: Option<Value>) {
        let mut state = state.unwrap_or_default();
        (self.script.fails, self.script.busy, self.script.idle) = (0, 0, 0);
        if is(&state, "awake") || (state["repeat"] == true && self.script.reloads < 5) {
            return self.leave_in(self.reload_pause(2.0)).await;
        }
        let pace = self.next_poll(&state).min(3.0);
        self.wait(pace).await;
        loop {
            if is(&state, "asleep") {
                // The button.
                return self.leave_in(1.0).await;
            }
            let (seen, answer) = self.ask("poll", POLL).await;
            let pause = match seen {
                Seen::Lost => {
                    self.script.fails += 1;
                    if self.script.fails >= 3 && self.last_reload_before(30.0) {
                        return self.leave_in(0.0).await;
                    }
                    backoff(self.script.fails)
                }
                Seen::Redirect if self.last_reload_before(30.0) => return self.leave_in(0.0).await,
                Seen::Redirect => 10.0,
                Seen::Bare(403 | 429 | 502 | 503 | 504) => {
                    self.script.busy += 1;
                    if self.script.busy >= 5 && self.last_reload_before(60.0) {
                        return self.leave_in(0.0).await;
                    }
                    let after = answer.as_ref().and_then(retry_after).unwrap_or_default();
                    backoff(self.script.busy).max(after.min(LONGEST))
                }
                Seen::Site | Seen::Bare(_) => return self.leave_in(self.reload_pause(0.4)).await,
                Seen::Told(..) | Seen::Wrong(_) => {
                    (self.script.fails, self.script.busy) = (0, 0);
                    match answer
                        .map(|answer| answer.json())
                        .filter(|news| news["phase"].is_string() && news["step"].is_string())
                    {
                        None if self.last_reload_before(30.0) => return self.leave_in(0.0).await,
                        None => 10.0,
                        Some(news) => {
                            if (&news["phase"], &news["step"]) != (&state["phase"], &state["step"]) {
                                self.script.idle = 0;
                            }
                            state = news;
                            if is(&state, "awake") {
                                return self.leave_in(self.reload_pause(2.0)).await;
                            }
                            self.next_poll(&state)
                        }
                    }
                }
            };
            self.wait(pause).await;
        }
    }

    fn next_poll(&mut self, state: &Value) -> f64 {
        let retry = state["retry_in_seconds"].as_f64();
        if is(state, "failed") || is(state, "misconfigured") {
            return retry.unwrap_or(20.0).clamp(5.0, 20.0);
        }
        match state["eta_seconds"].as_f64() {
            Some(eta) if eta > 0.0 => {
                self.script.idle = 0;
                (eta / 6.0).clamp(1.0, 10.0)
            }
            _ => {
                self.script.idle += 1;
                (1.0 + f64::from(self.script.idle) / 4.0).min(15.0)
            }
        }
    }

    /// Before a reload: at least `first`, and should the page come back again and again, ever more.
    fn reload_pause(&self, first: f64) -> f64 {
        let Some(last) = self.script.last_reload else {
            return first;
        };
        let since = last.elapsed().as_secs_f64() / self.pace;
        let spread = (3.5 * 2f64.powi(self.script.reloads.min(10) as i32)).min(LONGEST);
        (spread - since).max(first)
    }

    fn last_reload_before(&self, seconds: f64) -> bool {
        let last = self.script.last_reload;
        last.is_none_or(|last| last.elapsed().as_secs_f64() >= seconds * self.pace)
    }

    async fn leave_in(&mut self, seconds: f64) {
        self.pause(seconds).await;
        self.script.last_reload = Some(Instant::now());
        self.script.reloads += 1;
    }

    async fn wait(&mut self, seconds: f64) {
        let jitter = 0.8 + 0.4 * self.rng.f64();
        self.pause(seconds * jitter).await;
    }

    async fn pause(&self, seconds: f64) {
        sleep(Duration::from_secs_f64(seconds * self.pace)).await;
    }

    async fn ask(&mut self, asked: &'static str, accept: &str) -> (Seen, Option<Answer>) {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\nUser-Agent: test\r\n\r\n",
            self.path, self.host
        );
        let answer = timeout(PATIENCE, self.exchange(&request)).await.ok().flatten();
        let seen = answer
            .as_ref()
            .map_or(Seen::Lost, |answer| judge(answer, &self.path, accept));
        if answer.is_none() {
            self.kept = None;
        }
        let at = self.begun.elapsed().as_secs_f64();
        self.steps.push(Step {
            at,
            asked,
            seen: seen.clone(),
        });
        (seen, answer)
    }

    /// On the connection that was kept, as a browser does; on a new one when there is none or it is dead.
    async fn exchange(&mut self, request: &str) -> Option<Answer> {
        if let Some(kept) = &mut self.kept
            && kept.0.write_all(request.as_bytes()).await.is_ok()
            && let Some(answer) = kept.answer().await
        {
            return Some(answer);
        }
        let mut connection = Connection(TcpStream::connect(self.address).await.ok()?);
        connection.0.write_all(request.as_bytes()).await.ok()?;
        let answer = connection.answer().await?;
        self.kept = Some(connection);
        Some(answer)
    }
}

fn is(state: &Value, phase: &str) -> bool {
    state["phase"] == phase
}

fn backoff(count: u32) -> f64 {
    2f64.powi(count.min(5) as i32).min(30.0)
}

fn retry_after(answer: &Answer) -> Option<f64> {
    answer.header("retry-after")?.parse().ok()
}

/// What is written into the page for its script.
pub fn state(page: &Answer) -> Option<Value> {
    let text = page.text();
    let (_, rest) = text.split_once("data-state=\"")?;
    let (state, _) = rest.split_once('"')?;
    let named = [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&lt;", "<"),
        ("&#60;", "<"),
        ("&gt;", ">"),
        ("&#62;", ">"),
        ("&amp;", "&"),
        ("&#38;", "&"),
    ];
    let plain = named
        .iter()
        .fold(state.to_owned(), |text, (from, to)| text.replace(from, to));
    serde_json::from_str(&plain).ok()
}

/// Holds an answer against what was promised to whoever asks.
pub fn judge(answer: &Answer, path: &str, accept: &str) -> Seen {
    let wrong = |what: &str| Seen::Wrong(format!("{what}: {}\n{}", answer.head, answer.text()));
    let Some(phase) = answer.header(PHASE) else {
        return match answer.status {
            200 if answer.text().contains("is awake") => Seen::Site,
            status => Seen::Bare(status),
        };
    };
    if !answer
        .header("cache-control")
        .is_some_and(|value| value.contains("no-store"))
    {
        return wrong("an answer of ours that may be kept");
    }
    match answer.status {
        307 if answer.header("location") == Some(path) => return Seen::Redirect,
        503 if retry_after(answer).is_some() => {}
        _ => return wrong("neither a page nor a redirect to the same URL"),
    }
    let html = answer
        .header("content-type")
        .is_some_and(|kind| kind.starts_with("text/html"));
    if html != accept.contains("html") {
        return wrong("not what was asked for");
    }
    let told = if html {
        state(answer)
    } else {
        serde_json::from_slice(&answer.body).ok()
    };
    let Some(told) = told else {
        return wrong("nothing can be read in it");
    };
    let reason = told["reason"]
        .as_str()
        .filter(|reason| !reason.is_empty())
        .map(str::to_owned);
    if matches!(phase, "failed" | "misconfigured") && reason.is_none() {
        return wrong("a failure without a reason");
    }
    Seen::Told(phase.to_owned(), reason)
}

/// How often each was seen.
pub fn tally<'a>(steps: impl IntoIterator<Item = &'a Step>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for step in steps {
        let key = match &step.seen {
            Seen::Told(phase, _) => phase.clone(),
            Seen::Bare(status) => format!("bare {status}"),
            Seen::Wrong(_) => "wrong".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        *counts.entry(format!("{} {key}", step.asked)).or_default() += 1;
    }
    counts
}
