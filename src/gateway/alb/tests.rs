//! What moto never does: lost answers, races, answers that lack something.

use std::collections::BTreeMap;

use super::*;
use crate::aws::wire::{Answer, Wire};
use crate::domain::table::{ListenerRule, TAG_IDLE, TAG_PARKS};

const R: &str = "arn:r";
const P: &str = "arn:p";
const WAKER: &str = "arn:waker";

fn alb(aws: &crate::aws::Aws) -> Alb {
    Alb::new(
        aws.elb(),
        vec!["arn:listener".to_owned()],
        vec![GroupId(WAKER.to_owned())],
    )
}

fn forward(group: &str) -> Vec<Action> {
    let action = serde_json::json!([{"Type": "forward", "TargetGroupArn": group, "Order": 1}]);
    serde_json::from_value(action).unwrap()
}

/// One listener with R, as read a moment ago.
fn table() -> RouteTable {
    let rule = ListenerRule {
        arn: RouteId(R.to_owned()),
        priority: Some(1),
        conditions: Vec::new(),
        actions: forward("arn:backend"),
        transforms: Vec::new(),
        tags: BTreeMap::from([(TAG_IDLE.to_owned(), "1h".to_owned())]),
    };
    let listener = Listener {
        arn: "arn:listener".to_owned(),
        load_balancer: "arn:balancer".to_owned(),
        port: 80,
        waker: Some(GroupId(WAKER.to_owned())),
        controller: None,
        forwarded_for: None,
        rules: vec![rule],
    };
    RouteTable {
        schema: crate::domain::record::SCHEMA,
        read_at: Timestamp::UNIX_EPOCH,
        swept_at: None,
        listeners: vec![listener],
        names: BTreeMap::new(),
        loose: BTreeMap::new(),
        ways: None,
    }
}

fn rule(arn: &str, priority: &str, group: &str, conditions: &str) -> String {
    format!(
        "<member><RuleArn>{arn}</RuleArn><Priority>{priority}</Priority><Conditions>{conditions}</Conditions>\
         <Actions><member><Type>forward</Type><Order>1</Order><TargetGroupArn>{group}</TargetGroupArn></member></Actions>\
         <IsDefault>{}</IsDefault></member>",
        priority == "default"
    )
}

fn r(group: &str) -> String {
    rule(R, "1", group, "")
}

fn parked(arn: &str, priority: &str, group: &str) -> String {
    let conditions = "<member><Field>host-header</Field><HostHeaderConfig><Values><member>parked.invalid</member></Values>\
        </HostHeaderConfig></member><member><Field>source-ip</Field><SourceIpConfig><Values><member>192.0.2.1/32</member>\
        </Values></SourceIpConfig></member><member><Field>http-header</Field><HttpHeaderConfig><HttpHeaderName>\
        X-Autostopping-Parked</HttpHeaderName><Values><member>7</member></Values></HttpHeaderConfig></member>";
    rule(arn, priority, group, conditions)
}

fn answer(call: &str, inner: &str) -> Answer {
    Answer::ok(format!(
        "<{call}Response><{call}Result>{inner}</{call}Result></{call}Response>"
    ))
}

fn rules(rules: &[String]) -> (&'static str, Answer) {
    let inner = format!("<Rules>{}</Rules>", rules.concat());
    ("Action=DescribeRules", answer("DescribeRules", &inner))
}

/// Which rule each of these parks.
fn tags(of: &[(&str, &str)]) -> (&'static str, Answer) {
    tagged(TAG_PARKS, of)
}

/// R is opted in.
fn managed() -> (&'static str, Answer) {
    tagged(TAG_IDLE, &[(R, "1h")])
}

fn tagged(key: &str, of: &[(&str, &str)]) -> (&'static str, Answer) {
    let described = of.iter().map(|(arn, value)| {
        format!(
            "<member><ResourceArn>{arn}</ResourceArn><Tags><member><Key>{key}</Key><Value>{value}</Value></member></Tags>\
             </member>"
        )
    });
    let inner = format!("<TagDescriptions>{}</TagDescriptions>", described.collect::<String>());
    ("Action=DescribeTags", answer("DescribeTags", &inner))
}

fn done(call: &'static str) -> (&'static str, Answer) {
    (call, answer(call, ""))
}

