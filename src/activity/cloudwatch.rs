//! CloudWatch.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::activity::Metrics;
use crate::aws::{JsonOperation, at_once, before, fault, incomplete};
use crate::domain::activity::{Activity, Backend, GroupActivity, Load, MACHINE_PERIOD, Question};
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::rule::ResourceId;
use crate::domain::seen::Fact;
use crate::domain::time::{Timestamp, after};
use crate::drive::CALL_TIMEOUT;

const GET: &str = "cloudwatch:GetMetricData";
/// Source: Amazon CloudWatch API reference, GetMetricData.
const QUERIES_PER_CALL: usize = 500;
/// More are given page by page. Source: Amazon CloudWatch API reference, GetMetricData, `MaxDatapoints`.
const POINTS_PER_CALL: usize = 100_800;
const MINUTE: Duration = Duration::from_secs(60);
/// How far back the load of machines is read.
const LOAD_SPAN: Duration = Duration::from_secs(20 * 60);

/// The adapter to CloudWatch. One read costs one query for each metric, however many questions share it.
#[derive(Debug, Clone)]
pub struct CloudWatch {
    get_metric_data: JsonOperation,
}

/// One metric of one thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Series {
    Requests(Backend),
    HealthyHosts(Backend),
    NetworkIn(ResourceId),
    NetworkOut(ResourceId),
    Cpu(ResourceId),
}

/// A span of time: from its start to before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    from: Timestamp,
    until: Timestamp,
}

/// What one call asks for.
#[derive(Debug)]
struct Batch {
    series: Vec<Series>,
    window: Window,
}

/// By the start of each period.
type Points = BTreeMap<Timestamp, f64>;

/// The results of one call so far, in the order of its queries.
#[derive(Debug)]
struct Gathered(Vec<Found>);

/// What came for one query.
#[derive(Debug, Clone, Default)]
struct Found {
    points: Points,
    status: Option<String>,
    words: String,
}

/// An answer of GetMetricData, as far as it is read. Source: Amazon CloudWatch API reference, GetMetricData.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Page {
    metric_data_results: Vec<MetricDataResult>,
    next_token: Option<String>,
}

/// A part of the answer to one query.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct MetricDataResult {
    id: String,
    /// Seconds since 1970.
    timestamps: Vec<f64>,
    /// What is no number in JSON is a word.
    values: Vec<Value>,
    status_code: Option<String>,
    messages: Vec<Message>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Message {
    value: String,
}

impl CloudWatch {
    /// Makes no call.
    pub fn new(get_metric_data: JsonOperation) -> Self {
        CloudWatch { get_metric_data }
    }
}

impl Metrics for CloudWatch {
    async fn read(&self, questions: &[Question]) -> Vec<Fact<Activity>> {
        let end = Instant::now() + CALL_TIMEOUT;
        let calls = batches(questions).into_iter().map(|batch| {
            let get_metric_data = self.get_metric_data.clone();
            async move {
                let found = before(end, GET, ask(&get_metric_data, &batch)).await;
                (batch.series, found)
            }
        });
        let mut known = BTreeMap::new();
        for (series, found) in at_once(calls.collect::<Vec<_>>()).await {
            match found {
                Ok(found) => known.extend(series.into_iter().zip(found)),
                Err(fault) => known.extend(series.into_iter().map(|one| (one, Err(fault.clone())))),
            }
        }
        questions.iter().map(|question| answer(question, &known)).collect()
    }
}

async fn ask(get_metric_data: &JsonOperation, batch: &Batch) -> Result<Vec<Fact<Points>>, Fault> {
    let mut input = json!({
        "MetricDataQueries": batch.series.iter().enumerate().map(query).collect::<Vec<_>>(),
        "StartTime": batch.window.from.as_second(),
        "EndTime": batch.window.until.as_second(),
    });
    let mut gathered = Gathered::new(batch.series.len());
    loop {
        let answer = get_metric_data.call(input.clone()).await;
        let answer = answer.map_err(|error| fault(GET, error))?;
        let page: Page = serde_json::from_value(answer).map_err(|error| incomplete(GET, &error.to_string()))?;
        gathered.take(&page);
        match page.next_token {
            Some(token) => input["NextToken"] = token.into(),
            None => return Ok(gathered.facts()),
        }
    }
}

/// Every metric once, those with similar windows together, as many in a call as CloudWatch takes.
fn batches(questions: &[Question]) -> Vec<Batch> {
    let mut wanted: BTreeMap<Series, Window> = BTreeMap::new();
    for question in questions {
        for (series, window) in series_of(question) {
            let widest = wanted.entry(series).or_insert(window);
            *widest = widest.with(window);
        }
    }
    let mut wanted: Vec<_> = wanted.into_iter().collect();
    wanted.sort_by_key(|(_, window)| window.from);
    let mut batches: Vec<Batch> = Vec::new();
    for (series, window) in wanted {
        match batches.last_mut() {
            Some(batch) if batch.has_room(window) => {
                batch.series.push(series);
                batch.window = batch.window.with(window);
            }
            _ => batches.push(Batch {
                series: vec![series],
                window,
            }),
        }
    }
    batches
}

