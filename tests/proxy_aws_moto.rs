//! What the proxy needs of AWS, against a real moto server: databases, certificates, DNS records.
#![cfg(feature = "proxy")]

mod proxy_daemon;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use proxy_daemon::Place;
use proxymanager::aws::Aws;
use proxymanager::clock::{Clock, SystemClock};
use proxymanager::compute::Compute;
use proxymanager::compute::ec2::Ec2;
use proxymanager::compute::rds::Rds;
use proxymanager::compute::tagged::tagged;
use proxymanager::config::certificate::{Certificate, Refresh, refresh};
use proxymanager::config::discovered::{Here, discovered};
use proxymanager::config::proxy::{ProxyConfig, RecordTarget as Target};
use proxymanager::config::proxy_rules::Wanted;
use proxymanager::doctor::proxy::{Places, Reach, findings, gather};
use proxymanager::domain::fault::FaultKind;
use proxymanager::domain::policy::StopKind;
use proxymanager::domain::rule::ResourceId;
use proxymanager::domain::seen::Power;
use support::aws::{Api, REGION, first};
use support::moto::Moto;

fn aws(moto: &Moto) -> Aws {
    let endpoint = format!("http://127.0.0.1:{}", moto.port);
    let environment = BTreeMap::from([
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ]);
    Aws::from_environment(&environment).unwrap()
}

fn ids(ids: &[&str]) -> Vec<ResourceId> {
    ids.iter().map(|id| ResourceId((*id).to_owned())).collect()
}

fn database(api: Api, name: &str, more: &[(&str, &str)]) {
    let mut parameters = vec![
        ("DBInstanceIdentifier", name),
        ("DBInstanceClass", "db.t3.micro"),
        ("Engine", "postgres"),
        ("AllocatedStorage", "20"),
        ("MasterUsername", "root"),
        ("MasterUserPassword", "not-a-secret"),
    ];
    parameters.extend_from_slice(more);
    api.rds("CreateDBInstance", &parameters);
}

#[tokio::test]
async fn databases_stop_and_start() {
    let moto = Moto::start();
    let (api, rds) = (Api { port: moto.port }, Rds::new(aws(&moto).rds()));
    database(api, "one", &[]);
    database(api, "main", &[]);
    api.rds(
        "CreateDBInstanceReadReplica",
        &[("DBInstanceIdentifier", "copy"), ("SourceDBInstanceIdentifier", "main")],
    );
    api.rds(
        "CreateDBCluster",
        &[
            ("DBClusterIdentifier", "whole"),
            ("Engine", "aurora-mysql"),
            ("MasterUsername", "root"),
            ("MasterUserPassword", "not-a-secret"),
        ],
    );
    let member = [("DBClusterIdentifier", "whole"), ("Engine", "aurora-mysql")];
    let plain = [("DBInstanceIdentifier", "member"), ("DBInstanceClass", "db.t3.medium")];
    api.rds("CreateDBInstance", &[plain, member].concat());

    let both = ids(&["rds-cluster:whole", "rds:one"]);
    let powers = async |ids: &[ResourceId]| -> Vec<Power> {
        rds.describe(ids).await.unwrap().iter().map(|seen| seen.power).collect()
    };
    assert_eq!(powers(&both).await, [Power::Running; 2]);
    assert_eq!(
        powers(&ids(&["rds:gone", "rds-cluster:gone"])).await,
        [Power::Terminated; 2]
    );
    for endpoint in rds.endpoints(&both).await.unwrap() {
        let endpoint = endpoint.expect("what is up has an address");
        assert!(
            endpoint.address.contains(".rds.amazonaws.com") && endpoint.port > 0,
            "{endpoint:?}"
        );
    }
    for _ in 0..2 {
        rds.stop(&both, StopKind::Stop).await.unwrap();
        assert_eq!(powers(&both).await, [Power::Stopped; 2]);
    }
    for _ in 0..2 {
        rds.start(&both).await.unwrap();
        assert_eq!(powers(&both).await, [Power::Running; 2]);
    }

    // What RDS never stops keeps nothing else from it.
    for (id, words) in [
        ("rds:copy", "read replica"),
        ("rds:main", "has read replicas"),
        ("rds:member", "name rds-cluster:whole instead"),
    ] {
        let fault = rds.stop(&ids(&[id, "rds:one"]), StopKind::Stop).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unsupported);
        assert!(fault.message.contains(words), "{fault}");
        assert_eq!(powers(&ids(&[id, "rds:one"])).await, [Power::Running, Power::Stopped]);
        rds.start(&ids(&["rds:one"])).await.unwrap();
    }
    let fault = rds.start(&ids(&["rds:gone"])).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound);

    // More than a page.
    for n in 0..101 {
        database(api, &format!("many-{n}"), &[]);
    }
    let all = rds.all().await.unwrap();
    assert_eq!(all.len(), 101 + 4 + 1);
    let many: Vec<_> = (0..101).map(|n| ResourceId(format!("rds:many-{n}"))).collect();
    assert_eq!(powers(&many).await, [Power::Running; 101]);
}

