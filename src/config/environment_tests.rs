use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const ONE: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/site/50dc6c495c0c9188/f2f7dc8efc522ab2";
const TWO: &str =
    "arn:aws-us-gov:elasticloadbalancing:eu-west-1:123456789012:listener/app/site/50dc6c495c0c9188/0467ef3c8400ae65";
const GROUP: &str = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/waker/73e2d6bc24d8a067";

fn good() -> BTreeMap<String, String> {
    let pairs = [(LISTENERS, ONE), (LEDGER, "dynamodb:autostopping"), (WAKER, GROUP)];
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn with(changes: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut map = good();
    map.extend(
        changes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
    );
    map
}

/// The keys that are named as wrong.
fn wrong(map: &BTreeMap<String, String>) -> Vec<String> {
    match Settings::read(map) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.into_iter().map(|bad| bad.key).collect(),
    }
}

#[test]
fn the_required_ones_are_enough() {
    let settings = Settings::read(&good()).unwrap();
    let expected = Settings {
        listeners: vec![ONE.to_owned()],
        ledger: LedgerChoice::DynamoDb {
            table: "autostopping".to_owned(),
        },
        wakers: vec![GroupId(GROUP.to_owned())],
        hold_limit: Duration::from_secs(20),
        max_held: 50,
        settle: Duration::from_secs(300),
        metrics_delay: Duration::from_secs(180),
        idle_min: Duration::from_secs(300),
        branding: Branding::NONE,
        log: "info".to_owned(),
        metrics: MetricsChoice::Off,
    };
    assert_eq!(settings, expected);
}

#[test]
fn the_defaults_are_allowed() {
    let defaults = [
        (HOLD_LIMIT, "20s"),
        (MAX_HELD, "50"),
        (SETTLE, "5m"),
        (METRICS_DELAY, "3m"),
        (IDLE_MIN, "5m"),
        (LOG, "info"),
        (METRICS, "off"),
    ];
    assert_eq!(Settings::read(&with(&defaults)), Settings::read(&good()));
}

