//! `proxymanager doctor`: what is wrong, and how to mend it.

use serde_json::json;

use super::command::{CommandError, Context, no_such_rule};
use super::output::{Format, line};
use crate::clock::{Clock, SystemClock};
use crate::doctor::{self, Severity};
use crate::domain::rule::RuleName;
use crate::rules::Rules;

/// What takes a permission or a service that this command line does not use.
const NOT_LOOKED_AT: &str = "whether a Route 53 alias of the load balancer has EvaluateTargetHealth: it has to be off, \
    or one sleeping site takes the others' name down";

/// Look for what is wrong with the rules, the function, the schedule and the quotas; 1 when something is.
#[derive(Debug, Clone, clap::Args)]
pub struct Doctor {
    /// The rule's name; all rules without it.
    rule: Option<String>,
    /// Look at this machine as a proxy instead: its services, ports, targets, certificates.
    #[cfg(feature = "proxy")]
    #[arg(long, conflicts_with = "rule")]
    pub proxy: bool,
    /// The proxy's configuration file.
    #[cfg(feature = "proxy")]
    #[arg(long, requires = "proxy", default_value = super::proxy::CONFIG)]
    config: std::path::PathBuf,
}

/// Prints what was found, and whether that was nothing.
pub async fn doctor(context: &Context, args: &Doctor, format: Format) -> Result<bool, CommandError> {
    let only = args.rule.clone().map(RuleName);
    let facts = doctor::gather(context, only.as_ref()).await;
    if let (Some(only), Some(table)) = (&only, &facts.table) {
        let rules = Rules::new(table, &context.driver.settings);
        if rules.get(only).is_none() {
            return Err(no_such_rule(&only.0, rules.iter().map(|managed| &managed.rule.name)));
        }
    }
    let findings = doctor::findings(SystemClock.now(), &facts);
    match format {
        Format::Json => line(format_args!(
            "{:#}",
            json!({ "findings": findings, "rules": facts.rules.len(), "not_looked_at": [NOT_LOOKED_AT] })
        )),
        Format::Table => {
            let count = list(&findings);
            let rules = match facts.rules.len() {
                1 => "1 rule".to_owned(),
                count => format!("{count} rules"),
            };
            line(format_args!("{rules} looked at: {count}"));
            line(format_args!("Not looked at: {NOT_LOOKED_AT}"));
        }
    }
    Ok(findings.is_empty())
}

/// Prints the findings; how many there are, in words.
fn list(findings: &[doctor::Finding]) -> String {
    for finding in findings {
        let severity = match finding.severity {
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
        };
        line(format_args!("{severity} {} ({})", finding.of, finding.code));
        line(format_args!("  {}", finding.what));
        line(format_args!("  Fix: {}", finding.fix));
    }
    match findings.len() {
        0 => "nothing is wrong".to_owned(),
        1 => "1 finding".to_owned(),
        count => format!("{count} findings"),
    }
}

/// As [`doctor`], for this machine as a proxy.
#[cfg(feature = "proxy")]
pub async fn proxy(args: &Doctor, format: Format) -> Result<bool, super::proxy::ProxyError> {
    use super::proxy::{ProxyError, call, read};
    use crate::config::Environment;
    use crate::doctor::proxy::{Places, findings, gather};

    let config = read(&args.config)?;
    let status = call(&config, "GET", "/status").await.map_err(|error| error.to_string());
    // Without a Region there is nothing of AWS to look at.
    let aws = crate::wiring::for_proxy(&Environment, &config).await;
    let aws = aws.map_err(|errors| ProxyError::Configuration(errors.to_string()))?;
    let instance = match &aws {
        Some(aws) => aws.instance_id().await,
        None => None,
    };
    let (now, places) = (SystemClock.now(), Places::default());
    let facts = gather(now, &config, &places, status, aws.as_ref(), instance.as_ref()).await;
    let findings = findings(&facts);
    match format {
        Format::Json => line(format_args!("{:#}", json!({ "findings": findings }))),
        Format::Table => {
            let count = list(&findings);
            line(format_args!("the proxy was looked at: {count}"));
        }
    }
    Ok(findings.is_empty())
}
