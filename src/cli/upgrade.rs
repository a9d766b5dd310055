//! `upgrade`: other code under the function, and the way back; and what `status` says of the function.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::command::{CommandError, Context};
use super::output::{Format, line, print, table};
use crate::deployed;
use crate::gateway::Gateway;
use crate::upgrade::{self, LATEST, Target, Update, package};

/// Put other code under the function, while the running code serves on until the new has passed its test; or go back.
#[derive(Debug, clap::Args)]
pub struct Upgrade {
    /// The zip of a release.
    #[arg(required_unless_present = "rollback", conflicts_with = "rollback")]
    zip: Option<PathBuf>,
    /// Go back to the code before this one.
    #[arg(long)]
    rollback: bool,
    /// The published version to go back to, if not the newest with other code.
    #[arg(long, requires = "rollback", value_name = "VERSION")]
    to: Option<String>,
}

pub async fn upgrade(context: &Context, args: &Upgrade, format: Format) -> Result<(), CommandError> {
    match &args.zip {
        Some(zip) => replace(context, zip, format).await,
        None => roll_back(context, args.to.as_deref(), format).await,
    }
}

async fn replace(context: &Context, zip: &Path, format: Format) -> Result<(), CommandError> {
    let name = zip.display();
    let package = package::read(zip).map_err(|error| refused(format!("{name} {error}. Nothing was changed.")))?;
    let target = target(context).await?;
    let Target { function, alias, .. } = &target;
    let mut tell = |what: String| {
        if format == Format::Table {
            line(format_args!("{what}"));
        }
    };
    match upgrade::upgrade(&context.deployed, &target, &package, &mut tell).await {
        Ok(report) => {
            let upgrade::Report { version, code, before } = report;
            let value = json!({
                "function": function, "alias": alias, "live": LATEST, "version": version, "code": code, "before": before,
            });
            match format {
                Format::Json => line(format_args!("{value:#}")),
                Format::Table => {
                    line(format_args!(
                        "{name}: version {version} is live, {function}:{alias} -> {LATEST}"
                    ));
                    if let Some(before) = before {
                        line(format_args!(
                            "Back to the code before it (version {before}): proxymanager upgrade --rollback"
                        ));
                    }
                }
            }
            Ok(())
        }
        Err(error) => {
            let standing = standing(context, &target, &package.digest).await;
            Err(refused(format!("{name}: {error}. {standing}")))
        }
    }
}

/// Where a failed upgrade has left the function, and how to go on.
async fn standing(context: &Context, target: &Target, wanted: &str) -> String {
    let Target { function, alias, .. } = target;
    let Ok(seen) = context.deployed.code(function, alias).await else {
        return "What is live now cannot be read: `proxymanager status` says so once it can.".to_owned();
    };
    let live = &seen.live;
    match (live == LATEST, seen.latest.code == wanted) {
        (true, false) => format!("`{alias}` leads to {LATEST}, which does not have the code of this zip."),
        (true, true) => format!(
            "`{alias}` leads to {LATEST}, which has this code: `proxymanager upgrade --rollback` goes back to the code before."
        ),
        (false, is_there) => {
            let latest = if is_there { "the code of this zip" } else { "other code" };
            format!(
                "`{alias}` stays on version {live}, which serves as before. {LATEST} has {latest} and is not live; nor is a \
                 zip that is uploaded in the console. To go on: `proxymanager upgrade ZIP`, with this zip or another."
            )
        }
    }
}

