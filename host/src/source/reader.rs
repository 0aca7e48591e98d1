//! Reads a partition in batches. Invariant: the position is behind the last line given out, and every
//! line before it was given out once, as a record or as a [`Bad`], or was empty.

use std::io::{self, Read};

use wasmill_abi::Column;
use wasmill_core::task::Records;
use wasmill_pipeline::Format;

use super::compression::Fault;
use super::file::{Fate, Watch};
use super::jsonl::Fields;
use super::lines::{BLOCK_BYTES, Line, Lines, MAX_LINE_BYTES};
use super::{Error, Partition, Position};

/// The most bytes of values in one batch, whatever the caller allows.
pub const MAX_BATCH_BYTES: usize = 1 << 30;

/// The most blocks that one call of [`Reader::read`] reads, so 64 MiB.
const MAX_BLOCKS: usize = 256;

/// What a call of [`Reader::read`] finds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are of the large variant, and none is kept"
)]
pub enum Batch {
    /// Lines. Both lists may be empty, after a stretch of empty lines or within a very long one.
    Records {
        /// Those that are records, by offset: the index of the line, from 0. Keys are null and
        /// timestamps the time given, unless the source reads them from fields. Clocks are empty.
        records: Records,
        /// Those that are none, by offset.
        bad: Vec<Bad>,
    },
    /// Nothing right now: standard input waits, or nothing was appended to a file yet.
    Pending,
    /// There will be no more.
    End,
}

/// A line that can't be made a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// The index of the line, from 0.
    pub offset: i64,
    /// The line; of one that is too long only the first
    /// [`LONG_LINE_HEAD_BYTES`](super::LONG_LINE_HEAD_BYTES).
    pub value: Vec<u8>,
    /// What is wrong with it, for a person.
    pub reason: String,
}

/// What lines are read from.
pub(super) struct Input {
    pub stream: Box<dyn Read + Send>,
    /// There when the stream may go on after its end.
    pub watch: Option<Watch>,
}

/// Reads a partition. A line ends with `\n` or `\r\n`; the last one counts without it too, unless
/// the file is followed. Empty lines are no records, but count for the offsets.
pub struct Reader {
    partition: Partition,
    position: Position,
    lines: Lines,
    input: Input,
    /// Whether the stream has ended for good.
    is_ended: bool,
    failure: Failure,
}

enum Failure {
    None,
    /// Met behind lines that were still given out.
    Waiting(io::Error),
    Told,
}

/// A batch that is being filled.
struct Filling {
    records: Records,
    bad: Vec<Bad>,
    bytes: usize,
}

impl Filling {
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.records.offsets.len() + self.bad.len()
    }

    fn into_batch(self) -> Batch {
        Batch::Records { records: self.records, bad: self.bad }
    }
}

impl Reader {
    pub(super) fn new(partition: Partition, position: Position, input: Input) -> Self {
        let (lines, failure) = (Lines::new(), Failure::None);
        Self { partition, position, lines, input, is_ended: false, failure }
    }

    /// The partition.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Where the next line begins: to be given to [`Partition::open`] to go on after a restart.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Reads what is there, up to so many records (at least one) and bytes of values (but always a
    /// whole record; at most [`MAX_BATCH_BYTES`]). Waits for the disk, but not for lines to come.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::CutOff`], [`Error::Damaged`]; [`Error::Shrank`] and [`Error::Moved`]
    /// for a file that is followed. What could be read before the error was given out by then; with
    /// [`Error::Damaged`] it may be wrong, since a checksum is behind what it is of. The reader can't
    /// be used any longer.
    pub fn read(
        &mut self,
        most_records: usize,
        most_bytes: usize,
        now_ms: i64,
    ) -> Result<Batch, Error> {
        match std::mem::replace(&mut self.failure, Failure::None) {
            Failure::None => {}
            Failure::Waiting(error) => return Err(self.fail(error)),
            Failure::Told => return Err(self.fail(io::Error::other("reading has failed before"))),
        }
        let (most_records, most_bytes) = (most_records.max(1), most_bytes.min(MAX_BATCH_BYTES));
        let room = most_bytes.min(BLOCK_BYTES);
        let values = Column::with_capacity(room / 64, room);
        let records = Records { values, ..Records::default() };
        let mut filling = Filling { records, bad: Vec::new(), bytes: 0 };
        for _ in 0..MAX_BLOCKS {
            if self.take_lines(&mut filling, most_records, most_bytes, now_ms) {
                break;
            }
            if self.is_ended {
                return Ok(if filling.is_empty() { Batch::End } else { filling.into_batch() });
            }
            match self.lines.fill(&mut *self.input.stream) {
                Ok(0) if self.input.watch.is_none() => self.is_ended = true,
                Ok(0) if filling.is_empty() => return self.look().map(|()| Batch::Pending),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && filling.is_empty() => {
                    return Ok(Batch::Pending);
                }
                Ok(0) => break,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if filling.is_empty() => return Err(self.fail(e)),
                Err(e) => {
                    self.failure = Failure::Waiting(e);
                    break;
                }
                Ok(_) => {}
            }
        }
        Ok(filling.into_batch())
    }

