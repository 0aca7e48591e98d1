//! What is read from an event: its page and its action, by the names of their fields.
//!
//! Invariant: the event is read once and borrowed from; all other fields are skipped, but checked to
//! be JSON, because the event's bytes go on as they came.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The names of the fields that are read.
#[derive(Debug)]
pub(crate) struct Fields {
    pub(crate) page: String,
    /// None when no action completes a session.
    pub(crate) action: Option<String>,
}

/// What an event says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    pub(crate) page: Option<Cow<'a, str>>,
    pub(crate) action: Option<Cow<'a, str>>,
}

impl Fields {
    /// Reads an event.
    ///
    /// # Errors
    /// When the bytes are no JSON object.
    #[inline]
    pub(crate) fn read<'a>(&self, json: &'a [u8]) -> serde_json::Result<Event<'a>> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let event = deserializer.deserialize_map(EventVisitor(self))?;
        deserializer.end()?;
        Ok(event)
    }
}

struct EventVisitor<'f>(&'f Fields);

impl<'de> Visitor<'de> for EventVisitor<'_> {
    type Value = Event<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event<'de>, A::Error> {
        let mut event = Event::default();
        while let Some(name) = map.next_key_seed(Name(self.0))? {
            match name {
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
                Field::Page => event.page = map.next_value_seed(Scalar)?,
                Field::Action => event.action = map.next_value_seed(Scalar)?,
                Field::Both => {
                    event.page = map.next_value_seed(Scalar)?;
                    event.action.clone_from(&event.page);
                }
            }
        }
        Ok(event)
    }
}

enum Field {
    Page,
    Action,
    Both,
    Other,
}

/// Reads the name of a field without keeping it.
struct Name<'f>(&'f Fields);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Field;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    #[inline]
    fn visit_str<E>(self, name: &str) -> Result<Field, E> {
        Ok(match (name == self.0.page, self.0.action.as_deref() == Some(name)) {
            (false, false) => Field::Other,
            (true, false) => Field::Page,
            (false, true) => Field::Action,
            (true, true) => Field::Both,
        })
    }
}

/// Reads text, a number or a boolean as text; anything else counts as absent.
struct Scalar;

impl<'de> DeserializeSeed<'de> for Scalar {
    type Value = Option<Cow<'de, str>>;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scalar {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    #[inline]
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(number.to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(number.to_string())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(number.to_string())))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(if value { "true" } else { "false" })))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> serde_json::Result<(Option<String>, Option<String>)> {
        let fields = Fields { page: "path".into(), action: Some("type".into()) };
        let event = fields.read(json.as_bytes())?;
        Ok((event.page.map(Cow::into_owned), event.action.map(Cow::into_owned)))
    }

    #[test]
    fn page_and_action_are_read_by_their_names() {
        let both = |page: &str, action: &str| (Some(page.to_owned()), Some(action.to_owned()));
        assert_eq!(
            read(r#"{"x":[1,{}],"path":"/a","type":"view"}"#).unwrap(),
            both("/a", "view")
        );
        assert_eq!(read(r#"{"p\u0061th":"/\u00e4","type":7}"#).unwrap(), both("/ä", "7"));
        assert_eq!(read(r#"{"path":["/a"],"type":{"is":"view"}}"#).unwrap(), (None, None));
        assert_eq!(read(r#"{"path":null,"type":true}"#).unwrap(), (None, Some("true".into())));
        assert_eq!(read(" { } ").unwrap(), (None, None));
        for bad in ["", "[]", "7", r#"{"path":"/a"} x"#, r#"{"path":"/a""#, r#"{"x":y}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("[]").unwrap_err().to_string().contains("JSON object"));
    }

    #[test]
    fn one_field_can_be_page_and_action() {
        let fields = Fields { page: "name".into(), action: Some("name".into()) };
        let event = fields.read(br#"{"name":"buy"}"#).unwrap();
        assert_eq!((event.page.as_deref(), event.action.as_deref()), (Some("buy"), Some("buy")));
    }
}
