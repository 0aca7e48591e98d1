//! A JSON object whose bytes stay as they are. Invariant: its members are where the text has them,
//! in order, with the names that their escapes spell.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use wasmill_sdk::prelude::{Deserialize, Rejection};

use crate::additions::Additions;
use crate::config::OnConflict;

/// An object and its members.
#[derive(Debug)]
pub struct Object<'a> {
    text: &'a str,
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads an object and nothing behind it.
    ///
    /// # Errors
    /// A malformed [`Rejection`] when the text is something else.
    pub fn read(text: &'a str) -> Result<Self, Rejection> {
        Ok(Self { text, members: serde_json::from_str::<Members<'a>>(text)?.0 })
    }

    /// The members in order, with the JSON of their values.
    pub fn members(self) -> Vec<(Cow<'a, str>, &'a RawValue)> {
        self.members
    }

    /// Whether it has a member of this name.
    pub fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(member, _)| member == name)
    }

    /// The JSON of the value at a path of names; of two members of a name the last one counts.
    pub fn find(&self, path: &[String]) -> Option<&'a str> {
        let (first, rest) = path.split_first()?;
        let (_, value) = self.members.iter().rfind(|(name, _)| name == first)?;
        let value = value.get();
        if rest.is_empty() { Some(value) } else { Object::read(value).ok()?.find(rest) }
    }

    /// Writes it with more members.
    pub fn write_with(
        &self,
        out: &mut Vec<u8>,
        additions: &Additions<'_>,
        on_conflict: OnConflict,
    ) {
        let mut copied = 0;
        if on_conflict == OnConflict::Replace {
            for (name, value) in &self.members {
                let Some(json) = additions.get(name) else { continue };
                // The value is a part of the text, so its place is the distance of their addresses.
                let start = value.get().as_ptr() as usize - self.text.as_ptr() as usize;
                out.extend_from_slice(&self.text.as_bytes()[copied..start]);
                out.extend_from_slice(json);
                copied = start + value.get().len();
            }
        }
        let end = self.text.rfind('}').expect("the text is an object");
        out.extend_from_slice(&self.text.as_bytes()[copied..end]);
        let mut comma = !self.members.is_empty();
        for (name, json) in additions.iter().filter(|(name, _)| !self.has(name)) {
            if comma {
                out.push(b',');
            }
            comma = true;
            write_text(out, name);
            out.push(b':');
            out.extend_from_slice(json);
        }
        out.extend_from_slice(&self.text.as_bytes()[end..]);
    }
}

/// Writes a JSON string.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("text can be written to memory as JSON");
}

/// Text, borrowed where the JSON has no escapes in it.
#[derive(Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some((name, value)) = map.next_entry::<Text<'de>, &RawValue>()? {
                    members.push((name.0, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
