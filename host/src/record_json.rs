//! A record as a line of JSON, for sinks, `wasmill topic read` and `wasmill topic write`.
//!
//! Invariant: [`parse`] gives back exactly the bytes that [`write()`] was given, whatever they are.
//!
//! The line is an object:
//!
//! ```json
//! {"partition":0,"offset":7,"timestamp":1700000000000,"key":"k","value":{"a":1},"headers":[["h","v"]]}
//! ```
//!
//! `timestamp` is in ms since 1970. `headers` is a list of pairs, since a name may come twice and
//! their order counts; it is left out when there are none, as are `partition` and `offset` when they
//! are not known. A null key, value or header value is `null`. Other bytes are written as
//!
//! - a JSON string of them, if they are UTF-8;
//! - `{"base64":"..."}` (standard alphabet, padded) if they are not;
//! - themselves, if they are a value (not a key or header) that is a JSON object, array, number or
//!   truth value on one line without space around it. Text that is a JSON string or `null`, and an
//!   object that looks like the form above, is written as a string, to be told apart from it.
//!
//! Read the other way: strings are raw bytes, `null` is null, `{"base64":"..."}` is what it encodes,
//! and any other JSON is its own text, with its spaces.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A record to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown<'a> {
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The event time, in ms since 1970.
    pub timestamp: i64,
    /// The headers in order.
    pub headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
    /// The partition; none leaves it out.
    pub partition: Option<u32>,
    /// The offset; none leaves it out.
    pub offset: Option<i64>,
}

/// A record that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The event time, in ms since 1970; none when the line doesn't say.
    pub timestamp: Option<i64>,
    /// The headers in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The partition, if the line says.
    pub partition: Option<u32>,
    /// The offset that the record had where it was read, if the line says.
    pub offset: Option<i64>,
}

/// A line that is no record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is not the JSON object that it should be.
    #[error(
        "not a record: {0}. Write an object such as \
         {{\"key\":\"k\",\"value\":{{\"a\":1}},\"timestamp\":1700000000000}}"
    )]
    Shape(String),
    /// There is no value.
    #[error("the record has no \"value\". Write \"value\":null to delete its key")]
    NoValue,
    /// A field has something in it that it can't have.
    #[error("\"{field}\" is {found}, expected {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is there.
        found: String,
        /// What could be there.
        expected: &'static str,
    },
}

/// Appends a record as one line of JSON, without the newline.
pub fn write(out: &mut Vec<u8>, record: &Shown<'_>) {
    out.push(b'{');
    if let Some(partition) = record.partition {
        out.extend_from_slice(format!("\"partition\":{partition},").as_bytes());
    }
    if let Some(offset) = record.offset {
        out.extend_from_slice(format!("\"offset\":{offset},").as_bytes());
    }
    out.extend_from_slice(format!("\"timestamp\":{},\"key\":", record.timestamp).as_bytes());
    write_bytes(out, record.key);
    out.extend_from_slice(b",\"value\":");
    match record.value {
        Some(value) if is_embeddable(value) => out.extend_from_slice(value),
        value => write_bytes(out, value),
    }
    if !record.headers.is_empty() {
        out.extend_from_slice(b",\"headers\":[");
        for (i, (name, value)) in record.headers.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b"[" } else { b",[" });
            write_bytes(out, Some(name));
            out.push(b',');
            write_bytes(out, *value);
            out.push(b']');
        }
        out.push(b']');
    }
    out.push(b'}');
}

/// Reads a line, with or without its newline. Headers may also be an object of names and values.
///
/// # Errors
/// [`Error`] says what is wrong with the line; it knows neither file nor line number.
pub fn parse(line: &[u8]) -> Result<Parsed, Error> {
    let text = std::str::from_utf8(line)
        .map_err(|e| Error::Shape(format!("byte {} is not UTF-8", e.valid_up_to())))?;
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|e| Error::Shape(message(&e)))?;
    let value = fields.value.ok_or(Error::NoValue)?;
    let timestamp = match fields.timestamp {
        None | Some(serde_json::Value::Null) => None,
        Some(value) => Some(timestamp(&value).ok_or_else(|| Error::Field {
            field: "timestamp",
            found: value.to_string(),
            expected: "an integer of ms since 1970 or a text as 2026-01-31T12:00:00Z",
        })?),
    };
    let headers = fields.headers.map_or(Ok(Vec::new()), |headers| {
        let read = |(name, value): (Cow<'_, str>, &RawValue)| {
            Ok((name.into_owned(), bytes("headers", value)?))
        };
        headers.0.into_iter().map(read).collect()
    })?;
    Ok(Parsed {
        key: fields.key.map_or(Ok(None), |key| bytes("key", key))?,
        value: bytes("value", value)?,
        timestamp,
        headers,
        partition: fields.partition,
        offset: fields.offset,
    })
}

