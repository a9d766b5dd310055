use super::*;
use crate::config::proxy_rules::ProxyRule;

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
    let pair = Pair::Files { certificate, key };
    assert_eq!(
        config.tls,
        [Tls {
            pair,
            hosts: Vec::new()
        }]
    );
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

/// Red when what is no text was shown as an empty one.
#[test]
fn what_is_no_text_is_told_by_its_kind() {
    let told = read("httpsPorts = 0x50\nproxyPort = 0x50\nhttpPorts = [80, 8.0]\nlisten = { a = 1 }\nregion = [1, { }]\naccountID = \"\"\n").unwrap_err();
    let lines: Vec<_> = told
        .lines()
        .map(|line| line.trim_start_matches("/etc/pm/config.toml:"))
        .collect();
    let some = "a text, a whole decimal number, true, false or a list of those";
    assert_eq!(
        lines[..5],
        [
            "1: httpsPorts is a number that is not written in decimal digits; allowed: ports from 1 to 65535",
            &format!("2: proxyPort is a number that is not written in decimal digits; allowed: {some}"),
            "3: httpPorts is a number with a point or an exponent; allowed: ports from 1 to 65535",
            "4: listen is a table; allowed: IP addresses of this machine such as 10.0.0.5, or 0.0.0.0 for all of them",
            &format!("5: region is a list with something else in it; allowed: {some}"),
        ]
    );
    assert!(lines[5].starts_with("6: accountID = \"\" cannot be used"), "{told}");
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

#[test]
fn a_host_has_one_certificate_and_a_certificate_one_entry() {
    let tls = |more: &str| {
        read(&format!(
            "[[tls]]\nsecret = \"a\"\nhosts = [\"A.example.com\", \"*.b.example.com\"]\n{more}"
        ))
    };
    let config = tls("[[tls]]\nsecret = \"b\"\n").unwrap();
    assert_eq!(config.tls[0].hosts, ["a.example.com", "*.b.example.com"]);
    assert!(config.tls[1].hosts.is_empty());
    let told = tls("[[tls]]\nsecret = \"a\"\nhosts = [\"a.example.com\", \"a b\"]\n").unwrap_err();
    for words in [
        "config.toml:4: the certificate a is given twice",
        "config.toml:6: tls.hosts: a.example.com is in an earlier place already",
        "config.toml:6: tls.hosts = \"a b\" cannot be used; allowed: host names",
    ] {
        assert!(told.contains(words), "{words}\nnot in\n{told}");
    }
}

/// Red when every port went to the first one.
#[test]
fn each_http_port_is_redirected_to_its_own_https_port() {
    let config = |more: &str| {
        let text = format!("httpPorts = [80, 8080, 8081]\nhttpsPorts = [443, 8443]\n{more}\n[[tls]]\nsecret = \"a\"\n");
        read(&text).unwrap()
    };
    let to = |config: &ProxyConfig| [0, 1, 2].map(|place| config.redirect_of(place));
    assert_eq!(
        to(&config("redirectToHTTPS = true")),
        [Some(443), Some(8443), Some(443)]
    );
    assert_eq!(to(&config("")), [None; 3]);
}

#[test]
fn records_lead_to_addresses_or_a_name_and_have_an_owner() {
    let target = |text: &str| {
        let text = format!("accessPointID = \"ap\"\nhostedZone = \"Z1\"\naddress = {text}\n");
        read(&text).map(|config| config.address)
    };
    let addresses = |texts: &[&str]| {
        let all = texts.iter().map(|text| text.parse().unwrap()).collect();
        Ok(Some(RecordTarget::Addresses(all)))
    };
    assert_eq!(target("\"192.0.2.1\""), addresses(&["192.0.2.1"]));
    assert_eq!(
        target("[\"192.0.2.1\", \"2001:db8::1\"]"),
        addresses(&["192.0.2.1", "2001:db8::1"])
    );
    let name = RecordTarget::Name("proxy.example.com".to_owned());
    assert_eq!(target("\"Proxy.example.com.\""), Ok(Some(name)));
    for bad in [
        "\"\"",
        "\"192.0.2.300/8\"",
        "\"*.example.com\"",
        "\"here\"",
        "[\"a.example.com\", \"192.0.2.1\"]",
    ] {
        let told = target(bad).unwrap_err();
        assert!(told.contains("config.toml:3: address"), "{bad}: {told}");
    }
    let told = read("hostedZone = \"Z1\"\n").unwrap_err();
    assert!(told.contains("hostedZone needs accessPointID"), "{told}");
}

#[test]
fn what_the_documentation_shows_loads() {
    let text = include_str!("../../docs/proxy.md");
    let blocks = text
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let mut read = Vec::new();
    for block in blocks {
        let file = block.lines().next().unwrap().trim_start_matches("# ");
        if file.ends_with("config.toml") {
            let config = ProxyConfig::read(Path::new(file), block).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!((config.tls.len(), config.warnings.len()), (3, 0));
        } else {
            let plain = ProxyConfig::read(Path::new("config.toml"), "").unwrap();
            ProxyRule::read(Path::new(file), block, &plain).unwrap_or_else(|errors| panic!("{errors}"));
        }
        read.push(file);
    }
    assert_eq!(
        read,
        ["/etc/proxymanager/rules.d/dev.toml", "/etc/proxymanager/config.toml"]
    );
}
