use super::*;
use crate::aws::wire::{Answer, Wire};

fn ids(ids: &[&str]) -> Vec<ResourceId> {
    ids.iter().map(|id| ResourceId((*id).to_owned())).collect()
}

fn instance(id: &str, state: &str, more: &str) -> String {
    format!("<item><instanceId>{id}</instanceId><instanceState><name>{state}</name></instanceState>{more}</item>")
}

fn described(instances: &[String]) -> Answer {
    page(instances, "")
}

fn page(instances: &[String], next: &str) -> Answer {
    Answer::ok(format!(
        "<DescribeInstancesResponse><reservationSet><item><instancesSet>{}</instancesSet></item></reservationSet>{next}\
         </DescribeInstancesResponse>",
        instances.concat()
    ))
}

fn all(state: &str, of: &[&str]) -> Answer {
    described(&of.iter().map(|id| instance(id, state, "")).collect::<Vec<_>>())
}

fn done(call: &str) -> Answer {
    Answer::ok(format!("<{call}Response/>"))
}

/// The ids of each call of this action, in the order the calls were made.
fn asked(wire: &Wire, action: &str) -> Vec<String> {
    let ids = |text: String| {
        let parts = text
            .split('&')
            .filter(|part| part.starts_with("InstanceId."))
            .map(|part| part.split('=').next_back().unwrap().to_owned());
        parts.collect::<Vec<_>>().join(" ")
    };
    wire.asked_for(action).into_iter().map(ids).collect()
}

#[tokio::test]
async fn describes_in_the_order_of_the_ids_and_through_all_pages() {
    let tired = "<reason>User initiated (2026-01-01 10:00:00 GMT)</reason><launchTime>2026-01-01T09:00:00.5Z</launchTime>\
        <stateReason><code>Client.UserInitiatedShutdown</code><message>asked</message></stateReason>";
    let broken = "<stateReason><code>Client.InternalError</code><message>Client.InternalError: Client error on launch\
        </message></stateReason><tagSet><item><key>aws:autoscaling:groupName</key><value>web</value></item></tagSet>";
    let wire = Wire::new(vec![
        (
            "DescribeInstances",
            page(&[instance("i-2", "stopped", tired)], "<nextToken>more</nextToken>"),
        ),
        ("NextToken=more", described(&[instance("i-1", "stopped", broken)])),
    ]);
    let seen = Ec2::new(wire.aws().ec2())
        .describe(&ids(&["i-1", "i-2", "i-gone"]))
        .await
        .unwrap();
    let brief: Vec<_> = seen.iter().map(|seen| (seen.id.0.as_str(), seen.power)).collect();
    let expected = [
        ("i-1", Power::Stopped),
        ("i-2", Power::Stopped),
        ("i-gone", Power::Terminated),
    ];
    assert_eq!(brief, expected);
    assert_eq!(
        seen[0].fell_back.as_deref(),
        Some("Client.InternalError: Client error on launch")
    );
    assert_eq!(seen[0].scaling_group.as_deref(), Some("web"));
    assert_eq!(seen[1].fell_back, None);
    assert_eq!(seen[1].launched, Some("2026-01-01T09:00:00.5Z".parse().unwrap()));
    assert_eq!(seen[1].changed_by_user, Some("2026-01-01T10:00:00Z".parse().unwrap()));
}

#[tokio::test]
async fn describes_at_most_200_at_a_time() {
    let many: Vec<_> = (0..401).map(|n| ResourceId(format!("i-{n}"))).collect();
    let wire = Wire::new(vec![("DescribeInstances", described(&[])); 3]);
    assert_eq!(Ec2::new(wire.aws().ec2()).describe(&many).await.unwrap().len(), 401);
    assert_eq!(wire.left(), Vec::<String>::new());
    let asked = wire.asked();
    assert!(asked[0].contains("Filter.1.Value.200=") && !asked[0].contains("Filter.1.Value.201="));
}

#[tokio::test]
async fn a_state_of_the_future_is_a_fault() {
    let wire = Wire::new(vec![("DescribeInstances", all("levitating", &["i-1"]))]);
    let fault = Ec2::new(wire.aws().ec2()).describe(&ids(&["i-1"])).await.unwrap_err();
    assert!(fault.message.contains("levitating"), "{fault}");
}

