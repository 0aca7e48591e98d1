//! Reads the fields of a JSON object that a measure needs, by configured names.
//!
//! Invariant: a record that lacks a field, or has something else in it, is rejected as invalid and
//! the reason names the field; what is no JSON object is malformed.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use wasmill_sdk::prelude::Rejection;

use crate::tally::FINAL;

/// The fields of an object in their order, values as they were written.
pub(crate) struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// A malformed [`Rejection`].
    pub(crate) fn read(json: &'a [u8]) -> Result<Self, Rejection> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let fields = deserializer.deserialize_map(AllFields)?;
        deserializer.end()?;
        Ok(fields)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }

    /// Whether this is a result of a window that was still open.
    pub(crate) fn is_early(&self) -> bool {
        self.0.iter().any(|(name, value)| name == FINAL && value.get() == "false")
    }

    fn get(&self, name: &str) -> Result<&'a RawValue, Rejection> {
        // As most readers have it: the last of a name counts.
        let found = self.0.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| *value).ok_or_else(|| {
            Rejection::invalid(format!("the record has no field {name:?}, which is needed"))
        })
    }

    /// A field that names something: text, or a number as it is written.
    ///
    /// # Errors
    /// An invalid [`Rejection`].
    pub(crate) fn text(&self, name: &str) -> Result<Cow<'a, str>, Rejection> {
        let raw = self.get(name)?.get();
        match raw.as_bytes()[0] {
            b'"' if !raw.contains('\\') => Ok(Cow::Borrowed(&raw[1..raw.len() - 1])),
            b'"' => Ok(Cow::Owned(serde_json::from_str(raw)?)),
            b'0'..=b'9' | b'-' => Ok(Cow::Borrowed(raw)),
            _ => Err(unfit(name, raw, "text")),
        }
    }

    /// A field with a count or a length: a whole number from 0.
    ///
    /// # Errors
    /// An invalid [`Rejection`].
    pub(crate) fn count(&self, name: &str) -> Result<u64, Rejection> {
        let raw = self.get(name)?.get();
        serde_json::from_str(raw).map_err(|_| unfit(name, raw, "a whole number from 0"))
    }

    /// A field with a time in ms.
    ///
    /// # Errors
    /// An invalid [`Rejection`].
    pub(crate) fn time(&self, name: &str) -> Result<i64, Rejection> {
        let raw = self.get(name)?.get();
        serde_json::from_str(raw).map_err(|_| unfit(name, raw, "a time in ms, a whole number"))
    }

    /// A field with any number.
    ///
    /// # Errors
    /// An invalid [`Rejection`].
    pub(crate) fn number(&self, name: &str) -> Result<f64, Rejection> {
        let raw = self.get(name)?.get();
        serde_json::from_str(raw).map_err(|_| unfit(name, raw, "a number"))
    }
}

/// The text or number in a field of a JSON object, told by its looks: what stands behind the first
/// `"name":` (`name` with its quotes), in whatever depth. None for text with escapes.
///
/// A guess, at a fraction of the cost of reading the object: for [`Fields::text`] there may be
/// another field, or none.
pub(crate) fn guess<'a>(json: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = json;
    loop {
        rest = &rest[rest.iter().position(|b| *b == b'"')?..];
        let value = rest.strip_prefix(name).map(<[u8]>::trim_ascii_start);
        let Some(value) = value.and_then(|value| value.strip_prefix(b":")) else {
            rest = &rest[1..];
            continue;
        };
        let value = value.trim_ascii_start();
        return match value.split_first()? {
            (b'"', text) => {
                let end = text.iter().position(|b| matches!(b, b'"' | b'\\'))?;
                (text[end] == b'"').then_some(&text[..end])
            }
            (b'0'..=b'9' | b'-', _) => {
                let end = value.iter().position(|b| b",} \t\r\n".contains(b))?;
                Some(&value[..end])
            }
            _ => None,
        };
    }
}

fn unfit(name: &str, found: &str, expected: &str) -> Rejection {
    let found: String = found.chars().take(80).collect();
    Rejection::invalid(format!("the field {name:?} is {found}; it should be {expected}"))
}

struct AllFields;

impl<'de> Visitor<'de> for AllFields {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        #[derive(serde::Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
        let mut fields = Vec::with_capacity(16);
        while let Some(Name(name)) = map.next_key()? {
            fields.push((name, map.next_value()?));
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmill_sdk::abi::RejectionKind;

    #[test]
    fn fields_are_read_by_name_and_kind() {
        let json = br#" {"a":"x\u00e4","b":-5,"c":2.5,"d":7,"e":null,"u\u0073er":"me","d":8} "#;
        let fields = Fields::read(json).unwrap();
        assert_eq!(fields.text("a").unwrap(), "xä");
        assert_eq!(fields.text("user").unwrap(), "me");
        assert_eq!(fields.text("b").unwrap(), "-5");
        assert_eq!(fields.time("b").unwrap(), -5);
        assert_eq!(fields.number("c").unwrap(), 2.5);
        assert_eq!(fields.count("d").unwrap(), 8);
        assert_eq!(fields.iter().count(), 7);
        let reason = |r: Rejection| (r.kind, r.reason);
        let (kind, text) = reason(fields.count("c").unwrap_err());
        assert!(kind == RejectionKind::Invalid && text.contains("\"c\" is 2.5"), "{text}");
        assert!(fields.count("b").is_err() && fields.text("e").is_err());
        let (kind, text) = reason(fields.text("f").unwrap_err());
        assert!(kind == RejectionKind::Invalid && text.contains("no field \"f\""), "{text}");
    }

    #[test]
    fn the_guess_at_a_field_is_what_reading_finds() {
        for json in [
            r#"{"user":"u7","path":"/a"}"#,
            r#"{ "path" : "user" , "user" : "u7" }"#,
            r#"{"a":"\"user\":","b":1.5,"user":-7}"#,
            r#"{"a":[1,"user"],"user":12 }"#,
            r#"{"user":""}"#,
            r#"{"auser":"a","user":"ä, ö","user2":"b"}"#,
        ] {
            let fields = Fields::read(json.as_bytes()).unwrap();
            let found = guess(json.as_bytes(), b"\"user\"");
            assert_eq!(found, Some(fields.text("user").unwrap().as_bytes()), "{json}");
        }
        let none = ["", "{", r#"{"user""#, r#"{"user":"#, r#"{"user":"u"#, r#"{"user":7"#];
        let unfit = [r#"{"user":"\u0061"}"#, r#"{"user":null}"#, r#"{"users":"a"}"#, r#""user""#];
        for json in none.into_iter().chain(unfit) {
            assert_eq!(guess(json.as_bytes(), b"\"user\""), None, "{json}");
        }
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        for bad in ["", "[]", "{", r#"{"a":1}x"#, r#"{"a"}"#] {
            let rejection = Fields::read(bad.as_bytes()).err().unwrap();
            assert_eq!(rejection.kind, RejectionKind::Malformed, "{bad}");
        }
    }
}
