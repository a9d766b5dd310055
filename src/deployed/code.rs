//! The function's code, its versions and its alias: what an upgrade reads and writes.

use std::time::Duration;

use aws_sdk_lambda::config::Builder;
use aws_sdk_lambda::types::{Architecture, LastUpdateStatus, State};
use aws_smithy_types::Blob;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use serde_json::Value;

use super::Lambda;
use crate::aws::{fault, incomplete};
use crate::domain::fault::{Fault, FaultKind};
use crate::upgrade::package::Package;
use crate::upgrade::proof::Answered;
use crate::upgrade::{Latest, Seen, Update};

const GET_ALIAS: &str = "lambda:GetAlias";
const GET_CONFIGURATION: &str = "lambda:GetFunctionConfiguration";
const INVOKE: &str = "lambda:InvokeFunction";
const LIST: &str = "lambda:ListVersionsByFunction";
const PUBLISH: &str = "lambda:PublishVersion";
const UPDATE_ALIAS: &str = "lambda:UpdateAlias";
const UPDATE_CODE: &str = "lambda:UpdateFunctionCode";

/// 50 MB over a slow line.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Longer than the function may take.
const INVOKE_TIMEOUT: Duration = Duration::from_secs(90);

impl Lambda {
    /// The alias and `$LATEST`, which may have changed already when this is read.
    ///
    /// # Errors
    /// [`FaultKind::NotFound`] when there is no such function or alias, [`FaultKind::Conflict`] when the alias splits its
    /// traffic between versions; others as AWS answers.
    pub async fn code(&self, function: &str, alias: &str) -> Result<Seen, Fault> {
        let call = self.client.get_alias().function_name(function).name(alias);
        let pointer = call.send().await.map_err(|error| fault(GET_ALIAS, error))?;
        let weights = pointer
            .routing_config()
            .and_then(|routing| routing.additional_version_weights());
        if weights.is_some_and(|weights| !weights.is_empty()) {
            let words = "the alias splits its traffic between versions: put it on one before";
            return Err(Fault::new(FaultKind::Conflict, GET_ALIAS, words));
        }
        let call = self.client.get_function_configuration().function_name(function);
        let latest = call.send().await.map_err(|error| fault(GET_CONFIGURATION, error))?;
        let lacks = |what| move || incomplete(GET_CONFIGURATION, what);
        let update = match latest.last_update_status() {
            Some(LastUpdateStatus::InProgress) => Update::InProgress,
            Some(LastUpdateStatus::Failed) => Update::Failed(
                latest
                    .last_update_status_reason()
                    .unwrap_or("it does not say why")
                    .to_owned(),
            ),
            _ if latest.state() == Some(&State::Pending) => Update::InProgress,
            _ => Update::Successful,
        };
        let architecture = latest.architectures().first().map(|name| name.as_str().to_owned());
        Ok(Seen {
            live: pointer
                .function_version
                .ok_or_else(|| incomplete(GET_ALIAS, "the version"))?,
            alias_revision: pointer
                .revision_id
                .ok_or_else(|| incomplete(GET_ALIAS, "the revision"))?,
            latest: Latest {
                // Functions from before there was a choice have none.
                architecture: architecture.unwrap_or_else(|| "x86_64".to_owned()),
                update,
                code: latest.code_sha256.ok_or_else(lacks("the code's digest"))?,
                revision: latest.revision_id.ok_or_else(lacks("the revision"))?,
            },
        })
    }

    /// The versions and the digests of their code: `$LATEST`, then the numbers from the oldest to the newest.
    ///
    /// # Errors
    /// As AWS answers.
    pub async fn versions(&self, function: &str) -> Result<Vec<(String, String)>, Fault> {
        let pages = self
            .client
            .list_versions_by_function()
            .function_name(function)
            .into_paginator();
        let mut pages = pages.items().send();
        let mut versions = Vec::new();
        while let Some(version) = pages.next().await {
            let version = version.map_err(|error| fault(LIST, error))?;
            versions.extend(version.version.zip(version.code_sha256));
        }
        // Listed as texts, 10 comes before 9.
        versions.sort_by_key(|(version, _)| version.parse::<u64>().unwrap_or_default());
        Ok(versions)
    }

