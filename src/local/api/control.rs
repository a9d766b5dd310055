//! The control endpoint `/_local/`: faults, by-hand starts and stops, and a look at everything, as JSON. Tests and
//! the command line use it; AWS has nothing like it.
//!
//! | call | does |
//! |---|---|
//! | `GET world` | instances, rules, target health, request counts |
//! | `GET table` | the items of every table |
//! | `GET calls`, `DELETE calls` | AWS calls by name and one by one; forgets them |
//! | `GET access`, `GET output` | the access log; what programs wrote |
//! | `GET environment` | what `proxymanager` needs in its environment to see this cloud |
//! | `GET lambda`, `DELETE lambda` | figures of the function; ends its idle environments |
//! | `POST lambda` | invokes the function with the body as event |
//! | `GET faults`, `PATCH faults`, `DELETE faults` | faults; sets those named; all off |
//! | `POST instances/NAME/start`, `stop`, `terminate` | somebody does it by hand |
//! | `POST instances/NAME/crash` | its program dies while the instance runs on |
//! | `POST rules/NAME/edit` | somebody replaces the lists `Actions`, `Conditions` of the rule |
//! | `POST rules/NAME/delete-parked` | somebody deletes the parked rule P of the rule |
//!
//! NAME is an id, an ARN, or the tag `Name` of an instance or `autostopping:name` of a rule.

use std::sync::Arc;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Map, Value, json};

use crate::local::{
    shared::Shared,
    world::{Failure, World},
};

/// The tag on a parked rule that names the rule it parks.
const PARKS: &str = "autostopping:parks";

/// Answers one control call with status and body.
pub async fn answer(shared: &Arc<Shared>, method: &Method, path: &str, body: &Bytes) -> (u16, Value) {
    let parts: Vec<&str> = path.split('/').collect();
    let result = match (method.as_str(), parts.as_slice()) {
        ("GET", ["world"]) => Ok(picture(&shared.world())),
        ("GET", ["table"]) => Ok(tables(&shared.world())),
        ("GET", ["calls"]) => {
            let world = shared.world();
            Ok(json!({ "counts": world.call_counts(), "calls": world.calls().collect::<Vec<_>>() }))
        }
        ("DELETE", ["calls"]) => {
            shared.world().forget_calls();
            Ok(json!({}))
        }
        ("GET", ["access"]) => Ok(json!(shared.log.accesses())),
        ("GET", ["output"]) => Ok(json!(shared.log.lines())),
        ("GET", ["environment"]) => Ok(json!(shared.lambda.environment())),
        ("GET", ["lambda"]) => Ok(json!(shared.lambda.figures())),
        ("DELETE", ["lambda"]) => {
            shared.lambda.forget();
            Ok(json!({}))
        }
        ("POST", ["lambda"]) => match shared.invoke(body.clone()).await {
            Ok(answer) => Ok(json!({ "answer": String::from_utf8_lossy(&answer) })),
            Err(error) => Ok(json!({ "error": error.to_string() })),
        },
        ("GET", ["faults"]) => Ok(json!(shared.world().faults)),
        ("PATCH", ["faults"]) => patch_faults(&mut shared.world(), body),
        ("DELETE", ["faults"]) => {
            shared.world().faults = Default::default();
            Ok(json!({}))
        }
        ("POST", ["instances", name, action]) => by_hand(shared, name, action),
        ("POST", ["rules", rest @ .., action]) => edit(shared, &rest.join("/"), action, body),
        _ => Err(Failure::trouble(
            404,
            "NotFound",
            format!("there is no {method} /_local/{path}"),
        )),
    };
    match result {
        Ok(value) => (200, value),
        Err(failure) => (
            failure.status,
            json!({ "code": failure.code, "message": failure.message }),
        ),
    }
}

fn patch_faults(world: &mut World, body: &Bytes) -> Result<Value, Failure> {
    let invalid = |why: &dyn std::fmt::Display| Failure::refused("InvalidFault", why.to_string());
    let patch: Map<String, Value> = serde_json::from_slice(body).map_err(|error| invalid(&error))?;
    let mut faults = json!(world.faults);
    if let Some(faults) = faults.as_object_mut() {
        faults.extend(patch);
    }
    world.faults = serde_json::from_value(faults).map_err(|error| invalid(&error))?;
    Ok(json!(world.faults))
}

