//! Actions: the SDK's and ours, there and back, and when two lists of them mean the same.
//!
//! Source of every shape: Elastic Load Balancing API reference, `Action` and the types it names.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_elasticloadbalancingv2::types;
use serde_json::{Map, Value};

use crate::domain::fault::{Fault, FaultKind};
use crate::domain::rule::{Action, Config, Forward, GroupId, Stickiness, WeightedGroup};

const OIDC: &str = "AuthenticateOidcConfig";
const COGNITO: &str = "AuthenticateCognitoConfig";
const JWT: &str = "JwtValidationConfig";
const REDIRECT: &str = "RedirectConfig";
const FIXED: &str = "FixedResponseConfig";

/// An action as described. One of a kind that this version does not know keeps its kind and place and nothing else, as
/// the SDK drops the rest; [`to_sdk`] refuses it.
///
/// A client secret and the wish to keep the existing one belong to writing, so neither is taken over.
pub(super) fn from_sdk(action: &types::Action) -> Action {
    let mut rest = Map::new();
    let mut keep = |key: &str, config: Option<Value>| {
        if let Some(config) = config {
            rest.insert(key.to_owned(), config);
        }
    };
    keep(OIDC, action.authenticate_oidc_config().map(oidc));
    keep(COGNITO, action.authenticate_cognito_config().map(cognito));
    keep(JWT, action.jwt_validation_config().map(jwt));
    keep(REDIRECT, action.redirect_config().map(redirect));
    keep(FIXED, action.fixed_response_config().map(fixed_response));
    Action {
        kind: action.r#type().map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        order: action.order(),
        target_group_arn: action.target_group_arn().map(|arn| GroupId(arn.to_owned())),
        forward_config: action.forward_config().map(forward),
        rest: Config(rest),
    }
}

/// The action to write.
///
/// # Errors
/// A [`FaultKind::Conflict`] when it has anything that would be lost: a kind or a member this version does not know.
pub(super) fn to_sdk(operation: &str, action: &Action) -> Result<types::Action, Fault> {
    let refused = |what: String| {
        let words = format!("this version cannot write {what} of an action of type {}", action.kind);
        Fault::new(FaultKind::Conflict, operation, words)
    };
    let kind = types::ActionTypeEnum::try_parse(&action.kind).map_err(|_| refused("anything".to_owned()))?;
    let mut rest = Members(action.rest.0.clone());
    let mut config = |key: &str| rest.object(key);
    let (oidc, cognito, jwt) = (config(OIDC), config(COGNITO), config(JWT));
    let (redirect, fixed) = (config(REDIRECT), config(FIXED));
    let write = || -> Result<types::Action, String> {
        rest.done("")?;
        Ok(types::Action::builder()
            .r#type(kind)
            .set_order(action.order)
            .set_target_group_arn(action.target_group_arn.as_ref().map(|arn| arn.0.clone()))
            .set_forward_config(action.forward_config.as_ref().map(sdk_forward))
            .set_authenticate_oidc_config(oidc.map(sdk_oidc).transpose()?)
            .set_authenticate_cognito_config(cognito.map(sdk_cognito).transpose()?)
            .set_jwt_validation_config(jwt.map(sdk_jwt).transpose()?)
            .set_redirect_config(redirect.map(sdk_redirect).transpose()?)
            .set_fixed_response_config(fixed.map(sdk_fixed_response).transpose()?)
            .build())
    };
    write().map_err(refused)
}

/// Whether two lists of actions do the same, in the same order. AWS prints a forward to one group in two ways, a missing
/// weight is 1, the order of groups means nothing, and neither does the duration of a stickiness that is off.
pub(super) fn same(one: &[Action], other: &[Action]) -> bool {
    let sorted = |actions: &[Action]| {
        let mut actions: Vec<_> = actions.to_vec();
        actions.sort_by_key(|action| action.order.unwrap_or(i32::MAX));
        actions
    };
    let (one, other) = (sorted(one), sorted(other));
    one.len() == other.len() && one.iter().zip(&other).all(|(one, other)| same_action(one, other))
}

/// As [`same`], for one action wherever it stands.
pub(super) fn same_action(one: &Action, other: &Action) -> bool {
    one.kind == other.kind && one.rest == other.rest && weights(one) == weights(other) && sticky(one) == sticky(other)
}

fn weights(action: &Action) -> BTreeMap<GroupId, i32> {
    action.groups().into_iter().collect()
}

fn sticky(action: &Action) -> Option<Option<i32>> {
    let sticky = action
        .forward_config
        .as_ref()?
        .target_group_stickiness_config
        .as_ref()?;
    (sticky.enabled == Some(true)).then_some(sticky.duration_seconds)
}

