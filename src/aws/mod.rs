//! Clients of AWS: endpoints, credentials, TLS, time-outs, and the sorting of errors. SDK types stay in here and in the
//! adapters.

mod bounded;
mod calls;
mod faults;
mod json;
mod operation;
#[cfg(feature = "proxy")]
mod query;
#[cfg(feature = "proxy")]
mod rest_xml;
#[cfg(feature = "proxy")]
mod route53;
#[cfg(feature = "proxy")]
mod secrets;
mod settings;
#[cfg(test)]
pub(crate) mod wire;
#[cfg(feature = "proxy")]
mod xml;

#[cfg(feature = "proxy")]
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

#[cfg(feature = "proxy")]
use aws_config::imds::client::error::ImdsError;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_ec2::config::{AppName, BehaviorVersion, Region, StalledStreamProtectionConfig};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use crate::config::{BadValue, ConfigErrors, Lookup};
#[cfg(feature = "proxy")]
use crate::domain::rule::ResourceId;
use crate::drive::CALL_TIMEOUT;
use settings::Endpoints;

pub(crate) use bounded::{at_once, before, in_time};
pub use faults::{fault, incomplete};
pub use json::JsonOperation;
#[cfg(feature = "proxy")]
pub use query::Query;
#[cfg(feature = "proxy")]
pub use route53::Zone;
#[cfg(feature = "proxy")]
pub use secrets::Secrets;

/// What AWS's endpoints chain up to. Compiled in: reading the system's store would take most of a cold start.
const ROOTS: &[u8] = include_bytes!("roots.pem");

/// Attempts of one call, the first included.
const ATTEMPTS: u32 = 3;
/// One attempt. All of them and the pauses between fit into [`CALL_TIMEOUT`].
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2500);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Doubled with each attempt and multiplied by a random number below 1. The SDK's own is a second, too long for a held
/// request.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

const _: () = assert!(
    ATTEMPT_TIMEOUT.as_millis() * ATTEMPTS as u128 <= CALL_TIMEOUT.as_millis(),
    "the attempts fit into the call"
);

/// A client that is made when it is first needed. Of the many environments that answer those who wait for a site, one at a
/// time asks more than the ledger, and a client is a good tenth of what a start executes: each reads the list of AWS's
/// partitions.
pub type Lazy<C> = LazyLock<C, Box<dyn FnOnce() -> C + Send>>;

/// Everything a client of any service is made of.
#[derive(Debug, Clone)]
pub struct Aws {
    region: Region,
    credentials: SharedCredentialsProvider,
    /// One for all services, so that they share its connections and its parsed roots.
    http: SharedHttpClient,
    sleep: SharedAsyncSleep,
    endpoints: Endpoints,
}

impl Aws {
    /// Credentials and region as Lambda sets them: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`,
    /// `AWS_REGION` or `AWS_DEFAULT_REGION`. No other source is tried: each costs time at a cold start.
    ///
    /// Endpoints come from `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_EC2`, `AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2`,
    /// `AWS_ENDPOINT_URL_DYNAMODB`, `AWS_ENDPOINT_URL_CLOUDWATCH`; for the command line also from `AWS_ENDPOINT_URL_LAMBDA`, for the proxy from
    /// `AWS_ENDPOINT_URL_RDS`, `AWS_ENDPOINT_URL_SECRETS_MANAGER` and `AWS_ENDPOINT_URL_ROUTE_53`. Further roots come from the
    /// file that `AWS_CA_BUNDLE` names, which is read once.
    ///
    /// # Errors
    /// All values that are missing or cannot be used, each with its key.
    pub fn from_environment(lookup: &impl Lookup) -> Result<Self, ConfigErrors> {
        const BY_LAMBDA: &str = "set by Lambda for every function; set it when you run the function elsewhere";
        let mut bad = Vec::new();
        let mut required = |key: &str| {
            let value = lookup.get(key);
            value.ok_or_else(|| bad.push(missing(key, BY_LAMBDA))).ok()
        };
        let id = required("AWS_ACCESS_KEY_ID");
        let secret = required("AWS_SECRET_ACCESS_KEY");
        let region = match lookup.get("AWS_REGION").or_else(|| lookup.get("AWS_DEFAULT_REGION")) {
            Some(region) => Some(region),
            None => required("AWS_REGION"),
        };
        let region = region.and_then(|region| settings::keep(settings::region(region), &mut bad));
        let rest = settings::keep_all(shared(lookup), &mut bad);
        match (id, secret, region, rest) {
            (Some(id), Some(secret), Some(region), Some((endpoints, http))) if bad.is_empty() => {
                let token = lookup.get("AWS_SESSION_TOKEN");
                let credentials = Credentials::new(id, secret, token, None, "environment");
                Ok(Aws::new(
                    region,
                    SharedCredentialsProvider::new(credentials),
                    http,
                    endpoints,
                ))
            }
            _ => Err(ConfigErrors(bad)),
        }
    }

