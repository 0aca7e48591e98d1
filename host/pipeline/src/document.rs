//! A TOML document in which every key and value knows where it came from: the file, or a `--set`.
//!
//! Invariant: an origin in the text is a range of it, on character boundaries.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::diagnostic::{At, Diagnostic, Excerpt, Severity};
use crate::kafka;

/// Where a key or value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In the file, as byte offsets.
    Text { start: usize, end: usize },
    /// In the `--set` with this index.
    Set(usize),
    /// Nowhere: the file as a whole.
    File,
}

/// A value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// As it was written, which is RFC 3339 but for a local date or time.
    Datetime(String),
    Array(Vec<Item>),
    Table(Vec<Entry>),
}

/// A value and its origin.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
    /// The text of a `--set` whose value is something else than a string.
    pub(crate) raw: Option<String>,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) origin: Origin,
    pub(crate) item: Item,
}

/// A pipeline file with its `--set`s applied. `Debug` shows none of it: it can hold secrets.
#[derive(Clone)]
pub(crate) struct Document {
    file: PathBuf,
    text: String,
    line_starts: Vec<usize>,
    sets: Vec<(String, String)>,
    pub(crate) root: Item,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Document").field(&self.file).finish()
    }
}

impl Document {
    /// Reads a document and applies the `--set`s in order. The second part is what was wrong with
    /// them and with numbers; it stays when the rest is checked.
    ///
    /// # Errors
    /// Where the text is no TOML.
    pub(crate) fn parse(
        file: &Path,
        text: &str,
        sets: &[(String, String)],
    ) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let mut document = Self {
            file: file.to_owned(),
            text: text.to_owned(),
            line_starts: std::iter::once(0)
                .chain(text.match_indices('\n').map(|(at, _)| at + 1))
                .collect(),
            sets: sets.to_vec(),
            root: Item { value: Value::Table(Vec::new()), origin: Origin::File, raw: None },
        };
        let mut problems = Vec::new();
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let origin = error.span().map_or(Origin::File, |s| document.in_text(s));
            let message = error.message().replace('\n', ", ");
            problems.push(document.diagnostic(
                Severity::Error,
                origin,
                String::new(),
                format!("the file is no TOML: {message}"),
                None,
            ));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut wrong = Vec::new();
        let origin = |span| document.in_text(span);
        document.root.value = table_value(table.get_ref(), &origin, &mut wrong);
        for (origin, message) in wrong {
            let none = String::new();
            problems.push(document.diagnostic(Severity::Error, origin, none, message, None));
        }
        for index in 0..sets.len() {
            document.apply(index, &mut problems);
        }
        Ok((document, problems))
    }

    /// The origin of a range of the text, brought onto character boundaries.
    fn in_text(&self, span: std::ops::Range<usize>) -> Origin {
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = span.end.clamp(start, self.text.len());
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        Origin::Text { start, end }
    }

    fn apply(&mut self, index: usize, problems: &mut Vec<Diagnostic>) {
        let (path, text) = self.sets[index].clone();
        let origin = Origin::Set(index);
        let problem = |document: &Self, message: String, help: Option<String>| {
            document.diagnostic(Severity::Error, origin, path.clone(), message, help)
        };
        let Some(segments) = segments(&path) else {
            problems.push(problem(
                self,
                "not a path of keys".to_owned(),
                Some("write --set stage.NAME.config.KEY=VALUE".to_owned()),
            ));
            return;
        };
        let mut wrong = Vec::new();
        let new = match DeValue::parse(&text) {
            Ok(value) => {
                let mut new = convert(&value, &|_| origin, &mut wrong);
                new.raw = match new.value {
                    Value::String(_) | Value::Array(_) | Value::Table(_) => None,
                    _ => Some(text),
                };
                new
            }
            Err(_) => Item { value: Value::String(text), origin, raw: None },
        };
        if let Some((_, message)) = wrong.into_iter().next() {
            problems.push(problem(self, message, None));
            return;
        }
        let mut item = &mut self.root;
        for (depth, segment) in segments.iter().enumerate() {
            let Value::Table(entries) = &mut item.value else {
                let message = format!("{:?} is not a table", segments[..depth].join("."));
                let help = Some("set the whole value".to_owned());
                problems.push(problem(self, message, help));
                return;
            };
            let at = entries.iter().position(|e| e.key == *segment).unwrap_or_else(|| {
                let item = Item { value: Value::Table(Vec::new()), origin, raw: None };
                entries.push(Entry { key: segment.clone(), origin, item });
                entries.len() - 1
            });
            if depth + 1 == segments.len() {
                entries[at].origin = origin;
            }
            item = &mut entries[at].item;
        }
        *item = new;
    }

    /// The position of an origin in the file.
    pub(crate) fn at(&self, origin: Origin) -> Option<At> {
        let Origin::Text { start, .. } = origin else { return None };
        let line = self.line_starts.partition_point(|s| *s <= start) - 1;
        let column = self.text[self.line_starts[line]..start].chars().count() + 1;
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Some(At { line: small(line + 1), column: small(column) })
    }

    /// A diagnostic about what was written at `origin`.
    pub(crate) fn diagnostic(
        &self,
        severity: Severity,
        origin: Origin,
        path: String,
        message: String,
        help: Option<String>,
    ) -> Diagnostic {
        let excerpt = match origin {
            Origin::Text { start, end } => {
                let line = self.line_starts.partition_point(|s| *s <= start) - 1;
                let rest = &self.text[self.line_starts[line]..];
                let whole = rest.split('\n').next().unwrap_or_default().trim_end_matches('\r');
                let line_end = self.line_starts[line] + whole.len();
                let marked = &self.text[start..end.clamp(start, line_end.max(start))];
                let width = u32::try_from(marked.chars().count()).unwrap_or(1).max(1);
                Some(Excerpt { line: kafka::shown_at(&path, whole), width })
            }
            _ => None,
        };
        let set = match origin {
            Origin::Set(index) => self
                .sets
                .get(index)
                .map(|(key, value)| kafka::shown_at(&path, &format!("{key}={value}"))),
            _ => None,
        };
        let (file, at) = (self.file.clone(), self.at(origin));
        Diagnostic { severity, file, at, set, path, message, help, excerpt }
    }

    /// The origin of the deepest part of a dotted path that exists; array elements count by index,
    /// written `rules.2` or `rules[2]`.
    pub(crate) fn find(&self, path: &str) -> Origin {
        let mut item = &self.root;
        let mut found = item.origin;
        let mut rest = path;
        while !rest.is_empty() {
            let tail = |key: &str| {
                let tail = rest.strip_prefix(key)?;
                match tail.chars().next() {
                    None => Some(tail),
                    Some('.') => Some(&tail[1..]),
                    Some('[') => Some(tail),
                    Some(_) => None,
                }
            };
            match &item.value {
                Value::Table(entries) => {
                    let matching = entries.iter().filter_map(|e| Some((e, tail(&e.key)?)));
                    let Some((entry, tail)) = matching.max_by_key(|(e, _)| e.key.len()) else {
                        break;
                    };
                    (item, found, rest) = (&entry.item, entry.origin, tail);
                }
                Value::Array(items) => {
                    let digits = rest.trim_start_matches('[');
                    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
                    let index = digits[..end].parse::<usize>().ok();
                    let Some(next) = index.and_then(|i| items.get(i)) else { break };
                    (item, found) = (next, next.origin);
                    rest = digits[end..].trim_start_matches(']').trim_start_matches('.');
                }
                _ => break,
            }
        }
        found
    }
}

