//! Listener rule actions between the SDK's types and ours, which are AWS's JSON.

use aws_sdk_elasticloadbalancingv2 as elb;
use elb::types as sdk;
use serde_json::{Map, Value, json};

use crate::domain::fault::{Fault, FaultKind};
use crate::domain::rule::{Action, Config, Forward, GroupId, Stickiness, WeightedGroup};

/// Actions as described. Redirects and fixed responses keep their kind alone: such a rule is not managed.
pub(super) fn from_sdk(actions: &[sdk::Action]) -> Vec<Action> {
    actions.iter().map(one_from_sdk).collect()
}

fn one_from_sdk(action: &sdk::Action) -> Action {
    let mut rest = Map::new();
    if let Some(config) = action.authenticate_oidc_config() {
        rest.insert("AuthenticateOidcConfig".to_owned(), oidc(config));
    }
    if let Some(config) = action.authenticate_cognito_config() {
        rest.insert("AuthenticateCognitoConfig".to_owned(), cognito(config));
    }
    if let Some(config) = action.jwt_validation_config() {
        rest.insert("JwtValidationConfig".to_owned(), jwt(config));
    }
    Action {
        kind: action
            .r#type()
            .map_or_else(String::new, |kind| kind.as_str().to_owned()),
        order: action.order(),
        target_group_arn: action.target_group_arn().map(|arn| GroupId(arn.to_owned())),
        forward_config: action.forward_config().map(forward),
        rest: Config(rest),
    }
}

fn forward(config: &sdk::ForwardActionConfig) -> Forward {
    let group = |tuple: &sdk::TargetGroupTuple| WeightedGroup {
        target_group_arn: GroupId(tuple.target_group_arn().unwrap_or_default().to_owned()),
        weight: tuple.weight(),
    };
    Forward {
        target_groups: config.target_groups().iter().map(group).collect(),
        target_group_stickiness_config: config.target_group_stickiness_config().map(|sticky| Stickiness {
            enabled: sticky.enabled(),
            duration_seconds: sticky.duration_seconds(),
        }),
    }
}

/// Without the secret, which AWS never shows.
fn oidc(config: &sdk::AuthenticateOidcActionConfig) -> Value {
    present(json!({
        "Issuer": config.issuer(),
        "AuthorizationEndpoint": config.authorization_endpoint(),
        "TokenEndpoint": config.token_endpoint(),
        "UserInfoEndpoint": config.user_info_endpoint(),
        "ClientId": config.client_id(),
        "SessionCookieName": config.session_cookie_name(),
        "Scope": config.scope(),
        "SessionTimeout": config.session_timeout(),
        "AuthenticationRequestExtraParams": config.authentication_request_extra_params(),
        "OnUnauthenticatedRequest": config.on_unauthenticated_request().map(|behaviour| behaviour.as_str()),
    }))
}

fn cognito(config: &sdk::AuthenticateCognitoActionConfig) -> Value {
    present(json!({
        "UserPoolArn": config.user_pool_arn(),
        "UserPoolClientId": config.user_pool_client_id(),
        "UserPoolDomain": config.user_pool_domain(),
        "SessionCookieName": config.session_cookie_name(),
        "Scope": config.scope(),
        "SessionTimeout": config.session_timeout(),
        "AuthenticationRequestExtraParams": config.authentication_request_extra_params(),
        "OnUnauthenticatedRequest": config.on_unauthenticated_request().map(|behaviour| behaviour.as_str()),
    }))
}

fn jwt(config: &sdk::JwtValidationActionConfig) -> Value {
    let claim = |claim: &sdk::JwtValidationActionAdditionalClaim| {
        present(json!({
            "Format": claim.format().map(|format| format.as_str()),
            "Name": claim.name(),
            "Values": claim.values(),
        }))
    };
    present(json!({
        "JwksEndpoint": config.jwks_endpoint(),
        "Issuer": config.issuer(),
        "AdditionalClaims": config.additional_claims.as_ref().map(|claims| claims.iter().map(claim).collect::<Vec<_>>()),
    }))
}

/// What is not set is not there, as in AWS's own JSON.
fn present(mut value: Value) -> Value {
    if let Value::Object(members) = &mut value {
        members.retain(|_, member| !member.is_null());
    }
    value
}

/// Actions to write. Only what may stand in a managed rule can be written.
pub(super) fn to_sdk(actions: &[Action]) -> Result<Vec<sdk::Action>, Fault> {
    actions.iter().map(one_to_sdk).collect()
}

