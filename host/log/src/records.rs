//! Records as columns. Invariant: what passes [`Records::check`] can be encoded and decodes to the
//! same.

use wasmill_abi::{Column, Headers, Malformed};

/// A run of records, one row each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// Event times, in ms since the Unix epoch.
    pub timestamps: Vec<i64>,
    /// For each record the watermark that held before it, in ms since the Unix epoch.
    pub clocks: Vec<i64>,
    /// Keys; a record without key has null.
    pub keys: Column,
    /// Values; a tombstone has null.
    pub values: Column,
    /// Headers; none when no record has any.
    pub headers: Option<Headers>,
}

impl Records {
    /// The number of records.
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// The bytes that the columns take in memory, and nearly so in a frame.
    pub fn size_bytes(&self) -> usize {
        let headers = self
            .headers
            .as_ref()
            .map_or(0, |h| 4 * h.ends.len() + h.names.size_bytes() + h.values.size_bytes());
        16 * self.len() + self.keys.size_bytes() + self.values.size_bytes() + headers
    }

    /// Checks that the columns are well formed and of one length.
    ///
    /// # Errors
    /// [`Malformed`] says which rule is broken.
    pub fn check(&self) -> Result<(), Malformed> {
        let rows = self.len();
        let lengths = [
            ("clocks", self.clocks.len()),
            ("keys", self.keys.len()),
            ("values", self.values.len()),
            ("headers", self.headers.as_ref().map_or(rows, |h| h.ends.len())),
        ];
        for (name, length) in lengths {
            if length != rows {
                return Err(Malformed(format!("{name}: {length} rows, but {rows} timestamps")));
            }
        }
        if u32::try_from(rows).is_err() {
            return Err(Malformed(format!("{rows} rows, at most {} are possible", u32::MAX)));
        }
        self.keys.check("keys")?;
        self.values.check("values")?;
        self.headers.as_ref().map_or(Ok(()), check_headers)
    }

    /// These records as runs of at most `max_bytes` each, as [`Records::size_bytes`] counts, in
    /// order. A run that is larger has one record. The records must pass [`Records::check`].
    pub fn split(self, max_bytes: usize) -> Vec<Self> {
        if self.size_bytes() <= max_bytes {
            return vec![self];
        }
        let mut runs = Vec::new();
        let (mut from, mut size) = (0, 0);
        for row in 0..self.len() {
            let bytes = self.row_bytes(row);
            if row > from && size + bytes > max_bytes {
                runs.push(self.rows(from..row));
                (from, size) = (row, 0);
            }
            size += bytes;
        }
        runs.push(self.rows(from..self.len()));
        runs
    }

    /// An upper bound of what one row adds to [`Records::size_bytes`].
    fn row_bytes(&self, row: usize) -> usize {
        let headers = self.headers.as_ref().map_or(0, |h| {
            let of_header = |i| h.names.bytes(i).len() + h.values.bytes(i).len() + 10;
            4 + h.range(row).map(of_header).sum::<usize>()
        });
        let fixed = 16 + 2 * 5;
        fixed + self.keys.bytes(row).len() + self.values.bytes(row).len() + headers
    }

    fn rows(&self, range: std::ops::Range<usize>) -> Self {
        let mut run = Self {
            timestamps: self.timestamps[range.clone()].to_vec(),
            clocks: self.clocks[range.clone()].to_vec(),
            headers: self.headers.as_ref().map(|_| Headers::default()),
            ..Self::default()
        };
        run.keys.extend_range(&self.keys, range.clone());
        run.values.extend_range(&self.values, range.clone());
        if let (Some(to), Some(from)) = (&mut run.headers, &self.headers) {
            range.for_each(|row| to.push_row_of(from, row));
        }
        run
    }
}

