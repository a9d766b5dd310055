//! What the local cloud measures is what really passed: requests and bytes of the load balancer's data plane. Each test was
//! seen red with the counting it is about taken out.

#![cfg(feature = "local")]

mod local_support;

use std::collections::BTreeMap;
use std::time::Duration;

use local_support::{Connection, HOST, awake, control, get, until};
use proxymanager::local::{Cloud, world::Wanted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A metric's sum over all time: of the site's group, or of its instance. Asked from a later time, when all is published.
fn sum(cloud: &Cloud, metric: &str) -> f64 {
    let site = &cloud.seeded.sites[0];
    let end = |arn: &str| arn.rsplit(':').next().unwrap_or_default().replace("loadbalancer/", "");
    let (namespace, period, dimensions) = match metric {
        "RequestCount" => {
            let group = ("TargetGroup".to_owned(), end(&site.group));
            let balancer = ("LoadBalancer".to_owned(), end(&cloud.seeded.balancer));
            ("AWS/ApplicationELB", 60, [group, balancer].into())
        }
        _ => {
            let instance = ("InstanceId".to_owned(), site.instance.clone());
            ("AWS/EC2", 300, BTreeMap::from([instance]))
        }
    };
    let wanted = Wanted {
        namespace: namespace.to_owned(),
        metric: metric.to_owned(),
        dimensions,
        stat: "Sum".to_owned(),
        period,
    };
    let now = cloud.shared.clock.now();
    let (from, until) = (now.as_second() / 300 * 300 - 3600, now.as_second() + 3600);
    let later = now + Duration::from_secs(3600);
    let points = cloud.shared.world().metric_data(later, &wanted, from, until).unwrap();
    points.iter().map(|(_, value)| value).sum()
}

#[tokio::test]
async fn requests_are_counted_and_health_checks_are_not() {
    let cloud = awake(|_| {}).await;
    assert_eq!(sum(&cloud, "RequestCount"), 0.0, "the checks have made it healthy");
    for _ in 0..3 {
        assert_eq!(get(&cloud, "/").await.status, 200);
    }
    assert_eq!(sum(&cloud, "RequestCount"), 3.0);
    cloud.stop().await;
}

#[tokio::test]
async fn bytes_are_counted_both_ways() {
    let cloud = awake(|_| {}).await;
    until("it is measured", || sum(&cloud, "NetworkIn") > 0.0).await;
    let (into, out) = (sum(&cloud, "NetworkIn"), sum(&cloud, "NetworkOut"));
    let body = "x".repeat(30_000);
    let request = format!("POST / HTTP/1.1\r\nHost: {HOST}");
    let answer = local_support::ask(cloud.address, &request, &body).await;
    assert_eq!(answer.status, 200);
    let received = sum(&cloud, "NetworkIn") - into;
    assert!((30_000.0..60_000.0).contains(&received), "{received}");
    let sent = sum(&cloud, "NetworkOut") - out;
    assert!((100.0..20_000.0).contains(&sent), "{sent}");
    cloud.stop().await;
}

#[tokio::test]
async fn bytes_of_an_open_websocket_are_counted_while_they_flow() {
    let cloud = awake(|_| {}).await;
    let mut socket = Connection::open(cloud.address).await;
    let head = format!("GET /socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n");
    socket.send(&head).await;
    let head = socket.head().await.expect("it switches");
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let (into, out) = (sum(&cloud, "NetworkIn"), sum(&cloud, "NetworkOut"));
    let mut echoed = vec![0; 50_000];
    for _ in 0..2 {
        socket.0.write_all(&vec![b'a'; 50_000]).await.unwrap();
        socket.0.read_exact(&mut echoed).await.unwrap();
    }
    let grown = |metric: &str, before: f64| sum(&cloud, metric) - before;
    assert!(grown("NetworkIn", into) >= 100_000.0, "{}", grown("NetworkIn", into));
    assert!(grown("NetworkOut", out) >= 100_000.0, "{}", grown("NetworkOut", out));
    assert_eq!(sum(&cloud, "RequestCount"), 1.0, "however long it stays open");
    cloud.stop().await;
}

#[tokio::test]
async fn an_outage_by_hand_loses_what_is_counted_in_it() {
    let cloud = awake(|_| {}).await;
    control(&cloud, "PATCH", "faults", r#"{"metrics_outage": true}"#).await;
    assert_eq!(get(&cloud, "/").await.status, 200);
    control(&cloud, "PATCH", "faults", r#"{"metrics_outage": false}"#).await;
    assert_eq!(sum(&cloud, "RequestCount"), 0.0);
    assert_eq!(get(&cloud, "/").await.status, 200);
    assert_eq!(sum(&cloud, "RequestCount"), 1.0);
    let world = control(&cloud, "GET", "world", "").await;
    let groups = world["groups"].as_array().unwrap();
    let requests = |group: &serde_json::Value| group["requests"][0][1].as_u64();
    assert!(groups.iter().any(|group| requests(group) == Some(1)), "{groups:?}");
    cloud.stop().await;
}
