//! Where a plugin puts what it emits.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use wasmill_abi::{Column, HeaderChanges, RejectionKind, Rejections};

use crate::rejection::Rejection;

/// Collects emissions and rejections as columns.
///
/// What is not said is inherited: an emission has the event time, key and headers of the record that
/// is being processed (of the timer: its time and key), and goes to output 0.
#[derive(Debug)]
pub struct Emitter<'b> {
    pub(crate) rows: Vec<u32>,
    pub(crate) clocks: Vec<i64>,
    pub(crate) outputs: Vec<u8>,
    pub(crate) timestamps: Vec<i64>,
    pub(crate) keys: Option<Column>,
    pub(crate) values: Column,
    pub(crate) headers: Option<HeaderChanges>,
    pub(crate) rejections: Rejections,
    pub(crate) source: Source,
    inherit: Inherit<'b>,
}

/// What is being processed: everything that an emission may inherit.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Source {
    pub(crate) row: u32,
    /// The clock before the timer that runs, none for a record.
    pub(crate) clock: Option<i64>,
}

/// The columns of the batch that emissions inherit from, for when the first one differs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inherit<'b> {
    pub(crate) timestamps: &'b [i64],
    pub(crate) keys: &'b Column,
    /// The slot of each row in a keyed batch.
    pub(crate) slots: Option<&'b [u32]>,
}

impl<'b> Inherit<'b> {
    fn key(&self, row: u32) -> Option<&'b [u8]> {
        let (row, n) = (row as usize, self.timestamps.len());
        match self.slots {
            Some(_) if row >= n => self.keys.get(row - n),
            Some(slots) => self.keys.get(slots[row] as usize),
            None => self.keys.get(row),
        }
    }
}

/// Lengths of the columns, to take an unfinished record back.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    emissions: usize,
    clocks: usize,
}

/// What the last call emitted, in bytes for each KiB that came in: a hint for how much room the next
/// one needs, so that its values do not grow by copying. Nothing but speed depends on it.
static LAST: AtomicUsize = AtomicUsize::new(1_024);

impl<'b> Emitter<'b> {
    pub(crate) fn new(inherit: Inherit<'b>, bytes: usize) -> Self {
        let rows = inherit.timestamps.len();
        // An eighth more than last time, within what a batch that explodes would need anyway.
        let last = LAST.load(Relaxed).min(4_096);
        let bytes = bytes / 1_024 * (last + last / 8) + 1_024;
        Self {
            rows: Vec::with_capacity(rows),
            clocks: Vec::new(),
            outputs: Vec::new(),
            timestamps: Vec::new(),
            keys: None,
            values: Column::with_capacity(rows, bytes),
            headers: None,
            rejections: Rejections::default(),
            source: Source::default(),
            inherit,
        }
    }

    /// Emits a value to output 0.
    #[inline]
    pub fn emit(&mut self, value: impl AsRef<[u8]>) {
        self.to(0).bytes(value);
    }

    /// Emits a value as JSON to output 0.
    #[inline]
    pub fn json<T: Serialize + ?Sized>(&mut self, value: &T) {
        self.to(0).json(value);
    }

