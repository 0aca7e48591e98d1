//! The most recent frames of a partition, in memory.
//!
//! Invariant: the frames are those that end the partition, without a gap, in order, within the
//! budget of bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::Frame;

/// Frames by where they are in the segments.
#[derive(Debug)]
pub(crate) struct Tail {
    frames: VecDeque<Entry>,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    segment: u64,
    byte: u64,
    length: usize,
    frame: Arc<Frame>,
}

impl Tail {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, max_bytes }
    }

    /// Takes the frame that was appended at `byte` of `segment` with `length` bytes on disk.
    pub(crate) fn push(&mut self, segment: u64, byte: u64, length: usize, frame: Frame) {
        self.bytes += length;
        self.frames.push_back(Entry { segment, byte, length, frame: Arc::new(frame) });
        while self.bytes > self.max_bytes {
            self.pop();
        }
    }

    /// Forgets the segments before the one with the number `first`.
    pub(crate) fn drop_before(&mut self, first: u64) {
        while self.frames.front().is_some_and(|entry| entry.segment < first) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(entry) = self.frames.pop_front() {
            self.bytes -= entry.length;
        }
    }

    /// The frame that starts at `byte` of `segment`, with its length on disk.
    pub(crate) fn at(&self, segment: u64, byte: u64) -> Option<(Arc<Frame>, usize)> {
        let found = self.frames.binary_search_by_key(&(segment, byte), |e| (e.segment, e.byte));
        found.ok().map(|i| (self.frames[i].frame.clone(), self.frames[i].length))
    }

    /// Segment and byte of the first frame that a reader of `offset` wants, or of the end of the
    /// last; none when that may be a frame before those in memory.
    pub(crate) fn find(&self, offset: u64) -> Option<(u64, u64)> {
        let after = self.frames.partition_point(|entry| entry.frame.is_before(offset));
        let before = self.frames.get(after.checked_sub(1)?)?;
        match self.frames.get(after) {
            Some(entry) => Some((entry.segment, entry.byte)),
            None => Some((before.segment, before.byte + before.length as u64)),
        }
    }
}