async fn roll_back(context: &Context, to: Option<&str>, format: Format) -> Result<(), CommandError> {
    let target = target(context).await?;
    let Target { function, alias, .. } = &target;
    let done = upgrade::roll_back(&context.deployed, &target, to).await;
    let done = done.map_err(|error| refused(format!("{error}. Nothing was changed.")))?;
    let upgrade::RollBack { live, from, warning } = done;
    let value = json!({ "function": function, "alias": alias, "live": live, "from": from, "warning": warning });
    match format {
        Format::Json => line(format_args!("{value:#}")),
        Format::Table if live == from => line(format_args!(
            "`{alias}` stands on version {live} already; further back: proxymanager upgrade --rollback --to VERSION"
        )),
        Format::Table => {
            line(format_args!("{function}:{alias} -> {live} (was {from})"));
            if let Some(warning) = warning {
                line(format_args!("But {warning}"));
            }
            line(format_args!(
                "{LATEST} keeps the other code and is not live; nor is a zip that is uploaded in the console. To go on: \
                 proxymanager upgrade ZIP"
            ));
        }
    }
    Ok(())
}

/// The function, its versions, and what is live.
pub async fn status(context: &Context, format: Format) -> Result<(), CommandError> {
    let target = target(context).await?;
    let Target { function, alias, .. } = &target;
    let seen = context.deployed.code(function, alias).await?;
    let versions = context.deployed.versions(function).await?;
    let code = versions.iter().find(|(version, _)| *version == seen.live);
    let code = code.map(|(_, code)| code.as_str()).unwrap_or_default();
    let before = upgrade::before(&versions, code);
    let update = match &seen.latest.update {
        Update::InProgress => "in progress".to_owned(),
        Update::Successful => "successful".to_owned(),
        Update::Failed(reason) => format!("failed: {reason}"),
    };
    let uploaded_but_not_live = code != seen.latest.code;
    let value = json!({
        "function": function, "alias": alias, "live": seen.live, "code": code, "architecture": seen.latest.architecture,
        "last_update": update, "uploaded_but_not_live": uploaded_but_not_live, "before": before,
    });
    print(format, &value, || {
        let mut table = table(&[]);
        let mut row = |key: &str, value: &str| {
            table.add_row([key, value]);
        };
        row("function", function);
        row("alias", alias);
        row("leads to", &seen.live);
        row("code", code);
        row("architecture", &seen.latest.architecture);
        row("last update", &update);
        row("version before", before.unwrap_or("none"));
        if uploaded_but_not_live {
            row(
                "note",
                "$LATEST has other code, which is not live: `proxymanager upgrade ZIP` goes on",
            );
        }
        table
    });
    Ok(())
}

/// The one function behind the waker target groups.
async fn target(context: &Context) -> Result<Target, CommandError> {
    let alb = &context.driver.gateway;
    let mut arns = BTreeSet::new();
    let mut wakers = Vec::new();
    for group in &context.settings.wakers {
        let group = match group.is_name() {
            true => match alb.group_named(&group.0).await? {
                Some(found) => found.id,
                None => {
                    return Err(refused(format!(
                        "there is no target group {group} (AUTOSTOPPING_WAKER)"
                    )));
                }
            },
            false => group.clone(),
        };
        let health = alb.health(&[(group.clone(), true)]).await?;
        wakers.push(group);
        arns.extend(
            health
                .into_iter()
                .flat_map(|group| group.targets)
                .map(|target| target.resource.0),
        );
    }
    let mut found = arns.iter();
    let (Some(arn), None, Some(group)) = (found.next(), found.next(), wakers.first()) else {
        let arns = if arns.is_empty() {
            "none".to_owned()
        } else {
            Vec::from_iter(arns).join(", ")
        };
        return Err(refused(format!(
            "the waker target groups (AUTOSTOPPING_WAKER) have to lead to one function, and have: {arns}. Nothing was changed."
        )));
    };
    match deployed::parts(arn) {
        (function, Some(alias)) if alias != LATEST && alias.parse::<u64>().is_err() => Ok(Target {
            function: function.to_owned(),
            alias: alias.to_owned(),
            group: group.0.clone(),
        }),
        _ => Err(refused(format!(
            "the waker target group has {arn}, which is not an alias of the function, so there is nothing that could lead to \
             the old code while the new is tried. Register the alias of the function. Nothing was changed."
        ))),
    }
}

fn refused(sentence: String) -> CommandError {
    CommandError::Refused(vec![sentence])
}
