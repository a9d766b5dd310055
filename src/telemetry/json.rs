//! One JSON object a line.

use std::fmt;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::METRICS;
use crate::clock::{Clock, SystemClock};
use crate::config::environment::MetricsChoice;

const SERVICE: &str = "aws-proxymanager";

/// Formats events.
pub(super) struct Lines {
    metrics: MetricsChoice,
    function: Option<String>,
}

impl Lines {
    pub(super) fn new(metrics: MetricsChoice, function: Option<String>) -> Self {
        Lines { metrics, function }
    }

    /// The keys of Powertools for AWS Lambda, then those of the spans, then those of the event. Source: its
    /// documentation, Logger, "Standard structured keys".
    fn log(&self, event: &Event<'_>, spans: Map<String, Value>, fields: Map<String, Value>) -> Value {
        let metadata = event.metadata();
        let mut line = json!({
            "level": metadata.level().as_str(),
            "location": metadata.target(),
            "message": "",
            "timestamp": SystemClock.now(),
            "service": SERVICE,
        });
        if let (Some(line), Some(function)) = (line.as_object_mut(), &self.function) {
            line.insert("function_name".to_owned(), json!(function));
        }
        if let Some(line) = line.as_object_mut() {
            line.extend(spans);
            line.extend(fields);
        }
        line
    }

    /// CloudWatch's embedded metric format: numbers are metrics, and `rule` is a dimension where that is wanted: every
    /// rule's metrics are priced as ones of their own. Source: Amazon CloudWatch user guide, "Specification: Embedded
    /// metric format".
    fn metric(&self, mut fields: Map<String, Value>) -> Value {
        let names = fields.iter().filter(|(_, value)| value.is_number());
        let metrics: Vec<Value> = names
            .map(|(name, _)| json!({ "Name": name, "Unit": if name.ends_with("Seconds") { "Seconds" } else { "Count" } }))
            .collect();
        let rule = fields.remove("rule").or_else(|| fields.remove("Rule"));
        let by_rule = rule.is_some() && self.metrics == MetricsChoice::Rules;
        let dimensions = if by_rule { json!([["Rule"], []]) } else { json!([[]]) };
        fields.remove("message");
        if let Some(rule) = rule {
            fields.insert("Rule".to_owned(), rule);
        }
        fields.insert(
            "_aws".to_owned(),
            json!({
                "Timestamp": SystemClock.now().as_millisecond(),
                "CloudWatchMetrics": [{ "Namespace": SERVICE, "Dimensions": dimensions, "Metrics": metrics }],
            }),
        );
        Value::Object(fields)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, JsonFields> for Lines {
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = if event.metadata().target() == METRICS {
            self.metric(fields.0)
        } else {
            let mut spans = Map::new();
            for span in context.event_scope().into_iter().flatten() {
                let extensions = span.extensions();
                let text = extensions
                    .get::<FormattedFields<JsonFields>>()
                    .map(|fields| fields.as_str());
                if let Some(Ok(Value::Object(own))) = text.map(serde_json::from_str) {
                    spans.extend(own);
                }
            }
            self.log(event, spans, fields.0)
        };
        writeln!(writer, "{line}")
    }
}

/// The fields of one event.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(metrics: MetricsChoice, work: impl FnOnce()) -> Vec<Value> {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(JsonFields::new())
            .event_format(Lines::new(metrics, Some("waker".to_owned())))
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        let bytes = buffer.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_log_line_has_the_keys_of_powertools_and_of_its_spans() {
        let lines = lines(MetricsChoice::Off, || {
            let span = tracing::info_span!("invocation", function_request_id = "r-1", correlation_id = "Root=1-2");
            let _in = span.enter();
            tracing::warn!(rule = "site \"x\"\n", count = 3, "it failed");
        });
        let line = &lines[0];
        for (key, value) in [
            ("level", "WARN"),
            ("message", "it failed"),
            ("service", "aws-proxymanager"),
            ("function_name", "waker"),
            ("function_request_id", "r-1"),
            ("correlation_id", "Root=1-2"),
            ("rule", "site \"x\"\n"),
        ] {
            assert_eq!(line[key], value, "{key}");
        }
        assert_eq!(line["count"], 3);
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z') && line["location"].is_string());
    }

    #[test]
    fn metrics_are_embedded_with_their_units_and_by_rule_only_when_wanted() {
        let say = || tracing::info!(target: METRICS, rule = "site", Wakes = 1, WakeSeconds = 41);
        for (choice, dimensions) in [
            (MetricsChoice::Totals, json!([[]])),
            (MetricsChoice::Rules, json!([["Rule"], []])),
        ] {
            let line = lines(choice, say).remove(0);
            let of = &line["_aws"]["CloudWatchMetrics"][0];
            assert_eq!(
                (&of["Namespace"], &of["Dimensions"]),
                (&json!("aws-proxymanager"), &dimensions)
            );
            let metrics = json!([{ "Name": "Wakes", "Unit": "Count" }, { "Name": "WakeSeconds", "Unit": "Seconds" }]);
            assert_eq!(of["Metrics"], metrics);
            assert_eq!(
                (&line["Wakes"], &line["WakeSeconds"], &line["Rule"]),
                (&json!(1), &json!(41), &json!("site"))
            );
            assert!(line["_aws"]["Timestamp"].is_i64());
        }
    }
}
