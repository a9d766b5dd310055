//! The wire of EC2 and ELBv2: form parameters in, XML out, both through plain JSON values.

use quick_xml::{
    Writer,
    events::{BytesEnd, BytesStart, BytesText, Event},
};
use serde_json::{Map, Value};

/// Parameters whose values are whole numbers, or truth values, in AWS's JSON.
const NUMBERS: [&str; 4] = ["Order", "Weight", "DurationSeconds", "SessionTimeout"];
const TRUTHS: [&str; 2] = ["Enabled", "UseExistingClientSecret"];
/// Members that are maps from text to text: `entry` elements with `key` and `value` on the wire.
const MAPS: [&str; 1] = ["AuthenticationRequestExtraParams"];

/// The parameters of a form body as a tree: `Actions.member.1.Type=forward` is `{"Actions": [{"Type": "forward"}]}`,
/// `InstanceId.1=i` is `{"InstanceId": ["i"]}`.
pub fn parse(body: &[u8]) -> Map<String, Value> {
    let mut tree = Map::new();
    for (key, value) in form_urlencoded::parse(body) {
        let path: Vec<&str> = key.split('.').collect();
        insert(&mut tree, &path, &value);
    }
    tree.into_iter().map(|(key, value)| (key, collapse(value))).collect()
}

fn insert(into: &mut Map<String, Value>, path: &[&str], value: &str) {
    match path {
        [] => {}
        [last] => {
            into.insert((*last).to_owned(), typed(last, value));
        }
        [first, rest @ ..] => {
            let below = into
                .entry((*first).to_owned())
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(below) = below {
                insert(below, rest, value);
            }
        }
    }
}

fn typed(key: &str, value: &str) -> Value {
    match value.parse::<i64>() {
        Ok(number) if NUMBERS.contains(&key) => Value::from(number),
        _ if TRUTHS.contains(&key) => Value::Bool(value == "true"),
        _ => Value::from(value),
    }
}

/// Objects that stand for lists become lists.
fn collapse(value: Value) -> Value {
    let Value::Object(mut object) = value else { return value };
    if object.len() == 1
        && let Some(members) = object.shift_remove("member")
    {
        return collapse(members);
    }
    if object.len() == 1
        && let Some(entries) = object.get("entry").cloned()
    {
        let part = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let entries = collapse(entries);
        let entries = entries.as_array().into_iter().flatten();
        return Value::Object(
            entries
                .map(|e| (part(e, "key"), Value::from(part(e, "value"))))
                .collect(),
        );
    }
    let numbered = !object.is_empty() && object.keys().all(|key| key.parse::<u32>().is_ok());
    let mut entries: Vec<(String, Value)> = object.into_iter().map(|(key, value)| (key, collapse(value))).collect();
    if numbered {
        entries.sort_by_key(|(key, _)| key.parse::<u32>().unwrap_or(u32::MAX));
        return Value::Array(entries.into_iter().map(|(_, value)| value).collect());
    }
    Value::Object(entries.into_iter().collect())
}

/// `value` as an XML document with the root `name`. Lists are written with `item` elements (`member` for ELBv2, `item`
/// for EC2); nulls are left out.
pub fn to_xml(name: &str, namespace: Option<&str>, value: &Value, item: &str) -> String {
    let mut writer = Writer::new(Vec::from(*br#"<?xml version="1.0" encoding="UTF-8"?>"#));
    write(&mut writer, name, namespace, value, item).expect("writing to memory does not fail");
    String::from_utf8(writer.into_inner()).expect("the writer was given strings")
}

fn write(
    writer: &mut Writer<Vec<u8>>,
    name: &str,
    namespace: Option<&str>,
    value: &Value,
    item: &str,
) -> std::io::Result<()> {
    let mut start = BytesStart::new(name);
    if let Some(namespace) = namespace {
        start.push_attribute(("xmlns", namespace));
    }
    if value.is_null() {
        return Ok(());
    }
    writer.write_event(Event::Start(start))?;
    match value {
        Value::Object(map) if MAPS.contains(&name) => {
            for (key, value) in map {
                write(
                    writer,
                    "entry",
                    None,
                    &serde_json::json!({ "key": key, "value": value }),
                    item,
                )?;
            }
        }
        Value::Object(object) => {
            for (key, value) in object {
                write(writer, key, None, value, item)?;
            }
        }
        Value::Array(list) => {
            for value in list {
                write(writer, item, None, value, item)?;
            }
        }
        Value::String(text) => writer.write_event(Event::Text(BytesText::new(text)))?,
        other => writer.write_event(Event::Text(BytesText::new(&other.to_string())))?,
    }
    writer.write_event(Event::End(BytesEnd::new(name)))
}

/// A parameter as text.
pub fn text(params: &Map<String, Value>, key: &str) -> Option<String> {
    params.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// A list parameter as texts; absent or empty is an empty list.
pub fn texts(params: &Map<String, Value>, key: &str) -> Vec<String> {
    list(params, key)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// A list parameter; absent or empty is an empty list.
pub fn list(params: &Map<String, Value>, key: &str) -> Vec<Value> {
    params.get(key).and_then(Value::as_array).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_and_objects_come_out_as_awss_json() {
        let body = b"Action=ModifyRule&Actions.member.2.Type=forward&Actions.member.2.Order=2&\
            Actions.member.1.Type=authenticate-oidc&Actions.member.1.AuthenticateOidcConfig.Scope=a%20b%26c&\
            InstanceId.1=i-1&InstanceId.2=i-2&Filter.1.Name=tag%3AX&Filter.1.Value.1=v&Names=&\
            AuthenticationRequestExtraParams.entry.1.key=prompt&AuthenticationRequestExtraParams.entry.1.value=login";
        let expected = json!({
            "Action": "ModifyRule",
            "Actions": [
                { "Type": "authenticate-oidc", "AuthenticateOidcConfig": { "Scope": "a b&c" } },
                { "Type": "forward", "Order": 2 },
            ],
            "InstanceId": ["i-1", "i-2"],
            "Filter": [{ "Name": "tag:X", "Value": ["v"] }],
            "Names": "",
            "AuthenticationRequestExtraParams": { "prompt": "login" },
        });
        assert_eq!(Value::Object(parse(body)), expected);
        assert_eq!(texts(&parse(body), "Names"), Vec::<String>::new());
    }

    #[test]
    fn maps_are_written_as_entries() {
        let value = json!({ "AuthenticationRequestExtraParams": { "prompt": "login" } });
        let entry = "<entry><key>prompt</key><value>login</value></entry>";
        assert!(to_xml("R", None, &value, "member").contains(entry));
    }

    #[test]
    fn text_is_escaped_in_xml() {
        let value = json!({ "A": "<&>\"", "L": [1, { "B": true }], "N": null });
        let xml = to_xml("R", Some("ns"), &value, "member");
        let body = "<A>&lt;&amp;&gt;&quot;</A><L><member>1</member><member><B>true</B></member></L>";
        assert_eq!(
            xml,
            format!(r#"<?xml version="1.0" encoding="UTF-8"?><R xmlns="ns">{body}</R>"#)
        );
    }
}