fn forward(config: &types::ForwardActionConfig) -> Forward {
    let groups = config.target_groups().iter().filter_map(|group| {
        Some(WeightedGroup {
            target_group_arn: GroupId(group.target_group_arn()?.to_owned()),
            weight: group.weight(),
        })
    });
    Forward {
        target_groups: groups.collect(),
        target_group_stickiness_config: config.target_group_stickiness_config().map(|sticky| Stickiness {
            enabled: sticky.enabled(),
            duration_seconds: sticky.duration_seconds(),
        }),
    }
}

fn sdk_forward(forward: &Forward) -> types::ForwardActionConfig {
    let groups = forward.target_groups.iter().map(|group| {
        types::TargetGroupTuple::builder()
            .target_group_arn(&group.target_group_arn.0)
            .set_weight(group.weight)
            .build()
    });
    let sticky = forward.target_group_stickiness_config.as_ref().map(|sticky| {
        types::TargetGroupStickinessConfig::builder()
            .set_enabled(sticky.enabled)
            .set_duration_seconds(sticky.duration_seconds)
            .build()
    });
    types::ForwardActionConfig::builder()
        .set_target_groups(Some(groups.collect()))
        .set_target_group_stickiness_config(sticky)
        .build()
}

/// An object of those members that are there.
fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let there = members
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(there.collect())
}

fn text(value: Option<&str>) -> Option<Value> {
    value.map(Value::from)
}

/// Sorted, so that equal maps are equal texts.
fn params(map: Option<&HashMap<String, String>>) -> Option<Value> {
    let sorted: BTreeMap<_, _> = map?.iter().collect();
    let members = sorted
        .into_iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())));
    Some(Value::Object(members.collect())).filter(|value| value.as_object().is_some_and(|map| !map.is_empty()))
}

fn oidc(config: &types::AuthenticateOidcActionConfig) -> Value {
    object([
        ("Issuer", text(config.issuer())),
        ("AuthorizationEndpoint", text(config.authorization_endpoint())),
        ("TokenEndpoint", text(config.token_endpoint())),
        ("UserInfoEndpoint", text(config.user_info_endpoint())),
        ("ClientId", text(config.client_id())),
        ("SessionCookieName", text(config.session_cookie_name())),
        ("Scope", text(config.scope())),
        ("SessionTimeout", config.session_timeout().map(Value::from)),
        (
            "AuthenticationRequestExtraParams",
            params(config.authentication_request_extra_params()),
        ),
        (
            "OnUnauthenticatedRequest",
            text(config.on_unauthenticated_request().map(|on| on.as_str())),
        ),
    ])
}

fn sdk_oidc(mut given: Members) -> Result<types::AuthenticateOidcActionConfig, String> {
    let config = types::AuthenticateOidcActionConfig::builder()
        .set_issuer(given.text("Issuer"))
        .set_authorization_endpoint(given.text("AuthorizationEndpoint"))
        .set_token_endpoint(given.text("TokenEndpoint"))
        .set_user_info_endpoint(given.text("UserInfoEndpoint"))
        .set_client_id(given.text("ClientId"))
        .set_session_cookie_name(given.text("SessionCookieName"))
        .set_scope(given.text("Scope"))
        .set_session_timeout(given.number("SessionTimeout"))
        .set_authentication_request_extra_params(given.params("AuthenticationRequestExtraParams"))
        .set_on_unauthenticated_request(given.text("OnUnauthenticatedRequest").map(|on| on.as_str().into()))
        // AWS never tells the secret, so it can only be asked to keep it.
        .use_existing_client_secret(true)
        .build();
    given.done(OIDC).map(|()| config)
}

fn cognito(config: &types::AuthenticateCognitoActionConfig) -> Value {
    object([
        ("UserPoolArn", text(config.user_pool_arn())),
        ("UserPoolClientId", text(config.user_pool_client_id())),
        ("UserPoolDomain", text(config.user_pool_domain())),
        ("SessionCookieName", text(config.session_cookie_name())),
        ("Scope", text(config.scope())),
        ("SessionTimeout", config.session_timeout().map(Value::from)),
        (
            "AuthenticationRequestExtraParams",
            params(config.authentication_request_extra_params()),
        ),
        (
            "OnUnauthenticatedRequest",
            text(config.on_unauthenticated_request().map(|on| on.as_str())),
        ),
    ])
}

