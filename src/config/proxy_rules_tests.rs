use super::*;
use crate::domain::rule::ResourceId;

fn config() -> ProxyConfig {
    ProxyConfig::read(Path::new("/etc/pm/config.toml"), "").unwrap()
}

fn read(file: &str, text: &str) -> Result<ProxyRule, String> {
    ProxyRule::read(Path::new(file), text, &config()).map_err(|errors| errors.to_string())
}

const SSH: &str = "idle = \"15m\"\nresources = [\"i-0123456789abcdef0\"]\n[[tcp]]\nport = 22\n";

#[test]
fn a_rule_is_named_by_its_file_and_its_policy_is_said_as_in_tags() {
    let rule = read("rules.d/dev.toml", SSH).unwrap();
    assert_eq!(rule.name.0, "dev");
    let tag = |key: &str| rule.tags.get(key).map(String::as_str);
    assert_eq!(tag("autostopping:idle"), Some("15m"));
    assert_eq!(
        tag("autostopping:busy-network"),
        Some("off"),
        "Envoy sees every connection"
    );
    assert_eq!(rule.tcp[0].protocol, Protocol::Ssh);
    assert_eq!((rule.tcp[0].listen, rule.wake_timeout), (None, DEFAULT_WAKE_TIMEOUT));
}

#[test]
fn a_database_is_given_more_time() {
    let rule = read("db.toml", "idle = \"1h\"\nresources = \"rds:orders\"\nallow = [\"10.0.0.0/8\", \"192.0.2.7\"]\nwakes-per-day = 5\ndry-run = true\n[[tcp]]\nport = 5432\n").unwrap();
    assert_eq!(rule.wake_timeout, DEFAULT_DATABASE_WAKE_TIMEOUT);
    assert_eq!(rule.tags["autostopping:deadline"], "30m");
    assert_eq!(rule.tags["autostopping:allow"], "10.0.0.0/8 192.0.2.7");
    assert_eq!(
        (
            rule.tags["autostopping:wakes-per-day"].as_str(),
            rule.tags["autostopping:dry-run"].as_str()
        ),
        ("5", "true")
    );
}

/// Red when each spelling was a database of its own, with a rule that stops it.
#[test]
fn a_database_has_one_id_however_it_is_spelled() {
    let text =
        "idle = \"1h\"\nresources = [\"rds:Orders-1\", \"rds:orders-1\", \"rds-cluster:ALL\"]\n[[tcp]]\nport = 5432\n";
    let one = |id: &str| Wanted::One(ResourceId(id.to_owned()));
    assert_eq!(
        read("db.toml", text).unwrap().resources,
        [one("rds-cluster:all"), one("rds:orders-1")]
    );
}

#[test]
fn machines_by_tag_and_sites() {
    let rule = read("web.toml", "name = \"site\"\nidle = \"15m\"\nresources = [{ tag = { app = \"web\" } }]\n[[http]]\nhosts = [\"App.Example.com.\", \"*.example.org\"]\npath = \"/shop\"\nport = 8080\ntls = true\ncheck = \"/up?x=1\"\n").unwrap();
    assert_eq!(
        rule.resources,
        [Wanted::Tagged(BTreeMap::from([("app".to_owned(), "web".to_owned())]))]
    );
    assert_eq!(rule.http[0].hosts, ["*.example.org", "app.example.com"]);
    assert!(rule.http[0].tls && rule.http[0].check.as_deref() == Some("/up?x=1"));
}

/// Red when unknown keys were passed over, and when the first error ended the reading.
#[test]
fn all_that_is_wrong_is_told_at_once_with_its_line() {
    let text = "idel = \"15m\"\nhold = \"maybe\"\nallow = \"10.0.0.0/33\"\nschedule = \"mon-fri\"\nresources = [\"vm-1\", \"i-0123456789abcdeX0\"]\n[[tcp]]\nport = 70000\nlisten = 50000\nprotocol = \"telnet\"\n[[http]]\nhosts = \"a b\"\nprot = 80\n";
    let told = read("rules.d/bad.toml", text).unwrap_err();
    for (line, words) in [
        (Some(1), "idel is unknown: idle is probably meant"),
        (None, "idle is missing; allowed: a duration"),
        (Some(2), "hold = \"maybe\" cannot be used; allowed: page or wait"),
        (
            Some(3),
            "allow = \"10.0.0.0/33\" cannot be used; allowed: one or more networks",
        ),
        (Some(4), "schedule = \"mon-fri\" cannot be used; allowed: nothing yet"),
        (Some(5), "resources = \"vm-1\" cannot be used"),
        (Some(5), "resources = \"i-0123456789abcdeX0\" cannot be used"),
        (
            Some(7),
            "tcp.port = \"70000\" cannot be used; allowed: a number from 1 to 65535",
        ),
        (Some(8), "tcp.listen = \"50000\" cannot be used; allowed: a port"),
        (Some(9), "tcp.protocol = \"telnet\" cannot be used; allowed: one of ssh"),
        (Some(11), "http.hosts = \"a b\" cannot be used"),
        (Some(12), "http.prot is unknown: http.port is probably meant"),
        (Some(10), "http.port is missing"),
    ] {
        let start = match line {
            Some(line) => format!("rules.d/bad.toml:{line}: {words}"),
            None => format!("rules.d/bad.toml: {words}"),
        };
        assert!(
            told.lines().any(|told| told.starts_with(&start)),
            "{start}\nnot in\n{told}"
        );
    }
    assert_eq!(told.lines().count(), 13, "{told}");
}