/// The keys of a dotted path, by the rules of TOML.
fn segments(path: &str) -> Option<Vec<String>> {
    if path.contains(['\n', '=', '#']) {
        return None;
    }
    let text = format!("{path} = 0");
    let table = DeTable::parse(&text).ok()?;
    let mut segments = Vec::new();
    let mut level = table.get_ref();
    loop {
        let (key, value) = level.iter().next()?;
        segments.push(key.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(next) => level = next,
            _ => return Some(segments),
        }
    }
}

type Wrong = Vec<(Origin, String)>;
type Locate<'l> = dyn Fn(std::ops::Range<usize>) -> Origin + 'l;

fn table_value(table: &DeTable<'_>, origin: &Locate<'_>, wrong: &mut Wrong) -> Value {
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        let item = convert(value, origin, wrong);
        Entry { key: name.to_string(), origin: origin(key.span()), item }
    };
    Value::Table(table.iter().map(entry).collect())
}

fn convert(value: &toml::Spanned<DeValue<'_>>, origin: &Locate<'_>, wrong: &mut Wrong) -> Item {
    let at = origin(value.span());
    let value = match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(b) => Value::Bool(*b),
        DeValue::Datetime(at) => Value::Datetime(at.to_string()),
        DeValue::Integer(n) => match i64::from_str_radix(n.as_str(), n.radix()) {
            Ok(n) => Value::Integer(n),
            Err(_) => {
                wrong.push((at, format!("the integer {n} needs more than 64 bits")));
                Value::Integer(0)
            }
        },
        DeValue::Float(x) => match x.as_str().parse::<f64>() {
            Ok(x) => Value::Float(x),
            Err(_) => {
                wrong.push((at, format!("{x} is no floating-point number")));
                Value::Float(0.0)
            }
        },
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| convert(item, origin, wrong)).collect())
        }
        DeValue::Table(table) => table_value(table, origin, wrong),
    };
    Item { value, origin: at, raw: None }
}

impl Value {
    /// What a value is, for a message.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::String(text) if text.chars().count() <= 60 => format!("the string {text:?}"),
            Self::String(_) => "a string".to_owned(),
            Self::Integer(n) => format!("the integer {n}"),
            Self::Float(x) => format!("the float {x}"),
            Self::Bool(b) => format!("the boolean {b}"),
            Self::Datetime(at) => format!("the date {at}"),
            Self::Array(_) => "an array".to_owned(),
            Self::Table(_) => "a table".to_owned(),
        }
    }
}
