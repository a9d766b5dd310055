//! The table of answers, `tests/requests/table.md`, against the shipped function behind the local cloud's load balancer.
//!
//! Seen red: with no path refused, no user agent known, any origin taken for the own, every address allowed, IPv4 in IPv6 left
//! as it is, a poll that asks like a person, a 307 after the button, and no wake of the day refused.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use local_support::story::{asleep, sample};
use local_support::{Answer, Connection};
use proxymanager::cli::seed_asleep;
use proxymanager::clock::{Clock, SystemClock};
use proxymanager::local::seed::{Asleep, TABLE};
use proxymanager::local::{Cloud, world::World};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

const TABLE_OF_ANSWERS: &str = include_str!("requests/table.md");

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const POLL: &str = "application/vnd.autostopping+json";
const TYPES: [(&str, Option<&str>); 5] = [
    ("page", Some("text/html; charset=utf-8")),
    ("news", Some("application/problem+json")),
    ("told", Some("application/problem+json")),
    ("health", Some("text/plain")),
    // What the load balancer writes when the function names none.
    ("", Some("application/octet-stream")),
];

/// One line of the table.
#[derive(Debug)]
struct Row {
    method: &'static str,
    path: &'static str,
    by: Vec<(&'static str, &'static str)>,
    tags: Vec<(&'static str, &'static str)>,
    status: u16,
    woken: &'static str,
    content_type: &'static str,
    more: Vec<(&'static str, &'static str)>,
    /// Of its rule. Those that leave alike rules asleep share one.
    host: String,
    line: usize,
}

impl Row {
    fn read(line: usize, text: &'static str) -> Self {
        let cells: Vec<_> = text.trim_matches('|').split('|').map(str::trim).collect();
        let [request, by, rule, status, woken, content_type, more] = cells.as_slice() else {
            panic!("line {line} has not 7 cells: {text}");
        };
        let (method, path) = request.split_once(' ').expect("method and path");
        let state = ["used-up", "waking", "flipped"]
            .into_iter()
            .find(|state| rule.contains(state));
        Row {
            method,
            path,
            by: by.split(" + ").map(named).collect(),
            tags: tags(rule),
            status: status.parse().unwrap_or_else(|_| panic!("line {line}: a status")),
            woken,
            content_type,
            more: more.split("; ").filter(|text| !text.is_empty()).map(named).collect(),
            host: format!("{}-{line}.localhost", state.unwrap_or("asleep")),
            line,
        }
    }

    fn is(&self, word: &str) -> bool {
        self.by.iter().any(|(name, _)| *name == word)
    }

    fn given(&self, name: &str) -> Option<&'static str> {
        self.by.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// Names as they are written, values as they are sent.
    fn headers(&self) -> Vec<(String, String)> {
        let host = self.given("at").unwrap_or(&self.host).to_owned();
        let mut headers = vec![("Host".to_owned(), host)];
        for (name, value) in &self.by {
            let header = match *name {
                "browser" => ("Accept", BROWSER),
                "program" => ("Accept", "*/*"),
                "poll" => ("Accept", POLL),
                "press" | "form" => ("Content-Type", "application/x-www-form-urlencoded"),
                "at" | "from" | "as-is" => continue,
                name => (name, *value),
            };
            headers.push((header.0.to_owned(), header.1.replace("HOST", &self.host)));
        }
        headers
    }

