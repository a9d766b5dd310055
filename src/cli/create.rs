//! `proxymanager create`: a site from nothing but its machines: target group, listener rule, tags. Each step may have been
//! made before, so an interrupted run is finished by running it again.

use std::collections::BTreeMap;

use super::adopt::{machine_changes, refusal, refuse, unmanaged};
use super::change::{Change, Step, agree, show};
use super::command::{CommandError, Context};
use super::output::{Format, line};
use super::policy::PolicyArgs;
use super::site::{group_name, host, path};
use crate::config::tags;
use crate::domain::account::{GroupSettings, Machine, NewGroup, NewRoute};
use crate::domain::rule::{Action, Config, GroupId, ResourceId, RouteId, final_action};
use crate::domain::seen::{GroupHealth, Power, TargetSeen};
use crate::domain::table::{Listener, ListenerRule, RouteTable};
use crate::gateway::Gateway;
use crate::rules::{self, place};

/// A priority may be taken between our look and our write; this often is looked again.
const LOOKS: usize = 5;

/// Make a site that sleeps: target group, listener rule and tags, for instances that run.
#[derive(Debug, Clone, clap::Args)]
pub struct Create {
    /// The host that people open, such as app.example.com; `*` is any text.
    #[arg(long, value_parser = host)]
    host: String,
    /// An instance that serves it (repeatable).
    #[arg(long = "instance", required = true, value_name = "ID")]
    instances: Vec<String>,
    /// The port it serves on.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The protocol it speaks there.
    #[arg(long, default_value = "http", value_parser = ["http", "https"])]
    protocol: String,
    /// Only these paths, such as /app/*
    #[arg(long, value_parser = path)]
    path: Option<String>,
    /// The path that is checked for health.
    #[arg(long, default_value = "/", value_parser = path)]
    health_path: String,
    /// The answers that pass the check.
    #[arg(long, default_value = "200-399")]
    health_codes: String,
    /// The listener to put it on, when several are watched.
    #[arg(long, value_name = "ARN")]
    listener: Option<String>,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Make the changes without asking.
    #[arg(long)]
    yes: bool,
}

/// What is there and what is to be made.
struct Site {
    listener: Listener,
    group: NewGroup,
    /// The group, if it is there.
    made: Option<GroupId>,
    /// The instances that are not registered yet.
    unregistered: Vec<ResourceId>,
    machines: Vec<Machine>,
    /// The listener rule, if it is there.
    rule: Option<ListenerRule>,
    tags: BTreeMap<String, String>,
}

pub async fn create(context: &Context, args: &Create, format: Format) -> Result<(), CommandError> {
    let table = context.driver.table_now().await?;
    let site = look(context, &table, args).await?;
    let priority = match &site.rule {
        Some(_) => None,
        None => Some(
            place::priority(&site.listener, &args.host, args.path.as_deref())
                .map_err(|why| refusal(why.to_string()))?,
        ),
    };
    let name = judge(context, &table, &site, args, priority).await?;
    let changes = changes(&site, args, priority);
    if changes.is_empty() {
        match format {
            Format::Json => show(format, &name, &changes, &[]),
            Format::Table => line(format_args!("{name} is there already: nothing to change")),
        }
        return Ok(());
    }
    show(format, &name, &changes, &[]);
    agree(args.yes, format)?;
    make(context, site, args).await?;
    if format == Format::Table {
        line(format_args!("{name} is made: `proxymanager status {name}` shows it"));
    }
    Ok(())
}

async fn look(context: &Context, table: &RouteTable, args: &Create) -> Result<Site, CommandError> {
    let listener = listener(table, args.listener.as_deref())?;
    let machines = machines(context, &args.instances).await?;
    let group = NewGroup {
        name: group_name(args.policy.name.as_deref().unwrap_or(&args.host)),
        protocol: args.protocol.to_ascii_uppercase(),
        port: args.port,
        vpc: machines.first().and_then(|machine| machine.vpc.clone()),
        path: args.health_path.clone(),
        codes: args.health_codes.clone(),
    };
    let there = context.driver.gateway.group_named(&group.name).await?;
    let registered = match &there {
        Some(there) => registered(context, there, &group, &args.instances).await?,
        None => Vec::new(),
    };
    let unregistered = args
        .instances
        .iter()
        .map(|id| ResourceId(id.clone()))
        .filter(|id| !registered.contains(id));
    let unregistered: Vec<_> = unregistered.collect();
    let down = machines
        .iter()
        .find(|machine| unregistered.contains(&machine.id) && machine.power != Power::Running);
    if let Some(down) = down {
        return Err(refusal(
            format!(
                "{} is {:?}, and AWS registers only instances that run: start it first",
                down.id, down.power
            )
            .to_ascii_lowercase(),
        ));
    }
    let rule = place::same_site(listener, &args.host, args.path.as_deref()).cloned();
    let made = there.map(|there| there.id);
    if let Some(rule) = &rule {
        ours(context, table, rule, made.as_ref())?;
    }
    let before = rule.as_ref().map(|rule| rule.tags.clone()).unwrap_or_default();
    Ok(Site {
        listener: listener.clone(),
        group,
        made,
        unregistered,
        machines,
        tags: args.policy.tags(&before),
        rule,
    })
}

