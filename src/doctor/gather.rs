//! Asks AWS and the ledger for the facts. What is not answered is a fact too. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, Unseen, WakerFacts};
use crate::config::environment::{LEDGER, LISTENERS, WAKER};
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::rule::{GroupId, ResourceId, RuleName};
use crate::domain::table::RouteTable;
use crate::ledger::{Ledger, LedgerError};
use crate::rules::Rules;
use crate::wiring::Operator;

/// The facts of one rule and of everything it rests on, or of all rules.
pub async fn gather<L: Ledger>(operator: &Operator<L>, only: Option<&RuleName>) -> Facts {
    let settings = &operator.settings;
    let list = |arns: Vec<String>| arns.join(",");
    let wakers: Vec<String> = settings.wakers.iter().map(|waker| waker.0.clone()).collect();
    let mut facts = Facts {
        listeners: settings.listeners.clone(),
        environment: BTreeMap::from([
            (LISTENERS.to_owned(), list(settings.listeners.clone())),
            (WAKER.to_owned(), list(wakers)),
            (LEDGER.to_owned(), settings.ledger.to_string()),
        ]),
        hold_limit: settings.hold_limit,
        ..Facts::default()
    };
    match operator.driver.table_now().await {
        Ok(table) => {
            of_table(operator, &table, only, &mut facts).await;
            facts.table = Some(table);
        }
        Err(error) => facts.unseen.push(unread(&error)),
    }
    of_wakers(operator, &mut facts).await;
    facts.unseen.sort_by(|one, other| one.operation.cmp(&other.operation));
    facts.unseen.dedup_by(|one, other| one.operation == other.operation);
    facts
}

async fn of_table<L: Ledger>(operator: &Operator<L>, table: &RouteTable, only: Option<&RuleName>, facts: &mut Facts) {
    let (driver, alb, ec2) = (&operator.driver, &operator.driver.gateway, &operator.driver.compute);
    let rules = Rules::new(table, &driver.settings);
    let here = driver.ways_now(table).await;
    for managed in rules
        .iter()
        .filter(|managed| only.is_none_or(|only| managed.rule.name == *only))
    {
        match driver.preview(table, &managed.rule.name, &[], &here).await {
            Ok(Some(preview)) => {
                facts.unseen.extend(preview.unseen.iter().map(unanswered));
                facts.rules.push(preview);
            }
            Ok(None) => {}
            Err(error) => facts.unseen.push(unread(&error)),
        }
    }
    let groups: BTreeSet<GroupId> = facts.rules.iter().flat_map(|rule| rule.groups.clone()).collect();
    let seen = || facts.rules.iter().flat_map(|rule| &rule.machines);
    let machines: BTreeSet<ResourceId> = seen().map(|machine| machine.id.clone()).collect();
    let fallen = seen().filter(|machine| machine.fell_back.is_some());
    let fallen: Vec<ResourceId> = fallen.map(|machine| machine.id.clone()).collect();
    let mut unseen = Vec::new();
    facts.groups = or_note(alb.settings_of(&Vec::from_iter(groups)).await, &mut unseen);
    let machines = or_note(ec2.machines(&Vec::from_iter(machines)).await, &mut unseen);
    facts.machines = machines
        .into_iter()
        .map(|machine| (machine.id.clone(), machine))
        .collect();
    facts.volumes = or_note(ec2.encrypted_volumes(&fallen).await, &mut unseen);
    facts.limits = or_note(alb.limits().await, &mut unseen);
    facts.unwatched = or_note(alb.opted_in_unwatched(table).await, &mut unseen);
    facts.unseen.extend(unseen);
}

async fn of_wakers<L: Ledger>(operator: &Operator<L>, facts: &mut Facts) {
    use crate::gateway::Gateway;

    let alb = &operator.driver.gateway;
    let mut unseen = Vec::new();
    for given in &operator.settings.wakers {
        let found = match given.is_name() {
            true => alb.group_named(&given.0).await,
            false => alb
                .settings_of(std::slice::from_ref(given))
                .await
                .map(|mut found| found.remove(given)),
        };
        let settings = or_note(found, &mut unseen);
        let group = settings.as_ref().map_or(given, |settings| &settings.id).clone();
        let registered = match &settings {
            Some(_) => match alb.health(&[(group.clone(), true)]).await {
                Ok(health) => {
                    let targets = health.into_iter().flat_map(|group| group.targets);
                    Some(targets.map(|target| target.resource.0).collect())
                }
                Err(fault) => {
                    unseen.push(unanswered(&fault));
                    None
                }
            },
            None => None,
        };
        let mut waker = WakerFacts {
            group,
            settings,
            registered,
            functions: Vec::new(),
            missing: Vec::new(),
        };
        let arns: Vec<String> = waker.registered.clone().unwrap_or_default();
        for arn in arns
            .into_iter()
            .filter(|arn| arn.starts_with("arn:") && arn.contains(":lambda:"))
        {
            match operator.deployed.read(&arn).await {
                Ok(deployed) => waker.functions.push(deployed),
                Err(fault) if fault.kind == FaultKind::NotFound => waker.missing.push(arn),
                Err(fault) => unseen.push(unanswered(&fault)),
            }
        }
        facts.wakers.push(waker);
    }
    facts.unseen.extend(unseen);
}

fn or_note<T: Default>(answer: Result<T, Fault>, unseen: &mut Vec<Unseen>) -> T {
    answer.unwrap_or_else(|fault| {
        unseen.push(unanswered(&fault));
        T::default()
    })
}

pub(super) fn unanswered(fault: &Fault) -> Unseen {
    Unseen {
        operation: fault.operation.clone(),
        kind: fault.kind,
        message: fault.message.clone(),
    }
}

fn unread(error: &LedgerError) -> Unseen {
    match error {
        LedgerError::Fault(fault) => unanswered(fault),
        other => Unseen {
            operation: "the ledger".to_owned(),
            kind: FaultKind::Other,
            message: other.to_string(),
        },
    }
}
