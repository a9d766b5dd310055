//! The Lambda runtime API with a real process behind it: concurrency, reuse, INIT, time-outs, environment.

#![cfg(feature = "local")]

mod local_support;

use std::time::Duration;

use bytes::Bytes;
use local_support::{cloud, get, until};
use proxymanager::local::{Cloud, lambda::Error};
use serde_json::{Value, json};

async fn invoke(cloud: &Cloud, event: &str) -> Result<Value, Error> {
    let answer = cloud.shared.invoke(Bytes::from(event.to_owned())).await?;
    let answer: Value = serde_json::from_slice(&answer).expect("the function answers JSON");
    Ok(serde_json::from_str(answer["body"].as_str().expect("there is a body")).unwrap_or(Value::Null))
}

fn init(mode: &str) -> Vec<(String, String)> {
    vec![("TEST_INIT".to_owned(), mode.to_owned())]
}

#[tokio::test]
async fn an_environment_is_reused_and_reaped() {
    let cloud = cloud(|config| config.reap = Duration::from_secs(2)).await;
    let (first, second) = (invoke(&cloud, "{}").await.unwrap(), invoke(&cloud, "{}").await.unwrap());
    assert_eq!(first["pid"], second["pid"]);
    assert_eq!(second["count"], 2);
    until("it is reaped", || cloud.shared.lambda.figures().idle == 0).await;
    let third = invoke(&cloud, "{}").await.unwrap();
    assert_ne!(third["pid"], first["pid"]);
    assert_eq!(cloud.shared.lambda.figures().started, 2);
    cloud.stop().await;
}

/// A place for the file that lets `/gate` through, gone again when dropped.
struct Gate(std::path::PathBuf);

impl Gate {
    fn new(name: &str) -> Self {
        let gate = Self(std::env::temp_dir().join(format!("gate-{name}-{}", std::process::id())));
        let _ = std::fs::remove_file(&gate.0);
        gate
    }

    fn env(&self) -> Vec<(String, String)> {
        vec![("TEST_GATE".to_owned(), self.0.to_string_lossy().into_owned())]
    }

    fn open(&self) {
        std::fs::write(&self.0, "").expect("the file can be written");
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn concurrent_requests_get_environments_of_their_own_up_to_the_limit_then_a_502() {
    let gate = Gate::new("limit");
    let cloud = cloud(|config| {
        config.concurrency = 3;
        config.env = gate.env();
    })
    .await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let address = cloud.address;
        clients.spawn(async move { local_support::Connection::open(address).await.get("/gate").await.status });
    }
    until("three are served and two refused", || {
        let figures = cloud.shared.lambda.figures();
        (figures.busy, figures.throttled) == (3, 2)
    })
    .await;
    gate.open();
    let mut statuses = clients.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 502, 502]);
    let figures = cloud.shared.lambda.figures();
    assert_eq!((figures.started, figures.idle, figures.busy), (3, 3, 0));
    assert_eq!(get(&cloud, "/").await.status, 200, "a place is free again");
    cloud.stop().await;
}

#[tokio::test]
async fn a_failed_init_is_tried_once_more_and_then_is_a_function_error() {
    for (mode, expected) in [("exit", "exit status: 3"), ("error", "no configuration")] {
        let cloud = cloud(|config| config.env = init(mode)).await;
        let error = invoke(&cloud, "{}").await.unwrap_err();
        assert!(error.to_string().contains(expected), "{mode}: {error}");
        assert_eq!(cloud.shared.lambda.figures().started, 2, "{mode}");
        assert_eq!(get(&cloud, "/").await.status, 502);
        cloud.stop().await;
    }
}

#[tokio::test]
async fn an_init_that_hangs_is_ended() {
    let cloud = cloud(|config| {
        config.env = init("hang");
        config.init_timeout = Duration::from_millis(200);
        config.function_timeout = Duration::from_millis(300);
    })
    .await;
    let error = invoke(&cloud, "{}").await.unwrap_err();
    assert_eq!(error.to_string(), "function error: INIT timed out after 0.30 seconds");
    cloud.stop().await;
}

