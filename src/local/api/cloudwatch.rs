//! CloudWatch's GetMetricData over what the world has measured, in JSON and in CBOR.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Answer, unknown_call};
use crate::local::world::{Failure, Wanted, World};

/// What the call, a query and the metric of a query may carry; anything else is refused by name, because ignoring it
/// could change its meaning.
const KNOWN: [&str; 6] = [
    "MetricDataQueries",
    "StartTime",
    "EndTime",
    "NextToken",
    "ScanBy",
    "MaxDatapoints",
];
const KNOWN_OF_QUERY: [&str; 4] = ["Id", "MetricStat", "Label", "ReturnData"];

/// Source: Amazon CloudWatch API reference, GetMetricData.
const QUERIES: usize = 500;

/// Answers one call.
pub fn call(world: &World, now: Timestamp, name: &str, params: &Map<String, Value>) -> Answer {
    if name != "GetMetricData" {
        return Err(unknown_call("CloudWatch", name));
    }
    only(params, &KNOWN, name)?;
    let queries = params.get("MetricDataQueries").and_then(Value::as_array);
    let queries = queries.ok_or_else(|| invalid("The parameter MetricDataQueries is required."))?;
    if queries.len() > QUERIES {
        return Err(invalid(&format!(
            "The collection MetricDataQueries must not have a size greater than {QUERIES}."
        )));
    }
    let (start, end) = (second(params, "StartTime")?, second(params, "EndTime")?);
    if start > end {
        return Err(invalid("The parameter EndTime must be greater than StartTime."));
    }
    if start == end {
        return Err(invalid("The parameter StartTime must not equal parameter EndTime."));
    }
    let oldest_first = params.get("ScanBy").and_then(Value::as_str) == Some("TimestampAscending");
    let mut series = Vec::new();
    for query in queries {
        let mut one = points(world, now, query, start / 60 * 60, end)?;
        if !oldest_first {
            one.points.reverse();
        }
        series.push(one);
    }
    let most = params.get("MaxDatapoints").and_then(Value::as_u64);
    let most = most
        .map_or(usize::MAX, |most| most as usize)
        .min(world.settings.metrics_page);
    let from = match params.get("NextToken").and_then(Value::as_str) {
        Some(token) => token.parse().map_err(|_| {
            let message = "The service token is invalid";
            Failure::refused("InvalidNextToken", message)
        })?,
        None => 0,
    };
    Ok(page(&series, from, most))
}

/// One query's answer, whole.
struct Series {
    id: String,
    label: String,
    points: Vec<(i64, f64)>,
}

/// A page of `most` points from the point of this number on, counted through all series.
fn page(series: &[Series], from: usize, most: usize) -> Value {
    let end = from.saturating_add(most);
    let mut before = 0;
    let mut results = Vec::new();
    for Series { id, label, points } in series {
        let within = |n: usize| n.clamp(before, before + points.len()) - before;
        let shown = &points[within(from)..within(end)];
        let rest = before + points.len() > end;
        results.push(json!({
            "Id": id,
            "Label": label,
            "Timestamps": shown.iter().map(|(at, _)| at).collect::<Vec<_>>(),
            "Values": shown.iter().map(|(_, value)| value).collect::<Vec<_>>(),
            "StatusCode": if rest { "PartialData" } else { "Complete" },
        }));
        before += points.len();
    }
    let mut answer = json!({ "MetricDataResults": results, "Messages": [] });
    if before > end {
        answer["NextToken"] = end.to_string().into();
    }
    answer
}

fn points(world: &World, now: Timestamp, query: &Value, start: i64, end: i64) -> Result<Series, Failure> {
    let query = object(query, "MetricDataQueries")?;
    only(query, &KNOWN_OF_QUERY, "a query")?;
    let id = text(query, "Id")?;
    let stat = query.get("MetricStat");
    let stat = stat.ok_or_else(|| invalid("The parameter MetricDataQueries.member.1.MetricStat is required.\n"))?;
    let stat = object(stat, "MetricStat")?;
    only(stat, &["Metric", "Period", "Stat"], "MetricStat")?;
    let metric = object(stat.get("Metric").unwrap_or(&Value::Null), "Metric")?;
    let mut dimensions = BTreeMap::new();
    for dimension in metric.get("Dimensions").and_then(Value::as_array).into_iter().flatten() {
        let dimension = object(dimension, "Dimensions")?;
        dimensions.insert(text(dimension, "Name")?, text(dimension, "Value")?);
    }
    let period = stat.get("Period").and_then(Value::as_i64);
    let period = period.filter(|period| *period > 0 && period % 60 == 0);
    let wanted = Wanted {
        namespace: text(metric, "Namespace")?,
        metric: text(metric, "MetricName")?,
        dimensions,
        stat: text(stat, "Stat")?,
        period: period.ok_or_else(|| invalid("Period must be a multiple of 60."))?,
    };
    let label = match query.get("Label").and_then(Value::as_str) {
        Some(label) => label.to_owned(),
        None => format!("{} {}", wanted.metric, wanted.stat),
    };
    let points = world.metric_data(now, &wanted, start, end)?;
    Ok(Series { id, label, points })
}

fn only(object: &Map<String, Value>, known: &[&str], of: &str) -> Result<(), Failure> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => Err(invalid(&format!(
            "the local cloud does not know the parameter {unknown} of {of}"
        ))),
        None => Ok(()),
    }
}

fn object<'v>(value: &'v Value, name: &str) -> Result<&'v Map<String, Value>, Failure> {
    value
        .as_object()
        .ok_or_else(|| invalid(&format!("The parameter {name} is required.")))
}

fn text(of: &Map<String, Value>, key: &str) -> Result<String, Failure> {
    let text = of.get(key).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| invalid(&format!("The parameter {key} is required.")))
}

fn second(of: &Map<String, Value>, key: &str) -> Result<i64, Failure> {
    let second = of.get(key).and_then(Value::as_f64).map(|second| second as i64);
    second.ok_or_else(|| invalid(&format!("The parameter {key} is required.")))
}

fn invalid(message: &str) -> Failure {
    Failure::refused("ValidationError", message)
}