    /// Starts an emission to an output, by its index in the description; finish it with `bytes`,
    /// `json`, `tombstone` or `write`.
    #[inline]
    pub fn to<'e>(&'e mut self, output: usize) -> Emission<'e, 'b> {
        Emission {
            output: u8::try_from(output).expect("a plugin has at most 64 outputs"),
            timestamp: None,
            key: Key::Inherited,
            headers: None,
            keep_headers: true,
            emitter: self,
        }
    }

    /// Rejects the record that is being processed and keeps what it emitted. To take its emissions
    /// back as well, return the rejection from `process` instead.
    pub fn reject(&mut self, rejection: Rejection) {
        if self.source.clock.is_some() || self.rejections.rows.last() == Some(&self.source.row) {
            return;
        }
        self.rejections.rows.push(self.source.row);
        self.rejections.kinds.push(rejection.kind);
        self.rejections.reasons.push(rejection.reason.as_bytes());
    }

    /// Notes how much this call has emitted, of `bytes` that came in.
    pub(crate) fn measure(&self, bytes: usize) {
        if bytes >= 1_024 {
            LAST.store(self.values.data.len() / (bytes / 1_024), Relaxed);
        }
    }

    /// The number of emissions so far in this call.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing has been emitted in this call.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { emissions: self.rows.len(), clocks: self.clocks.len() }
    }

    pub(crate) fn roll_back(&mut self, mark: Mark) {
        if self.rows.len() == mark.emissions {
            return;
        }
        self.rows.truncate(mark.emissions);
        self.clocks.truncate(mark.clocks);
        self.outputs.truncate(mark.emissions);
        self.timestamps.truncate(mark.emissions);
        self.values.truncate(mark.emissions);
        if let Some(keys) = &mut self.keys {
            keys.truncate(mark.emissions);
        }
        if let Some(HeaderChanges { dropped, added }) = &mut self.headers {
            added.ends.truncate(mark.emissions);
            let headers = added.ends.last().map_or(0, |e| *e as usize);
            added.names.truncate(headers);
            added.values.truncate(headers);
            dropped.truncate(mark.emissions.div_ceil(8));
            if let Some(last) = dropped.last_mut()
                && !mark.emissions.is_multiple_of(8)
            {
                *last &= (1 << (mark.emissions % 8)) - 1;
            }
        }
    }

    /// Puts the rejections into the order of their rows, as the ABI wants them.
    pub(crate) fn take_rejections(&mut self) -> Rejections {
        let taken = std::mem::take(&mut self.rejections);
        if taken.rows.is_sorted() {
            return taken;
        }
        let mut order: Vec<usize> = (0..taken.rows.len()).collect();
        order.sort_by_key(|i| taken.rows[*i]);
        Rejections {
            rows: order.iter().map(|i| taken.rows[*i]).collect(),
            kinds: order.iter().map(|i| taken.kinds[*i]).collect::<Vec<RejectionKind>>(),
            reasons: order.iter().map(|i| taken.reasons.get(*i)).collect(),
        }
    }
}

enum Key<'a> {
    Inherited,
    Null,
    Is(&'a [u8]),
}

/// One emission that is being put together.
#[must_use = "finish the emission with bytes, json, tombstone or write"]
pub struct Emission<'e, 'b> {
    emitter: &'e mut Emitter<'b>,
    output: u8,
    timestamp: Option<i64>,
    key: Key<'e>,
    headers: Option<&'e [(&'e str, &'e [u8])]>,
    keep_headers: bool,
}

impl<'e, 'b> Emission<'e, 'b> {
    /// Gives it an event time, in ms since the Unix epoch.
    #[inline]
    pub fn timestamp(mut self, ms: i64) -> Self {
        self.timestamp = Some(ms);
        self
    }

    /// Gives it a key. The output's description must say that it assigns keys.
    #[inline]
    pub fn key(mut self, key: &'e [u8]) -> Self {
        self.key = Key::Is(key);
        self
    }

    /// Takes its key away.
    pub fn no_key(mut self) -> Self {
        self.key = Key::Null;
        self
    }

    /// Adds headers behind those of its source record.
    pub fn headers(mut self, headers: &'e [(&'e str, &'e [u8])]) -> Self {
        self.headers = Some(headers);
        self
    }

    /// Drops the headers of its source record.
    pub fn drop_headers(mut self) -> Self {
        self.keep_headers = false;
        self
    }

    /// Emits bytes.
    #[inline]
    pub fn bytes(self, value: impl AsRef<[u8]>) {
        self.finish().values.push(value.as_ref());
    }

    /// Emits a null value.
    #[inline]
    pub fn tombstone(self) {
        self.finish().values.push_null();
    }

