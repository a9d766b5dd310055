//! ARNs and names of Elastic Load Balancing.

/// A kind of ARN of Elastic Load Balancing.
pub(super) struct Kind {
    resource: &'static str,
    /// The parts after it.
    parts: usize,
    /// Whether its name will do.
    pub(super) or_name: bool,
    pub(super) example: &'static str,
}

pub(super) const LISTENER: Kind = Kind {
    resource: "listener/app/",
    parts: 3,
    or_name: false,
    example: "ARNs of listeners of Application Load Balancers, \
              arn:aws:elasticloadbalancing:REGION:ACCOUNT:listener/app/NAME/ID/ID",
};
pub(super) const WAKER_GROUP: Kind = Kind {
    resource: "targetgroup/",
    parts: 2,
    or_name: true,
    example: "the target groups with this function, one per load balancer, by name or by ARN, \
              arn:aws:elasticloadbalancing:REGION:ACCOUNT:targetgroup/NAME/ID",
};

/// The Region of an ARN, if it is one of this kind. Shape: Service Authorization Reference, "Elastic Load Balancing V2,
/// resource types"; partitions are `aws`, `aws-cn`, `aws-us-gov` and further ones that begin so.
pub(super) fn region<'a>(arn: &'a str, kind: &Kind) -> Option<&'a str> {
    let mut fields = arn.splitn(6, ':');
    let mut next = || fields.next();
    let (scheme, partition, service, region, account, resource) =
        (next()?, next()?, next()?, next()?, next()?, next()?);
    let word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let parts: Vec<&str> = resource.strip_prefix(kind.resource)?.split('/').collect();
    let right = scheme == "arn"
        && (partition == "aws" || (partition.starts_with("aws-") && word(partition)))
        && service == "elasticloadbalancing"
        && word(region)
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && parts.len() == kind.parts
        && parts.iter().all(|part| word(part));
    right.then_some(region)
}

/// Elastic Load Balancing API reference, CreateTargetGroup, "Name".
pub(super) fn is_group_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=32).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('-') && !name.ends_with('-')
}
