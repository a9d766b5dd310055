//! Every error of every service, sorted into a [`Fault`].

use std::error::Error;

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::domain::fault::{Fault, FaultKind};

/// Error codes by what the caller can do. What is not here is [`FaultKind::Other`].
///
/// Sources: Amazon EC2 API reference, "Error codes for the Amazon EC2 API"; Elastic Load Balancing API reference, "Common
/// errors" and the errors of each action; Amazon DynamoDB developer guide, "Error handling"; AWS SDK, "throttling error
/// codes" of its standard retry mode; the errors of each action in the API references of Amazon RDS, AWS Secrets Manager and
/// Amazon Route 53.
///
/// A quota of the load balancer (`TooMany...`) is a conflict, not a lack of capacity: no machine is missing, and waiting
/// changes nothing until a rule is deleted or the quota raised. The quotas of machines are a lack of capacity, as their
/// remedy is the same: fewer machines at once.
const CODES: &[(FaultKind, &[&str])] = &[
    (
        FaultKind::Throttled,
        &[
            "BandwidthLimitExceeded",
            "EC2ThrottledException",
            "PriorRequestNotComplete",
            "ProvisionedThroughputExceeded",
            "ProvisionedThroughputExceededException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "SlowDown",
            "ThrottledException",
            "Throttling",
            "ThrottlingException",
            "TooManyRequestsException",
            "TransactionInProgressException",
        ],
    ),
    (
        FaultKind::Denied,
        &[
            "AccessDenied",
            "AccessDeniedException",
            "AuthFailure",
            "Blocked",
            "DecryptionFailure",
            "ExpiredToken",
            "ExpiredTokenException",
            "IncompleteSignature",
            "IncompleteSignatureException",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "KMSKeyNotAccessibleFault",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "NotAuthorized",
            "OptInRequired",
            "PendingVerification",
            "RequestExpired",
            "SignatureDoesNotMatch",
            "UnauthorizedOperation",
            "UnrecognizedClientException",
        ],
    ),
    (
        FaultKind::NoCapacity,
        &[
            "InstanceLimitExceeded",
            "InsufficientAddressCapacity",
            "InsufficientCapacity",
            "InsufficientDBClusterCapacityFault",
            "InsufficientDBInstanceCapacity",
            "InsufficientFreeAddressesInSubnet",
            "InsufficientHostCapacity",
            "InsufficientInstanceCapacity",
            "InsufficientReservedInstanceCapacity",
            "InsufficientVolumeCapacity",
            "MaxSpotInstanceCountExceeded",
            "ReservationCapacityExceeded",
            // "The instance type is not supported in this Availability Zone" and its kin.
            "Unsupported",
            "VcpuLimitExceeded",
        ],
    ),
    (
        FaultKind::NotFound,
        &[
            "DBClusterNotFoundFault",
            "DBInstanceNotFound",
            "InvalidInstanceID",
            "InvalidInstanceID.Malformed",
            "InvalidInstanceID.NotFound",
            "ListenerNotFound",
            "LoadBalancerNotFound",
            "NoSuchHostedZone",
            "ResourceNotFoundException",
            "RuleNotFound",
            "TableNotFoundException",
            "TargetGroupNotFound",
        ],
    ),
    (
        FaultKind::Conflict,
        &[
            "ConditionalCheckFailedException",
            "IncorrectInstanceState",
            "IncorrectSpotRequestState",
            "IncorrectState",
            "InvalidChangeBatch",
            "InvalidDBClusterStateFault",
            "InvalidDBInstanceState",
            // Secrets Manager: the secret is about to be deleted.
            "InvalidRequestException",
            "OperationNotPermitted",
            "PreconditionFailedException",
            "PriorityInUse",
            "ResourceConflictException",
            "ResourceInUse",
            "ResourceInUseException",
            "TargetGroupAssociationLimit",
            "TooManyActions",
            "TooManyRules",
            "TooManyTargetGroups",
            "TooManyTargets",
            "TooManyUniqueTargetGroupsPerLoadBalancer",
            "TransactionConflictException",
            "UnsupportedHibernationConfiguration",
        ],
    ),
    (
        FaultKind::Unsupported,
        &[
            // "aurora-mysql DB instances are not eligible for stopping and starting", among others.
            "InvalidParameterCombination",
        ],
    ),
];

/// The longest message kept; AWS's own have a line or two.
const LONGEST_MESSAGE: usize = 300;

/// Sorts an error of the SDK. `operation` is written as IAM writes it: `ec2:StartInstances`.
///
/// The message has the service's error code and words, or the chain of causes when there was no answer. It never has a
/// credential: the words of a failed signature, which quote the signed request and with it the session token, are left
/// out, as are the encoded details of a denial.
pub fn fault<E, R>(operation: &str, error: SdkError<E, R>) -> Fault
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug,
{
    match (&error, error.code()) {
        (SdkError::ServiceError(_), Some(code)) => {
            let words = words(code, error.message().unwrap_or_default());
            let message = if words.is_empty() {
                code.to_owned()
            } else {
                format!("{code}: {words}")
            };
            Fault::new(kind(code), operation, message)
        }
        // Not `DisplayErrorContext`: it adds the debug form, with the whole answer and its headers.
        _ => Fault::new(FaultKind::Other, operation, shortened(&causes(&error))),
    }
}

