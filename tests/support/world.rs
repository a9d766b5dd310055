//! A load balancer with rules, and machines behind it.

use std::collections::BTreeMap;

use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ec2::types::InstanceType;
use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, ProtocolEnum, RuleCondition, Tag, TargetDescription, TargetTypeEnum,
};
use aws_smithy_http_client::Builder;

use super::{Moto, REGION};

/// One load balancer with two listeners, a waker and two backends of two machines each. The listeners' default action is
/// the waker, and there are no rules yet.
pub struct World {
    pub ec2: aws_sdk_ec2::Client,
    pub elbv2: aws_sdk_elasticloadbalancingv2::Client,
    pub load_balancer: String,
    /// On the ports 80 and 8080.
    pub listeners: [String; 2],
    pub waker: String,
    pub groups: [String; 2],
    /// The machines of the first group, then those of the second.
    pub machines: [String; 4],
}

impl World {
    pub async fn create(moto: &Moto) -> World {
        let (ec2, elbv2) = clients(moto);
        let vpc = ec2.create_vpc().cidr_block("10.0.0.0/16").send().await.unwrap();
        let vpc = vpc.vpc.unwrap().vpc_id.unwrap();
        let mut subnets = Vec::new();
        for (zone, block) in [("us-east-1a", "10.0.1.0/24"), ("us-east-1b", "10.0.2.0/24")] {
            let subnet = ec2
                .create_subnet()
                .vpc_id(&vpc)
                .availability_zone(zone)
                .cidr_block(block);
            subnets.push(subnet.send().await.unwrap().subnet.unwrap().subnet_id.unwrap());
        }
        let started = ec2
            .run_instances()
            .image_id("ami-12c6146b")
            .instance_type(InstanceType::T3Micro)
            .subnet_id(&subnets[0])
            .min_count(4)
            .max_count(4);
        let started = started.send().await.unwrap();
        let machines = started
            .instances()
            .iter()
            .map(|machine| machine.instance_id.clone().unwrap());
        let machines: [String; 4] = machines.collect::<Vec<_>>().try_into().unwrap();

        let balancer = elbv2.create_load_balancer().name("web").set_subnets(Some(subnets));
        let balancer = balancer.send().await.unwrap().load_balancers.unwrap().remove(0);
        let load_balancer = balancer.load_balancer_arn.unwrap();
        let waker = elbv2
            .create_target_group()
            .name("waker")
            .target_type(TargetTypeEnum::Lambda);
        let waker = waker.send().await.unwrap().target_groups.unwrap().remove(0);
        let waker = waker.target_group_arn.unwrap();
        let mut groups = Vec::new();
        for (name, machines) in [("site", &machines[..2]), ("api", &machines[2..])] {
            let group = elbv2
                .create_target_group()
                .name(name)
                .protocol(ProtocolEnum::Http)
                .port(80)
                .vpc_id(&vpc)
                .target_type(TargetTypeEnum::Instance);
            let group = group.send().await.unwrap().target_groups.unwrap().remove(0);
            let group = group.target_group_arn.unwrap();
            let targets = machines.iter().map(|id| TargetDescription::builder().id(id).build());
            let register = elbv2.register_targets().target_group_arn(&group);
            register.set_targets(Some(targets.collect())).send().await.unwrap();
            groups.push(group);
        }
        let mut listeners = Vec::new();
        for port in [80, 8080] {
            let listener = elbv2
                .create_listener()
                .load_balancer_arn(&load_balancer)
                .protocol(ProtocolEnum::Http)
                .port(port)
                .default_actions(actions::to(&waker));
            let listener = listener.send().await.unwrap().listeners.unwrap().remove(0);
            listeners.push(listener.listener_arn.unwrap());
        }
        World {
            ec2,
            elbv2,
            load_balancer,
            listeners: listeners.try_into().unwrap(),
            waker,
            groups: groups.try_into().unwrap(),
            machines,
        }
    }

    /// A rule for one host; returns its ARN.
    pub async fn rule(
        &self,
        listener: usize,
        priority: i32,
        host: &str,
        actions: Vec<Action>,
        tags: &[(&str, &str)],
    ) -> String {
        let tags = tags
            .iter()
            .map(|(key, value)| Tag::builder().key(*key).value(*value).build());
        let tags: Vec<_> = tags.collect();
        let condition = RuleCondition::builder().field("host-header").values(host).build();
        let rule = self
            .elbv2
            .create_rule()
            .listener_arn(&self.listeners[listener])
            .priority(priority)
            .conditions(condition)
            .set_actions(Some(actions))
            .set_tags((!tags.is_empty()).then_some(tags));
        rule.send().await.unwrap().rules.unwrap().remove(0).rule_arn.unwrap()
    }

