//! ELBv2: load balancers, listeners, rules and tags.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Answer, groups,
    query::{list, text, texts},
};
use crate::local::world::{Failure, NewRule, Rule, RuleView, World};

/// Answers one call with the content of its result element.
pub fn call(world: &mut World, now: Timestamp, name: &str, params: &Map<String, Value>) -> Answer {
    match name {
        "DescribeLoadBalancers" => balancers(world, params),
        "DescribeListeners" => listeners(world, params),
        "DescribeAccountLimits" => Ok(limits(world)),
        "DescribeRules" => rules(world, now, params),
        "DescribeLoadBalancerAttributes" => {
            let balancer = world.balancer_mut(&required(params, "LoadBalancerArn")?)?;
            Ok(json!({ "Attributes": groups::pairs(&balancer.attributes) }))
        }
        "ModifyLoadBalancerAttributes" => {
            let balancer = world.balancer_mut(&required(params, "LoadBalancerArn")?)?;
            groups::put_pairs(&mut balancer.attributes, params);
            Ok(json!({ "Attributes": groups::pairs(&balancer.attributes) }))
        }
        "CreateRule" => {
            let listener = required(params, "ListenerArn")?;
            let priority = required(params, "Priority")?.parse().unwrap_or(0);
            let new = NewRule {
                priority,
                conditions: list(params, "Conditions"),
                actions: list(params, "Actions"),
                transforms: list(params, "Transforms"),
                tags: tags(params),
            };
            let arn = world.create_rule(now, &listener, new)?;
            one_rule(world, &arn)
        }
        "ModifyRule" => {
            let arn = required(params, "RuleArn")?;
            let given = |key: &str| params.contains_key(key).then(|| list(params, key));
            let reset = text(params, "ResetTransforms").as_deref() == Some("true");
            let transforms = if reset { Some(Vec::new()) } else { given("Transforms") };
            world.modify_rule(now, &arn, given("Conditions"), given("Actions"), transforms)?;
            one_rule(world, &arn)
        }
        "DeleteRule" => {
            world.delete_rule(now, &required(params, "RuleArn")?)?;
            Ok(json!({}))
        }
        "SetRulePriorities" => {
            let mut rows = Vec::new();
            for pair in list(params, "RulePriorities") {
                let arn = pair["RuleArn"].as_str().unwrap_or_default().to_owned();
                let priority = pair["Priority"]
                    .as_str()
                    .and_then(|priority| priority.parse().ok())
                    .unwrap_or(0);
                world.set_priority(now, &arn, priority)?;
                rows.push(rule_row(world.require_rule(&arn)?, world.require_rule(&arn)?.view()));
            }
            Ok(json!({ "Rules": rows }))
        }
        "DescribeTags" => describe_tags(world, params),
        "AddTags" => {
            for arn in texts(params, "ResourceArns") {
                world.add_elb_tags(&arn, &tags(params))?;
            }
            Ok(json!({}))
        }
        "RemoveTags" => {
            for arn in texts(params, "ResourceArns") {
                world.remove_elb_tags(&arn, &texts(params, "TagKeys"))?;
            }
            Ok(json!({}))
        }
        _ => groups::call(world, now, name, params),
    }
}

pub(super) fn required(params: &Map<String, Value>, key: &str) -> Result<String, Failure> {
    let message = format!(
        "1 validation error detected: Value null at '{key}' failed to satisfy constraint: Member must not be null"
    );
    text(params, key)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| Failure::refused("ValidationError", message))
}

pub(super) fn tags(params: &Map<String, Value>) -> BTreeMap<String, String> {
    let pair = |tag: &Value| {
        Some((
            tag["Key"].as_str()?.to_owned(),
            tag["Value"].as_str().unwrap_or("").to_owned(),
        ))
    };
    list(params, "Tags").iter().filter_map(pair).collect()
}

/// Cuts a page out of `rows` by `Marker` and `PageSize` (1 to 400); returns it with the marker of the next.
pub(super) fn page(rows: Vec<Value>, params: &Map<String, Value>) -> Result<(Vec<Value>, Option<String>), Failure> {
    let size = match text(params, "PageSize").map(|size| size.parse::<usize>()) {
        None => 400,
        Some(Ok(size)) if (1..=400).contains(&size) => size,
        Some(_) => {
            return Err(Failure::refused(
                "ValidationError",
                "PageSize must be between 1 and 400",
            ));
        }
    };
    let from = match text(params, "Marker").filter(|marker| !marker.is_empty()) {
        None => 0,
        Some(marker) => match marker.strip_prefix("page-").and_then(|from| from.parse::<usize>().ok()) {
            Some(from) => from.min(rows.len()),
            None => {
                return Err(Failure::refused(
                    "ValidationError",
                    format!("Marker '{marker}' is not valid"),
                ));
            }
        },
    };
    let total = rows.len();
    let page: Vec<Value> = rows.into_iter().skip(from).take(size).collect();
    let next = (from + page.len() < total).then(|| format!("page-{}", from + page.len()));
    Ok((page, next))
}

