//! AWS JSON: a JSON object each way, the operation in a header. Source: Smithy, "AWS JSON 1.0 protocol" and "AWS JSON 1.1
//! protocol", which differ in their content type alone where no errors have a namespace.

use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::error::ErrorMetadata;
use serde::Deserialize;
use serde_json::Value;

use super::Aws;
use super::operation::{Service, ServiceError};

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// `SERVICE.OPERATION`, the value of `X-Amz-Target`.
    pub(super) target: &'static str,
    /// `application/x-amz-json-1.0`, or 1.1.
    pub(super) content_type: &'static str,
}

/// An operation that can be called.
#[derive(Debug, Clone)]
pub struct JsonOperation(Operation<Value, Value, ServiceError>);

impl JsonOperation {
    /// Calls it.
    ///
    /// # Errors
    /// The service's own with its code, and whatever kept the call from being answered.
    pub async fn call(&self, input: Value) -> Result<Value, SdkError<ServiceError, HttpResponse>> {
        self.0.invoke(input).await
    }
}

impl Aws {
    pub(super) fn json(&self, call: Call, service: Service) -> JsonOperation {
        let write = move |input: Value| {
            let mut request = HttpRequest::new(SdkBody::from(input.to_string()));
            request.set_method("POST")?;
            request.set_uri("/")?;
            let headers = request.headers_mut();
            headers.insert("content-type", call.content_type);
            headers.insert("x-amz-target", call.target);
            Ok(request)
        };
        let read = |body: &[u8]| Ok(serde_json::from_slice(body)?);
        JsonOperation(self.operation(service, call.target, write, read, refusal))
    }
}

/// The name of an error is the part after `#` and before `:`.
#[derive(Deserialize)]
struct ErrorBody {
    #[serde(rename = "__type", alias = "code")]
    code: String,
    #[serde(alias = "Message")]
    message: Option<String>,
}

fn refusal(body: &[u8]) -> ErrorMetadata {
    let mut metadata = ErrorMetadata::builder();
    if let Ok(error) = serde_json::from_slice::<ErrorBody>(body) {
        let code = error.code.rsplit('#').next().unwrap_or_default();
        metadata = metadata.code(code.split(':').next().unwrap_or_default());
        if let Some(message) = error.message {
            metadata = metadata.message(message);
        }
    }
    metadata.build()
}
