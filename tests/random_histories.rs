//! I1, I2, I4, I5, I7 and I10 over random histories: two actors at once, stale Describes, every kind of fault, lost and late
//! answers, crashes, hands on the machines, outsiders at the rules, a lost ledger item. Judged by the world's truth.

#[allow(dead_code, reason = "each test uses its part")]
mod model;

use proptest::collection::vec;
use proptest::test_runner::TestCaseError;

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
    shapes
        .iter()
        .flat_map(|shape| [shape.up(), shape.asleep(), shape.awake()])
        .collect()
}

#[test]
fn no_history_breaks_a_promise() {
    for world in worlds() {
        runner(80)
            .run(&vec(turn(), 1..60), |turns| {
                told(world.clone(), &turns)?;
                Ok(())
            })
            .unwrap_or_else(|failure| panic!("{failure}"));
    }
}
