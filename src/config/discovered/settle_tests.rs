use std::path::Path;

use super::super::tests::{HERE, opted, tagged};
use super::super::{HOST, TCP};
use super::*;
use crate::config::proxy::ProxyConfig;

/// A proxy's daemon without rule files, from one look at the tags to the next.
#[derive(Default)]
struct Proxy {
    last: Vec<Tagged>,
    files: Vec<ProxyRule>,
}

impl Proxy {
    fn new(all: &[Tagged]) -> Self {
        let mut proxy = Proxy::default();
        assert_eq!(proxy.sees(all).1, [""; 0]);
        proxy
    }

    /// Its rules with their machines and ports, and whom it has something to say about.
    fn sees(&mut self, all: &[Tagged]) -> (Vec<String>, Vec<String>) {
        let found = discovered(all, &self.last, &self.files, &HERE);
        self.last = found.last;
        let rule = |rule: &ProxyRule| {
            let ids = rule.resources.iter().map(|one| match one {
                Wanted::One(id) => id.0.as_str(),
                Wanted::Tagged(_) => "tags",
            });
            let ids: Vec<_> = ids.collect();
            let ports: Vec<_> = rule.tcp.iter().map(|way| way.port.to_string()).collect();
            let hosts: Vec<_> = rule.http.iter().flat_map(|way| way.hosts.clone()).collect();
            format!("{}: {} {}", rule.name, ids.join(" "), [ports, hosts].concat().join(" "))
        };
        let problems = found.problems.iter().map(|(id, problem)| format!("{id}: {problem}"));
        (found.rules.iter().map(rule).collect(), problems.collect())
    }
}

/// Red when one bad tag was the end of the rule.
#[test]
fn what_can_no_longer_be_read_stays_as_it_was_while_it_is_opted_in() {
    let good = opted("i-1", &[("Name", "dev"), (TCP, "22")]);
    let bad = opted("i-1", &[("Name", "dev"), (TCP, "ssh")]);
    let mut proxy = Proxy::new(&[good]);
    for _ in 0..2 {
        let (rules, problems) = proxy.sees(std::slice::from_ref(&bad));
        assert_eq!(rules, ["dev: i-1 22"]);
        assert!(problems[0].contains("i-1: the tag autostopping:tcp"), "{problems:?}");
    }
    let changed = opted("i-1", &[("Name", "dev"), (TCP, "3389")]);
    assert_eq!(proxy.sees(&[changed]).0, ["dev: i-1 3389"]);
    assert_eq!(
        proxy.sees(std::slice::from_ref(&bad)).0,
        ["dev: i-1 3389"],
        "the last, not the first"
    );
    let mut out = bad.clone();
    out.tags.insert(PROXY.to_owned(), "false".to_owned());
    assert_eq!(proxy.sees(&[out]).0, [""; 0]);
    assert_eq!(proxy.sees(&[bad]).0, [""; 0], "what was opted out is new");
}

/// Red when both were left out, and when the machine that comes first won.
#[test]
fn a_new_machine_takes_neither_name_nor_host_from_one_in_use() {
    let one = opted("i-5", &[("Name", "dev"), (TCP, "22"), (HOST, "dev.example.com")]);
    let mut proxy = Proxy::new(std::slice::from_ref(&one));
    let in_use = ["dev: i-5 22 dev.example.com"];
    let namesake = opted("i-1", &[("Name", "dev"), (TCP, "80")]);
    let (rules, problems) = proxy.sees(&[namesake, one.clone()]);
    assert_eq!(rules, in_use);
    assert!(
        problems.len() == 1 && problems[0].contains("i-1: it and i-5 have the same"),
        "{problems:?}"
    );
    let thief = opted("i-1", &[("Name", "a"), (HOST, "dev.example.com")]);
    let (rules, problems) = proxy.sees(&[thief.clone(), one.clone()]);
    assert_eq!(rules, in_use);
    assert!(
        problems.len() == 1
            && problems[0].contains("i-1: the host dev.example.com with the path / is in the tags of i-5"),
        "{problems:?}"
    );
    // Gone, its host is free.
    assert_eq!(proxy.sees(std::slice::from_ref(&thief)).0, ["a: i-1 dev.example.com"]);
    assert_eq!(
        proxy.sees(&[thief, one]).0,
        ["a: i-1 dev.example.com"],
        "now it is the one in use"
    );
}

/// Red when a rule that cannot have what it says was left out.
#[test]
fn what_is_changed_to_what_another_has_stays_as_it_was() {
    let one = opted("i-1", &[("Name", "a"), (HOST, "a.example.com"), (TCP, "22")]);
    let other = opted("i-2", &[("Name", "b"), (HOST, "b.example.com")]);
    let mut proxy = Proxy::new(&[one, other.clone()]);
    let wants = opted("i-1", &[("Name", "a"), (HOST, "b.example.com"), (TCP, "22")]);
    let (rules, problems) = proxy.sees(&[wants, other.clone()]);
    assert_eq!(rules, ["a: i-1 22 a.example.com", "b: i-2 b.example.com"]);
    assert!(problems[0].contains("i-1: the host b.example.com"), "{problems:?}");
    let renamed = opted("i-1", &[("Name", "b"), (HOST, "a.example.com"), (TCP, "22")]);
    assert_eq!(
        proxy.sees(&[renamed, other]).0,
        ["a: i-1 22 a.example.com", "b: i-2 b.example.com"]
    );
}

