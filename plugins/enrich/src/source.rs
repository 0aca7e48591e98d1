//! Where a value of a record comes from. Invariant: a path has at least one name.

use std::borrow::Cow;
use std::fmt;

use wasmill_sdk::prelude::Record;

use crate::object::{Object, Text};

/// A value of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `$key`.
    Key,
    /// `$timestamp`.
    Timestamp,
    /// Names of members from the outside in.
    Path(Vec<String>),
}

impl Source {
    /// Reads `user.id`, `$key` or `$timestamp`; says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "$key" => Ok(Self::Key),
            "$timestamp" => Ok(Self::Timestamp),
            _ => {
                let path: Vec<String> = text.split('.').map(str::to_owned).collect();
                if text.starts_with('$') || path.iter().any(String::is_empty) {
                    return Err(format!(
                        "{text:?} is no field; write a dotted path such as \"user.id\", $key or \
                         $timestamp"
                    ));
                }
                Ok(Self::Path(path))
            }
        }
    }

    /// Whether it is the member of this name, at the outside.
    pub fn is_member(&self, name: &str) -> bool {
        matches!(self, Self::Path(path) if path.len() == 1 && path[0] == name)
    }

    /// The value as text: text as it is, numbers and booleans as the JSON has them; none for null,
    /// lists, objects and what is not there.
    pub fn text<'a>(
        &self,
        record: &Record<'a>,
        object: Option<&Object<'a>>,
    ) -> Option<Cow<'a, str>> {
        match self {
            Self::Key => record.key().map(String::from_utf8_lossy),
            Self::Timestamp => Some(Cow::Owned(record.timestamp().to_string())),
            Self::Path(path) => scalar(object?.find(path)?),
        }
    }

    /// The value as JSON.
    pub fn json<'a>(
        &self,
        record: &Record<'a>,
        object: Option<&Object<'a>>,
    ) -> Option<Cow<'a, str>> {
        match self {
            Self::Path(path) => object?.find(path).map(Cow::Borrowed),
            Self::Timestamp => self.text(record, object),
            Self::Key => {
                let text = self.text(record, object)?;
                Some(Cow::Owned(serde_json::Value::from(text).to_string()))
            }
        }
    }
}

/// A JSON value as text; none for null, lists and objects.
pub fn scalar(json: &str) -> Option<Cow<'_, str>> {
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str::<Text<'_>>(json).ok().map(|text| text.0),
        b'[' | b'{' | b'n' => None,
        _ => Some(Cow::Borrowed(json)),
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("$key"),
            Self::Timestamp => f.write_str("$timestamp"),
            Self::Path(path) => f.write_str(&path.join(".")),
        }
    }
}