fn listener<'t>(table: &'t RouteTable, wanted: Option<&str>) -> Result<&'t Listener, CommandError> {
    let arns: Vec<&str> = table.listeners.iter().map(|listener| listener.arn.as_str()).collect();
    let found = match wanted {
        Some(arn) => table.listeners.iter().find(|listener| listener.arn == arn),
        None if arns.len() == 1 => table.listeners.first(),
        None => None,
    };
    found.ok_or_else(|| {
        refusal(format!(
            "name one of the watched listeners with --listener: {}",
            arns.join(", ")
        ))
    })
}

async fn machines(context: &Context, ids: &[String]) -> Result<Vec<Machine>, CommandError> {
    let ids: Vec<ResourceId> = ids.iter().cloned().map(ResourceId).collect();
    let mut machines = context.driver.compute.machines(&ids).await?;
    machines.sort_by(|one, other| one.id.cmp(&other.id));
    let there = |id: &ResourceId| {
        machines
            .iter()
            .any(|machine| machine.id == *id && machine.power != Power::Terminated)
    };
    if let Some(unknown) = ids.iter().find(|id| !there(id)) {
        return Err(refusal(format!(
            "there is no instance {unknown} in this account and Region"
        )));
    }
    if machines.iter().any(|machine| machine.vpc != machines[0].vpc) {
        return Err(refusal(
            "the instances are in different VPCs, and a target group is in one".to_owned(),
        ));
    }
    Ok(machines)
}

/// The instances of the group that is there, if it is one that an earlier run of this command made.
async fn registered(
    context: &Context,
    there: &GroupSettings,
    new: &NewGroup,
    wanted: &[String],
) -> Result<Vec<ResourceId>, CommandError> {
    let other = |what: String| {
        refusal(format!(
            "there is a target group {} already, {what}: choose another --name, or adopt the listener rule that leads there",
            new.name
        ))
    };
    let same = there.kind == "instance"
        && there.protocol.as_deref() == Some(&new.protocol)
        && there.port == Some(new.port)
        && (there.vpc == new.vpc || there.vpc.is_none() || new.vpc.is_none());
    if !same {
        return Err(other("with another type, protocol, port or VPC".to_owned()));
    }
    let health = context.driver.gateway.health(&[(there.id.clone(), true)]).await?;
    let targets: Vec<ResourceId> = health
        .into_iter()
        .flat_map(|group| group.targets)
        .map(|target| target.resource)
        .collect();
    match targets.iter().find(|target| !wanted.contains(&target.0)) {
        Some(stranger) => Err(other(format!("with the instance {stranger}"))),
        None => Ok(targets),
    }
}

/// A rule that is there has to be the one that an earlier run made; it may sleep by now.
fn ours(
    context: &Context,
    table: &RouteTable,
    rule: &ListenerRule,
    group: Option<&GroupId>,
) -> Result<(), CommandError> {
    let wakers = &context.settings.wakers;
    let parked = table.listeners.iter().flat_map(|listener| &listener.rules);
    let parked = parked.filter(|other| other.parks() == Some(&rule.arn.0));
    let leads = |rule: &ListenerRule| final_action(&rule.actions).map(Action::groups).unwrap_or_default();
    let mut groups: Vec<GroupId> = leads(rule)
        .into_iter()
        .chain(parked.flat_map(leads))
        .map(|(group, _)| group)
        .collect();
    groups.retain(|group| !group.is_among(wakers));
    groups.dedup();
    match (groups.as_slice(), group) {
        ([one], Some(group)) if one == group => Ok(()),
        _ => Err(refusal(format!(
            "the listener has a rule for this site already: `proxymanager adopt {}`",
            rule.arn
        ))),
    }
}

