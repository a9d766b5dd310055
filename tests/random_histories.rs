//! I1, I2, I4, I5, I7 and I10 over random histories: two actors at once, stale Describes, every kind of fault, lost and late
//! answers, crashes, hands on the machines, outsiders at the rules, a lost ledger item. Judged by the world's truth.
//!
//! Seen red: with the settling counted from the wish (I2); with `ready` trusting health within a minute of a stop, and with
//! `ready` not asking for health or for running machines (I1); with `asked` not noted before the call.

mod model;

use std::cell::RefCell;
use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::test_runner::TestCaseError;

use proxymanager::domain::policy::Needed;
use proxymanager::domain::rule::{Problem, RuleName};

use model::calls::name;
use model::story::{Teller, Turn, runner, turn};
use model::{Shape, World};

fn told(world: World, turns: &[Turn]) -> Result<Teller, TestCaseError> {
    let mut teller = Teller::new(world);
    for turn in turns {
        teller.tell(turn);
        if let Some(first) = teller.world.violations.first() {
            return Err(TestCaseError::fail(first.clone()));
        }
    }
    Ok(teller)
}

fn worlds() -> Vec<World> {
    let shapes = [Shape::single(), Shape::double(), Shape::weighted_groups()];
    let mut worlds: Vec<_> = shapes
        .iter()
        .flat_map(|shape| [shape.up(), shape.asleep(), shape.awake()])
        .collect();
    // As soon as a running machine will do; and as short a settling as the local cloud's.
    worlds.push(
        Shape {
            needed: Needed::AtLeast(0),
            ..Shape::double()
        }
        .asleep(),
    );
    worlds.push(
        Shape {
            needed: Needed::All,
            settle: 3,
            ..Shape::double()
        }
        .awake(),
    );
    let mut shared = Shape::single().asleep();
    let other = RuleName("other".to_owned());
    shared.rule.problems = vec![Problem::SharedInstance {
        instance: shared.machines[0].id.clone(),
        other,
    }];
    worlds.push(shared);
    worlds
}

#[test]
fn no_history_breaks_a_promise() {
    let (mut phases, mut actions) = (BTreeSet::new(), BTreeSet::new());
    for world in worlds() {
        let reached = RefCell::new((&mut phases, &mut actions));
        runner(70)
            .run(&vec(turn(), 1..60), |turns| {
                let teller = told(world.clone(), &turns)?;
                let (phases, actions) = &mut *reached.borrow_mut();
                for plan in teller.plans {
                    phases.insert(plan.phase.name());
                    actions.extend(plan.actions.iter().map(name));
                }
                Ok(())
            })
            .unwrap_or_else(|failure| panic!("{failure}"));
    }
    let every = [
        "asleep",
        "awake",
        "checking",
        "failed",
        "misconfigured",
        "settling",
        "starting",
        "stopping",
        "switching",
    ];
    assert_eq!(phases.into_iter().collect::<Vec<_>>(), every);
    assert_eq!(
        actions.into_iter().collect::<Vec<_>>(),
        ["flip to backend", "flip to waker", "park", "start", "stop"]
    );
}
