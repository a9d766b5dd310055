//! The query protocol: a form each way there, XML back. Source: Smithy, "AWS query protocol".

use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use serde::de::DeserializeOwned;

use super::operation::{Service, ServiceError};
use super::{Aws, fault, xml};
use crate::domain::fault::Fault;

/// A service that speaks the query protocol.
#[derive(Debug, Clone)]
pub struct Query {
    service: &'static str,
    operation: Operation<String, String, ServiceError>,
    version: &'static str,
}

impl Query {
    /// Calls an action. What is read from the answer is the root element, `ACTIONResponse`.
    ///
    /// # Errors
    /// What the service refuses, an answer that cannot be read, and whatever kept the call from being answered.
    pub async fn call<T: DeserializeOwned>(&self, action: &str, parameters: &[(String, String)]) -> Result<T, Fault> {
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("Action", action), ("Version", self.version)])
            .extend_pairs(parameters)
            .finish();
        let name = format!("{}:{action}", self.service);
        let answer = self.operation.invoke(form).await;
        xml::read(&name, &answer.map_err(|error| fault(&name, error))?)
    }
}

impl Aws {
    /// `version` is that of the API, a date.
    pub(super) fn query(&self, service: Service, version: &'static str) -> Query {
        let name = service.name;
        let write = |form: String| {
            let mut request = HttpRequest::new(SdkBody::from(form));
            request.set_method("POST")?;
            request.set_uri("/")?;
            let headers = request.headers_mut();
            headers.insert("content-type", "application/x-www-form-urlencoded");
            Ok(request)
        };
        Query {
            service: name,
            operation: self.operation(service, name, write, xml::text, xml::refusal),
            version,
        }
    }
}
