//! Operations with the SDK's own signing, retries, time-outs and connections, but without the SDK's crate for the service:
//! a crate for a handful of calls would make up a tenth of the function and minutes of its build. What differs from service
//! to service is the wire form: `json`, `query` and `rest_xml`.

use std::fmt;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_runtime::auth::SigV4OperationSigningConfig;
use aws_runtime::auth::sigv4::{SCHEME_ID, SigV4AuthScheme};
use aws_runtime::retries::classifiers::AwsErrorCodeClassifier;
use aws_sdk_ec2::config::{BehaviorVersion, Region, StalledStreamProtectionConfig};
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime::client::retries::classifiers::{HttpStatusCodeClassifier, TransientErrorClassifier};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::auth::{
    AuthSchemeOptionResolverParams, SharedAuthScheme, SharedAuthSchemeOptionResolver,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError, SensitiveOutput};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_smithy_types::config_bag::{FrozenLayer, Layer};
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::SigningName;
use aws_types::region::SigningRegion;

use super::{Aws, calls, retries, timeouts};

/// Who is asked, and where.
#[derive(Debug, Clone)]
pub(super) struct Service {
    /// As in the signature.
    pub(super) name: &'static str,
    /// The service's own unless the environment gives another.
    pub(super) endpoint: String,
    /// Signed for; a service of the whole partition has one region.
    pub(super) region: Region,
}

/// What the service answered instead: its code and its words.
#[derive(Debug)]
pub struct ServiceError(ErrorMetadata);

impl Aws {
    /// A service of this client's region.
    pub(super) fn regional(&self, name: &'static str, endpoint: Option<&String>) -> Service {
        let own = || format!("https://{name}.{}.{}", self.region, domain(&self.region));
        Service {
            name,
            endpoint: endpoint.or(self.endpoints.all.as_ref()).cloned().unwrap_or_else(own),
            region: self.region.clone(),
        }
    }

    /// `write` makes the request, `read` the output of an answer that is no error, `refusal` code and words of one that is.
    pub(super) fn operation<I, O>(
        &self,
        service: Service,
        name: &'static str,
        write: impl Fn(I) -> Result<HttpRequest, BoxError> + Send + Sync + 'static,
        read: impl Fn(&[u8]) -> Result<O, BoxError> + Send + Sync + 'static,
        refusal: impl Fn(&[u8]) -> ErrorMetadata + Send + Sync + 'static,
    ) -> Operation<I, O, ServiceError>
    where
        I: fmt::Debug + Send + Sync + 'static,
        O: fmt::Debug + Send + Sync + 'static,
    {
        Operation::builder()
            .service_name(service.name)
            .operation_name(name)
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.http.clone())
            .sleep_impl(self.sleep.clone())
            .endpoint_url(&service.endpoint)
            .standard_retry(&retries())
            .timeout_config(timeouts())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .retry_classifier(TransientErrorClassifier::<ServiceError>::new())
            .retry_classifier(AwsErrorCodeClassifier::<ServiceError>::new())
            .retry_classifier(HttpStatusCodeClassifier::default())
            .interceptor(calls::Counting)
            .runtime_plugin(signed(service.name, service.region, self.credentials.clone()))
            .serializer(move |input: I| {
                let mut request = write(input)?;
                let agent = super::app_name().as_ref().to_owned();
                request.headers_mut().insert("user-agent", agent);
                Ok(request)
            })
            .deserializer(move |response: &HttpResponse| {
                let body = response.body().bytes().unwrap_or_default();
                match response.status().is_success() {
                    true => read(body).map_err(OrchestratorError::other),
                    false => Err(OrchestratorError::operation(ServiceError(refusal(body)))),
                }
            })
            .build()
    }
}

/// Source: AWS General Reference, "Regions and endpoints". Other partitions need an endpoint in the environment.
pub(super) fn domain(region: &Region) -> &'static str {
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
    // Secrets come this way too: the SDK logs no answer.
    layer.store_put(SensitiveOutput);
    layer.store_put(signing);
    layer.freeze()
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