/// The fault of an answer that lacks what the API promises.
pub fn incomplete(operation: &str, what: &str) -> Fault {
    Fault::new(FaultKind::Other, operation, format!("the answer lacks {what}"))
}

fn kind(code: &str) -> FaultKind {
    CODES
        .iter()
        .find_map(|(kind, codes)| codes.contains(&code).then_some(*kind))
        .or_else(|| code.ends_with(".NotFound").then_some(FaultKind::NotFound))
        .unwrap_or(FaultKind::Other)
}

fn words(code: &str, message: &str) -> String {
    if code.contains("Signature") {
        return "the request's signature was not accepted: check the credentials and this machine's clock".to_owned();
    }
    let message = message
        .split("Encoded authorization failure message")
        .next()
        .unwrap_or_default();
    shortened(message)
}

fn shortened(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default().trim();
    match line.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

fn causes(error: &dyn Error) -> String {
    let mut all = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_words = cause.to_string();
        if all.last() != Some(&cause_words) {
            all.push(cause_words);
        }
        next = cause.source();
    }
    all.join(": ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::wire::{Answer, Wire};
    use super::*;

    async fn start(answer: Answer) -> Fault {
        let wire = Wire::new(vec![("StartInstances", answer.clone()); 3]);
        let error = wire
            .aws()
            .ec2()
            .start_instances()
            .instance_ids("i-1")
            .send()
            .await
            .unwrap_err();
        fault("ec2:StartInstances", error)
    }

    #[test]
    fn every_code_has_one_kind() {
        let all: Vec<_> = CODES.iter().flat_map(|(_, codes)| *codes).collect();
        assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len());
    }

    #[tokio::test]
    async fn the_services_code_decides() {
        for (code, kind) in [
            ("UnauthorizedOperation", FaultKind::Denied),
            ("InsufficientInstanceCapacity", FaultKind::NoCapacity),
            ("InvalidInstanceID.NotFound", FaultKind::NotFound),
            ("IncorrectInstanceState", FaultKind::Conflict),
            ("SomethingNew", FaultKind::Other),
        ] {
            let fault = start(Answer::ec2_error(code, "in words")).await;
            assert_eq!(fault.kind, kind, "{code}");
            assert_eq!(fault.operation, "ec2:StartInstances");
            assert_eq!(fault.message, format!("{code}: in words"));
        }
    }

    #[tokio::test]
    async fn throttling_is_tried_three_times() {
        let throttled = Answer::ec2_error("RequestLimitExceeded", "Request limit exceeded.");
        let wire = Wire::new(vec![("StartInstances", throttled); 3]);
        let call = wire.hurried_aws().ec2().start_instances().instance_ids("i-1").send();
        let fault = fault("ec2:StartInstances", call.await.unwrap_err());
        assert_eq!(fault.kind, FaultKind::Throttled);
        assert_eq!(wire.left(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn elbv2_and_dynamodb_speak_other_dialects() {
        let wire = Wire::new(vec![
            (
                "ModifyRule",
                Answer::elb_error("RuleNotFound", "One or more rules not found"),
            ),
            (
                "PutItem",
                Answer::json_error("ConditionalCheckFailedException", "The conditional request failed"),
            ),
        ]);
        let aws = wire.aws();
        let error = aws.elb().modify_rule().rule_arn("r").send().await.unwrap_err();
        let rule_fault = fault("elasticloadbalancing:ModifyRule", error);
        assert_eq!(rule_fault.kind, FaultKind::NotFound);
        assert_eq!(rule_fault.message, "RuleNotFound: One or more rules not found");
        let error = aws.dynamodb().put_item().table_name("t").send().await.unwrap_err();
        assert_eq!(fault("dynamodb:PutItem", error).kind, FaultKind::Conflict);
    }

    #[tokio::test]
    async fn no_answer_may_have_had_an_effect() {
        let lost = start(Answer::Lost).await;
        assert_eq!(lost.kind, FaultKind::Other);
        assert!(!lost.had_no_effect());
        assert!(lost.message.contains("dispatch failure"), "{}", lost.message);

        let wire = Wire::new(vec![("StartInstances", Answer::Never); 3]);
        let call = wire.hurried_aws().ec2().start_instances().instance_ids("i-1").send();
        let silent = fault("ec2:StartInstances", call.await.unwrap_err());
        assert_eq!(silent.kind, FaultKind::Other);
        assert!(silent.message.contains("timed out"), "{}", silent.message);
        assert!(wire.asked().len() > 1, "a silent attempt is followed by another");
    }

    #[tokio::test]
    async fn a_message_never_has_a_credential() {
        let quoted = "The request signature we calculated does not match. The Canonical String should have been \
                      'POST x-amz-security-token:hidden-token'";
        let fault = start(Answer::ec2_error("SignatureDoesNotMatch", quoted)).await;
        assert_eq!(fault.kind, FaultKind::Denied);
        assert!(!fault.message.contains("hidden"), "{}", fault.message);

        let encoded = "You are not authorized. Encoded authorization failure message: abcdefgh";
        let fault = start(Answer::ec2_error("UnauthorizedOperation", encoded)).await;
        assert_eq!(fault.message, "UnauthorizedOperation: You are not authorized.");

        let long = "x".repeat(5000);
        let fault = start(Answer::ec2_error("SomethingNew", &long)).await;
        assert!(fault.message.len() < 400);
    }
}
