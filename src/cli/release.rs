//! `proxymanager release`: ends the management of rules. The listener rules get their own actions back, byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use super::adopt::{describe, refusal};
use super::change::{Change, Step, agree, show};
use super::command::{CommandError, Context, no_such_rule};
use super::output::{Format, line};
use crate::compute::Compute;
use crate::config::tags;
use crate::domain::fault::Fault;
use crate::domain::rule::{Action, ResourceId, RouteId, RuleName, Side, final_action};
use crate::domain::seen::Power;
use crate::domain::table::{ListenerRule, RouteTable};
use crate::drive::Unreleased;
use crate::gateway::Gateway;
use crate::ledger::Ledger;
use crate::rules::{self, Rules};

/// End the management of a rule: its listener rules get their own actions back, and its machines are left as they are.
#[derive(Debug, Clone, clap::Args)]
pub struct Release {
    /// The rule's name, or the ARN of one of its listener rules.
    #[arg(required_unless_present = "all")]
    rule: Option<String>,
    /// All rules: before uninstalling.
    #[arg(long, conflicts_with = "rule")]
    all: bool,
    /// Make the changes without asking.
    #[arg(long)]
    yes: bool,
}

pub async fn release(context: &Context, args: &Release, format: Format) -> Result<(), CommandError> {
    let table = context.driver.table_now().await?;
    let known = known(context, &table);
    let chosen: BTreeMap<RuleName, Vec<RouteId>> = match &args.rule {
        None => known,
        Some(word) => {
            let is = |(name, routes): &(&RuleName, &Vec<RouteId>)| {
                name.0 == *word || routes.iter().any(|route| route.0 == *word)
            };
            match known.iter().find(is) {
                Some((name, routes)) => BTreeMap::from([(name.clone(), routes.clone())]),
                None => return Err(no_such_rule(word, known.keys())),
            }
        }
    };
    let orphans: Vec<(&ListenerRule, RouteId)> = if args.all { orphans(&table) } else { Vec::new() };
    let (mut changes, mut notes) = (Vec::new(), Vec::new());
    for (name, routes) in &chosen {
        let left = context.driver.unreleased(&table, name, routes).await?;
        changes.extend(route_changes(&table, &left)?);
        notes.extend(of_machines(context, name).await?);
    }
    changes.extend(orphans.iter().map(|(parked, _)| Change {
        of: format!("parked rule {}", parked.arn),
        steps: vec![Step::Remove("the whole rule: its listener rule is gone".to_owned())],
    }));
    let names: Vec<&str> = chosen.keys().map(|name| name.0.as_str()).collect();
    show(format, &names.join(" "), &changes, &notes);
    if changes.is_empty() {
        if format == Format::Table {
            line(format_args!("nothing is managed"));
        }
        return Ok(());
    }
    agree(args.yes, format)?;
    let mut failed = Vec::new();
    for (name, routes) in &chosen {
        match end(context, &table, name, routes).await {
            Ok(None) if format == Format::Table => line(format_args!("{name} is released")),
            Ok(None) => {}
            Ok(Some(by_hand)) => failed.push(by_hand),
            Err(error) => failed.push(format!("{name} is not released, run this again: {error}")),
        }
    }
    for (parked, route) in orphans {
        if let Err(fault) = context.driver.gateway.unpark(parked, &route).await {
            failed.push(format!("{} is not deleted, run this again: {fault}", parked.arn));
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(CommandError::Refused(failed)),
    }
}

/// All rules with their routes, and what an interrupted release has left of others.
fn known(context: &Context, table: &RouteTable) -> BTreeMap<RuleName, Vec<RouteId>> {
    let mut known: BTreeMap<RuleName, Vec<RouteId>> = BTreeMap::new();
    for managed in Rules::new(table, &context.driver.settings).iter() {
        known.insert(managed.rule.name.clone(), managed.routes.clone());
    }
    let rules = || table.listeners.iter().flat_map(|listener| &listener.rules);
    let parked: BTreeSet<&str> = rules().filter_map(ListenerRule::parks).collect();
    for rule in rules().filter(|rule| !rule.is_managed() && rule.parks().is_none()) {
        let ours = rule.tags.keys().any(|key| key.starts_with(tags::PREFIX)) || parked.contains(rule.arn.0.as_str());
        if let (true, Some(name)) = (ours, rules::name_of(table, &rule.arn, &context.settings.wakers)) {
            known.entry(name).or_default().push(rule.arn.clone());
        }
    }
    known
}

/// What is parked for listener rules that are gone.
fn orphans(table: &RouteTable) -> Vec<(&ListenerRule, RouteId)> {
    let rules = table.listeners.iter().flat_map(|listener| &listener.rules);
    let named = rules.filter_map(|rule| Some((rule, RouteId(rule.parks()?.to_owned()))));
    named.filter(|(_, route)| table.find(route).is_none()).collect()
}

fn route_changes(table: &RouteTable, left: &[Unreleased]) -> Result<Vec<Change>, CommandError> {
    let mut changes = Vec::new();
    for one in left {
        let Some((listener, rule)) = table.find(&one.route) else {
            continue;
        };
        let mut steps: Vec<Step> = own_tags(rule)
            .map(|(key, value)| Step::Remove(format!("{key} = {value}")))
            .collect();
        match &one.original {
            Ok(Some(original)) if one.side == Side::Waker => steps.push(Step::Replace {
                what: "action".to_owned(),
                from: "the waker".to_owned(),
                to: words(original),
            }),
            Ok(_) => {}
            Err(()) => {
                return Err(refusal(format!(
                    "{} leads to the waker, and its own action is neither in a parked rule nor in the ledger: set it by \
                     hand (`aws elbv2 modify-rule`), then release it",
                    one.route
                )));
            }
        }
        if !steps.is_empty() {
            changes.push(Change {
                of: describe(listener, rule),
                steps,
            });
        }
        changes.extend(one.parked.iter().map(|parked| Change {
            of: format!("parked rule {}", parked.arn),
            steps: vec![Step::Remove("the whole rule".to_owned())],
        }));
    }
    Ok(changes)
}

fn own_tags(rule: &ListenerRule) -> impl Iterator<Item = (&String, &String)> {
    rule.tags.iter().filter(|(key, _)| key.starts_with(tags::PREFIX))
}

fn words(actions: &[Action]) -> String {
    let groups = final_action(actions).map(Action::groups).unwrap_or_default();
    let names: Vec<&str> = groups.iter().map(|(group, _)| group.name()).collect();
    format!("forward to {}", names.join(", "))
}

/// That machines which are down stay down.
async fn of_machines(context: &Context, name: &RuleName) -> Result<Option<String>, CommandError> {
    let record = context.driver.ledger.load(name).await?;
    let ids = record.map(|record| record.snapshot.resources).unwrap_or_default();
    let machines = match ids.is_empty() {
        true => Vec::new(),
        false => context.driver.compute.describe(&ids).await?,
    };
    let down: Vec<&str> = machines
        .iter()
        .filter(|machine| matches!(machine.power, Power::Stopped | Power::Stopping))
        .map(|machine| machine.id.0.as_str())
        .collect();
    Ok((!down.is_empty()).then(|| {
        format!(
            "{name} is left with stopped machines ({}), so its site will answer 503 until somebody starts them; \
             `proxymanager wake {name}` before this avoids it",
            down.join(", ")
        )
    }))
}

/// Ends one rule. What remains to be done by hand, if anything does.
async fn end(
    context: &Context,
    table: &RouteTable,
    name: &RuleName,
    routes: &[RouteId],
) -> Result<Option<String>, CommandError> {
    let alb = &context.driver.gateway;
    let there = || {
        routes
            .iter()
            .filter_map(|route| table.find(route))
            .map(|(_, rule)| rule)
    };
    // From here on a Tick would do the rest, should this be interrupted. The other tags go last, so that the rule keeps its
    // name until it is over.
    for rule in there().filter(|rule| rule.is_managed()) {
        alb.untag(&rule.arn, vec![tags::IDLE.to_owned()]).await?;
    }
    let released = context.driver.release(name, routes).await?;
    for rule in there() {
        let keys = own_tags(rule)
            .map(|(key, _)| key.clone())
            .filter(|key| key != tags::IDLE);
        alb.untag(&rule.arn, keys.collect()).await?;
    }
    match untag(context, &released.unclaimed).await {
        Ok(()) => Ok(None),
        // Nothing of the rule is left by which another run could find them.
        Err(fault) => Ok(Some(format!(
            "{name} is released, but its instances keep the tag {key}: `aws ec2 delete-tags --resources {} --tags Key={key}` \
             ({fault})",
            released
                .unclaimed
                .iter()
                .map(|id| id.0.as_str())
                .collect::<Vec<_>>()
                .join(" "),
            key = tags::MANAGED,
        ))),
    }
}

/// Takes from machines the tag by which the function may start and stop them.
async fn untag(context: &Context, machines: &[ResourceId]) -> Result<(), Fault> {
    let known = context.driver.compute.machines(machines).await?;
    let tagged = known
        .into_iter()
        .filter(|machine| machine.tags.contains_key(tags::MANAGED));
    let tagged: Vec<_> = tagged.map(|machine| machine.id).collect();
    context.driver.compute.untag(&tagged, tags::MANAGED).await
}
