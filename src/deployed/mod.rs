//! The function as it is deployed: what Lambda says of it. Only the command line asks.

mod code;

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_lambda::types::FunctionConfiguration;

use crate::aws::{fault, incomplete};
use crate::domain::account::Deployed;
use crate::domain::fault::{Fault, FaultKind};

const GET_CONFIGURATION: &str = "lambda:GetFunctionConfiguration";
const GET_POLICY: &str = "lambda:GetPolicy";
const LATEST: &str = "$LATEST";

/// The adapter to Lambda.
#[derive(Debug, Clone)]
pub struct Lambda {
    client: aws_sdk_lambda::Client,
}

impl Lambda {
    /// Makes no call.
    pub fn new(client: aws_sdk_lambda::Client) -> Self {
        Lambda { client }
    }

    /// The function behind an ARN, with or without a qualifier.
    ///
    /// # Errors
    /// [`FaultKind::NotFound`] when there is no such function, version or alias; others as AWS answers.
    pub async fn read(&self, arn: &str) -> Result<Deployed, Fault> {
        let (function, qualifier) = parts(arn);
        let live = self.configuration(function, qualifier).await?;
        let latest = match live.version() {
            Some(LATEST) => live.clone(),
            Some(_) | None => self.configuration(function, None).await?,
        };
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let environment = live.environment().and_then(|environment| environment.variables());
        Ok(Deployed {
            arn: arn.to_owned(),
            version: text(live.version()),
            state: text(live.state().map(|state| state.as_str())),
            state_reason: live.state_reason().map(str::to_owned),
            last_update: live.last_update_status().map(|status| status.as_str().to_owned()),
            timeout: Duration::from_secs(u64::try_from(live.timeout().unwrap_or_default()).unwrap_or_default()),
            environment: environment
                .map(|variables| variables.clone().into_iter().collect())
                .unwrap_or_else(BTreeMap::new),
            code: text(live.code_sha256()),
            latest_code: text(latest.code_sha256()),
            policy: self.policy(function, qualifier).await?,
        })
    }

    async fn configuration(&self, function: &str, qualifier: Option<&str>) -> Result<FunctionConfiguration, Fault> {
        let call = self.client.get_function_configuration().function_name(function);
        let answer = call.set_qualifier(qualifier.map(str::to_owned)).send().await;
        let answer = answer.map_err(|error| fault(GET_CONFIGURATION, error))?;
        if answer.version().is_none() || answer.code_sha256().is_none() {
            return Err(incomplete(GET_CONFIGURATION, "the version or the code's digest"));
        }
        Ok(FunctionConfiguration::builder()
            .set_version(answer.version)
            .set_state(answer.state)
            .set_state_reason(answer.state_reason)
            .set_last_update_status(answer.last_update_status)
            .set_timeout(answer.timeout)
            .set_environment(answer.environment)
            .set_code_sha256(answer.code_sha256)
            .build())
    }

    async fn policy(&self, function: &str, qualifier: Option<&str>) -> Result<Option<String>, Fault> {
        let call = self.client.get_policy().function_name(function);
        let answer = call.set_qualifier(qualifier.map(str::to_owned)).send().await;
        match answer.map_err(|error| fault(GET_POLICY, error)) {
            Ok(answer) => Ok(answer.policy),
            Err(fault) if fault.kind == FaultKind::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}

/// The ARN of the function itself, and the qualifier: `arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]`.
pub fn parts(arn: &str) -> (&str, Option<&str>) {
    match arn.match_indices(':').nth(6) {
        Some((end, _)) => (&arn[..end], Some(&arn[end + 1..])),
        None => (arn, None),
    }
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn an_arn_has_a_qualifier_or_none() {
        let function = "arn:aws:lambda:us-east-1:123456789012:function:waker";
        assert_eq!(parts(function), (function, None));
        assert_eq!(parts(&format!("{function}:live")), (function, Some("live")));
    }
}
