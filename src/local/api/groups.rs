//! ELBv2: target groups, targets and target health.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Answer,
    elb::{page, required, tags},
    query::{list, text, texts},
    unknown_call,
};
use crate::local::world::{Failure, HealthCheck, TargetGroup, TargetKind, World};

/// Answers one call with the content of its result element.
pub fn call(world: &mut World, now: Timestamp, name: &str, params: &Map<String, Value>) -> Answer {
    match name {
        "DescribeTargetGroups" => describe(world, params),
        "DescribeTargetHealth" => health(world, params),
        "CreateTargetGroup" => create(world, params),
        "DeleteTargetGroup" => {
            world.delete_target_group(&required(params, "TargetGroupArn")?)?;
            Ok(json!({}))
        }
        "RegisterTargets" => {
            world.register_targets(now, &required(params, "TargetGroupArn")?, &targets(params))?;
            Ok(json!({}))
        }
        "DeregisterTargets" => {
            world.deregister_targets(now, &required(params, "TargetGroupArn")?, &targets(params))?;
            Ok(json!({}))
        }
        "DescribeTargetGroupAttributes" => {
            let group = world.require_group(&required(params, "TargetGroupArn")?)?;
            Ok(json!({ "Attributes": pairs(&group.attributes) }))
        }
        "ModifyTargetGroupAttributes" => {
            let group = world.target_group_mut(&required(params, "TargetGroupArn")?)?;
            put_pairs(&mut group.attributes, params);
            Ok(json!({ "Attributes": pairs(&group.attributes) }))
        }
        _ => Err(unknown_call("Elastic Load Balancing", name)),
    }
}

pub(super) fn pairs(attributes: &BTreeMap<String, String>) -> Vec<Value> {
    let pair = |(key, value)| json!({ "Key": key, "Value": value });
    attributes.iter().map(pair).collect()
}

pub(super) fn put_pairs(attributes: &mut BTreeMap<String, String>, params: &Map<String, Value>) {
    for pair in list(params, "Attributes") {
        let part = |key: &str| pair[key].as_str().unwrap_or_default().to_owned();
        attributes.insert(part("Key"), part("Value"));
    }
}

fn targets(params: &Map<String, Value>) -> Vec<(String, Option<u16>)> {
    let target = |row: &Value| {
        let port = row["Port"].as_str().and_then(|port| port.parse().ok());
        row["Id"].as_str().map(|id| (id.to_owned(), port))
    };
    list(params, "Targets").iter().filter_map(target).collect()
}

fn describe(world: &World, params: &Map<String, Value>) -> Answer {
    let (arns, names) = (texts(params, "TargetGroupArns"), texts(params, "Names"));
    let balancer = text(params, "LoadBalancerArn");
    for arn in &arns {
        world.require_group(arn)?;
    }
    if let Some(unknown) = names
        .iter()
        .find(|name| !world.target_groups().iter().any(|group| group.name == **name))
    {
        return Err(Failure::refused(
            "TargetGroupNotFound",
            format!("Target groups '[{unknown}]' not found"),
        ));
    }
    let all = arns.is_empty() && names.is_empty() && balancer.is_none();
    let chosen = world.target_groups().iter().filter(|group| {
        let used = balancer
            .as_ref()
            .is_some_and(|balancer| world.balancers_of(&group.arn).contains(balancer));
        all || arns.contains(&group.arn) || names.contains(&group.name) || used
    });
    let (page, next) = page(chosen.map(|group| row(world, group)).collect(), params)?;
    Ok(json!({ "TargetGroups": page, "NextMarker": next }))
}

