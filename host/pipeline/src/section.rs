//! Reads one table of a pipeline file key by key and collects every problem.
//!
//! Invariant: a key that no getter was asked for is reported as unknown by [`Section::finish`].

use std::cell::RefCell;
use std::ops::RangeInclusive;

use crate::diagnostic::{Diagnostic, Severity, list, nearest, sort};
use crate::document::{Document, Entry, Item, Origin, Value};
use crate::units::{parse_bytes, parse_duration, show_bytes, show_duration};

/// The problems found so far in a document.
pub(crate) struct Problems<'d> {
    pub(crate) document: &'d Document,
    found: RefCell<Vec<Diagnostic>>,
}

impl<'d> Problems<'d> {
    /// Starts with what was found before.
    pub(crate) fn new(document: &'d Document, found: Vec<Diagnostic>) -> Self {
        Self { document, found: RefCell::new(found) }
    }

    /// The number of errors so far.
    pub(crate) fn errors(&self) -> usize {
        self.found.borrow().iter().filter(|d| d.is_error()).count()
    }

    pub(crate) fn error(
        &self,
        origin: Origin,
        path: impl Into<String>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.add(Severity::Error, origin, path.into(), message.into(), help);
    }

    pub(crate) fn warning(
        &self,
        origin: Origin,
        path: impl Into<String>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.add(Severity::Warning, origin, path.into(), message.into(), help);
    }

    fn add(&self, s: Severity, origin: Origin, path: String, message: String, h: Option<String>) {
        self.found.borrow_mut().push(self.document.diagnostic(s, origin, path, message, h));
    }

    /// Everything found, in the order of the file.
    pub(crate) fn into_sorted(self) -> Vec<Diagnostic> {
        let mut found = self.found.into_inner();
        sort(&mut found);
        found
    }
}

/// A value that was read, with its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