    /// Publishes `$LATEST` as it was seen, and returns the version once it can be used: no new one, when nothing has changed
    /// since the last.
    ///
    /// # Errors
    /// [`FaultKind::Conflict`] when somebody has changed the function since; others as AWS answers.
    pub async fn publish(&self, function: &str, seen: &Latest) -> Result<String, Fault> {
        const PATIENCE: u32 = 120;
        let call = self.client.publish_version().function_name(function);
        let call = call.code_sha256(&seen.code).revision_id(&seen.revision);
        let published = call.send().await.map_err(|error| fault(PUBLISH, error))?;
        let mut state = published.state;
        let version = published.version.ok_or_else(|| incomplete(PUBLISH, "the version"))?;
        for _ in 0..PATIENCE {
            match state {
                Some(State::Pending) => tokio::time::sleep(Duration::from_millis(500)).await,
                Some(State::Failed) => {
                    let words = format!("version {version} was published, but Lambda cannot run it");
                    return Err(Fault::new(FaultKind::Other, PUBLISH, words));
                }
                _ => return Ok(version),
            }
            let call = self
                .client
                .get_function_configuration()
                .function_name(function)
                .qualifier(&version);
            state = call
                .send()
                .await
                .map_err(|error| fault(GET_CONFIGURATION, error))?
                .state;
        }
        let words = format!("version {version} was published, but is not active yet");
        Err(Fault::new(FaultKind::Other, PUBLISH, words))
    }

    /// Puts the alias on a version.
    ///
    /// # Errors
    /// [`FaultKind::Conflict`] when somebody has moved it since it was seen; others as AWS answers.
    pub async fn point(&self, function: &str, alias: &str, seen: &Seen, version: &str) -> Result<(), Fault> {
        let call = self.client.update_alias().function_name(function).name(alias);
        let call = call.function_version(version).revision_id(&seen.alias_revision);
        call.send().await.map(drop).map_err(|error| fault(UPDATE_ALIAS, error))
    }

    /// Uploads a zip to `$LATEST`.
    ///
    /// # Errors
    /// [`FaultKind::Conflict`] when somebody has changed the function since it was seen; others as AWS answers.
    pub async fn upload(&self, function: &str, seen: &Latest, package: &Package) -> Result<(), Fault> {
        let call = self.client.update_function_code().function_name(function);
        let call = call
            .zip_file(Blob::new(package.zip.as_slice()))
            // Its default is x86_64, whatever the function was made with.
            .architectures(Architecture::from(seen.architecture.as_str()))
            .revision_id(&seen.revision);
        let answer = call.customize().config_override(once(UPLOAD_TIMEOUT)).send().await;
        answer.map(drop).map_err(|error| fault(UPDATE_CODE, error))
    }

    /// Invokes one version with an event and waits for its answer.
    ///
    /// # Errors
    /// As AWS answers; a function that fails is an answer.
    pub async fn invoke(&self, function: &str, version: &str, event: &Value) -> Result<Answered, Fault> {
        let call = self.client.invoke().function_name(function).qualifier(version);
        let call = call.payload(Blob::new(event.to_string()));
        let answer = call.customize().config_override(once(INVOKE_TIMEOUT)).send().await;
        let answer = answer.map_err(|error| fault(INVOKE, error))?;
        let payload = answer.payload().map(Blob::as_ref).unwrap_or_default();
        Ok(Answered {
            payload: serde_json::from_slice(payload)
                .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(payload).into_owned())),
            failed: answer.function_error().is_some(),
        })
    }
}

/// One attempt: what is sent again after a lost answer would meet a revision that it has changed itself.
fn once(timeout: Duration) -> Builder {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(timeout)
        .operation_timeout(timeout);
    Builder::new()
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.build())
}
