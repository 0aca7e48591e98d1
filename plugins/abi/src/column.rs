//! A column of byte strings: one allocation for the bytes, one for where each element ends.

use std::fmt;

/// Byte strings one after the other, each of them perhaps null.
///
/// Element `i` is `data[ends[i - 1]..ends[i]]`. `validity` has one bit an element, least significant
/// first, 1 for present; it is empty while no element is null.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Column {
    /// Where each element ends in `data`, in bytes.
    pub ends: Vec<u32>,
    /// The elements without separators.
    pub data: Vec<u8>,
    /// Presence bits; empty when every element is present.
    pub validity: Vec<u8>,
}

/// A column that breaks the rules of the ABI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

// What is read of every record is inlined by force: a call costs a component more than the work.
#[allow(clippy::inline_always)]
impl Column {
    /// An empty column with room for `rows` elements of `bytes` bytes in all.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self {
            ends: Vec::with_capacity(rows),
            data: Vec::with_capacity(bytes),
            validity: Vec::new(),
        }
    }

    /// The number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no element.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The number of bytes that the column takes in memory or on the wire.
    #[inline]
    pub fn size_bytes(&self) -> usize {
        self.data.len() + 4 * self.ends.len() + self.validity.len()
    }

    /// Whether element `i` is null.
    ///
    /// # Panics
    /// When a validity bitmap is there and `i` is beyond it.
    #[inline(always)]
    pub fn is_null(&self, i: usize) -> bool {
        !self.validity.is_empty() && self.validity[i / 8] & (1 << (i % 8)) == 0
    }

    /// Element `i`, or none when it is null.
    ///
    /// # Panics
    /// When `i` is not below [`Column::len`].
    #[inline(always)]
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        if self.is_null(i) { None } else { Some(self.bytes(i)) }
    }

    /// Element `i`; empty when it is null.
    ///
    /// # Panics
    /// When `i` is not below [`Column::len`].
    #[inline(always)]
    pub fn bytes(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.data[start..self.ends[i] as usize]
    }

    /// Appends an element.
    ///
    /// # Panics
    /// When the column would pass 4 GiB, which no limit of the host lets it come near.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        self.close();
    }

    /// Appends a null element.
    #[inline]
    pub fn push_null(&mut self) {
        let i = self.ends.len();
        if self.validity.is_empty() {
            self.validity = vec![0xff; i / 8 + 1];
        } else if self.validity.len() <= i / 8 {
            self.validity.push(0xff);
        }
        self.validity[i / 8] &= !(1 << (i % 8));
        self.ends.push(end(self.data.len()));
    }

    /// Appends an element that may be null.
    #[inline]
    pub fn push_opt(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.push(bytes),
            None => self.push_null(),
        }
    }

    /// Ends an element whose bytes were written to `data` directly.
    #[inline]
    pub fn close(&mut self) {
        let i = self.ends.len();
        if !self.validity.is_empty() && self.validity.len() <= i / 8 {
            self.validity.push(0xff);
        }
        self.ends.push(end(self.data.len()));
    }

    /// Takes back what was written to `data` since the last element ended.
    #[inline]
    pub fn abandon(&mut self) {
        self.data.truncate(self.ends.last().map_or(0, |e| *e as usize));
    }

    /// Removes every element and keeps the memory.
    pub fn clear(&mut self) {
        self.ends.clear();
        self.data.clear();
        self.validity.clear();
    }

    /// Keeps the first `rows` elements.
    pub fn truncate(&mut self, rows: usize) {
        if rows >= self.len() {
            return;
        }
        self.ends.truncate(rows);
        self.data.truncate(self.ends.last().map_or(0, |e| *e as usize));
        if !self.validity.is_empty() {
            self.validity.truncate(rows.div_ceil(8));
        }
    }

    /// Appends the elements `range` of another column.
    ///
    /// # Panics
    /// When the range is not within `other`.
    pub fn extend_range(&mut self, other: &Self, range: std::ops::Range<usize>) {
        if !other.validity.is_empty() || !self.validity.is_empty() {
            for i in range {
                self.push_opt(other.get(i));
            }
            return;
        }
        if range.is_empty() {
            return;
        }
        let from = if range.start == 0 { 0 } else { other.ends[range.start - 1] as usize };
        let to = other.ends[range.end - 1] as usize;
        let base = self.data.len();
        self.data.extend_from_slice(&other.data[from..to]);
        end(self.data.len());
        self.ends.extend(other.ends[range].iter().map(|e| (*e as usize - from + base) as u32));
    }

    /// The elements with these indexes, in this order.
    ///
    /// # Panics
    /// When an index is not below [`Column::len`].
    pub fn gather(&self, indexes: &[u32]) -> Self {
        let bytes = indexes.iter().map(|i| self.bytes(*i as usize).len()).sum();
        let mut gathered = Self::with_capacity(indexes.len(), bytes);
        // What lies together is copied together.
        for run in indexes.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            let start = run[0] as usize;
            gathered.extend_range(self, start..start + run.len());
        }
        gathered
    }

    /// The elements in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&[u8]>> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Checks the rules that hold for every column: ends ascend and cover the data, the bitmap has
    /// the right length, null elements are empty.
    ///
    /// # Errors
    /// [`Malformed`] says which rule is broken, naming the column `name`.
    pub fn check(&self, name: &str) -> Result<(), Malformed> {
        let mut last = 0;
        let mut sorted = true;
        for end in &self.ends {
            sorted &= *end >= last;
            last = *end;
        }
        if !sorted {
            return Err(Malformed(format!("{name}: ends must never decrease")));
        }
        if last as usize != self.data.len() {
            return Err(Malformed(format!(
                "{name}: the last end is {last}, but data has {} bytes",
                self.data.len()
            )));
        }
        if self.validity.is_empty() {
            return Ok(());
        }
        if self.validity.len() != self.len().div_ceil(8) {
            return Err(Malformed(format!(
                "{name}: {} elements need {} bytes of validity, found {}",
                self.len(),
                self.len().div_ceil(8),
                self.validity.len()
            )));
        }
        match (0..self.len()).find(|i| self.is_null(*i) && !self.bytes(*i).is_empty()) {
            Some(i) => Err(Malformed(format!("{name}: element {i} is null but not empty"))),
            None => Ok(()),
        }
    }
}

