//! Where the inputs of tasks come from.
//!
//! Invariant: [`Feed::place`] is behind everything that [`Feed::next`] has given and before
//! everything that it has not.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wasmill_abi::{Column, Headers};
use wasmill_core::task::Records;
use wasmill_log::{Body, Frame, Partition, Reader};

use super::Error;
use crate::source;

/// Most bytes read from a source at a time.
const READ_BYTES: usize = 1 << 20;

/// Where an input stands, as the commit has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Place {
    /// In a file or on standard input.
    Source(source::Position),
    /// In a topic of the embedded log.
    Topic(wasmill_log::Position),
    /// In a topic of Kafka: the offset to read next.
    Offset(i64),
    /// Behind its last record.
    Ended,
}

/// What an input gives.
// Made on the stack and used up at once: a box for each batch would cost more.
#[allow(clippy::large_enum_variant)]
pub(super) enum Piece {
    /// Records, and what can't be read as records.
    Records {
        /// Who wrote them, where watermarks are carried.
        producer: u32,
        records: Records,
        bad: Vec<source::Bad>,
        /// How many bytes of a source they took; none for records that the pipeline itself wrote.
        read: Option<u64>,
    },
    /// A watermark of a producer.
    Watermark { producer: u32, watermark: i64, idle: bool },
    /// There is nothing for now.
    Pending,
    /// Nothing more comes.
    End,
}

/// One partition of an input.
pub(super) trait Feed {
    /// The next piece, of at most `most` records where it can be cut. Does not wait.
    fn next(&mut self, most: usize, now: i64) -> Result<Piece, Error>;

    /// Where it stands behind the last piece.
    fn place(&self) -> Place;

    /// How many offsets lie between that and the end, as far as it knows without asking anybody.
    fn lag(&self) -> Option<u64> {
        None
    }
}

impl<F: Feed + ?Sized> Feed for Box<F> {
    fn next(&mut self, most: usize, now: i64) -> Result<Piece, Error> {
        (**self).next(most, now)
    }

    fn place(&self) -> Place {
        (**self).place()
    }

    fn lag(&self) -> Option<u64> {
        (**self).lag()
    }
}

/// Lines from outside.
pub(super) struct Lines(pub(super) source::Reader);

impl Feed for Lines {
    fn next(&mut self, most: usize, now: i64) -> Result<Piece, Error> {
        let before = self.0.position().byte;
        Ok(match self.0.read(most, READ_BYTES, now)? {
            source::Batch::Pending => Piece::Pending,
            source::Batch::End => Piece::End,
            source::Batch::Records { records, bad } => {
                let read = Some(self.0.position().byte - before);
                Piece::Records { producer: 0, records, bad, read }
            }
        })
    }

    fn place(&self) -> Place {
        Place::Source(self.0.position().clone())
    }
}

/// A partition of a topic of the embedded log.
pub(super) struct Topic {
    partition: Partition,
    reader: Reader,
    /// Where it ends, for an input that is bounded by where the topic ended at the start.
    until: Option<u64>,
    place: wasmill_log::Position,
    carried: bool,
}

impl Topic {
    /// Reads on from `place`. With `carried` its frames bring watermarks along.
    pub(super) fn new(
        partition: Partition,
        place: wasmill_log::Position,
        until: Option<u64>,
        carried: bool,
    ) -> Self {
        let reader = partition.reader(place);
        Self { partition, reader, until, place, carried }
    }
}

impl Feed for Topic {
    fn next(&mut self, _: usize, _: i64) -> Result<Piece, Error> {
        loop {
            if self.until.is_some_and(|until| self.place.offset >= until) {
                return Ok(Piece::End);
            }
            let Some((frame, first)) = self.reader.next()? else { return Ok(Piece::Pending) };
            self.place = self.reader.position();
            let producer = frame.producer;
            match frame.body {
                Body::Watermark { watermark, idle } if self.carried => {
                    return Ok(Piece::Watermark { producer, watermark, idle });
                }
                Body::Watermark { .. } => {}
                Body::Records(_) => {
                    let end = self.until.map_or(usize::MAX, |u| (u - frame.base_offset) as usize);
                    let records = records_of(frame, first, end, self.carried);
                    let read = (!self.carried).then_some(0);
                    return Ok(Piece::Records { producer, records, bad: Vec::new(), read });
                }
            }
        }
    }

    fn place(&self) -> Place {
        Place::Topic(self.place)
    }

    fn lag(&self) -> Option<u64> {
        let end = self.partition.end_offset();
        Some(self.until.unwrap_or(end).min(end).saturating_sub(self.place.offset))
    }
}

/// The wanted rows of a frame: moved where they are all of it and nobody else has it, else copied.
fn records_of(frame: Arc<Frame>, first: usize, end: usize, carried: bool) -> Records {
    let base = frame.base_offset;
    let of = frame.records().expect("the caller has looked");
    let (rows, end) = (of.timestamps.len(), end.min(of.timestamps.len()));
    let offsets = (first..end).map(|row| (base + row as u64) as i64).collect();
    let frame = match Arc::try_unwrap(frame) {
        Ok(Frame { body: Body::Records(all), .. }) if (first, end) == (0, rows) => {
            let wasmill_log::Records { timestamps, mut clocks, keys, values, headers } = all;
            if !carried {
                clocks.clear();
            }
            return Records { timestamps, clocks, keys, values, headers, offsets };
        }
        Ok(frame) => Arc::new(frame),
        Err(frame) => frame,
    };
    let of = frame.records().expect("the caller has looked");
    let column = |column: &Column| {
        let mut part = Column::default();
        part.extend_range(column, first..end);
        part
    };
    Records {
        timestamps: of.timestamps[first..end].to_vec(),
        clocks: if carried { of.clocks[first..end].to_vec() } else { Vec::new() },
        keys: column(&of.keys),
        values: column(&of.values),
        headers: of.headers.as_ref().map(|headers| {
            let mut part = Headers::default();
            (first..end).for_each(|row| part.push_row_of(headers, row));
            part
        }),
        offsets,
    }
}
