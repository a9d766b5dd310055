//! AWS as an outsider calls it: the query protocol by hand, so that what is set up and compared here owes nothing to our
//! adapters.

/// An AWS API on loopback.
#[derive(Clone, Copy)]
pub struct Api {
    pub port: u16,
}

pub const REGION: &str = "us-east-1";

impl Api {
    /// One call of EC2, ELBv2 or CloudWatch; the XML answer. Panics on an error.
    pub fn call(self, service: &str, action: &str, parameters: &[(&str, &str)]) -> String {
        let version = match service {
            "ec2" => "2016-11-15",
            "monitoring" => "2010-08-01",
            "rds" => "2014-10-31",
            _ => "2015-12-01",
        };
        let mut form = vec![("Action", action), ("Version", version)];
        form.extend_from_slice(parameters);
        let mut response = ureq::post(format!("http://127.0.0.1:{}/", self.port))
            .config()
            .http_status_as_error(false)
            .build()
            .header("authorization", authorization(service))
            .send_form(form)
            .unwrap_or_else(|error| panic!("{action}: {error}"));
        let text = response.body_mut().read_to_string().expect("XML is UTF-8");
        assert!(response.status().is_success(), "{action} {parameters:?}: {text}");
        text
    }

    pub fn ec2(self, action: &str, parameters: &[(&str, &str)]) -> String {
        self.call("ec2", action, parameters)
    }

    pub fn elb(self, action: &str, parameters: &[(&str, &str)]) -> String {
        self.call("elasticloadbalancing", action, parameters)
    }

    pub fn rds(self, action: &str, parameters: &[(&str, &str)]) -> String {
        self.call("rds", action, parameters)
    }

    /// One call of a service that speaks AWS JSON 1.1. Panics on an error.
    pub fn json(self, service: &str, action: &str, body: &serde_json::Value) {
        ureq::post(format!("http://127.0.0.1:{}/", self.port))
            .header("authorization", authorization(service))
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("{service}.{action}"))
            .send(body.to_string())
            .unwrap_or_else(|error| panic!("{action}: {error}"));
    }

    /// One call of Route 53; the XML answer. Panics on an error.
    pub fn route53(self, method: &str, path: &str, body: &str) -> String {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{}{path}", self.port))
            .header("authorization", authorization("route53"))
            .header("content-type", "application/xml");
        let request = request.body(body.to_owned()).expect("a request");
        let mut response = ureq::run(request).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        response.body_mut().read_to_string().expect("XML is UTF-8")
    }

    /// A listener rule as the API prints it, without what AWS takes and never shows: moto echoes it.
    pub fn rule(self, arn: &str) -> String {
        let xml = self.elb("DescribeRules", &[("RuleArns.member.1", arn)]);
        let mut rule = first(&xml, "Rules");
        for never_shown in ["ClientSecret", "UseExistingClientSecret"] {
            while let Some(start) = rule.find(&format!("<{never_shown}>")) {
                let close = format!("</{never_shown}>");
                let end = rule[start..].find(&close).expect("an element ends") + start + close.len();
                rule.replace_range(start..end, "");
            }
        }
        rule
    }

    /// The state of an instance.
    pub fn power(self, instance: &str) -> String {
        let xml = self.ec2("DescribeInstances", &[("InstanceId.1", instance)]);
        first(&first(&xml, "instanceState"), "name")
    }
}

/// Enough for moto, which checks no signature but reads the service.
fn authorization(service: &str) -> String {
    let scope = format!("Credential=test/20260101/{REGION}/{service}/aws4_request");
    format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0")
}

/// The content of the first element of this name that holds none of its own name.
pub fn first(xml: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let content = xml.find(&open).map(|start| &xml[start + open.len()..]);
    let content = content.and_then(|rest| rest.find(&close).map(|end| &rest[..end]));
    content.unwrap_or_else(|| panic!("no <{element}> in {xml}")).to_owned()
}
