//! A rule that is awake, against other proxies.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::fronts::{Behind, Front, RULE};
use crate::ours::host;
use crate::pins;
use crate::report::{Report, median, percentile};
use crate::traffic;
use crate::usage::cpu;

/// wrk's connections.
const CONNECTIONS: usize = 32;
const STREAM: Duration = Duration::from_millis(500);
const DIAL: Duration = Duration::from_millis(500);
/// The budget.
const SHARE: f64 = 0.97;

/// What is measured, each with its unit; for those where less is better, how often theirs fits into the first one's.
struct Measure {
    title: &'static str,
    unit: &'static str,
    digits: usize,
    less_is_better: bool,
    has_budget: bool,
}

const MEASURES: [Measure; 5] = [
    Measure::new("HTTP requests/s", "1/s", 0, false, true),
    Measure::new("HTTP p50", "ms", 2, true, false),
    Measure::new("HTTP p99", "ms", 2, true, true),
    Measure::new("TCP bytes/s, one stream", "MB/s", 0, false, true),
    Measure::new("TCP connections/s", "1/s", 0, false, false),
];

impl Measure {
    const fn new(
        title: &'static str,
        unit: &'static str,
        digits: usize,
        less_is_better: bool,
        has_budget: bool,
    ) -> Measure {
        Measure {
            title,
            unit,
            digits,
            less_is_better,
            has_budget,
        }
    }
}

/// One front's values, a round each, and what share of a core it used.
#[derive(Default)]
struct Series {
    values: [Vec<f64>; 5],
    busy: [Vec<f64>; 5],
    daemon: Vec<f64>,
}

pub fn measure(rounds: usize, report: &mut Report) {
    pins::generators();
    let behind = Behind::start();
    let fronts = [
        Front::bare_envoy("Envoy, bare", &behind),
        Front::ours(&behind),
        Front::bare_envoy("Envoy, bare, again", &behind),
        Front::haproxy(&behind),
        Front::nginx(&behind),
    ];
    let mut series: [Series; 5] = Default::default();
    for round in 0..rounds {
        // Who begins changes, and so does who comes after whom.
        let mut order: Vec<usize> = (0..fronts.len()).collect();
        order.rotate_left(round % fronts.len());
        if round / fronts.len() % 2 == 1 {
            order.reverse();
        }
        for front in order {
            series[front].add(&fronts[front]);
        }
        println!("  round {} of {rounds}", round + 1);
    }
    pins::nobody();
    tell(rounds, &fronts, &series, report);
}

impl Series {
    fn add(&mut self, front: &Front) {
        let daemon = front.daemon().map(|daemon| (daemon, cpu(daemon), Instant::now()));
        let (values, busy) = timed(front.process, || http(front.http));
        for (measure, value) in values.into_iter().enumerate() {
            self.values[measure].push(value);
            self.busy[measure].push(busy);
        }
        let (value, busy) = timed(front.process, || {
            traffic::bytes_per_second(front.stream, STREAM).expect("it streams") / 1e6
        });
        self.values[3].push(value);
        self.busy[3].push(busy);
        let (value, busy) = timed(front.process, || {
            traffic::connections_per_second(front.connections, DIAL).expect("it is connected")
        });
        self.values[4].push(value);
        self.busy[4].push(busy);
        if let Some((daemon, before, begin)) = daemon {
            let used = (cpu(daemon) - before).as_secs_f64();
            self.daemon.push(used / begin.elapsed().as_secs_f64());
        }
    }
}

/// What it came to, and what share of a core this process used meanwhile.
fn timed<T>(process: u32, run: impl FnOnce() -> T) -> (T, f64) {
    let (before, begin) = (cpu(process), Instant::now());
    let value = run();
    let used = (cpu(process) - before).as_secs_f64();
    (value, used / begin.elapsed().as_secs_f64())
}

