//! Where a reader is. Invariant: after [`settle`] a position is at the start of a frame or at the
//! end of the partition.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::manifest::Segment;

/// A place in a partition, to be kept with the application's payload and resumed from.
///
/// To resume within a frame, take the position of the frame and set `offset` to the first record
/// wanted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Position {
    /// The offset of the next record wanted. Rows of the frame below it are to be skipped.
    pub offset: u64,
    /// The number of the segment that has the frame.
    pub segment: u64,
    /// Where the frame starts in the segment, in bytes.
    pub byte: u64,
}

impl Position {
    /// The beginning of a partition: the first record that is left when reading begins.
    pub const fn start() -> Self {
        Self { offset: 0, segment: 0, byte: 0 }
    }
}

/// The segments of a partition, as far as they can be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: u32,
    pub(crate) segments: &'a [Segment],
    pub(crate) end: u64,
}

impl Extent<'_> {
    pub(crate) fn start(&self) -> u64 {
        self.segments.first().map_or(self.end, |s| s.base)
    }

    /// Moves a position to where its frame is now: past the end of a segment to the next one, from
    /// the start to the first segment, from a segment that is gone to the one with the offset.
    ///
    /// Returns the length of the segment in bytes, or none at the end of the partition.
    pub(crate) fn settle(&self, position: &mut Position) -> Result<Option<u64>, Error> {
        if *position == Position::start() {
            let offset = self.start();
            let segment = self.segments.first().map_or(offset, Segment::number);
            *position = Position { offset, segment, byte: 0 };
        }
        if position.offset > self.end {
            return Err(self.foreign(position, format!("the partition ends at {}", self.end)));
        }
        if self.segments.is_empty() {
            return Ok(None);
        }
        let mut index = match self.segments.binary_search_by_key(&position.segment, Segment::number)
        {
            Ok(index) => index,
            Err(_) => {
                *position = self.segment_of(position.offset)?;
                self.segments.partition_point(|s| s.number() < position.segment)
            }
        };
        while position.byte == self.segments[index].bytes {
            index += 1;
            let Some(next) = self.segments.get(index) else {
                if position.offset < self.end {
                    return Err(self.foreign(position, format!("at the end is {}", self.end)));
                }
                return Ok(None);
            };
            (position.segment, position.byte) = (next.number(), 0);
        }
        let bytes = self.segments[index].bytes;
        if position.byte > bytes {
            return Err(self.foreign(position, format!("its segment has {bytes} bytes")));
        }
        Ok(Some(bytes))
    }

    /// The start of the segment that has the record at `offset`, or would have it at the end.
    pub(crate) fn segment_of(&self, offset: u64) -> Result<Position, Error> {
        let (topic, partition) = (self.topic.to_owned(), self.partition);
        if offset < self.start() {
            return Err(Error::Dropped { topic, partition, offset, start: self.start() });
        }
        // Of those that begin there the first: its watermarks come before the record.
        let at = self.segments.partition_point(|s| s.base < offset);
        let begins = self.segments.get(at).filter(|s| s.base == offset);
        let has = || Some(&self.segments[at.checked_sub(1)?]);
        let segment = begins.or_else(has).map_or(0, Segment::number);
        let position = Position { offset, segment, byte: 0 };
        if offset > self.end {
            return Err(self.foreign(&position, format!("the partition ends at {}", self.end)));
        }
        Ok(position)
    }

    fn foreign(&self, position: &Position, reason: String) -> Error {
        Error::ForeignPosition {
            topic: self.topic.to_owned(),
            partition: self.partition,
            position: *position,
            reason,
        }
    }
}
