//! A crowd in front of one sleeping rule, with fewer places in the function than clients.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};

use super::{
    HOST,
    story::{asleep, aws_calls, starts},
    visitor::{Kind, Seen, Visitor},
};

pub const PLACES: usize = 50;

/// What a wake came to.
pub struct Wake {
    /// Of EC2 and ELBv2.
    pub calls: Vec<(String, u64)>,
    pub starts: u32,
    pub throttled: u64,
    /// Until the last was on the site.
    pub seconds: f64,
    pub visitors: Vec<Visitor>,
}

impl Wake {
    pub fn sum(&self) -> u64 {
        self.calls.iter().map(|(_, count)| count).sum()
    }
}

/// A wake with so many clients, who all come at once.
pub async fn wake(clients: u64) -> Wake {
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
