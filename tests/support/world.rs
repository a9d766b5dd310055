//! A small account: a load balancer with a listener, a waker, instances and listener rules.

use super::aws::{Api, first};
use super::moto::Moto;

/// The tag that makes a listener rule a managed route.
pub const IDLE: (&str, &str) = ("autostopping:idle", "1h");

/// A moto of its own with an account and a ledger in it.
pub struct Scene {
    pub moto: Moto,
    pub world: World,
    /// Of the function and of the command line.
    pub environment: Vec<(String, String)>,
}

impl Scene {
    pub fn new() -> Self {
        let moto = Moto::start();
        let world = World::new(Api { port: moto.port });
        moto.create_table("ledger");
        let environment = world.environment(moto.port, "ledger");
        Scene {
            moto,
            world,
            environment,
        }
    }

    /// As an operator does in the console, so that no stop of ours is on its way afterwards.
    pub fn stop_by_hand(&self, site: &Site) {
        for instance in &site.instances {
            self.world.api.ec2("StopInstances", &[("InstanceId.1", instance)]);
        }
    }

    /// The environment with one value changed.
    pub fn with(&self, key: &str, value: &str) -> Vec<(String, String)> {
        let others = self.environment.iter().filter(|(name, _)| name != key).cloned();
        others.chain([(key.to_owned(), value.to_owned())]).collect()
    }

    /// The site asleep: its machine stopped, its route on the waker.
    pub fn asleep(&self, host: &str, priority: &str, tags: &[(&str, &str)]) -> Site {
        let tags: Vec<_> = tags.iter().copied().chain([IDLE]).collect();
        let site = self.world.site(host, priority, Shape::Plain, &tags);
        self.stop_by_hand(&site);
        let name = host.split('.').next().expect("a host has a first label");
        super::succeed(&self.environment, &["sleep", name]);
        site
    }
}

/// What every test starts from.
pub struct World {
    pub api: Api,
    pub subnet: String,
    pub vpc: String,
    pub balancer: String,
    pub listener: String,
    /// The waker's target group; the listener's default action forwards there.
    pub waker: String,
}

/// How the final action of a listener rule forwards, and what stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Plain,
    WeightedSticky,
    Oidc,
    Cognito,
}

/// One managed listener rule.
pub struct Site {
    pub rule: String,
    pub group: String,
    pub instances: Vec<String>,
}

impl World {
    pub fn new(api: Api) -> Self {
        let vpc = first(&api.ec2("CreateVpc", &[("CidrBlock", "10.0.0.0/16")]), "vpcId");
        let subnet = |cidr: &str, zone: &str| {
            let made = api.ec2(
                "CreateSubnet",
                &[("VpcId", &vpc), ("CidrBlock", cidr), ("AvailabilityZone", zone)],
            );
            first(&made, "subnetId")
        };
        let (one, two) = (subnet("10.0.1.0/24", "us-east-1a"), subnet("10.0.2.0/24", "us-east-1b"));
        let made = api.elb(
            "CreateLoadBalancer",
            &[
                ("Name", "shared"),
                ("Subnets.member.1", &one),
                ("Subnets.member.2", &two),
            ],
        );
        let balancer = first(&made, "LoadBalancerArn");
        let made = api.elb("CreateTargetGroup", &[("Name", "waker"), ("TargetType", "lambda")]);
        let waker = first(&made, "TargetGroupArn");
        let listener = api.elb(
            "CreateListener",
            &[
                ("LoadBalancerArn", &balancer),
                ("Protocol", "HTTP"),
                ("Port", "80"),
                ("DefaultActions.member.1.Type", "forward"),
                ("DefaultActions.member.1.TargetGroupArn", &waker),
            ],
        );
        World {
            api,
            subnet: one,
            vpc,
            balancer,
            listener: first(&listener, "ListenerArn"),
            waker,
        }
    }

    pub fn group(&self, name: &str) -> String {
        let parameters = [
            ("Name", name),
            ("Protocol", "HTTP"),
            ("Port", "80"),
            ("VpcId", self.vpc.as_str()),
        ];
        first(&self.api.elb("CreateTargetGroup", &parameters), "TargetGroupArn")
    }

    /// A running instance that may be managed, registered with the group.
    pub fn instance(&self, group: &str) -> String {
        let made = self.api.ec2(
            "RunInstances",
            &[
                ("ImageId", "ami-12c6146b"),
                ("InstanceType", "t3.micro"),
                ("MinCount", "1"),
                ("MaxCount", "1"),
                ("SubnetId", &self.subnet),
                ("TagSpecification.1.ResourceType", "instance"),
                ("TagSpecification.1.Tag.1.Key", "autostopping:managed"),
                ("TagSpecification.1.Tag.1.Value", "true"),
            ],
        );
        let instance = first(&made, "instanceId");
        self.register(group, &instance);
        instance
    }

