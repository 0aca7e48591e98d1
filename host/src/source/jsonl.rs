//! Lines of JSON. Invariant: a record is made only of a line that is JSON and has every field that
//! the source is told to read.

use serde::de::IgnoredAny;
use wasmill_core::field;

use crate::record_json;

/// Event times of records, in ms since 1970: the years 0 to 9999. What is outside of them is hardly
/// a time in ms, and would carry the watermark away for ever.
const TIMES_MS: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

/// The fields of a record that a source reads.
pub(super) struct Fields<'f> {
    pub key: Option<&'f [String]>,
    pub timestamp: Option<&'f [String]>,
}

impl Fields<'_> {
    /// The key and the event time of a line; each none when it isn't read from the line.
    ///
    /// # Errors
    /// Why the line is no record, for a person.
    pub fn read(&self, line: &[u8]) -> Result<(Option<Vec<u8>>, Option<i64>), String> {
        let text = std::str::from_utf8(line)
            .map_err(|e| format!("not JSON: byte {} is not UTF-8", e.valid_up_to() + 1))?;
        let no_json = |e: serde_json::Error| format!("not JSON: {}", record_json::message(&e));
        if self.key.is_none() && self.timestamp.is_none() {
            serde_json::from_str::<IgnoredAny>(text).map_err(no_json)?;
        }
        let key = match self.key {
            None => None,
            Some(path) => Some(field::key(line, path).map_err(no_json)?.ok_or_else(|| {
                let path = path.join(".");
                format!("the key {path} is missing, or is no text, number or truth value")
            })?),
        };
        let timestamp = match self.timestamp {
            None => None,
            Some(path) => Some(timestamp(line, path, no_json)?),
        };
        Ok((key, timestamp))
    }
}

fn timestamp(
    line: &[u8],
    path: &[String],
    no_json: impl Fn(serde_json::Error) -> String,
) -> Result<i64, String> {
    let value = field::extract(line, path)
        .map_err(no_json)?
        .ok_or_else(|| format!("the timestamp {} is missing", path.join(".")))?;
    let wrong = || {
        let mut found = value.to_string();
        if found.chars().count() > 100 {
            found = found.chars().take(100).chain(['…']).collect();
        }
        format!(
            "the timestamp {} is {found}, expected an integer of ms since 1970, up to the year \
             9999, or a text as 2026-01-31T12:00:00Z",
            path.join(".")
        )
    };
    record_json::timestamp(&value).filter(|t| TIMES_MS.contains(t)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_what_lacks_them_is_refused() {
        let (key, timestamp) = (["u".to_owned(), "id".to_owned()], ["t".to_owned()]);
        let fields = Fields { key: Some(&key), timestamp: Some(&timestamp) };
        let read = |line: &str| fields.read(line.as_bytes());
        let time = |t: &str| read(&format!("{{\"u\":{{\"id\":1}},\"t\":{t}}}"));
        assert_eq!(read(r#"{"t":-7,"u":{"id":"x"}}"#), Ok((Some(b"x".to_vec()), Some(-7))));
        assert_eq!(time("\"1970-01-01T00:00:01.2345Z\"").unwrap().1, Some(1234));
        assert_eq!(time("253402300799999").unwrap().1, Some(253402300799999));
        for wrong in ["253402300800000", "1700000000000000", "1.5", "\"noon\"", "[]"] {
            let refused = time(wrong).unwrap_err();
            assert!(refused.starts_with(&format!("the timestamp t is {wrong}, ")), "{refused}");
        }
        assert_eq!(read(r#"{"u":{"id":1}}"#).unwrap_err(), "the timestamp t is missing");
        assert!(read(r#"{"u":{"id":{}},"t":1}"#).unwrap_err().starts_with("the key u.id is"));
        assert!(read("{\"u\"").unwrap_err().starts_with("not JSON: EOF"));
    }

    #[test]
    fn without_fields_any_json_will_do() {
        let fields = Fields { key: None, timestamp: None };
        assert_eq!(fields.read(b"[1, null]"), Ok((None, None)));
        assert_eq!(fields.read(b"{a}").unwrap_err(), "not JSON: key must be a string at byte 2");
        assert_eq!(fields.read(b"\"\xff\"").unwrap_err(), "not JSON: byte 2 is not UTF-8");
    }
}