/// Requests a second, and the latency that half and 99 % do not exceed, in ms.
fn http(at: SocketAddr) -> [f64; 3] {
    let output = Command::new("wrk")
        .args(["--threads", "1", "--connections", &CONNECTIONS.to_string()])
        .args(["--duration", "1s", "--latency", "--header"])
        .arg(format!("Host: {}", host(RULE)))
        .arg(format!("http://{at}/"))
        .output()
        .expect("wrk is there");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && !said.contains("Non-2xx") && !said.contains("Socket errors"),
        "{said}"
    );
    let word = |label: &str| {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(label));
        line.unwrap_or_else(|| panic!("no {label}: {said}")).trim().to_owned()
    };
    let number = |text: &str| text.parse::<f64>().unwrap_or_else(|_| panic!("{text}: {said}"));
    let millis = |label: &str| {
        let text = word(label);
        let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0)];
        let unit = units
            .iter()
            .find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)));
        let (digits, size) = unit.unwrap_or_else(|| panic!("{text}: {said}"));
        number(digits) * size
    };
    [number(&word("Requests/sec:")), millis("50%"), millis("99%")]
}

fn tell(rounds: usize, fronts: &[Front], series: &[Series], report: &mut Report) {
    report.section(
        "An awake rule",
        &format!(
            "{rounds} rounds, all proxies in each, in changing order. HTTP: wrk, {CONNECTIONS} connections kept alive, 1 s, \
             to a site of 20 bytes (nginx). TCP: one stream towards the client for {} ms; connections that bring one byte, \
             16 clients, {} ms. *Of bare* is the median of the ratios to the first bare Envoy in the same round, more is \
             better (for latency its value divided by theirs), with an interval that holds the true median with at least \
             95 % by order statistics. Each proxy works with one thread and has the machine's first core to itself, ours \
             together with its daemon; everything else has the others. *Busy* is the share of its core that the proxy used: well below 1, something else was \
             the limit.",
            STREAM.as_millis(),
            DIAL.as_millis(),
        ),
    );
    report.note(
        "The bare Envoy is configured by a file of 50 lines (`bench/proxy/configurations`): no control plane, no log, no \
         authorization, none of the settings of an edge. This proxy's Envoy has all of what is shipped: limits, normalised \
         paths, `X-Forwarded-For`, the filters that hold requests (off while awake), load reports, a log of connections, a \
         rule whose addresses come from the daemon.",
    );
    let mut verdicts = Vec::new();
    for (at, measure) in MEASURES.iter().enumerate() {
        report.head(&[measure.title, measure.unit, "of bare", "at least 95 %", "busy"]);
        for (front, own) in fronts.iter().zip(series) {
            let pairs = own.values[at].iter().zip(&series[0].values[at]);
            let ratios: Vec<f64> = pairs
                .map(|(own, bare)| if measure.less_is_better { bare / own } else { own / bare })
                .collect();
            let (low, high) = interval(&ratios);
            let interval = format!("{low:.3} to {high:.3}");
            report.row(&[
                front.name.to_owned(),
                format!("{:.*}", measure.digits, median(&own.values[at])),
                format!("{:.3}", median(&ratios)),
                interval.clone(),
                format!("{:.2}", median(&own.busy[at])),
            ]);
            if measure.has_budget && front.daemon().is_some() {
                let met = if median(&ratios) >= SHARE { "met" } else { "missed" };
                verdicts.push(format!("{} {:.3} ({interval}): {met}", measure.title, median(&ratios)));
            }
        }
    }
    report.note(&format!("Budget: {SHARE} of bare. {}.", verdicts.join("; ")));
    let daemon = series
        .iter()
        .flat_map(|series| &series.daemon)
        .copied()
        .collect::<Vec<_>>();
    report.note(&format!(
        "The daemon beside it used {:.2} % of a core meanwhile (median; at most {:.2} %).",
        median(&daemon) * 100.0,
        percentile(&daemon, 1.0) * 100.0
    ));
}

/// The order statistics between which the true median lies with at least 95 %, whatever the distribution: the sign test's.
fn interval(sample: &[f64]) -> (f64, f64) {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    // The chance that fewer than `k` of `count` fair coins show heads, as long as it is at most 2.5 %.
    let mut chance = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let (mut below, mut left_out) = (0.0, 0);
    while below + chance <= 0.025 {
        below += chance;
        chance *= (count - left_out) as f64 / (left_out + 1) as f64;
        left_out += 1;
    }
    let first = left_out.saturating_sub(1);
    (sorted[first], sorted[count - 1 - first])
}
