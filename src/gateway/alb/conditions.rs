//! Conditions: what the SDK read, in AWS's JSON shape, and those that no request meets.

use aws_sdk_elasticloadbalancingv2::types;

use crate::domain::matching::{Condition, HttpHeaderConfig, KeyValue, Patterns, QueryStringConfig, Values};

/// A name nobody can register (RFC 2606).
const PARKED_HOST: &str = "parked.invalid";
/// An address nobody has (RFC 5737).
const PARKED_SOURCE: &str = "192.0.2.1/32";
/// Its value is random.
const PARKED_HEADER: &str = "X-Autostopping-Parked";

/// A condition as described. One that this version does not know keeps its field's name only, and so is refused by
/// [`Matcher::new`](crate::domain::matching::Matcher::new). An empty list is an absent one: AWS allows none to be empty.
pub(super) fn from_sdk(condition: &types::RuleCondition) -> Condition {
    Condition {
        field: condition.field().map(str::to_owned),
        values: list(condition.values()),
        host_header_config: condition
            .host_header_config()
            .map(|config| patterns(config.values(), config.regex_values())),
        path_pattern_config: condition
            .path_pattern_config()
            .map(|config| patterns(config.values(), config.regex_values())),
        http_header_config: condition.http_header_config().map(|config| HttpHeaderConfig {
            http_header_name: config.http_header_name().map(str::to_owned),
            values: list(config.values()),
            regex_values: list(config.regex_values()),
            ..HttpHeaderConfig::default()
        }),
        query_string_config: condition.query_string_config().map(|config| QueryStringConfig {
            values: Some(config.values().iter().map(key_value).collect()),
            ..QueryStringConfig::default()
        }),
        http_request_method_config: condition
            .http_request_method_config()
            .map(|config| values(config.values())),
        source_ip_config: condition.source_ip_config().map(|config| values(config.values())),
        regex_values: list(condition.regex_values()),
        ..Condition::default()
    }
}

/// Conditions that no request meets, in three independent ways. The random value tells two parked rules apart and keeps
/// the third way closed to those who read this.
pub(super) fn parked(random: u64) -> Vec<types::RuleCondition> {
    let host = types::HostHeaderConditionConfig::builder().values(PARKED_HOST).build();
    let source = types::SourceIpConditionConfig::builder().values(PARKED_SOURCE).build();
    let header = types::HttpHeaderConditionConfig::builder()
        .http_header_name(PARKED_HEADER)
        .values(format!("{random:016x}"))
        .build();
    let condition = |field: &str| types::RuleCondition::builder().field(field);
    vec![
        condition("host-header").host_header_config(host).build(),
        condition("source-ip").source_ip_config(source).build(),
        condition("http-header").http_header_config(header).build(),
    ]
}

/// The conditions of a site: its host, and the pattern of its path if it has only a part of it.
#[cfg(feature = "cli")]
pub(super) fn of_site(host: &str, path: Option<&str>) -> Vec<types::RuleCondition> {
    let host = types::HostHeaderConditionConfig::builder().values(host).build();
    let condition = |field: &str| types::RuleCondition::builder().field(field);
    let path = path.map(|path| {
        let pattern = types::PathPatternConditionConfig::builder().values(path).build();
        condition("path-pattern").path_pattern_config(pattern).build()
    });
    let host = condition("host-header").host_header_config(host).build();
    std::iter::once(host).chain(path).collect()
}

/// Whether no request meets these: all of [`parked`] is there, whatever else is.
pub(super) fn are_parked(conditions: &[Condition]) -> bool {
    let only = |values: Option<&Vec<String>>, value: &str| values.is_some_and(|values| *values == [value]);
    let host = conditions.iter().any(|condition| {
        let config = condition.host_header_config.as_ref();
        only(config.and_then(|config| config.values.as_ref()), PARKED_HOST)
            && config.is_some_and(|config| config.regex_values.is_none())
            && condition.regex_values.is_none()
    });
    let source = conditions.iter().any(|condition| {
        let config = condition.source_ip_config.as_ref();
        only(config.and_then(|config| config.values.as_ref()), PARKED_SOURCE)
    });
    let header = conditions.iter().any(|condition| {
        condition.http_header_config.as_ref().is_some_and(|config| {
            let name = config.http_header_name.as_deref().unwrap_or_default();
            name.eq_ignore_ascii_case(PARKED_HEADER) && config.regex_values.is_none()
        })
    });
    host && source && header
}