#[test]
fn everything_wrong_is_told_at_once_with_its_key() {
    let nothing: BTreeMap<String, String> = BTreeMap::new();
    assert_eq!(wrong(&nothing), [LISTENERS, LEDGER, WAKER]);
    let all = with(&[
        (LISTENERS, "x"),
        (LEDGER, "x"),
        (WAKER, "x y"),
        (HOLD_LIMIT, "x"),
        (MAX_HELD, "x"),
        (SETTLE, "x"),
        (METRICS_DELAY, "x"),
        (IDLE_MIN, "x"),
        (LOGO, "x"),
        (COLOR, "x"),
        (MESSAGE, &"x".repeat(501)),
        (LOG, "x"),
        (METRICS, "x"),
        ("AUTOSTOPPING_HOLD_LIMITS", "20s"),
    ]);
    let mut expected = ALL.to_vec();
    expected.push("AUTOSTOPPING_HOLD_LIMITS");
    assert_eq!(wrong(&all), expected);
    let text = Settings::read(&all).unwrap_err().to_string();
    assert!(text.contains("AUTOSTOPPING_HOLD_LIMIT is probably meant"), "{text}");
    assert!(
        text.contains("AUTOSTOPPING_SETTLE = \"x\" cannot be used; allowed: a duration"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 14);
}

#[test]
fn values_one_by_one() {
    let right = [
        (HOLD_LIMIT, "1s"),
        (HOLD_LIMIT, "50s"),
        (HOLD_LIMIT, ""),
        (LOG, " "),
        (LOG, "INFO"),
        (MAX_HELD, "0"),
        (MAX_HELD, "1000"),
        (SETTLE, "1s"),
        (METRICS_DELAY, "0s"),
        (IDLE_MIN, "10s"),
        (IDLE_MIN, "24h"),
        (LOG, "proxymanager=debug,aws_smithy_runtime::client=warn,error"),
        (LEDGER, "dynamodb:abc"),
        (LEDGER, " memory "),
        (WAKER, "autostopping-waker"),
        (WAKER, &format!("{GROUP},site-waker")),
        (LISTENERS, &format!("{ONE},\n  {TWO}")),
        ("AUTO_STOPPING_X", "of somebody else"),
    ];
    for (key, value) in right {
        assert_eq!(wrong(&with(&[(key, value)])), [""; 0], "{key} = {value}");
    }
    let of = |listener: &str| ONE.replace(":listener/app/site/50dc6c495c0c9188/f2f7dc8efc522ab2", listener);
    let bad = [
        (HOLD_LIMIT, "51s".to_owned()),
        (HOLD_LIMIT, "0s".to_owned()),
        (HOLD_LIMIT, "20".to_owned()),
        (MAX_HELD, "1001".to_owned()),
        (MAX_HELD, "-1".to_owned()),
        (SETTLE, "0s".to_owned()),
        (METRICS_DELAY, "0".to_owned()),
        (METRICS_DELAY, "31m".to_owned()),
        (IDLE_MIN, "25h".to_owned()),
        (LOG, "loud".to_owned()),
        (LOG, "=info".to_owned()),
        (LOG, "info,".to_owned()),
        (LEDGER, "dynamodb:".to_owned()),
        (LEDGER, "dynamodb:no".to_owned()),
        (LEDGER, "dynamodb:two words".to_owned()),
        (LEDGER, "Memory".to_owned()),
        (LISTENERS, format!("{ONE},{ONE}")),
        (LISTENERS, format!("{ONE},")),
        (LISTENERS, of(":listener/net/site/50dc6c495c0c9188/f2f7dc8efc522ab2")),
        (LISTENERS, of(":listener/app/site/50dc6c495c0c9188")),
        (LISTENERS, of(":listener/app/site//f2f7dc8efc522ab2")),
        (LISTENERS, of(":loadbalancer/app/site/50dc6c495c0c9188")),
        (LISTENERS, ONE.replace("123456789012", "12345")),
        (LISTENERS, ONE.replace("arn:aws:", "arn:awful:")),
        (LISTENERS, ONE.replace("elasticloadbalancing", "ec2")),
        (LISTENERS, GROUP.to_owned()),
        (WAKER, ONE.to_owned()),
        (WAKER, "-waker".to_owned()),
        (WAKER, "a".repeat(33)),
        (WAKER, "waker,waker".to_owned()),
        (WAKER, GROUP.replace("eu-west-1", "eu-west-2")),
    ];
    for (key, value) in bad {
        assert_eq!(wrong(&with(&[(key, &value)])), [key], "{key} = {value}");
    }
}

#[test]
fn memory_is_refused_on_lambda_and_not_in_an_emulator() {
    let table: [(&[(&str, &str)], bool); 10] = [
        (&[], true),
        (
            &[
                ("AWS_LAMBDA_FUNCTION_NAME", "test_function"),
                ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"),
            ],
            true,
        ),
        (&[("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")], false),
        (&[("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023")], false),
        (&[("AWS_EXECUTION_ENV", "AWS_ECS_FARGATE")], true),
        (
            &[
                ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
                ("AWS_SAM_LOCAL", "true"),
            ],
            true,
        ),
        (
            &[
                ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
                ("AWS_ENDPOINT_URL", "http://127.0.0.1:4566"),
            ],
            true,
        ),
        (
            &[
                ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
                ("AWS_ENDPOINT_URL", "http://10.0.0.1:4566/"),
            ],
            true,
        ),
        (
            &[
                ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
                (
                    "AWS_ENDPOINT_URL",
                    "https://vpce-1.dynamodb.eu-west-1.vpce.amazonaws.com:443/",
                ),
            ],
            false,
        ),
        (
            &[
                ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
                ("AWS_ENDPOINT_URL", ""),
            ],
            false,
        ),
    ];
    for (environment, accepted) in table {
        let mut map = with(&[(LEDGER, "memory")]);
        map.extend(
            environment
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        );
        let expected: &[&str] = if accepted { &[] } else { &[LEDGER] };
        assert_eq!(wrong(&map), expected, "{environment:?}");
        map.insert(LEDGER.to_owned(), "dynamodb:table".to_owned());
        assert_eq!(wrong(&map), [""; 0], "{environment:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(values in proptest::collection::vec(".*", 9), odd in "AUTOSTOPPING_.*") {
        let mut map: BTreeMap<String, String> =
            ALL.iter().zip(values).map(|(key, value)| ((*key).to_owned(), value)).collect();
        map.insert(odd, String::new());
        if let Err(errors) = Settings::read(&map) {
            prop_assert!(!errors.0.is_empty());
            prop_assert!(errors.0.iter().all(|bad| !bad.allowed.is_empty() && bad.key.starts_with(PREFIX)));
        }
    }
}

#[test]
fn a_logo_that_is_no_image_a_colour_that_is_none_and_an_endless_message_are_named() {
    let long = "x".repeat(501);
    let wrong_ones = with(&[
        (LOGO, "https://example.com/logo.png"),
        (COLOR, "blue"),
        (MESSAGE, &long),
    ]);
    assert_eq!(wrong(&wrong_ones), [LOGO, COLOR, MESSAGE]);
    assert_eq!(
        branding(&wrong_ones),
        Settings::read(&wrong_ones).map(|settings| settings.branding)
    );
    let huge = format!("data:image/png;base64,{}", "A".repeat(9000));
    let told = branding(&with(&[(LOGO, &huge)])).unwrap_err().to_string();
    assert!(
        told.starts_with("AUTOSTOPPING_LOGO = \"data:image/png") && told.len() < 400,
        "{told}"
    );
    let said = branding(&with(&[(COLOR, "#0b5cad"), (MESSAGE, " Questions? Ask us. ")])).unwrap();
    assert_eq!(said.message.as_deref(), Some("Questions? Ask us."));
    assert_eq!(said.colour.map(|colour| colour.to_string()).as_deref(), Some("#0b5cad"));
}
