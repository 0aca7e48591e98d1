//! One record of the batch, borrowed.

use serde::Deserialize;
use wasmill_abi::{Column, Headers, Origins};

use crate::rejection::Rejection;

/// The columns of a batch that records are read from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns<'a> {
    pub(crate) timestamps: &'a [i64],
    pub(crate) watermarks: &'a [i64],
    pub(crate) now: i64,
    pub(crate) inputs: &'a [u8],
    /// By slot where there are slots, else by row.
    pub(crate) keys: &'a Column,
    pub(crate) slots: Option<&'a [u32]>,
    pub(crate) values: &'a Column,
    pub(crate) headers: Option<&'a Headers>,
    pub(crate) origins: Option<&'a Origins>,
}

/// A record: what came in, with its times and its place. Nothing of it is read before it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub(crate) columns: &'a Columns<'a>,
    pub(crate) row: usize,
}

/// Where a record was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The topic or source.
    pub topic: &'a str,
    /// The partition within it, from 0.
    pub partition: u32,
    /// The offset within the partition, from 0.
    pub offset: i64,
}

impl<'a> Record<'a> {
    /// The key, none when the record has none.
    #[inline(always)]
    pub fn key(&self) -> Option<&'a [u8]> {
        let columns = self.columns;
        columns.keys.get(columns.slots.map_or(self.row, |slots| slots[self.row] as usize))
    }

    /// The key as text; empty when the record has none.
    ///
    /// # Errors
    /// A malformed [`Rejection`] when it is not UTF-8.
    pub fn key_text(&self) -> Result<&'a str, Rejection> {
        Ok(std::str::from_utf8(self.key().unwrap_or_default())?)
    }

    /// The value, none for a tombstone.
    #[inline(always)]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.columns.values.get(self.row)
    }

    /// The value as bytes.
    ///
    /// # Errors
    /// A malformed [`Rejection`] when the record is a tombstone.
    #[inline]
    pub fn bytes(&self) -> Result<&'a [u8], Rejection> {
        self.value().ok_or_else(|| Rejection::malformed("the record is a tombstone (null value)"))
    }

    /// The value as text.
    ///
    /// # Errors
    /// A malformed [`Rejection`] when it is null or not UTF-8.
    pub fn text(&self) -> Result<&'a str, Rejection> {
        Ok(std::str::from_utf8(self.bytes()?)?)
    }

    /// The value as JSON; `T` may borrow from it.
    ///
    /// # Errors
    /// A malformed [`Rejection`] when it is null or not such JSON.
    #[inline]
    pub fn json<T: Deserialize<'a>>(&self) -> Result<T, Rejection> {
        Ok(serde_json::from_slice(self.bytes()?)?)
    }

    /// The event time, in ms since the Unix epoch.
    #[inline(always)]
    pub fn timestamp(&self) -> i64 {
        self.columns.timestamps[self.row]
    }

    /// The watermark that held before this record: lateness is judged against it.
    #[inline(always)]
    pub fn watermark(&self) -> i64 {
        self.columns.watermarks[self.row]
    }

    /// The wall clock of the host, in ms since the Unix epoch. The same for a whole batch.
    pub fn now(&self) -> i64 {
        self.columns.now
    }

    /// The index of the input port that it came by.
    pub fn input(&self) -> usize {
        usize::from(self.columns.inputs.get(self.row).copied().unwrap_or(0))
    }

    /// The headers, if the description asks for them (`wants_headers`); otherwise none come.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let row = self.row;
        self.columns.headers.into_iter().flat_map(move |headers| headers.row(row))
    }

    /// The last header with this name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().filter(|(n, _)| *n == name.as_bytes()).last().and_then(|(_, value)| value)
    }

    /// Where the record was read from, if the description asks for it (`wants_origins`).
    pub fn origin(&self) -> Option<Origin<'a>> {
        let origins = self.columns.origins?;
        Some(Origin {
            topic: &origins.topics[origins.topic[self.row] as usize],
            partition: origins.partition[self.row],
            offset: origins.offset[self.row],
        })
    }
}
