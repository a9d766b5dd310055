use proptest::prelude::*;

use super::*;

fn rule(name: &str) -> RuleName {
    RuleName(name.to_owned())
}

fn wanted(of: &[(&str, &[u16])]) -> BTreeMap<RuleName, BTreeSet<u16>> {
    of.iter()
        .map(|(name, ports)| (rule(name), ports.iter().copied().collect()))
        .collect()
}

#[test]
fn a_freed_port_is_given_away_last() {
    let mut state = State::default();
    let none = BTreeSet::new();
    assert_eq!(
        state.allot(&(100..=102), &wanted(&[("a", &[22]), ("b", &[22])]), &none),
        []
    );
    assert_eq!(
        (state.port(&rule("a"), 22), state.port(&rule("b"), 22)),
        (Some(100), Some(101))
    );
    assert_eq!(
        state.allot(&(100..=102), &wanted(&[("b", &[22]), ("c", &[22])]), &none),
        []
    );
    assert_eq!(state.port(&rule("c"), 22), Some(102), "never had by anybody");
    assert_eq!(
        state.allot(
            &(100..=102),
            &wanted(&[("b", &[22]), ("c", &[22]), ("d", &[22])]),
            &none
        ),
        []
    );
    assert_eq!(state.port(&rule("d"), 22), Some(100));
    let missing = state.allot(
        &(100..=102),
        &wanted(&[("b", &[22]), ("c", &[22]), ("d", &[22]), ("e", &[5432])]),
        &none,
    );
    assert_eq!(missing.len(), 1);
    assert!(
        missing[0]
            .to_string()
            .starts_with("all ports of portRange 100-102 are taken: e gets none")
    );
}

/// Red when a rule that comes back began at 1: Envoy never rings twice for a name.
#[test]
fn generations_never_come_again() {
    let mut state = State::default();
    let (name, none) = (rule("a"), BTreeSet::new());
    state.allot(&(100..=102), &wanted(&[("a", &[22])]), &none);
    state.flip(&name, Side::Backend);
    assert_eq!(state.generation(&name), 1);
    state.give_up(&name);
    assert_eq!(state.generation(&name), 1, "nobody waits for what is awake");
    state.flip(&name, Side::Waker);
    state.flip(&name, Side::Waker);
    assert_eq!(state.generation(&name), 2);
    state.flip(&name, Side::Backend);
    state.allot(&(100..=102), &wanted(&[]), &none);
    state.allot(&(100..=102), &wanted(&[("a", &[22])]), &none);
    assert_eq!((state.side(&name), state.generation(&name)), (Side::Waker, 3));
}

/// Red when a rule that was gone for a moment got another port.
#[test]
fn a_rule_that_comes_back_has_its_ports_again() {
    let (mut state, none) = (State::default(), BTreeSet::new());
    let both = wanted(&[("a", &[22]), ("b", &[22])]);
    state.allot(&(100..=109), &both, &none);
    state.allot(&(100..=109), &wanted(&[("b", &[22]), ("c", &[22])]), &none);
    let mut state = State::read(&state.written()).unwrap();
    state.allot(&(100..=109), &both, &none);
    assert_eq!(state.port(&rule("a"), 22), Some(100));
}

#[derive(Debug, Clone)]
enum Step {
    Want(Vec<(u8, Vec<u16>)>, Vec<u16>),
    Flip(u8, bool),
    GiveUp(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let rules = prop::collection::vec((0..6u8, prop::collection::vec(1..4u16, 0..4)), 0..6);
    prop_oneof![
        3 => (rules, prop::collection::vec(198..206u16, 0..3)).prop_map(|(rules, fixed)| Step::Want(rules, fixed)),
        2 => (0..6u8, any::<bool>()).prop_map(|(rule, awake)| Step::Flip(rule, awake)),
        1 => (0..6u8).prop_map(Step::GiveUp),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// Red when what was fixed meanwhile stayed allotted, and when `freed` was not written.
    #[test]
    fn no_two_have_one_port_and_none_moves(steps in prop::collection::vec(step(), 1..40)) {
        let range = 200..=207;
        let mut state = State::default();
        let mut wants: BTreeMap<RuleName, BTreeSet<u16>> = BTreeMap::new();
        for step in steps {
            let before = state.clone();
            match step {
                Step::Want(rules, fixed) => {
                    let fixed: BTreeSet<u16> = fixed.into_iter().collect();
                    let next: BTreeMap<_, BTreeSet<u16>> =
                        rules.into_iter().map(|(name, ports)| (rule(&name.to_string()), ports.into_iter().collect())).collect();
                    let missing = state.allot(&range, &next, &fixed);
                    for (name, targets) in &next {
                        for target in targets {
                            let port = state.port(name, *target);
                            let lacks = missing.iter().any(|none| none.rule == *name && none.port == *target);
                            prop_assert_eq!(port.is_none(), lacks);
                            prop_assert!(port.is_none_or(|port| range.contains(&port) && !fixed.contains(&port)));
                            let had = before.port(name, *target).filter(|port| !fixed.contains(port));
                            let kept = wants.get(name).is_some_and(|targets| targets.contains(target));
                            prop_assert!(!kept || had.is_none() || port == had, "{} moved", name);
                        }
                    }
                    wants = next;
                }
                Step::Flip(name, awake) => state.flip(&rule(&name.to_string()), if awake { Side::Backend } else { Side::Waker }),
                Step::GiveUp(name) => state.give_up(&rule(&name.to_string())),
                Step::Restart => state = State::read(&state.written()).unwrap(),
            }
            prop_assert_eq!(State::read(&state.written()).unwrap(), state.clone());
            let all: Vec<u16> = state.rules.values().flat_map(|stand| stand.ports.values().copied()).collect();
            let different: BTreeSet<u16> = all.iter().copied().collect();
            prop_assert_eq!(all.len(), different.len(), "two rules with one port");
            for name in before.rules.keys() {
                prop_assert!(state.generation(name) >= before.generation(name));
            }
        }
    }
}

/// Red when only what files say was remembered: a start without AWS lost the rules of tags.
#[test]
fn what_opted_itself_in_is_remembered() {
    let mut state = State::default();
    let tagged = Tagged {
        id: ResourceId("i-1".to_owned()),
        tags: BTreeMap::from([("autostopping:idle".to_owned(), "1h".to_owned())]),
        port: None,
        cluster: None,
    };
    state.note_discovered(vec![tagged.clone()]);
    assert_eq!(State::read(&state.written()).unwrap().discovered(), [tagged]);
}

/// Red when only what a rule lost under this daemon was noted.
#[test]
fn machines_that_a_rule_has_no_more_are_known_also_by_the_next_daemon() {
    let has = |machines: &[(&str, &str)]| {
        let machine = |id: &str| BTreeSet::from([ResourceId(id.to_owned())]);
        machines.iter().map(|(name, id)| (rule(name), machine(id))).collect()
    };
    let mut state = State::default();
    state.note_machines(has(&[("a", "i-1"), ("b", "i-2")]));
    assert!(state.left().is_empty());
    let mut state = State::read(&state.written()).unwrap();
    state.note_machines(has(&[("a", "i-2"), ("c", "i-1")]));
    assert_eq!(state.left(), &has(&[("a", "i-1"), ("b", "i-2")]));
    let mut state = State::read(&state.written()).unwrap();
    state.forget_left(&rule("a"));
    assert_eq!(state.left(), &has(&[("b", "i-2")]));
}
