//! The JSON of conditions and actions: what AWS refuses, and the form in which AWS shows what it was given.

use serde_json::Value;

use super::{Failure, text};

/// AWS's default quota of values in all conditions of a rule.
const CONDITION_VALUES: usize = 5;

/// AWS's rules for the conditions of a rule: known fields, some only once, 1 to 5 values in all.
pub(super) fn check_conditions(conditions: &[Value]) -> Result<(), Failure> {
    if conditions.is_empty() {
        return Err(Failure::refused(
            "ValidationError",
            "A rule must have at least one condition",
        ));
    }
    let mut values = 0;
    for (index, condition) in conditions.iter().enumerate() {
        let field = text(condition, "Field").unwrap_or_default();
        let known = [
            "host-header",
            "path-pattern",
            "http-header",
            "query-string",
            "http-request-method",
            "source-ip",
        ];
        if !known.contains(&field) {
            return Err(Failure::refused(
                "ValidationError",
                format!("Condition field '{field}' must be one of '[{}]'", known.join(", ")),
            ));
        }
        let single = !matches!(field, "http-header" | "query-string");
        if single
            && conditions[..index]
                .iter()
                .any(|other| text(other, "Field") == Some(field))
        {
            let message = format!("A rule can have only one '{field}' condition");
            return Err(Failure::refused("InvalidConfigurationRequest", message));
        }
        let mut here = 0;
        let lists = condition
            .as_object()
            .into_iter()
            .flat_map(|object| object.values())
            .filter_map(Value::as_object);
        for config in lists {
            for list in ["Values", "RegexValues"] {
                here += config.get(list).and_then(Value::as_array).map_or(0, Vec::len);
            }
        }
        if here == 0 {
            here = condition.get("Values").and_then(Value::as_array).map_or(0, Vec::len);
        }
        if here == 0 {
            return Err(Failure::refused(
                "ValidationError",
                "A condition value must be specified",
            ));
        }
        values += here;
    }
    if values > CONDITION_VALUES {
        return Err(Failure::refused(
            "ValidationError",
            "A rule can have at most 5 condition values",
        ));
    }
    Ok(())
}

/// A host or path condition as AWS shows it: the older `Values` and the newer `...Config.Values`, whichever was given.
pub(super) fn both_forms(mut condition: Value) -> Value {
    let config = match text(&condition, "Field") {
        Some("host-header") => "HostHeaderConfig",
        Some("path-pattern") => "PathPatternConfig",
        _ => return condition,
    };
    let old = condition
        .get("Values")
        .filter(|values| values.as_array().is_some_and(|list| !list.is_empty()))
        .cloned();
    let new = condition.get(config).and_then(|config| config.get("Values")).cloned();
    match (old, new) {
        (Some(values), None) if condition.get(config).is_none() => {
            condition[config] = serde_json::json!({ "Values": values });
        }
        (None, Some(values)) => condition["Values"] = values,
        _ => {}
    }
    condition
}

/// Actions as AWS shows them: in order, secrets gone, a forward to one group in both its forms.
pub(super) fn normalised(mut actions: Vec<Value>) -> Vec<Value> {
    actions.sort_by_key(|action| action.get("Order").and_then(Value::as_i64).unwrap_or(0));
    for (index, action) in actions.iter_mut().enumerate() {
        if action.get("Order").is_none() {
            action["Order"] = Value::from(index + 1);
        }
        if let Some(oidc) = action.get_mut("AuthenticateOidcConfig").and_then(Value::as_object_mut) {
            oidc.shift_remove("ClientSecret");
            oidc.shift_remove("UseExistingClientSecret");
        }
        if text(action, "Type") != Some("forward") {
            continue;
        }
        let off = serde_json::json!({ "Enabled": false });
        if let (Some(arn), None) = (
            text(action, "TargetGroupArn").map(str::to_owned),
            action.get("ForwardConfig"),
        ) {
            action["ForwardConfig"] = serde_json::json!({ "TargetGroups": [{ "TargetGroupArn": arn, "Weight": 1 }] });
        }
        let config = &mut action["ForwardConfig"];
        if config.get("TargetGroupStickinessConfig").is_none() {
            config["TargetGroupStickinessConfig"] = off;
        }
        let mut only = None;
        if let Some(groups) = config.get_mut("TargetGroups").and_then(Value::as_array_mut) {
            for group in groups.iter_mut().filter(|group| group.get("Weight").is_none()) {
                group["Weight"] = Value::from(1);
            }
            if let [one] = groups.as_slice() {
                only = text(one, "TargetGroupArn").map(str::to_owned);
            }
        }
        if let (Some(arn), None) = (only, action.get("TargetGroupArn")) {
            action["TargetGroupArn"] = Value::from(arn);
        }
    }
    actions.into_iter().map(in_order).collect()
}

/// Members in an order of their own, whatever order they were given in: AWS's answers know no other.
fn in_order(value: Value) -> Value {
    const FIRST: [&str; 5] = ["Type", "TargetGroupArn", "Order", "ForwardConfig", "TargetGroups"];
    let Value::Object(object) = value else { return value };
    let place = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
    let mut members: Vec<(String, Value)> = object.into_iter().map(|(key, value)| (key, in_order(value))).collect();
    members.sort_by(|(one, _), (other, _)| (place(one), one).cmp(&(place(other), other)));
    Value::Object(members.into_iter().collect())
}
