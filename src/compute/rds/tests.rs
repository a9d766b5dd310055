use super::*;
use crate::aws::wire::{Answer, Wire};

fn ids(ids: &[&str]) -> Vec<ResourceId> {
    ids.iter().map(|id| ResourceId((*id).to_owned())).collect()
}

fn instance(name: &str, status: &str, more: &str) -> String {
    format!(
        "<DBInstance><DBInstanceIdentifier>{name}</DBInstanceIdentifier><DBInstanceStatus>{status}</DBInstanceStatus>\
         <Engine>postgres</Engine>{more}</DBInstance>"
    )
}

fn described(instances: &[String]) -> Answer {
    page(instances, "")
}

fn page(instances: &[String], marker: &str) -> Answer {
    Answer::ok(format!(
        "<DescribeDBInstancesResponse xmlns=\"http://rds.amazonaws.com/doc/2014-10-31/\"><DescribeDBInstancesResult>\
         <DBInstances>{}</DBInstances>{marker}</DescribeDBInstancesResult></DescribeDBInstancesResponse>",
        instances.concat()
    ))
}

fn done(action: &str) -> Answer {
    Answer::ok(format!("<{action}Response><{action}Result/></{action}Response>"))
}

fn rds(wire: &Wire) -> Rds {
    Rds::new(wire.aws().rds())
}

/// The names of each call of this action.
fn asked(wire: &Wire, action: &str) -> Vec<String> {
    let asked = wire.asked_for(&format!("Action={action}&"));
    asked
        .into_iter()
        .map(|text| text.rsplit('=').next().unwrap().to_owned())
        .collect()
}

async fn power(status: &str) -> Result<ResourceSeen, Fault> {
    let wire = Wire::new(vec![("DescribeDBInstances", described(&[instance("db", status, "")]))]);
    Ok(rds(&wire).describe(&ids(&["rds:db"])).await?.remove(0))
}

#[tokio::test]
async fn every_documented_status_has_its_power() {
    for (status, expected) in [
        ("available", Power::Running),
        ("backing-up", Power::Running),
        ("configuring-enhanced-monitoring", Power::Running),
        ("modifying", Power::Running),
        ("storage-full", Power::Running),
        ("incompatible-parameters", Power::Running),
        ("starting", Power::Pending),
        ("creating", Power::Pending),
        ("stopping", Power::Stopping),
        ("stopped", Power::Stopped),
        ("inaccessible-encryption-credentials-recoverable", Power::Stopped),
        ("failed", Power::Terminated),
        ("deleting", Power::Terminated),
    ] {
        assert_eq!(power(status).await.unwrap().power, expected, "{status}");
    }
    assert_eq!(power("stopped").await.unwrap().fell_back, None);
    let lost = power("inaccessible-encryption-credentials-recoverable").await.unwrap();
    assert!(lost.fell_back.is_some_and(|why| why.contains("KMS")));
    let fault = power("levitating").await.unwrap_err();
    assert!(fault.message.contains("levitating"), "{fault}");
}

#[tokio::test]
async fn describes_both_kinds_in_the_order_of_the_ids_and_through_all_pages() {
    let endpoint =
        "<Endpoint><Address>one.example</Address><Port>5432</Port><HostedZoneId>Z1</HostedZoneId></Endpoint>";
    let cluster = "<DescribeDBClustersResponse><DescribeDBClustersResult><DBClusters><DBCluster><Status>stopped</Status>\
        <DBClusterIdentifier>two</DBClusterIdentifier><Endpoint>two.example</Endpoint><Port>3306</Port></DBCluster>\
        </DBClusters></DescribeDBClustersResult></DescribeDBClustersResponse>";
    let script = || {
        vec![
            (
                "DescribeDBInstances",
                page(&[instance("zero", "available", "")], "<Marker>more</Marker>"),
            ),
            ("Marker=more", described(&[instance("One", "starting", endpoint)])),
            ("DescribeDBClusters", Answer::ok(cluster)),
        ]
    };
    let all = ids(&["rds-cluster:two", "rds:ONE", "rds:gone", "rds:zero"]);
    let wire = Wire::new(script());
    let seen = rds(&wire).describe(&all).await.unwrap();
    let brief: Vec<_> = seen.iter().map(|seen| (seen.id.0.as_str(), seen.power)).collect();
    let expected = [
        ("rds-cluster:two", Power::Stopped),
        ("rds:ONE", Power::Pending),
        ("rds:gone", Power::Terminated),
        ("rds:zero", Power::Running),
    ];
    assert_eq!(brief, expected);
    let wire = Wire::new(script());
    let found = rds(&wire).endpoints(&all).await.unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|found| found.as_ref().map(|found| (found.address.as_str(), found.port)))
        .collect();
    let expected = [Some(("two.example", 3306)), Some(("one.example", 5432)), None, None];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn what_cannot_be_stopped_is_told_before_it_is_tried() {
    for (more, words) in [
        (
            "<ReadReplicaSourceDBInstanceIdentifier>main</ReadReplicaSourceDBInstanceIdentifier>",
            "read replica of main",
        ),
        (
            "<ReadReplicaDBInstanceIdentifiers><ReadReplicaDBInstanceIdentifier>copy</ReadReplicaDBInstanceIdentifier>\
             </ReadReplicaDBInstanceIdentifiers>",
            "has read replicas (copy)",
        ),
        (
            "<DBClusterIdentifier>whole</DBClusterIdentifier>",
            "name rds-cluster:whole instead",
        ),
    ] {
        let states = [instance("db", "available", more), instance("other", "available", "")];
        let wire = Wire::new(vec![
            ("DescribeDBInstances", described(&states)),
            ("StopDBInstance", done("StopDBInstance")),
        ]);
        let both = ids(&["rds:db", "rds:other"]);
        let fault = rds(&wire).stop(&both, StopKind::Stop).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unsupported);
        assert!(fault.lasts() && fault.had_no_effect());
        assert!(fault.message.contains(words), "{fault}");
        assert_eq!(asked(&wire, "StopDBInstance"), ["other"]);
    }
    let mirrored = instance("db", "available", "<MultiAZ>true</MultiAZ>").replace("postgres", "sqlserver-se");
    let wire = Wire::new(vec![("DescribeDBInstances", described(&[mirrored]))]);
    let fault = rds(&wire).stop(&ids(&["rds:db"]), StopKind::Stop).await.unwrap_err();
    assert!(fault.message.contains("SQL Server"), "{fault}");
}

