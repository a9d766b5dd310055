//! Findings from facts that a real cloud would take hours to show.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::domain::account::{Deployed, GroupSettings, Limits};
use crate::domain::fault::FaultKind;
use crate::domain::record::SCHEMA;
use crate::domain::rule::{GroupId, RouteId};
use crate::domain::table::{Listener, ListenerRule, RouteTable, TAG_IDLE, TAG_PARKS};
use crate::domain::time::after;

const GROUP: &str = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/waker/0123456789abcdef";
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn codes(facts: &Facts) -> Vec<(&'static str, Severity)> {
    let now = after(NOW, Duration::from_secs(3600));
    findings(now, facts)
        .into_iter()
        .map(|finding| (finding.code, finding.severity))
        .collect()
}

fn rule(priority: u32, tags: &[(&str, &str)]) -> ListenerRule {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    ListenerRule {
        arn: RouteId(format!("r{priority}")),
        priority: Some(priority),
        conditions: Vec::new(),
        actions: Vec::new(),
        transforms: Vec::new(),
        tags: tags.iter().map(owned).collect(),
    }
}

/// An hour has passed since the epoch, and the last Tick was so long ago.
fn table(last_tick: Option<Duration>, rules: Vec<ListenerRule>) -> RouteTable {
    RouteTable {
        schema: SCHEMA,
        read_at: NOW,
        swept_at: last_tick.map(|ago| after(NOW, Duration::from_secs(3600).saturating_sub(ago))),
        listeners: vec![Listener {
            arn: "l".to_owned(),
            load_balancer: "b".to_owned(),
            port: 80,
            waker: None,
            controller: None,
            forwarded_for: None,
            rules,
        }],
        names: BTreeMap::new(),
        loose: BTreeMap::new(),
        ways: None,
    }
}

fn of_table(table: RouteTable) -> Facts {
    let limits = Limits {
        rules: Some(100),
        groups: Some(100),
    };
    Facts {
        table: Some(table),
        limits,
        ..Facts::default()
    }
}

#[test]
fn ticks_are_missed_after_six_minutes() {
    for (ago, expected) in [
        (Some(0), vec![]),
        (Some(359), vec![]),
        (Some(360), vec![("no-ticks", Severity::Error)]),
        (None, vec![("no-ticks", Severity::Error)]),
    ] {
        let facts = of_table(table(ago.map(Duration::from_secs), Vec::new()));
        assert_eq!(codes(&facts), expected, "{ago:?}");
    }
}

#[test]
fn forty_managed_rules_of_a_hundred_are_told() {
    let managed = |count: u32| {
        (1..=count)
            .map(|priority| rule(priority, &[(TAG_IDLE, "1h")]))
            .collect::<Vec<_>>()
    };
    let quota = |rules| codes(&of_table(table(Some(Duration::ZERO), rules)));
    assert_eq!(quota(managed(39)), []);
    assert_eq!(quota(managed(40)), [("quota", Severity::Warning)]);
    assert_eq!(quota(managed(51)), [("quota", Severity::Error)]);
    // Parked, a rule counts no more than before.
    let mut parked = managed(39);
    for priority in 1..=39 {
        parked.push(rule(100 + priority, &[(TAG_PARKS, &format!("r{priority}"))]));
    }
    assert_eq!(quota(parked), []);
    // What AWS does not tell is no finding.
    let mut unknown = of_table(table(Some(Duration::ZERO), managed(60)));
    unknown.limits = Limits::default();
    assert_eq!(codes(&unknown), []);
}

#[test]
fn what_was_denied_is_told_by_its_name() {
    let facts = Facts {
        unseen: vec![Unseen {
            operation: "ec2:DescribeVolumes".to_owned(),
            kind: FaultKind::Denied,
            message: "UnauthorizedOperation".to_owned(),
        }],
        ..Facts::default()
    };
    let [found] = <[Finding; 1]>::try_from(findings(NOW, &facts)).expect("one finding");
    assert_eq!(found.code, "permission-denied");
    assert!(found.fix.contains("allow ec2:DescribeVolumes"), "{}", found.fix);
}