    /// Takes the lines that are there; returns whether the batch is full.
    fn take_lines(
        &mut self,
        filling: &mut Filling,
        most_records: usize,
        most_bytes: usize,
        now_ms: i64,
    ) -> bool {
        let fields = match &self.partition.encoding.format {
            Format::Lines => None,
            Format::JsonLines { key, timestamp } => {
                Some(Fields { key: key.as_deref(), timestamp: timestamp.as_deref() })
            }
        };
        while filling.len() < most_records {
            let Some(line) = self.lines.peek(self.is_ended) else { return false };
            let offset = self.position.line as i64;
            let (range, length) = match line {
                Line::Whole(range) => (range, None),
                Line::Long(head, length) => (head, Some(length)),
            };
            if !filling.is_empty() && range.len() > most_bytes.saturating_sub(filling.bytes) {
                return true;
            }
            let bytes = self.lines.bytes(range);
            let bytes = match (&fields, offset) {
                // A byte order mark is allowed before JSON.
                (Some(_), 0) => bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes),
                _ => bytes,
            };
            filling.bytes += bytes.len();
            let read = match (length, &fields) {
                (Some(length), _) => Err(format!(
                    "the line has {length} bytes, more than {MAX_LINE_BYTES}; these are the first"
                )),
                (None, None) => Ok((None, None)),
                (None, Some(_)) if bytes.is_empty() => Ok((None, None)),
                (None, Some(fields)) => fields.read(bytes),
            };
            match read {
                Ok(_) if bytes.is_empty() => {}
                Ok((key, timestamp)) => {
                    filling.records.keys.push_opt(key.as_deref());
                    filling.records.values.push(bytes);
                    filling.records.timestamps.push(timestamp.unwrap_or(now_ms));
                    filling.records.offsets.push(offset);
                }
                Err(reason) => filling.bad.push(Bad { offset, value: bytes.to_vec(), reason }),
            }
            self.position.line += 1;
            self.position.byte += self.lines.take();
        }
        true
    }

    /// Checks a file that is followed, at its end.
    fn look(&mut self) -> Result<(), Error> {
        let Some(watch) = &self.input.watch else { return Ok(()) };
        let fate = watch.look(self.position.byte + self.lines.waiting());
        let (source_name, path) = (self.partition.source.clone(), self.partition.what.to_string());
        let position = self.position.clone();
        let error = match fate {
            Ok(Fate::Same) => return Ok(()),
            Ok(Fate::Shrunk(length)) => Error::Shrank { source_name, path, position, length },
            Ok(Fate::Moved) => Error::Moved { source_name, path, position },
            Err(e) => return Err(self.fail(e)),
        };
        self.failure = Failure::Told;
        Err(error)
    }

    fn fail(&mut self, error: io::Error) -> Error {
        self.failure = Failure::Told;
        self.partition.unreadable(error, self.position.byte + self.lines.waiting())
    }
}

impl Partition {
    /// What a failed read means, after so many decompressed bytes.
    pub(super) fn unreadable(&self, error: io::Error, byte: u64) -> Error {
        let Some(fault) = error.get_ref().and_then(|e| e.downcast_ref::<Fault>()) else {
            return self.io("read", error);
        };
        let (source_name, path) = (self.source.clone(), self.what.to_string());
        let (compression, message) = (fault.compression, fault.to_string());
        match fault.is_cut_off {
            true => Error::CutOff { source_name, path, compression, byte },
            false => Error::Damaged { source_name, path, compression, byte, message },
        }
    }
}
