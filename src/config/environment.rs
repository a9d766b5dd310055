//! The environment of the function, which the command line reads too.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{BadValue, ConfigErrors, Lookup, between, duration};
use crate::domain::rule::GroupId;

pub const LISTENERS: &str = "AUTOSTOPPING_LISTENERS";
pub const LEDGER: &str = "AUTOSTOPPING_LEDGER";
pub const WAKER: &str = "AUTOSTOPPING_WAKER";
pub const HOLD_LIMIT: &str = "AUTOSTOPPING_HOLD_LIMIT";
pub const MAX_HELD: &str = "AUTOSTOPPING_MAX_HELD";
pub const SETTLE: &str = "AUTOSTOPPING_SETTLE";
pub const METRICS_DELAY: &str = "AUTOSTOPPING_METRICS_DELAY";
pub const IDLE_MIN: &str = "AUTOSTOPPING_IDLE_MIN";
pub const LOG: &str = "AUTOSTOPPING_LOG";

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What the environment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Listener ARNs.
    pub listeners: Vec<String>,
    pub ledger: LedgerChoice,
    /// The waker target groups, one per load balancer.
    pub wakers: Vec<GroupId>,
    /// How long a program's request is kept at most.
    pub hold_limit: Duration,
    /// How many requests are kept at once, over all environments.
    pub max_held: u32,
    /// From the flip to the stop.
    pub settle: Duration,
    /// The newest metrics to ignore.
    pub metrics_delay: Duration,
    /// The shortest `autostopping:idle`.
    pub idle_min: Duration,
    /// A filter of `tracing_subscriber::EnvFilter`.
    pub log: String,
}

/// Where rules are remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerChoice {
    DynamoDb {
        table: String,
    },
    /// In this process alone. On AWS an environment forgets, and there are many of them.
    Memory,
}

impl Settings {
    /// Reads all keys.
    ///
    /// # Errors
    /// Every missing or unusable value, each with its key and what is allowed.
    pub fn read(lookup: &impl Lookup) -> Result<Self, ConfigErrors> {
        let mut reader = Reader {
            lookup,
            bad: Vec::new(),
        };
        let settings = Settings {
            listeners: reader.list(
                LISTENERS,
                "ARNs of listeners of Application Load Balancers, comma-separated",
                is_listener,
            ),
            ledger: reader.ledger(),
            wakers: reader
                .list(
                    WAKER,
                    "ARNs of target groups, one per load balancer, comma-separated",
                    is_group,
                )
                .into_iter()
                .map(GroupId)
                .collect(),
            // A load balancer gives a target 60 s by default; an answer has to come well before.
            hold_limit: reader.duration(HOLD_LIMIT, 20 * SECOND, SECOND, 50 * SECOND),
            max_held: reader.number(MAX_HELD, 50, 0, 1000),
            settle: reader.duration(SETTLE, 5 * MINUTE, SECOND, HOUR),
            metrics_delay: reader.duration(METRICS_DELAY, 3 * MINUTE, SECOND, HOUR),
            idle_min: reader.duration(IDLE_MIN, 5 * MINUTE, SECOND, 24 * HOUR),
            log: reader.log(),
        };
        if reader.bad.is_empty() {
            Ok(settings)
        } else {
            Err(ConfigErrors(reader.bad))
        }
    }
}

struct Reader<'l, L> {
    lookup: &'l L,
    bad: Vec<BadValue>,
}

