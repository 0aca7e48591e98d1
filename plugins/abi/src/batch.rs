//! What goes into a call and what comes out of it. `wit/v0.1` has the meaning of every field.

use crate::{Column, RejectionKind, TimeDomain};

/// The headers of a run of records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// Row `i` has the headers `ends[i - 1]..ends[i]` of the two columns.
    pub ends: Vec<u32>,
    /// The names, UTF-8, never null.
    pub names: Column,
    /// The values.
    pub values: Column,
}

impl Headers {
    /// The indexes into `names` and `values` that belong to row `i`.
    ///
    /// # Panics
    /// When `i` is not below the number of rows.
    pub fn range(&self, i: usize) -> std::ops::Range<usize> {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        start..self.ends[i] as usize
    }

    /// The name and value pairs of row `i`.
    ///
    /// # Panics
    /// When `i` is not below the number of rows.
    pub fn row(&self, i: usize) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.range(i).map(|h| (self.names.bytes(h), self.values.get(h)))
    }

    /// Appends one header to the row that is being built.
    pub fn add(&mut self, name: &str, value: Option<&[u8]>) {
        self.names.push(name.as_bytes());
        self.values.push_opt(value);
    }

    /// Ends the row that is being built.
    pub fn close_row(&mut self) {
        self.ends.push(u32::try_from(self.names.len()).expect("fewer than 2^32 headers"));
    }

    /// Appends a row with the headers of row `i` of `other`.
    pub fn push_row_of(&mut self, other: &Self, i: usize) {
        for h in other.range(i) {
            self.names.push(other.names.bytes(h));
            self.values.push_opt(other.values.get(h));
        }
        self.close_row();
    }
}

/// The headers of emissions, as far as they differ from those of their source records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// A bitmap of the emissions that drop what they would inherit; empty when none does.
    pub dropped: Vec<u8>,
    /// What each emission adds behind the inherited ones.
    pub added: Headers,
}

impl HeaderChanges {
    /// Whether emission `i` drops the headers of its source record.
    pub fn drops(&self, i: usize) -> bool {
        self.dropped.get(i / 8).is_some_and(|b| b & (1 << (i % 8)) != 0)
    }
}

/// Where a run of records was read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    /// The topics or sources that occur.
    pub topics: Vec<String>,
    /// For each row an index into `topics`.
    pub topic: Vec<u32>,
    /// For each row the partition.
    pub partition: Vec<u32>,
    /// For each row the offset.
    pub offset: Vec<i64>,
}

/// The records that a call rejects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejections {
    /// The rejected rows, ascending.
    pub rows: Vec<u32>,
    /// For each of them the kind.
    pub kinds: Vec<RejectionKind>,
    /// For each of them a sentence for a person.
    pub reasons: Column,
}

/// Records for an operator without state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatelessBatch {
    /// Event times.
    pub timestamps: Vec<i64>,
    /// The watermark before each record.
    pub watermarks: Vec<i64>,
    /// The wall clock.
    pub now: i64,
    /// Input ports; empty for all 0.
    pub inputs: Vec<u8>,
    /// Keys.
    pub keys: Column,
    /// Values.
    pub values: Column,
    /// Headers, when asked for.
    pub headers: Option<Headers>,
    /// Origins, when asked for.
    pub origins: Option<Origins>,
}

/// What an operator without state gives back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatelessReply {
    /// The source row of each emission.
    pub rows: Vec<u32>,
    /// Outputs; empty for all 0.
    pub outputs: Vec<u8>,
    /// Event times; empty when inherited.
    pub timestamps: Vec<i64>,
    /// Keys; none when inherited.
    pub keys: Option<Column>,
    /// Values.
    pub values: Column,
    /// How headers change; none when all are inherited.
    pub headers: Option<HeaderChanges>,
    /// Rejections.
    pub rejections: Rejections,
}

/// Timers, as columns of one length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timers {
    /// The slot of each timer's key.
    pub slots: Vec<u32>,
    /// The clock it follows.
    pub domains: Vec<TimeDomain>,
    /// Its name within the key.
    pub tags: Vec<u64>,
    /// When it is due, in ms since the epoch.
    pub times: Vec<i64>,
}

impl Timers {
    /// Appends a timer.
    pub fn push(&mut self, slot: u32, domain: TimeDomain, tag: u64, time: i64) {
        self.slots.push(slot);
        self.domains.push(domain);
        self.tags.push(tag);
        self.times.push(time);
    }
}

/// Names of timers, as columns of one length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimerNames {
    /// The slot of each timer's key.
    pub slots: Vec<u32>,
    /// The clock it follows.
    pub domains: Vec<TimeDomain>,
    /// Its name within the key.
    pub tags: Vec<u64>,
}

/// Changes of timers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimerChanges {
    /// The timers set or moved.
    pub set: Timers,
    /// The timers cleared.
    pub cleared: TimerNames,
}

/// Records and due timers for an operator with state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyedBatch {
    /// Event times.
    pub timestamps: Vec<i64>,
    /// The watermark before each record.
    pub watermarks: Vec<i64>,
    /// The watermark after the last record.
    pub end_watermark: i64,
    /// The wall clock.
    pub now: i64,
    /// Input ports; empty for all 0.
    pub inputs: Vec<u8>,
    /// The slot of each record's key.
    pub slots: Vec<u32>,
    /// Values.
    pub values: Column,
    /// Headers, when asked for.
    pub headers: Option<Headers>,
    /// Origins, when asked for.
    pub origins: Option<Origins>,
    /// The distinct keys.
    pub keys: Column,
    /// The value state of each key.
    pub states: Column,
    /// The timers of these keys that are due.
    pub due: Timers,
}

/// What an operator with state gives back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyedReply {
    /// Below `n` the source row, otherwise `n` plus the slot of the timer's key.
    pub rows: Vec<u32>,
    /// For each emission from a timer, in order: the clock just before it ran.
    pub clocks: Vec<i64>,
    /// Outputs; empty for all 0.
    pub outputs: Vec<u8>,
    /// Event times; empty when inherited.
    pub timestamps: Vec<i64>,
    /// Keys; none when inherited.
    pub keys: Option<Column>,
    /// Values.
    pub values: Column,
    /// How headers change; none when all are inherited.
    pub headers: Option<HeaderChanges>,
    /// Rejections.
    pub rejections: Rejections,
    /// The slots whose state changes, ascending.
    pub changed: Vec<u32>,
    /// Their new states; null removes.
    pub states: Column,
    /// Timer changes.
    pub timers: TimerChanges,
}
