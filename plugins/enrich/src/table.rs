//! A reference table in memory. Invariant: a key has one row, and every row has a value, perhaps
//! none, for every column.

use std::collections::HashMap;

use wasmill_sdk::abi::Resource;
use wasmill_sdk::config::error;
use wasmill_sdk::prelude::ConfigError;

use crate::config::{Config, Type};
use crate::object::{Object, write_text};
use crate::source::scalar;

/// A table, ready for lookups.
#[derive(Debug, Default)]
pub struct Table {
    /// The names that columns have in records.
    names: Vec<String>,
    rows: HashMap<Box<str>, u32>,
    /// The values of all rows as JSON, one after the other; one of no bytes is none.
    json: Vec<u8>,
    /// Where each value ends.
    ends: Vec<usize>,
}

impl Table {
    /// Reads the table of a resource.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the resource, and the line and column of what is wrong.
    pub fn read(resource: &Resource, config: &Config) -> Result<Self, ConfigError> {
        let reader = Reader { resource, config };
        let extension = resource.file_name.rsplit_once('.').map_or("", |(_, extension)| extension);
        match extension.to_ascii_lowercase().as_str() {
            "csv" => reader.csv(b','),
            "tsv" => reader.csv(b'\t'),
            "jsonl" | "ndjson" | "json" => reader.json_lines(),
            _ => Err(reader.wrong(format!(
                "the file {:?} is of no known format; expected .csv, .tsv, .jsonl, .ndjson or .json",
                resource.file_name
            ))),
        }
    }

    /// The names that columns have in records.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The names and values of a key's row.
    pub fn row<'t>(
        &'t self,
        key: &str,
    ) -> Option<impl Iterator<Item = (&'t str, Option<&'t [u8]>)> + use<'t>> {
        let first = *self.rows.get(key)? as usize * self.names.len();
        let value = move |i: usize| {
            let start = if i == 0 { 0 } else { self.ends[i - 1] };
            let json = &self.json[start..self.ends[i]];
            (!json.is_empty()).then_some(json)
        };
        Some(self.names().enumerate().map(move |(i, name)| (name, value(first + i))))
    }
}

struct Reader<'r> {
    resource: &'r Resource,
    config: &'r Config,
}

impl Reader<'_> {
    fn wrong(&self, message: impl Into<String>) -> ConfigError {
        error(format!("resources.{}", self.resource.name), message)
    }

    fn wrong_at(&self, line: u64, message: impl std::fmt::Display) -> ConfigError {
        self.wrong(format!("{}, line {line}: {message}", self.resource.file_name))
    }

    fn key_column(&self) -> &str {
        self.config.table_key.as_deref().unwrap_or_default()
    }

    /// The columns to add, out of those that the table has.
    fn chosen(&self, header: &[String]) -> Result<Vec<String>, ConfigError> {
        let key = self.key_column();
        let there = || header.join(", ");
        if !header.iter().any(|column| column == key) {
            return Err(error(
                "table-key",
                format!(
                    "the table {} has no column {key:?}; it has {}",
                    self.resource.name,
                    there()
                ),
            ));
        }
        let Some(columns) = &self.config.columns else {
            return Ok(header.iter().filter(|column| *column != key).cloned().collect());
        };
        for (i, column) in columns.iter().enumerate() {
            if !header.contains(column) {
                return Err(error(
                    format!("columns.{i}"),
                    format!(
                        "the table {} has no column {column:?}; it has {}",
                        self.resource.name,
                        there()
                    ),
                ));
            }
        }
        Ok(columns.clone())
    }

    fn table(&self, columns: &[String]) -> Table {
        let names =
            columns.iter().map(|column| format!("{}{column}", self.config.prefix)).collect();
        Table { names, ..Table::default() }
    }

    fn csv(&self, delimiter: u8) -> Result<Table, ConfigError> {
        let data = self.resource.data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.resource.data);
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(data);
        let header: Vec<String> = match reader.headers() {
            Ok(header) => header.iter().map(str::to_owned).collect(),
            Err(e) => return Err(self.wrong_at(1, reason(&e))),
        };
        let repeated = header.iter().enumerate().find(|(i, name)| header[..*i].contains(name));
        if let Some((_, name)) = repeated {
            return Err(self.wrong_at(1, format!("the column {name:?} is there twice")));
        }
        let columns = self.chosen(&header)?;
        if let Some(column) = self.config.types.keys().find(|column| !header.contains(column)) {
            return Err(error(
                format!("types.{column}"),
                format!(
                    "the table {} has no such column; it has {}",
                    self.resource.name,
                    header.join(", ")
                ),
            ));
        }
        let at =
            |name: &str| header.iter().position(|column| column == name).expect("checked above");
        let key = at(self.key_column());
        let chosen: Vec<(usize, Type)> = columns
            .iter()
            .map(|column| {
                (at(column), self.config.types.get(column).copied().unwrap_or(Type::Text))
            })
            .collect();
        let mut rows = Rows { reader: self, table: self.table(&columns), lines: Vec::new() };
        let mut row = csv::StringRecord::new();
        loop {
            match reader.read_record(&mut row) {
                Ok(false) => return Ok(rows.table),
                Ok(true) => {}
                Err(e) => {
                    let line = e.position().map_or(0, |position| line_at(data, position));
                    return Err(self.wrong_at(line, reason(&e)));
                }
            }
            let line = row.position().map_or(0, |position| line_at(data, position));
            rows.begin(&row[key], line)?;
            for (i, kind) in &chosen {
                rows.value(|json| typed(&row[*i], *kind, json)).map_err(|message| {
                    self.wrong_at(line, format!("column {:?}: {message}", header[*i]))
                })?;
            }
        }
    }

    fn json_lines(&self) -> Result<Table, ConfigError> {
        if !self.config.types.is_empty() {
            return Err(error("types", "JSON lines have types of their own; leave it out"));
        }
        let mut header: Vec<String> = Vec::new();
        let mut objects = Vec::new();
        for (i, line) in self.resource.data.split(|b| *b == b'\n').enumerate() {
            let number = i as u64 + 1;
            let text = std::str::from_utf8(line).map_err(|e| self.wrong_at(number, e))?;
            if text.trim().is_empty() {
                continue;
            }
            let object = Object::read(text).map_err(|e| self.wrong_at(number, e.reason))?;
            let members = object.members();
            for (name, _) in &members {
                if !header.iter().any(|column| column == name) {
                    header.push(name.clone().into_owned());
                }
            }
            objects.push((number, members));
        }
        let columns = self.chosen(&header)?;
        let mut rows = Rows { reader: self, table: self.table(&columns), lines: Vec::new() };
        for (line, members) in objects {
            let find = |column: &str| {
                members.iter().rfind(|(name, _)| name == column).map(|(_, json)| json.get())
            };
            let key = self.key_column();
            let Some(key) = find(key).and_then(scalar) else {
                return Err(self.wrong_at(
                    line,
                    format!("column {key:?}: expected a text, a number or a boolean for a key"),
                ));
            };
            rows.begin(&key, line)?;
            for column in &columns {
                let json = find(column).unwrap_or_default();
                rows.value(|out| {
                    out.extend_from_slice(json.as_bytes());
                    Ok(())
                })
                .expect("copying bytes never fails");
            }
        }
        Ok(rows.table)
    }
}

