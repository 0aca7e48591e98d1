//! Reading partitions of Kafka's topics: plain records from outside, or the frames that the pipeline
//! writes for itself.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use wasmill_abi::{Column, Headers};
use wasmill_core::task::Records;
use wasmill_kafka::{Batch, Limit, Partition};
use wasmill_log::{Body, Frame};

use crate::engine::Error;
use crate::engine::feed::{Feed, Lines, Piece, Place};
use crate::engine::worker::lock;

/// Most bytes read at a time.
const READ_BYTES: usize = 1 << 20;
/// How many frames are read at a time: each is a batch of its own.
const FRAMES: usize = 8;

/// How many batches may wait for the slowest of several readers.
const WAITING: usize = 16;

/// A partition of a topic, which all tasks of a unit that read it share: each gets everything.
pub(super) struct Shared {
    partition: Partition,
    /// Batches that not all have had; the number of the first.
    batches: VecDeque<Arc<Batch>>,
    first: u64,
    /// For each reader the number of its next batch; none for one that is gone.
    readers: Vec<Option<u64>>,
}

/// What there is for a reader.
enum Next {
    Batch(Arc<Batch>),
    /// Nothing: it has had everything before this offset.
    Nothing(i64),
    /// Nothing until others have had what waits for them.
    Others,
}

impl Shared {
    pub(super) fn new(partition: Partition) -> Arc<Mutex<Self>> {
        let (batches, readers) = (VecDeque::new(), Vec::new());
        Arc::new(Mutex::new(Self { partition, batches, first: 0, readers }))
    }

    fn next(&mut self, reader: usize, limit: Limit) -> Result<Next, Error> {
        let wanted = self.readers[reader].unwrap_or(self.first);
        let at = (wanted - self.first) as usize;
        if at == self.batches.len() {
            if at == WAITING {
                return Ok(Next::Others);
            }
            let mut batch = Batch::new(true);
            self.partition.read(&mut batch, limit)?;
            if batch.is_empty() {
                return Ok(Next::Nothing(self.partition.position()));
            }
            self.batches.push_back(Arc::new(batch));
        }
        let batch = self.batches[at].clone();
        self.readers[reader] = Some(wanted + 1);
        self.forget();
        Ok(Next::Batch(batch))
    }

    /// Lets go of what all have had.
    fn forget(&mut self) {
        let had = self.readers.iter().flatten().min().copied().unwrap_or(u64::MAX);
        while self.first < had && self.batches.pop_front().is_some() {
            self.first += 1;
        }
    }
}

/// A task's view of a partition of a topic of Kafka.
pub(in crate::engine) struct KafkaTopic {
    shared: Arc<Mutex<Shared>>,
    reader: usize,
    /// The batch that frames are taken from, and the next of them.
    batch: Arc<Batch>,
    at: usize,
    /// Whether records are frames that bring watermarks along.
    frames: bool,
    /// Where it ends, for an input that is bounded by where the topic ended at the start.
    until: Option<i64>,
    next: i64,
}

impl Drop for KafkaTopic {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.readers[self.reader] = None;
        shared.forget();
    }
}

impl KafkaTopic {
    /// Reads on at `next`, which is not before where the partition was assigned.
    pub(super) fn new(
        shared: Arc<Mutex<Shared>>,
        next: i64,
        frames: bool,
        until: Option<i64>,
    ) -> Self {
        let reader = {
            let mut shared = lock(&shared);
            let first = shared.first;
            shared.readers.push(Some(first));
            shared.readers.len() - 1
        };
        Self { shared, reader, batch: Arc::default(), at: 0, frames, until, next }
    }

    /// The next batch; none when there is nothing for now.
    fn fetch(&mut self, records: usize) -> Result<Option<Arc<Batch>>, Error> {
        let limit = Limit { records, bytes: READ_BYTES };
        match lock(&self.shared).next(self.reader, limit)? {
            Next::Batch(batch) => Ok(Some(batch)),
            Next::Nothing(position) => {
                self.next = self.next.max(position);
                Ok(None)
            }
            Next::Others => Ok(None),
        }
    }