#[tokio::test]
async fn after_a_time_out_the_environment_is_gone_and_the_next_request_is_served() {
    let cloud = cloud(|config| config.function_timeout = Duration::from_millis(1500)).await;
    let before = invoke(&cloud, "{}").await.unwrap();
    assert_eq!(
        invoke(&cloud, r#"{"path": "/hang"}"#).await.unwrap_err(),
        Error::TimedOut(1.5)
    );
    let after = invoke(&cloud, "{}").await.unwrap();
    assert_ne!(after["pid"], before["pid"]);
    cloud.stop().await;
}

#[tokio::test]
async fn an_error_is_told_and_the_environment_lives_on_but_a_dead_one_does_not() {
    let cloud = cloud(|_| {}).await;
    let before = invoke(&cloud, "{}").await.unwrap();
    let error = invoke(&cloud, r#"{"path": "/function-error"}"#).await.unwrap_err();
    assert!(error.to_string().contains("on purpose"), "{error}");
    assert_eq!(invoke(&cloud, "{}").await.unwrap()["pid"], before["pid"]);
    let error = invoke(&cloud, r#"{"path": "/exit"}"#).await.unwrap_err();
    assert!(error.to_string().contains("Runtime.ExitError"), "{error}");
    assert_ne!(invoke(&cloud, "{}").await.unwrap()["pid"], before["pid"]);
    cloud.stop().await;
}

#[tokio::test]
async fn the_environment_has_awss_variables_and_the_contracts() {
    let cloud = cloud(|_| {}).await;
    let before = cloud.shared.clock.now().as_millisecond();
    let seen = invoke(&cloud, "{}").await.unwrap();
    let env = &seen["env"];
    assert_eq!(env["AWS_ENDPOINT_URL"], cloud.api_url());
    assert_eq!(env["AUTOSTOPPING_LISTENERS"], cloud.seeded.listener);
    assert_eq!(env["AUTOSTOPPING_WAKER"], "autostopping-waker");
    assert_eq!(env["AUTOSTOPPING_LEDGER"], "dynamodb:autostopping");
    assert_eq!(env["AWS_LAMBDA_FUNCTION_NAME"], "aws-proxymanager");
    assert_eq!(env["_HANDLER"], "bootstrap");
    assert!(env["AWS_ACCESS_KEY_ID"].is_string() && env["AWS_REGION"].is_string());
    let deadline: i64 = seen["deadline"].as_str().unwrap().parse().unwrap();
    assert!(
        (before + 60_000..before + 90_000).contains(&deadline),
        "{deadline} is 60 s after the call"
    );
    cloud.stop().await;
}

#[tokio::test]
async fn an_idle_environment_stands_still() {
    let cloud = cloud(|_| {}).await;
    let pid = invoke(&cloud, "{}").await.unwrap()["pid"].clone();
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next())
    };
    until("the process is stopped", || state() == Some('T')).await;
    assert_eq!(
        invoke(&cloud, "{}").await.unwrap()["pid"],
        pid,
        "and wakes for the next event"
    );
    cloud.stop().await;
}

/// The events that the function has printed, by their type.
fn events(cloud: &Cloud, kind: &str) -> Vec<Value> {
    let lines = cloud.shared.log.lines();
    let events = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(&line.line).ok());
    events.filter(|event| event["detail-type"] == kind).collect()
}

#[tokio::test]
async fn the_function_hears_of_ticks_and_of_state_changes() {
    let cloud = cloud(|config| {
        config.tick = Some(Duration::from_millis(50));
        config.events = true;
    })
    .await;
    until("there are ticks", || events(&cloud, "Scheduled Event").len() >= 2).await;
    let tick = events(&cloud, "Scheduled Event").remove(0);
    assert_eq!(
        (tick["source"].as_str(), tick["version"].as_str()),
        (Some("aws.events"), Some("0"))
    );
    local_support::start(&cloud);
    let kind = "EC2 Instance State-change Notification";
    until("it has heard of the start", || events(&cloud, kind).len() >= 2).await;
    let mut states: Vec<String> = events(&cloud, kind)
        .iter()
        .map(|event| event["detail"]["state"].to_string())
        .collect();
    states.sort_unstable();
    assert_eq!(states, ["\"pending\"", "\"running\""]);
    let event = events(&cloud, kind).remove(0);
    let instance = &cloud.seeded.sites[0].instance;
    assert_eq!(event["detail"]["instance-id"], *instance);
    assert_eq!(
        event["resources"][0],
        format!("arn:aws:ec2:us-east-1:123456789012:instance/{instance}")
    );
    cloud.stop().await;
}