    /// Emits JSON.
    ///
    /// # Panics
    /// When `value` can't be written as JSON: a map with keys that are no text, or a `Serialize` of
    /// its own that fails. The host then treats the record as poison.
    #[inline]
    pub fn json<T: Serialize + ?Sized>(self, value: &T) {
        self.write(|data| {
            if let Err(error) = serde_json::to_writer(data, value) {
                panic!("the emitted value can't be written as JSON: {error}");
            }
        });
    }

    /// Emits what `write` appends, without a copy in between.
    #[inline]
    pub fn write(self, write: impl FnOnce(&mut Vec<u8>)) {
        let values = &mut self.finish().values;
        write(&mut values.data);
        values.close();
    }

    /// Writes every column but the value. A column of what is inherited is left out until the first
    /// emission that differs.
    #[inline]
    fn finish(self) -> &'e mut Emitter<'b> {
        let Self { emitter: e, output, timestamp, key, headers, keep_headers } = self;
        let before = e.rows.len();
        if timestamp.is_some() || !e.timestamps.is_empty() {
            e.push_timestamp(before, timestamp);
        }
        if output != 0 || !e.outputs.is_empty() {
            e.outputs.resize(before, 0);
            e.outputs.push(output);
        }
        match (key, &mut e.keys) {
            (Key::Inherited, None) => {}
            (key, _) => e.push_key(before, key),
        }
        if headers.is_some() || !keep_headers || e.headers.is_some() {
            e.push_headers(before, headers.unwrap_or_default(), keep_headers);
        }
        e.rows.push(e.source.row);
        if let Some(clock) = e.source.clock {
            e.clocks.push(clock);
        }
        e
    }
}

impl Emitter<'_> {
    fn push_timestamp(&mut self, before: usize, timestamp: Option<i64>) {
        let inherited = match self.source.clock {
            None => self.inherit.timestamps[self.source.row as usize],
            Some(clock) => clock.saturating_add(1),
        };
        let timestamp = timestamp.unwrap_or(inherited);
        if self.timestamps.is_empty() {
            if timestamp == inherited {
                return;
            }
            self.begin_timestamps(before);
        }
        self.timestamps.push(timestamp);
    }

    /// Catches up with the emissions whose event times were all inherited.
    #[cold]
    fn begin_timestamps(&mut self, before: usize) {
        self.timestamps.reserve(self.rows.capacity().max(before + 1));
        let mut clocks = self.clocks.iter();
        for row in &self.rows {
            let inherited = match self.inherit.timestamps.get(*row as usize) {
                Some(timestamp) => *timestamp,
                None => {
                    let clock = clocks.next().expect("an emission of a timer has a clock");
                    clock.saturating_add(1)
                }
            };
            self.timestamps.push(inherited);
        }
    }

    fn push_key(&mut self, before: usize, key: Key<'_>) {
        let inherit = self.inherit;
        let keys = self.keys.get_or_insert_with(|| {
            let mut keys = Column::with_capacity(inherit.timestamps.len(), 0);
            for row in &self.rows[..before] {
                keys.push_opt(inherit.key(*row));
            }
            keys
        });
        match key {
            Key::Inherited => keys.push_opt(inherit.key(self.source.row)),
            Key::Null => keys.push_null(),
            Key::Is(key) => keys.push(key),
        }
    }

    fn push_headers(&mut self, before: usize, headers: &[(&str, &[u8])], keep: bool) {
        let changes = self.headers.get_or_insert_with(|| {
            let mut changes = HeaderChanges::default();
            changes.added.ends.resize(before, 0);
            changes
        });
        for (name, value) in headers {
            changes.added.add(name, Some(value));
        }
        changes.added.close_row();
        if !keep {
            changes.dropped.resize(before / 8 + 1, 0);
            changes.dropped[before / 8] |= 1 << (before % 8);
        } else if !changes.dropped.is_empty() {
            changes.dropped.resize(before / 8 + 1, 0);
        }
    }
}