/// The judgement of a look, were everything made. Returns the rule's name.
async fn judge(
    context: &Context,
    table: &RouteTable,
    site: &Site,
    args: &Create,
    priority: Option<u32>,
) -> Result<String, CommandError> {
    let group = site
        .made
        .clone()
        .unwrap_or_else(|| GroupId(format!("to-be-made:targetgroup/{}/new", site.group.name)));
    let mut planned = table.clone();
    let route = site
        .rule
        .as_ref()
        .map_or_else(|| RouteId("the new listener rule".to_owned()), |rule| rule.arn.clone());
    let listener = planned
        .listeners
        .iter_mut()
        .find(|listener| listener.arn == site.listener.arn);
    if let Some(listener) = listener {
        match listener.rules.iter_mut().find(|rule| rule.arn == route) {
            Some(rule) => rule.tags.extend(site.tags.clone()),
            None => listener.rules.push(ListenerRule {
                arn: route.clone(),
                priority,
                conditions: place::conditions(&args.host, args.path.as_deref()),
                actions: vec![Action {
                    kind: "forward".to_owned(),
                    order: Some(1),
                    target_group_arn: Some(group.clone()),
                    forward_config: None,
                    rest: Config::default(),
                }],
                transforms: Vec::new(),
                tags: site.tags.clone(),
            }),
        }
    }
    let target = |machine: &Machine| TargetSeen {
        resource: machine.id.clone(),
        healthy: false,
        words: "to be registered".to_owned(),
    };
    let made = GroupHealth {
        id: group,
        weighted: true,
        target_type: "instance".to_owned(),
        targets: site.machines.iter().map(target).collect(),
    };
    let name = rules::name_of(&planned, &route, &context.settings.wakers);
    let name = name.ok_or_else(|| refusal("the listener is gone".to_owned()))?;
    let here = context.driver.ways_now(&planned).await;
    let preview = context.driver.preview(&planned, &name, &[made], &here).await?;
    refuse(&preview.ok_or_else(|| refusal(format!("{name} would be no rule")))?)?;
    Ok(name.0)
}

fn changes(site: &Site, args: &Create, priority: Option<u32>) -> Vec<Change> {
    let mut changes = Vec::new();
    let new = &site.group;
    let mut steps = Vec::new();
    if site.made.is_none() {
        steps.push(Step::Add(format!(
            "{} on port {}, checked at {} every 5 s, healthy after 2 answers of {}",
            new.protocol, new.port, new.path, new.codes
        )));
    }
    steps.extend(site.unregistered.iter().map(|id| Step::Add(format!("instance {id}"))));
    if !steps.is_empty() {
        changes.push(Change {
            of: format!("target group {}", new.name),
            steps,
        });
    }
    changes.extend(machine_changes(&site.machines));
    match (&site.rule, priority) {
        (Some(rule), _) => {
            changes.extend(Change::of_tags(
                super::adopt::describe(&site.listener, rule),
                &rule.tags,
                &site.tags,
            ));
        }
        (None, priority) => {
            let mut steps = vec![Step::Add(format!(
                "host {}{}: forward to {}",
                args.host,
                args.path
                    .as_ref()
                    .map(|path| format!(", path {path}"))
                    .unwrap_or_default(),
                new.name
            ))];
            steps.extend(
                site.tags
                    .iter()
                    .map(|(key, value)| Step::Add(format!("{key} = {value}"))),
            );
            changes.push(Change {
                of: format!(
                    "listener rule on port {} with priority {}",
                    site.listener.port,
                    priority.unwrap_or_default()
                ),
                steps,
            });
        }
    }
    changes
}

/// In this order, so that what is opted in has all it needs.
async fn make(context: &Context, site: Site, args: &Create) -> Result<(), CommandError> {
    let (alb, ec2) = (&context.driver.gateway, &context.driver.compute);
    let group = match site.made {
        Some(group) => group,
        None => alb.create_group(&site.group).await?,
    };
    if !site.unregistered.is_empty() {
        alb.register(&group, &site.unregistered).await?;
    }
    ec2.tag(&unmanaged(&site.machines), tags::MANAGED, "true").await?;
    if let Some(rule) = &site.rule {
        return Ok(alb.tag(&rule.arn, &site.tags).await?);
    }
    let mut listener = site.listener;
    for _ in 0..LOOKS {
        let priority = place::priority(&listener, &args.host, args.path.as_deref());
        let new = NewRoute {
            listener: listener.arn.clone(),
            priority: priority.map_err(|why| refusal(why.to_string()))?,
            host: args.host.clone(),
            path: args.path.clone(),
            group: group.clone(),
            tags: site.tags.clone(),
        };
        if alb.create_route(&new).await?.is_some() {
            return Ok(());
        }
        // Taken since: by a stranger, or by this very call, whose answer was lost.
        let table = context.driver.table_now().await?;
        let found = table.listeners.into_iter().find(|found| found.arn == listener.arn);
        listener = found.ok_or_else(|| refusal("the listener is gone".to_owned()))?;
        if place::same_site(&listener, &args.host, args.path.as_deref()).is_some() {
            return Ok(());
        }
    }
    Err(refusal(
        "others make listener rules at the same time: run this again, it finishes".to_owned(),
    ))
}
