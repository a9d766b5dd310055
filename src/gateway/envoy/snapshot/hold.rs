//! Held requests: an authorization that is off, and on for the routes of rules asleep.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLogFilter, ComparisonFilter, StatusCodeFilter, access_log_filter::FilterSpecifier, comparison_filter::Op,
};
use envoy_types::pb::envoy::config::core::v3::{
    ApiVersion, BackoffStrategy, GrpcService, HeaderValue, HeaderValueOption, RetryPolicy, RuntimeUInt32,
    SubstitutionFormatString, header_value_option::HeaderAppendAction, substitution_format_string::Format,
};
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::{
    CheckSettings, ExtAuthz, ExtAuthzPerRoute, ext_authz::Services, ext_authz_per_route::Override,
};
use envoy_types::pb::envoy::extensions::filters::http::on_demand::v3::{OnDemand, OnDemandCds};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, LocalReplyConfig, ResponseMapper, http_filter,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::Any;

use super::super::view::Limits;
use super::super::wire::{CONTROL, any, doorbell, duration, grpc, inline, uint};

const FILTER: &str = "envoy.filters.http.ext_authz";
/// Of the check's extensions, the one there is: the cluster the route leads to.
pub const CLUSTER: &str = "cluster";
/// A header of no request.
pub const GONE: &str = "x-autostopping-held";
/// What Envoy answers, before it is put into words, when nobody could be asked.
const NOBODY_ASKED: u32 = 511;

/// The first pause before asking again is up to this long, and each one up to twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Pauses are half as long on average; they shall be long enough for twice the time.
fn retries(away: Duration) -> u32 {
    let pauses = away.as_millis() * 4 / FIRST_PAUSE.as_millis() + 1;
    pauses.next_power_of_two().trailing_zeros()
}

pub fn filter(limits: &Limits) -> HttpFilter {
    HttpFilter {
        name: FILTER.to_owned(),
        disabled: true,
        config_type: Some(http_filter::ConfigType::TypedConfig(any(ExtAuthz {
            transport_api_version: ApiVersion::V3.into(),
            status_on_error: Some(HttpStatus {
                code: NOBODY_ASKED.cast_signed(),
            }),
            // See `patience`.
            clear_route_cache: true,
            services: Some(Services::GrpcService(GrpcService {
                timeout: duration(limits.longest_hold),
                target_specifier: grpc(CONTROL, None),
                // While the daemon starts anew the request is held, and asked about again.
                retry_policy: Some(RetryPolicy {
                    retry_on: "connect-failure,refused-stream,reset,unavailable,cancelled".to_owned(),
                    num_retries: uint(retries(limits.away)),
                    retry_back_off: Some(BackoffStrategy {
                        base_interval: duration(FIRST_PAUSE),
                        // Envoy takes it for the time-out of each try as well (its `convertCoreToRouteRetryPolicy`).
                        max_interval: duration(limits.longest_hold),
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            })),
            ..Default::default()
        }))),
        ..Default::default()
    }
}

/// A cluster that Envoy has acknowledged may be a moment away from the thread that has the request: that is waited for. When
/// it is there already, nothing must be waited for: of several requests that ask for it, Envoy would tell the first one alone.
/// But a request remembers that there was none when it came, until its route is looked up again, in the table it came by. So
/// who may go on has its route forgotten, for which Envoy wants a change of its headers ([`GONE`]).
pub fn patience() -> HttpFilter {
    HttpFilter {
        name: "envoy.filters.http.on_demand".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(OnDemand {
            odcds: Some(OnDemandCds {
                source: doorbell(),
                timeout: duration(Duration::from_secs(5)),
                ..Default::default()
            }),
        }))),
        ..Default::default()
    }
}

/// Switches the filter on for a route that leads to this cluster.
pub fn enabled(cluster: &str) -> (String, Any) {
    let settings = CheckSettings {
        context_extensions: HashMap::from([(CLUSTER.to_owned(), cluster.to_owned())]),
        ..Default::default()
    };
    let config = ExtAuthzPerRoute {
        r#override: Some(Override::CheckSettings(settings)),
    };
    (FILTER.to_owned(), any(config))
}

/// What a client reads when it could not be asked about.
pub fn replies() -> LocalReplyConfig {
    let nobody = FilterSpecifier::StatusCodeFilter(StatusCodeFilter {
        comparison: Some(ComparisonFilter {
            op: Op::Eq.into(),
            value: Some(RuntimeUInt32 {
                default_value: NOBODY_ASKED,
                runtime_key: "proxymanager.nobody_asked".to_owned(),
            }),
        }),
    });
    let header = |key: &str, value: &str| HeaderValueOption {
        header: Some(HeaderValue {
            key: key.to_owned(),
            value: value.to_owned(),
            ..Default::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    };
    LocalReplyConfig {
        mappers: vec![ResponseMapper {
            filter: Some(AccessLogFilter {
                filter_specifier: Some(nobody),
            }),
            status_code: uint(503),
            body: inline(
                b"This site is asleep, and what wakes it is being restarted. Please try again in a few seconds.\n",
            ),
            body_format_override: Some(SubstitutionFormatString {
                content_type: "text/plain; charset=utf-8".to_owned(),
                format: inline(b"%LOCAL_REPLY_BODY%").map(Format::TextFormatSource),
                ..Default::default()
            }),
            headers_to_add: vec![header("retry-after", "5"), header("cache-control", "no-store")],
        }],
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red when the longest pause was a second: Envoy asked again each second, and answered 503 after some minutes.
    #[test]
    fn a_request_is_asked_about_once_for_as_long_as_it_is_held() {
        let limits = Limits::default();
        let Some(http_filter::ConfigType::TypedConfig(config)) = filter(&limits).config_type else {
            panic!("it has a configuration");
        };
        let config: ExtAuthz = prost::Message::decode(config.value.as_slice()).expect("it is an authorization");
        let Some(Services::GrpcService(service)) = config.services else {
            panic!("it asks by gRPC");
        };
        let policy = service.retry_policy.expect("it asks again");
        assert_eq!(service.timeout, duration(limits.longest_hold));
        assert_eq!(policy.retry_back_off.expect("it pauses").max_interval, service.timeout);
        let retries = policy.num_retries.expect("a number").value;
        let mean = (FIRST_PAUSE / 2) * (2_u32.pow(retries) - 1);
        assert!(mean >= 2 * limits.away && mean < 5 * limits.away, "{mean:?}");
    }
}