fn sdk_cognito(mut given: Members) -> Result<types::AuthenticateCognitoActionConfig, String> {
    let config = types::AuthenticateCognitoActionConfig::builder()
        .set_user_pool_arn(given.text("UserPoolArn"))
        .set_user_pool_client_id(given.text("UserPoolClientId"))
        .set_user_pool_domain(given.text("UserPoolDomain"))
        .set_session_cookie_name(given.text("SessionCookieName"))
        .set_scope(given.text("Scope"))
        .set_session_timeout(given.number("SessionTimeout"))
        .set_authentication_request_extra_params(given.params("AuthenticationRequestExtraParams"))
        .set_on_unauthenticated_request(given.text("OnUnauthenticatedRequest").map(|on| on.as_str().into()))
        .build();
    given.done(COGNITO).map(|()| config)
}

fn jwt(config: &types::JwtValidationActionConfig) -> Value {
    let claims = config.additional_claims().iter().map(|claim| {
        object([
            ("Format", text(claim.format().map(|format| format.as_str()))),
            ("Name", text(claim.name())),
            ("Values", Some(claim.values().to_vec().into())),
        ])
    });
    let claims: Vec<_> = claims.collect();
    object([
        ("JwksEndpoint", text(config.jwks_endpoint())),
        ("Issuer", text(config.issuer())),
        ("AdditionalClaims", (!claims.is_empty()).then(|| claims.into())),
    ])
}

fn sdk_jwt(mut given: Members) -> Result<types::JwtValidationActionConfig, String> {
    let claim = |mut given: Members| {
        let claim = types::JwtValidationActionAdditionalClaim::builder()
            .set_format(given.text("Format").map(|format| format.as_str().into()))
            .set_name(given.text("Name"))
            .set_values(given.texts("Values"))
            .build();
        given.done(JWT).map(|()| claim)
    };
    let claims = given.objects("AdditionalClaims");
    let config = types::JwtValidationActionConfig::builder()
        .set_jwks_endpoint(given.text("JwksEndpoint"))
        .set_issuer(given.text("Issuer"))
        .set_additional_claims(claims.map(|all| all.into_iter().map(claim).collect()).transpose()?)
        .build();
    given.done(JWT).map(|()| config)
}

fn redirect(config: &types::RedirectActionConfig) -> Value {
    object([
        ("Protocol", text(config.protocol())),
        ("Port", text(config.port())),
        ("Host", text(config.host())),
        ("Path", text(config.path())),
        ("Query", text(config.query())),
        ("StatusCode", text(config.status_code().map(|code| code.as_str()))),
    ])
}

fn sdk_redirect(mut given: Members) -> Result<types::RedirectActionConfig, String> {
    let config = types::RedirectActionConfig::builder()
        .set_protocol(given.text("Protocol"))
        .set_port(given.text("Port"))
        .set_host(given.text("Host"))
        .set_path(given.text("Path"))
        .set_query(given.text("Query"))
        .set_status_code(given.text("StatusCode").map(|code| code.as_str().into()))
        .build();
    given.done(REDIRECT).map(|()| config)
}

fn fixed_response(config: &types::FixedResponseActionConfig) -> Value {
    object([
        ("MessageBody", text(config.message_body())),
        ("StatusCode", text(config.status_code())),
        ("ContentType", text(config.content_type())),
    ])
}

fn sdk_fixed_response(mut given: Members) -> Result<types::FixedResponseActionConfig, String> {
    let config = types::FixedResponseActionConfig::builder()
        .set_message_body(given.text("MessageBody"))
        .set_status_code(given.text("StatusCode"))
        .set_content_type(given.text("ContentType"))
        .build();
    given.done(FIXED).map(|()| config)
}

/// The members of an object, taken out one by one. What is not of the asked type stays, and so is refused at the end.
struct Members(Map<String, Value>);

impl Members {
    fn take<T>(&mut self, key: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let value = read(self.0.get(key)?)?;
        self.0.shift_remove(key);
        Some(value)
    }

    fn text(&mut self, key: &str) -> Option<String> {
        self.take(key, |value| value.as_str().map(str::to_owned))
    }

    fn number(&mut self, key: &str) -> Option<i64> {
        self.take(key, Value::as_i64)
    }

    fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.take(key, |value| value.as_array()?.iter().map(text).collect())
    }

    fn params(&mut self, key: &str) -> Option<HashMap<String, String>> {
        let pair = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        self.take(key, |value| value.as_object()?.iter().map(pair).collect())
    }

    fn object(&mut self, key: &str) -> Option<Members> {
        self.take(key, |value| value.as_object().cloned().map(Members))
    }

    fn objects(&mut self, key: &str) -> Option<Vec<Members>> {
        let object = |value: &Value| value.as_object().cloned().map(Members);
        self.take(key, |value| value.as_array()?.iter().map(object).collect())
    }

    fn done(&self, of: &str) -> Result<(), String> {
        match self.0.keys().next() {
            Some(key) => Err(format!("{of} {key}").trim_start().to_owned()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
