//! What no server shows at will: broken results, and how questions are dealt out to calls. Each of these was seen red with
//! the line it is about taken out.

use super::*;
use crate::aws::wire::{Answer, Wire};
use crate::domain::rule::GroupId;

fn minute(n: u32) -> Timestamp {
    after("2026-01-01T10:00:00Z".parse().unwrap(), MINUTE * n)
}

fn backend(n: usize) -> Backend {
    Backend {
        group: GroupId(format!("arn:aws:elasticloadbalancing:r:1:targetgroup/g{n:03}/1")),
        load_balancer: "arn:aws:elasticloadbalancing:r:1:loadbalancer/app/b/1".to_owned(),
    }
}

fn question(groups: impl Iterator<Item = usize>, from: u32, until: u32) -> Question {
    Question {
        groups: groups.map(backend).collect(),
        machines: Vec::new(),
        network: true,
        cpu: true,
        period: MINUTE,
        from: minute(from),
        until: minute(until),
    }
}

fn result(status: Option<&str>, points: &[(u32, Value)]) -> Value {
    let timestamps: Vec<_> = points.iter().map(|(at, _)| minute(*at).as_second()).collect();
    let values: Vec<_> = points.iter().map(|(_, value)| value).collect();
    json!({ "Id": "q0", "Timestamps": timestamps, "Values": values, "StatusCode": status })
}

fn fact(pages: Vec<Value>) -> Fact<Points> {
    let mut gathered = Gathered::new(1);
    for page in pages {
        gathered.take(&serde_json::from_value(json!({ "MetricDataResults": [page] })).unwrap());
    }
    gathered.facts().remove(0)
}

#[test]
fn what_is_no_number_of_anything_is_missing() {
    let odd = [json!("NaN"), json!(-1.0), json!("Infinity"), json!(0.0), json!(2)];
    let odd: Vec<_> = (0..).zip(odd).collect();
    let found = fact(vec![result(Some("Complete"), &odd)]);
    assert_eq!(found, Ok([(minute(3), 0.0), (minute(4), 2.0)].into()));
}

#[test]
fn only_a_complete_result_is_an_answer() {
    let ends = |statuses: &[Option<&str>]| {
        let pages = statuses.iter().map(|status| result(*status, &[(0, json!(1.0))]));
        fact(pages.collect()).map_err(|fault| fault.kind)
    };
    let points = || Ok([(minute(0), 1.0)].into());
    assert_eq!(ends(&[Some("Complete")]), points());
    assert_eq!(ends(&[Some("PartialData"), Some("Complete")]), points());
    assert_eq!(ends(&[Some("PartialData")]), Err(FaultKind::Other));
    assert_eq!(ends(&[Some("InternalError")]), Err(FaultKind::Other));
    assert_eq!(ends(&[Some("InternalError"), Some("Complete")]), Err(FaultKind::Other));
    assert_eq!(ends(&[Some("Forbidden")]), Err(FaultKind::Denied));
    assert_eq!(ends(&[Some("SomethingNew")]), Err(FaultKind::Other));
    assert_eq!(ends(&[None]), Err(FaultKind::Other));
    assert_eq!(ends(&[]), Err(FaultKind::Other));
}

#[test]
fn calls_stay_below_cloudwatchs_limits() {
    let sizes = |questions: &[Question]| -> Vec<usize> {
        let batches = batches(questions);
        batches.iter().map(|batch| batch.series.len()).collect()
    };
    assert_eq!(sizes(&[question(0..251, 0, 60)]), [500, 2]);
    // A day has 1440 minutes, and 70 times that is 100,800.
    assert_eq!(sizes(&[question(0..36, 0, 1440)]), [70, 2]);
    assert_eq!(sizes(&[question(0..1, 0, 70 * 1440 + 5)]), [1, 1]);
    assert_eq!(sizes(&[question(0..3, 0, 60), question(1..4, 5, 60)]), [8], "each once");
    assert_eq!(sizes(&[]), [0_usize; 0]);
}

#[test]
fn a_call_begins_at_a_multiple_of_five_minutes() {
    let machine = ResourceId("i-1".to_owned());
    let asked = Question {
        machines: vec![machine],
        network: true,
        cpu: true,
        ..question(0..1, 7, 33)
    };
    let batches = batches(&[asked]);
    assert_eq!(batches.len(), 1);
    let window = batches[0].window;
    assert_eq!((window.from, window.until), (minute(5), minute(33)));
}

#[tokio::test]
async fn throttling_is_tried_again_and_a_denial_is_not() {
    let throttled = Answer::json_error("ThrottlingException", "Rate exceeded");
    let denied = Answer::json_error(
        "AccessDeniedException",
        "not authorized to perform: cloudwatch:GetMetricData",
    );
    for (answer, attempts, kind) in [(throttled, 3, FaultKind::Throttled), (denied, 1, FaultKind::Denied)] {
        let wire = Wire::new(vec![("GetMetricData", answer); 3]);
        let adapter = CloudWatch::new(wire.hurried_aws().get_metric_data());
        let answers = adapter.read(&[question(0..1, 0, 60)]).await;
        assert_eq!(answers[0].as_ref().unwrap_err().kind, kind);
        assert_eq!(wire.asked().len(), attempts);
    }
}

#[tokio::test]
async fn silence_and_a_lost_connection_are_faults() {
    for answer in [Answer::Never, Answer::Lost] {
        let wire = Wire::new(vec![("", answer); 3]);
        let adapter = CloudWatch::new(wire.hurried_aws().get_metric_data());
        let answers = adapter.read(&[question(0..1, 0, 60)]).await;
        assert_eq!(answers[0].as_ref().unwrap_err().kind, FaultKind::Other);
        assert_eq!(wire.left(), Vec::<String>::new(), "three attempts");
    }
}