/// A table that is being read.
struct Rows<'r> {
    reader: &'r Reader<'r>,
    table: Table,
    /// The line of each row.
    lines: Vec<u64>,
}

impl Rows<'_> {
    fn begin(&mut self, key: &str, line: u64) -> Result<(), ConfigError> {
        let row = u32::try_from(self.lines.len())
            .map_err(|_| self.reader.wrong_at(line, "the table has more than 2^32 rows"))?;
        if let Some(other) = self.table.rows.insert(key.into(), row) {
            let first = self.lines[other as usize];
            return Err(self.reader.wrong_at(
                line,
                format!(
                    "column {:?}: the key {key:?} is there already, in line {first}",
                    self.reader.key_column()
                ),
            ));
        }
        self.lines.push(line);
        Ok(())
    }

    fn value(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
    ) -> Result<(), String> {
        write(&mut self.table.json)?;
        self.table.ends.push(self.table.json.len());
        Ok(())
    }
}

/// Writes a cell as JSON; an empty one that is no text is none.
fn typed(cell: &str, kind: Type, json: &mut Vec<u8>) -> Result<(), String> {
    let found = |expected: &str| format!("found {cell:?}, expected {expected}");
    match kind {
        Type::Text => write_text(json, cell),
        _ if cell.trim().is_empty() => {}
        Type::Int => {
            let number: i64 =
                cell.trim().parse().map_err(|_| found("a whole number of 64 bits"))?;
            json.extend_from_slice(number.to_string().as_bytes());
        }
        Type::Float => {
            let number: f64 = cell.trim().parse().map_err(|_| found("a number"))?;
            if !number.is_finite() {
                return Err(found("a number that JSON can write"));
            }
            json.extend_from_slice(serde_json::Value::from(number).to_string().as_bytes());
        }
        Type::Bool => match cell.trim().to_ascii_lowercase().as_str() {
            flag @ ("true" | "false") => json.extend_from_slice(flag.as_bytes()),
            _ => return Err(found("true or false")),
        },
    }
    Ok(())
}

/// The line of a row, from 1: a position is before the empty lines in front of its row.
fn line_at(data: &[u8], position: &csv::Position) -> u64 {
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let rest = data.get(start..).unwrap_or_default();
    let empty = rest.iter().take_while(|b| matches!(b, b'\r' | b'\n'));
    position.line() + empty.filter(|b| **b == b'\n').count() as u64
}

fn reason(e: &csv::Error) -> String {
    match e.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("it has {len} columns, the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { err, .. } => {
            format!("column {} is no UTF-8", err.field() + 1)
        }
        _ => e.to_string(),
    }
}
