//! What is wrong with single rules.

use std::time::Duration;

use super::problems;
use super::{Facts, Finding, Severity};
use crate::config::tags;
use crate::domain::account::GroupSettings;
use crate::domain::policy::StopKind;
use crate::domain::seen::Power;
use crate::drive::Preview;

/// A target that takes longer than this to be called healthy keeps people waiting for nothing: AWS allows 10 s (every 5 s,
/// twice), its own defaults take 150 s. Source: "Health checks for Application Load Balancer target groups".
const SLOW: Duration = Duration::from_secs(20);

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    facts.rules.iter().flat_map(|rule| of_rule(facts, rule)).collect()
}

fn of_rule(facts: &Facts, rule: &Preview) -> Vec<Finding> {
    let name = &rule.managed.rule.name;
    let mut found: Vec<Finding> = rule
        .problems
        .iter()
        .map(|problem| problems::finding(name, problem))
        .collect();
    for group in rule.groups.iter().filter_map(|group| facts.groups.get(group)) {
        found.extend(slow_check(&name.0, group));
        found.extend(too_short_a_deadline(rule, group));
    }
    found.extend(of_machines(facts, rule));
    found.extend(failing(rule));
    found
}

/// That a wake waits for the health check, if it does.
pub fn slow_check(of: &str, group: &GroupSettings) -> Option<Finding> {
    let takes = group.until_healthy();
    if group.kind != "instance" || takes <= SLOW {
        return None;
    }
    let what = format!(
        "the target group {} calls an instance healthy only after {} checks, {} s apart: every wake takes up to {} s longer than it has to",
        group.name,
        group.successes,
        group.interval.as_secs(),
        takes.saturating_sub(Duration::from_secs(10)).as_secs()
    );
    let fix = format!(
        "`aws elbv2 modify-target-group --target-group-arn {} --health-check-interval-seconds 5 \
         --health-check-timeout-seconds 4 --healthy-threshold-count 2`",
        group.id
    );
    Some(Finding::new(Severity::Warning, "slow-health-check", of, what, fix))
}

fn too_short_a_deadline(rule: &Preview, group: &GroupSettings) -> Option<Finding> {
    let managed = &rule.managed.rule;
    let (deadline, takes) = (managed.policy.deadline, group.until_healthy());
    if deadline > takes || takes.is_zero() {
        return None;
    }
    let what = format!(
        "a wake has failed after {} s ({}), and the health check of {} alone takes {} s: no wake can succeed",
        deadline.as_secs(),
        tags::DEADLINE,
        group.name,
        takes.as_secs()
    );
    let fix = format!(
        "give {} a longer duration, or make the health check quicker",
        tags::DEADLINE
    );
    Some(Finding::new(
        Severity::Error,
        "deadline-too-short",
        &managed.name.0,
        what,
        fix,
    ))
}

fn of_machines(facts: &Facts, rule: &Preview) -> Vec<Finding> {
    let managed = &rule.managed.rule;
    let of = &managed.name.0;
    let mut found = Vec::new();
    for seen in &rule.machines {
        let Some(machine) = facts.machines.get(&seen.id) else {
            continue;
        };
        let id = &machine.id;
        if machine.tags.get(tags::MANAGED).is_none_or(|value| value != "true") {
            let what = format!(
                "the instance {id} lacks the tag {} = true, without which the function may not start or stop it",
                tags::MANAGED
            );
            let fix = format!(
                "`aws ec2 create-tags --resources {id} --tags Key={},Value=true`",
                tags::MANAGED
            );
            found.push(Finding::new(Severity::Error, "managed-tag-missing", of, what, fix));
        }
        if managed.policy.stop == StopKind::Hibernate && !machine.hibernates {
            let what = format!(
                "{} = hibernate, but the instance {id} was launched without hibernation: it is stopped instead",
                tags::STOP
            );
            let fix = format!("remove the tag {}, or launch an instance with hibernation", tags::STOP);
            found.push(Finding::new(Severity::Warning, "cannot-hibernate", of, what, fix));
        }
        if machine.instance_store {
            let what = format!("the root volume of {id} is an instance store, so EC2 cannot stop it");
            let fix = "use an instance with an EBS root volume".to_owned();
            found.push(Finding::new(Severity::Error, "cannot-stop", of, what, fix));
        }
        // Whether the role may use a key can be read nowhere but in a start that fell through.
        if let (Power::Stopped, Some(why)) = (seen.power, &seen.fell_back) {
            let volume = facts.volumes.iter().find(|volume| volume.instance == *id);
            found.push(match volume {
                Some(volume) => Finding::new(
                    Severity::Error,
                    "kms",
                    of,
                    format!(
                        "the last start of {id} fell back to stopped ({why}), and its volume {} is encrypted with {}",
                        volume.id, volume.key
                    ),
                    format!(
                        "allow the function's role kms:CreateGrant on {}, with kms:GrantIsForAWSResource",
                        volume.key
                    ),
                ),
                None => Finding::new(
                    Severity::Error,
                    "start-fell-back",
                    of,
                    format!("the last start of {id} fell back to stopped: {why}"),
                    format!("start {id} by hand and see what EC2 says"),
                ),
            });
        }
    }
    found
}

/// What the function itself met last, and could not do.
fn failing(rule: &Preview) -> Option<Finding> {
    let failure = rule.record.as_ref()?.failure()?;
    let what = format!("it failed {} times in a row: {}", failure.attempts, failure.reason);
    let fix = match failure.lasting {
        true => "AWS refuses this until somebody changes it: see the reason",
        false => "it is tried again by itself: see the reason if that does not end",
    };
    let name = &rule.managed.rule.name.0;
    Some(Finding::new(Severity::Error, "failing", name, what, fix.to_owned()))
}
