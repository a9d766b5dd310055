//! `proxymanager proxy forget-records`: the names that lead to the proxy and shall no more.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::change::agree;
use super::output::{Format, line};
use super::proxy::{ProxyError, call};
use crate::config::Environment;
use crate::config::proxy::ProxyConfig;
use crate::proxy::records::{target, zone};
use crate::wiring::for_proxy;

/// Which records.
#[derive(Debug, clap::Args)]
pub struct ForgetRecords {
    /// Those of rules that are there too: do this before the proxy's address is given back.
    #[arg(long)]
    all: bool,
    /// Without asking.
    #[arg(long)]
    yes: bool,
}

/// Removes the records that the proxy has made, that lead to it, and whose names no rule has.
///
/// # Errors
/// When nobody agrees, and what the daemon or Route 53 refuses.
pub async fn forget_records(config: &ProxyConfig, args: &ForgetRecords, format: Format) -> Result<(), ProxyError> {
    let aws = for_proxy(&Environment, config).await;
    let aws = aws.map_err(|errors| ProxyError::Configuration(errors.to_string()))?;
    let Some((zone, aws)) = aws.and_then(|aws| Some((zone(config, &aws)?, aws))) else {
        let why = "no record is made without hostedZone and a Region in the configuration";
        return Err(ProxyError::Configuration(why.to_owned()));
    };
    let kept = match args.all {
        true => BTreeSet::new(),
        // Without the daemon nobody knows which names are in use.
        false => hosts(&call(config, "GET", "/status").await?),
    };
    let Some(target) = target(config, &aws).await else {
        let why = "where the records lead is not known: this is no machine of EC2; set address in the configuration";
        return Err(ProxyError::Configuration(why.to_owned()));
    };
    let refused = |error: &dyn std::fmt::Display| ProxyError::Refused(error.to_string());
    let own = zone.own(&target).await.map_err(|fault| refused(&fault.sentence()))?;
    let names: BTreeSet<String> = own.into_iter().filter(|name| !kept.contains(name)).collect();
    if format == Format::Table {
        for name in &names {
            line(format_args!("{name}: its record and the mark beside it are deleted"));
        }
    }
    let gone = match names.is_empty() {
        true => Vec::new(),
        false => {
            agree(args.yes, format).map_err(|error| refused(&error))?;
            let gone = zone.forget(&names, &target).await;
            gone.map_err(|fault| refused(&fault.sentence()))?
        }
    };
    match format {
        Format::Json => line(format_args!("{:#}", json!({ "forgotten": gone }))),
        Format::Table if gone.is_empty() => line(format_args!("there is no record to forget")),
        Format::Table => line(format_args!("forgotten: {}", gone.join(", "))),
    }
    Ok(())
}

/// The hosts of all rules in a report of the daemon.
fn hosts(report: &Value) -> BTreeSet<String> {
    let rules = report["rules"].as_array().into_iter().flatten();
    let hosts = rules.flat_map(|rule| rule["hosts"].as_array().into_iter().flatten());
    hosts.filter_map(Value::as_str).map(str::to_owned).collect()
}
