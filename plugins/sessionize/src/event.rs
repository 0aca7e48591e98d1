//! What is read from an event: its page and its action, by the names of their fields.
//!
//! Invariant: the event is read once and borrowed from; all of it is checked to be JSON, because the
//! event's bytes go on as they came.

use std::borrow::Cow;

use wasmill_sdk::prelude::Rejection;

use crate::json::{Malformed, Value, walk};

/// The fields that are read.
#[derive(Debug)]
pub(crate) struct Fields {
    /// The name of the one with the page.
    pub(crate) page: String,
    /// The name of the one with the action, and the actions that complete a session.
    pub(crate) completion: Option<(String, Vec<String>)>,
}

/// What an event says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    pub(crate) page: Option<Cow<'a, str>>,
    /// Whether it completes its session.
    pub(crate) completes: bool,
}

impl Fields {
    /// Reads an event. Of a field that occurs twice the last one counts.
    ///
    /// # Errors
    /// A malformed [`Rejection`] when the bytes are no JSON object.
    #[inline]
    pub(crate) fn read<'a>(&self, json: &'a [u8]) -> Result<Event<'a>, Rejection> {
        let mut event = Event::default();
        walk(json, |name, value| {
            if name.is(&self.page) {
                event.page = scalar(value)?;
            }
            if let Some((action, completing)) = &self.completion
                && name.is(action)
            {
                event.completes = completing.iter().any(|action| reads_as(value, action));
            }
            Ok(())
        })
        .map_err(|e| malformed(json, &e))?;
        Ok(event)
    }
}

#[inline]
fn reads_as(value: Value<'_>, text: &str) -> bool {
    match value {
        Value::Text(found) => found.is(text),
        Value::Plain(raw) => raw == text.as_bytes(),
        Value::Other => false,
    }
}

/// Text, or a number or boolean as it is written; anything else counts as absent.
#[inline]
fn scalar(value: Value<'_>) -> Result<Option<Cow<'_, str>>, Malformed> {
    match value {
        Value::Text(text) => text.read().map(Some),
        Value::Plain(raw) => {
            Ok(Some(Cow::Borrowed(std::str::from_utf8(raw).expect("numbers and words are ASCII"))))
        }
        Value::Other => Ok(None),
    }
}

#[cold]
fn malformed(json: &[u8], e: &Malformed) -> Rejection {
    let found = match json.get(e.at) {
        Some(byte) => format!("'{}'", byte.escape_ascii()),
        None => "the end".to_owned(),
    };
    Rejection::malformed(format!(
        "an event is a JSON object: found {found} at byte {}, expected {}",
        e.at, e.expected
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<(Option<String>, bool), Rejection> {
        let completing = ["buy", "7", "true"].map(str::to_owned).to_vec();
        let fields = Fields { page: "path".into(), completion: Some(("type".into(), completing)) };
        let event = fields.read(json.as_bytes())?;
        Ok((event.page.map(Cow::into_owned), event.completes))
    }

    #[test]
    fn page_and_action_are_read_by_their_names() {
        let event = |page: &str, completes| (Some(page.to_owned()), completes);
        let object = r#"{"x":[1,{}],"path":"/a","type":"buy"}"#;
        assert_eq!(read(object).unwrap(), event("/a", true));
        assert_eq!(read(r#"{"p\u0061th":"/\u00e4","type":7}"#).unwrap(), event("/ä", true));
        assert_eq!(read(r#"{"path":["/a"],"type":{"path":"buy"}}"#).unwrap(), (None, false));
        assert_eq!(read(r#"{"path":null,"type":true}"#).unwrap(), (None, true));
        assert_eq!(read(r#"{"path":1.50,"type":"b\u0075y"}"#).unwrap(), event("1.50", true));
        assert_eq!(read(r#"{"path":"/a","path":"/b"}"#).unwrap(), event("/b", false));
        assert_eq!(read(" { } ").unwrap(), (None, false));
        let reason = read("[]").unwrap_err().reason;
        assert!(reason.contains("found '[' at byte 0, expected a JSON object"), "{reason}");
        assert!(read(r#"{"path":"/a""#).unwrap_err().reason.contains("the end at byte 12"));
        assert!(read(r#"{"path":"\ud800"}"#).unwrap_err().reason.contains("UTF-8"));
    }

    #[test]
    fn one_field_can_be_page_and_action() {
        let completion = Some(("name".into(), vec!["buy".into()]));
        let fields = Fields { page: "name".into(), completion };
        let event = fields.read(br#"{"name":"buy"}"#).unwrap();
        assert_eq!((event.page.as_deref(), event.completes), (Some("buy"), true));
    }
}