async fn park(wire: &Wire) -> Result<(), Fault> {
    let original = forward("arn:backend");
    alb(&wire.hurried_aws())
        .park(&table(), &RouteId(R.to_owned()), &original)
        .await
}

#[tokio::test]
async fn a_lost_answer_to_create_rule_makes_no_second_copy() {
    let wire = Wire::new(vec![
        managed(),
        rules(&[r("arn:backend")]),
        ("Action=CreateRule", Answer::Lost),
        // The SDK sends it again, and finds the priority taken by itself.
        ("Action=CreateRule", Answer::elb_error("PriorityInUse", "in use")),
        rules(&[r("arn:backend"), parked(P, "50000", "arn:backend")]),
        tags(&[(P, R)]),
    ]);
    park(&wire).await.unwrap();
    assert_eq!(wire.left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_taken_priority_is_passed_over_even_if_the_next_look_is_stale() {
    let wire = Wire::new(vec![
        managed(),
        rules(&[r("arn:backend")]),
        ("Priority=50000", Answer::elb_error("PriorityInUse", "in use")),
        rules(&[r("arn:backend")]),
        ("Priority=49999", answer("CreateRule", "")),
    ]);
    park(&wire).await.unwrap();
    assert_eq!(wire.left(), Vec::<String>::new());

    let in_use = Answer::elb_error("PriorityInUse", "in use");
    let mut script = vec![managed()];
    script.extend(vec![("Action=CreateRule", in_use); 20]);
    script.extend(vec![rules(&[r("arn:backend")]); 20]);
    let wire = Wire::new(script);
    let fault = park(&wire).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Conflict);
    assert_eq!(
        wire.asked_for("Action=CreateRule").len(),
        5,
        "it does not go on for ever"
    );
}

#[tokio::test]
async fn of_two_copies_the_right_one_stays() {
    let wire = Wire::new(vec![
        managed(),
        rules(&[
            r("arn:backend"),
            parked("arn:p1", "49999", "arn:backend"),
            parked("arn:p2", "50000", "arn:old"),
        ]),
        tags(&[("arn:p1", R), ("arn:p2", R)]),
        ("RuleArn=arn%3Ap2", Answer::elb_error("RuleNotFound", "gone already")),
    ]);
    park(&wire).await.unwrap();
    assert_eq!(wire.left(), Vec::<String>::new());
    assert_eq!(wire.asked_for("Action=DeleteRule").len(), 1);
    assert_eq!(wire.asked_for("Action=ModifyRule").len(), 0);
}

#[tokio::test]
async fn anothers_parked_rule_is_left_alone() {
    let wire = Wire::new(vec![
        managed(),
        rules(&[r("arn:backend"), parked(P, "50000", "arn:backend")]),
        tags(&[(P, "arn:another")]),
        ("Priority=49999", answer("CreateRule", "")),
    ]);
    park(&wire).await.unwrap();
    assert_eq!(wire.left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_copy_that_is_deleted_under_us_is_made_again() {
    let wire = Wire::new(vec![
        managed(),
        rules(&[r("arn:backend"), parked(P, "50000", "arn:old")]),
        tags(&[(P, R)]),
        ("Action=ModifyRule", Answer::elb_error("RuleNotFound", "gone")),
        rules(&[r("arn:backend")]),
        done("CreateRule"),
    ]);
    park(&wire).await.unwrap();
    assert_eq!(wire.left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_rule_deleted_between_rules_and_tags_is_read_around() {
    let listeners = "<Listeners><member><ListenerArn>arn:listener</ListenerArn><LoadBalancerArn>arn:balancer\
        </LoadBalancerArn><Port>80</Port></member></Listeners>";
    let listeners = ("Action=DescribeListeners", answer("DescribeListeners", listeners));
    let wire = Wire::new(vec![
        listeners.clone(),
        rules(&[r("arn:backend"), parked(P, "50000", "arn:backend")]),
        ("Action=DescribeTags", Answer::elb_error("RuleNotFound", "gone")),
        listeners.clone(),
        rules(&[r("arn:backend")]),
        tags(&[("arn:balancer", "x"), (R, "x")]),
    ]);
    let read = alb(&wire.aws()).read(Timestamp::UNIX_EPOCH, None).await.unwrap();
    assert_eq!(read.listeners[0].rules.len(), 1);

    // A managed rule whose tags are missing must not pass for a stranger's.
    let wire = Wire::new(vec![
        listeners,
        rules(&[r("arn:backend")]),
        tags(&[("arn:balancer", "x")]),
    ]);
    let fault = alb(&wire.aws()).read(Timestamp::UNIX_EPOCH, None).await.unwrap_err();
    assert!(fault.message.contains(R), "{fault}");
}

#[tokio::test]
async fn a_flip_whose_answer_was_lost_is_done_once() {
    let (route, original) = (RouteId(R.to_owned()), forward("arn:backend"));
    let wire = Wire::new(vec![
        rules(&[r("arn:backend")]),
        managed(),
        ("Action=ModifyRule", Answer::Lost),
        done("ModifyRule"),
        rules(&[r(WAKER)]),
        rules(&[r(WAKER)]),
        done("ModifyRule"),
        rules(&[r("arn:backend")]),
    ]);
    let alb = alb(&wire.hurried_aws());
    for _ in 0..2 {
        alb.flip_to_waker(&table(), &route, &original).await.unwrap();
    }
    for _ in 0..2 {
        alb.flip_to_backend(&route, &original).await.unwrap();
    }
    assert_eq!(wire.left(), Vec::<String>::new());
    let writes = wire.asked_for("Action=ModifyRule");
    assert_eq!(writes.len(), 3, "one was sent twice");
    assert!(
        writes
            .iter()
            .all(|write| !write.contains("Conditions") && !write.contains("Transforms"))
    );
}

#[tokio::test]
async fn what_was_released_meanwhile_is_neither_parked_nor_flipped() {
    let (route, original) = (RouteId(R.to_owned()), forward("arn:backend"));
    let wire = Wire::new(vec![
        tagged("team", &[(R, "shop")]),
        rules(&[r("arn:backend")]),
        tagged("team", &[(R, "shop")]),
    ]);
    let alb = alb(&wire.aws());
    let parked = alb.park(&table(), &route, &original).await;
    let flipped = alb.flip_to_waker(&table(), &route, &original).await;
    for outcome in [parked, flipped] {
        assert_eq!(outcome.unwrap_err().kind, FaultKind::Conflict);
    }
    assert_eq!(wire.left(), Vec::<String>::new());
    for write in ["Action=CreateRule", "Action=ModifyRule"] {
        assert_eq!(wire.asked_for(write).len(), 0);
    }
}

#[tokio::test]
async fn an_action_of_the_future_is_never_written_over() {
    let strange = "<member><Type>teleport</Type><Order>1</Order></member><member><Type>forward</Type><Order>2</Order>\
        <TargetGroupArn>arn:waker</TargetGroupArn></member>";
    let strange = format!("<member><RuleArn>{R}</RuleArn><Priority>1</Priority><Actions>{strange}</Actions></member>");
    let wire = Wire::new(vec![rules(&[strange])]);
    let route = RouteId(R.to_owned());
    let fault = alb(&wire.aws())
        .flip_to_backend(&route, &forward("arn:backend"))
        .await
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::Conflict);
    assert!(fault.message.contains("teleport"), "{fault}");
    assert_eq!(wire.asked_for("Action=ModifyRule").len(), 0);
}

#[tokio::test]
async fn a_waker_is_found_by_its_name_once() {
    let arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/site-waker/0123456789abcdef";
    let group = format!("<TargetGroups><member><TargetGroupArn>{arn}</TargetGroupArn></member></TargetGroups>");
    let wire = Wire::new(vec![(
        "Names.member.1=site-waker",
        answer("DescribeTargetGroups", &group),
    )]);
    let alb = Alb::new(
        wire.aws().elb(),
        vec!["arn:listener".to_owned()],
        vec![GroupId("site-waker".to_owned())],
    );
    let waker = GroupId(arn.to_owned());
    for _ in 0..2 {
        assert_eq!(alb.homes().await.unwrap().of("arn:balancer"), Some(&waker));
    }
    assert!(alb.wakes(&forward(arn)[0]));
    assert!(!alb.wakes(&forward(&arn.replace("site-waker", "site"))[0]));
    assert!(!alb.wakes(&forward("site-waker/other")[0]));
}