#[tokio::test]
async fn starts_only_what_is_stopped() {
    let states = [("i-1", "running"), ("i-2", "stopped"), ("i-3", "pending")];
    let states: Vec<_> = states.iter().map(|(id, state)| instance(id, state, "")).collect();
    let wire = Wire::new(vec![
        ("DescribeInstances", described(&states)),
        ("StartInstances", done("StartInstances")),
    ]);
    Ec2::new(wire.aws().ec2())
        .start(&ids(&["i-1", "i-2", "i-3"]))
        .await
        .unwrap();
    assert_eq!(asked(&wire, "StartInstances"), ["i-2"]);

    let wire = Wire::new(vec![("DescribeInstances", all("running", &["i-1"]))]);
    Ec2::new(wire.aws().ec2()).start(&ids(&["i-1"])).await.unwrap();
    assert_eq!(asked(&wire, "StartInstances"), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_stopping_does_not_keep_the_others_from_starting() {
    let states = [instance("i-1", "stopping", ""), instance("i-2", "stopped", "")];
    let wire = Wire::new(vec![
        ("DescribeInstances", described(&states)),
        ("StartInstances", done("StartInstances")),
    ]);
    let fault = Ec2::new(wire.aws().ec2())
        .start(&ids(&["i-1", "i-2"]))
        .await
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::Conflict);
    assert!(fault.message.contains("i-1"), "{fault}");
    assert_eq!(asked(&wire, "StartInstances"), ["i-2"]);
}

#[tokio::test]
async fn after_a_failed_batch_each_is_started_alone() {
    let three = ["i-1", "i-2", "i-3"];
    let denied = Answer::ec2_error("UnauthorizedOperation", "no tag");
    let empty = Answer::ec2_error("InsufficientInstanceCapacity", "none left");
    let wire = Wire::new(vec![
        ("DescribeInstances", all("stopped", &three)),
        ("InstanceId.3=i-3", denied),
        ("InstanceId.1=i-1", done("StartInstances")),
        ("InstanceId.1=i-2", empty),
        ("InstanceId.1=i-3", done("StartInstances")),
    ]);
    let fault = Ec2::new(wire.aws().ec2()).start(&ids(&three)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NoCapacity);
    assert_eq!(wire.left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_throttled_batch_is_not_tried_one_by_one() {
    let throttled = Answer::ec2_error("RequestLimitExceeded", "slow down");
    let mut script = vec![("DescribeInstances", all("stopped", &["i-1", "i-2"]))];
    script.extend(vec![("StartInstances", throttled); 9]);
    let wire = Wire::new(script);
    let fault = Ec2::new(wire.hurried_aws().ec2())
        .start(&ids(&["i-1", "i-2"]))
        .await
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::Throttled);
    assert_eq!(asked(&wire, "StartInstances"), ["i-1 i-2"; 3]);
}

#[tokio::test]
async fn a_start_whose_answer_is_lost_is_sent_again() {
    let wire = Wire::new(vec![
        ("DescribeInstances", all("stopped", &["i-1"])),
        ("StartInstances", Answer::Lost),
        ("StartInstances", done("StartInstances")),
    ]);
    Ec2::new(wire.hurried_aws().ec2()).start(&ids(&["i-1"])).await.unwrap();
    assert_eq!(asked(&wire, "StartInstances"), ["i-1", "i-1"]);
}

#[tokio::test]
async fn stopping_what_is_stopped_is_no_error() {
    let wrong_state = Answer::ec2_error("IncorrectInstanceState", "not in a state from which it can be stopped");
    let wire = Wire::new(vec![
        ("InstanceId.2=i-2", wrong_state.clone()),
        ("InstanceId.1=i-1", wrong_state.clone()),
        ("InstanceId.1=i-2", done("StopInstances")),
        ("DescribeInstances", all("stopped", &["i-1"])),
    ]);
    let ec2 = Ec2::new(wire.aws().ec2());
    ec2.stop(&ids(&["i-1", "i-2"]), StopKind::Stop).await.unwrap();
    assert_eq!(wire.left(), Vec::<String>::new());

    let wire = Wire::new(vec![
        ("StopInstances", wrong_state),
        ("DescribeInstances", all("pending", &["i-1"])),
    ]);
    let fault = Ec2::new(wire.aws().ec2())
        .stop(&ids(&["i-1"]), StopKind::Stop)
        .await
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::Conflict);
}

#[tokio::test]
async fn what_cannot_hibernate_is_stopped() {
    let wire = Wire::new(vec![
        (
            "Hibernate=true",
            Answer::ec2_error("UnsupportedHibernationConfiguration", "no"),
        ),
        ("StopInstances", done("StopInstances")),
    ]);
    let ec2 = Ec2::new(wire.aws().ec2());
    ec2.stop(&ids(&["i-1"]), StopKind::Hibernate).await.unwrap();
    assert_eq!(wire.left(), Vec::<String>::new());

    let not_yet = Answer::ec2_error("UnsupportedOperation", "not ready to hibernate yet");
    let wire = Wire::new(vec![("Hibernate=true", not_yet)]);
    let ec2 = Ec2::new(wire.aws().ec2());
    ec2.stop(&ids(&["i-1"]), StopKind::Hibernate).await.unwrap_err();
}

#[tokio::test]
async fn nothing_to_do_asks_nothing() {
    let wire = Wire::new(vec![]);
    let ec2 = Ec2::new(wire.aws().ec2());
    ec2.start(&[]).await.unwrap();
    ec2.stop(&[], StopKind::Stop).await.unwrap();
    assert_eq!(ec2.describe(&[]).await.unwrap(), []);
    assert_eq!(wire.asked(), Vec::<String>::new());
}
