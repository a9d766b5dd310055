use super::*;
use crate::local::world::{HealthCheck, Settings, TargetKind};

const DAY: i64 = 1_767_225_600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(DAY + second).unwrap()
}

struct Site {
    world: World,
    group: String,
    balancer: String,
    instance: String,
}

/// A site whose rule leads to its group; the instance is stopped. Points are published at once.
fn site() -> Site {
    let mut world = World::new(Settings {
        metrics_delay: Duration::ZERO,
        ..Settings::default()
    });
    let now = at(0);
    let instance = world.add_instance(now, "site", Duration::from_secs(8));
    let group = world
        .create_target_group("site", TargetKind::Instance, "HTTP", 80, HealthCheck::default())
        .unwrap();
    world.enrol(now, &group, &[(instance.clone(), None)]).unwrap();
    let balancer = world.add_balancer(now, "local");
    let forward = serde_json::json!({ "Type": "forward", "TargetGroupArn": group });
    world.add_listener(now, &balancer, 80, vec![forward]).unwrap();
    world.advance(now);
    Site {
        world,
        group,
        balancer,
        instance,
    }
}

impl Site {
    fn wanted(&self, metric: &str, stat: &str) -> Wanted {
        let end = |arn: &str| arn.rsplit(':').next().unwrap_or_default().replace("loadbalancer/", "");
        let (namespace, period, dimensions) = match metric {
            "RequestCount" | "HealthyHostCount" => {
                let group = ("TargetGroup".to_owned(), end(&self.group));
                let balancer = ("LoadBalancer".to_owned(), end(&self.balancer));
                ("AWS/ApplicationELB", 60, [group, balancer].into())
            }
            _ => {
                let instance = ("InstanceId".to_owned(), self.instance.clone());
                ("AWS/EC2", 300, [instance].into())
            }
        };
        Wanted {
            namespace: namespace.to_owned(),
            metric: metric.to_owned(),
            dimensions,
            stat: stat.to_owned(),
            period,
        }
    }

    /// The points of the first hour as seen at this second, by their seconds.
    fn seen(&self, second: i64, metric: &str, stat: &str) -> Vec<(i64, f64)> {
        let wanted = self.wanted(metric, stat);
        let points = self.world.metric_data(at(second), &wanted, DAY, DAY + 3600).unwrap();
        points.into_iter().map(|(at, value)| (at - DAY, value)).collect()
    }
}

#[test]
fn a_quiet_minute_has_no_point_and_that_of_now_none_yet() {
    let mut site = site();
    for second in [0, 59, 120] {
        site.world.metrics.request(at(second), &site.group);
    }
    site.world.metrics.request(at(60), "another");
    assert_eq!(site.seen(179, "RequestCount", "Sum"), [(0, 2.0)]);
    assert_eq!(site.seen(180, "RequestCount", "Sum"), [(0, 2.0), (120, 1.0)]);
}

#[test]
fn a_group_in_use_lives_each_minute_though_its_machine_rests() {
    let mut site = site();
    site.world.advance(at(200));
    let living = [(0, 0.0), (60, 0.0), (120, 0.0)];
    assert_eq!(site.seen(200, "HealthyHostCount", "Maximum"), living);
    assert_eq!(site.seen(200, "RequestCount", "Sum"), []);
    let unused = site
        .world
        .create_target_group("unused", TargetKind::Instance, "HTTP", 80, HealthCheck::default())
        .unwrap();
    let instance = site.instance.clone();
    site.world.enrol(at(200), &unused, &[(instance, None)]).unwrap();
    site.world.advance(at(400));
    assert_eq!(site.world.metrics.healthy_of(&unused), []);
    assert_eq!(site.world.metrics.healthy_of(&site.group).len(), 7);
}

#[test]
fn machines_have_points_every_five_minutes_while_they_run() {
    let mut site = site();
    site.world.advance(at(400));
    assert_eq!(site.seen(3600, "CPUUtilization", "Average"), []);
    let ids = [site.instance.clone()];
    site.world.start_instances(at(400), &ids).unwrap();
    site.world.advance(at(410));
    site.world.count_bytes(at(420), &ids[0], 1000, 50_000);
    site.world.advance(at(700));
    site.world.stop_instances(at(700), &ids, false).unwrap();
    site.world.advance(at(704));
    site.world.advance(at(1500));
    assert_eq!(
        site.seen(3600, "CPUUtilization", "Average"),
        [(300, IDLE_CPU), (600, IDLE_CPU)]
    );
    let into = [(300, IDLE_BYTES + 1000.0), (600, IDLE_BYTES)];
    assert_eq!(site.seen(3600, "NetworkIn", "Sum"), into);
    assert_eq!(site.seen(3600, "NetworkOut", "Sum")[0], (300, IDLE_BYTES + 50_000.0));
    assert_eq!(site.seen(899, "NetworkIn", "Sum"), into[..1]);
}

