//! Held requests are put before the judge.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
};
use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
    authorization_server::Authorization, check_response::HttpResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::rpc;
use tonic::{Code, Request, Response, Status};

use super::hub::Hub;
use super::names::ClusterName;
use super::plane::Judge;
use super::snapshot::{CONTEXT, GONE};
use super::view::{CheckedRequest, Verdict};
use super::wire::socket_of;

/// Envoy's word for the client as the listener's trusted hops let it be known; what a client says by this name is replaced.
const CLIENT: &str = "x-envoy-external-address";

/// The service.
pub struct Court<J> {
    pub hub: Arc<Hub>,
    pub judge: Arc<J>,
}

#[tonic::async_trait]
impl<J: Judge> Authorization for Court<J> {
    /// tonic drops this when the client has left.
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let request = request
            .into_inner()
            .attributes
            .and_then(read)
            .ok_or_else(|| Status::invalid_argument("no rule is named"))?;
        let verdict = tokio::select! {
            verdict = self.judge.judge(request) => verdict,
            // Envoy asks again.
            () = self.hub.closed() => return Err(Status::unavailable("the daemon is ending")),
        };
        Ok(Response::new(answer(verdict)))
    }
}

fn read(attributes: AttributeContext) -> Option<CheckedRequest> {
    let cluster = ClusterName::parse(attributes.context_extensions.get(CONTEXT)?)?;
    let http = attributes.request?.http?;
    let source = http.headers.get(CLIENT).and_then(|address| address.parse().ok());
    let peer = || socket_of(attributes.source.as_ref()?.address.as_ref()).map(|peer| peer.ip());
    Some(CheckedRequest {
        rule: cluster.rule,
        generation: cluster.generation,
        method: http.method,
        scheme: http.scheme,
        host: http.host,
        path: http.path,
        // Envoy's own words for method, path and so on begin with a colon.
        headers: http
            .headers
            .into_iter()
            .filter(|(name, _)| !name.starts_with(':'))
            .collect(),
        source: source.or_else(peer),
    })
}

fn answer(verdict: Verdict) -> CheckResponse {
    let (code, response) = match verdict {
        Verdict::Go => {
            let on = OkHttpResponse {
                headers_to_remove: vec![GONE.to_owned()],
                ..Default::default()
            };
            (Code::Ok, HttpResponse::OkResponse(on))
        }
        Verdict::Answer { status, headers, body } => {
            let denied = DeniedHttpResponse {
                status: Some(HttpStatus {
                    code: i32::from(status),
                }),
                headers: headers.into_iter().map(header).collect(),
                body,
            };
            (Code::PermissionDenied, HttpResponse::DeniedResponse(denied))
        }
    };
    CheckResponse {
        status: Some(rpc::Status {
            code: code.into(),
            ..Default::default()
        }),
        http_response: Some(response),
        ..Default::default()
    }
}

/// Several of one name are several (cookies). A content type takes the place of Envoy's own.
fn header((key, value): (String, String)) -> HeaderValueOption {
    let action = if key.eq_ignore_ascii_case("set-cookie") {
        HeaderAppendAction::AppendIfExistsOrAdd
    } else {
        HeaderAppendAction::OverwriteIfExistsOrAdd
    };
    HeaderValueOption {
        header: Some(HeaderValue {
            key,
            value,
            ..Default::default()
        }),
        append_action: action.into(),
        ..Default::default()
    }
}