/// Red when it was accepted in silence: the rule would never have slept, or never have been woken.
#[test]
fn what_the_proxy_cannot_act_on_is_refused() {
    let with = |words: &str, ways: &str| {
        let text = format!("idle = \"15m\"\nresources = \"i-01234567\"\n{words}\n[[tcp]]\nport = 22\n{ways}");
        read("x.toml", &text)
    };
    for (words, told) in [
        (
            "busy-cpu = 5",
            "x.toml:3: busy-cpu = \"5\" cannot be used; allowed: off; the proxy does not ask",
        ),
        (
            "busy-network = 100000",
            "x.toml:3: busy-network = \"100000\" cannot be used; allowed: off; the proxy",
        ),
        (
            "busy-network = \"a lot\"",
            "x.toml:3: busy-network = \"a lot\" cannot be used; allowed: off; the proxy",
        ),
        (
            "confirm = true",
            "x.toml:3: confirm = \"true\" cannot be used; allowed: false; by TCP nobody can",
        ),
    ] {
        let said = with(words, "").unwrap_err();
        assert!(said.starts_with(told) && said.lines().count() == 1, "{said}");
    }
    let told = "x.toml:9: http.check = \"/up\" cannot be used; allowed: nothing with http2 = true";
    let said = with(
        "",
        "[[http]]\nhosts = \"a.test\"\nport = 80\ncheck = \"/up\"\nhttp2 = true\n",
    )
    .unwrap_err();
    assert!(said.starts_with(told) && said.lines().count() == 1, "{said}");
    for words in ["busy-cpu = \"off\"", "busy-network = \" off\"", "confirm = false"] {
        assert!(with(words, "").is_ok(), "{words}");
    }
    let site = "[[http]]\nhosts = \"a.test\"\nport = 80\n";
    assert!(
        with("confirm = true", site).is_ok(),
        "the button is on the page of a.test"
    );
}

#[test]
fn a_rule_without_a_way_in_or_with_a_filter_for_everything_is_refused() {
    let told = read("x.toml", "idle = \"15m\"\nresources = [{ tag = {} }]\n").unwrap_err();
    assert!(
        told.contains("would mean every machine") && told.contains("there is no way in"),
        "{told}"
    );
    let told = read("a b.toml", SSH).unwrap_err();
    assert!(told.contains("\"a b\" is no rule's name"), "{told}");
}

/// Red when the rule refused took its ports from the next.
#[test]
fn of_two_rules_with_one_thing_the_later_is_told_and_takes_nothing() {
    let rule = |name: &str, host: &str, port: u16| {
        let text = format!(
            "idle = \"15m\"\nresources = \"i-01234567\"\n[[http]]\nhosts = \"{host}\"\nport = 80\n[[tcp]]\nport = 22\nlisten = {port}\n"
        );
        let file = format!("{name}.toml");
        (file.clone(), read(&file, &text).unwrap())
    };
    let rules = [
        rule("a", "a.test", 2201),
        rule("b", "a.test", 2202),
        rule("c", "c.test", 2202),
        rule("d", "d.test", 2201),
    ];
    let told: Vec<_> = conflicts(&rules)
        .into_iter()
        .map(|(at, error)| (at, error.to_string()))
        .collect();
    assert_eq!(
        told,
        [
            (
                1,
                "b.toml: the host a.test with the path / is in a.toml already: give each rule its own".to_owned()
            ),
            (
                3,
                "d.toml: the port 2201 is in a.toml already: give each rule its own".to_owned()
            ),
        ]
    );
}

/// Red when paths were compared as they are written: Envoy has one route for both.
#[test]
fn a_path_is_one_with_and_without_a_slash_at_its_end_and_no_part_of_another() {
    let rule = |name: &str, path: &str| {
        let text = format!(
            "idle = \"15m\"\nresources = \"i-01234567\"\n[[http]]\nhosts = \"a.test\"\nport = 80\npath = \"{path}\"\n"
        );
        let file = format!("{name}.toml");
        (file.clone(), read(&file, &text).unwrap())
    };
    let rules = [
        rule("a", "/app"),
        rule("b", "/app/"),
        rule("c", "/apple"),
        rule("d", "/"),
    ];
    assert_eq!(rules[1].1.http[0].path, "/app");
    let told: Vec<_> = conflicts(&rules)
        .into_iter()
        .map(|(_, error)| error.to_string())
        .collect();
    assert_eq!(
        told,
        ["b.toml: the host a.test with the path /app is in a.toml already: give each rule its own"]
    );
}

#[test]
fn a_machines_port_has_one_way_in() {
    let told = read("x.toml", &format!("{SSH}[[tcp]]\nport = 22\n")).unwrap_err();
    assert!(told.contains("tcp.port = 22 has a way in already"), "{told}");
}
