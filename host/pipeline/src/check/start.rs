//! The key `start` of a source of type `topic`: where reading starts the first time.

use std::collections::BTreeMap;

use chrono::DateTime;

use crate::Start;
use crate::diagnostic::nearest;
use crate::document::{Entry, Value};
use crate::section::{Section, text};

/// The largest partition and offset that Kafka has.
const PARTITIONS: i32 = i32::MAX;

/// Reads the key; `kafka` says whether the pipeline runs on Kafka, which times and offsets need.
pub(super) fn start(section: &Section<'_>, kafka: bool) -> Start {
    let Some(entry) = section.get("start") else { return Start::Earliest };
    let start = match &entry.item.value {
        Value::Table(_) => Some(Start::Offsets(offsets(section, entry))),
        _ => word_or_time(section, entry),
    };
    if !kafka && matches!(start, Some(Start::Timestamp(_) | Start::Offsets(_))) {
        let message = "a start at a time or at offsets needs Kafka, this pipeline runs on the \
                       embedded log";
        let help = "write \"earliest\" or \"latest\", or add [kafka] with brokers";
        let path = section.at("start");
        section.problems.error(entry.item.origin, path, message, Some(help.to_owned()));
    }
    start.unwrap_or(Start::Earliest)
}

fn word_or_time(section: &Section<'_>, entry: &Entry) -> Option<Start> {
    let words = ["earliest", "latest"];
    let found = match &entry.item.value {
        Value::Datetime(time) => Some(time.as_str()),
        _ => text(&entry.item),
    };
    let start = match found {
        Some("earliest") => Some(Start::Earliest),
        Some("latest") => Some(Start::Latest),
        found => found.and_then(timestamp).filter(|ms| *ms >= 0).map(Start::Timestamp),
    };
    if start.is_none() {
        let message = format!(
            "expected \"earliest\", \"latest\", a time since 1970 with its offset from UTC such as \
             \"2024-05-01T00:00:00Z\", or a table such as {{ 0 = 120 }}, found {}",
            entry.item.value.describe()
        );
        let help = match found {
            Some(found) if timestamp(&format!("{found}Z")).is_some() => {
                Some(format!("did you mean \"{found}Z\"?"))
            }
            found => found.and_then(|f| nearest(f, words)).map(|n| format!("did you mean {n:?}?")),
        };
        section.problems.error(entry.item.origin, section.at("start"), message, help);
    }
    start
}

/// A table of partitions and their offsets.
fn offsets(section: &Section<'_>, entry: &Entry) -> BTreeMap<u32, i64> {
    let mut offsets = BTreeMap::new();
    let path = section.at("start");
    let table = Section::new(section.problems, path.clone(), entry.origin, &entry.item)
        .expect("it was just found to be a table");
    if table.entries().is_empty() {
        section.problems.error(entry.item.origin, path.clone(), "the table is empty", None);
    }
    for entry in table.entries() {
        let partition =
            entry.key.parse().ok().filter(|n: &i32| *n >= 0 && n.to_string() == entry.key);
        let Some(partition) = partition.and_then(|n| u32::try_from(n).ok()) else {
            let message =
                format!("expected a partition from 0 to {PARTITIONS}, found {:?}", entry.key);
            section.problems.error(entry.origin, path.clone(), message, None);
            continue;
        };
        match entry.item.value {
            Value::Integer(offset) if offset >= 0 => drop(offsets.insert(partition, offset)),
            _ => table.wrong(&entry.key, &entry.item, "an offset, an integer from 0"),
        }
    }
    offsets
}

/// A time in RFC 3339, in ms since 1970; none for anything else. Parts of a ms are cut off.
fn timestamp(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_ms_since_1970() {
        assert_eq!(timestamp("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(timestamp("1969-12-31T23:59:59.999Z"), Some(-1));
        assert_eq!(timestamp("2024-05-01T00:00:00Z"), Some(1_714_521_600_000));
        assert_eq!(timestamp("2024-05-01T02:00:00+02:00"), Some(1_714_521_600_000));
        assert_eq!(timestamp("2024-04-30 20:30:00.1239-03:30"), Some(1_714_521_600_123));
        assert_eq!(timestamp("2000-02-29T12:00:00z"), Some(951_825_600_000));
        for bad in ["", "2024-05-01", "2024-05-01T00:00:00", "10:00:00", "2023-02-29T00:00:00Z"] {
            assert_eq!(timestamp(bad), None, "{bad}");
        }
        assert_eq!(timestamp("2024-05-01T25:00:00Z"), None);
    }
}
