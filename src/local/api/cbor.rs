//! CBOR, the wire of CloudWatch, to and from plain JSON values. Source: Smithy, "RPC v2 CBOR protocol".

use minicbor::{
    Decoder, Encoder,
    data::{IanaTag, Tag, Type},
    decode::Error,
};
use serde_json::{Map, Number, Value};

/// Members whose numbers are points in time, which CBOR marks.
const TIMES: [&str; 1] = ["Timestamps"];
/// No call nests deeper; a bound, so that a hostile one does not exhaust the stack.
const DEPTH: u8 = 32;

/// The value of a whole body. A point in time is its seconds since 1970.
pub fn decode(body: &[u8]) -> Result<Value, String> {
    read(&mut Decoder::new(body), DEPTH).map_err(|error| error.to_string())
}

/// The bytes of a value.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder, value, false).expect("writing to memory does not fail");
    encoder.into_writer()
}

fn read(from: &mut Decoder<'_>, depth: u8) -> Result<Value, Error> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Error::message("too deep"));
    };
    match from.datatype()? {
        Type::Null | Type::Undefined => from.skip().map(|()| Value::Null),
        Type::Bool => from.bool().map(Value::Bool),
        Type::F16 | Type::F32 | Type::F64 => {
            let number = Number::from_f64(from.f64()?);
            Ok(number.map_or(Value::Null, Value::Number))
        }
        Type::String | Type::StringIndef => from.str_iter()?.collect::<Result<String, _>>().map(Value::String),
        Type::Array | Type::ArrayIndef => {
            let mut list = Vec::new();
            let length = from.array()?;
            while more(from, length, list.len())? {
                list.push(read(from, depth)?);
            }
            Ok(Value::Array(list))
        }
        Type::Map | Type::MapIndef => {
            let mut map = Map::new();
            let length = from.map()?;
            let mut entries = 0;
            while more(from, length, entries)? {
                let key = from.str_iter()?.collect::<Result<String, _>>()?;
                map.insert(key, read(from, depth)?);
                entries += 1;
            }
            Ok(Value::Object(map))
        }
        Type::Tag => {
            from.tag()?;
            read(from, depth)
        }
        _ => from.i64().map(Value::from),
    }
}

/// Whether an array or a map of this length, or one that says itself where it ends, goes on.
fn more(from: &mut Decoder<'_>, length: Option<u64>, so_far: usize) -> Result<bool, Error> {
    match length {
        Some(length) => Ok((so_far as u64) < length),
        None if from.datatype()? == Type::Break => from.skip().map(|()| false),
        None => Ok(true),
    }
}

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn write(to: &mut Encoder<Vec<u8>>, value: &Value, time: bool) -> Written {
    match value {
        Value::Null => drop(to.null()?),
        Value::Bool(truth) => drop(to.bool(*truth)?),
        Value::Number(number) => {
            if time {
                to.tag(Tag::from(IanaTag::Timestamp))?;
            }
            match number.as_i64() {
                Some(whole) => to.i64(whole)?,
                None => to.f64(number.as_f64().unwrap_or_default())?,
            };
        }
        Value::String(text) => drop(to.str(text)?),
        Value::Array(list) => {
            to.array(list.len() as u64)?;
            list.iter().try_for_each(|value| write(to, value, time))?;
        }
        Value::Object(map) => {
            to.map(map.len() as u64)?;
            for (key, value) in map {
                to.str(key)?;
                write(to, value, TIMES.contains(&key.as_str()))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let value = json!({ "A": [1, -2, 0.5, "x", true, null, { "B": [] }], "Timestamps": [1767225600] });
        assert_eq!(decode(&encode(&value)), Ok(value));
    }

    #[test]
    fn times_are_marked_and_endless_ones_end() {
        let times = encode(&json!({ "Timestamps": [0] }));
        assert!(times.ends_with(&[0xc1, 0]), "{times:x?}");
        // RFC 8949, appendix A: {_ "a": 1, "b": [_ 2, 3]} and (_ "strea", "ming").
        let endless = [0xbf, 0x61, 0x61, 0x01, 0x61, 0x62, 0x9f, 0x02, 0x03, 0xff, 0xff];
        assert_eq!(decode(&endless), Ok(json!({ "a": 1, "b": [2, 3] })));
        let parts = [
            0x7f, 0x65, 0x73, 0x74, 0x72, 0x65, 0x61, 0x64, 0x6d, 0x69, 0x6e, 0x67, 0xff,
        ];
        assert_eq!(decode(&parts), Ok(json!("streaming")));
    }

    #[test]
    fn hostile_bodies_are_refused() {
        for body in [
            &[0x9f; 4000][..],
            &[0xbf],
            &[0x81],
            &[0xa1, 0x01, 0x01],
            &[0x5b, 0xff],
            &[],
        ] {
            assert!(decode(body).is_err(), "{body:x?}");
        }
    }
}
