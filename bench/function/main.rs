//! Measures the shipped function and writes its part of `bench/RESULTS.md`: `make bench-function`.
//!
//! What is compared runs by turns in one run, so that whatever else the machine does happens to all of them.

#[path = "../../tests/local_support/mod.rs"]
mod local_support;
mod process;
#[path = "../report.rs"]
mod report;
mod system;
#[path = "../usage.rs"]
mod usage;

use std::{fs, path::Path, process::Command, time::Duration};

use local_support::story::{asleep, bootstrap};
use process::Process;
use proxymanager::local::Cloud;
use report::{Report, median, percentile};
use serde_json::json;

const STARTS: usize = 40;
const POLLS: usize = 5000;
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/function");

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let mut report = Report::default();
    runtime.block_on(async {
        let cloud = asleep(|_| {}).await;
        starts(&cloud, &mut report);
        polls(&cloud, &mut report);
        cloud.stop().await;
        sizes(&mut report);
        system::wakes(&mut report).await;
        system::ticks(&mut report).await;
        system::hand_over(&mut report).await;
    });
    report.save(
        "The function",
        "Written by `make bench-function`, which repeats all of it: the release build of the function in front of the local \
         cloud, on loopback. Times are those of a process on this machine, not of Lambda, where the start of an environment \
         comes before and the network in between.",
    );
}

/// The function as Lambda starts it, in front of the local cloud.
fn ours(cloud: &Cloud) -> Command {
    let mut command = Command::new(bootstrap());
    command.env_clear().envs(cloud.shared.lambda.environment());
    command
}

fn hello() -> Command {
    let mut command = Command::new(Path::new(FOLDER).join("hello/target/release/hello"));
    command.env_clear();
    command
}

fn python(cloud: &Cloud) -> Command {
    let mut command = Command::new(Path::new(FOLDER).join("../../.venv/bin/python"));
    command.arg(Path::new(FOLDER).join("first_step.py"));
    command.env_clear().envs(cloud.shared.lambda.environment());
    command
}

fn starts(cloud: &Cloud, report: &mut Report) {
    let kinds: [(&str, &dyn Fn() -> Command); 3] = [
        ("hello world in Rust", &hello),
        ("this function", &|| ours(cloud)),
        ("Python and boto3, the same clients", &|| python(cloud)),
    ];
    let mut millis = [const { Vec::new() }; 3];
    let mut memory = [const { Vec::new() }; 3];
    for _ in 0..STARTS {
        for (kind, (_, command)) in kinds.iter().enumerate() {
            let process = Process::start(command());
            millis[kind].push(process.start.as_secs_f64() * 1000.0);
            memory[kind].push(process.memory());
        }
    }
    report.section(
        "Start",
        &format!(
            "From the start of the process to its first poll of the runtime API; {STARTS} runs of each, by turns."
        ),
    );
    report.head(&[
        "",
        "median, ms",
        "lowest, ms",
        "highest, ms",
        "memory, MB",
        "of hello world",
    ]);
    let hello = median(&millis[0]);
    for (kind, (name, _)) in kinds.iter().enumerate() {
        let (low, high) = (percentile(&millis[kind], 0.0), percentile(&millis[kind], 1.0));
        let middle = median(&millis[kind]);
        report.row(&[
            (*name).to_owned(),
            format!("{middle:.2}"),
            format!("{low:.2}"),
            format!("{high:.2}"),
            format!("{:.1}", median(&memory[kind])),
            format!("{:.2} x", middle / hello),
        ]);
    }
    let ratio = median(&millis[2]) / median(&millis[1]);
    report.note(&format!(
        "Python and boto3 take {ratio:.0} times as long as this function."
    ));
    report.note(
        "What a start executes, counted by callgrind: 1.5 million instructions, 0.4 million of them in hello world as well. \
         Of the rest, 0.7 million read the five root certificates, 0.4 million the list of AWS's partitions for DynamoDB's \
         client, and 0.3 million relocate a program of 7 MB, whose pages are also what most of the page faults are for (255 \
         against 100). The clients of EC2 and load balancing are made by the first look that needs them.",
    );
}

/// What the page asks while somebody waits: answered from the ledger's snapshot.
fn polls(cloud: &Cloud, report: &mut Report) {
    let poll = json!({
        "requestContext": { "elb": { "targetGroupArn": cloud.seeded.waker } },
        "httpMethod": "GET",
        "path": "/",
        "queryStringParameters": {},
        "headers": {
            "host": local_support::HOST,
            "accept": "application/vnd.autostopping+json",
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": cloud.address.port().to_string(),
            "x-forwarded-proto": "http",
        },
        "body": "",
        "isBase64Encoded": false,
    })
    .to_string();
    report.section(
        "A poll, warm",
        &format!(
            "The page asks how far things are: {POLLS} times, one after the other. The ledger is the local cloud's, in \
             the time of an answer but not in the processor time."
        ),
    );
    report.head(&[
        "",
        "p50, ms",
        "p99, ms",
        "processor time each, ms",
        "memory afterwards, MB",
    ]);
    for (name, command) in [("hello world in Rust", hello()), ("this function", ours(cloud))] {
        let process = Process::start(command);
        for _ in 0..100 {
            process.invoke(&poll);
        }
        let before = process.cpu();
        let millis: Vec<f64> = (0..POLLS)
            .map(|_| process.invoke(&poll).as_secs_f64() * 1000.0)
            .collect();
        let cpu = (process.cpu() - before) / u32::try_from(POLLS).unwrap_or(u32::MAX);
        report.row(&[
            name.to_owned(),
            format!("{:.2}", median(&millis)),
            format!("{:.2}", percentile(&millis, 0.99)),
            format!("{:.3}", in_millis(cpu)),
            format!("{:.1}", process.memory()),
        ]);
    }
    report.note(
        "By callgrind a poll is 830,000 instructions: 200,000 for the runtime API, the event and the answer, nearly all others \
         for one read of the ledger by AWS's SDK. The route table is remembered for ten seconds.",
    );
}

fn in_millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn sizes(report: &mut Report) {
    report.section("Size", "What is uploaded, and what is in it.");
    report.head(&["", "MB"]);
    let version = env!("CARGO_PKG_VERSION");
    let zip = format!("{FOLDER}/../../dist/aws-proxymanager-{version}.zip");
    for (name, path) in [("zip", Path::new(&zip)), ("bootstrap", bootstrap().as_path())] {
        let size = fs::metadata(path).map(|file| file.len() as f64 / 1e6);
        let size = size.map_or_else(|error| error.to_string(), |size| format!("{size:.2}"));
        report.row(&[name.to_owned(), size]);
    }
}
