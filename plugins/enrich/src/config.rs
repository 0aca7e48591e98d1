//! The configuration. Invariant: what is not said has the default that `README.md` states.

use std::collections::BTreeMap;

use wasmill_sdk::prelude::Deserialize;

/// Everything that can be configured.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// The name of the resource with the table: CSV with a header row (`.csv`, `.tsv`) or JSON lines
    /// (`.jsonl`, `.ndjson`, `.json`).
    pub table: Option<String>,
    /// The field of a record that is looked up: a dotted path, `$key` or `$timestamp`; or a field
    /// that is derived.
    pub key_field: Option<String>,
    /// The column of the table that has the keys; no key may occur twice.
    pub table_key: Option<String>,
    /// The columns that are added; all but the key without it.
    pub columns: Option<Vec<String>>,
    /// What is put before the names of columns.
    pub prefix: String,
    /// The types of columns of a CSV table; text without it.
    pub types: BTreeMap<String, Type>,
    /// What happens to a record whose key is not in the table.
    pub on_missing: OnMissing,
    /// What happens when a record has a field of that name already; not used with `envelope`.
    pub on_conflict: OnConflict,
    /// Fields that are derived from others.
    pub derive: Vec<Derive>,
    /// Whether records are wrapped: `{"meta":{...},"payload":...}`.
    pub envelope: bool,
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Type {
    /// Text, as it is.
    Text,
    /// A whole number of 64 bits.
    Int,
    /// A number.
    Float,
    /// `true` or `false`.
    Bool,
}

/// What happens to a record whose key is not in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnMissing {
    /// It goes on without the columns.
    #[default]
    Pass,
    /// It gets null for each of them, and for each field that can't be derived.
    Null,
    /// It is rejected as invalid.
    Reject,
}

/// What happens when a record has a field of that name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnConflict {
    /// The new value takes the old one's place.
    #[default]
    Replace,
    /// The old value stays.
    Keep,
    /// The record is rejected as invalid.
    Reject,
}

/// A field that is derived from another.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Derive {
    /// The name of the new field.
    pub field: String,
    /// What it is derived from: a dotted path, `$key` or `$timestamp`.
    pub from: String,
    /// How.
    #[serde(rename = "as")]
    pub how: How,
}

/// How a field is derived. Times are ms since the Unix epoch, and all is in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// The value as it is.
    Copy,
    /// Of a time: the hour, 0 to 23.
    HourOfDay,
    /// Of a time: the day of the week, 1 (Monday) to 7, as in ISO 8601.
    DayOfWeek,
    /// Of a time: `2015-05-17`.
    Date,
    /// Of a time: `2015-05`.
    Month,
    /// Of a time: `2015-05-17T10:05:03.000Z`.
    IsoTime,
    /// Of a URL: the host in lower case, without user and port.
    Host,
    /// Of a URL: the host without a leading `www.`.
    ReferrerDomain,
    /// Of a path or URL: the number of its segments that are not empty.
    PathDepth,
    /// Of a path or URL: the first segment that is not empty.
    FirstSegment,
    /// Of a path or URL: what follows the last dot of the last segment, in lower case.
    Extension,
    /// Of text: in lower case.
    Lower,
    /// Of text: in upper case.
    Upper,
    /// Of text: the number of characters (Unicode scalar values).
    Length,
}
