//! How the records of both sides become one result.
//!
//! Invariant: a result of two JSON values is a JSON object, in which no field of one side hides one
//! of the other.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use wasmill_sdk::prelude::Rejection;

use crate::config::{Config, Layout};

/// Writes results.
#[derive(Debug)]
pub(crate) struct Writer {
    layout: Layout,
    /// The names of the sides, as they stand between quotes.
    names: [String; 2],
}

impl Writer {
    pub(crate) fn new(config: &Config) -> Self {
        Self { layout: config.layout, names: [config.left.clone(), config.right.clone()] }
    }

    /// Writes the result of a record of each side, of which one may be missing. What is left out in a
    /// nested result is null.
    pub(crate) fn write(&self, out: &mut Vec<u8>, sides: [Option<&[u8]>; 2]) {
        out.push(b'{');
        for (side, record) in sides.into_iter().enumerate() {
            match self.layout {
                Layout::Nested => self.field(out, side, record.unwrap_or(b"null")),
                Layout::Prefixed => {
                    if let Some(record) = record {
                        self.fields(out, side, record);
                    }
                }
            }
        }
        out.push(b'}');
    }

    /// One field that holds the whole record.
    fn field(&self, out: &mut Vec<u8>, side: usize, value: &[u8]) {
        separate(out);
        out.push(b'"');
        out.extend_from_slice(self.names[side].as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(value);
    }

    /// The fields of a record, or the record as a field where it is no object.
    fn fields(&self, out: &mut Vec<u8>, side: usize, record: &[u8]) {
        let Some(fields) = Fields::read(record) else { return self.field(out, side, record) };
        for (name, value) in fields.0 {
            separate(out);
            let name = format!("{}_{name}", self.names[side]);
            serde_json::to_writer(&mut *out, &name).expect("text can be written as JSON");
            out.push(b':');
            out.extend_from_slice(value.get().as_bytes());
        }
    }
}

/// A comma behind what is there already.
fn separate(out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

/// Takes a record that can be part of a result: any JSON value, without the space around it.
///
/// # Errors
/// A malformed [`Rejection`].
pub(crate) fn check(value: &[u8]) -> Result<&[u8], Rejection> {
    let json: &RawValue = serde_json::from_slice(value)?;
    Ok(json.get().as_bytes())
}

/// The fields of an object in their order, values as they were written.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// None when it is no object.
    fn read(json: &'a [u8]) -> Option<Self> {
        serde_json::Deserializer::from_slice(json).deserialize_map(AllFields).ok()
    }
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
