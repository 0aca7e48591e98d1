//! The measure `count`: how many records there are, and in how many of them a field is.
//!
//! Invariant: as `COUNT(*)` and `COUNT(field)` in SQL, a field counts where it is there and not null.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wasmill_sdk::config::error;
use wasmill_sdk::prelude::ConfigError;
use wasmill_sdk::window::Window;

use crate::config::{Config, Measure};
use crate::fields::Fields;
use crate::tally::{FINAL, WINDOW_END, WINDOW_START};

/// What a record of a window adds, or what they have added so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    records: u64,
    /// By the name that the count has in the result.
    fields: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct CountResult<'a> {
    window_start_ms: i64,
    window_end_ms: i64,
    key: &'a str,
    count: u64,
    #[serde(flatten)]
    fields: &'a BTreeMap<String, u64>,
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    is_final: Option<bool>,
}

/// For each configured count, in their order, whether a record has the field.
pub(crate) fn present(config: &Config, record: &Fields<'_>) -> Vec<bool> {
    config.counts.values().map(|path| has(record, path)).collect()
}

/// Checks the names of the counts.
///
/// # Errors
/// A [`ConfigError`] that names the key.
pub(crate) fn check(config: &Config) -> Result<(), ConfigError> {
    if config.measure != Measure::Count && !config.counts.is_empty() {
        return Err(error("counts", "is for the measure \"count\" only"));
    }
    for name in config.counts.keys() {
        if [WINDOW_START, WINDOW_END, "key", "count", "rank", FINAL].contains(&name.as_str()) {
            let message =
                format!("a result has a field {name:?} already; name the count otherwise");
            return Err(error(format!("counts.{name}"), message));
        }
    }
    Ok(())
}

impl Counts {
    /// Counts a record. `present` is what [`present`] says of it.
    pub(crate) fn add(&mut self, config: &Config, present: &[bool]) {
        self.records += 1;
        for (name, present) in config.counts.keys().zip(present) {
            match self.fields.get_mut(name) {
                Some(count) => *count += u64::from(*present),
                None => _ = self.fields.insert(name.clone(), u64::from(*present)),
            }
        }
    }

    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        window: Window,
        key: &str,
        is_final: Option<bool>,
    ) -> serde_json::Result<()> {
        let Window { start: window_start_ms, end: window_end_ms } = window;
        let (count, fields) = (self.records, &self.fields);
        let result = CountResult { window_start_ms, window_end_ms, key, count, fields, is_final };
        serde_json::to_writer(out, &result)
    }
}

/// Whether there is something other than null at a dotted path.
fn has(record: &Fields<'_>, path: &str) -> bool {
    let mut segments = path.split('.');
    let first = segments.next().expect("a split text has a first part");
    let Some(mut value) = of(record, first) else { return false };
    for segment in segments {
        let inner = Fields::read(value.get().as_bytes());
        match inner.ok().and_then(|fields| of(&fields, segment)) {
            Some(found) => value = found,
            None => return false,
        }
    }
    value.get() != "null"
}

/// The value of a field; the last of a name counts, as most readers have it.
fn of<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a RawValue> {
    fields.iter().filter(|(known, _)| *known == name).last().map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_there_unless_it_or_one_above_it_is_missing_or_null() {
        let json = br#"{"a":{"b":{"c":0},"n":null},"t":"x","n":null,"t2":false}"#;
        let record = Fields::read(json).unwrap();
        for path in ["a", "a.b", "a.b.c", "t", "t2"] {
            assert!(has(&record, path), "{path}");
        }
        for path in ["n", "a.n", "a.n.x", "b", "a.c", "t.x", "a.b.c.d", ""] {
            assert!(!has(&record, path), "{path}");
        }
    }
}
