//! One field of a JSON record, without reading the rest into memory.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// The field at a path of names; none when the record is no object, or has no such field, or it is
/// null.
///
/// # Errors
/// When the bytes are no JSON.
pub fn extract(json: &[u8], path: &[String]) -> Result<Option<Value>, serde_json::Error> {
    let mut de = serde_json::Deserializer::from_slice(json);
    let found = Seed { path }.deserialize(&mut de)?;
    de.end()?;
    Ok(found.filter(|value| !value.is_null()))
}

/// The field as the bytes of a key: text without quotes, numbers and truth values as they are
/// written; none for objects, arrays and what is missing.
///
/// # Errors
/// When the bytes are no JSON.
pub fn key(json: &[u8], path: &[String]) -> Result<Option<Vec<u8>>, serde_json::Error> {
    Ok(match extract(json, path)? {
        Some(Value::String(text)) => Some(text.into_bytes()),
        Some(Value::Number(number)) => Some(number.to_string().into_bytes()),
        Some(Value::Bool(truth)) => Some(truth.to_string().into_bytes()),
        _ => None,
    })
}

struct Seed<'p> {
    path: &'p [String],
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Self::Value, D::Error> {
        if self.path.is_empty() {
            return serde::Deserialize::deserialize(de).map(Some);
        }
        de.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if name == self.path[0].as_str() {
                found = map.next_value_seed(Seed { path: &self.path[1..] })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_wherever_it_is() {
        let path = |p: &str| p.split('.').map(str::to_owned).collect::<Vec<_>>();
        let json = br#"{"a":[1,{"b":2}],"u":{"id":"x\u0041","n":7,"t":true,"o":{}},"z":null}"#;
        assert_eq!(key(json, &path("u.id")).unwrap().unwrap(), b"xA");
        assert_eq!(key(json, &path("u.n")).unwrap().unwrap(), b"7");
        assert_eq!(key(json, &path("u.t")).unwrap().unwrap(), b"true");
        for none in ["u", "u.o", "a", "a.b", "z", "q", "u.id.x"] {
            assert_eq!(key(json, &path(none)).unwrap(), None, "{none}");
        }
        assert!(key(b"{\"u\":1", &path("u")).is_err());
        assert!(key(b"nonsense", &path("u")).is_err());
        assert_eq!(key(b"[1,2]", &path("u")).unwrap(), None);
    }
}
