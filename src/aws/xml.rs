//! XML as AWS's services write it.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_types::error::ErrorMetadata;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::faults::incomplete;
use crate::domain::fault::Fault;

/// `<ErrorResponse><Error><Code/><Message/></Error></ErrorResponse>`, or the modelled error itself as the root, with a list
/// of messages. Source: Amazon Route 53 API reference, ChangeResourceRecordSets, "Errors".
#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "Error")]
    error: Option<Coded>,
    #[serde(rename = "Messages")]
    messages: Option<Messages>,
    #[serde(rename = "Message")]
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Coded {
    code: String,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Messages {
    #[serde(rename = "Message", default)]
    all: Vec<String>,
}

/// The text of an answer that is no error; it is read where its shape is known.
pub(super) fn text(body: &[u8]) -> Result<String, BoxError> {
    Ok(std::str::from_utf8(body)?.to_owned())
}

/// The root element.
pub(super) fn read<T: DeserializeOwned>(operation: &str, text: &str) -> Result<T, Fault> {
    quick_xml::de::from_str(text).map_err(|error| incomplete(operation, &format!("what is expected of it ({error})")))
}

/// The service's code and words.
pub(super) fn refusal(body: &[u8]) -> ErrorMetadata {
    let text = String::from_utf8_lossy(body);
    let mut metadata = ErrorMetadata::builder();
    let Ok(refusal) = quick_xml::de::from_str::<Refusal>(&text) else {
        return metadata.build();
    };
    let (code, message) = match refusal.error {
        Some(coded) => (Some(coded.code), coded.message),
        None => {
            let messages = refusal.messages.map(|messages| messages.all.join(" "));
            (root(&text), messages.or(refusal.message))
        }
    };
    if let Some(code) = code {
        metadata = metadata.code(code);
    }
    if let Some(message) = message {
        metadata = metadata.message(message);
    }
    metadata.build()
}

fn root(text: &str) -> Option<String> {
    let mut reader = quick_xml::Reader::from_str(text);
    loop {
        match reader.read_event().ok()? {
            quick_xml::events::Event::Start(start) => {
                return String::from_utf8(start.local_name().as_ref().to_vec()).ok();
            }
            quick_xml::events::Event::Eof => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_of_a_refusal_are_read() {
        let table = [
            (
                "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"http://rds.amazonaws.com/doc/2014-10-31/\"><Error>\
                 <Type>Sender</Type><Code>InvalidDBInstanceState</Code><Message>Instance db is not in available \
                 state.</Message></Error><RequestId>1</RequestId></ErrorResponse>",
                Some("InvalidDBInstanceState"),
                Some("Instance db is not in available state."),
            ),
            (
                "<?xml version=\"1.0\"?><InvalidChangeBatch xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
                 <Messages><Message>one &amp;</Message><Message>two</Message></Messages></InvalidChangeBatch>",
                Some("InvalidChangeBatch"),
                Some("one & two"),
            ),
            ("<html><body>502</body></html>", Some("html"), None),
            ("upstream connect error", None, None),
            ("", None, None),
        ];
        for (body, code, message) in table {
            let read = refusal(body.as_bytes());
            assert_eq!((read.code(), read.message()), (code, message), "{body}");
        }
    }

    #[test]
    fn hostile_answers_are_no_panic() {
        for body in [
            &b"\xff\xfe<a>"[..],
            b"<a><b></a>",
            b"<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
            b"<",
        ] {
            let _ = refusal(body);
            assert!(text(body).ok().is_none_or(|text| read::<Coded>("a:B", &text).is_err()));
        }
    }
}
