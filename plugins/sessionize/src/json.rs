//! Walks over a JSON object to pick a few fields of it, checking all of it.
//!
//! This is where most of the time of an event would go: an event is some hundred bytes of which two
//! fields are of interest. Invariant: accepts what serde_json accepts as an object, nested at most
//! [`MAX_DEPTH`] deep; like it, does not look at the encoding of strings that nobody reads.

use std::borrow::Cow;

/// How deep values may be nested.
const MAX_DEPTH: u32 = 128;

/// Where and why bytes are no JSON object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// In bytes from the start.
    pub(crate) at: usize,
    pub(crate) expected: &'static str,
}

/// A string between its quotes, as it was written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    raw: &'a [u8],
    /// Where it starts in the JSON.
    at: usize,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// Whether it reads as `other`.
    #[inline]
    pub(crate) fn is(&self, other: &str) -> bool {
        if self.escaped {
            return self.read().is_ok_and(|text| text == other);
        }
        self.raw == other.as_bytes()
    }

    /// What it reads as.
    ///
    /// # Errors
    /// When it is not UTF-8, or escapes half a surrogate pair.
    #[inline]
    pub(crate) fn read(&self) -> Result<Cow<'a, str>, Malformed> {
        let malformed = || Malformed { at: self.at, expected: "text in UTF-8" };
        if !self.escaped {
            let text = std::str::from_utf8(self.raw).map_err(|_| malformed())?;
            return Ok(Cow::Borrowed(text));
        }
        let mut quoted = Vec::with_capacity(self.raw.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(self.raw);
        quoted.push(b'"');
        serde_json::from_slice(&quoted).map(Cow::Owned).map_err(|_| malformed())
    }
}

/// A value of a field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Text(Text<'a>),
    /// A number, `true` or `false`, as written.
    Plain(&'a [u8]),
    /// `null`, an array or an object.
    Other,
}

/// Calls `field` with every field of the object that `json` is.
///
/// # Errors
/// The first place at which `json` is no object, or the error of `field`.
#[inline]
pub(crate) fn walk<'a>(
    json: &'a [u8],
    field: impl FnMut(Text<'a>, Value<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut walk = Walk { json, at: 0 };
    if walk.next() != b'{' {
        return walk.fail("a JSON object");
    }
    walk.object(field, 1)?;
    walk.next();
    if walk.at < json.len() { walk.fail("the end of the record") } else { Ok(()) }
}

struct Walk<'a> {
    json: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    #[cold]
    fn fail<T>(&self, expected: &'static str) -> Result<T, Malformed> {
        Err(Malformed { at: self.at.min(self.json.len()), expected })
    }

    /// The byte here; 0, which is nowhere allowed, at the end.
    #[inline]
    fn peek(&self) -> u8 {
        self.json.get(self.at).copied().unwrap_or(0)
    }

    /// The next byte that is no white space, without taking it.
    #[inline]
    fn next(&mut self) -> u8 {
        loop {
            match self.peek() {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return byte,
            }
        }
    }

    #[inline]
    fn object(
        &mut self,
        mut field: impl FnMut(Text<'a>, Value<'a>) -> Result<(), Malformed>,
        depth: u32,
    ) -> Result<(), Malformed> {
        self.at += 1;
        if self.next() == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.next() != b'"' {
                return self.fail("the name of a field, in quotes");
            }
            let name = self.text()?;
            if self.next() != b':' {
                return self.fail("a colon");
            }
            self.at += 1;
            let value = self.value(depth)?;
            field(name, value)?;
            match self.next() {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fail("a comma or the end of the object"),
            }
        }
    }

    fn array(&mut self, depth: u32) -> Result<(), Malformed> {
        self.at += 1;
        if self.next() == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth)?;
            match self.next() {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fail("a comma or the end of the array"),
            }
        }
    }

    #[inline(always)]
    fn value(&mut self, depth: u32) -> Result<Value<'a>, Malformed> {
        let start = {
            self.next();
            self.at
        };
        match self.peek() {
            b'"' => return Ok(Value::Text(self.text()?)),
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.word(b"true")?,
            b'f' => self.word(b"false")?,
            b'n' => {
                self.word(b"null")?;
                return Ok(Value::Other);
            }
            _ => return self.nested(depth),
        }
        Ok(Value::Plain(&self.json[start..self.at]))
    }

    #[cold]
    fn nested(&mut self, depth: u32) -> Result<Value<'a>, Malformed> {
        match self.peek() {
            b'{' | b'[' if depth >= MAX_DEPTH => return self.fail("values nested less deeply"),
            b'{' => self.nested_object(depth + 1)?,
            b'[' => self.array(depth + 1)?,
            _ => return self.fail("a value"),
        }
        Ok(Value::Other)
    }

    fn nested_object(&mut self, depth: u32) -> Result<(), Malformed> {
        self.object(|_, _| Ok(()), depth)
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), Malformed> {
        if !self.json[self.at..].starts_with(word) {
            return self.fail("a value");
        }
        self.at += word.len();
        Ok(())
    }

    #[inline(always)]
    fn digits(&mut self) -> Result<(), Malformed> {
        let digits = self.json[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return self.fail("a digit");
        }
        self.at += digits;
        Ok(())
    }

    #[inline(always)]
    fn number(&mut self) -> Result<(), Malformed> {
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
            if self.peek().is_ascii_digit() {
                return self.fail("a number without leading zeros");
            }
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    #[inline(always)]
    fn text(&mut self) -> Result<Text<'a>, Malformed> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at = plain_until(self.json, self.at);
            match self.peek() {
                b'"' => {
                    let raw = &self.json[start..self.at];
                    self.at += 1;
                    return Ok(Text { raw, at: start, escaped });
                }
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return self.fail("the end of a string, without control characters in it"),
            }
        }
    }

    #[cold]
    fn escape(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        match self.peek() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                for _ in 0..4 {
                    self.at += 1;
                    if !self.peek().is_ascii_hexdigit() {
                        return self.fail("four hexadecimal digits");
                    }
                }
                self.at += 1;
            }
            _ => return self.fail("an escape of JSON"),
        }
        Ok(())
    }
}