#[test]
fn an_outage_loses_points_for_ever_and_lateness_only_hides_them() {
    let mut site = site();
    site.world.advance(at(100));
    site.world.faults.metrics_outage = true;
    site.world.advance(at(130));
    let (group, instance) = (site.group.clone(), site.instance.clone());
    site.world.count_request(at(150), &group);
    site.world.count_bytes(at(150), &instance, 1, 1);
    site.world.advance(at(290));
    site.world.faults.metrics_outage = false;
    site.world.advance(at(300));
    site.world.advance(at(360));
    let minutes = |seen: Vec<(i64, f64)>| seen.into_iter().map(|(at, _)| at).collect::<Vec<_>>();
    let hosts = |site: &Site, second| minutes(site.seen(second, "HealthyHostCount", "Maximum"));
    assert_eq!(hosts(&site, 360), [0, 60, 240, 300]);
    assert_eq!(site.seen(3600, "RequestCount", "Sum"), []);
    assert_eq!(site.seen(3600, "NetworkIn", "Sum"), []);

    site.world.faults.metrics_late = 120;
    assert_eq!(hosts(&site, 360), [0, 60]);
    site.world.settings.metrics_delay = Duration::from_secs(60);
    assert_eq!(hosts(&site, 360), [0, 60]);
    assert_eq!(hosts(&site, 480), [0, 60, 240]);
    assert_eq!(hosts(&site, 540), [0, 60, 240, 300]);
}

#[test]
fn statistics_and_longer_periods() {
    let mut site = site();
    for second in [0, 60, 61, 600] {
        site.world.metrics.request(at(second), &site.group);
    }
    let read = |stat: &str, start: i64| {
        let wanted = Wanted {
            period: 300,
            ..site.wanted("RequestCount", stat)
        };
        let points = site.world.metric_data(at(3600), &wanted, DAY + start, DAY + 3600);
        points.map(|points| {
            points
                .into_iter()
                .map(|(at, value)| (at - DAY, value))
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(read("Sum", 0).unwrap(), [(0, 3.0), (600, 1.0)]);
    assert_eq!(read("SampleCount", 60).unwrap(), [(60, 2.0), (360, 1.0)]);
    assert_eq!(read("Maximum", 0).unwrap(), [(0, 1.0), (600, 1.0)]);
    assert_eq!(read("p99", 0).unwrap_err().code, "ValidationError");
}

#[test]
fn what_nobody_measures_is_empty() {
    let mut site = site();
    site.world.metrics.request(at(0), &site.group);
    let good = site.wanted("RequestCount", "Sum");
    let with = |name: &str, value: &str| {
        let mut wanted = good.clone();
        wanted.dimensions.insert(name.to_owned(), value.to_owned());
        wanted
    };
    let other = |namespace: &str, metric: &str| Wanted {
        namespace: namespace.to_owned(),
        metric: metric.to_owned(),
        ..good.clone()
    };
    for wanted in [
        with("TargetGroup", "targetgroup/other/1"),
        with("LoadBalancer", "app/other/1"),
        with("AvailabilityZone", "us-east-1a"),
        other("AWS/ApplicationELB", "Nonsense"),
        other("AWS/EC2", "RequestCount"),
        other("AWS/EC2", "NetworkIn"),
    ] {
        assert_eq!(site.world.metric_data(at(3600), &wanted, DAY, DAY + 60).unwrap(), []);
    }
    assert_eq!(site.world.metric_data(at(3600), &good, DAY, DAY + 60).unwrap().len(), 1);
}

#[test]
fn two_days_are_kept() {
    let mut site = site();
    site.world.metrics.request(at(0), &site.group);
    site.world.advance(at(KEPT));
    assert_eq!(site.world.metrics.requests_of(&site.group).len(), 1);
    for minute in 0..4 {
        site.world.advance(at(KEPT + 60 + 60 * minute));
    }
    assert_eq!(site.world.metrics.requests_of(&site.group).len(), 0);
    assert_eq!(site.world.metrics.points.len(), (KEPT / 60) as usize + 1);
}