    fn body(&self) -> &'static str {
        if self.is("press") {
            "autostopping=wake"
        } else if self.is("form") {
            "name=value&autostopping=wake"
        } else {
            ""
        }
    }

    async fn ask(&self, cloud: &Cloud) -> Answer {
        if self.is("as-is") {
            return self.hand_over(cloud).await;
        }
        let lines: String = self
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let (method, path, body) = (self.method, self.path, self.body());
        let text = format!(
            "{method} {path} HTTP/1.1\r\n{lines}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let socket = TcpSocket::new_v4().expect("a socket");
        let from: Ipv4Addr = self.given("from").unwrap_or("127.0.0.1").parse().expect("an address");
        socket.bind((from, 0).into()).expect("an address of loopback");
        let mut connection = Connection(socket.connect(cloud.address).await.expect("the port listens"));
        connection.send(&text).await;
        if method == "HEAD" {
            let head = connection.head().await.expect("an answer");
            let status = head
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok())
                .expect("a status");
            return Answer {
                status,
                head,
                body: Vec::new(),
            };
        }
        connection.answer().await.expect("an answer")
    }

    /// To the function, as a load balancer would that adds nothing.
    async fn hand_over(&self, cloud: &Cloud) -> Answer {
        let mut headers: BTreeMap<_, _> = self
            .headers()
            .into_iter()
            .map(|(name, value)| (name, json!([value])))
            .collect();
        headers.insert("X-Forwarded-Port".to_owned(), json!([cloud.address.port().to_string()]));
        let event = json!({"requestContext": {"elb": {"targetGroupArn": cloud.seeded.waker}}, "httpMethod": self.method,
            "path": self.path, "multiValueHeaders": headers, "body": self.body(), "isBase64Encoded": false});
        let answer = cloud.shared.invoke(event.to_string().into()).await.expect("an answer");
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        let lines = answer["multiValueHeaders"].as_object().expect("headers");
        let lines = lines
            .iter()
            .map(|(name, value)| format!("{name}: {}\r\n", value[0].as_str().expect("text")));
        Answer {
            status: answer["statusCode"]
                .as_u64()
                .and_then(|status| status.try_into().ok())
                .expect("a status"),
            head: lines.collect(),
            body: answer["body"].as_str().expect("a body").into(),
        }
    }

    /// What is wrong with an answer, in words.
    fn judge(&self, answer: &Answer, woken: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expect = |what: &str, is: &str, expected: &str| {
            if is != expected {
                wrong.push(format!("{what}: {is:?}, expected {expected:?}"));
            }
        };
        expect("answer", &answer.status.to_string(), &self.status.to_string());
        expect("woken", woken, self.woken);
        let (_, expected) = TYPES
            .iter()
            .find(|(name, _)| *name == self.content_type)
            .expect("a known type");
        expect(
            "type",
            answer.header("content-type").unwrap_or_default(),
            expected.unwrap_or_default(),
        );
        if self.content_type != "health" {
            expect(
                "cache-control",
                answer.header("cache-control").unwrap_or_default(),
                "no-store",
            );
            let phase = answer.header("x-autostopping-phase").is_some();
            expect("has a phase", &phase.to_string(), "true");
        }
        for (name, expected) in &self.more {
            if *name == "body" {
                let text = answer.text();
                let holds = if expected.is_empty() {
                    text.is_empty()
                } else {
                    text.contains(expected)
                };
                let shown = if holds { expected } else { text.as_str() };
                expect("body", shown, expected);
            } else {
                let is = answer.header(name).unwrap_or_default();
                let part = *name == "content-security-policy" && is.split("; ").any(|part| part == *expected);
                expect(name, if part { expected } else { is }, expected);
            }
        }
        wrong
    }
}

fn named(text: &'static str) -> (&'static str, &'static str) {
    let (name, value) = text.split_once(':').unwrap_or((text, ""));
    (name.trim(), value.trim())
}

/// `key=value key=value more of the value`, without the words for what the rule was before.
fn tags(text: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut tags: Vec<(&'static str, &'static str)> = Vec::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let words = after.split(' ');
        let length: usize = words
            .take_while(|word| !word.contains('=') && !["used-up", "waking", "flipped"].contains(word))
            .map(|word| word.len() + 1)
            .sum();
        let value = &after[..length.saturating_sub(1).min(after.len())];
        tags.push((key.rsplit(' ').next().unwrap_or(key), value.trim()));
        rest = &after[length.min(after.len())..];
    }
    tags
}

/// The rows of a section.
fn rows(heading: &str) -> Vec<Row> {
    let mut section = "";
    let mut rows: Vec<Row> = Vec::new();
    for (at, line) in TABLE_OF_ANSWERS.lines().enumerate() {
        section = line.strip_prefix("## ").unwrap_or(section);
        let is_row = line.starts_with('|') && !line.starts_with("| request") && !line.starts_with("|-");
        if section != heading || !is_row {
            continue;
        }
        let mut row = Row::read(at + 1, line);
        let state = |row: &Row| row.host.split('-').next().map(str::to_owned);
        let alike = |other: &&Row| other.tags == row.tags && other.woken == "no" && state(other) == state(&row);
        if row.woken == "no"
            && let Some(other) = rows.iter().find(alike)
        {
            row.host.clone_from(&other.host);
        }
        rows.push(row);
    }
    rows
}