fn row(world: &World, group: &TargetGroup) -> Value {
    let http = group.kind != TargetKind::Lambda;
    let check = &group.check;
    json!({
        "TargetGroupArn": group.arn,
        "TargetGroupName": group.name,
        "Protocol": http.then_some(&group.protocol),
        "Port": http.then_some(group.port),
        "VpcId": http.then_some("vpc-00000000000local"),
        "HealthCheckProtocol": http.then_some(&group.protocol),
        "HealthCheckPort": http.then_some("traffic-port"),
        "HealthCheckEnabled": check.enabled,
        "HealthCheckIntervalSeconds": check.interval.as_secs(),
        "HealthCheckTimeoutSeconds": check.timeout.as_secs(),
        "HealthyThresholdCount": check.healthy,
        "UnhealthyThresholdCount": check.unhealthy,
        "HealthCheckPath": check.path,
        "Matcher": { "HttpCode": check.codes },
        "LoadBalancerArns": world.balancers_of(&group.arn),
        "TargetType": group.kind.word(),
        "ProtocolVersion": http.then_some("HTTP1"),
        "IpAddressType": "ipv4",
    })
}

fn health(world: &World, params: &Map<String, Value>) -> Answer {
    let group = world.require_group(&required(params, "TargetGroupArn")?)?;
    let asked = targets(params);
    let chosen = group.targets.iter().filter(|target| {
        asked.is_empty()
            || asked
                .iter()
                .any(|(id, port)| *id == target.id && (port.is_none() || *port == target.port))
    });
    let rows = chosen.map(|target| {
        let health = &target.health;
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        json!({
            "Target": { "Id": target.id, "Port": target.port },
            "HealthCheckPort": target.port.map(|port| port.to_string()),
            "TargetHealth": {
                "State": health.state.word(),
                "Reason": some(health.reason),
                "Description": some(&health.description),
            },
        })
    });
    Ok(json!({ "TargetHealthDescriptions": rows.collect::<Vec<_>>() }))
}

fn create(world: &mut World, params: &Map<String, Value>) -> Answer {
    let name = required(params, "Name")?;
    let kind = match text(params, "TargetType").as_deref().unwrap_or("instance") {
        "instance" => TargetKind::Instance,
        "ip" => TargetKind::Ip,
        "lambda" => TargetKind::Lambda,
        other => {
            return Err(Failure::refused(
                "ValidationError",
                format!("TargetType '{other}' is not served here"),
            ));
        }
    };
    let number = |key: &str, default: u64| match text(params, key) {
        None => Ok(default),
        Some(value) => value
            .parse()
            .map_err(|_| Failure::refused("ValidationError", format!("{key} '{value}' is not a number"))),
    };
    let default = HealthCheck {
        enabled: kind != TargetKind::Lambda,
        ..HealthCheck::default()
    };
    let check = HealthCheck {
        enabled: text(params, "HealthCheckEnabled").map_or(default.enabled, |value| value == "true"),
        path: text(params, "HealthCheckPath").unwrap_or(default.path),
        interval: Duration::from_secs(number("HealthCheckIntervalSeconds", default.interval.as_secs())?),
        timeout: Duration::from_secs(number("HealthCheckTimeoutSeconds", default.timeout.as_secs())?),
        healthy: number("HealthyThresholdCount", default.healthy.into())? as u32,
        unhealthy: number("UnhealthyThresholdCount", default.unhealthy.into())? as u32,
        codes: params
            .get("Matcher")
            .and_then(|m| m["HttpCode"].as_str())
            .map_or(default.codes, str::to_owned),
    };
    let lambda = kind == TargetKind::Lambda;
    let protocol = if lambda {
        String::new()
    } else {
        required(params, "Protocol")?
    };
    let port = if lambda { 0 } else { number("Port", 0)? as u16 };
    if !lambda && port == 0 {
        return Err(Failure::refused("ValidationError", "A port must be specified"));
    }
    let arn = world.create_target_group(&name, kind, &protocol, port, check)?;
    if !tags(params).is_empty() {
        world.add_elb_tags(&arn, &tags(params))?;
    }
    Ok(json!({ "TargetGroups": [row(world, world.require_group(&arn)?)] }))
}
