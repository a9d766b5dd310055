//! Certificates and keys out of Secrets Manager.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::{Aws, JsonOperation, fault, incomplete, json};
use crate::config::certificate::Material;
use crate::domain::fault::Fault;

const GET: &str = "secretsmanager:GetSecretValue";

/// The adapter to Secrets Manager.
#[derive(Debug, Clone)]
pub struct Secrets {
    get: JsonOperation,
}

/// The current version of a secret. Source: AWS Secrets Manager API reference, GetSecretValue.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Secret {
    version_id: String,
    secret_string: Option<String>,
    /// Base64.
    secret_binary: Option<String>,
}

impl Secrets {
    /// Certificate and key, each from a secret given by its name or ARN; without `key` both are in one. What changes between
    /// two reads is told by [`Material::versions`].
    ///
    /// # Errors
    /// What Secrets Manager refuses, and a value that is no text. Never with any part of the value.
    pub async fn material(&self, certificate: &str, key: Option<&str>) -> Result<Material, Fault> {
        let (version, chain) = self.text(certificate).await?;
        let (versions, key) = match key {
            Some(key) => {
                let (key_version, key) = self.text(key).await?;
                (vec![version, key_version], key)
            }
            None => (vec![version], chain.clone()),
        };
        Ok(Material { versions, chain, key })
    }

    /// The version's id and its value.
    async fn text(&self, id: &str) -> Result<(String, String), Fault> {
        let answer = self.get.call(serde_json::json!({ "SecretId": id })).await;
        let answer = answer.map_err(|error| fault(GET, error))?;
        // serde's words would quote what it could not read.
        let secret: Secret = serde_json::from_value(answer).map_err(|_| incomplete(GET, "a version or a value"))?;
        let text = match (secret.secret_string, secret.secret_binary) {
            (Some(text), _) => Some(text),
            (None, Some(binary)) => BASE64_STANDARD
                .decode(binary)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok()),
            (None, None) => None,
        };
        let text = text.ok_or_else(|| incomplete(GET, &format!("text: {id} has to be PEM")))?;
        Ok((secret.version_id, text))
    }
}

impl Aws {
    /// Secrets Manager.
    pub fn secrets(&self) -> Secrets {
        let call = json::Call {
            target: "secretsmanager.GetSecretValue",
            content_type: "application/x-amz-json-1.1",
        };
        let service = self.regional("secretsmanager", self.endpoints.secrets.as_ref());
        Secrets {
            get: self.json(call, service),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("version_id", &self.version_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Answer, Wire};
    use crate::domain::fault::FaultKind;

    #[tokio::test]
    async fn refusals_and_odd_values_are_faults_without_the_value() {
        for (answer, kind, words) in [
            (
                Answer::json_error("ResourceNotFoundException", "no such secret"),
                FaultKind::NotFound,
                "no such secret",
            ),
            (
                Answer::json_error("DecryptionFailure", "no key"),
                FaultKind::Denied,
                "no key",
            ),
            (
                Answer::json_error("InvalidRequestException", "marked for deletion"),
                FaultKind::Conflict,
                "marked",
            ),
            (
                Answer::ok(r#"{"VersionId":"1","SecretBinary":"/w=="}"#),
                FaultKind::Other,
                "has to be PEM",
            ),
            (Answer::ok(r#"{"VersionId":"1"}"#), FaultKind::Other, "has to be PEM"),
            (
                Answer::ok(r#"{"VersionId":7,"SecretString":"hidden"}"#),
                FaultKind::Other,
                "a version",
            ),
        ] {
            let wire = Wire::new(vec![("GetSecretValue", answer)]);
            let fault = wire.aws().secrets().material("tls", None).await.unwrap_err();
            assert_eq!(fault.kind, kind, "{fault}");
            assert!(
                fault.message.contains(words) && !fault.message.contains("hidden"),
                "{fault}"
            );
        }
    }
}
