//! What is wrong with the waker: its target groups and the function behind them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::{Facts, Finding, Severity, WakerFacts};
use crate::domain::account::Deployed;
use crate::domain::matching::{Case, Glob};

/// A sweep begins looks for half a minute, and each may take as long as its lease.
const TIMEOUT: Duration = Duration::from_secs(60);
/// From the limit of holding to the end of the answer.
const AFTER_HOLDING: Duration = Duration::from_secs(10);
const BALANCER: &str = "elasticloadbalancing.amazonaws.com";

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    facts.wakers.iter().flat_map(|waker| of_waker(facts, waker)).collect()
}

fn of_waker(facts: &Facts, waker: &WakerFacts) -> Vec<Finding> {
    let of = &waker.group.0;
    let error = |code, what: String, fix: String| Finding::new(Severity::Error, code, of, what, fix);
    let mut found = Vec::new();
    if let Some(settings) = &waker.settings {
        if settings.kind != "lambda" {
            let what = format!(
                "the waker target group has targets of type {}, and only lambda can wake",
                settings.kind
            );
            found.push(error(
                "waker-type",
                what,
                "name the function's target group in AUTOSTOPPING_WAKER".to_owned(),
            ));
        } else if settings.checked {
            let what = "the waker's health checks are on: each invokes the function, and tells nothing".to_owned();
            let fix = format!("`aws elbv2 modify-target-group --target-group-arn {of} --no-health-check-enabled`");
            found.push(Finding::new(Severity::Warning, "waker-health-check", of, what, fix));
        }
    } else if !facts
        .unseen
        .iter()
        .any(|unseen| unseen.operation.ends_with(":DescribeTargetGroups"))
    {
        let what = "there is no such waker target group: whoever opens a sleeping site gets an error".to_owned();
        found.push(error(
            "waker-gone",
            what,
            "name the function's target group in AUTOSTOPPING_WAKER".to_owned(),
        ));
        return found;
    }
    if waker.registered.as_ref().is_some_and(Vec::is_empty) {
        let what =
            "no function is registered with the waker target group: whoever opens a sleeping site gets 503".to_owned();
        let fix = format!("`aws elbv2 register-targets --target-group-arn {of} --targets Id=ARN-OF-THE-ALIAS`");
        found.push(error("waker-empty", what, fix));
    }
    for arn in &waker.missing {
        let what = format!("the waker leads to {arn}, which does not exist");
        found.push(error(
            "function-gone",
            what,
            "register the function's alias instead".to_owned(),
        ));
    }
    for function in &waker.functions {
        found.extend(of_function(facts, waker, function));
    }
    found
}

fn of_function(facts: &Facts, waker: &WakerFacts, function: &Deployed) -> Vec<Finding> {
    let of = &function.arn;
    let error = |code, what: String, fix: String| Finding::new(Severity::Error, code, of, what, fix);
    let mut found = Vec::new();
    let failed = function.last_update.as_deref() == Some("Failed");
    if !matches!(function.state.as_str(), "Active" | "") || failed {
        let why = function.state_reason.as_deref().unwrap_or("AWS does not say why");
        let state = if failed {
            "in a failed update"
        } else {
            function.state.as_str()
        };
        let what = format!("the function is {state}: {why}");
        found.push(error(
            "function-not-active",
            what,
            "see the function in the console, or deploy it again".to_owned(),
        ));
    }
    if !may_invoke(function.policy.as_deref(), &waker.group.0) {
        let what = format!(
            "the load balancer may not invoke the function for {}: whoever opens a sleeping site gets 502",
            waker.group
        );
        let (function_arn, qualifier) = function.arn.rsplit_once(':').unwrap_or((of, ""));
        let fix = format!(
            "`aws lambda add-permission --function-name {function_arn} --qualifier {qualifier} --statement-id waker \
             --action lambda:InvokeFunction --principal {BALANCER} --source-arn {}`",
            waker.group
        );
        found.push(error("not-invocable", what, fix));
    }
    if function.code != function.latest_code {
        let what = format!(
            "what was uploaded last is not live: {of} leads to version {}, whose code is another than that of $LATEST",
            function.version
        );
        let fix = "point the alias at $LATEST, or upload the version that is to be live".to_owned();
        found.push(Finding::new(Severity::Warning, "uploaded-but-not-live", of, what, fix));
    }
    let shortest = TIMEOUT.max(facts.hold_limit + AFTER_HOLDING);
    if function.timeout < shortest {
        let what = format!(
            "the function is given {} s, and holding a request and going through all rules take up to {} s",
            function.timeout.as_secs(),
            shortest.as_secs()
        );
        let fix = format!(
            "`aws lambda update-function-configuration --function-name ... --timeout {}`",
            shortest.as_secs()
        );
        found.push(Finding::new(Severity::Warning, "function-timeout", of, what, fix));
    }
    for (key, own) in &facts.environment {
        let theirs = function.environment.get(key).map(String::as_str).unwrap_or_default();
        if as_set(own) != as_set(theirs) {
            let what = format!(
                "{key} of the function is {theirs:?}, and of this command line {own:?}: they do not see the same rules"
            );
            found.push(error("other-environment", what, format!("give both the same {key}")));
        }
    }
    found
}

fn as_set(list: &str) -> BTreeSet<&str> {
    list.split(',').map(str::trim).filter(|one| !one.is_empty()).collect()
}

/// Whether a resource policy lets load balancers invoke the function for this target group. A condition this does not
/// know is taken as met: a finding has to be certain.
fn may_invoke(policy: Option<&str>, group: &str) -> bool {
    let policy: Value = policy
        .and_then(|policy| serde_json::from_str(policy).ok())
        .unwrap_or_default();
    let statements = match &policy["Statement"] {
        Value::Array(statements) => statements.clone(),
        one => vec![one.clone()],
    };
    let invokes = |action: &str| matches!(action, "lambda:InvokeFunction" | "lambda:*" | "*");
    statements.iter().any(|statement| {
        statement["Effect"] == "Allow"
            && (texts(&statement["Principal"]).contains(&"*")
                || texts(&statement["Principal"]["Service"]).contains(&BALANCER))
            && texts(&statement["Action"]).into_iter().any(invokes)
            && meets(&statement["Condition"], group)
    })
}

fn meets(condition: &Value, group: &str) -> bool {
    let account = group.split(':').nth(4).unwrap_or_default();
    let operators = condition.as_object().into_iter().flatten();
    let mut pairs = operators.flat_map(|(_, keys)| keys.as_object().into_iter().flatten());
    pairs.all(|(key, allowed)| {
        let actual = match key.to_ascii_lowercase().as_str() {
            "aws:sourcearn" => group,
            "aws:sourceaccount" => account,
            _ => return true,
        };
        let fits = |pattern: &str| Glob::new(pattern, Case::Sensitive).matches(actual.as_bytes());
        texts(allowed).into_iter().any(fits)
    })
}

/// IAM writes one text or a list of them.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    }
}