#[tokio::test]
async fn every_change_of_a_state_is_told_though_it_lasts_no_time_and_is_made_by_hand() {
    let cloud = cloud(|config| {
        config.events = true;
        (config.boot, config.stop) = (Duration::ZERO, Duration::ZERO);
    })
    .await;
    let told = |how_many: usize| {
        let events = events(&cloud, "EC2 Instance State-change Notification");
        (events.len() >= how_many).then_some(events)
    };
    local_support::control(&cloud, "POST", "instances/site/start", "").await;
    until("it has heard of the start", || told(2).is_some()).await;
    local_support::control(&cloud, "POST", "instances/site/stop", "").await;
    until("it has heard of the stop", || told(4).is_some()).await;
    let mut events = told(4).unwrap();
    let mut states: Vec<_> = events.iter().map(|event| event["detail"]["state"].clone()).collect();
    states.sort_by_key(ToString::to_string);
    assert_eq!(states, ["pending", "running", "stopped", "stopping"]);
    let event = events.remove(0);
    let instance = &cloud.seeded.sites[0].instance;
    let id = event["id"].as_str().unwrap();
    let time = event["time"].as_str().unwrap();
    assert_eq!((id.len(), time.len()), (36, "2026-01-01T10:00:00Z".len()), "{event}");
    // Source: Amazon EventBridge events reference, "EC2 Instance State-change Notification".
    let expected = json!({
        "version": "0",
        "id": id,
        "detail-type": "EC2 Instance State-change Notification",
        "source": "aws.ec2",
        "account": "123456789012",
        "time": time,
        "region": "us-east-1",
        "resources": [format!("arn:aws:ec2:us-east-1:123456789012:instance/{instance}")],
        "detail": { "instance-id": instance, "state": event["detail"]["state"] },
    });
    assert_eq!(event, expected);
    cloud.stop().await;
}

