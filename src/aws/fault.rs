//! The sorting of AWS's errors by what can be done about them.
//!
//! The codes: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>,
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/CommonErrors.html>,
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>

use std::error::Error;

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::domain::fault::{Fault, FaultKind};

/// Sorts an error of any service. `operation` is the call as IAM writes it.
pub fn fault<E, R>(operation: &str, error: SdkError<E, R>) -> Fault
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    match error.as_service_error() {
        Some(service) => {
            let code = service.code().unwrap_or("no code");
            let message = service.message().map(|message| format!("{code}: {message}"));
            Fault::new(kind_of(code), operation, message.unwrap_or_else(|| code.to_owned()))
        }
        // The SDK's own display says no more than "dispatch failure".
        None => Fault::new(FaultKind::Other, operation, DisplayErrorContext(&error).to_string()),
    }
}

/// The kind of an error code.
pub fn kind_of(code: &str) -> FaultKind {
    match code {
        "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "TooManyRequestsException"
        | "ProvisionedThroughputExceededException"
        | "EC2ThrottledException"
        | "SlowDown" => FaultKind::Throttled,
        "UnauthorizedOperation"
        | "AccessDenied"
        | "AccessDeniedException"
        | "AuthFailure"
        | "OptInRequired"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "SignatureDoesNotMatch" => FaultKind::Denied,
        "InsufficientInstanceCapacity"
        | "InsufficientHostCapacity"
        | "InsufficientReservedInstanceCapacity"
        | "InstanceLimitExceeded"
        | "VcpuLimitExceeded"
        | "MaxSpotInstanceCountExceeded"
        | "Unsupported" => FaultKind::NoCapacity,
        "RuleNotFound"
        | "TargetGroupNotFound"
        | "ListenerNotFound"
        | "LoadBalancerNotFound"
        | "ResourceNotFoundException" => FaultKind::NotFound,
        // A full quota is a state of the load balancer that somebody has to change, not a lack of machines.
        "IncorrectInstanceState"
        | "IncorrectSpotRequestState"
        | "IncorrectState"
        | "PriorityInUse"
        | "OperationNotPermitted"
        | "UnsupportedHibernationConfiguration"
        | "ConditionalCheckFailedException"
        | "TooManyRules"
        | "TooManyTargetGroups"
        | "TooManyUniqueTargetGroupsPerLoadBalancer"
        | "TooManyActions" => FaultKind::Conflict,
        _ if code.ends_with(".NotFound") => FaultKind::NotFound,
        _ if code.starts_with("Client.UnauthorizedOperation") => FaultKind::Denied,
        _ => FaultKind::Other,
    }
}