fn by_hand(shared: &Shared, name: &str, action: &str) -> Result<Value, Failure> {
    let mut world = shared.world();
    let now = shared.clock.now();
    let found = world
        .instances()
        .find(|i| i.id == name || i.tags.get("Name").is_some_and(|tag| tag == name));
    let message = format!("there is no instance {name}");
    let id = found
        .map(|i| i.id.clone())
        .ok_or_else(|| Failure::trouble(404, "NotFound", message))?;
    let ids = [id.clone()];
    match action {
        "start" => drop(world.start_instances(now, &ids)?),
        "stop" => drop(world.stop_instances(now, &ids, false)?),
        "terminate" => world.terminate_instance(now, &id)?,
        "crash" => shared.instances.crash(&id),
        other => {
            return Err(Failure::trouble(
                404,
                "NotFound",
                format!("there is no action {other} on an instance"),
            ));
        }
    }
    let state = world.instance(&id).map(|instance| instance.life().power.name().0);
    Ok(json!({ "id": id, "state": state }))
}

fn edit(shared: &Shared, name: &str, action: &str, body: &Bytes) -> Result<Value, Failure> {
    let mut world = shared.world();
    let now = shared.clock.now();
    let named = |tags: &std::collections::BTreeMap<String, String>| {
        tags.get("autostopping:name").is_some_and(|tag| tag == name)
    };
    let found = world
        .rules()
        .iter()
        .find(|rule| rule.arn == name || named(&rule.tags))
        .map(|rule| rule.arn.clone());
    let message = format!("there is no rule {name}");
    let arn = found.ok_or_else(|| Failure::trouble(404, "NotFound", message))?;
    match action {
        "edit" => {
            let given: Value =
                serde_json::from_slice(body).map_err(|error| Failure::refused("InvalidEdit", error.to_string()))?;
            let list = |key: &str| given.get(key).and_then(Value::as_array).cloned();
            world.modify_rule(now, &arn, list("Conditions"), list("Actions"), None)?;
        }
        "delete-parked" => {
            let parked = world.rules().iter().find(|rule| rule.tags.get(PARKS) == Some(&arn));
            let message = format!("the rule {name} has no parked rule");
            let parked = parked.map(|rule| rule.arn.clone());
            let parked = parked.ok_or_else(|| Failure::trouble(404, "NotFound", message))?;
            world.delete_rule(now, &parked)?;
        }
        other => {
            return Err(Failure::trouble(
                404,
                "NotFound",
                format!("there is no action {other} on a rule"),
            ));
        }
    }
    Ok(json!({ "rule": arn }))
}

fn picture(world: &World) -> Value {
    let instances: Vec<Value> = world
        .instances()
        .map(|instance| {
            let life = instance.life();
            json!({
                "id": instance.id,
                "name": instance.tags.get("Name"),
                "state": life.power.name().0,
                "launched": life.launched.to_string(),
                "transition": life.transition,
                "reason": life.reason.as_ref().map(|(code, _)| code),
                "starts": instance.starts,
                "tags": instance.tags,
            })
        })
        .collect();
    let groups: Vec<Value> = world
        .target_groups()
        .iter()
        .map(|group| {
            let targets = group.targets.iter().map(|target| {
                let health = &target.health;
                json!({ "id": target.id, "port": target.port, "health": health.state.word(), "reason": health.reason })
            });
            json!({
                "arn": group.arn,
                "name": group.name,
                "kind": group.kind.word(),
                "targets": targets.collect::<Vec<_>>(),
                "requests": world.metrics.requests_of(&group.arn),
                "healthy": world.metrics.healthy_of(&group.arn),
            })
        })
        .collect();
    let rules: Vec<Value> = world
        .rules()
        .iter()
        .map(|rule| {
            let view = rule.view();
            json!({
                "arn": rule.arn,
                "listener": rule.listener,
                "priority": view.priority,
                "conditions": view.conditions,
                "actions": view.actions,
                "tags": rule.tags,
            })
        })
        .collect();
    json!({ "instances": instances, "groups": groups, "rules": rules })
}

fn tables(world: &World) -> Value {
    let tables = world.tables();
    json!(
        tables
            .map(|(name, table)| (name.clone(), json!(table.items().values().collect::<Vec<_>>())))
            .collect::<Map<_, _>>()
    )
}