fn waker(change: impl FnOnce(&mut Deployed)) -> Facts {
    let statement = json!({
        "Effect": "Allow",
        "Principal": { "Service": "elasticloadbalancing.amazonaws.com" },
        "Action": "lambda:InvokeFunction",
        "Condition": { "ArnLike": { "AWS:SourceArn": GROUP } },
    });
    let mut function = Deployed {
        arn: "arn:aws:lambda:us-east-1:123456789012:function:waker:live".to_owned(),
        version: "$LATEST".to_owned(),
        state: "Active".to_owned(),
        state_reason: None,
        last_update: Some("Successful".to_owned()),
        timeout: Duration::from_secs(60),
        environment: BTreeMap::from([("AUTOSTOPPING_LISTENERS".to_owned(), "one, two".to_owned())]),
        code: "a".to_owned(),
        latest_code: "a".to_owned(),
        policy: Some(json!({ "Statement": [statement] }).to_string()),
    };
    change(&mut function);
    let settings = GroupSettings {
        id: GroupId(GROUP.to_owned()),
        name: "waker".to_owned(),
        kind: "lambda".to_owned(),
        protocol: None,
        port: None,
        vpc: None,
        checked: false,
        interval: Duration::from_secs(35),
        successes: 5,
    };
    Facts {
        environment: BTreeMap::from([("AUTOSTOPPING_LISTENERS".to_owned(), "two,one".to_owned())]),
        hold_limit: Duration::from_secs(20),
        wakers: vec![WakerFacts {
            group: GroupId(GROUP.to_owned()),
            settings: Some(settings),
            registered: Some(vec![function.arn.clone()]),
            functions: vec![function],
            missing: Vec::new(),
        }],
        ..Facts::default()
    }
}

#[test]
fn a_function_is_judged_by_what_lambda_says() {
    assert_eq!(codes(&waker(|_| ())), []);
    let one = |change: fn(&mut Deployed)| codes(&waker(change));
    assert_eq!(
        one(|function| function.state = "Failed".to_owned()),
        [("function-not-active", Severity::Error)]
    );
    assert_eq!(
        one(|function| function.last_update = Some("Failed".to_owned())),
        [("function-not-active", Severity::Error)]
    );
    assert_eq!(
        one(|function| function.timeout = Duration::from_secs(30)),
        [("function-timeout", Severity::Warning)]
    );
    assert_eq!(
        one(|function| function.latest_code = "b".to_owned()),
        [("uploaded-but-not-live", Severity::Warning)]
    );
    assert_eq!(
        one(|function| function.environment.clear()),
        [("other-environment", Severity::Error)]
    );
}

#[test]
fn who_may_invoke_is_read_from_the_policy() {
    let policy = |statement: serde_json::Value| {
        let policy = json!({ "Statement": statement }).to_string();
        codes(&waker(|function| function.policy = Some(policy))).is_empty()
    };
    let service = json!({ "Service": "elasticloadbalancing.amazonaws.com" });
    let allow = |condition: serde_json::Value| json!({ "Effect": "Allow", "Principal": service, "Action": "lambda:InvokeFunction", "Condition": condition });
    assert!(policy(allow(json!(null))));
    assert!(policy(json!([allow(
        json!({ "ArnLike": { "aws:SourceArn": "arn:aws:elasticloadbalancing:*:targetgroup/waker/*" } })
    )])));
    assert!(policy(allow(
        json!({ "StringEquals": { "AWS:SourceAccount": ["123456789012"] } })
    )));
    assert!(!policy(allow(
        json!({ "StringEquals": { "AWS:SourceAccount": "999999999999" } })
    )));
    assert!(!policy(allow(
        json!({ "ArnLike": { "AWS:SourceArn": "arn:aws:elasticloadbalancing:*:targetgroup/other/*" } })
    )));
    assert!(!policy(
        json!({ "Effect": "Allow", "Principal": { "Service": "events.amazonaws.com" }, "Action": "lambda:*" })
    ));
    assert!(!policy(json!({ "Effect": "Deny", "Principal": "*", "Action": "*" })));
    assert!(!policy(json!("nonsense")));
    assert!(!codes(&waker(|function| function.policy = None)).is_empty());
}
