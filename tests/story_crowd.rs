//! A crowd in front of one sleeping rule, with fewer places in the function than clients.
//!
//! Seen red: with every request reading the listeners and looking for itself.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::time::Duration;

use local_support::{
    HOST,
    story::{asleep, aws_calls, starts},
    visitor::{Kind, Seen, Visitor, tally},
};
use tokio::{task::JoinSet, time::Instant};

const CROWD: u64 = 1000;
const PLACES: usize = 50;

struct Wake {
    calls: Vec<(String, u64)>,
    starts: u32,
    throttled: u64,
    seconds: f64,
    visitors: Vec<Visitor>,
}

impl Wake {
    fn sum(&self) -> u64 {
        self.calls.iter().map(|(_, count)| count).sum()
    }

    fn print(&self, who: &str) {
        println!(
            "{who}: the last on the site after {:.1} s, {} throttled",
            self.seconds, self.throttled
        );
        println!("  {} calls of EC2 and ELBv2: {:?}", self.sum(), self.calls);
        println!(
            "  answers: {:?}",
            tally(self.visitors.iter().flat_map(|visitor| &visitor.steps))
        );
    }
}

/// A wake with so many clients, who all come at once.
async fn wake(clients: u64) -> Wake {
    let cloud = asleep(|config| {
        config.concurrency = PLACES;
        config.boot = Duration::from_secs(5);
    })
    .await;
    cloud.shared.world().forget_calls();
    let begun = Instant::now();
    let give_up = begun + Duration::from_secs(120);
    let mut crowd = JoinSet::new();
    for number in 0..clients {
        let kind = if number % 4 == 3 { Kind::Program } else { Kind::Browser };
        let mut visitor = Visitor::new(kind, cloud.address, HOST, "/", number);
        crowd.spawn(async move {
            let arrived = visitor.arrive(give_up).await;
            (arrived, visitor)
        });
    }
    let arrivals = crowd.join_all().await;
    let seconds = begun.elapsed().as_secs_f64();
    for (arrived, visitor) in &arrivals {
        let fair = |seen: &Seen| matches!(seen, Seen::Site | Seen::Told(..) | Seen::Redirect | Seen::Bare(502));
        assert!(
            *arrived && visitor.steps.iter().all(|step| fair(&step.seen)),
            "{}",
            visitor.story()
        );
    }
    let wake = Wake {
        calls: aws_calls(&cloud),
        starts: starts(&cloud),
        throttled: cloud.shared.lambda.figures().throttled,
        seconds,
        visitors: arrivals.into_iter().map(|(_, visitor)| visitor).collect(),
    };
    for entry in cloud.shared.log.accesses().iter().filter(|entry| entry.status == 502) {
        assert!(
            entry.reason.to_lowercase().contains("throttled"),
            "a 502 for another reason: {entry:?}"
        );
    }
    cloud.stop().await;
    wake
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_cost_what_one_costs() {
    let one = wake(1).await;
    one.print("1 client");
    let crowd = wake(CROWD).await;
    crowd.print(&format!("{CROWD} clients, {PLACES} places"));
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
