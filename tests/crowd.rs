//! Many at once cost AWS no more than one.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::aws::Api;
use support::counting::{Counting, sum};
use support::emulator::Emulator;
use support::events::{Ask, BROWSER, POLL, header};
use support::world::Scene;

const PROCESSES: usize = 20;
const ASKS_A_PROCESS: usize = 10;

/// Wakes the site with so many processes, each asking so often before it polls; the calls that reached AWS.
fn wake_with(scene: &Scene, host: &str, processes: usize, asks: usize) -> BTreeMap<String, u32> {
    let counting = Counting::start(scene.moto.port);
    let environment = scene.with("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{}", counting.port));
    let functions: Vec<_> = (0..processes).map(|_| Emulator::start(&environment)).collect();
    std::thread::scope(|scope| {
        for function in &functions {
            scope.spawn(move || {
                for _ in 0..asks {
                    let page = function.invoke(&Ask::get(&scene.world.waker, host, &[BROWSER]).event());
                    assert_eq!(page["statusCode"], 503, "{page}");
                }
                for _ in 0..240 {
                    let answer = function.invoke(&Ask::get(&scene.world.waker, host, &[POLL]).event());
                    if header(&answer, "x-autostopping-phase") == Some("awake") {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(500));
                }
                panic!("{host} did not wake");
            });
        }
    });
    counting.take()
}

/// Red without the lease: then every process looks for itself, and the Describe calls grow with the processes.
#[test]
fn two_hundred_first_requests_start_each_machine_once() {
    let scene = Scene::new();
    let alone = scene.asleep("alone.example.com", "1", &[]);
    let crowd = scene.asleep("crowd.example.com", "2", &[]);
    let of_one = wake_with(&scene, "alone.example.com", 1, 1);
    let of_many = wake_with(&scene, "crowd.example.com", PROCESSES, ASKS_A_PROCESS);
    println!("calls of AWS for a wake seen by 1 client:    {of_one:?}");
    println!(
        "calls of AWS for a wake seen by {} clients: {of_many:?}",
        PROCESSES * ASKS_A_PROCESS
    );
    let api = Api { port: scene.moto.port };
    for site in [&alone, &crowd] {
        assert_eq!(api.power(&site.instances[0]), "running");
    }
    assert_eq!(of_many.get("StartInstances"), Some(&1), "{of_many:?}");
    let (one, many) = (sum(&of_one, "Describe"), sum(&of_many, "Describe"));
    assert!(many <= 3 * one, "{many} Describe calls for many, {one} for one");
}
