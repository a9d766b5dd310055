//! The AWS APIs of the local cloud: one table of calls against it and against moto, and its faults on the wire.

#![cfg(feature = "local")]

mod local_support;

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use jiff::Timestamp;
use local_support::{Answer, Connection, ask, cloud, control, support, until};
use proxymanager::local::Cloud;
use serde_json::Value;

fn python(program: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin").join(program);
    assert!(path.exists(), "{} is missing: `make test` installs it", path.display());
    path.to_string_lossy().into_owned()
}

/// moto on a free port, killed when dropped.
struct Moto(Child, u16);

impl Moto {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("there is a port")
            .port();
        let mut command = Command::new(python("moto_server"));
        command
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().expect("moto starts"), port)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn results(endpoint: String, kind: &'static str, start: i64) -> BTreeMap<String, Value> {
    let program = python("python3");
    let output = tokio::task::spawn_blocking(move || {
        Command::new(program)
            .arg(support("calls.py"))
            .args([endpoint.as_str(), kind, &start.to_string()])
            .output()
    });
    let output = output.await.expect("the task ends").expect("Python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{kind}: {said}");
    serde_json::from_slice(&output.stdout).expect("the table is JSON")
}

/// Where moto differs from AWS, with what AWS does, as the local cloud does it.
const MOTO_IS_WRONG: [(&str, &str); 4] = [
    ("DeleteRule default", "OperationNotPermitted; moto fails"),
    ("DescribeTags unknown", "RuleNotFound; moto says there are no tags"),
    ("PutItem bad condition", "ValidationException; moto fails"),
    (
        "Query next",
        "a page that is full has a LastEvaluatedKey even when nothing follows; moto looks ahead",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_table_of_calls_gives_the_same_as_moto() {
    let moto = Moto::start();
    let cloud = cloud(|config| config.sites.clear()).await;
    let now = cloud.shared.clock.now();
    cloud
        .shared
        .world()
        .add_instance(now, "machine", Duration::from_secs(60));
    let start = now.as_second().div_euclid(300) * 300 - 3 * 3600;
    for period in [0, 1, 3] {
        let at = Timestamp::from_second(start + 300 * period + 60).expect("a time of today");
        let bytes = 88_000 + period.unsigned_abs();
        cloud.shared.world().count_bytes(at, "i-measured", bytes, 0);
    }
    until("moto listens", || {
        std::net::TcpStream::connect(("127.0.0.1", moto.1)).is_ok()
    })
    .await;
    let theirs = results(format!("http://127.0.0.1:{}", moto.1), "moto", start).await;
    let ours = results(cloud.api_url(), "local", start).await;
    cloud.stop().await;
    assert!(ours.len() > 70, "the table has {} calls", ours.len());
    let mut different = String::new();
    for (call, ours) in &ours {
        let wrong = MOTO_IS_WRONG.iter().any(|(known, _)| known == call);
        let same = theirs.get(call) == Some(ours);
        if same && wrong {
            different += &format!("{call}: moto does the same, so it is not wrong\n");
        } else if !same && !wrong {
            let theirs = theirs.get(call).unwrap_or(&Value::Null);
            different += &format!("{call}\n   local {ours}\n   moto  {theirs}\n");
        }
    }
    assert!(different.is_empty(), "{different}");
}

async fn form(cloud: &Cloud, body: &str) -> Answer {
    let request = "POST / HTTP/1.1\r\nHost: aws\r\nContent-Type: application/x-www-form-urlencoded";
    ask(cloud.api_address, request, body).await
}

async fn faults(cloud: &Cloud, patch: &str) {
    control(cloud, "PATCH", "faults", patch).await;
}

#[tokio::test]
async fn unknown_calls_services_and_parameters_are_refused_by_name() {
    let cloud = cloud(|_| {}).await;
    for (body, expected) in [
        (
            "Action=RunInstances&Version=2016-11-15",
            "does not serve the call RunInstances of EC2",
        ),
        (
            "Action=CreateListener&Version=2015-12-01",
            "does not serve the call CreateListener of Elastic Load Balancing",
        ),
        (
            "Action=GetCallerIdentity&Version=2011-06-15",
            "version 2011-06-15 of GetCallerIdentity",
        ),
    ] {
        let answer = form(&cloud, body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(
            answer.text().contains("<Code>InvalidAction</Code>"),
            "{}",
            answer.text()
        );
        assert!(answer.text().contains(expected), "{}", answer.text());
    }
    for (target, body, expected) in [
        (
            "DynamoDB_20120810.Scan",
            "{}",
            "does not serve the call Scan of DynamoDB",
        ),
        (
            "DynamoDB_20120810.GetItem",
            r#"{"AttributesToGet":[]}"#,
            "does not know the parameter AttributesToGet",
        ),
        ("Logs_20140328.GetLogEvents", "{}", "not Logs_20140328.GetLogEvents"),
        ("DynamoDB_20120810.GetItem", "nonsense", "not a JSON object"),
        (
            "GraniteServiceVersion20100801.PutMetricData",
            "{}",
            "does not serve the call PutMetricData of CloudWatch",
        ),
        (
            "GraniteServiceVersion20100801.GetMetricData",
            r#"{"LabelOptions":{}}"#,
            "does not know the parameter LabelOptions",
        ),
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: aws\r\nX-Amz-Target: {target}");
        let answer = ask(cloud.api_address, &request, body).await;
        assert_eq!(answer.status, 400, "{target}");
        assert!(answer.text().contains(expected), "{}", answer.text());
    }
    let in_cbor = "POST /service/GraniteServiceVersion20100801/operation/GetMetricData HTTP/1.1\r\nHost: aws";
    let answer = ask(cloud.api_address, in_cbor, "nonsense").await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("smithy-protocol"), Some("rpc-v2-cbor"));
    assert!(answer.text().contains("not a CBOR map"), "{}", answer.text());
    cloud.stop().await;
}

#[tokio::test]
async fn a_lost_response_has_taken_effect() {
    let cloud = cloud(|_| {}).await;
    faults(&cloud, r#"{"lost_response": 1.0}"#).await;
    let instance = &cloud.seeded.sites[0].instance;
    let body = format!("Action=StartInstances&Version=2016-11-15&InstanceId.1={instance}");
    let mut connection = Connection::open(cloud.api_address).await;
    let length = body.len();
    connection
        .send(&format!(
            "POST / HTTP/1.1\r\nHost: aws\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    assert!(
        connection.answer().await.is_none(),
        "the connection closes without an answer"
    );
    assert_eq!(cloud.shared.world().instance(instance).unwrap().starts, 1);
    let describe = form(&cloud, "Action=DescribeInstances&Version=2016-11-15").await;
    assert_eq!(describe.status, 200, "reads are not lost");
    faults(&cloud, r#"{"lost_calls": ["StopInstances"]}"#).await;
    assert_eq!(form(&cloud, &body).await.status, 200, "another call is meant");
    cloud.stop().await;
}

#[tokio::test]
async fn throttling_denial_trouble_and_no_capacity_have_awss_codes() {
    let cloud = cloud(|_| {}).await;
    let instance = &cloud.seeded.sites[0].instance;
    let start = format!("Action=StartInstances&Version=2016-11-15&InstanceId.1={instance}");
    let tags = format!(
        "Action=DescribeTags&Version=2015-12-01&ResourceArns.member.1={}",
        cloud.seeded.waker
    );
    for (patch, body, status, code) in [
        (r#"{"no_capacity": true}"#, &start, 500, "InsufficientInstanceCapacity"),
        (
            r#"{"denied": ["StartInstances"]}"#,
            &start,
            403,
            "UnauthorizedOperation",
        ),
        (r#"{"denied": ["DescribeTags"]}"#, &tags, 403, "AccessDenied"),
        (r#"{"broken": ["DescribeTags"]}"#, &tags, 500, "InternalFailure"),
    ] {
        control(&cloud, "DELETE", "faults", "").await;
        assert_eq!(form(&cloud, &tags).await.status, 200);
        faults(&cloud, patch).await;
        let answer = form(&cloud, body).await;
        assert_eq!(answer.status, status, "{patch}");
        assert!(
            answer.text().contains(&format!("<Code>{code}</Code>")),
            "{patch}: {}",
            answer.text()
        );
    }
    control(&cloud, "DELETE", "faults", "").await;
    faults(&cloud, r#"{"throttle": true, "denied": []}"#).await;
    let mut codes = Vec::new();
    for _ in 0..8 {
        let answer = form(
            &cloud,
            "Action=StartInstances&Version=2016-11-15&InstanceId.1=i-unknown",
        )
        .await;
        codes.push(answer.status);
    }
    assert!(
        codes.starts_with(&[400; 5]) && codes.contains(&503),
        "five starts at once, then too many: {codes:?}"
    );
    let counts = control(&cloud, "GET", "calls", "").await;
    assert!(
        counts["calls"]
            .as_array()
            .unwrap()
            .iter()
            .any(|call| call["result"] == "RequestLimitExceeded")
    );
    cloud.stop().await;
}

#[tokio::test]
async fn a_fault_that_does_not_exist_is_refused_and_somebody_can_edit_and_delete_rules() {
    let cloud = cloud(|_| {}).await;
    let refused = ask(
        cloud.api_address,
        "PATCH /_local/faults HTTP/1.1\r\nHost: x",
        r#"{"nonsense": 1}"#,
    )
    .await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("nonsense"), "{}", refused.text());
    let site = cloud.seeded.sites[0].clone();
    let edit = serde_json::json!({ "Actions": [site.action] }).to_string();
    control(&cloud, "POST", "rules/site/edit", &edit).await;
    assert_eq!(
        cloud.shared.world().require_rule(&site.rule).unwrap().view().actions,
        [site.action]
    );
    control(&cloud, "POST", &format!("rules/{}/delete-parked", site.rule), "").await;
    assert!(cloud.shared.world().require_rule(&site.parked).is_err());
    let world = control(&cloud, "GET", "world", "").await;
    assert_eq!(world["instances"][0]["state"], "stopped");
    cloud.stop().await;
}

#[tokio::test]
async fn a_new_cloud_is_not_new_to_a_stale_describe() {
    let cloud = cloud(|_| {}).await;
    faults(&cloud, r#"{"stale_ms": 60000}"#).await;
    let rules = format!(
        "Action=DescribeRules&Version=2015-12-01&ListenerArn={}",
        cloud.seeded.listener
    );
    for _ in 0..20 {
        let seen = form(&cloud, &rules).await.text().matches("<RuleArn>").count();
        assert_eq!(seen, 3, "R, P and the default rule");
        let seen = form(&cloud, "Action=DescribeInstances&Version=2016-11-15").await.text();
        assert!(seen.contains(&cloud.seeded.sites[0].instance), "{seen}");
    }
    cloud.stop().await;
}

#[tokio::test]
async fn latency_is_waited_for() {
    let cloud = cloud(|_| {}).await;
    faults(&cloud, r#"{"latency_ms": 150}"#).await;
    let begun = tokio::time::Instant::now();
    form(&cloud, "Action=DescribeInstances&Version=2016-11-15").await;
    assert!(begun.elapsed() >= Duration::from_millis(150));
    cloud.stop().await;
}
