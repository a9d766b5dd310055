//! DynamoDB's JSON protocol over the world's tables.

use serde_json::{Map, Value, json};

use super::{Answer, unknown_call};
use crate::local::world::{
    Failure, Item, Table, World,
    expression::{self, Names},
    key_item,
};

/// What a call may carry; anything else is refused by name, because ignoring it could change its meaning.
const KNOWN: [&str; 20] = [
    "TableName",
    "Key",
    "Item",
    "ConsistentRead",
    "ConditionExpression",
    "UpdateExpression",
    "KeyConditionExpression",
    "FilterExpression",
    "ProjectionExpression",
    "ExpressionAttributeNames",
    "ExpressionAttributeValues",
    "ReturnValues",
    "ReturnValuesOnConditionCheckFailure",
    "ReturnConsumedCapacity",
    "ReturnItemCollectionMetrics",
    "ScanIndexForward",
    "Limit",
    "ExclusiveStartKey",
    "RequestItems",
    "Select",
];

/// Answers one call with its JSON body.
pub fn call(world: &mut World, name: &str, params: &Map<String, Value>) -> Answer {
    if let Some(unknown) = params.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(invalid(&format!(
            "the local cloud does not know the parameter {unknown} of {name}"
        )));
    }
    if name == "BatchGetItem" {
        return batch_get(world, params);
    }
    let known = [
        "GetItem",
        "PutItem",
        "UpdateItem",
        "DeleteItem",
        "Query",
        "DescribeTable",
    ];
    if !known.contains(&name) {
        return Err(unknown_call("DynamoDB", name));
    }
    let Some(table_name) = params.get("TableName").and_then(Value::as_str) else {
        return Err(invalid("TableName must not be null"));
    };
    let table = world.table(table_name)?;
    match name {
        "GetItem" => {
            let item = table.get(&table.key(object(params, "Key")?)?).cloned();
            Ok(item.map_or_else(|| json!({}), |item| json!({ "Item": project(item, params) })))
        }
        "PutItem" => {
            let item = object(params, "Item")?.clone();
            checked(table, &item, params)?;
            let before = table.put(item)?;
            Ok(attributes(params, before, None))
        }
        "UpdateItem" => {
            let key = object(params, "Key")?;
            checked(table, key, params)?;
            let before = table.get(&table.key(key)?).cloned();
            let mut after = before.clone().unwrap_or_else(|| key.clone());
            if let Some(update) = params.get("UpdateExpression").and_then(Value::as_str) {
                after = expression::update(update, &names(params), &after)?;
            }
            table.put(after.clone())?;
            Ok(attributes(params, before, Some(after)))
        }
        "DeleteItem" => {
            let key = object(params, "Key")?;
            checked(table, key, params)?;
            let before = table.delete(&table.key(key)?);
            Ok(attributes(params, before, None))
        }
        "Query" => query(table, params),
        _ => Ok(json!({ "Table": description(table_name, table) })),
    }
}

fn checked(table: &Table, item: &Item, params: &Map<String, Value>) -> Result<(), Failure> {
    let condition = params.get("ConditionExpression").and_then(Value::as_str);
    table.check(&table.key(item)?, condition, &names(params))
}

/// The stored item that a refused condition is to be answered with, when the call asks for it.
pub fn item_of_refusal(world: &mut World, params: &Map<String, Value>) -> Option<Item> {
    let wanted = params
        .get("ReturnValuesOnConditionCheckFailure")
        .and_then(Value::as_str)
        == Some("ALL_OLD");
    let table = world.table(params.get("TableName")?.as_str()?).ok()?;
    let of = params.get("Key").or_else(|| params.get("Item"))?.as_object()?;
    let key = table.key(of).ok()?;
    table.get(&key).filter(|_| wanted).cloned()
}

fn is_key(params: &Map<String, Value>, name: &str) -> bool {
    params.get("Key").is_some_and(|key| key.get(name).is_some())
}

fn attributes(params: &Map<String, Value>, before: Option<Item>, after: Option<Item>) -> Value {
    let shown = match params.get("ReturnValues").and_then(Value::as_str) {
        Some("ALL_OLD") => before,
        Some("ALL_NEW") => after,
        // What an update sets to what it was is left out, which AWS would name.
        Some("UPDATED_NEW") => after.map(|after| {
            let changed =
                |(name, value): &(String, Value)| before.as_ref().and_then(|item| item.get(name)) != Some(value);
            after
                .into_iter()
                .filter(changed)
                .filter(|(name, _)| !is_key(params, name))
                .collect()
        }),
        _ => None,
    };
    shown.map_or_else(|| json!({}), |item| json!({ "Attributes": item }))
}