/// A table that is being read.
pub(crate) struct Section<'a> {
    pub(crate) path: String,
    pub(crate) origin: Origin,
    pub(crate) problems: &'a Problems<'a>,
    entries: &'a [Entry],
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The table `item`, which is at `path`; none, with a problem, when it is something else.
    pub(crate) fn new(
        problems: &'a Problems<'a>,
        path: String,
        origin: Origin,
        item: &'a Item,
    ) -> Option<Self> {
        let Value::Table(entries) = &item.value else {
            let message = format!("expected a table, found {}", item.value.describe());
            problems.error(item.origin, path, message, None);
            return None;
        };
        Some(Self { path, origin, problems, entries, known: RefCell::default() })
    }

    /// The path of a key of this table.
    pub(crate) fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// All entries, for tables whose keys are free.
    pub(crate) fn entries(&self) -> &'a [Entry] {
        self.entries
    }

    /// The entry of a key.
    pub(crate) fn get(&self, key: &'static str) -> Option<&'a Entry> {
        self.known.borrow_mut().push(key);
        self.entries.iter().find(|e| e.key == key)
    }

    /// Whether a key is there, without making it a known one.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|e| e.key == key)
    }

    /// Reports a key that is there and must not be; `why` completes the sentence.
    pub(crate) fn forbid(&self, key: &'static str, why: &str, help: Option<String>) {
        if let Some(entry) = self.get(key) {
            self.problems.error(entry.origin, self.at(key), why, help);
        }
    }

    /// Reports a value of the wrong type.
    pub(crate) fn wrong(&self, key: &str, item: &Item, expected: &str) {
        let message = format!("expected {expected}, found {}", item.value.describe());
        self.problems.error(item.origin, self.at(key), message, None);
    }

    /// Reports that a key is missing.
    pub(crate) fn missing(&self, key: &str, help: impl Into<String>) {
        let message = format!("{key:?} is missing");
        let help = match self.origin {
            Origin::Set(_) => format!("is the name right? The file has no {}", self.path),
            _ => help.into(),
        };
        self.problems.error(self.origin, self.path.clone(), message, Some(help));
    }

    pub(crate) fn string(&self, key: &'static str) -> Option<Found<&'a str>> {
        let item = &self.get(key)?.item;
        let text = text(item);
        if text.is_none() {
            self.wrong(key, item, "a string");
        }
        Some(Found { value: text?, origin: item.origin })
    }

    /// A string, or a list of strings that is not empty.
    pub(crate) fn strings(&self, key: &'static str) -> Option<Vec<Found<&'a str>>> {
        let entry = self.get(key)?;
        let strings = self.strings_of(key, &entry.item);
        if strings.as_ref().is_some_and(Vec::is_empty) {
            self.problems.error(entry.item.origin, self.at(key), "the list is empty", None);
            return None;
        }
        strings
    }

    /// A string or a list of strings, as the value of `key`.
    pub(crate) fn strings_of(&self, key: &str, item: &'a Item) -> Option<Vec<Found<&'a str>>> {
        let items = match &item.value {
            Value::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(item),
        };
        let found = |item: &'a Item| Some(Found { value: text(item)?, origin: item.origin });
        let strings: Option<Vec<_>> = items.iter().map(found).collect();
        if strings.is_none() {
            let wrong = items.iter().find(|i| text(i).is_none()).unwrap_or(item);
            self.wrong(key, wrong, "a string or a list of strings");
        }
        strings
    }

    pub(crate) fn boolean(&self, key: &'static str) -> Option<bool> {
        let item = &self.get(key)?.item;
        match &item.value {
            Value::Bool(b) => Some(*b),
            _ => {
                self.wrong(key, item, "true or false");
                None
            }
        }
    }

    /// An integer of a range.
    pub(crate) fn integer(&self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let item = &self.get(key)?.item;
        let fits = match item.value {
            Value::Integer(n) => u32::try_from(n).ok().filter(|n| range.contains(n)),
            _ => None,
        };
        if fits.is_none() {
            let expected = format!("an integer from {} to {}", range.start(), range.end());
            self.wrong(key, item, &expected);
        }
        fits
    }

    /// A length of time in milliseconds.
    pub(crate) fn duration(&self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let show = |ms: &i64| show_duration(*ms);
        let parsed = |text: &str| parse_duration(text).map_err(|e| e.to_string());
        self.measure(key, &range, "a length of time such as \"30s\"", parsed, Some, show)
    }

    /// A number of bytes.
    pub(crate) fn bytes(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let show = |bytes: &u64| show_bytes(*bytes);
        let parsed = |text: &str| parse_bytes(text).map_err(|e| e.to_string());
        let whole = |n: i64| u64::try_from(n).ok();
        self.measure(key, &range, "a number of bytes such as \"64MiB\"", parsed, whole, show)
    }

    fn measure<T: PartialOrd>(
        &self,
        key: &'static str,
        range: &RangeInclusive<T>,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, String>,
        whole: impl Fn(i64) -> Option<T>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let item = &self.get(key)?.item;
        let number = match &item.value {
            Value::String(text) => match parse(text) {
                Ok(number) => Some(number),
                Err(message) => {
                    self.problems.error(item.origin, self.at(key), message, None);
                    return None;
                }
            },
            Value::Integer(n) => whole(*n),
            _ => {
                self.wrong(key, item, expected);
                return None;
            }
        };
        let fits = number.filter(|n| range.contains(n));
        if fits.is_none() {
            let (low, high) = (show(range.start()), show(range.end()));
            self.wrong(key, item, &format!("at least {low} and at most {high}"));
        }
        fits
    }

    /// One of several words.
    pub(crate) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<Found<T>> {
        let item = &self.get(key)?.item;
        let words = || choices.iter().map(|(word, _)| *word);
        let found = text(item);
        match choices.iter().find(|(word, _)| found == Some(word)) {
            Some((_, choice)) => Some(Found { value: *choice, origin: item.origin }),
            None => {
                let quoted: Vec<String> = words().map(|w| format!("{w:?}")).collect();
                let (last, rest) = quoted.split_last().expect("a choice has two words or more");
                let message = format!(
                    "expected {} or {last}, found {}",
                    rest.join(", "),
                    item.value.describe()
                );
                let near = found.and_then(|f| nearest(f, words()));
                let help = near.map(|n| format!("did you mean {n:?}?"));
                self.problems.error(item.origin, self.at(key), message, help);
                None
            }
        }
    }

    /// A table of this table.
    pub(crate) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let entry = self.get(key)?;
        Section::new(self.problems, self.at(key), entry.origin, &entry.item)
    }

    /// The keys that nobody asked for, each with the known one that was probably meant.
    fn unknown(&self) -> Vec<(&'a Entry, Option<&'static str>)> {
        let known = self.known.borrow();
        let unknown = self.entries.iter().filter(|e| !known.contains(&e.key.as_str()));
        unknown.map(|e| (e, nearest(&e.key, known.iter().copied()))).collect()
    }

    /// Whether a key that nobody asked for may have been meant as one of these.
    pub(crate) fn may_mean(&self, keys: &[&str]) -> bool {
        self.unknown().iter().any(|(_, near)| near.is_none_or(|near| keys.contains(&near)))
    }

    /// Reports the keys that nobody asked for.
    pub(crate) fn finish(self) {
        for (entry, near) in self.unknown() {
            let known = self.known.borrow();
            let help = match near {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known keys: {}", list(known.iter())),
            };
            let message = format!("unknown key {:?}", entry.key);
            self.problems.error(entry.origin, self.path.clone(), message, Some(help));
        }
    }
}

/// The text of a string, or of a `--set` whose value happens to look like something else.
pub(crate) fn text(item: &Item) -> Option<&str> {
    match &item.value {
        Value::String(text) => Some(text),
        _ => item.raw.as_deref(),
    }
}
