//! Walks over a line field by field. Invariant: every complaint names the field and the column
//! (bytes, from 1) where it starts.

use std::borrow::Cow;

use wasmill_sdk::prelude::Rejection;

use crate::scan::{plain_run, run_without};

/// A field's text after the escapes of the log were undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'a> {
    /// The bytes; not always UTF-8.
    pub bytes: Cow<'a, [u8]>,
    /// Whether they are printable ASCII without quote and backslash, so fit for JSON as they are.
    pub plain: bool,
}

/// A position in a line.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    format: &'static str,
    line: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte; `format` is named in complaints.
    pub fn new(format: &'static str, line: &'a [u8]) -> Self {
        Self { format, line, at: 0 }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        &self.line[self.at..]
    }

    /// Whether the line has been read to its end.
    pub fn is_at_end(&self) -> bool {
        self.at >= self.line.len()
    }

    /// Goes on by `bytes`.
    pub fn skip(&mut self, bytes: usize) {
        self.at = (self.at + bytes).min(self.line.len());
    }

    /// Reads up to the next space and steps over it.
    #[inline]
    pub fn token(&mut self, field: &str) -> Result<&'a [u8], Rejection> {
        let rest = self.rest();
        let end = run_without(rest, b' ');
        if end == 0 {
            return Err(self.wrong(field, "a value"));
        }
        self.skip(end + 1);
        Ok(&rest[..end])
    }

    /// Reads a whole number, `-` as none, and steps over the space behind it.
    #[inline]
    pub fn number(&mut self, field: &str) -> Result<Option<u64>, Rejection> {
        let before = self.clone();
        let token = self.token(field)?;
        if token == b"-" {
            return Ok(None);
        }
        let mut number = 0u64;
        for b in token {
            let next = b
                .is_ascii_digit()
                .then(|| number.checked_mul(10)?.checked_add(u64::from(b - b'0')))
                .flatten();
            let Some(next) = next else {
                return Err(before.wrong(field, "a whole number or -"));
            };
            number = next;
        }
        Ok(Some(number))
    }

    /// Reads a status code, 0 for `-` (and for the 000 of Nginx, which sent none).
    #[inline]
    pub fn status(&mut self, field: &str) -> Result<u16, Rejection> {
        let before = self.clone();
        match self.number(field)? {
            None => Ok(0),
            Some(status @ 0..=999) => Ok(status as u16),
            Some(_) => Err(before.wrong(field, "a status code of up to three digits")),
        }
    }

    /// Reads a field in double quotes and steps over the space behind it. With `cut_off`, the end
    /// of the line will do for the closing quote: servers cut lines that are too long.
    #[inline]
    pub fn quoted(&mut self, field: &str, cut_off: bool) -> Result<Text<'a>, Rejection> {
        let rest = self.rest();
        if rest.first() != Some(&b'"') {
            return Err(self.wrong(field, "a double quote"));
        }
        let (mut i, mut escaped, mut plain) = (1, false, true);
        let end = loop {
            i += rest.get(i..).map_or(0, plain_run);
            match rest.get(i) {
                Some(b'"') => break i,
                Some(b'\\') => {
                    escaped = true;
                    i += 2;
                }
                Some(_) => {
                    plain = false;
                    i += 1;
                }
                None if cut_off => break i,
                None => {
                    return Err(self.wrong(field, "a closing double quote before the line ends"));
                }
            }
        };
        let end = end.min(rest.len());
        if rest.get(end + 1).is_some_and(|b| *b != b' ') {
            let mut there = self.clone();
            there.skip(end + 1);
            return Err(there.wrong(
                field,
                "a space behind the closing quote (is a quote within the field not escaped?)",
            ));
        }
        self.skip(end + 2);
        let raw = &rest[1..end];
        Ok(if escaped {
            Text { bytes: Cow::Owned(unescape(raw)), plain: false }
        } else {
            Text { bytes: Cow::Borrowed(raw), plain }
        })
    }

    /// Complains about what is here.
    #[cold]
    pub fn wrong(&self, field: &str, expected: &str) -> Rejection {
        let rest = self.rest();
        let found = if rest.is_empty() {
            "the end of the line".to_owned()
        } else {
            format!("{:?}", excerpt(rest))
        };
        Rejection::malformed(format!(
            "{} log: {field} at column {}: found {found}, expected {expected}",
            self.format,
            self.at + 1
        ))
    }
}

/// The beginning of some bytes, for a person.
#[cold]
pub fn excerpt(bytes: &[u8]) -> String {
    const MAX_BYTES: usize = 40;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_BYTES)]);
    if bytes.len() > MAX_BYTES { format!("{text}...") } else { text.into_owned() }
}

/// Undoes what Apache (`\"`, `\\`, `\b \n \r \t \v`, `\xhh`) and Nginx (`\xHH`) do to bytes that
/// they can't log. A backslash before anything else stands for itself.
#[cold]
fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut i = 0;
    while i < raw.len() {
        if raw[i] != b'\\' {
            out.push(raw[i]);
            i += 1;
            continue;
        }
        let (byte, length) = match raw.get(i + 1) {
            Some(b @ (b'"' | b'\\')) => (*b, 2),
            Some(b'b') => (0x08, 2),
            Some(b'n') => (b'\n', 2),
            Some(b'r') => (b'\r', 2),
            Some(b't') => (b'\t', 2),
            Some(b'v') => (0x0b, 2),
            Some(b'x') => match (hex(raw.get(i + 2)), hex(raw.get(i + 3))) {
                (Some(high), Some(low)) => (high << 4 | low, 4),
                _ => (b'\\', 1),
            },
            _ => (b'\\', 1),
        };
        out.push(byte);
        i += length;
    }
    out
}

/// The value of a hexadecimal digit.
pub fn hex(digit: Option<&u8>) -> Option<u8> {
    match digit? {
        b @ b'0'..=b'9' => Some(b - b'0'),
        b @ b'a'..=b'f' => Some(b - b'a' + 10),
        b @ b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(line: &[u8]) -> Result<Vec<u8>, String> {
        let text = Cursor::new("test", line).quoted("field", false);
        text.map(|t| t.bytes.into_owned()).map_err(|e| e.reason)
    }

    #[test]
    fn escapes_of_both_servers_are_undone() {
        assert_eq!(quoted(br#""a\"b\\c\x41\xe4\t\q" x"#).unwrap(), b"a\"b\\cA\xe4\t\\q");
        assert_eq!(quoted(br#""\xg1\x4" x"#).unwrap(), br"\xg1\x4");
        assert_eq!(quoted(br#""""#).unwrap(), b"");
    }

    #[test]
    fn an_open_quote_is_malformed_unless_the_line_may_be_cut_off() {
        assert!(quoted(br#""abc"#).unwrap_err().contains("column 1"));
        assert!(quoted(br#""abc\"#).unwrap_err().contains("closing double quote"));
        let mut cursor = Cursor::new("test", br#""abc\"#);
        assert_eq!(&*cursor.quoted("field", true).unwrap().bytes, br"abc\");
        assert!(cursor.is_at_end());
        assert!(quoted(br#""a"b""#).unwrap_err().contains("column 4"));
    }

    #[test]
    fn a_number_that_does_not_fit_is_named_with_its_column() {
        let mut cursor = Cursor::new("test", b"x 18446744073709551616");
        cursor.token("first").unwrap();
        let reason = cursor.number("size").unwrap_err().reason;
        assert!(reason.starts_with("test log: size at column 3: found \"184"), "{reason}");
    }
}