/// Red when a difference was the end of the rule.
#[test]
fn machines_of_one_rule_are_changed_one_after_the_other() {
    let of = |id: &str, ports: &str| opted(id, &[(tags::NAME, "farm"), (TCP, ports)]);
    let mut proxy = Proxy::new(&[of("i-1", "22"), of("i-2", "22")]);
    let (rules, problems) = proxy.sees(&[of("i-1", "22 80"), of("i-2", "22")]);
    assert_eq!(rules, ["farm: i-2 i-1 22"]);
    assert!(
        problems.len() == 1 && problems[0].starts_with("i-1: it and i-2"),
        "{problems:?}"
    );
    let (rules, problems) = proxy.sees(&[of("i-1", "22 80"), of("i-2", "22 80")]);
    assert_eq!((rules, problems), (vec!["farm: i-1 i-2 22 80".to_owned()], Vec::new()));
    // Both at once and differently: nobody knows which is meant.
    let (rules, problems) = proxy.sees(&[of("i-1", "1"), of("i-2", "2"), of("i-3", "22 80")]);
    assert_eq!(rules, ["farm: i-1 i-2 22 80"]);
    assert_eq!(problems.len(), 3, "{problems:?}");
}

#[test]
fn a_rule_file_goes_before_tags_and_they_come_back() {
    let machine = opted("i-1", &[("Name", "dev"), (HOST, "dev.example.com")]);
    let mut proxy = Proxy::new(std::slice::from_ref(&machine));
    let config = ProxyConfig::read(Path::new("config.toml"), "").unwrap();
    let text = "idle = \"1h\"\nresources = \"program:x\"\n[[http]]\nhosts = \"dev.example.com\"\nport = 80\n";
    proxy.files = vec![ProxyRule::read(Path::new("site.toml"), text, &config).unwrap()];
    let (rules, problems) = proxy.sees(std::slice::from_ref(&machine));
    assert_eq!(rules, [""; 0]);
    assert!(problems[0].contains("is in the rule site already"), "{problems:?}");
    proxy.files.clear();
    assert_eq!(proxy.sees(&[machine]).0, ["dev: i-1 dev.example.com"]);
}

/// Red when every proxy took what is for any.
#[test]
fn what_is_for_any_proxy_is_for_none_where_there_are_two() {
    let dev = opted("i-1", &[("Name", "dev"), (TCP, "22")]);
    let mut named = dev.clone();
    named.tags.insert(PROXY.to_owned(), "here".to_owned());
    let other = tagged("i-9", &[(ACCESS_POINT, "other")]);
    let (rules, problems) = Proxy::default().sees(&[dev.clone(), other.clone()]);
    assert_eq!(rules, [""; 0]);
    assert!(
        problems[0].contains("i-1: the proxy \"other\" is in this Region too") && problems[0].contains("accessPointID"),
        "{problems:?}"
    );
    assert_eq!(Proxy::new(&[named.clone(), other.clone()]).last.len(), 1);
    // One that comes later takes nothing from the first, which says so.
    let mut first = Proxy::new(std::slice::from_ref(&dev));
    let (rules, problems) = first.sees(&[dev, other]);
    assert_eq!((rules.len(), problems.len()), (1, 1), "{problems:?}");
    let twin = tagged("i-9", &[(ACCESS_POINT, "here")]);
    let (rules, problems) = Proxy::default().sees(&[named, twin]);
    assert_eq!(rules, [""; 0]);
    assert!(
        problems[0].contains("another machine in this Region is the proxy here too"),
        "{problems:?}"
    );
}

/// Red when a proxy opted in was served, and when its own machine was another proxy to it.
#[test]
fn a_proxy_is_never_put_to_sleep_and_does_not_count_itself() {
    let own = ResourceId("i-1".to_owned());
    let here = Here {
        machine: Some(&own),
        ..HERE
    };
    let dev = opted("i-2", &[("Name", "dev"), (TCP, "22")]);
    let seen = tagged("i-1", &[(ACCESS_POINT, "here")]);
    let found = discovered(&[seen, dev.clone()], &[], &[], &here);
    assert_eq!((found.rules.len(), found.problems), (1, Vec::new()));
    let itself = opted("i-1", &[(TCP, "22"), (ACCESS_POINT, "here")]);
    let other = opted("i-3", &[(TCP, "22"), (ACCESS_POINT, "other")]);
    for all in [vec![itself], vec![opted("i-1", &[(TCP, "22")])], vec![other]] {
        let found = discovered(&all, &all, &[], &here);
        assert!(found.rules.is_empty() && found.last.is_empty(), "{found:?}");
        assert!(found.problems[0].1.contains("it is a proxy"), "{found:?}");
    }
    let found = discovered(&[dev], &[], &[], &here);
    assert_eq!(found.rules.len(), 1);
    assert!(
        found.problems[0]
            .1
            .contains("give its machine the tag autostopping:access-point = here")
    );
}