/// A certificate that is valid now, and its key.
fn pair() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["dev.example.com".to_owned()]).unwrap();
    (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn a_rotated_certificate_is_loaded_once_it_is_whole() {
    let moto = Moto::start();
    let (api, secrets) = (Api { port: moto.port }, aws(&moto).secrets());
    let secret = |action: &str, body: serde_json::Value| {
        api.json("secretsmanager", action, &body);
    };
    let ((chain, key), (next, next_key)) = (pair(), pair());
    secret(
        "CreateSecret",
        serde_json::json!({ "Name": "chain", "SecretString": chain }),
    );
    secret(
        "CreateSecret",
        serde_json::json!({ "Name": "key", "SecretString": key }),
    );
    let now = SystemClock.now();
    let fetch = async || secrets.material("chain", Some("key")).await;

    let Refresh::Load(first) = refresh(now, None, fetch().await) else {
        panic!("the first is loaded");
    };
    assert_eq!(first.names(), ["dev.example.com"]);
    assert!(matches!(refresh(now, Some(&first), fetch().await), Refresh::Unchanged));
    secret(
        "PutSecretValue",
        serde_json::json!({ "SecretId": "chain", "SecretString": next }),
    );
    let Refresh::KeepLast(why) = refresh(now, Some(&first), fetch().await) else {
        panic!("half of a rotation is not loaded");
    };
    assert!(why.contains("belongs to another certificate"), "{why}");
    secret(
        "PutSecretValue",
        serde_json::json!({ "SecretId": "key", "SecretString": next_key }),
    );
    let Refresh::Load(second) = refresh(now, Some(&first), fetch().await) else {
        panic!("the whole is");
    };
    assert_eq!(second.chain_pem(), next);

    // Both in one, as bytes.
    let both = format!("{next}{next_key}");
    let binary = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &both);
    secret(
        "CreateSecret",
        serde_json::json!({ "Name": "both", "SecretBinary": binary }),
    );
    let one = Certificate::read(secrets.material("both", None).await.unwrap()).unwrap();
    assert_eq!(one.key_pem(), both);
    let fault = secrets.material("gone", None).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound);
}

/// A new hosted zone for example.com: its id.
fn hosted_zone(api: Api) -> String {
    let made = api.route53(
        "POST",
        "/2013-04-01/hostedzone",
        "<CreateHostedZoneRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Name>example.com</Name>\
         <CallerReference>1</CallerReference></CreateHostedZoneRequest>",
    );
    first(&made, "Id")
}

/// Somebody's own record.
fn by_hand(api: Api, zone: &str, name: &str, address: &str) {
    let body = format!(
        "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
        <ChangeBatch><Changes><Change><Action>CREATE</Action><ResourceRecordSet><Name>{name}</Name>\
        <Type>A</Type><TTL>300</TTL><ResourceRecords><ResourceRecord><Value>{address}</Value></ResourceRecord>\
        </ResourceRecords></ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
    );
    api.route53("POST", &format!("{}/rrset", path(zone)), &body);
}