fn check_headers(headers: &Headers) -> Result<(), Malformed> {
    let broken = |rule: String| Err(Malformed(format!("headers: {rule}")));
    headers.names.check("header names")?;
    headers.values.check("header values")?;
    let (names, values) = (headers.names.len(), headers.values.len());
    if names != values {
        return broken(format!("{names} names, but {values} values"));
    }
    if !headers.ends.is_sorted() {
        return broken("ends must never decrease".to_owned());
    }
    let last = headers.ends.last().map_or(0, |end| *end as usize);
    if last != names {
        return broken(format!("the last end is {last}, but there are {names} names"));
    }
    if !headers.names.validity.is_empty() && (0..names).any(|i| headers.names.is_null(i)) {
        return broken("a name is null".to_owned());
    }
    // The names one after the other are UTF-8 and each ends at a character: each is UTF-8.
    match std::str::from_utf8(&headers.names.data) {
        Ok(text) if headers.names.ends.iter().all(|end| text.is_char_boundary(*end as usize)) => {
            Ok(())
        }
        _ => broken("a name is not UTF-8".to_owned()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    type Row = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

    fn build(rows: &[Row], with_headers: bool) -> Records {
        let mut records =
            Records { headers: with_headers.then(Headers::default), ..Records::default() };
        for (timestamp, clock, key, value, headers) in rows {
            records.timestamps.push(*timestamp);
            records.clocks.push(*clock);
            records.keys.push_opt(key.as_deref());
            records.values.push_opt(value.as_deref());
            if let Some(to) = &mut records.headers {
                headers.iter().for_each(|(name, value)| to.add(name, value.as_deref()));
                to.close_row();
            }
        }
        records
    }

    /// Well formed records, from none to `max_rows`.
    pub(crate) fn any_records(max_rows: usize) -> impl Strategy<Value = Records> {
        let bytes = || option::weighted(0.8, vec(any::<u8>(), 0..12));
        let header = ("\\PC{0,4}", bytes());
        let row = (any::<i64>(), any::<i64>(), bytes(), bytes(), vec(header, 0..3));
        (vec(row, 0..=max_rows), any::<bool>()).prop_map(|(rows, headers)| build(&rows, headers))
    }

    proptest! {
        #[test]
        fn runs_put_together_are_the_records_and_each_keeps_the_limit(
            records in any_records(30), max in 1..400_usize) {
            prop_assert_eq!(records.check(), Ok(()));
            let runs = records.clone().split(max);
            let mut whole = Records {
                headers: records.headers.as_ref().map(|_| Headers::default()),
                ..Records::default()
            };
            for run in &runs {
                prop_assert_eq!(run.check(), Ok(()));
                prop_assert!(run.size_bytes() <= max || run.len() == 1);
                whole.timestamps.extend(&run.timestamps);
                whole.clocks.extend(&run.clocks);
                whole.keys.extend_range(&run.keys, 0..run.len());
                whole.values.extend_range(&run.values, 0..run.len());
                if let (Some(to), Some(from)) = (&mut whole.headers, &run.headers) {
                    (0..run.len()).for_each(|row| to.push_row_of(from, row));
                }
            }
            prop_assert_eq!(&whole.timestamps, &records.timestamps);
            prop_assert_eq!(&whole.clocks, &records.clocks);
            prop_assert!(whole.keys.iter().eq(records.keys.iter()));
            prop_assert!(whole.values.iter().eq(records.values.iter()));
            if let (Some(to), Some(from)) = (&whole.headers, &records.headers) {
                prop_assert_eq!(&to.ends, &from.ends);
                prop_assert!(to.names.iter().eq(from.names.iter()));
                prop_assert!(to.values.iter().eq(from.values.iter()));
            }
        }
    }

    #[test]
    fn columns_that_do_not_fit_together_are_named() {
        let row = || (1, 2, Some(vec![3]), None, vec![("é".to_owned(), Some(vec![4]))]);
        let broken = |change: fn(&mut Records)| {
            let mut records = build(&[row(), row()], true);
            assert_eq!(records.check(), Ok(()));
            change(&mut records);
            records.check().unwrap_err().0
        };
        assert!(broken(|r| r.clocks.truncate(1)).starts_with("clocks: 1 rows, but 2"));
        assert!(broken(|r| r.values.push(b"x")).starts_with("values: 3 rows"));
        assert!(broken(|r| r.keys.data.push(1)).contains("keys: the last end"));
        assert!(broken(|r| r.headers.as_mut().unwrap().close_row()).contains("headers: 3 rows"));
        assert!(broken(|r| r.headers.as_mut().unwrap().ends[1] = 1).contains("last end is 1"));
        assert!(broken(|r| r.headers.as_mut().unwrap().ends[0] = 3).contains("never decrease"));
        assert!(broken(|r| r.headers.as_mut().unwrap().names.data[0] = 255).contains("UTF-8"));
        assert!(broken(|r| r.headers.as_mut().unwrap().names.ends[0] = 1).contains("UTF-8"));
        assert!(broken(|r| r.headers.as_mut().unwrap().values.push(b"")).contains("3 values"));
    }
}
