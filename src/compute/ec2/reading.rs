//! What DescribeInstances says, in our words.

use aws_sdk_ec2::types::{Instance, InstanceStateName};

use crate::aws::incomplete;
use crate::domain::fault::{Fault, FaultKind};
use crate::domain::rule::ResourceId;
use crate::domain::seen::{Power, ResourceSeen};
use crate::domain::time::Timestamp;

/// Set by Auto Scaling on its instances; nobody else may use the prefix.
const SCALING_GROUP_TAG: &str = "aws:autoscaling:groupName";

/// The codes of a `StateReason` that follow a stop as somebody asked for it. Any other on a stopped instance tells why a
/// start fell through or AWS stopped it. Source: Amazon EC2 API reference, `StateReason`.
const ASKED_FOR: [&str; 3] = [
    "Client.UserInitiatedShutdown",
    "Client.UserInitiatedHibernate",
    "Client.InstanceInitiatedShutdown",
];

pub(super) fn seen(instance: &Instance) -> Result<ResourceSeen, Fault> {
    let id = instance
        .instance_id()
        .ok_or_else(|| incomplete(super::DESCRIBE, "an instance's id"))?;
    let state = instance.state().and_then(|state| state.name());
    let power = match state {
        Some(InstanceStateName::Pending) => Power::Pending,
        Some(InstanceStateName::Running) => Power::Running,
        Some(InstanceStateName::Stopping) => Power::Stopping,
        Some(InstanceStateName::Stopped) => Power::Stopped,
        Some(InstanceStateName::ShuttingDown | InstanceStateName::Terminated) => Power::Terminated,
        other => {
            let words = format!("{id} is in a state this version does not know: {other:?}");
            return Err(Fault::new(FaultKind::Other, super::DESCRIBE, words));
        }
    };
    let launched = instance
        .launch_time()
        .and_then(|time| Timestamp::new(time.secs(), time.subsec_nanos().cast_signed()).ok());
    let group = instance.tags().iter().find(|tag| tag.key() == Some(SCALING_GROUP_TAG));
    Ok(ResourceSeen {
        id: ResourceId(id.to_owned()),
        power,
        launched,
        changed_by_user: instance.state_transition_reason().and_then(transition_time),
        fell_back: fell_back(power, instance),
        scaling_group: group.and_then(|tag| tag.value()).map(str::to_owned),
        other_owner: None,
        other_way: None,
    })
}

/// An instance that EC2 does not know, or no longer: it forgets terminated ones after about an hour.
pub(super) fn unknown(id: &ResourceId) -> ResourceSeen {
    ResourceSeen::bare(id.clone(), Power::Terminated)
}

fn fell_back(power: Power, instance: &Instance) -> Option<String> {
    let reason = instance.state_reason().filter(|_| power == Power::Stopped)?;
    let code = reason.code().filter(|code| !code.is_empty())?;
    if ASKED_FOR.contains(&code) {
        return None;
    }
    // AWS's message usually begins with the code.
    match reason.message().filter(|message| !message.is_empty()) {
        Some(message) if message.starts_with(code) => Some(message.to_owned()),
        Some(message) => Some(format!("{code}: {message}")),
        None => Some(code.to_owned()),
    }
}

/// The time in a `StateTransitionReason`: `User initiated (2026-01-01 10:00:00 GMT)`, to the second; moto writes `UTC`.
/// Other reasons have none. Source: Amazon EC2 user guide, "Troubleshoot instance stop issues"; the format is not promised, so what does not
/// look exactly like this counts as no time.
pub(super) fn transition_time(reason: &str) -> Option<Timestamp> {
    let inner = reason.strip_prefix("User initiated (")?;
    let inner = inner.strip_suffix(" GMT)").or_else(|| inner.strip_suffix(" UTC)"))?;
    let digits_where_digits_belong = inner.len() == 19
        && inner.bytes().enumerate().all(|(place, byte)| match place {
            4 | 7 => byte == b'-',
            10 => byte == b' ',
            13 | 16 => byte == b':',
            _ => byte.is_ascii_digit(),
        });
    if !digits_where_digits_belong {
        return None;
    }
    format!("{}T{}Z", &inner[..10], &inner[11..]).parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_time_of_a_users_call() {
        let expected: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
        assert_eq!(
            transition_time("User initiated (2026-01-01 10:00:00 GMT)"),
            Some(expected)
        );
    }

    #[test]
    fn anything_else_has_no_time() {
        for text in [
            "",
            "User initiated",
            "User initiated ()",
            "User initiated (2026-01-01 10:00:00 GMT",
            "User initiated (2026-01-01 10:00:00 CET)",
            "User initiated (2026-13-01 10:00:00 GMT)",
            "User initiated (2026-02-30 10:00:00 GMT)",
            "User initiated (2026-01-01 25:00:00 GMT)",
            "User initiated (2026-01-01T10:00:00 GMT)",
            "User initiated (+026-01-01 10:00:00 GMT)",
            "User initiated (2026-01-01 10:00:0\u{0660} GMT)",
            "User initiated (\u{1f4a3}\u{1f4a3}\u{1f4a3}\u{1f4a3}123 GMT)",
            "Server.SpotInstanceTermination (2026-01-01 10:00:00 GMT)",
            "x User initiated (2026-01-01 10:00:00 GMT)",
        ] {
            assert_eq!(transition_time(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(text in "(User initiated \\()?\\PC{0,24}( (GMT|UTC)\\))?") {
            let _ = transition_time(&text);
        }
    }
}