impl<L: Lookup> Reader<'_, L> {
    fn bad(&mut self, key: &str, value: &str, allowed: impl Into<String>) {
        self.bad.push(BadValue {
            key: key.to_owned(),
            value: value.to_owned(),
            allowed: allowed.into(),
        });
    }

    fn list(&mut self, key: &str, allowed: &str, valid: fn(&str) -> bool) -> Vec<String> {
        let text = self.lookup.get(key).unwrap_or_default();
        let items: Vec<String> = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect();
        if items.is_empty() {
            self.bad(key, "", allowed);
        }
        for item in items.iter().filter(|item| !valid(item)) {
            self.bad(key, item, allowed);
        }
        let distinct: BTreeSet<_> = items.iter().collect();
        if distinct.len() < items.len() {
            self.bad(key, &text, format!("{allowed}, each once"));
        }
        items
    }

    fn duration(&mut self, key: &str, default: Duration, least: Duration, most: Duration) -> Duration {
        let Some(text) = self.lookup.get(key) else {
            return default;
        };
        duration(&text, least, most).unwrap_or_else(|| {
            self.bad(key, &text, between(least, most));
            default
        })
    }

    fn number(&mut self, key: &str, default: u32, least: u32, most: u32) -> u32 {
        let Some(text) = self.lookup.get(key) else {
            return default;
        };
        text.trim()
            .parse()
            .ok()
            .filter(|number| (least..=most).contains(number))
            .unwrap_or_else(|| {
                self.bad(key, &text, format!("a whole number from {least} to {most}"));
                default
            })
    }

    fn ledger(&mut self) -> LedgerChoice {
        let text = self.lookup.get(LEDGER).unwrap_or_default();
        let table = text.trim().strip_prefix("dynamodb:").unwrap_or_default();
        // https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
        let is_name =
            (3..=255).contains(&table.len()) && table.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        match text.trim() {
            "memory" if self.on_lambda() => self.bad(
                LEDGER,
                &text,
                "dynamodb:TABLE; on Lambda every environment would have a memory of its own",
            ),
            "memory" => {}
            _ if is_name => {
                return LedgerChoice::DynamoDb {
                    table: table.to_owned(),
                };
            }
            _ => self.bad(LEDGER, &text, "dynamodb:TABLE"),
        }
        LedgerChoice::Memory
    }

    /// The runtime of real Lambda says so in `AWS_EXECUTION_ENV`; a local one that follows it in that names its own API.
    fn on_lambda(&self) -> bool {
        let runtime = self
            .lookup
            .get("AWS_EXECUTION_ENV")
            .is_some_and(|value| value.starts_with("AWS_Lambda_"));
        let custom = self.lookup.get("AWS_LAMBDA_INITIALIZATION_TYPE").is_some();
        (runtime || custom) && self.lookup.get("AWS_ENDPOINT_URL").is_none()
    }

    fn log(&mut self) -> String {
        let text = self
            .lookup
            .get(LOG)
            .unwrap_or_else(|| "info".to_owned())
            .to_ascii_lowercase();
        if !["error", "warn", "info", "debug", "trace"].contains(&text.as_str()) {
            self.bad(LOG, &text, "error, warn, info, debug or trace");
        }
        text
    }
}

/// `arn:PARTITION:elasticloadbalancing:REGION:ACCOUNT:listener/app/NAME/ID/ID`
fn is_listener(arn: &str) -> bool {
    is_elb_arn(arn, "listener/app/", 3)
}

/// `arn:PARTITION:elasticloadbalancing:REGION:ACCOUNT:targetgroup/NAME/ID`
fn is_group(arn: &str) -> bool {
    is_elb_arn(arn, "targetgroup/", 2)
}

fn is_elb_arn(arn: &str, resource: &str, parts: usize) -> bool {
    let fields: Vec<_> = arn.splitn(6, ':').collect();
    let [head, partition, service, region, account, rest] = fields[..] else {
        return false;
    };
    let named = rest.strip_prefix(resource).is_some_and(|rest| {
        rest.split('/').count() == parts
            && rest
                .split('/')
                .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    });
    let of_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    head == "arn"
        && partition.starts_with("aws")
        && service == "elasticloadbalancing"
        && !region.is_empty()
        && of_account
        && named
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const GOOD: [(&str, &str); 3] = [
        (
            LISTENERS,
            "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/shared/50dc6c495c0c9188/f2f7dc8efc522ab2",
        ),
        (LEDGER, "dynamodb:autostopping"),
        (
            WAKER,
            "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/waker/73e2d6bc24d8a067",
        ),
    ];

    fn with(more: &[(&'static str, &'static str)]) -> Result<Settings, ConfigErrors> {
        Settings::read(&GOOD.iter().chain(more).copied().collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn three_values_are_enough() {
        let settings = with(&[]).expect("good");
        assert_eq!(
            settings.ledger,
            LedgerChoice::DynamoDb {
                table: "autostopping".into()
            }
        );
        assert_eq!(
            (settings.hold_limit, settings.max_held, settings.settle),
            (20 * SECOND, 50, 5 * MINUTE)
        );
    }

    #[test]
    fn all_bad_values_are_named_at_once() {
        let empty = Settings::read(&BTreeMap::<&str, &str>::new()).expect_err("nothing is set");
        assert_eq!(
            empty.0.iter().map(|bad| bad.key.as_str()).collect::<Vec<_>>(),
            [LISTENERS, LEDGER, WAKER]
        );
        let bad = with(&[
            (SETTLE, "5"),
            (MAX_HELD, "-1"),
            (HOLD_LIMIT, "2h"),
            (LOG, "loud"),
            (WAKER, "waker"),
            (LEDGER, "sqlite:x"),
        ]);
        let keys: BTreeSet<_> = bad.expect_err("all are bad").0.into_iter().map(|bad| bad.key).collect();
        assert_eq!(
            keys,
            [SETTLE, MAX_HELD, HOLD_LIMIT, LOG, WAKER, LEDGER]
                .map(str::to_owned)
                .into()
        );
    }

    #[test]
    fn memory_is_for_one_process_alone() {
        assert!(with(&[(LEDGER, "memory")]).is_ok());
        let on_lambda = with(&[(LEDGER, "memory"), ("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023")]);
        assert!(
            on_lambda
                .expect_err("every environment forgets")
                .to_string()
                .contains("memory of its own")
        );
    }
}
