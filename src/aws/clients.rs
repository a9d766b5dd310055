//! The SDK's clients, all on one connector, with one set of time-outs and retries.

use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::timeout::TimeoutConfig;
use aws_sdk_ec2::config::{AppName, BehaviorVersion, Region, SharedHttpClient, StalledStreamProtectionConfig};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};

use super::settings::{AwsSettings, Endpoints};
use crate::drive::CALL_TIMEOUT;

/// Amazon Trust Services' roots, compiled in.
pub(super) const ROOTS: &[u8] = include_bytes!("roots.pem");

/// Attempts of one call, the first included.
const ATTEMPTS: u32 = 3;
/// One attempt: all of them, with their pauses, fit into [`CALL_TIMEOUT`].
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2500);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Doubled with each attempt and multiplied by a random number below 1; the SDK's own is a second.
const FIRST_PAUSE: Duration = Duration::from_millis(300);

const _: () = assert!(ATTEMPT_TIMEOUT.as_millis() * (ATTEMPTS as u128) < CALL_TIMEOUT.as_millis());
const _: () = assert!(CONNECT_TIMEOUT.as_millis() < ATTEMPT_TIMEOUT.as_millis());

/// The clients that the adapters are made of. Cheap to clone; clones share connections.
///
/// Every call ends within [`CALL_TIMEOUT`], retries included: standard mode, three attempts.
#[derive(Debug, Clone)]
pub struct Clients {
    pub(crate) ec2: aws_sdk_ec2::Client,
    pub(crate) elbv2: aws_sdk_elasticloadbalancingv2::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
}

impl Clients {
    /// The clients for these settings. Makes no call.
    pub fn new(settings: &AwsSettings) -> Self {
        let http = connector(settings.ca_bundle.as_deref());
        Clients::with(
            &settings.region,
            &settings.endpoints,
            settings.credentials.clone(),
            http,
            SharedAsyncSleep::new(TokioSleep::new()),
        )
    }

    pub(super) fn with(
        region: &str,
        endpoints: &Endpoints,
        credentials: SharedCredentialsProvider,
        http: SharedHttpClient,
        sleep: SharedAsyncSleep,
    ) -> Self {
        // The three builders have the same methods but no trait in common.
        macro_rules! client {
            ($sdk:ident, $own:expr) => {{
                let mut config = $sdk::Config::builder()
                    .behavior_version(BehaviorVersion::latest())
                    .region(Region::new(region.to_owned()))
                    .credentials_provider(credentials.clone())
                    .http_client(http.clone())
                    .sleep_impl(sleep.clone())
                    .timeout_config(timeouts())
                    .retry_config(retries())
                    // Answers are small, and every attempt has its time-out.
                    .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
                    .app_name(app_name());
                config.set_endpoint_url($own.clone().or_else(|| endpoints.all.clone()));
                $sdk::Client::from_conf(config.build())
            }};
        }
        Clients {
            ec2: client!(aws_sdk_ec2, endpoints.ec2),
            elbv2: client!(aws_sdk_elasticloadbalancingv2, endpoints.elbv2),
            dynamodb: client!(aws_sdk_dynamodb, endpoints.dynamodb),
        }
    }
}

#[cfg(feature = "cli")]
mod chain {
    use aws_config::Region;

    use super::super::settings::{self, Endpoints, SettingError};
    use super::{BehaviorVersion, Clients, SharedAsyncSleep, TokioSleep, connector, retries, timeouts};

    impl Clients {
        /// The clients for the command line: region and credentials come from AWS's default chain (environment, profiles,
        /// SSO, a process, a container's or machine's role), endpoints and `AWS_CA_BUNDLE` as in
        /// [`AwsSettings::from_env`](super::AwsSettings::from_env), a profile's `endpoint_url` last.
        ///
        /// # Errors
        /// All bad values at once. Missing credentials are the first call's fault, not an error here.
        pub async fn from_default_chain(
            profile: Option<&str>,
            region: Option<&str>,
            lookup: &dyn Fn(&str) -> Option<String>,
        ) -> Result<Self, Vec<SettingError>> {
            let lookup = |key: &str| lookup(key).filter(|value| !value.is_empty());
            let mut errors = Vec::new();
            let mut endpoints = Endpoints::from_env(&lookup, &mut errors);
            let ca_bundle = settings::ca_bundle(&lookup).unwrap_or_else(|error| {
                errors.push(error);
                None
            });
            if !errors.is_empty() {
                return Err(errors);
            }
            let http = connector(ca_bundle.as_deref());
            let mut loader = aws_config::defaults(BehaviorVersion::latest())
                .http_client(http.clone())
                .timeout_config(timeouts())
                .retry_config(retries());
            if let Some(profile) = profile {
                loader = loader.profile_name(profile);
            }
            if let Some(region) = region {
                loader = loader.region(Region::new(region.to_owned()));
            }
            let config = loader.load().await;
            let missing = |key: &str, problem: &str| {
                vec![SettingError {
                    key: key.to_owned(),
                    problem: problem.to_owned(),
                }]
            };
            let region = config
                .region()
                .ok_or_else(|| missing("AWS_REGION", "is missing, and the profile has no region either"))?;
            let credentials = config
                .credentials_provider()
                .ok_or_else(|| missing("AWS_PROFILE", "has no source of credentials"))?;
            endpoints.all = endpoints.all.or_else(|| config.endpoint_url().map(str::to_owned));
            let sleep = SharedAsyncSleep::new(TokioSleep::new());
            Ok(Clients::with(region.as_ref(), &endpoints, credentials, http, sleep))
        }
    }
}

fn connector(ca_bundle: Option<&[u8]>) -> SharedHttpClient {
    let mut trust = TrustStore::empty().with_pem_certificate(ROOTS);
    if let Some(pem) = ca_bundle {
        trust.add_pem_certificate(pem);
    }
    let tls = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .expect("a context of checked certificates is valid");
    Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls)
        .build_https()
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT)
        .build()
}

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(FIRST_PAUSE)
}

fn app_name() -> AppName {
    AppName::new(concat!("aws-proxymanager-", env!("CARGO_PKG_VERSION"))).expect("letters, digits, - and . are allowed")
}
