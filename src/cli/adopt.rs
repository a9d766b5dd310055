//! `proxymanager adopt`: opts listener rules in that are there already.

use std::collections::BTreeMap;

use super::change::{Change, agree, show};
use super::command::{CommandError, Context};
use super::output::{Format, line};
use super::policy::PolicyArgs;
use crate::config::tags;
use crate::doctor::slow_check;
use crate::domain::account::Machine;
use crate::domain::rule::{ResourceId, RouteId, RuleName};
use crate::domain::table::{Listener, ListenerRule, RouteTable};
use crate::drive::Preview;
use crate::rules;

/// Opt a listener rule in that is there already: shows what is wrong with it and what will change, and asks.
#[derive(Debug, Clone, clap::Args)]
pub struct Adopt {
    /// ARNs of listener rules that belong together, such as those of one site on ports 80 and 443.
    #[arg(required_unless_present = "host", value_name = "RULE_ARN")]
    rules: Vec<String>,
    /// The listener rule for this host, instead of its ARN.
    #[arg(long, conflicts_with = "rules")]
    host: Option<String>,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Make the changes without asking.
    #[arg(long)]
    yes: bool,
}

pub async fn adopt(context: &Context, args: &Adopt, format: Format) -> Result<(), CommandError> {
    let table = context.driver.table_now().await?;
    let routes = chosen(&table, args)?;
    let mut tagged = table.clone();
    let mut wanted = BTreeMap::new();
    for route in &routes {
        if let Some(rule) = rule_mut(&mut tagged, route) {
            let tags = args.policy.tags(&rule.tags);
            rule.tags.extend(tags.clone());
            wanted.insert(route.clone(), tags);
        }
    }
    let name = one_name(context, &tagged, &routes)?;
    let here = context.driver.ways_now(&tagged).await;
    let preview = context.driver.preview(&tagged, &name, &[], &here).await?;
    let preview = preview.ok_or_else(|| refusal(format!("{name} would be no rule")))?;
    refuse(&preview)?;
    let machines = machines_of(context, &preview).await?;
    let unmanaged = unmanaged(&machines);

    let mut changes = Vec::new();
    for (route, tags) in &wanted {
        if let Some((listener, rule)) = table.find(route) {
            changes.extend(Change::of_tags(describe(listener, rule), &rule.tags, tags));
        }
    }
    changes.extend(machine_changes(&machines));
    let mut notes = notes(context, &preview).await?;
    let others: Vec<String> = preview
        .managed
        .routes
        .iter()
        .filter(|route| !routes.contains(route))
        .map(ToString::to_string)
        .collect();
    if !others.is_empty() {
        notes.push(format!(
            "it joins the rule {name}, whose routes are {} already",
            others.join(", ")
        ));
    }
    if changes.is_empty() {
        if format == Format::Json {
            show(format, &name.0, &changes, &notes);
        } else {
            line(format_args!("{name} is adopted already: nothing to change"));
        }
        return Ok(());
    }
    show(format, &name.0, &changes, &notes);
    agree(args.yes, format)?;
    // The listener rules last: what is not opted in yet does not miss its machines' tag.
    context.driver.compute.tag(&unmanaged, tags::MANAGED, "true").await?;
    for (route, tags) in &wanted {
        context.driver.gateway.tag(route, tags).await?;
    }
    if format == Format::Table {
        line(format_args!("{name} is adopted: `proxymanager status {name}` shows it"));
    }
    Ok(())
}

fn chosen(table: &RouteTable, args: &Adopt) -> Result<Vec<RouteId>, CommandError> {
    let Some(host) = &args.host else {
        let unknown = args
            .rules
            .iter()
            .find(|arn| table.find(&RouteId((*arn).clone())).is_none());
        return match unknown {
            Some(arn) => Err(refusal(format!(
                "there is no listener rule {arn} on the watched listeners: check the ARN, or add its listener to \
                 AUTOSTOPPING_LISTENERS of the function and of this command line"
            ))),
            None => Ok(args.rules.iter().cloned().map(RouteId).collect()),
        };
    };
    let rules = table.listeners.iter().flat_map(|listener| &listener.rules);
    let of_host: Vec<RouteId> = rules
        .filter(|rule| rule.parks().is_none() && hosts(rule).any(|known| known.eq_ignore_ascii_case(host)))
        .map(|rule| rule.arn.clone())
        .collect();
    match of_host.as_slice() {
        [] => Err(refusal(format!(
            "no listener rule on the watched listeners names the host {host}: `proxymanager create` makes one"
        ))),
        [_] => Ok(of_host),
        several => Err(refusal(format!(
            "several listener rules name the host {host}: name those that belong together by their ARNs\n{}",
            several.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        ))),
    }
}