fn query(table: &Table, params: &Map<String, Value>) -> Answer {
    let Some(condition) = params.get("KeyConditionExpression").and_then(Value::as_str) else {
        return Err(invalid(
            "Either the KeyConditions or KeyConditionExpression parameter must be specified",
        ));
    };
    let names = names(params);
    let pk = expression::partition(condition, &names)?;
    let backwards = params.get("ScanIndexForward") == Some(&Value::Bool(false));
    let start = params
        .get("ExclusiveStartKey")
        .and_then(Value::as_object)
        .map(|key| table.key(key))
        .transpose()?;
    let limit = params
        .get("Limit")
        .and_then(Value::as_u64)
        .map_or(usize::MAX, |limit| limit as usize);
    let filter = params.get("FilterExpression").and_then(Value::as_str);
    let mut items = Vec::new();
    let mut read = 0;
    let mut last = None;
    for item in table.partition(&pk, start.as_ref(), backwards) {
        if !expression::holds(condition, &names, item)? {
            continue;
        }
        read += 1;
        if filter.map_or(Ok(true), |filter| expression::holds(filter, &names, item))? {
            items.push(Value::Object(project(item.clone(), params)));
        }
        // As on AWS the limit counts what is read, before the filter, and there is a last key even when nothing follows.
        if read == limit {
            last = Some(key_item(&table.key(item)?, table.sorted));
            break;
        }
    }
    let mut answer = json!({ "Count": items.len(), "ScannedCount": read });
    if params.get("Select").and_then(Value::as_str) != Some("COUNT") {
        answer["Items"] = Value::Array(items);
    }
    if let Some(last) = last {
        answer["LastEvaluatedKey"] = last;
    }
    Ok(answer)
}

fn batch_get(world: &mut World, params: &Map<String, Value>) -> Answer {
    let mut responses = Map::new();
    let mut asked = 0;
    for (name, wanted) in object(params, "RequestItems")? {
        let table = world.table(name)?;
        let mut items = Vec::new();
        for key in wanted
            .get("Keys")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_object)
        {
            asked += 1;
            if let Some(item) = table.get(&table.key(key)?) {
                items.push(Value::Object(project(
                    item.clone(),
                    wanted.as_object().unwrap_or(params),
                )));
            }
        }
        responses.insert(name.clone(), Value::Array(items));
    }
    if asked > 100 {
        return Err(invalid("Too many items requested for the BatchGetItem call"));
    }
    Ok(json!({ "Responses": responses, "UnprocessedKeys": {} }))
}

fn project(item: Item, params: &Map<String, Value>) -> Item {
    let Some(projection) = params.get("ProjectionExpression").and_then(Value::as_str) else {
        return item;
    };
    let names = names(params).names;
    let resolve = |name: &str| names.get(name).and_then(Value::as_str).unwrap_or(name).to_owned();
    let kept: Vec<String> = projection.split(',').map(|name| resolve(name.trim())).collect();
    item.into_iter().filter(|(key, _)| kept.contains(key)).collect()
}

fn description(name: &str, table: &Table) -> Value {
    let keys = if table.sorted {
        vec![("pk", "HASH"), ("sk", "RANGE")]
    } else {
        vec![("pk", "HASH")]
    };
    let schema: Vec<Value> = keys
        .iter()
        .map(|(name, kind)| json!({ "AttributeName": name, "KeyType": kind }))
        .collect();
    let types: Vec<Value> = keys
        .iter()
        .map(|(name, _)| json!({ "AttributeName": name, "AttributeType": "S" }))
        .collect();
    json!({
        "TableName": name,
        "TableStatus": "ACTIVE",
        "KeySchema": schema,
        "AttributeDefinitions": types,
        "ItemCount": table.items().len(),
        "BillingModeSummary": { "BillingMode": "PAY_PER_REQUEST" },
    })
}

fn names(params: &Map<String, Value>) -> Names {
    let part = |key: &str| params.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
    Names {
        names: part("ExpressionAttributeNames"),
        values: part("ExpressionAttributeValues"),
    }
}

fn object<'p>(params: &'p Map<String, Value>, key: &str) -> Result<&'p Map<String, Value>, Failure> {
    params
        .get(key)
        .and_then(Value::as_object)
        .ok_or_else(|| invalid(&format!("{key} must not be null")))
}

fn invalid(message: &str) -> Failure {
    Failure::refused("ValidationException", message)
}
