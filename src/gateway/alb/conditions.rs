//! Listener rule conditions from the SDK's types to AWS's JSON.

use aws_sdk_elasticloadbalancingv2::types as sdk;

use crate::domain::matching::{Condition, HttpHeaderConfig, KeyValue, Patterns, QueryStringConfig, Values};

pub(super) fn from_sdk(conditions: &[sdk::RuleCondition]) -> Vec<Condition> {
    conditions.iter().map(one).collect()
}

fn one(condition: &sdk::RuleCondition) -> Condition {
    let patterns = |values: &Option<Vec<String>>, regex_values: &Option<Vec<String>>| Patterns {
        values: values.clone(),
        regex_values: regex_values.clone(),
        ..Patterns::default()
    };
    let values = |values: &Option<Vec<String>>| Values {
        values: values.clone(),
        ..Values::default()
    };
    Condition {
        field: condition.field.clone(),
        values: condition.values.clone().filter(|values| !values.is_empty()),
        host_header_config: condition
            .host_header_config
            .as_ref()
            .map(|c| patterns(&c.values, &c.regex_values)),
        path_pattern_config: condition
            .path_pattern_config
            .as_ref()
            .map(|c| patterns(&c.values, &c.regex_values)),
        http_header_config: condition.http_header_config.as_ref().map(|c| HttpHeaderConfig {
            http_header_name: c.http_header_name.clone(),
            values: c.values.clone(),
            regex_values: c.regex_values.clone(),
            ..HttpHeaderConfig::default()
        }),
        query_string_config: condition.query_string_config.as_ref().map(|c| QueryStringConfig {
            values: c.values.as_ref().map(|pairs| {
                let pair = |pair: &sdk::QueryStringKeyValuePair| KeyValue {
                    key: pair.key.clone(),
                    value: pair.value.clone(),
                    ..KeyValue::default()
                };
                pairs.iter().map(pair).collect()
            }),
            ..QueryStringConfig::default()
        }),
        http_request_method_config: condition.http_request_method_config.as_ref().map(|c| values(&c.values)),
        source_ip_config: condition.source_ip_config.as_ref().map(|c| values(&c.values)),
        regex_values: condition.regex_values.clone().filter(|values| !values.is_empty()),
        ..Condition::default()
    }
}
