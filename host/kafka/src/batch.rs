//! Records read from one partition, as columns. Invariant: all columns have one row a record.

use wasmill_abi::{Column, Headers};

/// Who has set the timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampKind {
    /// Whoever has sent the record.
    #[default]
    Create,
    /// The broker, when it appended the record.
    LogAppend,
}

/// Records of one partition, in the order of their offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The offsets, ascending; there may be gaps.
    pub offsets: Vec<i64>,
    /// The timestamps in ms since the Unix epoch; -1 where a record has none.
    pub timestamps: Vec<i64>,
    /// Who has set the timestamp of the last record; a topic's setting, and so the same for all
    /// until somebody changes it.
    pub timestamp_kind: TimestampKind,
    /// Keys; a record without key has null.
    pub keys: Column,
    /// Values; a tombstone has null.
    pub values: Column,
    /// Headers, when they are asked for: set it to have them read.
    pub headers: Option<Headers>,
    /// The offset to read next: behind the last record, and behind what is no record, such as
    /// transaction markers and records of aborted transactions, as far as that is known.
    pub next_offset: i64,
}

impl Batch {
    /// An empty batch that takes headers only `with_headers`.
    pub fn new(with_headers: bool) -> Self {
        Self { headers: with_headers.then(Headers::default), ..Self::default() }
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The bytes of keys and values.
    pub fn size_bytes(&self) -> usize {
        self.keys.data.len() + self.values.data.len()
    }

    /// Removes the records and keeps the memory.
    pub fn clear(&mut self) {
        self.offsets.clear();
        self.timestamps.clear();
        self.keys.clear();
        self.values.clear();
        if let Some(headers) = &mut self.headers {
            headers.ends.clear();
            headers.names.clear();
            headers.values.clear();
        }
    }
}
