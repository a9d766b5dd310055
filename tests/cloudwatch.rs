//! The adapter to CloudWatch against the local cloud, which has its habits: pages, missing points, refusals. Each test was
//! seen red with the line of the adapter it is about changed; that the local cloud answers as moto does is tested in
//! `local_api.rs`, the wire itself in `aws_adapters_moto.rs`.
#![cfg(all(feature = "aws", feature = "local"))]

mod local_support;

use std::collections::BTreeMap;
use std::time::Duration;

use local_support::{cloud, control};
use proxymanager::activity::Metrics;
use proxymanager::activity::cloudwatch::CloudWatch;
use proxymanager::aws::Aws;
use proxymanager::domain::activity::{Activity, Backend, GroupActivity, MINUTE, Question};
use proxymanager::domain::fault::{Fault, FaultKind};
use proxymanager::domain::rule::{GroupId, ResourceId};
use proxymanager::domain::time::Timestamp;
use proxymanager::local::Cloud;

/// A cloud with a site, and a moment some hours ago from which on its minutes are counted: the past of a local cloud goes
/// back a day.
struct Past {
    cloud: Cloud,
    start: Timestamp,
}

impl Past {
    async fn new() -> Self {
        let cloud = cloud(|config| config.metrics_delay = Duration::ZERO).await;
        local_support::until("the past is measured", || {
            let world = cloud.shared.world();
            world.metrics.healthy_of(&cloud.seeded.sites[0].group).len() > 1000
        })
        .await;
        let now = cloud.shared.clock.now().as_second();
        // No multiple of five minutes.
        let start = Timestamp::from_second(now.div_euclid(300) * 300 - 7200 + 180).unwrap();
        Past { cloud, start }
    }

    fn minute(&self, n: u32) -> Timestamp {
        self.start + Duration::from_secs(60) * n
    }

    fn backend(&self) -> Backend {
        Backend {
            group: GroupId(self.cloud.seeded.sites[0].group.clone()),
            load_balancer: self.cloud.seeded.balancer.clone(),
        }
    }

    fn question(&self, groups: &[Backend], from: u32, until: u32) -> Question {
        Question {
            groups: groups.to_vec(),
            machines: Vec::new(),
            network: true,
            cpu: true,
            period: MINUTE,
            from: self.minute(from),
            until: self.minute(until),
        }
    }

    /// So many requests in that minute.
    fn requests(&self, minute: u32, requests: u32) {
        let group = self.cloud.seeded.sites[0].group.clone();
        for _ in 0..requests {
            let at = self.minute(minute) + Duration::from_secs(30);
            self.cloud.shared.world().metrics.request(at, &group);
        }
    }

    fn alive(&self, minutes: std::ops::Range<u32>) -> std::collections::BTreeSet<Timestamp> {
        minutes.map(|n| self.minute(n)).collect()
    }

    async fn read(&self, questions: &[Question]) -> Vec<Result<Activity, Fault>> {
        adapter(&self.cloud.api_url()).read(questions).await
    }

    fn calls(&self) -> u64 {
        let world = self.cloud.shared.world();
        world.call_counts().get("GetMetricData").copied().unwrap_or_default()
    }
}

fn adapter(url: &str) -> CloudWatch {
    let environment: BTreeMap<&str, &str> = [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
        // Nothing listens there: the service's own is stronger.
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ENDPOINT_URL_CLOUDWATCH", url),
    ]
    .into();
    CloudWatch::new(Aws::from_environment(&environment).unwrap().get_metric_data())
}

fn strangers(numbers: std::ops::Range<usize>, balancer: &str) -> Vec<Backend> {
    let group = |n| format!("arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/stranger/{n:016}");
    numbers
        .map(|n| Backend {
            group: GroupId(group(n)),
            load_balancer: balancer.to_owned(),
        })
        .collect()
}