/// A timestamp in ms since 1970: an integer, or text in RFC 3339, of which parts of a ms are cut
/// off. None for anything else.
pub fn timestamp(value: &serde_json::Value) -> Option<i64> {
    match value {
        serde_json::Value::Number(number) => number.as_i64(),
        serde_json::Value::String(text) => {
            chrono::DateTime::parse_from_rfc3339(text).ok().map(|t| t.timestamp_millis())
        }
        _ => None,
    }
}

/// What serde_json says of a single line, with the place as a byte and not as a line and column.
pub(crate) fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&suffix) {
        Some(what) if error.line() == 1 => format!("{what} at byte {}", error.column()),
        _ => text,
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow, default, deserialize_with = "even_null")]
    key: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    value: Option<&'a RawValue>,
    timestamp: Option<serde_json::Value>,
    #[serde(borrow)]
    headers: Option<Pairs<'a>>,
    partition: Option<u32>,
    offset: Option<i64>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Base64<'a> {
    #[serde(borrow)]
    base64: Cow<'a, str>,
}

struct Pairs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("headers: a list of pairs or an object")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = seq.next_element::<(String, &'de RawValue)>()? {
                    pairs.push((Cow::Owned(pair.0), pair.1));
                }
                Ok(Pairs(pairs))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    pairs.push((Cow::Owned(name), value));
                }
                Ok(Pairs(pairs))
            }
        }
        de.deserialize_any(Either)
    }
}

fn even_null<'de, D: Deserializer<'de>>(de: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(de).map(Some)
}

/// The bytes that a JSON value stands for.
fn bytes(field: &'static str, raw: &RawValue) -> Result<Option<Vec<u8>>, Error> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => match serde_json::from_str::<String>(text) {
            Ok(text) => Ok(Some(text.into_bytes())),
            Err(e) => {
                let (found, expected) = (message(&e), "text without unpaired surrogates");
                Err(Error::Field { field, found, expected })
            }
        },
        Some(b'{') => match serde_json::from_str::<Base64<'_>>(text) {
            Ok(Base64 { base64 }) => match STANDARD.decode(base64.as_bytes()) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) => {
                    let (found, expected) = (format!("{text} ({e})"), "padded standard base64");
                    Err(Error::Field { field, found, expected })
                }
            },
            Err(_) => Ok(Some(text.as_bytes().to_vec())),
        },
        _ => Ok(Some(text.as_bytes().to_vec())),
    }
}