/// What a question needs, each with the minutes asked for.
fn series_of(question: &Question) -> Vec<(Series, Window)> {
    let window = |from| Window {
        from: floor(from, MACHINE_PERIOD),
        until: question.until,
    };
    let groups = question.groups.iter().filter(|backend| dimensions(backend).is_some());
    let groups = groups.flat_map(|backend| {
        [Series::Requests, Series::HealthyHosts].map(|kind| (kind(backend.clone()), window(question.from)))
    });
    let mut asked: Vec<fn(ResourceId) -> Series> = Vec::new();
    if question.network {
        asked.extend([Series::NetworkIn as fn(_) -> _, Series::NetworkOut]);
    }
    if question.cpu {
        asked.push(Series::Cpu);
    }
    let machines = question.machines.iter().flat_map(|machine| {
        let series = asked.iter().map(|kind| kind(machine.clone()));
        series
            .map(|series| (series, window(load_start(question))))
            .collect::<Vec<_>>()
    });
    groups.chain(machines).collect()
}

/// From when on the load of machines is told.
fn load_start(question: &Question) -> Timestamp {
    question.until.checked_sub(LOAD_SPAN).unwrap_or(Timestamp::MIN)
}

/// The start of the period that has `t`. CloudWatch counts periods from the start that is asked for, so that one amid a
/// period would give other points; and it rounds a start that is older than 15 days down to five minutes. Source: Amazon
/// CloudWatch API reference, GetMetricData, `StartTime`.
fn floor(t: Timestamp, period: Duration) -> Timestamp {
    let period = period.as_secs().cast_signed();
    let start = t.as_second().div_euclid(period) * period;
    Timestamp::from_second(start).unwrap_or(Timestamp::MIN)
}

fn answer(question: &Question, known: &BTreeMap<Series, Fact<Points>>) -> Fact<Activity> {
    let points = |series: Series, from: Timestamp| -> Fact<Points> {
        let unknown = || Fault::new(FaultKind::NotFound, GET, format!("{} has no metrics", series.of()));
        let mut points = known.get(&series).cloned().ok_or_else(unknown)??;
        points.retain(|start, _| from <= *start && after(*start, series.period()) <= question.until);
        Ok(points)
    };
    let mut activity = Activity::default();
    for backend in &question.groups {
        let requests = points(Series::Requests(backend.clone()), question.from)?;
        let alive = points(Series::HealthyHosts(backend.clone()), question.from)?;
        let group = GroupActivity {
            requests: requests.into_iter().map(|(t, n)| (t, up(n))).collect(),
            alive: alive.into_keys().collect(),
        };
        activity.groups.insert(backend.group.clone(), group);
    }
    for machine in &question.machines {
        let recent = |kind: fn(ResourceId) -> Series| points(kind(machine.clone()), load_start(question));
        let (into, out) = match question.network {
            true => (recent(Series::NetworkIn)?, recent(Series::NetworkOut)?),
            false => Default::default(),
        };
        let cpu = match question.cpu {
            true => recent(Series::Cpu)?,
            false => Points::default(),
        };
        let network = into.into_iter().filter_map(|(t, n)| Some((t, up(n + out.get(&t)?))));
        let percent = |n| u8::try_from(up(n)).unwrap_or(u8::MAX);
        let load = Load {
            network: network.collect(),
            cpu: cpu.into_iter().map(|(t, n)| (t, percent(n))).collect(),
        };
        activity.machines.insert(machine.clone(), load);
    }
    Ok(activity)
}

/// Rounded up, so that a little use does not become none.
fn up(value: f64) -> u64 {
    value.ceil() as u64
}

impl Window {
    fn with(self, other: Window) -> Window {
        Window {
            from: self.from.min(other.from),
            until: self.until.max(other.until),
        }
    }
}

impl Batch {
    fn has_room(&self, for_window: Window) -> bool {
        let queries = self.series.len() + 1;
        let window = self.window.with(for_window);
        let minutes = window.until.duration_since(window.from).as_secs() / 60;
        let points = usize::try_from(minutes).unwrap_or(usize::MAX).saturating_mul(queries);
        queries <= QUERIES_PER_CALL && points <= POINTS_PER_CALL
    }
}

