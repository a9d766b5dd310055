//! REST with XML: method and path say what is asked, XML each way. Source: Smithy, "AWS restXml protocol".

use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use serde::de::DeserializeOwned;

use super::operation::{Service, ServiceError};
use super::{Aws, fault, xml};
use crate::domain::fault::Fault;

/// A service that speaks REST with XML.
#[derive(Debug, Clone)]
pub struct RestXml {
    operation: Operation<Request, String, ServiceError>,
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: &'static str,
    /// Path and query string, percent-encoded.
    pub path: String,
    /// An XML document, or nothing.
    pub body: String,
}

impl RestXml {
    /// Calls an operation, named as IAM writes it: `route53:ListResourceRecordSets`. What is read is the root element.
    ///
    /// # Errors
    /// What the service refuses, an answer that cannot be read, and whatever kept the call from being answered.
    pub async fn call<T: DeserializeOwned>(&self, name: &str, request: Request) -> Result<T, Fault> {
        let answer = self.operation.invoke(request).await;
        xml::read(name, &answer.map_err(|error| fault(name, error))?)
    }
}

impl Aws {
    pub(super) fn rest_xml(&self, service: Service) -> RestXml {
        let name = service.name;
        let write = |request: Request| {
            let has_body = !request.body.is_empty();
            let mut sent = HttpRequest::new(SdkBody::from(request.body));
            sent.set_method(request.method)?;
            sent.set_uri(request.path)?;
            if has_body {
                sent.headers_mut().insert("content-type", "application/xml");
            }
            Ok(sent)
        };
        RestXml {
            operation: self.operation(service, name, write, xml::text, xml::refusal),
        }
    }
}