/// Whether a value is written as it is: see the top of the file.
fn is_embeddable(value: &[u8]) -> bool {
    let (Some(first), Some(last)) = (value.first(), value.last()) else { return false };
    if !matches!(first, b'{' | b'[' | b'-' | b'0'..=b'9' | b't' | b'f')
        || last.is_ascii_whitespace()
        || memchr::memchr2(b'\n', b'\r', value).is_some()
    {
        return false;
    }
    let Ok(text) = std::str::from_utf8(value) else { return false };
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
        && (*first != b'{' || serde_json::from_str::<Base64<'_>>(text).is_err())
}

fn write_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let Some(bytes) = bytes else { return out.extend_from_slice(b"null") };
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            serde_json::to_writer(out, text).expect("a text can always be written into memory");
        }
        Err(_) => {
            out.extend_from_slice(b"{\"base64\":\"");
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.extend_from_slice(b"\"}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(record: &Shown<'_>) -> String {
        let mut out = Vec::new();
        write(&mut out, record);
        String::from_utf8(out).unwrap()
    }

    fn of_value(value: &[u8]) -> String {
        let line = line(&Shown { value: Some(value), ..Shown::default() });
        let inner = line.strip_prefix("{\"timestamp\":0,\"key\":null,\"value\":").unwrap();
        inner.strip_suffix('}').unwrap().to_owned()
    }

    fn back(parsed: &Parsed) -> Shown<'_> {
        let headers = parsed.headers.iter();
        Shown {
            key: parsed.key.as_deref(),
            value: parsed.value.as_deref(),
            timestamp: parsed.timestamp.unwrap(),
            headers: headers.map(|(n, v)| (n.as_bytes(), v.as_deref())).collect(),
            partition: parsed.partition,
            offset: parsed.offset,
        }
    }

    #[test]
    fn a_record_is_one_object_with_what_is_known() {
        let record = Shown {
            key: Some(b"k"),
            value: Some(br#"{"a": 1.50}"#),
            timestamp: -5,
            headers: vec![(b"h", Some(b"1")), (b"h", None)],
            partition: Some(3),
            offset: Some(9),
        };
        let text = r#"{"partition":3,"offset":9,"timestamp":-5,"key":"k","value":{"a": 1.50},"headers":[["h","1"],["h",null]]}"#;
        assert_eq!(line(&record), text);
        assert_eq!(back(&parse(text.as_bytes()).unwrap()), record);
        let none = line(&Shown::default());
        assert_eq!(none, r#"{"timestamp":0,"key":null,"value":null}"#);
    }

    #[test]
    fn a_value_takes_the_form_that_leads_back_to_its_bytes() {
        for embedded in ["{}", "[1, 2]", "-1.0e5", "true", r#"{"base64":1}"#] {
            assert_eq!(of_value(embedded.as_bytes()), embedded);
        }
        for text in ["", "null", "\"x\"", "{", "1 ", " 1", "{\"a\":\n1}", r#"{"base64":"AA=="}"#] {
            assert_eq!(of_value(text.as_bytes()), serde_json::to_string(text).unwrap());
        }
        assert_eq!(of_value(b"\xff\x00"), r#"{"base64":"/wA="}"#);
        assert_eq!(of_value(b"{\"a\":\"\xff\"}"), r#"{"base64":"eyJhIjoi/yJ9"}"#);
    }

    #[test]
    fn what_a_person_writes_is_understood() {
        let parsed = parse(br#" {"value": {"a" : 1}, "key": 7, "timestamp": "1970-01-01T01:00:01.5+01:00", "headers": {"h": "x", "h": [1]}} "#).unwrap();
        assert_eq!(parsed.value.unwrap(), br#"{"a" : 1}"#);
        assert_eq!(parsed.key.unwrap(), b"7");
        assert_eq!(parsed.timestamp, Some(1500));
        let header = |v: &str| ("h".to_owned(), Some(v.as_bytes().to_vec()));
        assert_eq!(parsed.headers, [header("x"), header("[1]")]);
        let tombstone = parse(br#"{"key":"k","value":null}"#).unwrap();
        assert_eq!((tombstone.value, tombstone.timestamp), (None, None));
    }

    #[test]
    fn a_line_that_is_no_record_is_refused_with_the_reason() {
        let refused = |line: &[u8]| parse(line).unwrap_err().to_string();
        assert!(refused(b"{\"key\":\"k\"}").contains("\"value\":null"));
        assert!(refused(b"{\"value\":1,\"kay\":2}").contains("unknown field `kay`"));
        assert!(refused(b"{\"value\":1,\"value\":2}").contains("duplicate field `value`"));
        assert!(refused(b"nonsense").contains("not a record: expected"));
        assert!(refused(b"\"\xff\"").contains("byte 1 is not UTF-8"));
        assert!(refused(b"{\"value\":{\"base64\":\"?\"}}").contains("base64"));
        let refused = refused(b"{\"value\":1,\"timestamp\":1.5}");
        assert!(refused.contains("\"timestamp\" is 1.5, expected an integer of ms"), "{refused}");
    }

    fn some_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
        let json =
            "(null|true|[0-9]{1,3}|\"x\"|\\{\"a\":1\\}|\\{\"base64\":\"AA==\"\\}|\\[\\]| |\n){0,2}";
        proptest::option::of(prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..12),
            any::<String>().prop_map(String::into_bytes),
            json.prop_map(String::into_bytes),
        ])
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            key in some_bytes(), value in some_bytes(), timestamp in any::<i64>(),
            headers in proptest::collection::vec((any::<String>(), some_bytes()), 0..3),
            partition in any::<Option<u32>>(), offset in any::<Option<i64>>(),
        ) {
            let timestamp = Some(timestamp);
            let parsed = Parsed { key, value, timestamp, headers, partition, offset };
            let line = line(&back(&parsed));
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(parse(line.as_bytes()), Ok(parsed));
        }
    }
}