impl Series {
    /// The metric's name.
    fn name(&self) -> &'static str {
        match self {
            Series::Requests(_) => "RequestCount",
            Series::HealthyHosts(_) => "HealthyHostCount",
            Series::NetworkIn(_) => "NetworkIn",
            Series::NetworkOut(_) => "NetworkOut",
            Series::Cpu(_) => "CPUUtilization",
        }
    }

    /// What it is measured at.
    fn of(&self) -> &str {
        match self {
            Series::Requests(backend) | Series::HealthyHosts(backend) => &backend.group.0,
            Series::NetworkIn(machine) | Series::NetworkOut(machine) | Series::Cpu(machine) => &machine.0,
        }
    }

    fn stat(&self) -> &'static str {
        match self {
            Series::Requests(_) | Series::NetworkIn(_) | Series::NetworkOut(_) => "Sum",
            Series::HealthyHosts(_) => "Maximum",
            Series::Cpu(_) => "Average",
        }
    }

    fn period(&self) -> Duration {
        match self {
            Series::Requests(_) | Series::HealthyHosts(_) => MINUTE,
            Series::NetworkIn(_) | Series::NetworkOut(_) | Series::Cpu(_) => MACHINE_PERIOD,
        }
    }

    /// The namespace and the dimensions.
    fn place(&self) -> (&'static str, Vec<(&'static str, &str)>) {
        match self {
            Series::Requests(backend) | Series::HealthyHosts(backend) => {
                let (group, balancer) = dimensions(backend).unwrap_or_default();
                (
                    "AWS/ApplicationELB",
                    vec![("TargetGroup", group), ("LoadBalancer", balancer)],
                )
            }
            Series::NetworkIn(machine) | Series::NetworkOut(machine) | Series::Cpu(machine) => {
                ("AWS/EC2", vec![("InstanceId", &machine.0)])
            }
        }
    }
}

/// `targetgroup/NAME/ID` and `app/NAME/ID`, the ends of the ARNs. Source: Elastic Load Balancing, "CloudWatch metrics for
/// your Application Load Balancer", metric dimensions.
fn dimensions(backend: &Backend) -> Option<(&str, &str)> {
    let (_, group) = backend.group.0.rsplit_once(':')?;
    let (_, balancer) = backend.load_balancer.split_once(":loadbalancer/")?;
    let known = group.starts_with("targetgroup/") && balancer.starts_with("app/");
    known.then_some((group, balancer))
}

/// The query of this number, which is its id too.
fn query((number, series): (usize, &Series)) -> Value {
    let (namespace, dimensions) = series.place();
    let dimensions = dimensions
        .into_iter()
        .map(|(name, value)| json!({ "Name": name, "Value": value }));
    json!({
        "Id": format!("q{number}"),
        "MetricStat": {
            "Metric": {
                "Namespace": namespace,
                "MetricName": series.name(),
                "Dimensions": dimensions.collect::<Vec<_>>(),
            },
            "Period": series.period().as_secs(),
            "Stat": series.stat(),
        },
    })
}

impl Gathered {
    fn new(queries: usize) -> Self {
        Gathered(vec![Found::default(); queries])
    }

    /// One page. A result may go on over several.
    fn take(&mut self, page: &Page) {
        for result in &page.metric_data_results {
            let number = result.id.strip_prefix('q').and_then(|id| id.parse::<usize>().ok());
            let Some(found) = number.and_then(|number| self.0.get_mut(number)) else {
                continue;
            };
            let points = result.timestamps.iter().zip(&result.values);
            found.points.extend(points.filter_map(|(t, value)| point(*t, value)));
            let failed = matches!(found.status.as_deref(), Some("InternalError" | "Forbidden"));
            if !failed {
                found.status.clone_from(&result.status_code);
                found.words = words(result);
            }
        }
    }

    fn facts(self) -> Vec<Fact<Points>> {
        self.0.into_iter().map(Found::fact).collect()
    }
}

impl Found {
    /// Part of the points is none: what is missing could be the use.
    fn fact(self) -> Fact<Points> {
        let kind = match self.status.as_deref() {
            Some("Complete") => return Ok(self.points),
            Some("Forbidden") => FaultKind::Denied,
            _ => FaultKind::Other,
        };
        let status = self.status.as_deref().unwrap_or("no result");
        Err(Fault::new(kind, GET, format!("{status}{}", self.words)))
    }
}

/// A NaN or a negative count is no count.
fn point(seconds: f64, value: &Value) -> Option<(Timestamp, f64)> {
    let value = value.as_f64().filter(|value| *value >= 0.0)?;
    Some((Timestamp::from_second(seconds as i64).ok()?, value))
}

/// What CloudWatch adds to a result in words.
fn words(result: &MetricDataResult) -> String {
    let said = result.messages.iter().map(|message| format!(": {}", message.value));
    said.collect()
}
