//! The problems of a rule as findings: what is wrong is told by the problem itself.

use super::{Finding, Severity};
use crate::domain::rule::{Problem, RuleName};

pub(super) fn finding(rule: &RuleName, problem: &Problem) -> Finding {
    let (code, fix) = code_and_fix(problem);
    Finding::new(Severity::Error, code, &rule.0, problem.to_string(), fix)
}

fn code_and_fix(problem: &Problem) -> (&'static str, String) {
    let own = |text: &str| text.to_owned();
    match problem {
        Problem::UnreadableTag { key, allowed, .. } => ("unreadable-tag", format!("give {key} one of: {allowed}")),
        Problem::UnknownTag { key, .. } => ("unknown-tag", format!("rename or remove the tag {key}")),
        Problem::UnsupportedTag { key } => ("unsupported-tag", format!("remove the tag {key}")),
        Problem::ContradictingTags { key, .. } => (
            "contradicting-tags",
            format!("give {key} the same value on all routes of the rule"),
        ),
        Problem::UnknownAddresses { load_balancer, .. } => (
            "unknown-addresses",
            format!(
                "`aws elbv2 modify-load-balancer-attributes --load-balancer-arn {load_balancer} --attributes \
                 Key=routing.http.xff_header_processing.mode,Value=append`, or remove autostopping:allow"
            ),
        ),
        Problem::NoRoutes => ("no-routes", own("opt its listener rule in again: `proxymanager adopt`")),
        Problem::NoTargets => (
            "no-targets",
            own("`aws elbv2 register-targets --target-group-arn ... --targets Id=i-...` while the instance runs"),
        ),
        Problem::Terminated { instance } => (
            "terminated",
            format!(
                "`aws elbv2 deregister-targets --target-group-arn ... --targets Id={instance}`, and register its successor"
            ),
        ),
        Problem::InAutoScalingGroup { instance, group } => (
            "auto-scaling-member",
            format!(
                "`aws autoscaling detach-instances --auto-scaling-group-name {group} --instance-ids {instance} \
                 --should-decrement-desired-capacity`, or do not manage the rule"
            ),
        ),
        Problem::SharedInstance { other, .. } => (
            "shared-instance",
            format!("give this rule and {other} one autostopping:name"),
        ),
        Problem::SecondWay { by, .. } => ("second-way", format!("deregister the instance from {by}")),
        Problem::SameConditions { one, other } => ("same-conditions", format!("delete or change {one} or {other}")),
        Problem::UnreadableConditions { route, .. } => {
            ("unreadable-conditions", format!("change the conditions of {route}"))
        }
        Problem::NotAForward { route, .. } => ("not-a-forward", format!("`proxymanager release {route}`")),
        Problem::MixedForward { route } => ("mixed-forward", format!("forward {route} to its backend alone")),
        Problem::DefaultRule { route } => ("default-rule", format!("remove the autostopping tags of {route}")),
        Problem::AlsoReachable { by, .. } => (
            "second-way",
            format!("delete the listener rule {by}, or give it the same autostopping:name"),
        ),
        Problem::TargetType { group, .. } => (
            "target-type",
            format!(
                "register instances in a group of their type instead of {group}, or `proxymanager release` the rule"
            ),
        ),
        Problem::ForeignController { cluster } => (
            "controller-owned",
            format!("use a load balancer that no controller owns (this one belongs to the cluster {cluster})"),
        ),
        Problem::NoWaker { .. } => (
            "no-waker",
            own("add a waker target group of this load balancer to AUTOSTOPPING_WAKER"),
        ),
        Problem::OriginalLost { .. } => (
            "original-lost",
            own("`aws elbv2 modify-rule --rule-arn ... --actions Type=forward,TargetGroupArn=...`"),
        ),
    }
}
