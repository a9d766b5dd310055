//! A crowd in front of one sleeping rule, with fewer places in the function than clients.
//!
//! Seen red: with every request reading the listeners and looking for itself.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use local_support::{
    crowd::{PLACES, Wake, wake},
    visitor::tally,
};

const CROWD: u64 = 1000;

fn print(wake: &Wake, who: &str) {
    println!(
        "{who}: the last on the site after {:.1} s, {} throttled",
        wake.seconds, wake.throttled
    );
    println!("  {} calls of EC2 and ELBv2: {:?}", wake.sum(), wake.calls);
    println!(
        "  answers: {:?}",
        tally(wake.visitors.iter().flat_map(|visitor| &visitor.steps))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_cost_what_one_costs() {
    let one = wake(1).await;
    print(&one, "1 client");
    let crowd = wake(CROWD).await;
    print(&crowd, &format!("{CROWD} clients, {PLACES} places"));
    assert_eq!((one.starts, crowd.starts), (1, 1));
    let called = |wake: &Wake, name: &str| wake.calls.iter().find(|(call, _)| call == name).map_or(0, |(_, n)| *n);
    assert_eq!(called(&crowd, "StartInstances"), 1);
    assert!(crowd.throttled > 0, "more came than there are places");
    assert!(
        crowd.sum() <= 3 * one.sum(),
        "{} calls for the crowd, {} for one",
        crowd.sum(),
        one.sum()
    );
}
