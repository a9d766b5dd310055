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
        "ModifyTargetGroup" => modify(world, params),
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
    let check = checked(
        params,
        HealthCheck {
            enabled: kind != TargetKind::Lambda,
            ..HealthCheck::default()
        },
    )?;
    let lambda = kind == TargetKind::Lambda;
    let protocol = if lambda {
        String::new()
    } else {
        required(params, "Protocol")?
    };
    let port = if lambda { 0 } else { number(params, "Port", 0)? as u16 };
    if !lambda && port == 0 {
        return Err(Failure::refused("ValidationError", "A port must be specified"));
    }
    let arn = world.create_target_group(&name, kind, &protocol, port, check)?;
    if !tags(params).is_empty() {
        world.add_elb_tags(&arn, &tags(params))?;
    }
    Ok(json!({ "TargetGroups": [row(world, world.require_group(&arn)?)] }))
}

fn modify(world: &mut World, params: &Map<String, Value>) -> Answer {
    let arn = required(params, "TargetGroupArn")?;
    let check = checked(params, world.require_group(&arn)?.check.clone())?;
    world.target_group_mut(&arn)?.check = check;
    Ok(json!({ "TargetGroups": [row(world, world.require_group(&arn)?)] }))
}

/// The health check that a call asks for; what it leaves out stays as it is. The ranges are AWS's, and hold for what is
/// given: a local cloud may begin with a quicker check than AWS allows.
fn checked(params: &Map<String, Value>, before: HealthCheck) -> Result<HealthCheck, Failure> {
    let within = |key: &str, default: u64, low: u64, high: u64| {
        let value = number(params, key, default)?;
        match text(params, key) {
            Some(_) if !(low..=high).contains(&value) => {
                let message = format!("{key} must be between {low} and {high}");
                Err(Failure::refused("ValidationError", message))
            }
            Some(_) | None => Ok(value),
        }
    };
    // Less than a second is lost in whole ones.
    let seconds = |key: &str, default: Duration, low: u64, high: u64| match text(params, key) {
        Some(_) => within(key, 0, low, high).map(Duration::from_secs),
        None => Ok(default),
    };
    let check = HealthCheck {
        enabled: text(params, "HealthCheckEnabled").map_or(before.enabled, |value| value == "true"),
        path: text(params, "HealthCheckPath").unwrap_or(before.path),
        interval: seconds("HealthCheckIntervalSeconds", before.interval, 5, 300)?,
        timeout: seconds("HealthCheckTimeoutSeconds", before.timeout, 2, 120)?,
        healthy: within("HealthyThresholdCount", before.healthy.into(), 2, 10)? as u32,
        unhealthy: within("UnhealthyThresholdCount", before.unhealthy.into(), 2, 10)? as u32,
        codes: params
            .get("Matcher")
            .and_then(|m| m["HttpCode"].as_str())
            .map_or(before.codes, str::to_owned),
    };
    let given = ["HealthCheckIntervalSeconds", "HealthCheckTimeoutSeconds"];
    if given.iter().any(|key| params.contains_key(*key)) && check.timeout >= check.interval {
        let message = "Health check interval must be greater than the timeout.";
        return Err(Failure::refused("ValidationError", message));
    }
    Ok(check)
}

fn number(params: &Map<String, Value>, key: &str, default: u64) -> Result<u64, Failure> {
    let Some(value) = text(params, key) else {
        return Ok(default);
    };
    let invalid = |_| Failure::refused("ValidationError", format!("{key} '{value}' is not a number"));
    value.parse().map_err(invalid)
}