    /// The state of each machine, in AWS's words.
    pub async fn states(&self) -> BTreeMap<String, String> {
        let described = self.ec2.describe_instances().send().await.unwrap();
        let machines = described.reservations().iter().flat_map(|one| one.instances());
        let state =
            |machine: &aws_sdk_ec2::types::Instance| machine.state()?.name().map(|name| name.as_str().to_owned());
        machines
            .map(|machine| (machine.instance_id.clone().unwrap(), state(machine).unwrap()))
            .collect()
    }
}

fn clients(moto: &Moto) -> (aws_sdk_ec2::Client, aws_sdk_elasticloadbalancingv2::Client) {
    let http = Builder::new().build_http();
    let credentials = Credentials::new("testing", "testing", None, None, "tests");
    let ec2 = aws_sdk_ec2::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(moto.url())
        .credentials_provider(credentials.clone())
        .http_client(http.clone())
        .build();
    let elbv2 = aws_sdk_elasticloadbalancingv2::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(moto.url())
        .credentials_provider(credentials)
        .http_client(http)
        .build();
    (
        aws_sdk_ec2::Client::from_conf(ec2),
        aws_sdk_elasticloadbalancingv2::Client::from_conf(elbv2),
    )
}

/// The actions that must survive a sleep.
pub mod actions {
    use aws_sdk_elasticloadbalancingv2::types::{
        AuthenticateCognitoActionConfig, AuthenticateOidcActionConfig, ForwardActionConfig,
        TargetGroupStickinessConfig, TargetGroupTuple,
    };

    use super::{Action, ActionTypeEnum};

    /// A forward in the older form.
    pub fn to(group: &str) -> Action {
        let action = Action::builder().r#type(ActionTypeEnum::Forward);
        action.target_group_arn(group).build()
    }

    fn last(group: &str) -> Action {
        let action = Action::builder().r#type(ActionTypeEnum::Forward).order(2);
        action.target_group_arn(group).build()
    }

    /// To both groups by weight, with stickiness.
    pub fn weighted_and_sticky(groups: &[String; 2]) -> Action {
        let group = |arn: &str, weight| TargetGroupTuple::builder().target_group_arn(arn).weight(weight).build();
        let sticky = TargetGroupStickinessConfig::builder()
            .enabled(true)
            .duration_seconds(3600);
        let config = ForwardActionConfig::builder()
            .target_groups(group(&groups[0], 70))
            .target_groups(group(&groups[1], 30))
            .target_group_stickiness_config(sticky.build());
        let action = Action::builder().r#type(ActionTypeEnum::Forward);
        action.forward_config(config.build()).build()
    }

    /// A login by OIDC, then a forward.
    pub fn behind_oidc(group: &str) -> Vec<Action> {
        let config = AuthenticateOidcActionConfig::builder()
            .issuer("https://id.example.com")
            .authorization_endpoint("https://id.example.com/authorize")
            .token_endpoint("https://id.example.com/token")
            .user_info_endpoint("https://id.example.com/user")
            .client_id("client")
            .client_secret("a-client-secret")
            .scope("openid email")
            .session_timeout(3600)
            .authentication_request_extra_params("prompt", "login");
        let login = Action::builder().r#type(ActionTypeEnum::AuthenticateOidc).order(1);
        vec![login.authenticate_oidc_config(config.build()).build(), last(group)]
    }

    /// A login by Cognito, then a forward.
    pub fn behind_cognito(group: &str) -> Vec<Action> {
        let config = AuthenticateCognitoActionConfig::builder()
            .user_pool_arn("arn:aws:cognito-idp:us-east-1:123456789012:userpool/us-east-1_abc")
            .user_pool_client_id("client")
            .user_pool_domain("login")
            .scope("openid")
            .session_timeout(7200)
            .authentication_request_extra_params("lang", "de");
        let login = Action::builder().r#type(ActionTypeEnum::AuthenticateCognito).order(1);
        vec![login.authenticate_cognito_config(config.build()).build(), last(group)]
    }
}
