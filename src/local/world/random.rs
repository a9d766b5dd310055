//! Random sequences of calls and time: what holds of the world at every moment, and that a seed is a run.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Wait(u8),
    Start(usize),
    Stop(usize),
    Flip {
        rule: usize,
        group: usize,
    },
    Create {
        priority: u8,
        group: usize,
    },
    Delete(usize),
    Deregister(usize),
    Enrol(usize),
    Probe(bool),
    Fault {
        falls_back: bool,
        no_capacity: bool,
        propagation: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8_u8).prop_map(Step::Wait),
        3 => (0..2_usize).prop_map(Step::Start),
        2 => (0..2_usize).prop_map(Step::Stop),
        3 => (0..6_usize, 0..3_usize).prop_map(|(rule, group)| Step::Flip { rule, group }),
        2 => (0..6_u8, 0..3_usize).prop_map(|(priority, group)| Step::Create { priority, group }),
        1 => (0..6_usize).prop_map(Step::Delete),
        1 => (0..2_usize).prop_map(Step::Deregister),
        1 => (0..2_usize).prop_map(Step::Enrol),
        6 => any::<bool>().prop_map(Step::Probe),
        1 => (any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(falls_back, no_capacity, propagation)| Step::Fault { falls_back, no_capacity, propagation }),
    ]
}

/// What a run has reached, to see that the interesting states are.
#[derive(Debug, Default, PartialEq)]
struct Run {
    states: BTreeSet<&'static str>,
    health: BTreeSet<&'static str>,
    launches: usize,
    picture: String,
}

fn run(seed: u64, steps: &[Step]) -> Run {
    let mut now: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
    let mut world = World::new(Settings {
        seed,
        ..Settings::default()
    });
    let instances: Vec<String> = (0..2)
        .map(|index| world.add_instance(now, &format!("m{index}"), Duration::from_secs(4)))
        .collect();
    let check = HealthCheck {
        interval: Duration::from_secs(1),
        healthy: 2,
        unhealthy: 2,
        ..HealthCheck::default()
    };
    let group = |world: &mut World, name: &str| {
        world
            .create_target_group(name, TargetKind::Instance, "HTTP", 80, check.clone())
            .unwrap()
    };
    let groups = [group(&mut world, "a"), group(&mut world, "b"), group(&mut world, "c")];
    let forward = |group: usize| vec![json!({ "Type": "forward", "TargetGroupArn": groups[group] })];
    let conditions = || vec![json!({ "Field": "path-pattern", "PathPatternConfig": { "Values": ["/*"] } })];
    for (group, instance) in groups.iter().zip(&instances) {
        world.enrol(now, group, &[(instance.clone(), None)]).unwrap();
    }
    let balancer = world.add_balancer(now, "local");
    let listener = world.add_listener(now, &balancer, 80, forward(2)).unwrap();
    let mut reached = Run::default();
    for step in steps {
        let rule = |world: &World, index: usize| world.rules()[index % world.rules().len()].arn.clone();
        // Refusals are part of it: what counts is what holds afterwards.
        let _ = match step {
            Step::Wait(seconds) => {
                now += Duration::from_secs((*seconds).into());
                Ok(())
            }
            Step::Start(index) => world.start_instances(now, &instances[*index..=*index]).map(drop),
            Step::Stop(index) => world.stop_instances(now, &instances[*index..=*index], false).map(drop),
            Step::Flip { rule: index, group } => {
                let arn = rule(&world, *index);
                world
                    .modify_rule(now, &arn, None, Some(forward(*group)), None)
                    .map(drop)
            }
            Step::Create { priority, group } => {
                let (conditions, actions) = (conditions(), forward(*group));
                let new = NewRule {
                    priority: u32::from(*priority),
                    conditions,
                    actions,
                    ..NewRule::default()
                };
                world.create_rule(now, &listener, new).map(drop)
            }
            Step::Delete(index) => {
                let arn = rule(&world, *index);
                world.delete_rule(now, &arn)
            }
            Step::Deregister(index) => {
                world.deregister_targets(now, &groups[*index], &[(instances[*index].clone(), None)])
            }
            Step::Enrol(index) => world.enrol(now, &groups[*index], &[(instances[*index].clone(), None)]),
            Step::Probe(passes) => {
                for probe in world.due_probes(now) {
                    world.probed(&probe, Outcome::Status(if *passes { 200 } else { 500 }));
                }
                Ok(())
            }
            Step::Fault {
                falls_back,
                no_capacity,
                propagation,
            } => {
                world.faults.falls_back = *falls_back;
                world.faults.no_capacity = *no_capacity;
                world.faults.propagation_ms = if *propagation { 5_000 } else { 0 };
                Ok(())
            }
        };
        let effects = world.advance(now);
        reached.launches += effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Launch(_)))
            .count();
        check_world(&mut world, now, &listener);
        reached
            .states
            .extend(world.instances().map(|instance| instance.life().power.name().0));
        let targets = world.target_groups().iter().flat_map(|group| &group.targets);
        reached.health.extend(targets.map(|target| target.health.state.word()));
    }
    let starts: u32 = world.instances().map(|instance| instance.starts).sum();
    assert!(reached.launches <= starts as usize, "no program runs without a start");
    reached.picture = format!("{world:?}");
    reached
}

fn check_world(world: &mut World, now: Timestamp, listener: &str) {
    let priorities: Vec<Option<u32>> = world.rules().iter().map(|rule| rule.view().priority).collect();
    let unique: BTreeSet<Option<u32>> = priorities.iter().copied().collect();
    assert_eq!(unique.len(), priorities.len(), "a priority is there once");
    assert!(unique.contains(&None), "the default rule stays");
    for group in world.target_groups() {
        let used = !world.balancers_of(&group.arn).is_empty();
        for target in &group.targets {
            let state = target.health.state;
            let running = world
                .instance(&target.id)
                .is_some_and(|i| i.life().power == Power::Running);
            let checked = matches!(
                state,
                HealthState::Initial | HealthState::Healthy | HealthState::Unhealthy
            );
            assert!(
                state == HealthState::Draining || checked == (used && running),
                "{state:?} {used} {running}"
            );
        }
    }
    let routed = world.route(now, listener, |_| true);
    assert!(
        routed.is_some_and(|routed| !group_arns(&routed.action).is_empty()),
        "every request has a way"
    );
}

proptest! {
    #[test]
    fn the_world_stays_whole_and_a_seed_is_a_run(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..60)) {
        prop_assert_eq!(run(seed, &steps), run(seed, &steps));
    }
}

#[test]
fn random_runs_reach_every_state() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let steps = prop::collection::vec(step(), 60);
    let (mut states, mut health, mut launches) = (BTreeSet::new(), BTreeSet::new(), 0);
    for _ in 0..40 {
        let one = run(1, &steps.new_tree(&mut runner).unwrap().current());
        states.extend(one.states);
        health.extend(one.health);
        launches += one.launches;
    }
    assert_eq!(
        states.into_iter().collect::<Vec<_>>(),
        ["pending", "running", "stopped", "stopping"]
    );
    let all = ["draining", "healthy", "initial", "unhealthy", "unused"];
    assert_eq!(health.into_iter().collect::<Vec<_>>(), all);
    assert!(launches > 10, "{launches}");
}
