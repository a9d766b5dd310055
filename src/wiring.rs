//! From the environment to a function or a driver with its adapters.

use crate::activity::cloudwatch::CloudWatch;
use crate::aws::Aws;
use crate::clock::SystemClock;
use crate::compute::ec2::Ec2;
use crate::config::environment::{LedgerChoice, Settings};
use crate::config::{ConfigErrors, Lookup};
use crate::domain::activity::MINUTE;
use crate::domain::record::DESCRIBE_IS_STALE_FOR;
use crate::drive::{Driver, Recent, TABLE_AGE};
use crate::gateway::alb::Alb;
use crate::ledger::dynamodb::DynamoDb;
use crate::rules::RuleSettings;

/// A driver of rules on AWS.
pub type AwsDriver<L> = Driver<Ec2, Alb, CloudWatch, L, SystemClock>;

/// A driver with these settings.
pub fn driver<L>(settings: &Settings, aws: &Aws, ledger: L, owner: String) -> AwsDriver<L> {
    let Settings {
        wakers,
        settle,
        idle_min,
        metrics_delay,
        listeners,
        ..
    } = settings.clone();
    Driver {
        compute: Ec2::new(aws.ec2()),
        gateway: Alb::new(aws.elb(), listeners, wakers.clone()),
        metrics: CloudWatch::new(aws.get_metric_data()),
        ledger,
        clock: SystemClock,
        settings: RuleSettings {
            wakers,
            settle,
            idle_min,
            metrics_delay,
            metrics_period: MINUTE,
            describe_delay: DESCRIBE_IS_STALE_FOR,
            table_age: TABLE_AGE,
        },
        owner,
        recent: Recent::default(),
    }
}

/// A name for the leases of this process.
pub fn owner(what: &str) -> String {
    format!("{what}-{:016x}", fastrand::u64(..))
}

/// What a command needs.
#[cfg(feature = "cli")]
pub struct Operator<L> {
    pub driver: AwsDriver<L>,
    /// The function as it is deployed.
    pub deployed: crate::deployed::Lambda,
    pub settings: Settings,
}

/// What the command line needs, with the credentials of the AWS CLI.
///
/// # Errors
/// Everything in the environment that cannot be used.
#[cfg(feature = "cli")]
pub async fn for_command_line(lookup: &impl Lookup) -> Result<Operator<DynamoDb>, ConfigErrors> {
    use crate::config::{BadValue, environment};

    let settings = Settings::read(lookup)?;
    let aws = Aws::from_default_chain(lookup, None).await?;
    match &settings.ledger {
        LedgerChoice::DynamoDb { table } => {
            let ledger = DynamoDb::new(aws.dynamodb(), table);
            Ok(Operator {
                driver: driver(&settings, &aws, ledger, owner("proxymanager")),
                deployed: crate::deployed::Lambda::new(aws.lambda()),
                settings,
            })
        }
        LedgerChoice::Memory => Err(ConfigErrors::from(BadValue {
            key: environment::LEDGER.to_owned(),
            value: "memory".to_owned(),
            allowed: "dynamodb:TABLE; the memory of a function is out of reach from here".to_owned(),
        })),
    }
}

/// AWS for a proxy, with the credentials of the AWS CLI, in the Region of its configuration, else of `AWS_REGION`. None without
/// a Region: then it serves what needs none.
///
/// # Errors
/// Everything in the environment that cannot be used.
#[cfg(feature = "proxy")]
pub async fn for_proxy(
    lookup: &impl Lookup,
    config: &crate::config::proxy::ProxyConfig,
) -> Result<Option<Aws>, ConfigErrors> {
    let said = ["AWS_REGION", "AWS_DEFAULT_REGION"];
    let region = config
        .region
        .clone()
        .or_else(|| said.iter().find_map(|key| lookup.get(key)));
    match region {
        Some(region) => Aws::from_default_chain(lookup, Some(&region)).await.map(Some),
        None => Ok(None),
    }
}

/// The function, or what is wrong with its environment.
#[cfg(feature = "lambda")]
pub mod lambda {
    use lambda_runtime::{Error, LambdaEvent, service_fn};
    use serde_json::Value;
    use serde_json::value::RawValue;
    use tracing::Instrument;

    use super::{Aws, AwsDriver, ConfigErrors, DynamoDb, LedgerChoice, Lookup, Settings, driver, owner};
    use crate::activity::cloudwatch::CloudWatch;
    use crate::clock::SystemClock;
    use crate::compute::ec2::Ec2;
    use crate::config::environment::MetricsChoice;
    use crate::function::Function;
    use crate::gateway::alb::Alb;
    use crate::http::event;
    use crate::ledger::Ledger;
    use crate::ledger::memory::Memory;
    use crate::telemetry;

    /// Reads the environment once and serves invocations until the environment ends. What is wrong is answered to every
    /// request, since a function that does not start is a bare 502 for everybody.
    ///
    /// # Errors
    /// When the runtime API cannot be reached.
    pub async fn run(lookup: &impl Lookup) -> Result<(), Error> {
        let settings = Settings::read(lookup);
        let (level, metrics) = settings.as_ref().map_or(("info", MetricsChoice::Off), |settings| {
            (settings.log.as_str(), settings.metrics)
        });
        telemetry::json(level, metrics, lookup.get("AWS_LAMBDA_FUNCTION_NAME"));
        match (settings, Aws::from_environment(lookup)) {
            (Ok(settings), Ok(aws)) => match settings.ledger.clone() {
                LedgerChoice::DynamoDb { table } => {
                    let ledger = DynamoDb::new(aws.dynamodb(), table);
                    serve(Ok((driver(&settings, &aws, ledger, owner("function")), settings))).await
                }
                LedgerChoice::Memory => {
                    serve(Ok((
                        driver(&settings, &aws, Memory::default(), owner("function")),
                        settings,
                    )))
                    .await
                }
            },
            (settings, aws) => {
                let errors = [settings.err(), aws.err()]
                    .into_iter()
                    .flatten()
                    .flat_map(|errors| errors.0);
                let errors = ConfigErrors(errors.collect());
                tracing::error!(%errors, "the environment cannot be used");
                serve::<Memory>(Err(errors)).await
            }
        }
    }

    async fn serve<L: Ledger>(state: Result<(AwsDriver<L>, Settings), ConfigErrors>) -> Result<(), Error> {
        let function: &Function<Ec2, Alb, CloudWatch, L, SystemClock> = &Function::new(state);
        lambda_runtime::run(service_fn(
            async |event: LambdaEvent<Box<RawValue>>| -> Result<Value, Error> {
                let request_id = event.context.request_id;
                let event = event::parse(event.payload.get());
                let correlation_id = event::trace_id(&event).unwrap_or(&request_id).to_owned();
                let span = tracing::info_span!("invocation", function_request_id = %request_id, %correlation_id);
                // Boxed: the whole future, inlined, is deeper than the compiler follows.
                let result = Box::pin(function.handle(&event).instrument(span.clone())).await;
                let (calls, throttles) = telemetry::CALLS.take();
                if calls > 0 {
                    tracing::info!(target: telemetry::METRICS, AwsCalls = calls, Throttles = throttles);
                }
                result.map_err(|error| {
                    let _in = span.enter();
                    tracing::error!(%error, "the event failed");
                    Error::from(error.to_string())
                })
            },
        ))
        .await
    }
}
