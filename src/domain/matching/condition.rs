//! A listener rule's conditions as AWS writes them (`aws elbv2 describe-rules`), kept verbatim.
//!
//! Shape: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_RuleCondition.html>. A member that AWS
//! adds later lands in `other`: it is written back unchanged, and [`Matcher::new`](super::Matcher::new) refuses it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Members this version does not know, in the order they came.
pub type Other = Map<String, Value>;

/// One condition of a listener rule. AWS prints the older `Values` beside the newer `...Config` for hosts and paths.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Condition {
    /// `host-header`, `path-pattern`, `http-header`, `query-string`, `http-request-method` or `source-ip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The older place for the patterns of `host-header` and `path-pattern`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_header_config: Option<Patterns>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_pattern_config: Option<Patterns>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_header_config: Option<HttpHeaderConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_string_config: Option<QueryStringConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_request_method_config: Option<Values>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ip_config: Option<Values>,
    /// Regular expressions for `host-header`, `path-pattern` and `http-header`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex_values: Option<Vec<String>>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// `HostHeaderConfig` and `PathPatternConfig`: wildcard patterns or regular expressions, any of which may match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Patterns {
    /// Wildcard patterns: `*` is any number of characters, `?` exactly one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
    /// Regular expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex_values: Option<Vec<String>>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// `HttpHeaderConfig`: a header's name (no wildcards) and what its value is compared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HttpHeaderConfig {
    /// The header's name; never `Host`, which has a condition of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_header_name: Option<String>,
    /// Wildcard patterns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
    /// Regular expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex_values: Option<Vec<String>>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// `QueryStringConfig`: pairs, any of which may be found in the query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct QueryStringConfig {
    /// Key and value patterns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<KeyValue>>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// A key pattern (absent: any key) and a value pattern. `\*` and `\?` stand for the characters themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KeyValue {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub other: Other,
}

/// `HttpRequestMethodConfig` (names, compared exactly) and `SourceIpConfig` (IPv4 and IPv6 CIDRs).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Values {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub other: Other,
}