    /// Credentials and region as the AWS CLI finds them: environment, profiles, single sign-on, a process, the role of a
    /// container or machine. Endpoints and roots as in [`Aws::from_environment`], a profile's `endpoint_url` last. A `region`
    /// that is given goes before all of them.
    ///
    /// # Errors
    /// When no region or no source of credentials is configured, and what [`Aws::from_environment`] finds wrong. Credentials
    /// that do not work are the first call's fault.
    #[cfg(feature = "cli")]
    pub async fn from_default_chain(lookup: &impl Lookup, region: Option<&str>) -> Result<Self, ConfigErrors> {
        let (mut endpoints, http) = shared(lookup).map_err(ConfigErrors)?;
        let mut config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http.clone())
            .timeout_config(timeouts())
            .retry_config(retries());
        if let Some(region) = region {
            config = config.region(Region::new(region.to_owned()));
        }
        let config = config.load().await;
        let region = config.region().map(ToString::to_string);
        let region =
            region.ok_or_else(|| missing("AWS_REGION", "a region such as eu-central-1, here or in the profile"))?;
        let region = settings::region(region)?;
        let credentials = config.credentials_provider();
        let credentials = credentials.ok_or_else(|| missing("AWS_PROFILE", "a profile with credentials"))?;
        endpoints.all = endpoints.all.or_else(|| config.endpoint_url().map(str::to_owned));
        Ok(Aws::new(region, credentials, http, endpoints))
    }

    fn new(
        region: String,
        credentials: SharedCredentialsProvider,
        http: SharedHttpClient,
        endpoints: Endpoints,
    ) -> Self {
        Aws {
            region: Region::new(region),
            credentials,
            http,
            sleep: SharedAsyncSleep::new(TokioSleep::new()),
            endpoints,
        }
    }
}