impl<'a> FromIterator<&'a [u8]> for Column {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(items: I) -> Self {
        let mut column = Self::default();
        for item in items {
            column.push(item);
        }
        column
    }
}

impl<'a> FromIterator<Option<&'a [u8]>> for Column {
    fn from_iter<I: IntoIterator<Item = Option<&'a [u8]>>>(items: I) -> Self {
        let mut column = Self::default();
        for item in items {
            column.push_opt(item);
        }
        column
    }
}

#[inline]
fn end(len: usize) -> u32 {
    u32::try_from(len).expect("a column stays below 4 GiB: limits of the host are far smaller")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_pushed_comes_back(rows in proptest::collection::vec(
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)), 0..40),
            picked in proptest::collection::vec(any::<prop::sample::Index>(), 0..9)) {
            let column: Column = rows.iter().map(|r| r.as_deref()).collect();
            prop_assert_eq!(column.check("c"), Ok(()));
            prop_assert_eq!(column.len(), rows.len());
            for (i, row) in rows.iter().enumerate() {
                prop_assert_eq!(column.get(i), row.as_deref());
            }
            for cut in 0..=rows.len() {
                let mut head = column.clone();
                head.truncate(cut);
                prop_assert_eq!(head.check("head"), Ok(()));
                head.extend_range(&column, cut..rows.len());
                prop_assert_eq!(head.check("both"), Ok(()));
                prop_assert!(head.iter().eq(column.iter()));
            }
            let indexes: Vec<u32> = picked.iter().filter(|_| !rows.is_empty())
                .map(|at| at.index(rows.len()) as u32)
                .flat_map(|i| i..(i + 3).min(rows.len() as u32)).collect();
            let gathered = column.gather(&indexes);
            prop_assert_eq!(gathered.check("gathered"), Ok(()));
            prop_assert!(gathered.iter().eq(indexes.iter().map(|i| column.get(*i as usize))));
        }
    }

    #[test]
    fn each_broken_rule_is_named() {
        let column = |ends: &[u32], data: &[u8], validity: &[u8]| Column {
            ends: ends.to_vec(),
            data: data.to_vec(),
            validity: validity.to_vec(),
        };
        let message = |c: Column| c.check("keys").unwrap_err().0;
        assert!(message(column(&[2, 1], b"ab", &[])).contains("never decrease"));
        assert!(message(column(&[1], b"ab", &[])).contains("last end is 1, but data has 2"));
        assert!(message(column(&[1, 2], b"ab", &[255, 255])).contains("need 1 bytes of validity"));
        assert!(message(column(&[1, 2], b"ab", &[0b01])).contains("element 1 is null"));
    }
}