#[tokio::test]
async fn names_lead_to_the_proxy_and_nothing_of_others_is_replaced() {
    let moto = Moto::start();
    let api = Api { port: moto.port };
    let id = hosted_zone(api);
    let records = |name: &str| api.route53("GET", &format!("{}/rrset?name={name}&maxitems=1", path(&id)), "");
    let zone = aws(&moto).zone(&id, "vm-1");
    assert_eq!(zone.domain().await.unwrap(), "example.com");
    let addresses = |texts: &[&str]| Target::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect());

    let both = addresses(&["192.0.2.1", "2001:db8::1"]);
    for name in ["db.example.com", "*.dev.example.com."] {
        assert!(zone.point(name, &both).await.unwrap(), "{name}");
        assert!(!zone.point(name, &both).await.unwrap(), "twice is once: {name}");
    }
    assert!(records("db.example.com").contains("<Value>192.0.2.1</Value>"));
    let mark = records("_autostopping.db.example.com");
    assert_eq!(
        first(&mark, "Value").replace("&quot;", "\""),
        format!("\"autostopping-proxy=vm-1@{REGION}\"")
    );

    // It follows, to another kind of record too.
    let name = Target::Name("proxy.example.net".to_owned());
    assert!(zone.point("db.example.com", &name).await.unwrap());
    let followed = records("db.example.com");
    assert_eq!(first(&followed, "Type"), "CNAME");
    assert_eq!(first(&followed, "Value"), "proxy.example.net");

    // What it is not asked to give up, and what leads elsewhere, stays.
    assert_eq!(zone.own(&both).await.unwrap(), ["*.dev.example.com"]);
    assert_eq!(zone.forget(&BTreeSet::new(), &both).await.unwrap(), [""; 0]);
    let all = BTreeSet::from(["*.dev.example.com".to_owned(), "db.example.com".to_owned()]);
    assert_eq!(zone.forget(&all, &both).await.unwrap(), ["*.dev.example.com"]);
    for name in ["*.dev.example.com", "_autostopping-any.dev.example.com"] {
        assert!(!records(name).contains(&format!("<Name>{name}.</Name>")), "{name}");
    }
    assert_eq!(zone.own(&both).await.unwrap(), [""; 0]);
    assert_eq!(zone.own(&name).await.unwrap(), ["db.example.com"]);

    // Another proxy's, and what somebody made by hand.
    let other = aws(&moto).zone(&id, "vm-2");
    let fault = other.point("db.example.com", &both).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Conflict);
    by_hand(api, &id, "www.example.com", "192.0.2.9");
    let fault = zone.point("www.example.com", &both).await.unwrap_err();
    assert!(fault.message.contains("192.0.2.9"), "{fault}");
    assert!(records("www.example.com").contains("<Value>192.0.2.9</Value>"));

    let fault = aws(&moto)
        .zone("Z0NONE", "vm-1")
        .point("db.example.com", &both)
        .await
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound);
    let fault = zone.point("db.example.org", &both).await.unwrap_err();
    assert!(fault.had_no_effect(), "{fault}");
}

/// What an instance's metadata service says, by its own protocol: a token first, then one value a path.
fn metadata(values: &'static [(&'static str, &'static str)]) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut lines = stream.by_ref().lines().map_while(Result::ok);
            let Some(first) = lines.next() else { continue };
            let _ = lines.find(|line| line.is_empty());
            let value = values
                .iter()
                .find(|(path, _)| first.starts_with(&format!("GET /latest/meta-data/{path} ")));
            let (status, body) = match (first.starts_with("PUT /latest/api/token"), value) {
                (true, _) => ("200 OK", "token"),
                (false, Some((_, value))) => ("200 OK", *value),
                (false, None) => ("404 Not Found", ""),
            };
            let ttl = "x-aws-ec2-metadata-token-ttl-seconds: 21600";
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status}\r\n{ttl}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            let _ = stream.into_inner().write_all(answer.as_bytes());
        }
    });
    port
}