/// Whether one of these is the host of a parked rule.
pub(super) fn look_parked(conditions: &[Condition]) -> bool {
    let hosts = |condition: &Condition| {
        let config = condition.host_header_config.as_ref();
        config
            .and_then(|config| config.values.clone())
            .or(condition.values.clone())
    };
    conditions
        .iter()
        .filter_map(hosts)
        .any(|values| values.iter().any(|value| value == PARKED_HOST))
}

fn list(values: &[String]) -> Option<Vec<String>> {
    (!values.is_empty()).then(|| values.to_vec())
}

fn patterns(values: &[String], regex_values: &[String]) -> Patterns {
    Patterns {
        values: list(values),
        regex_values: list(regex_values),
        ..Patterns::default()
    }
}

fn values(values: &[String]) -> Values {
    Values {
        values: list(values),
        ..Values::default()
    }
}

fn key_value(pair: &types::QueryStringKeyValuePair) -> KeyValue {
    KeyValue {
        key: pair.key().map(str::to_owned),
        value: pair.value().map(str::to_owned),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::matching::Matcher;

    #[test]
    fn parked_conditions_are_known_again_and_can_be_matched() {
        let read: Vec<_> = parked(7).iter().map(from_sdk).collect();
        assert!(are_parked(&read));
        assert!(look_parked(&read));
        assert!(Matcher::new(&read).is_ok());
        for missing in 0..3 {
            let mut fewer = read.clone();
            fewer.remove(missing);
            assert!(!are_parked(&fewer), "{missing}");
        }
        let mut wider = read.clone();
        let hosts = wider[0].host_header_config.as_mut().unwrap().values.as_mut().unwrap();
        hosts.push("example.com".to_owned());
        assert!(!are_parked(&wider));
        assert!(look_parked(&wider));
    }

    #[test]
    fn reads_every_kind_in_awss_shape() {
        let condition = |field: &str| types::RuleCondition::builder().field(field);
        let header = types::HttpHeaderConditionConfig::builder()
            .http_header_name("X-A")
            .values("1*");
        let pair = types::QueryStringKeyValuePair::builder().value("v").build();
        let read: Vec<_> = [
            condition("path-pattern")
                .values("/a")
                .path_pattern_config(types::PathPatternConditionConfig::builder().values("/a").build()),
            condition("host-header")
                .host_header_config(types::HostHeaderConditionConfig::builder().regex_values("^a").build()),
            condition("http-header").http_header_config(header.build()),
            condition("query-string")
                .query_string_config(types::QueryStringConditionConfig::builder().values(pair).build()),
            condition("http-request-method")
                .http_request_method_config(types::HttpRequestMethodConditionConfig::builder().values("GET").build()),
            condition("source-ip")
                .source_ip_config(types::SourceIpConditionConfig::builder().values("10.0.0.0/8").build()),
            condition("moon-phase"),
        ]
        .map(|condition| from_sdk(&condition.build()))
        .into();
        assert_eq!(
            serde_json::to_value(&read).unwrap(),
            json!([
                {"Field": "path-pattern", "Values": ["/a"], "PathPatternConfig": {"Values": ["/a"]}},
                {"Field": "host-header", "HostHeaderConfig": {"RegexValues": ["^a"]}},
                {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-A", "Values": ["1*"]}},
                {"Field": "query-string", "QueryStringConfig": {"Values": [{"Value": "v"}]}},
                {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["GET"]}},
                {"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/8"]}},
                {"Field": "moon-phase"},
            ])
        );
        assert!(Matcher::new(&read[..6]).is_ok());
        assert!(Matcher::new(&read).is_err());
    }
}