fn balancers(world: &World, params: &Map<String, Value>) -> Answer {
    let (arns, names) = (texts(params, "LoadBalancerArns"), texts(params, "Names"));
    let known = |wanted: &String| world.balancers().iter().any(|b| b.arn == *wanted || b.name == *wanted);
    if let Some(unknown) = arns.iter().chain(&names).find(|wanted| !known(wanted)) {
        let message = format!("Load balancers '[{unknown}]' not found");
        return Err(Failure::refused("LoadBalancerNotFound", message));
    }
    let all = arns.is_empty() && names.is_empty();
    let chosen = world
        .balancers()
        .iter()
        .filter(|b| all || arns.contains(&b.arn) || names.contains(&b.name));
    let rows = chosen.map(|balancer| {
        json!({
            "LoadBalancerArn": balancer.arn,
            "DNSName": balancer.dns_name,
            "CanonicalHostedZoneId": "Z00000000LOCAL",
            "CreatedTime": balancer.created.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string(),
            "LoadBalancerName": balancer.name,
            "Scheme": "internet-facing",
            "VpcId": "vpc-00000000000local",
            "State": { "Code": "active" },
            "Type": "application",
            "AvailabilityZones": [],
            "SecurityGroups": [],
            "IpAddressType": "ipv4",
        })
    });
    let (page, next) = page(rows.collect(), params)?;
    Ok(json!({ "LoadBalancers": page, "NextMarker": next }))
}

/// Those that somebody could ask for here. Source: Elastic Load Balancing API reference, `Limit`.
fn limits(world: &World) -> Value {
    let quota = world.settings.quota;
    let all = [
        ("rules-per-application-load-balancer", quota),
        ("target-groups-per-application-load-balancer", quota),
        ("target-groups-per-action-on-application-load-balancer", 5),
        ("condition-values-per-alb-rule", 5),
    ];
    let rows = all.map(|(name, max)| json!({ "Name": name, "Max": max.to_string() }));
    json!({ "Limits": rows })
}

fn listeners(world: &World, params: &Map<String, Value>) -> Answer {
    let (balancer, arns) = (text(params, "LoadBalancerArn"), texts(params, "ListenerArns"));
    if let Some(balancer) = &balancer {
        if !world.balancers().iter().any(|known| known.arn == *balancer) {
            let message = format!("Load balancer '{balancer}' not found");
            return Err(Failure::refused("LoadBalancerNotFound", message));
        }
    } else if arns.is_empty() {
        let message = "You must specify either listener ARNs or a load balancer ARN";
        return Err(Failure::refused("ValidationError", message));
    }
    for arn in &arns {
        world.require_listener(arn)?;
    }
    let chosen = world.listeners().iter().filter(|listener| match &balancer {
        Some(balancer) => listener.balancer == *balancer,
        None => arns.contains(&listener.arn),
    });
    let rows = chosen.map(|listener| {
        let default = world
            .rules()
            .iter()
            .find(|rule| rule.listener == listener.arn && rule.view().priority.is_none());
        json!({
            "ListenerArn": listener.arn,
            "LoadBalancerArn": listener.balancer,
            "Port": listener.port,
            "Protocol": "HTTP",
            "DefaultActions": default.map(|rule| rule.view().actions.clone()),
        })
    });
    let (page, next) = page(rows.collect(), params)?;
    Ok(json!({ "Listeners": page, "NextMarker": next }))
}

fn rules(world: &mut World, now: Timestamp, params: &Map<String, Value>) -> Answer {
    let (listener, arns) = (text(params, "ListenerArn"), texts(params, "RuleArns"));
    if listener.is_some() != arns.is_empty() {
        let message = "You must specify either listener rule ARNs or a listener ARN";
        return Err(Failure::refused("ValidationError", message));
    }
    let found = world.describe_rules(now, listener.as_deref(), &arns)?;
    let rows = found.iter().map(|(rule, view)| rule_row(rule, view)).collect();
    let (page, next) = page(rows, params)?;
    Ok(json!({ "Rules": page, "NextMarker": next }))
}

fn one_rule(world: &World, arn: &str) -> Answer {
    let rule = world.require_rule(arn)?;
    Ok(json!({ "Rules": [rule_row(rule, rule.view())] }))
}

fn rule_row(rule: &Rule, view: &RuleView) -> Value {
    json!({
        "RuleArn": rule.arn,
        "Priority": view.priority.map_or_else(|| "default".to_owned(), |priority| priority.to_string()),
        "Conditions": view.conditions,
        "Actions": view.actions,
        "IsDefault": view.priority.is_none(),
        "Transforms": view.transforms,
    })
}

fn describe_tags(world: &World, params: &Map<String, Value>) -> Answer {
    let arns = texts(params, "ResourceArns");
    if arns.is_empty() || arns.len() > 20 {
        let message = "Value at 'resourceArns' failed to satisfy constraint: between 1 and 20 resources";
        return Err(Failure::refused("ValidationError", message));
    }
    let mut rows = Vec::new();
    for arn in arns {
        let tags = world
            .elb_tags(&arn)?
            .iter()
            .map(|(key, value)| json!({ "Key": key, "Value": value }));
        rows.push(json!({ "ResourceArn": arn, "Tags": tags.collect::<Vec<_>>() }));
    }
    Ok(json!({ "TagDescriptions": rows }))
}