// The builders of the services have the same methods but no trait in common.
macro_rules! client {
    ($(#[$doc:meta])* $visible:vis $name:ident, $sdk:ident, $own:ident) => {
        $(#[$doc])*
        $visible fn $name(&self) -> $sdk::Client {
            let mut config = $sdk::config::Builder::new()
                .behavior_version(BehaviorVersion::latest())
                .region(self.region.clone())
                .credentials_provider(self.credentials.clone())
                .http_client(self.http.clone())
                .sleep_impl(self.sleep.clone())
                .retry_config(retries())
                .timeout_config(timeouts())
                // Answers are small, and every attempt has its time-out.
                .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
                .interceptor(calls::Counting)
                .app_name(app_name());
            config.set_endpoint_url(self.endpoints.$own.clone().or_else(|| self.endpoints.all.clone()));
            $sdk::Client::from_conf(config.build())
        }
    };
}

impl Aws {
    client!(ec2_now, aws_sdk_ec2, ec2);
    client!(elb_now, aws_sdk_elasticloadbalancingv2, elb);
    client!(/// A client of DynamoDB.
        pub dynamodb, aws_sdk_dynamodb, dynamodb);
    #[cfg(feature = "cli")]
    client!(/// A client of Lambda, for an operator: the function never calls it.
        pub lambda, aws_sdk_lambda, lambda);

    /// A client of EC2.
    pub fn ec2(&self) -> Lazy<aws_sdk_ec2::Client> {
        self.lazily(Aws::ec2_now)
    }

    /// A client of Elastic Load Balancing version 2.
    pub fn elb(&self) -> Lazy<aws_sdk_elasticloadbalancingv2::Client> {
        self.lazily(Aws::elb_now)
    }

    fn lazily<C: 'static>(&self, make: fn(&Aws) -> C) -> Lazy<C> {
        let aws = self.clone();
        LazyLock::new(Box::new(move || make(&aws)))
    }

    /// CloudWatch's GetMetricData, in JSON. Source: Amazon CloudWatch user guide, "FAQs on CloudWatch supported protocols".
    pub fn get_metric_data(&self) -> JsonOperation {
        let call = json::Call {
            target: "GraniteServiceVersion20100801.GetMetricData",
            content_type: "application/x-amz-json-1.0",
        };
        self.json(call, self.regional("monitoring", self.endpoints.cloudwatch.as_ref()))
    }

    /// The id of this machine, when it is one of EC2.
    #[cfg(feature = "proxy")]
    pub async fn instance_id(&self) -> Option<ResourceId> {
        self.metadata("instance-id").await.ok().flatten().map(ResourceId)
    }

    /// The address by which others reach this machine, when it is one of EC2: its public one, else its own.
    #[cfg(feature = "proxy")]
    pub async fn address(&self) -> Option<IpAddr> {
        let said = match self.metadata("public-ipv4").await.ok()? {
            Some(public) => Some(public),
            None => self.metadata("local-ipv4").await.ok()?,
        };
        said?.parse().ok()
    }

    /// What this machine's metadata service says within a second; none where it has nothing to say. It is asked at
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT` if that is set. Source: Amazon EC2 user guide, "Instance metadata categories".
    #[cfg(feature = "proxy")]
    async fn metadata(&self, what: &str) -> Result<Option<String>, ImdsError> {
        let config = aws_config::provider_config::ProviderConfig::default()
            .with_http_client(self.http.clone())
            .with_sleep_impl(self.sleep.clone());
        let metadata = aws_config::imds::Client::builder()
            .configure(&config)
            .max_attempts(1)
            .connect_timeout(Duration::from_secs(1))
            .read_timeout(Duration::from_secs(1))
            .build();
        match metadata.get(format!("/latest/meta-data/{what}")).await {
            Ok(said) => Ok(Some(said.as_ref().to_owned())),
            Err(ImdsError::ErrorResponse(answer)) if answer.response().status().as_u16() == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// RDS.
    #[cfg(feature = "proxy")]
    pub fn rds(&self) -> Query {
        self.query(self.regional("rds", self.endpoints.rds.as_ref()), "2014-10-31")
    }
}

/// What does not depend on who we are: the endpoints and the connector.
fn shared(lookup: &impl Lookup) -> Result<(Endpoints, SharedHttpClient), Vec<BadValue>> {
    let mut bad = Vec::new();
    let endpoints = Endpoints::read(lookup, &mut bad);
    let bundle = settings::keep(settings::ca_bundle(lookup), &mut bad);
    match bundle {
        Some(bundle) if bad.is_empty() => Ok((endpoints, connector(bundle.as_deref()))),
        _ => Err(bad),
    }
}

fn connector(ca_bundle: Option<&[u8]>) -> SharedHttpClient {
    let mut trust = TrustStore::empty().with_pem_certificate(ROOTS);
    if let Some(pem) = ca_bundle {
        trust.add_pem_certificate(pem);
    }
    let tls = TlsContext::builder().with_trust_store(trust).build();
    Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls.expect("certificates that were read once are read again"))
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

fn missing(key: &str, allowed: &str) -> BadValue {
    BadValue {
        key: key.to_owned(),
        value: String::new(),
        allowed: allowed.to_owned(),
    }
}