#[tokio::test]
async fn starts_only_what_is_stopped_and_one_never_keeps_the_others() {
    let states = [
        instance("up", "backing-up", ""),
        instance("on", "starting", ""),
        instance("off", "stopped", ""),
        instance("going", "stopping", ""),
    ];
    let wire = Wire::new(vec![
        ("DescribeDBInstances", described(&states)),
        ("StartDBInstance", done("StartDBInstance")),
    ]);
    let all = ids(&["rds:up", "rds:on", "rds:going", "rds:off"]);
    let fault = rds(&wire).start(&all).await.unwrap_err();
    assert_eq!(
        (fault.kind, fault.operation.as_str()),
        (FaultKind::Conflict, "rds:StartDBInstance")
    );
    assert!(fault.message.contains("rds:going"), "{fault}");
    assert_eq!(asked(&wire, "StartDBInstance"), ["off"]);
}

#[tokio::test]
async fn refusals_are_sorted_by_what_rds_says() {
    for (code, words, kind) in [
        (
            "InsufficientDBInstanceCapacity",
            "none in this zone",
            FaultKind::NoCapacity,
        ),
        ("AccessDenied", "no", FaultKind::Denied),
        ("DBInstanceNotFound", "DBInstance db not found.", FaultKind::NotFound),
        ("KMSKeyNotAccessibleFault", "no key", FaultKind::Denied),
        (
            "InvalidParameterCombination",
            "aurora-mysql DB instances are not eligible for stopping and starting.",
            FaultKind::Unsupported,
        ),
    ] {
        let wire = Wire::new(vec![
            ("DescribeDBInstances", described(&[instance("db", "stopped", "")])),
            ("StartDBInstance", Answer::elb_error(code, words)),
        ]);
        let fault = rds(&wire).start(&ids(&["rds:db"])).await.unwrap_err();
        assert_eq!((fault.kind, fault.message), (kind, format!("{code}: {words}")));
    }
}

#[tokio::test]
async fn a_stop_that_somebody_else_has_done_is_no_error() {
    let refused = Answer::elb_error("InvalidDBInstanceState", "Instance db is not in available state.");
    let script = |after: &str| {
        Wire::new(vec![
            ("DescribeDBInstances", described(&[instance("db", "available", "")])),
            ("StopDBInstance", refused.clone()),
            ("DescribeDBInstances", described(&[instance("db", after, "")])),
        ])
    };
    let stopped = script("stopping");
    rds(&stopped).stop(&ids(&["rds:db"]), StopKind::Stop).await.unwrap();
    let busy = script("modifying");
    let fault = rds(&busy).stop(&ids(&["rds:db"]), StopKind::Stop).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Conflict);
}

#[tokio::test]
async fn an_answer_lost_is_sent_again_and_a_throttled_one_too() {
    let wire = Wire::new(vec![
        ("DescribeDBInstances", described(&[instance("db", "stopped", "")])),
        ("StartDBInstance", Answer::Lost),
        ("StartDBInstance", Answer::elb_error("Throttling", "Rate exceeded")),
        ("StartDBInstance", done("StartDBInstance")),
    ]);
    let rds = Rds::new(wire.hurried_aws().rds());
    rds.start(&ids(&["rds:db"])).await.unwrap();
    assert_eq!(wire.left(), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_to_do_asks_nothing() {
    let wire = Wire::new(vec![]);
    let rds = rds(&wire);
    rds.start(&[]).await.unwrap();
    rds.stop(&[], StopKind::Stop).await.unwrap();
    assert_eq!(rds.describe(&[]).await.unwrap(), []);
    assert_eq!(wire.asked(), Vec::<String>::new());
}
