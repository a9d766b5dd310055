use super::*;

fn read(text: &str) -> Result<ProxyConfig, String> {
    ProxyConfig::read(Path::new("/etc/pm/config.toml"), text).map_err(|errors| errors.to_string())
}

#[test]
fn nothing_said_is_the_documented_defaults() {
    let config = read("").unwrap();
    assert_eq!((config.proxy_port, config.usage_port), (8093, 8094));
    assert_eq!(config.port_range, 49152..=65535);
    assert_eq!(config.rules, Path::new("/etc/pm/rules.d"));
    assert!(config.status_address.is_loopback() && config.warnings.is_empty());
    assert_eq!(config.listen, [IpAddr::from([0, 0, 0, 0])]);
    assert_eq!(config.describe_delay, Duration::from_secs(60));
}

#[test]
fn a_configuration_of_old_loads_with_a_warning_and_its_token_is_nowhere() {
    let config = read("accountID = \"kmpySmUISimoRrJL6NL73w\"\naccessPointID = \"ap-1\"\napiURL = \"https://x/\"\nauthToken = \"s3cret\"\nproxyPort = 8193\nusageTrackingPort = 8194\n").unwrap();
    assert_eq!(config.account.as_deref(), Some("kmpySmUISimoRrJL6NL73w"));
    assert_eq!((config.proxy_port, config.usage_port), (8193, 8194));
    assert_eq!(config.warnings.len(), 2);
    assert!(config.warnings[1].starts_with("authToken is not used: it is not needed"));
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn paths_are_taken_from_the_folder_of_the_file() {
    let config =
        read("ledger = \"file:state\"\nrules = \"r\"\n[[tls]]\ncertificate = \"c.pem\"\nkey = \"/k.pem\"\n").unwrap();
    assert_eq!(config.ledger, PathBuf::from("/etc/pm/state"));
    let (certificate, key) = (PathBuf::from("/etc/pm/c.pem"), PathBuf::from("/k.pem"));
    assert_eq!(config.tls, [Certificate::Files { certificate, key }]);
}

/// Red when the first error ended the reading.
#[test]
fn all_that_is_wrong_is_told_at_once_with_its_line() {
    let text = "proxyPorts = 1\nproxyPort = -1\nlisten = [\"10.0.0.1\", \"host\"]\nportRange = \"9-8\"\nledger = \"dynamodb:x\"\nregion = \"Frankfurt\"\nsettle = \"5\"\n[[tls]]\nkey = \"k.pem\"\n";
    let told = read(text).unwrap_err();
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 8, "{told}");
    for (line, words) in [
        (1, "proxyPorts is unknown: proxyPort is probably meant"),
        (
            2,
            "proxyPort = \"-1\" cannot be used; allowed: a number from 0 to 65535",
        ),
        (3, "listen = \"host\" cannot be used; allowed: IP addresses"),
        (4, "portRange = \"9-8\" cannot be used; allowed: FIRST-LAST"),
        (5, "ledger = \"dynamodb:x\" cannot be used; allowed: file:FOLDER"),
        (6, "region = \"Frankfurt\" cannot be used"),
        (7, "settle = \"5\" cannot be used; allowed: a duration with its unit"),
        (8, "a certificate is given in one of three ways"),
    ] {
        let start = format!("/etc/pm/config.toml:{line}: {words}");
        assert!(
            lines.iter().any(|told| told.starts_with(&start)),
            "{start}\nnot in\n{told}"
        );
    }
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    let told = read("region = \"eu-west-1\"\nlisten = [\n").unwrap_err();
    assert!(told.starts_with("/etc/pm/config.toml:"), "{told}");
}

#[test]
fn no_port_is_had_twice() {
    let told = read("proxyPort = 80\nusageTrackingPort = 50000\n").unwrap_err();
    assert!(told.contains("the port 80 is in proxyPort too"), "{told}");
    assert!(
        told.contains("config.toml:2: usageTrackingPort: the port 50000 lies in portRange"),
        "{told}"
    );
}