    pub fn register(&self, group: &str, instance: &str) {
        self.api.elb(
            "RegisterTargets",
            &[("TargetGroupArn", group), ("Targets.member.1.Id", instance)],
        );
    }

    /// A managed listener rule for a host, with one instance behind it.
    pub fn site(&self, host: &str, priority: &str, shape: Shape, tags: &[(&str, &str)]) -> Site {
        let name = host.split('.').next().expect("a host has a first label");
        let group = self.group(name);
        let instance = self.instance(&group);
        let second = (shape == Shape::WeightedSticky).then(|| self.group(&format!("{name}-two")));
        let instances = match &second {
            Some(second) => vec![instance, self.instance(second)],
            None => vec![instance],
        };
        let rule = self.route(host, priority, &actions(shape, &group, second.as_deref()), tags);
        Site { rule, group, instances }
    }

    /// A listener rule for a host with these actions and tags.
    pub fn route(&self, host: &str, priority: &str, actions: &[(String, String)], tags: &[(&str, &str)]) -> String {
        let mut parameters: Vec<(String, String)> = vec![
            ("ListenerArn".into(), self.listener.clone()),
            ("Priority".into(), priority.into()),
            ("Conditions.member.1.Field".into(), "host-header".into()),
            (
                "Conditions.member.1.HostHeaderConfig.Values.member.1".into(),
                host.into(),
            ),
        ];
        parameters.extend_from_slice(actions);
        for (index, (key, value)) in tags.iter().enumerate() {
            parameters.push((format!("Tags.member.{}.Key", index + 1), (*key).into()));
            parameters.push((format!("Tags.member.{}.Value", index + 1), (*value).into()));
        }
        let parameters: Vec<_> = parameters
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        first(&self.api.elb("CreateRule", &parameters), "RuleArn")
    }

    /// The environment of a function or a command line that runs this account, through an API on another port.
    pub fn environment(&self, port: u16, table: &str) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
            ("AWS_REGION", super::aws::REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AUTOSTOPPING_LISTENERS", self.listener.clone()),
            ("AUTOSTOPPING_LEDGER", format!("dynamodb:{table}")),
            ("AUTOSTOPPING_WAKER", self.waker.clone()),
            ("AUTOSTOPPING_SETTLE", "1s".to_owned()),
            ("AUTOSTOPPING_LOG", "info".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

/// Actions in the query protocol.
pub fn actions(shape: Shape, group: &str, second: Option<&str>) -> Vec<(String, String)> {
    let oidc = [
        ("Type", "authenticate-oidc"),
        ("Order", "1"),
        ("AuthenticateOidcConfig.Issuer", "https://login.example.com"),
        (
            "AuthenticateOidcConfig.AuthorizationEndpoint",
            "https://login.example.com/authorize",
        ),
        (
            "AuthenticateOidcConfig.TokenEndpoint",
            "https://login.example.com/token",
        ),
        (
            "AuthenticateOidcConfig.UserInfoEndpoint",
            "https://login.example.com/me",
        ),
        ("AuthenticateOidcConfig.ClientId", "client"),
        ("AuthenticateOidcConfig.ClientSecret", "secret"),
        ("AuthenticateOidcConfig.OnUnauthenticatedRequest", "authenticate"),
    ];
    let cognito = [
        ("Type", "authenticate-cognito"),
        ("Order", "1"),
        (
            "AuthenticateCognitoConfig.UserPoolArn",
            "arn:aws:cognito-idp:us-east-1:123456789012:userpool/us-east-1_pool",
        ),
        ("AuthenticateCognitoConfig.UserPoolClientId", "client"),
        ("AuthenticateCognitoConfig.UserPoolDomain", "domain"),
    ];
    let before: &[(&str, &str)] = match shape {
        Shape::Plain | Shape::WeightedSticky => &[],
        Shape::Oidc => &oidc,
        Shape::Cognito => &cognito,
    };
    let mut parameters: Vec<_> = before
        .iter()
        .map(|(k, v)| (format!("Actions.member.1.{k}"), (*v).to_owned()))
        .collect();
    let last = if before.is_empty() { 1 } else { 2 };
    let mut add = |key: &str, value: &str| parameters.push((format!("Actions.member.{last}.{key}"), value.to_owned()));
    add("Type", "forward");
    add("Order", &last.to_string());
    match second {
        None => add("TargetGroupArn", group),
        Some(second) => {
            add("ForwardConfig.TargetGroups.member.1.TargetGroupArn", group);
            add("ForwardConfig.TargetGroups.member.1.Weight", "80");
            add("ForwardConfig.TargetGroups.member.2.TargetGroupArn", second);
            add("ForwardConfig.TargetGroups.member.2.Weight", "20");
            add("ForwardConfig.TargetGroupStickinessConfig.Enabled", "true");
            add("ForwardConfig.TargetGroupStickinessConfig.DurationSeconds", "600");
        }
    }
    parameters
}