fn one_to_sdk(action: &Action) -> Result<sdk::Action, Fault> {
    let builder = sdk::Action::builder()
        .r#type(sdk::ActionTypeEnum::from(action.kind.as_str()))
        .set_order(action.order);
    let config = |key: &str| {
        action
            .rest
            .0
            .get(key)
            .and_then(Value::as_object)
            .ok_or_else(|| cannot(action))
    };
    let builder = match action.kind.as_str() {
        // AWS refuses a single group beside a configuration that says otherwise; the configuration says it all.
        "forward" => match &action.forward_config {
            Some(forward) => builder.forward_config(forward_to_sdk(forward)),
            None => builder.set_target_group_arn(action.target_group_arn.as_ref().map(ToString::to_string)),
        },
        "authenticate-oidc" => builder.authenticate_oidc_config(oidc_to_sdk(config("AuthenticateOidcConfig")?)),
        "authenticate-cognito" => {
            builder.authenticate_cognito_config(cognito_to_sdk(config("AuthenticateCognitoConfig")?))
        }
        "jwt-validation" => builder.jwt_validation_config(jwt_to_sdk(config("JwtValidationConfig")?)),
        _ => return Err(cannot(action)),
    };
    Ok(builder.build())
}

fn cannot(action: &Action) -> Fault {
    let why = format!(
        "an action of type {:?} cannot be written back as it was, so the rule is left alone",
        action.kind
    );
    Fault::new(FaultKind::Conflict, "elasticloadbalancing:ModifyRule", why)
}

fn forward_to_sdk(forward: &Forward) -> sdk::ForwardActionConfig {
    let group = |group: &WeightedGroup| {
        sdk::TargetGroupTuple::builder()
            .target_group_arn(&group.target_group_arn.0)
            .set_weight(group.weight)
            .build()
    };
    let sticky = forward.target_group_stickiness_config.as_ref().map(|sticky| {
        let builder = sdk::TargetGroupStickinessConfig::builder();
        builder
            .set_enabled(sticky.enabled)
            .set_duration_seconds(sticky.duration_seconds)
            .build()
    });
    sdk::ForwardActionConfig::builder()
        .set_target_groups(Some(forward.target_groups.iter().map(group).collect()))
        .set_target_group_stickiness_config(sticky)
        .build()
}

type Members = Map<String, Value>;

fn text(members: &Members, key: &str) -> Option<String> {
    members.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn extra(members: &Members) -> Option<std::collections::HashMap<String, String>> {
    let object = members.get("AuthenticationRequestExtraParams")?.as_object()?;
    Some(
        object
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
    )
}

fn oidc_to_sdk(members: &Members) -> sdk::AuthenticateOidcActionConfig {
    sdk::AuthenticateOidcActionConfig::builder()
        .set_issuer(text(members, "Issuer"))
        .set_authorization_endpoint(text(members, "AuthorizationEndpoint"))
        .set_token_endpoint(text(members, "TokenEndpoint"))
        .set_user_info_endpoint(text(members, "UserInfoEndpoint"))
        .set_client_id(text(members, "ClientId"))
        .set_session_cookie_name(text(members, "SessionCookieName"))
        .set_scope(text(members, "Scope"))
        .set_session_timeout(members.get("SessionTimeout").and_then(Value::as_i64))
        .set_authentication_request_extra_params(extra(members))
        .set_on_unauthenticated_request(text(members, "OnUnauthenticatedRequest").map(|b| b.as_str().into()))
        // The secret is AWS's to keep. https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_AuthenticateOidcActionConfig.html
        .use_existing_client_secret(true)
        .build()
}

fn cognito_to_sdk(members: &Members) -> sdk::AuthenticateCognitoActionConfig {
    sdk::AuthenticateCognitoActionConfig::builder()
        .set_user_pool_arn(text(members, "UserPoolArn"))
        .set_user_pool_client_id(text(members, "UserPoolClientId"))
        .set_user_pool_domain(text(members, "UserPoolDomain"))
        .set_session_cookie_name(text(members, "SessionCookieName"))
        .set_scope(text(members, "Scope"))
        .set_session_timeout(members.get("SessionTimeout").and_then(Value::as_i64))
        .set_authentication_request_extra_params(extra(members))
        .set_on_unauthenticated_request(text(members, "OnUnauthenticatedRequest").map(|b| b.as_str().into()))
        .build()
}

fn jwt_to_sdk(members: &Members) -> sdk::JwtValidationActionConfig {
    let claim = |claim: &Value| {
        let members = claim.as_object()?;
        let values = members.get("Values").and_then(Value::as_array);
        let values = values.map(|values| values.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        let builder = sdk::JwtValidationActionAdditionalClaim::builder().set_name(text(members, "Name"));
        Some(
            builder
                .set_format(text(members, "Format").map(|f| f.as_str().into()))
                .set_values(values)
                .build(),
        )
    };
    let claims = members.get("AdditionalClaims").and_then(Value::as_array);
    sdk::JwtValidationActionConfig::builder()
        .set_jwks_endpoint(text(members, "JwksEndpoint"))
        .set_issuer(text(members, "Issuer"))
        .set_additional_claims(claims.map(|claims| claims.iter().filter_map(claim).collect()))
        .build()
}