/// The records of sleeping rules, and of those that the table says something else of.
fn seed(world: &mut World, now: Timestamp, sites: &[Asleep]) {
    seed_asleep(world, now, sites);
    for site in sites {
        let table = world.table(TABLE).expect("the ledger");
        let key = json!({"pk": {"S": format!("rule#{}", site.name)}, "sk": {"S": "record"}});
        let mut items = table.items().values();
        let item = items.find(|item| item["pk"] == key["pk"] && item["sk"] == key["sk"]);
        let mut item = item.expect("a record").clone();
        let mut record: Value = serde_json::from_str(item["body"]["S"].as_str().expect("text")).expect("JSON");
        if site.name.starts_with("used-up") {
            record["woken_today"] = json!({"day": format!("{}T00:00:00Z", now.strftime("%Y-%m-%d")), "count": 1});
        } else if site.name.starts_with("flipped") {
            // Never more than a moment ago, however long the table takes.
            let soon = now + Duration::from_secs(3600);
            record["wanted"] = json!("awake");
            record["snapshot"]["phase"] = json!("awake");
            record["snapshot"]["switched"] = json!(true);
            record["flips"] = json!({ site.rule.as_str(): {"side": "backend", "at": soon} });
        }
        item["body"] = json!({"S": record.to_string()});
        table.put(item).expect("the ledger takes it");
    }
}

fn starts(cloud: &Cloud, site: &Asleep) -> u32 {
    cloud.shared.world().instance(&site.instance).expect("a machine").starts
}

macro_rules! sections {
    ($($name:ident $heading:literal)*) => {
        const SECTIONS: &[&str] = &[$($heading),*];

        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                holds($heading).await;
            }
        )*
    };
}

// A cloud for each: the function reads all rules for every request.
sections! {
    who_is_somebody "Who is somebody"
    who_is_nobody "Who is nobody"
    paths "Paths"
    addresses "Addresses"
    the_button "The button"
    so_many_times_a_day "So many times a day"
    under_way "Under way, and switched a moment ago"
}

#[test]
fn every_section_is_tested() {
    let headings: Vec<_> = TABLE_OF_ANSWERS
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    assert_eq!(headings, SECTIONS);
    assert!(SECTIONS.iter().map(|heading| rows(heading).len()).sum::<usize>() >= 120);
}

async fn holds(heading: &str) {
    let rows = rows(heading);
    until_no_midnight_is_near().await;
    let hosts: BTreeSet<_> = rows.iter().map(|row| row.host.as_str()).collect();
    let cloud = asleep(|config| {
        config.sites = hosts.iter().map(|host| sample(host)).collect();
        config.seed_asleep = Some(seed);
        // No machine is up before the table is through.
        config.boot = Duration::from_secs(3600);
        config.env = vec![("AUTOSTOPPING_HOLD_LIMIT".to_owned(), "1s".to_owned())];
    })
    .await;
    let site = |row: &Row| {
        let place = hosts
            .iter()
            .position(|host| *host == row.host)
            .expect("each has a site");
        &cloud.seeded.sites[place]
    };
    for row in &rows {
        for (key, value) in &row.tags {
            let tags = [(format!("autostopping:{key}"), (*value).to_owned())].into();
            let added = cloud.shared.world().add_elb_tags(&site(row).rule, &tags);
            added.expect("R is there");
        }
    }
    let mut wrong = Vec::new();
    for row in &rows {
        if row.host.starts_with("waking") {
            let host = &row.host;
            let press = format!(
                "POST / HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\nContent-Length: 17\r\n\r\nautostopping=wake"
            );
            let mut connection = Connection::open(cloud.address).await;
            connection.send(&press).await;
            connection.answer().await.expect("an answer");
        }
        let before = starts(&cloud, site(row));
        let answer = row.ask(&cloud).await;
        let woken = match (before, starts(&cloud, site(row))) {
            (0, 0) => "no",
            (0, 1) => "yes",
            (1, 1) => "already",
            _ => "more than once",
        };
        let told = row.judge(&answer, woken).join("\n  ");
        if !told.is_empty() {
            let Row { line, method, path, .. } = row;
            wrong.push(format!("table.md:{line}: {method} {path}\n  {told}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} rows:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
    cloud.stop().await;
}

/// What was woken today is forgotten tomorrow.
async fn until_no_midnight_is_near() {
    const NEAR: i64 = 120;
    let left = 86_400 - SystemClock.now().as_second().rem_euclid(86_400);
    if left < NEAR {
        tokio::time::sleep(Duration::from_secs(left.unsigned_abs() + 1)).await;
    }
}
