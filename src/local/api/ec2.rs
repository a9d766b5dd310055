//! EC2: describe, start, stop and tag instances; their volumes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Answer,
    query::{list, text, texts},
    unknown_call,
};
use crate::local::{
    wildcard::wildcard,
    world::{Change, Failure, Instance, Life, World},
};

/// Answers one call with the content of its response element.
pub fn call(world: &mut World, now: Timestamp, name: &str, params: &Map<String, Value>) -> Answer {
    match name {
        "DescribeInstances" => describe(world, now, params),
        "StartInstances" => changed(world.start_instances(now, &ids(params)?)?),
        "StopInstances" => {
            let hibernate = text(params, "Hibernate").as_deref() == Some("true");
            changed(world.stop_instances(now, &ids(params)?, hibernate)?)
        }
        "TerminateInstances" => {
            for id in ids(params)? {
                world.terminate_instance(now, &id)?;
            }
            Ok(json!({ "instancesSet": [] }))
        }
        "CreateTags" => {
            let pairs = list(params, "Tag");
            let pair = |tag: &Value| {
                Some((
                    tag["Key"].as_str()?.to_owned(),
                    tag["Value"].as_str().unwrap_or("").to_owned(),
                ))
            };
            let tags: Vec<(String, String)> = pairs.iter().filter_map(pair).collect();
            world.tag_instances(&texts(params, "ResourceId"), &tags)?;
            Ok(json!({ "return": true }))
        }
        "DeleteTags" => {
            let keys = list(params, "Tag");
            let keys = keys.iter().filter_map(|tag| tag["Key"].as_str().map(str::to_owned));
            world.untag_instances(&texts(params, "ResourceId"), &keys.collect::<Vec<_>>())?;
            Ok(json!({ "return": true }))
        }
        "DescribeVolumes" => volumes(world, params),
        _ => Err(unknown_call("EC2", name)),
    }
}

fn ids(params: &Map<String, Value>) -> Result<Vec<String>, Failure> {
    let ids = texts(params, "InstanceId");
    if ids.is_empty() {
        return Err(Failure::refused(
            "MissingParameter",
            "The request must contain the parameter InstanceId",
        ));
    }
    Ok(ids)
}

fn changed(changes: Vec<Change>) -> Answer {
    let state = |(name, code): (&str, u16)| json!({ "code": code, "name": name });
    let row = |(id, before, after): Change| json!({ "instanceId": id, "currentState": state(after.name()), "previousState": state(before.name()) });
    Ok(json!({ "instancesSet": changes.into_iter().map(row).collect::<Vec<_>>() }))
}

fn describe(world: &mut World, now: Timestamp, params: &Map<String, Value>) -> Answer {
    let ids = texts(params, "InstanceId");
    let size = text(params, "MaxResults");
    if !ids.is_empty() && size.is_some() {
        let message = "The parameter instancesSet cannot be used with the parameter maxResults";
        return Err(Failure::refused("InvalidParameterCombination", message));
    }
    let size = match size.map(|size| size.parse::<usize>()) {
        None => usize::MAX,
        Some(Ok(size)) if (5..=1000).contains(&size) => size,
        Some(_) => {
            return Err(Failure::refused(
                "InvalidParameterValue",
                "maxResults must be between 5 and 1000",
            ));
        }
    };
    let mut found = Vec::new();
    for (instance, life) in world.describe_instances(now, &ids)? {
        if passes(&instance, &life, &list(params, "Filter"))? {
            found.push(row(world, &instance, &life));
        }
    }
    let from = text(params, "NextToken")
        .and_then(|token| token.parse().ok())
        .unwrap_or(0_usize)
        .min(found.len());
    let page: Vec<Value> = found[from..].iter().take(size).cloned().collect();
    let next = (from + page.len() < found.len()).then(|| (from + page.len()).to_string());
    Ok(json!({ "reservationSet": page, "nextToken": next }))
}

/// The root volumes of instances: one each.
fn volumes(world: &World, params: &Map<String, Value>) -> Answer {
    let filters = list(params, "Filter");
    let mut rows = Vec::new();
    for instance in world.instances() {
        let attached = |filter: &Value| {
            let values = filter["Value"].as_array().into_iter().flatten();
            let mut values = values.filter_map(Value::as_str);
            match filter["Name"].as_str() {
                Some("attachment.instance-id") => Ok(values.any(|pattern| wildcard(pattern, &instance.id))),
                other => {
                    let message = format!("The filter '{}' is invalid", other.unwrap_or_default());
                    Err(Failure::refused("InvalidParameterValue", message))
                }
            }
        };
        let passed: Result<Vec<bool>, Failure> = filters.iter().map(attached).collect();
        if !passed?.into_iter().all(|passed| passed) {
            continue;
        }
        let key = Some(&world.faults.encrypted_with).filter(|key| !key.is_empty());
        rows.push(json!({
            "volumeId": instance.id.replacen("i-", "vol-", 1),
            "status": "in-use",
            "encrypted": key.is_some(),
            "kmsKeyId": key,
            "attachmentSet": [{ "instanceId": instance.id, "device": "/dev/xvda", "status": "attached" }],
        }));
    }
    Ok(json!({ "volumeSet": rows }))
}

fn passes(instance: &Instance, life: &Life, filters: &[Value]) -> Result<bool, Failure> {
    for filter in filters {
        let name = filter["Name"].as_str().unwrap_or_default();
        let values: Vec<&str> = filter["Value"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let is = |actual: &str| values.iter().any(|pattern| wildcard(pattern, actual));
        let passed = match name {
            "instance-id" => is(&instance.id),
            "instance-state-name" => is(life.power.name().0),
            "private-ip-address" => is(&instance.address),
            "tag-key" => instance.tags.keys().any(|key| is(key)),
            _ => match name.strip_prefix("tag:") {
                Some(key) => instance.tags.get(key).is_some_and(|value| is(value)),
                None => {
                    return Err(Failure::refused(
                        "InvalidParameterValue",
                        format!("The filter '{name}' is invalid"),
                    ));
                }
            },
        };
        if !passed {
            return Ok(false);
        }
    }
    Ok(true)
}

/// One reservation with one instance, as `RunInstances` for one machine makes it.
fn row(world: &World, instance: &Instance, life: &Life) -> Value {
    let (state, code) = life.power.name();
    let reason = life
        .reason
        .as_ref()
        .map(|(code, message)| json!({ "code": code, "message": message }));
    let machine = json!({
        "instanceId": instance.id,
        "imageId": "ami-0000000000000local",
        "instanceState": { "code": code, "name": state },
        "privateDnsName": format!("ip-{}.ec2.internal", instance.address.replace('.', "-")),
        "reason": life.transition,
        "instanceType": instance.kind,
        "launchTime": life.launched.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string(),
        "placement": { "availabilityZone": format!("{}a", world.settings.region), "tenancy": "default" },
        "monitoring": { "state": "disabled" },
        "vpcId": "vpc-00000000000local",
        "privateIpAddress": instance.address,
        "architecture": "x86_64",
        "rootDeviceType": "ebs",
        "stateReason": reason,
        "tagSet": tag_set(&instance.tags),
        "hibernationOptions": { "configured": instance.hibernates },
    });
    let reservation = instance.id.replacen("i-", "r-", 1);
    json!({ "reservationId": reservation, "ownerId": world.settings.account, "groupSet": [], "instancesSet": [machine] })
}

fn tag_set(tags: &BTreeMap<String, String>) -> Option<Vec<Value>> {
    let rows: Vec<Value> = tags
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": value }))
        .collect();
    Some(rows).filter(|rows| !rows.is_empty())
}
