//! What is promised for the moment at which the route changes sides.
//!
//! Seen red: with a flip as soon as the machine runs; without the second chance to flip to the waker while it boots.
#![cfg(all(feature = "cli", feature = "lambda", feature = "local"))]

mod local_support;

use std::time::Duration;

use local_support::{
    Connection, HOST, ask,
    story::{self, action, asleep, command, parked, power, site, starts},
    until,
    visitor::{Kind, Seen, Visitor, judge},
};
use proxymanager::local::Cloud;
use tokio::time::{Instant, sleep, timeout};

fn on_backend(cloud: &Cloud) -> bool {
    action(cloud) == site(cloud).action
}

/// Comes, and goes on until it is on the site.
async fn visit(cloud: &Cloud, kind: Kind) {
    let mut visitor = Visitor::new(kind, cloud.address, HOST, "/", 1);
    assert!(
        visitor.arrive(Instant::now() + Duration::from_secs(100)).await,
        "{}",
        visitor.story()
    );
}

/// The phase that a program is told on this connection; none is the site.
async fn phase(connection: &mut Connection) -> Option<String> {
    connection
        .get("/")
        .await
        .header("x-autostopping-phase")
        .map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reused_connection_works_across_the_switch() {
    let cloud = asleep(|_| {}).await;
    let mut connection = Connection::open(cloud.address).await;
    let awake = timeout(Duration::from_secs(30), async {
        while phase(&mut connection).await.is_some() {
            sleep(Duration::from_millis(200)).await;
        }
    });
    awake.await.expect("the site comes");
    command(&cloud, &["sleep", "site", "--no-wait"]).await;
    until("the route leads to the waker", || !on_backend(&cloud)).await;
    assert!(
        phase(&mut connection).await.is_some(),
        "the same connection gets the page again"
    );
    cloud.stop().await;
}

/// Meanwhile both sides are live: whoever asks gets the site or is sent there, and nobody an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_failure_before_routing_has_converged() {
    const PROPAGATION: Duration = Duration::from_secs(6);
    let cloud = asleep(|_| {}).await;
    cloud.shared.world().faults.propagation_ms = 6_000;
    let (mut sites, mut ours) = (0, 0);
    let mut flipped = None;
    let begun = Instant::now();
    loop {
        // As the page does, so that each question is answered at once.
        let accept = "application/vnd.autostopping+json";
        let answer = ask(
            cloud.address,
            &format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nAccept: {accept}"),
            "",
        )
        .await;
        match judge(&answer, "/", accept) {
            Seen::Site => sites += 1,
            Seen::Told(..) => ours += 1,
            other => panic!("{other:?}"),
        }
        if flipped.is_none() && starts(&cloud) == 0 {
            // A poll wakes nothing.
            ask(cloud.address, &format!("GET / HTTP/1.1\r\nHost: {HOST}"), "").await;
        }
        if flipped.is_none() && on_backend(&cloud) {
            flipped = Some(Instant::now());
            (sites, ours) = (0, 0);
        }
        if flipped.is_some_and(|at| at.elapsed() > PROPAGATION) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the route never moved");
        sleep(Duration::from_millis(25)).await;
    }
    assert!(
        sites > 10 && ours > 10,
        "both sides were live: {sites} answers of the site, {ours} of ours"
    );
    cloud.stop().await;
}

/// A load balancer does not ask a second time: a target that refuses is a 502. So the route moves to a machine that has
/// passed its health checks, and not to one that merely runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_right_after_ready_does_not_happen() {
    let cloud = asleep(|config| {
        for argument in ["--warm", "3s"] {
            config.sites[0].command.push(argument.to_owned());
        }
    })
    .await;
    let begun = Instant::now();
    visit(&cloud, Kind::Browser).await;
    assert!(
        begun.elapsed() > Duration::from_secs(3),
        "the program was warm too early for this test"
    );
    for entry in cloud.shared.log.accesses() {
        assert!(entry.target == "lambda" || entry.status == 200, "{entry:?}");
    }
    cloud.stop().await;
}

/// Without anybody's request: the function hears of the machine's state, and looks on at each tick.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starting_or_stopping_by_hand_flips_the_route() {
    let cloud = asleep(|config| {
        config.tick = Some(Duration::from_secs(1));
        // So long that visitors must not be left without a page until it is up again.
        config.boot = Duration::from_secs(14);
    })
    .await;
    let ids = [site(&cloud).instance.clone()];
    let now = cloud.shared.clock.now();
    cloud.shared.world().start_instances(now, &ids).expect("it starts");
    until("the route leads to the machine", || on_backend(&cloud)).await;
    assert_eq!(starts(&cloud), 1, "nobody else started it");
    // EC2 tells its times in whole seconds.
    sleep(Duration::from_secs(1)).await;
    let now = cloud.shared.clock.now();
    cloud.shared.world().stop_instances(now, &ids, false).expect("it stops");
    until("the route leads to the waker", || !on_backend(&cloud)).await;
    let answer = ask(
        cloud.address,
        &format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*"),
        "",
    )
    .await;
    assert!(matches!(judge(&answer, "/", "*/*"), Seen::Told(..)), "{}", answer.head);
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_switches_in_quick_succession_end_right() {
    // Ends with a request: everybody ends on the site.
    let awake = async {
        let cloud = asleep(|_| {}).await;
        visit(&cloud, Kind::Browser).await;
        command(&cloud, &["sleep", "site", "--no-wait"]).await;
        visit(&cloud, Kind::Browser).await;
        assert!(on_backend(&cloud) && power(&cloud) == "running");
        cloud.stop().await;
    };
    // Ends with a command to sleep: the machine is at rest, and the way back is kept.
    let at_rest = async {
        let cloud = asleep(|config| config.tick = Some(Duration::from_secs(1))).await;
        visit(&cloud, Kind::Program).await;
        for words in [["sleep", "site"], ["wake", "site"], ["sleep", "site"]] {
            command(&cloud, &[words[0], words[1], "--no-wait"]).await;
        }
        let stopped = timeout(Duration::from_secs(60), async {
            while power(&cloud) != "stopped" {
                assert!(
                    !on_backend(&cloud) || power(&cloud) == "running",
                    "the route leads to a machine that is not up"
                );
                sleep(Duration::from_millis(50)).await;
            }
        });
        stopped.await.expect("the machine stops");
        assert!(!on_backend(&cloud));
        assert_eq!((parked(&cloud), starts(&cloud)), (1, 1));
        let record = story::record(&cloud).expect("there is a record");
        assert_eq!(record["wanted"], "asleep");
        cloud.stop().await;
    };
    tokio::join!(awake, at_rest);
}
