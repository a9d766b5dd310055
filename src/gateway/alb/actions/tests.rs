use serde_json::json;

use super::*;

fn action(value: Value) -> Action {
    serde_json::from_value(value).unwrap()
}

fn forward_to(groups: Value) -> Action {
    action(json!({"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}))
}

#[test]
fn every_kind_comes_back_as_it_went() {
    for written in [
        json!({"Type": "forward", "Order": 1, "TargetGroupArn": "a", "ForwardConfig": {
            "TargetGroups": [{"TargetGroupArn": "a", "Weight": 1}],
            "TargetGroupStickinessConfig": {"Enabled": false}}}),
        json!({"Type": "forward", "ForwardConfig": {
            "TargetGroups": [{"TargetGroupArn": "a", "Weight": 9}, {"TargetGroupArn": "b", "Weight": 0}],
            "TargetGroupStickinessConfig": {"Enabled": true, "DurationSeconds": 3600}}}),
        json!({"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": {
            "Issuer": "https://id.example.com", "AuthorizationEndpoint": "https://id.example.com/a",
            "TokenEndpoint": "https://id.example.com/t", "UserInfoEndpoint": "https://id.example.com/u",
            "ClientId": "me", "SessionCookieName": "c", "Scope": "openid", "SessionTimeout": 604_800,
            "AuthenticationRequestExtraParams": {"display": "page", "prompt": "login"},
            "OnUnauthenticatedRequest": "deny"}}),
        json!({"Type": "authenticate-cognito", "Order": 1, "AuthenticateCognitoConfig": {
            "UserPoolArn": "arn", "UserPoolClientId": "me", "UserPoolDomain": "d", "SessionCookieName": "c",
            "Scope": "openid", "SessionTimeout": 60, "AuthenticationRequestExtraParams": {"a": "b"},
            "OnUnauthenticatedRequest": "allow"}}),
        json!({"Type": "jwt-validation", "Order": 1, "JwtValidationConfig": {
            "JwksEndpoint": "https://id.example.com/k", "Issuer": "https://id.example.com",
            "AdditionalClaims": [{"Format": "string-array", "Name": "groups", "Values": ["x", "y"]}]}}),
        json!({"Type": "redirect", "RedirectConfig": {"Protocol": "HTTPS", "Port": "443", "Host": "#{host}",
            "Path": "/#{path}", "Query": "#{query}", "StatusCode": "HTTP_301"}}),
        json!({"Type": "fixed-response", "FixedResponseConfig": {"MessageBody": "no", "StatusCode": "404",
            "ContentType": "text/plain"}}),
    ] {
        let ours = action(written.clone());
        let back = from_sdk(&to_sdk("test", &ours).unwrap());
        assert_eq!(
            serde_json::to_string(&back).unwrap(),
            serde_json::to_string(&written).unwrap()
        );
    }
}

#[test]
fn a_client_secret_is_kept_by_aws_and_never_read() {
    let config = types::AuthenticateOidcActionConfig::builder()
        .client_id("me")
        .client_secret("hidden")
        .use_existing_client_secret(false)
        .build();
    let kind = types::ActionTypeEnum::AuthenticateOidc;
    let read = from_sdk(
        &types::Action::builder()
            .r#type(kind)
            .authenticate_oidc_config(config)
            .build(),
    );
    assert_eq!(
        serde_json::to_value(&read).unwrap(),
        json!({"Type": "authenticate-oidc", "AuthenticateOidcConfig": {"ClientId": "me"}})
    );
    let written = to_sdk("test", &read).unwrap();
    assert_eq!(
        written.authenticate_oidc_config().unwrap().use_existing_client_secret(),
        Some(true)
    );
    assert_eq!(written.authenticate_oidc_config().unwrap().client_secret(), None);
}

#[test]
fn what_would_be_lost_is_not_written() {
    for (stored, named) in [
        (json!({"Type": "teleport", "Order": 1}), "teleport"),
        (json!({"Type": "forward", "TeleportConfig": {}}), "TeleportConfig"),
        (
            json!({"Type": "redirect", "RedirectConfig": {"Speed": 1}}),
            "RedirectConfig Speed",
        ),
        (
            json!({"Type": "redirect", "RedirectConfig": {"Port": 443}}),
            "RedirectConfig Port",
        ),
        (json!({"Type": "redirect", "RedirectConfig": "x"}), "RedirectConfig"),
        (
            json!({"Type": "authenticate-oidc", "AuthenticateOidcConfig": {"ClientSecret": "x"}}),
            "ClientSecret",
        ),
    ] {
        let fault = to_sdk("test", &action(stored)).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Conflict);
        assert!(fault.message.contains(named), "{fault}");
    }
    let unknown = types::Action::builder().r#type("teleport".into()).order(2).build();
    assert_eq!(
        serde_json::to_value(from_sdk(&unknown)).unwrap(),
        json!({"Type": "teleport", "Order": 2})
    );
}

#[test]
fn two_ways_to_print_a_forward_are_the_same() {
    let short = action(json!({"Type": "forward", "Order": 2, "TargetGroupArn": "a"}));
    let long = action(json!({"Type": "forward", "TargetGroupArn": "a", "ForwardConfig": {
        "TargetGroups": [{"TargetGroupArn": "a", "Weight": 1}],
        "TargetGroupStickinessConfig": {"Enabled": false, "DurationSeconds": 3600}}}));
    assert!(same_action(&short, &long));
    let (a, b) = (
        json!({"TargetGroupArn": "a", "Weight": 3}),
        json!({"TargetGroupArn": "b"}),
    );
    assert!(same_action(&forward_to(json!([a, b])), &forward_to(json!([b, a]))));
}

#[test]
fn what_does_something_else_is_not_the_same() {
    let plain = forward_to(json!([{"TargetGroupArn": "a"}]));
    let sticky = |duration: i32| {
        action(
            json!({"Type": "forward", "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": "a"}],
            "TargetGroupStickinessConfig": {"Enabled": true, "DurationSeconds": duration}}}),
        )
    };
    let heavy = forward_to(json!([{"TargetGroupArn": "a", "Weight": 2}]));
    let all = [
        plain,
        sticky(1),
        sticky(2),
        heavy,
        forward_to(json!([{"TargetGroupArn": "b"}])),
    ];
    for (i, one) in all.iter().enumerate() {
        for (j, other) in all.iter().enumerate() {
            assert_eq!(same_action(one, other), i == j, "{one:?} {other:?}");
        }
    }
    let login = |id: &str| {
        action(
            json!({"Type": "authenticate-cognito", "Order": 1, "AuthenticateCognitoConfig": {"UserPoolClientId": id}}),
        )
    };
    let last = || action(json!({"Type": "forward", "Order": 2, "TargetGroupArn": "a"}));
    assert!(same(&[login("x"), last()], &[last(), login("x")]));
    assert!(!same(&[login("x"), last()], &[login("y"), last()]));
    assert!(!same(&[login("x"), last()], &[last()]));
}