/// The hosts that a listener rule's conditions name.
pub(super) fn hosts(rule: &ListenerRule) -> impl Iterator<Item = &str> {
    let of_host = rule
        .conditions
        .iter()
        .filter(|condition| condition.field.as_deref() == Some("host-header"));
    let values = of_host.filter_map(|condition| {
        let config = condition
            .host_header_config
            .as_ref()
            .and_then(|config| config.values.as_ref());
        config.or(condition.values.as_ref())
    });
    values.flatten().map(String::as_str)
}

fn rule_mut<'t>(table: &'t mut RouteTable, route: &RouteId) -> Option<&'t mut ListenerRule> {
    let mut rules = table.listeners.iter_mut().flat_map(|listener| &mut listener.rules);
    rules.find(|rule| rule.arn == *route)
}

fn one_name(context: &Context, table: &RouteTable, routes: &[RouteId]) -> Result<RuleName, CommandError> {
    let names = routes
        .iter()
        .filter_map(|route| rules::name_of(table, route, &context.settings.wakers));
    let mut names: Vec<RuleName> = names.collect();
    names.sort();
    names.dedup();
    match names.as_slice() {
        [one] => Ok(one.clone()),
        several => Err(refusal(format!(
            "these listener rules would be {} rules ({}): adopt them one by one, or give them one --name",
            several.len(),
            several.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// Whatever speaks against managing it, or could not be looked at, is a refusal: nothing is changed then.
pub(super) fn refuse(preview: &Preview) -> Result<(), CommandError> {
    let problems = preview.problems.iter().map(ToString::to_string);
    let unseen = preview
        .unseen
        .iter()
        .map(|fault| format!("it could not be looked at: {}", fault.sentence()));
    let why: Vec<String> = problems.chain(unseen).collect();
    match why.is_empty() {
        true => Ok(()),
        false => Err(CommandError::Refused(why)),
    }
}

pub(super) async fn machines_of(context: &Context, preview: &Preview) -> Result<Vec<Machine>, CommandError> {
    let ids: Vec<ResourceId> = preview.machines.iter().map(|machine| machine.id.clone()).collect();
    let mut machines = context.driver.compute.machines(&ids).await?;
    machines.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(machines)
}

/// The machines that lack the tag by which the function may start and stop them.
pub(super) fn unmanaged(machines: &[Machine]) -> Vec<ResourceId> {
    let lacks = |machine: &&Machine| machine.tags.get(tags::MANAGED).is_none_or(|value| value != "true");
    machines
        .iter()
        .filter(lacks)
        .map(|machine| machine.id.clone())
        .collect()
}

pub(super) fn machine_changes(machines: &[Machine]) -> Vec<Change> {
    let wanted = BTreeMap::from([(tags::MANAGED.to_owned(), "true".to_owned())]);
    let change = |machine: &Machine| {
        let of = match machine.tags.get("Name") {
            Some(name) => format!("instance {} ({name})", machine.id),
            None => format!("instance {}", machine.id),
        };
        Change::of_tags(of, &machine.tags, &wanted)
    };
    machines.iter().filter_map(change).collect()
}

/// What is no reason to refuse, but good to know.
async fn notes(context: &Context, preview: &Preview) -> Result<Vec<String>, CommandError> {
    let groups = context.driver.gateway.settings_of(&preview.groups).await?;
    let slow = groups
        .values()
        .filter_map(|group| slow_check(&preview.managed.rule.name.0, group));
    Ok(slow
        .map(|finding| format!("{}; {}", finding.what, finding.fix))
        .collect())
}

/// A listener rule in words.
pub(super) fn describe(listener: &Listener, rule: &ListenerRule) -> String {
    let hosts: Vec<&str> = hosts(rule).collect();
    let hosts = match hosts.as_slice() {
        [] => String::new(),
        hosts => format!(", host {}", hosts.join(" ")),
    };
    let priority = rule
        .priority
        .map_or_else(|| "default".to_owned(), |priority| format!("priority {priority}"));
    format!("listener rule {} (port {}, {priority}{hosts})", rule.arn, listener.port)
}

pub(super) fn refusal(why: String) -> CommandError {
    CommandError::Refused(vec![why])
}
