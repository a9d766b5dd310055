//! One operation of a service that speaks AWS JSON 1.0, with the SDK's own signing, retries, time-outs and connections,
//! but without the SDK's crate for the service: GetMetricData alone would bring the whole of CloudWatch, a tenth of the
//! function. Source: Smithy, "AWS JSON 1.0 protocol".

use std::fmt;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_runtime::auth::SigV4OperationSigningConfig;
use aws_runtime::auth::sigv4::{SCHEME_ID, SigV4AuthScheme};
use aws_runtime::retries::classifiers::AwsErrorCodeClassifier;
use aws_sdk_ec2::config::{BehaviorVersion, Region, StalledStreamProtectionConfig};
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime::client::retries::classifiers::{HttpStatusCodeClassifier, TransientErrorClassifier};
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::auth::{
    AuthSchemeOptionResolverParams, SharedAuthScheme, SharedAuthSchemeOptionResolver,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::{FrozenLayer, Layer};
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::SigningName;
use aws_types::region::SigningRegion;
use serde::Deserialize;
use serde_json::Value;

use super::{Aws, calls, retries, timeouts};

/// What is asked of whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// As in the host name and in the signature.
    pub(super) service: &'static str,
    /// `SERVICE.OPERATION`, the value of `X-Amz-Target`.
    pub(super) target: &'static str,
}

/// An operation that can be called.
#[derive(Debug, Clone)]
pub struct JsonOperation(Operation<Value, Value, ServiceError>);

/// What the service answered instead: its code and its words.
#[derive(Debug)]
pub struct ServiceError(ErrorMetadata);

impl JsonOperation {
    /// Calls it.
    ///
    /// # Errors
    /// The service's own with its code, and whatever kept the call from being answered.
    pub async fn call(&self, input: Value) -> Result<Value, SdkError<ServiceError, HttpResponse>> {
        self.0.invoke(input).await
    }
}

impl Aws {
    pub(super) fn json(&self, call: Call, endpoint: Option<&str>) -> JsonOperation {
        let own = || format!("https://{}.{}.{}", call.service, self.region, domain(&self.region));
        let endpoint = endpoint.map_or_else(own, str::to_owned);
        let operation = Operation::builder()
            .service_name(call.service)
            .operation_name(call.target)
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.http.clone())
            .sleep_impl(self.sleep.clone())
            .endpoint_url(&endpoint)
            .standard_retry(&retries())
            .timeout_config(timeouts())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .retry_classifier(TransientErrorClassifier::<ServiceError>::new())
            .retry_classifier(AwsErrorCodeClassifier::<ServiceError>::new())
            .retry_classifier(HttpStatusCodeClassifier::default())
            .interceptor(calls::Counting)
            .runtime_plugin(signed(call.service, self.region.clone(), self.credentials.clone()))
            .serializer(move |input: Value| {
                let mut request = HttpRequest::new(SdkBody::from(input.to_string()));
                request.set_method("POST")?;
                request.set_uri("/")?;
                let headers = request.headers_mut();
                headers.insert("content-type", "application/x-amz-json-1.0");
                headers.insert("x-amz-target", call.target);
                headers.insert("user-agent", super::app_name().as_ref().to_owned());
                Ok(request)
            })
            .deserializer(read)
            .build();
        JsonOperation(operation)
    }
}

/// Source: AWS General Reference, "Regions and endpoints". Other partitions need an endpoint in the environment.
fn domain(region: &Region) -> &'static str {
    match region.as_ref().starts_with("cn-") {
        true => "amazonaws.com.cn",
        false => "amazonaws.com",
    }
}

fn signed(service: &'static str, region: Region, credentials: SharedCredentialsProvider) -> StaticRuntimePlugin {
    let signing = SigV4OperationSigningConfig {
        region: Some(SigningRegion::from(region)),
        name: Some(SigningName::from_static(service)),
        ..SigV4OperationSigningConfig::default()
    };
    let options = StaticAuthSchemeOptionResolver::new(vec![SCHEME_ID]);
    let components = RuntimeComponentsBuilder::new("signed")
        .with_auth_scheme_option_resolver(Some(SharedAuthSchemeOptionResolver::new(options)))
        .with_auth_scheme(SharedAuthScheme::new(SigV4AuthScheme::new()))
        .with_identity_resolver(SCHEME_ID, credentials);
    StaticRuntimePlugin::new()
        .with_config(layer(signing))
        .with_runtime_components(components)
}

fn layer(signing: SigV4OperationSigningConfig) -> FrozenLayer {
    let mut layer = Layer::new("signed");
    layer.store_put(AuthSchemeOptionResolverParams::new(()));
    layer.store_put(signing);
    layer.freeze()
}

/// The name of an error is the part after `#` and before `:`.
#[derive(Deserialize)]
struct ErrorBody {
    #[serde(rename = "__type", alias = "code")]
    code: String,
    #[serde(alias = "Message")]
    message: Option<String>,
}

fn read(response: &HttpResponse) -> Result<Value, OrchestratorError<ServiceError>> {
    let body = response.body().bytes().unwrap_or_default();
    if response.status().is_success() {
        return serde_json::from_slice(body).map_err(OrchestratorError::other);
    }
    let mut metadata = ErrorMetadata::builder();
    if let Ok(error) = serde_json::from_slice::<ErrorBody>(body) {
        let code = error.code.rsplit('#').next().unwrap_or_default();
        metadata = metadata.code(code.split(':').next().unwrap_or_default());
        if let Some(message) = error.message {
            metadata = metadata.message(message);
        }
    }
    Err(OrchestratorError::operation(ServiceError(metadata.build())))
}

impl ProvideErrorMetadata for ServiceError {
    fn meta(&self) -> &ErrorMetadata {
        &self.0
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ServiceError {}