fn kinds(answers: &[Result<Activity, Fault>]) -> Vec<Option<FaultKind>> {
    answers
        .iter()
        .map(|answer| answer.as_ref().err().map(|fault| fault.kind))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_silent_minutes_and_living_ones_are_read() {
    let past = Past::new().await;
    let site = past.backend();
    past.requests(0, 3);
    past.requests(3, 4);
    past.requests(5, 9);
    let answers = past.read(&[past.question(std::slice::from_ref(&site), 0, 5)]).await;
    let expected = GroupActivity {
        requests: [(past.minute(0), 3), (past.minute(3), 4)].into(),
        alive: past.alive(0..5),
    };
    assert_eq!(
        answers,
        [Ok(Activity {
            groups: [(site.group, expected)].into(),
            ..Activity::default()
        })]
    );
    past.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_with_their_own_windows_share_a_call() {
    let past = Past::new().await;
    let site = past.backend();
    let stranger = strangers(0..1, &site.load_balancer);
    for minute in 0..40 {
        past.requests(minute, minute + 1);
    }
    let before = past.calls();
    let questions = [
        past.question(std::slice::from_ref(&site), 10, 13),
        past.question(&[site.clone(), stranger[0].clone()], 2, 5),
        past.question(&stranger, 0, 40),
    ];
    let answers = past.read(&questions).await;
    assert_eq!(past.calls() - before, 1);
    let found = |n: usize, backend: &Backend| answers[n].as_ref().unwrap().groups[&backend.group].clone();
    let of_site = |minutes: std::ops::Range<u32>| GroupActivity {
        requests: minutes.clone().map(|n| (past.minute(n), u64::from(n) + 1)).collect(),
        alive: past.alive(minutes),
    };
    assert_eq!(found(0, &site), of_site(10..13));
    assert_eq!(found(1, &site), of_site(2..5));
    assert_eq!(found(1, &stranger[0]), GroupActivity::default());
    assert_eq!(
        found(2, &stranger[0]),
        GroupActivity::default(),
        "a group that nobody measures"
    );

    let apart = [(2, 5), (30, 33)].map(|(from, until)| past.question(std::slice::from_ref(&site), from, until));
    let answers = past.read(&apart).await;
    assert_eq!(answers[0].as_ref().unwrap().groups[&site.group], of_site(2..5));
    assert_eq!(answers[1].as_ref().unwrap().groups[&site.group], of_site(30..33));
    past.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_one_call_takes_is_two_and_pages_are_followed() {
    let past = Past::new().await;
    let site = past.backend();
    past.requests(1, 2);
    let many: Vec<Question> = strangers(0..250, &site.load_balancer)
        .chunks(1)
        .chain([[site.clone()].as_slice()])
        .map(|groups| past.question(groups, 0, 10))
        .collect();
    let before = past.calls();
    let answers = past.read(&many).await;
    assert_eq!(past.calls() - before, 2, "502 metrics");
    assert!(kinds(&answers).iter().all(Option::is_none), "{answers:?}");
    let whole = answers[250].clone();
    assert_eq!(whole.as_ref().unwrap().groups[&site.group].alive, past.alive(0..10));

    past.cloud.shared.world().settings.metrics_page = 4;
    let before = past.calls();
    assert_eq!(past.read(&many[250..]).await, [whole]);
    assert!(past.calls() - before >= 3, "eleven points or more by four");
    past.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_of_machines_is_that_of_the_last_twenty_minutes() {
    let past = Past::new().await;
    // Five-minute periods begin two minutes after the start.
    let period = |n: u32| past.minute(2 + 5 * n);
    let id = "i-measured";
    for n in 0..8 {
        past.cloud.shared.world().count_bytes(period(n), id, 1000, u64::from(n));
    }
    let question = Question {
        machines: vec![ResourceId(id.to_owned()), ResourceId("i-silent".to_owned())],
        network: true,
        cpu: true,
        ..past.question(&[], 0, 29)
    };
    let answers = past.read(&[question]).await;
    let machines = &answers[0].as_ref().unwrap().machines;
    let load = &machines[&ResourceId(id.to_owned())];
    let network: Vec<_> = load.network.iter().map(|(at, bytes)| (*at, bytes % 1000)).collect();
    // From minute 9 on and ended by minute 29.
    assert_eq!(network, [(period(2), 2), (period(3), 3), (period(4), 4)]);
    assert_eq!(
        load.cpu,
        [2, 3, 4].map(|n| (period(n), 3)).into(),
        "2.5 percent, rounded up"
    );
    assert_eq!(machines[&ResourceId("i-silent".to_owned())], Default::default());
    past.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_harms_its_own_questions_only() {
    let past = Past::new().await;
    let site = past.backend();
    let full = past.question(&strangers(0..250, &site.load_balancer), 0, 10);
    // Its window is empty, which CloudWatch refuses; it is the last, for it begins last, and has a call of its own.
    let refused = past.question(std::slice::from_ref(&site), 12, 12);
    let no_arn = Backend {
        group: GroupId("nonsense".to_owned()),
        load_balancer: site.load_balancer.clone(),
    };
    let unknown = past.question(&[no_arn], 0, 10);
    let answers = past.read(&[refused, full, unknown]).await;
    assert_eq!(
        kinds(&answers),
        [Some(FaultKind::Other), None, Some(FaultKind::NotFound)]
    );
    past.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_silence_are_faults_of_their_kind() {
    let past = Past::new().await;
    let question = [past.question(&[past.backend()], 0, 5)];
    for (faults, kind, words) in [
        (r#"{"metrics_denied": true}"#, FaultKind::Denied, "AccessDenied"),
        (r#"{"denied": ["GetMetricData"]}"#, FaultKind::Denied, "AccessDenied"),
        (
            r#"{"broken": ["GetMetricData"]}"#,
            FaultKind::Other,
            "InternalServiceFault",
        ),
    ] {
        control(&past.cloud, "DELETE", "faults", "").await;
        control(&past.cloud, "PATCH", "faults", faults).await;
        let fault = past.read(&question).await.remove(0).unwrap_err();
        assert_eq!(
            (fault.kind, fault.operation.as_str()),
            (kind, "cloudwatch:GetMetricData")
        );
        assert!(fault.message.contains(words), "{faults}: {}", fault.message);
    }
    let nobody = adapter("http://127.0.0.1:1")
        .read(&question)
        .await
        .remove(0)
        .unwrap_err();
    assert_eq!(nobody.kind, FaultKind::Other);
    past.cloud.stop().await;
}
