//! What the function calls, written down as IAM judges a call: by whom, on which resources, with which tags.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{Call, called};
use crate::local::world::World;

/// Calls of the function are signed with this key: each function has credentials of its own, those of its role.
pub const FUNCTION_KEY: &str = "local-function";

/// The parameters by which IAM judges, and none else: what a ledger holds stays out of the file.
const JUDGED: [&str; 6] = ["InstanceId", "ListenerArn", "RuleArn", "TableName", "Tags", "Actions"];

/// A file of one JSON object a line, each only once.
#[derive(Debug)]
pub struct Recorder {
    file: Mutex<(File, HashSet<String>)>,
}

impl Recorder {
    /// A new file in this folder. It begins with what the environment of the function says it may touch.
    ///
    /// # Errors
    /// When folder or file cannot be made.
    pub fn new(folder: &Path, environment: &[(String, String)]) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut file = File::create(folder.join(format!("{:016x}.jsonl", fastrand::u64(..))))?;
        let ours = environment.iter().filter(|(key, _)| key.starts_with("AUTOSTOPPING_"));
        let ours: BTreeMap<_, _> = ours.cloned().collect();
        writeln!(file, "{}", json!({ "environment": ours }))?;
        Ok(Self {
            file: Mutex::new((file, HashSet::new())),
        })
    }

    /// Notes a call as it came over the wire; what tags its resources have is not known.
    pub fn note_request(&self, path: &str, target: Option<&str>, body: &Bytes) {
        if let Ok(call) = called(path, target, body) {
            self.write(&line(&call, None));
        }
    }

    /// Notes a call with the tags that its resources have at this moment.
    pub(super) fn note(&self, world: &World, call: &Call) {
        let mut tags = BTreeMap::new();
        for id in texts(call.params.get("InstanceId")) {
            if let Some(instance) = world.instance(&id) {
                tags.insert(id, instance.tags.clone());
            }
        }
        for arn in texts(call.params.get("RuleArn")) {
            if let Ok(rule) = world.require_rule(&arn) {
                tags.insert(arn, rule.tags.clone());
            }
        }
        self.write(&line(call, Some(&tags)));
    }

    fn write(&self, line: &Value) {
        let line = line.to_string();
        let mut kept = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, known) = &mut *kept;
        if known.insert(line.clone()) {
            // A record that is not whole fails the check of it.
            let _ = writeln!(file, "{line}");
        }
    }
}

fn line(call: &Call, tags: Option<&BTreeMap<String, BTreeMap<String, String>>>) -> Value {
    let judged = call.params.iter().filter(|(key, _)| JUDGED.contains(&key.as_str()));
    let mut params: Map<String, Value> = judged.map(|(key, value)| (key.clone(), value.clone())).collect();
    // The tables of a batch are its keys.
    if let Some(Value::Object(tables)) = call.params.get("RequestItems") {
        params.insert("TableName".to_owned(), tables.keys().cloned().collect());
    }
    if let Some(actions) = params.get_mut("Actions").and_then(Value::as_array_mut) {
        for action in actions {
            *action = action["Type"].take();
        }
    }
    json!({ "service": call.wire.service().prefix(), "call": call.name, "params": params, "tags": tags })
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(target: Option<&str>, body: &'static str) -> Value {
        let call = called("/", target, &Bytes::from_static(body.as_bytes())).ok().unwrap();
        line(&call, None)
    }

    #[test]
    fn what_iam_judges_is_kept_and_nothing_else() {
        let put = recorded(
            Some("DynamoDB_20120810.PutItem"),
            r#"{"TableName": "t", "Item": {"pk": {"S": "hidden"}}}"#,
        );
        assert_eq!((&put["service"], &put["call"]), (&json!("dynamodb"), &json!("PutItem")));
        assert_eq!(put["params"], json!({ "TableName": "t" }));
        let batch = recorded(
            Some("DynamoDB_20120810.BatchGetItem"),
            r#"{"RequestItems": {"t": {"Keys": [{"pk": {"S": "hidden"}}]}}}"#,
        );
        assert_eq!(batch["params"], json!({ "TableName": ["t"] }));
        let rule = recorded(
            None,
            "Action=ModifyRule&Version=2015-12-01&RuleArn=arn:r&Actions.member.1.Type=authenticate-oidc\
             &Actions.member.1.AuthenticateOidcConfig.ClientSecret=hidden&Actions.member.2.Type=forward",
        );
        let judged = json!({ "RuleArn": "arn:r", "Actions": ["authenticate-oidc", "forward"] });
        assert_eq!((&rule["params"], &rule["tags"]), (&judged, &Value::Null));
    }
}
