use super::*;

const NAME: &str = "db.example.com";

fn addresses(texts: &[&str]) -> Target {
    Target::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect())
}

fn at(kind: &str, values: &[&str]) -> RecordSet {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    set(format!("{NAME}."), kind, values)
}

fn marks(owner: &str) -> Vec<RecordSet> {
    let value = format!("\"autostopping-proxy={owner}\"");
    vec![set(format!("_autostopping.{NAME}."), "TXT", vec![value])]
}

/// The changes in short, or why there are none.
fn decided(target: &Target, there: &[RecordSet], marks: &[RecordSet]) -> Result<Vec<String>, String> {
    match decide(NAME, target, "me", there, marks) {
        Decision::Nothing => Ok(Vec::new()),
        Decision::Refuse(why) => Err(why),
        Decision::Change(changes) => Ok(changes
            .iter()
            .map(|change| format!("{} {}", change.action, change.resource_record_set.kind))
            .collect()),
    }
}

#[test]
fn a_free_name_is_taken_and_marked_in_one_batch() {
    let both = addresses(&["192.0.2.1", "2001:db8::1"]);
    assert_eq!(
        decided(&both, &[], &[]).unwrap(),
        ["CREATE A", "CREATE AAAA", "CREATE TXT"]
    );
    // What else is there does not lead anywhere, and only a CNAME cannot stand beside it.
    let mail = [at("MX", &["10 mail.example.com"])];
    let one = addresses(&["192.0.2.1"]);
    assert_eq!(decided(&one, &mail, &[]).unwrap(), ["CREATE A", "CREATE TXT"]);
    let name = Target::Name("proxy.example.net".to_owned());
    assert!(decided(&name, &mail, &[]).unwrap_err().contains("shares its name"));
}

#[test]
fn what_is_right_is_left_alone_whoever_made_it() {
    let both = addresses(&["192.0.2.1", "2001:db8::1"]);
    let there = [at("A", &["192.0.2.1"]), at("AAAA", &["2001:DB8:0::1"])];
    assert_eq!(decided(&both, &there, &[]), Ok(Vec::new()));
    assert_eq!(decided(&both, &there, &marks("me")), Ok(Vec::new()));
    let name = Target::Name("Proxy.example.net".to_owned());
    assert_eq!(
        decided(&name, &[at("CNAME", &["proxy.example.net."])], &[]),
        Ok(Vec::new())
    );
}

#[test]
fn what_is_ours_follows_the_proxy() {
    let moved = addresses(&["192.0.2.2"]);
    let mine = marks("me");
    assert_eq!(
        decided(&moved, &[at("A", &["192.0.2.1"])], &mine).unwrap(),
        ["UPSERT A"]
    );
    let other_kind = [at("CNAME", &["old.example.net"])];
    assert_eq!(
        decided(&moved, &other_kind, &mine).unwrap(),
        ["DELETE CNAME", "UPSERT A"]
    );
    let one_more = [at("A", &["192.0.2.2"]), at("AAAA", &["2001:db8::1"])];
    assert_eq!(decided(&moved, &one_more, &mine).unwrap(), ["DELETE AAAA"]);
}

#[test]
fn what_is_not_ours_is_never_replaced() {
    let wanted = addresses(&["192.0.2.2"]);
    let theirs = [at("A", &["192.0.2.1"])];
    let why = decided(&wanted, &theirs, &[]).unwrap_err();
    assert!(why.contains("A 192.0.2.1, which this proxy did not make"), "{why}");
    let why = decided(&wanted, &theirs, &marks("other")).unwrap_err();
    assert!(why.contains("autostopping-proxy=other"), "{why}");
    let why = decided(&wanted, &[], &marks("other")).unwrap_err();
    assert!(why.contains("the mark of another proxy"), "{why}");
    let mut alias = at("A", &[]);
    alias.alias_target = Some(Alias {});
    let why = decided(&wanted, &[alias], &marks("me")).unwrap_err();
    assert!(why.contains("A an alias"), "{why}");
    let mut weighted = at("A", &["192.0.2.2"]);
    weighted.set_identifier = Some("one".to_owned());
    decided(&wanted, &[weighted], &marks("me")).unwrap_err();
}

/// Red when the mark alone decided, or the address alone.
#[test]
fn only_what_is_marked_and_still_leads_here_is_given_up() {
    let here = addresses(&["192.0.2.1"]);
    let at = |name: &str, kind: &str, value: &str| set(format!("{name}."), kind, vec![value.to_owned()]);
    let zone = [
        at("example.com", "NS", "ns.example.net."),
        at("one.example.com", "A", "192.0.2.1"),
        at("_autostopping.one.example.com", "TXT", "\"autostopping-proxy=me\""),
        at("\\052.dev.example.com", "A", "192.0.2.1"),
        at("\\052.dev.example.com", "TXT", "\"a text of somebody\""),
        at("_autostopping-any.dev.example.com", "TXT", "\"autostopping-proxy=me\""),
        at("moved.example.com", "A", "192.0.2.9"),
        at("_autostopping.moved.example.com", "TXT", "\"autostopping-proxy=me\""),
        at("theirs.example.com", "A", "192.0.2.1"),
        at(
            "_autostopping.theirs.example.com",
            "TXT",
            "\"autostopping-proxy=me@elsewhere\"",
        ),
        at("by-hand.example.com", "A", "192.0.2.1"),
    ];
    let own = own(&zone, &here, "me");
    let told: Vec<_> = own
        .iter()
        .flat_map(|(name, changes)| {
            changes
                .iter()
                .map(move |change| format!("{name} {} {}", change.action, change.resource_record_set.kind))
        })
        .collect();
    let expected = [
        "*.dev.example.com DELETE A",
        "*.dev.example.com DELETE TXT",
        "one.example.com DELETE A",
        "one.example.com DELETE TXT",
    ];
    assert_eq!(told, expected);
    let alike = own["*.dev.example.com"][1].resource_record_set.name.as_str();
    assert_eq!(
        alike, "_autostopping-any.dev.example.com.",
        "the mark, not a text of somebody"
    );
}

#[test]
fn names_come_in_one_form() {
    assert_eq!(normal("\\052.Dev.example.com."), "*.dev.example.com");
    assert_eq!(mark("*.dev.example.com"), "_autostopping-any.dev.example.com");
    assert_ne!(mark("*.dev.example.com"), mark("dev.example.com"));
}

#[test]
fn a_batch_is_what_route_53_reads() {
    let Decision::Change(changes) = decide("a&b.example.com", &addresses(&["192.0.2.1"]), "me", &[], &[]) else {
        panic!("something to do");
    };
    let expected = "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
        <ChangeBatch><Changes><Change><Action>CREATE</Action><ResourceRecordSet><Name>a&amp;b.example.com</Name>\
        <Type>A</Type><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>192.0.2.1</Value></ResourceRecord>\
        </ResourceRecords></ResourceRecordSet></Change>";
    assert!(batch(&changes).starts_with(expected), "{}", batch(&changes));
}
