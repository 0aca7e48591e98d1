//! Tables of settings that are handed to Kafka as text: dotted names and their values.
//!
//! Invariant: a message never shows the value of a setting that looks like a secret.

use std::collections::BTreeMap;

use crate::document::{Entry, Item, Origin, Value};
use crate::kafka::is_secret;
use crate::section::{Problems, Section};

/// The table `key` of a section, with the names of nested tables joined by dots. A `--set` wins over
/// the file and over a `--set` before it, however each of them nests the name.
pub(super) fn properties(section: &Section<'_>, key: &'static str) -> BTreeMap<String, String> {
    let Some(table) = section.section(key) else { return BTreeMap::new() };
    let mut flat =
        Flat { problems: section.problems, path: table.path.clone(), found: BTreeMap::new() };
    flat.add(None, table.entries());
    flat.found.into_iter().map(|(name, (value, _))| (name, value)).collect()
}

struct Flat<'a> {
    problems: &'a Problems<'a>,
    path: String,
    found: BTreeMap<String, (String, Origin)>,
}

impl Flat<'_> {
    fn add(&mut self, prefix: Option<&str>, entries: &[Entry]) {
        for entry in entries {
            let name = match prefix {
                Some(prefix) => format!("{prefix}.{}", entry.key),
                None => entry.key.clone(),
            };
            let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            if entry.key.split('.').any(str::is_empty) || !entry.key.bytes().all(known) {
                let message = format!(
                    "expected the name of a setting, letters, digits, '.', '_' or '-', found {:?}",
                    entry.key
                );
                self.error(entry.origin, None, message);
                continue;
            }
            match &entry.item.value {
                Value::Table(inner) if inner.is_empty() => {
                    self.error(entry.item.origin, Some(&name), "the table is empty".to_owned());
                }
                Value::Table(inner) => self.add(Some(&name), inner),
                _ => self.setting(name, entry),
            }
        }
    }

    fn setting(&mut self, name: String, entry: &Entry) {
        let value = match value(&entry.item) {
            Some(value) if value.contains('\0') => {
                let message = "the value has a NUL in it, which Kafka can't be given".to_owned();
                return self.error(entry.item.origin, Some(&name), message);
            }
            Some(value) => value,
            None => {
                let found = match is_secret(&name) && !matches!(entry.item.value, Value::Array(_)) {
                    true => "another kind of value".to_owned(),
                    false => entry.item.value.describe(),
                };
                let message = format!("expected a string, a number, true or false, found {found}");
                return self.error(entry.item.origin, Some(&name), message);
            }
        };
        let (new, old) =
            (rank(entry.origin), self.found.get(&name).map(|(_, origin)| rank(*origin)));
        match old {
            Some(old) if old == new => {
                self.error(entry.origin, Some(&name), format!("{name} is there twice"));
            }
            Some(old) if old > new => {}
            _ => drop(self.found.insert(name, (value, entry.origin))),
        }
    }

    fn error(&self, origin: Origin, name: Option<&str>, message: String) {
        let path = match name {
            Some(name) => format!("{}.{name}", self.path),
            None => self.path.clone(),
        };
        self.problems.error(origin, path, message, None);
    }
}

/// What is written later wins: the file, then each `--set`.
fn rank(origin: Origin) -> usize {
    match origin {
        Origin::Set(index) => index + 1,
        Origin::Text { .. } | Origin::File => 0,
    }
}

/// A value as text; that of a `--set` as it was typed, so that a password of digits stays as it is.
fn value(item: &Item) -> Option<String> {
    if let Some(raw) = &item.raw {
        return Some(raw.clone());
    }
    match &item.value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Float(x) if x.is_finite() => Some(x.to_string()),
        Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}