    fn next_frame(&mut self) -> Result<Piece, Error> {
        loop {
            if self.at == self.batch.len() {
                let Some(batch) = self.fetch(FRAMES)? else { return Ok(Piece::Pending) };
                // Others that read it may stand further back.
                self.at = batch.offsets.partition_point(|offset| *offset < self.next);
                self.batch = batch;
                continue;
            }
            let (row, offset) = (self.at, self.batch.offsets[self.at]);
            self.at += 1;
            self.next = offset + 1;
            if self.batch.values.is_null(row) {
                continue;
            }
            let frame = Frame::read(self.batch.values.bytes(row)).map_err(|why| {
                let shared = lock(&self.shared);
                Error::Shape(format!(
                    "topic {} partition {} offset {offset}: this is no record that Wasmill wrote for \
                     itself: {why}; nothing else may write to this topic",
                    shared.partition.topic(),
                    shared.partition.partition()
                ))
            })?;
            let producer = frame.producer;
            return Ok(match frame.body {
                Body::Watermark { watermark, idle } => {
                    Piece::Watermark { producer, watermark, idle }
                }
                Body::Records(records) => {
                    let wasmill_log::Records { timestamps, clocks, keys, values, headers } =
                        records;
                    let offsets = vec![offset; timestamps.len()];
                    let records = Records { timestamps, clocks, keys, values, headers, offsets };
                    Piece::Records { producer, records, bad: Vec::new(), read: None }
                }
            });
        }
    }

    fn next_records(&mut self, most: usize, now: i64) -> Result<Piece, Error> {
        if self.until.is_some_and(|until| self.next >= until) {
            return Ok(Piece::End);
        }
        let Some(batch) = self.fetch(most)? else {
            let end = self.until.is_some_and(|until| self.next >= until);
            return Ok(if end { Piece::End } else { Piece::Pending });
        };
        let batch = Arc::try_unwrap(batch).unwrap_or_else(|batch| Batch::clone(&batch));
        let Batch { offsets, timestamps, keys, values, headers, next_offset, .. } = batch;
        let mut records =
            Records { timestamps, clocks: Vec::new(), keys, values, headers, offsets };
        // Others that read it may stand further back.
        let from = records.offsets.partition_point(|offset| *offset < self.next);
        let to = match self.until {
            Some(until) => records.offsets.partition_point(|offset| *offset < until),
            None => records.offsets.len(),
        };
        records = rows(records, from..to.max(from));
        self.next = self.next.max(next_offset);
        // Before Kafka 0.10 records had no timestamps.
        for timestamp in records.timestamps.iter_mut().filter(|t| **t < 0) {
            *timestamp = now;
        }
        if records.headers.as_ref().is_some_and(|headers| headers.names.is_empty()) {
            records.headers = None;
        }
        let read = Some(records.values.data.len() as u64);
        Ok(Piece::Records { producer: 0, records, bad: Vec::new(), read })
    }
}

/// Some rows of records.
fn rows(records: Records, rows: Range<usize>) -> Records {
    if rows == (0..records.offsets.len()) {
        return records;
    }
    let column = |column: &Column| {
        let mut part = Column::default();
        part.extend_range(column, rows.clone());
        part
    };
    Records {
        timestamps: records.timestamps[rows.clone()].to_vec(),
        clocks: Vec::new(),
        keys: column(&records.keys),
        values: column(&records.values),
        headers: records.headers.as_ref().map(|headers| {
            let mut part = Headers::default();
            rows.clone().for_each(|row| part.push_row_of(headers, row));
            part
        }),
        offsets: records.offsets[rows].to_vec(),
    }
}

impl Feed for KafkaTopic {
    fn next(&mut self, most: usize, now: i64) -> Result<Piece, Error> {
        if self.frames { self.next_frame() } else { self.next_records(most, now) }
    }

    fn place(&self) -> Place {
        Place::Offset(self.next)
    }

    fn lag(&self) -> Option<u64> {
        let end = {
            let shared = lock(&self.shared);
            shared.partition.position().checked_add_unsigned(shared.partition.lag()?)?
        };
        let end = self.until.unwrap_or(end).min(end);
        Some(u64::try_from(end - self.next).unwrap_or(0))
    }
}

/// What a task reads on Kafka.
pub(in crate::engine) enum KafkaFeed {
    /// Lines of a file or of standard input.
    Lines(Box<Lines>),
    /// A partition of a topic.
    Topic(Box<KafkaTopic>),
}

impl KafkaFeed {
    /// How many offsets are left of it, where its end is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Self::Lines(_) => None,
            Self::Topic(topic) => Some(u64::try_from(topic.until? - topic.next).unwrap_or(0)),
        }
    }
}

impl Feed for KafkaFeed {
    fn next(&mut self, most: usize, now: i64) -> Result<Piece, Error> {
        match self {
            Self::Lines(lines) => lines.next(most, now),
            Self::Topic(topic) => topic.next(most, now),
        }
    }

    fn place(&self) -> Place {
        match self {
            Self::Lines(lines) => lines.place(),
            Self::Topic(topic) => topic.place(),
        }
    }

    fn lag(&self) -> Option<u64> {
        match self {
            Self::Lines(lines) => lines.lag(),
            Self::Topic(topic) => topic.lag(),
        }
    }
}