/// The environment of a machine of EC2 whose environment names another Region than its configuration.
fn on_aws(moto: &Moto, metadata: u16) -> Vec<(&'static str, String)> {
    let local = |port: u16| format!("http://127.0.0.1:{port}");
    vec![
        ("AWS_ENDPOINT_URL", local(moto.port)),
        ("AWS_REGION", "eu-west-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", local(metadata)),
    ]
}

/// Seen red: with `AWS_REGION` before the configuration's Region; without the record's owner being looked at; with secrets read
/// by the clock alone.
#[test]
fn the_daemon_reads_its_secret_in_its_region_and_makes_the_records_of_its_rules() {
    let moto = Moto::start();
    let api = Api { port: moto.port };
    let zone = hosted_zone(api);
    let both = |(chain, key): (String, String)| format!("{chain}{key}");
    let secret = |action: &str, id: &str, value: String| {
        let body = serde_json::json!({ id: "both", "SecretString": value });
        api.json("secretsmanager", action, &body);
    };
    secret("CreateSecret", "Name", both(pair()));
    by_hand(api, &zone, "www.example.com", "192.0.2.9");

    let mut place = Place::new();
    let machine = metadata(&[("public-ipv4", "198.51.100.7"), ("local-ipv4", "10.0.0.5")]);
    place.environment = on_aws(&moto, machine);
    let id = zone.rsplit('/').next().unwrap();
    let more = format!(
        "usageTrackingPort = 0\nhttpsPorts = 8443\nregion = \"{REGION}\"\nhostedZone = \"{id}\"\n[[tls]]\nsecret = \"both\"\n"
    );
    place.write("config.toml", &place.config(&more));
    let rule = |name: &str, hosts: &str| {
        let text = format!(
            "idle = \"1h\"\nresources = ['program:sleep 600; : {name}']\n[[http]]\nhosts = {hosts}\nport = {}\n",
            proxy_daemon::free_port()
        );
        place.write(&format!("rules.d/{name}.toml"), &text);
    };
    rule(
        "a",
        r#"["db.example.com", "*.dev.example.com", "www.example.com", "db.example.org"]"#,
    );
    let daemon = place.start();
    let records = |name: &str| api.route53("GET", &format!("{}/rrset?name={name}&maxitems=1", path(&zone)), "");
    let leads = |name: &str, to: &str| {
        let said = records(name);
        said.contains(&format!("<Value>{to}</Value>")) && said.contains(&format!("<Name>{name}.</Name>"))
    };
    place.until("the records are there", || leads("db.example.com", "198.51.100.7"));
    place.until("what is not its own is told", || {
        place
            .errors()
            .contains("www.example.com is there already as A 192.0.2.9")
    });
    assert!(leads("www.example.com", "192.0.2.9"));
    assert!(
        !place.errors().contains("example.org"),
        "another zone's names are none of its business"
    );
    rule("b", r#""new.example.com""#);
    place.until("a new rule has its record", || leads("new.example.com", "198.51.100.7"));
    std::fs::remove_file(place.path("rules.d/b.toml")).unwrap();
    place.until("the rule is gone", || {
        !place.run(&["proxy", "status", "b"]).status.success()
    });

    // A rotation is taken in when it is told; the rest is as it was.
    let shown = || {
        let mut client = std::process::Command::new("openssl");
        let to = format!("{}:8443", place.address);
        client.args(["s_client", "-connect", &to, "-servername", "dev.example.com"]);
        let output = client
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let certificate = |text: &str| {
        let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----").unwrap_or_default();
        rest.split_once("-----END").unwrap_or_default().0.replace('\n', "")
    };
    let next = pair();
    let wanted = certificate(&next.0.replace("\r\n", "\n"));
    assert_ne!(certificate(&shown()), wanted);
    secret("PutSecretValue", "SecretId", both(next));
    daemon.reload();
    place.until("the new one is shown", || certificate(&shown()) == wanted);
    assert!(
        leads("new.example.com", "198.51.100.7"),
        "a rule that goes leaves its record"
    );

    // Until it is told to forget it: nothing of a rule that is there, unless it is wanted.
    let forget =
        |more: &[&str]| place.ask(&[&["proxy", "forget-records", "--yes"], more].concat())["forgotten"].clone();
    assert!(
        !place.run(&["proxy", "forget-records"]).status.success(),
        "nobody can be asked"
    );
    assert!(leads("new.example.com", "198.51.100.7"));
    assert_eq!(forget(&[]), serde_json::json!(["new.example.com"]));
    assert!(!leads("new.example.com", "198.51.100.7") && leads("db.example.com", "198.51.100.7"));

    // Who is shown the way is shown what others can reach, not what it is bound to.
    place.rule("shell", "sleep 600; : shell", proxy_daemon::free_port(), "ssh");
    place.until("there is a port", || place.run(&["connect", "shell"]).status.success());
    let host = || place.ask(&["connect", "shell"])["host"].clone();
    assert_eq!(host(), place.address);
    place.change(
        "config.toml",
        &format!("listen = \"{}\"", place.address),
        "listen = \"0.0.0.0\"",
    );
    assert_eq!(host(), "198.51.100.7");
    drop(daemon);
    assert!(
        !place.run(&["proxy", "forget-records", "--yes"]).status.success(),
        "which are in use is not known"
    );
    assert_eq!(
        forget(&["--all"]),
        serde_json::json!(["*.dev.example.com", "db.example.com"])
    );
    assert!(leads("www.example.com", "192.0.2.9"));
}

/// A running instance with these tags: its id.
fn instance(api: Api, tags: &[(&str, &str)]) -> String {
    let mut parameters: Vec<(String, String)> = [
        ("ImageId", "ami-12c6146b"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("TagSpecification.1.ResourceType", "instance"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    for (place, (key, value)) in tags.iter().enumerate() {
        let tag = format!("TagSpecification.1.Tag.{}", place + 1);
        parameters.push((format!("{tag}.Key"), (*key).to_owned()));
        parameters.push((format!("{tag}.Value"), (*value).to_owned()));
    }
    let parameters: Vec<_> = parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    first(&api.ec2("RunInstances", &parameters), "instanceId")
}

/// Seen red: with a filter whose machines are not asked for at the start.
#[test]
fn the_daemon_serves_neither_itself_nor_what_may_be_anothers() {
    let moto = Moto::start();
    let api = Api { port: moto.port };
    let web = ("app", "web");
    let idle = ("autostopping:idle", "30m");
    let for_any = ("autostopping:proxy", "true");
    let own = instance(api, &[web, ("autostopping:access-point", "ap-1")]);
    let one = instance(api, &[web]);
    instance(api, &[("Name", "shell"), for_any, ("autostopping:tcp", "22"), idle]);

    let mut place = Place::new();
    let here: &'static [(&str, &str)] = vec![("instance-id", &*own.leak())].leak();
    place.environment = on_aws(&moto, metadata(here));
    place.write(
        "config.toml",
        &place.config(&format!("usageTrackingPort = 0\nregion = \"{REGION}\"")),
    );
    let filter = "idle = \"1h\"\nresources = [{ tag = { app = \"web\" } }]\n[[tcp]]\nport = 22\n";
    place.write("rules.d/web.toml", filter);
    let rules = || {
        let all = place.ask(&["proxy", "list"]);
        let names = all
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| rule["rule"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let daemon = place.start();
    assert_eq!(place.status("web")["resources"], serde_json::json!([one]));
    assert_eq!(
        (rules(), place.errors().as_str()),
        (vec!["shell".to_owned(), "web".to_owned()], "")
    );
    drop(daemon);

    // Another proxy comes: what the first has served it goes on serving, and one that begins leaves it alone.
    instance(api, &[("autostopping:access-point", "ap-2")]);
    let told = "the proxy \"ap-2\" is in this Region too";
    let daemon = place.start();
    assert_eq!(rules(), ["shell", "web"]);
    assert!(place.errors().contains(told), "{}", place.errors());
    drop(daemon);
    std::fs::remove_dir_all(place.path("state")).unwrap();
    let _daemon = place.start();
    assert_eq!(rules(), ["web"]);
    assert!(place.errors().contains(told), "{}", place.errors());
}

#[tokio::test]
async fn what_is_tagged_is_found_and_becomes_rules() {
    let moto = Moto::start();
    let api = Api { port: moto.port };
    let instance = |tags: &[(&str, &str)]| instance(api, tags);
    let idle = ("autostopping:idle", "30m");
    let shell = instance(&[
        ("autostopping:proxy", "true"),
        ("autostopping:tcp", "22 3389"),
        ("Name", "shell"),
        idle,
    ]);
    let broken = instance(&[("autostopping:proxy", "true"), ("autostopping:tcp", "ssh"), idle]);
    let gone = instance(&[("autostopping:proxy", "true"), ("autostopping:tcp", "22"), idle]);
    instance(&[("autostopping:managed", "true")]);
    api.ec2("TerminateInstances", &[("InstanceId.1", &gone)]);
    let tags = [
        ("Tags.Tag.1.Key", "autostopping:proxy"),
        ("Tags.Tag.1.Value", "true"),
        ("Tags.Tag.2.Key", "autostopping:idle"),
        ("Tags.Tag.2.Value", "1h"),
    ];
    database(api, "orders", &tags);
    database(api, "private", &[]);

    let aws = aws(&moto);
    let all = tagged(&Ec2::new(aws.ec2()), &Rds::new(aws.rds())).await.unwrap();
    let here = Here {
        access_point: None,
        machine: None,
        settle: Duration::from_secs(60),
        idle_min: Duration::from_secs(60),
    };
    let found = discovered(&all, &[], &[], &here);
    let rules: Vec<_> = found
        .rules
        .iter()
        .map(|rule| (rule.name.0.as_str(), rule.resources.clone(), rule.tcp.len()))
        .collect();
    let one = |id: &str| vec![Wanted::One(ResourceId(id.to_owned()))];
    assert_eq!(rules, [("rds-orders", one("rds:orders"), 1), ("shell", one(&shell), 2)]);
    let [(id, problem)] = &found.problems[..] else {
        panic!("one problem: {:?}", found.problems);
    };
    assert_eq!(id.0, broken);
    assert!(problem.contains("autostopping:tcp"), "{problem}");
}

#[tokio::test]
async fn the_doctor_sees_ports_security_groups_targets_and_certificates() {
    let moto = Moto::start();
    let (api, aws) = (Api { port: moto.port }, aws(&moto));
    let group = [("GroupName", "proxy"), ("GroupDescription", "clients")];
    let group = first(&api.ec2("CreateSecurityGroup", &group), "groupId");
    let lets_in = [
        ("GroupId", group.as_str()),
        ("IpPermissions.1.IpProtocol", "tcp"),
        ("IpPermissions.1.FromPort", "443"),
        ("IpPermissions.1.ToPort", "443"),
        ("IpPermissions.1.IpRanges.1.CidrIp", "10.0.0.0/8"),
    ];
    api.ec2("AuthorizeSecurityGroupIngress", &lets_in);
    let launch = [
        ("ImageId", "ami-12c6146b"),
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("SecurityGroupId.1", &group),
    ];
    let instance = ResourceId(first(&api.ec2("RunInstances", &launch), "instanceId"));
    let tag = [
        ("TagSpecification.1.ResourceType", "instance"),
        ("TagSpecification.1.Tag.1.Key", "autostopping:managed"),
        ("TagSpecification.1.Tag.1.Value", "true"),
    ];
    let tagged = first(
        &api.ec2("RunInstances", &[&launch[..], &tag[..]].concat()),
        "instanceId",
    );
    let (chain, key) = pair();
    for (name, value) in [("chain", &chain), ("key", &key)] {
        api.json(
            "secretsmanager",
            "CreateSecret",
            &serde_json::json!({ "Name": name, "SecretString": value }),
        );
    }

    // One port that is open and one that nobody has, both of programs on this machine.
    let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let open_port = open.local_addr().unwrap().port();
    let text = format!(
        "httpPorts = []\nhttpsPorts = [{open_port}]\nportRange = \"1-2\"\n[[tls]]\ncertificateSecret = \"chain\"\nkeySecret = \"key\"\n"
    );
    let config = ProxyConfig::read(Path::new("/etc/proxymanager/config.toml"), &text).unwrap();
    let status = serde_json::json!({
        "envoy": false, "errors": [], "rejections": [],
        "rules": [
            {
                "rule": "shell", "phase": "awake", "awake": true, "resources": ["program:sh"], "hosts": ["dev.example.com"],
                "sites": [{ "port": open_port }], "ports": [{ "port": closed, "listen": null }], "problems": [], "allow": "10.0.0.0/8",
            },
            {
                "rule": "new", "phase": "checking", "awake": false, "resources": ["program:new"], "hosts": [], "sites": [],
                "ports": [{ "port": closed, "listen": 1 }], "problems": [], "allow": "10.0.0.0/8",
            },
            {
                "rule": "machines", "phase": "asleep", "awake": false, "resources": [instance.0, tagged, "i-00000000"], "hosts": [],
                "sites": [], "ports": [{ "port": 22, "listen": null }], "problems": [],
            },
        ],
    });
    let settings = tempfile::TempDir::new().unwrap();
    std::fs::write(settings.path().join("ip_local_port_range"), "2\t3\n").unwrap();
    let places = Places {
        systemctl: "/nonexistent".into(),
        timedatectl: "/nonexistent".into(),
        settings: settings.path().to_owned(),
        ..Places::default()
    };
    let facts = gather(
        SystemClock.now(),
        &config,
        &places,
        Ok(status),
        Some(&aws),
        Some(&instance),
    )
    .await;
    assert_eq!(facts.unseen, []);
    assert_eq!(facts.ports, [open_port, 1].into());
    assert!(
        facts
            .listening
            .as_ref()
            .is_some_and(|ports| ports.contains(&open_port) && !ports.contains(&closed))
    );
    let ingress = facts.ingress.as_deref().unwrap();
    assert!(
        ingress
            .iter()
            .any(|rule| rule.group == group && (rule.first, rule.last) == (443, 443)),
        "{ingress:?}"
    );
    let each = facts.targets.iter();
    let reached: BTreeSet<_> = each
        .map(|target| (target.rule.clone(), target.port, target.reach == Reach::Connected))
        .collect();
    let up: BTreeSet<_> = [
        ("shell", open_port, Reach::Connected),
        ("shell", closed, Reach::Refused),
        ("new", closed, Reach::Refused),
    ]
    .map(|(rule, port, reach)| (rule.to_owned(), port, reach == Reach::Connected))
    .into();
    assert_eq!(reached, up);
    assert_eq!((facts.untagged.as_slice(), facts.forbidden.len()), (&[instance][..], 0));
    assert!(
        facts.certificates[0]
            .read
            .as_ref()
            .is_ok_and(|(names, days)| names == &["dev.example.com"] && *days > 1000)
    );
    assert_eq!(facts.guarded, [open_port, 1].into());
    assert!(
        facts
            .given_away
            .as_ref()
            .is_some_and(|words| words.contains("ports 2-2")),
        "{:?}",
        facts.given_away
    );
    let codes: Vec<_> = findings(&facts).iter().map(|finding| finding.code).collect();
    assert_eq!(
        codes,
        [
            "envoy-not-connected",
            "no-handshake",
            "managed-tag-missing",
            "clients-kept-out",
            "port-not-open",
            "clients-kept-out",
            "target-closed",
            "still-booting",
            "ports-given-away"
        ]
    );
}

fn path(id: &str) -> String {
    format!("/2013-04-01/hostedzone/{}", id.rsplit('/').next().unwrap())
}