#[tokio::test]
async fn a_tick_has_awss_shape_and_does_not_wait_for_the_one_before() {
    let gate = Gate::new("ticks");
    let cloud = cloud(|config| {
        config.tick = Some(Duration::from_millis(50));
        config.env = gate.env();
        config.env.push(("TEST_EVENT_PATH".to_owned(), "/gate".to_owned()));
    })
    .await;
    until("ticks overlap", || cloud.shared.lambda.figures().busy >= 3).await;
    until("they are told", || !events(&cloud, "Scheduled Event").is_empty()).await;
    gate.open();
    let event = events(&cloud, "Scheduled Event").remove(0);
    // Source: Amazon EventBridge user guide, "Creating a rule that runs on a schedule".
    let expected = json!({
        "version": "0",
        "id": event["id"],
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": event["time"],
        "region": "us-east-1",
        "resources": ["arn:aws:events:us-east-1:123456789012:rule/autostopping"],
        "detail": {},
    });
    assert_eq!(event, expected);
    cloud.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_the_function() {
    let gate = Gate::new("leaver");
    let cloud = cloud(|config| config.env = gate.env()).await;
    let mut connection = local_support::Connection::open(cloud.address).await;
    connection
        .send(&format!("GET /gate HTTP/1.1\r\nHost: {}\r\n\r\n", local_support::HOST))
        .await;
    until("the function is at work", || cloud.shared.lambda.figures().busy == 1).await;
    drop(connection);
    gate.open();
    until("the function has ended", || cloud.shared.lambda.figures().busy == 0).await;
    let figures = cloud.shared.lambda.figures();
    assert_eq!((figures.idle, figures.failed, figures.timed_out), (1, 0, 0));
    cloud.stop().await;
}

/// A call of Lambda's API, with the status and the code of an error.
async fn call(cloud: &Cloud, method: &str, path: &str, body: &Value) -> (u16, String, local_support::Answer) {
    let request = format!("{method} /2015-03-31/functions/aws-proxymanager{path} HTTP/1.1\r\nHost: lambda");
    let answer = local_support::ask(cloud.api_address, &request, &body.to_string()).await;
    let code = answer.header("x-amzn-errortype").unwrap_or_default().to_owned();
    (answer.status, code, answer)
}

fn zipped(file: &str, content: &[u8], mode: u32) -> Value {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use std::io::Write;

    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file(file, stored.unix_permissions(mode))
        .expect("it takes a file");
    zip.write_all(content).expect("it takes the content");
    let zip = zip.finish().expect("it is done").into_inner();
    json!({ "ZipFile": STANDARD.encode(zip) })
}

/// Uploads a zip and waits until it is in place.
async fn upload(cloud: &Cloud, zip: &Value) {
    let (status, _, answer) = call(cloud, "PUT", "/code", zip).await;
    assert_eq!(status, 200, "{}", answer.text());
    let done = async {
        while call(cloud, "GET", "/configuration", &json!({})).await.2.json()["LastUpdateStatus"] != "Successful" {}
    };
    tokio::time::timeout(Duration::from_secs(30), done)
        .await
        .expect("it gets done");
}

/// Source: AWS Lambda API reference, `UpdateFunctionCode`, `PublishVersion`, `UpdateAlias`.
#[tokio::test]
async fn code_and_versions_are_refused_as_lambda_refuses_them() {
    let cloud = cloud(|_| {}).await;
    let good = zipped(
        "bootstrap",
        &std::fs::read(local_support::support("bootstrap.py")).unwrap(),
        0o755,
    );
    let refused = [
        (
            "PUT",
            "/code",
            json!({ "ZipFile": "bm90IGEgemlw" }),
            400,
            "InvalidParameterValueException",
        ),
        ("PUT", "/code", json!({}), 400, "InvalidParameterValueException"),
        (
            "PUT",
            "/code",
            json!({ "ZipFile": good["ZipFile"], "RevisionId": "another" }),
            412,
            "PreconditionFailedException",
        ),
        (
            "POST",
            "/versions",
            json!({ "CodeSha256": "another" }),
            400,
            "InvalidParameterValueException",
        ),
        (
            "POST",
            "/versions",
            json!({ "RevisionId": "another" }),
            412,
            "PreconditionFailedException",
        ),
        (
            "PUT",
            "/aliases/live",
            json!({ "FunctionVersion": "9" }),
            404,
            "ResourceNotFoundException",
        ),
        (
            "PUT",
            "/aliases/live",
            json!({ "FunctionVersion": "$LATEST", "RevisionId": "x" }),
            412,
            "PreconditionFailedException",
        ),
        ("GET", "/aliases/none", json!({}), 404, "ResourceNotFoundException"),
        (
            "GET",
            "/configuration?Qualifier=9",
            json!({}),
            404,
            "ResourceNotFoundException",
        ),
        (
            "POST",
            "/invocations?Qualifier=9",
            json!({}),
            404,
            "ResourceNotFoundException",
        ),
    ];
    for (method, path, body, status, code) in refused {
        let answer = call(&cloud, method, path, &body).await;
        assert_eq!(
            (answer.0, answer.1.as_str()),
            (status, code),
            "{method} {path}: {}",
            answer.2.text()
        );
    }
    let (_, _, updating) = call(&cloud, "PUT", "/code", &good).await;
    assert_eq!(updating.json()["LastUpdateStatus"], "InProgress", "{}", updating.text());
    for (method, path, body) in [("PUT", "/code", &good), ("POST", "/versions", &json!({}))] {
        let (status, code, _) = call(&cloud, method, path, body).await;
        assert_eq!(
            (status, code.as_str()),
            (409, "ResourceConflictException"),
            "{method} {path}"
        );
    }
    cloud.stop().await;
}

#[tokio::test]
async fn an_alias_leads_to_the_code_of_its_version() {
    let cloud = cloud(|_| {}).await;
    assert_eq!(get(&cloud, "/").await.status, 200);
    let (status, _, published) = call(&cloud, "POST", "/versions", &json!({})).await;
    assert_eq!((status, &published.json()["Version"]), (201, &json!("1")));
    let (_, _, again) = call(&cloud, "POST", "/versions", &json!({})).await;
    assert_eq!(again.json()["Version"], "1", "nothing has changed");
    upload(&cloud, &zipped("bootstrap", b"#!/bin/sh\nexit 3\n", 0o755)).await;
    assert_eq!(get(&cloud, "/").await.status, 502, "the alias stands on $LATEST");
    call(&cloud, "PUT", "/aliases/live", &json!({ "FunctionVersion": "1" })).await;
    let answer = get(&cloud, "/").await;
    assert_eq!(
        (answer.status, &answer.json()["env"]["AWS_LAMBDA_FUNCTION_VERSION"]),
        (200, &json!("1"))
    );

    let event = json!({ "path": "/" });
    let (status, _, answer) = call(&cloud, "POST", "/invocations?Qualifier=live", &event).await;
    assert_eq!((status, answer.header("x-amz-executed-version")), (200, Some("1")));
    assert_eq!(
        (answer.header("x-amz-function-error"), &answer.json()["statusCode"]),
        (None, &json!(200))
    );
    cloud.stop().await;
}

/// Source: AWS Lambda developer guide, "Troubleshoot invocation issues in Lambda" and "Using the Lambda runtime API".
#[tokio::test]
async fn a_function_that_cannot_be_started_is_a_function_error() {
    let cloud = cloud(|_| {}).await;
    for (file, content, mode, kind, words) in [
        (
            "README",
            &b""[..],
            0o644,
            "Runtime.InvalidEntrypoint",
            "Couldn't find valid bootstrap(s)",
        ),
        (
            "bootstrap",
            b"#!/bin/sh\n",
            0o644,
            "Runtime.InvalidEntrypoint",
            "permission denied",
        ),
        (
            "bootstrap",
            b"\x7fELF of another machine",
            0o755,
            "Runtime.InvalidEntrypoint",
            "exec format error",
        ),
        (
            "bootstrap",
            b"#!/bin/sh\nexit 1\n",
            0o755,
            "Runtime.ExitError",
            "exit status: 1",
        ),
    ] {
        upload(&cloud, &zipped(file, content, mode)).await;
        let (status, _, answer) = call(&cloud, "POST", "/invocations", &json!({})).await;
        assert_eq!(
            (status, answer.header("x-amz-function-error")),
            (200, Some("Unhandled")),
            "{words}"
        );
        assert_eq!(answer.json()["errorType"], kind, "{}", answer.text());
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    cloud.stop().await;
}