/// Where the next quote, backslash or control character is, from `at`; the length if there is none.
#[inline(always)]
fn plain_until(json: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    while let Some(bytes) = json[at..].first_chunk() {
        // Eight bytes at once: each test leaves the high bit of the first byte that it finds, and
        // perhaps of later ones.
        let word = u64::from_le_bytes(*bytes);
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        let found = word.wrapping_sub(ONES * u64::from(b' ')) & !word
            | quote.wrapping_sub(ONES) & !quote
            | backslash.wrapping_sub(ONES) & !backslash;
        if found & HIGH != 0 {
            return at + (found & HIGH).trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = json[at..].iter().position(|b| matches!(b, b'"' | b'\\' | 0..b' '));
    rest.map_or(json.len(), |n| at + n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;
    use std::collections::BTreeMap;

    fn accepts(json: &[u8]) -> bool {
        walk(json, |_, _| Ok(())).is_ok()
    }

    /// Values as text, with a good part of the grammar.
    fn value() -> impl Strategy<Value = String> {
        let number = prop_oneof![
            "-?(0|[1-9][0-9]{0,3})([.][0-9]{1,2})?([eE][+-]?[0-9]{1,2})?",
            "[-0-9.eE+]{1,5}"
        ];
        let text = prop_oneof![
            any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap()),
            r#""([ a-z]|\\["\\/bfnrtu0]|\\u[0-9a-f]{4}){0,12}""#,
        ];
        let leaf = prop_oneof![number, text, "true|false|null|nul|tru", Just(String::new())];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let list = prop::collection::vec(inner.clone(), 0..4);
            let fields = prop::collection::vec((any::<String>(), inner), 0..4);
            prop_oneof![
                list.prop_map(|v| format!("[ {}]", v.join(" ,\n"))),
                fields.prop_map(|v| {
                    let of = |(name, value): &(String, String)| {
                        format!("{} : {value}", serde_json::to_string(name).unwrap())
                    };
                    format!("{{{}}}", v.iter().map(of).collect::<Vec<_>>().join(","))
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn accepts_the_objects_that_serde_json_accepts(
            value in value(), wrap in any::<bool>(),
            at in any::<prop::sample::Index>(), byte in any::<u8>(), change in 0..4_u8,
        ) {
            let mut json =
                if wrap { format!(r#"{{"a":{value},"b":1}}"#) } else { value }.into_bytes();
            if !json.is_empty() && change == 0 {
                let at = at.index(json.len());
                json[at] = byte;
            } else if change == 1 {
                json.truncate(at.index(json.len() + 1));
            }
            let object = json.trim_ascii_start().starts_with(b"{");
            let expected = object && serde_json::from_slice::<IgnoredAny>(&json).is_ok();
            prop_assert_eq!(accepts(&json), expected, "{}", String::from_utf8_lossy(&json));
        }

        #[test]
        fn fields_read_as_serde_json_reads_them(
            fields in prop::collection::btree_map(any::<String>(), any::<String>(), 0..6),
        ) {
            let json = serde_json::to_string(&fields).unwrap();
            let mut found = BTreeMap::new();
            walk(json.as_bytes(), |name, value| {
                let Value::Text(text) = value else { panic!("a text is expected") };
                found.insert(name.read()?.into_owned(), text.read()?.into_owned());
                Ok(())
            }).unwrap();
            prop_assert_eq!(found, fields);
        }
    }

    #[test]
    fn the_first_thing_that_does_not_fit_is_named() {
        let fail = |json: &str| walk(json.as_bytes(), |_, _| Ok(())).unwrap_err();
        assert_eq!(fail("[]"), Malformed { at: 0, expected: "a JSON object" });
        assert_eq!(
            fail(r#"{"a":01}"#),
            Malformed { at: 6, expected: "a number without leading zeros" }
        );
        assert_eq!(fail(r#"{"a":1} x"#).at, 8);
        assert_eq!(fail(r#"{"a":"b"#).at, 7);
        assert_eq!(fail(r#"{"a" 1}"#).expected, "a colon");
    }

    #[test]
    fn nesting_ends_somewhere() {
        let nested = |n: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(accepts(nested(127).as_bytes()));
        assert!(!accepts(nested(128).as_bytes()));
        assert!(!accepts(nested(1_000_000).as_bytes()));
    }
}
