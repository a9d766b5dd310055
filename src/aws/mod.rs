//! Clients of AWS: endpoints, credentials, TLS, time-outs, and the sorting of errors. SDK types stay in here and in the
//! adapters.

mod fault;

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use crate::config::{BadValue, ConfigErrors, Lookup};
use crate::drive::CALL_TIMEOUT;

pub use fault::{fault, kind_of};

/// What AWS's endpoints chain up to. Compiled in: reading the system's store would take most of a cold start.
const ROOTS: &str = include_str!("roots.pem");

/// Everything a client of any service is made of.
#[derive(Clone)]
pub struct Aws {
    shared: aws_sdk_ec2::config::Region,
    credentials: aws_sdk_ec2::config::SharedCredentialsProvider,
    http: SharedHttpClient,
    /// For all services, and for each of EC2, ELBv2 and DynamoDB.
    endpoints: Endpoints,
}

#[derive(Debug, Clone, Default)]
struct Endpoints {
    all: Option<String>,
    ec2: Option<String>,
    elb: Option<String>,
    dynamodb: Option<String>,
}

impl Aws {
    /// Credentials and region as Lambda sets them. No other source is tried: each costs time at a cold start.
    ///
    /// # Errors
    /// Every missing value with its key, and an unreadable `AWS_CA_BUNDLE`.
    pub fn from_environment(lookup: &impl Lookup) -> Result<Self, ConfigErrors> {
        let mut bad = Vec::new();
        let mut required = |key: &str| {
            lookup.get(key).unwrap_or_else(|| {
                bad.push(missing(
                    key,
                    "set by Lambda for every function; set it when you run the function elsewhere",
                ));
                String::new()
            })
        };
        let (id, secret) = (required("AWS_ACCESS_KEY_ID"), required("AWS_SECRET_ACCESS_KEY"));
        let region = region(lookup).unwrap_or_else(|| required("AWS_REGION"));
        if !bad.is_empty() {
            return Err(ConfigErrors(bad));
        }
        let credentials = Credentials::new(id, secret, lookup.get("AWS_SESSION_TOKEN"), None, "environment");
        Self::new(
            lookup,
            region,
            aws_sdk_ec2::config::SharedCredentialsProvider::new(credentials),
        )
    }

    /// Credentials and region as the AWS CLI finds them: environment, profiles, single sign-on, instance role.
    ///
    /// # Errors
    /// When no region or no credentials are configured.
    #[cfg(feature = "cli")]
    pub async fn from_default_chain(lookup: &impl Lookup) -> Result<Self, ConfigErrors> {
        let http = http_client(lookup)?;
        let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .http_client(http)
            .load()
            .await;
        let region = config.region().map(ToString::to_string);
        let region =
            region.ok_or_else(|| missing("AWS_REGION", "a region such as eu-central-1, here or in the profile"))?;
        let credentials = config.credentials_provider();
        let credentials = credentials.ok_or_else(|| missing("AWS_PROFILE", "a profile with credentials"))?;
        Self::new(lookup, region, credentials)
    }

    fn new(
        lookup: &impl Lookup,
        region: String,
        credentials: aws_sdk_ec2::config::SharedCredentialsProvider,
    ) -> Result<Self, ConfigErrors> {
        let endpoints = Endpoints {
            all: lookup.get("AWS_ENDPOINT_URL"),
            ec2: lookup.get("AWS_ENDPOINT_URL_EC2"),
            elb: lookup.get("AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2"),
            dynamodb: lookup.get("AWS_ENDPOINT_URL_DYNAMODB"),
        };
        Ok(Aws {
            shared: aws_sdk_ec2::config::Region::new(region),
            credentials,
            http: http_client(lookup)?,
            endpoints,
        })
    }
}

macro_rules! client {
    ($(#[$doc:meta])* $name:ident, $sdk:ident, $own:ident) => {
        $(#[$doc])*
        pub fn $name(&self) -> $sdk::Client {
            let mut config = $sdk::config::Builder::new()
                .behavior_version($sdk::config::BehaviorVersion::latest())
                .region(self.shared.clone())
                .credentials_provider(self.credentials.clone())
                .http_client(self.http.clone())
                .sleep_impl(aws_smithy_async::rt::sleep::TokioSleep::new())
                .retry_config(RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(200)))
                .timeout_config(timeouts());
            config.set_endpoint_url(self.endpoints.$own.clone().or_else(|| self.endpoints.all.clone()));
            $sdk::Client::from_conf(config.build())
        }
    };
}

impl Aws {
    client!(/// A client of EC2.
        ec2, aws_sdk_ec2, ec2);
    client!(/// A client of Elastic Load Balancing version 2.
        elb, aws_sdk_elasticloadbalancingv2, elb);
    client!(/// A client of DynamoDB.
        dynamodb, aws_sdk_dynamodb, dynamodb);
}

/// Three attempts fit into one call's time, and one call's time into the lease.
fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(1500))
        .operation_attempt_timeout(CALL_TIMEOUT / 3)
        .operation_timeout(CALL_TIMEOUT)
        .build()
}

fn http_client(lookup: &impl Lookup) -> Result<SharedHttpClient, ConfigErrors> {
    let mut roots = TrustStore::empty().with_pem_certificate(ROOTS.as_bytes());
    if let Some(path) = lookup.get("AWS_CA_BUNDLE") {
        let bundle = std::fs::read(&path);
        let bundle = bundle.map_err(|why| {
            bad(
                "AWS_CA_BUNDLE",
                &path,
                format!("a readable file of PEM certificates ({why})"),
            )
        })?;
        roots.add_pem_certificate(bundle);
    }
    let context = TlsContext::builder().with_trust_store(roots).build();
    let context = context.map_err(|why| bad("AWS_CA_BUNDLE", "", format!("a file of PEM certificates ({why})")))?;
    Ok(Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .build_https())
}

fn region(lookup: &impl Lookup) -> Option<String> {
    lookup.get("AWS_REGION").or_else(|| lookup.get("AWS_DEFAULT_REGION"))
}

fn missing(key: &str, allowed: &str) -> BadValue {
    bad(key, "", allowed.to_owned())
}

fn bad(key: &str, value: &str, allowed: String) -> BadValue {
    BadValue {
        key: key.to_owned(),
        value: value.to_owned(),
        allowed,
    }
}
