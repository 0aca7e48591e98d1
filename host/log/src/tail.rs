//! The most recent frames of a partition, in memory, for readers that follow its end.
//!
//! Invariant: the frames are those that end the partition, without a gap, in order, within the
//! budget of bytes; none are kept where nobody follows.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::Frame;

/// Frames by where they are in the segments.
#[derive(Debug)]
pub(crate) struct Tail {
    frames: VecDeque<Entry>,
    bytes: usize,
    max_bytes: usize,
    /// How many bytes have come since a reader was last here.
    unread: usize,
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
        Self { frames: VecDeque::new(), bytes: 0, max_bytes, unread: usize::MAX }
    }

    /// A reader is here, or at the end.
    pub(crate) fn follow(&mut self) {
        self.unread = 0;
    }

    /// Takes the frame that was appended at `byte` of `segment` with `length` bytes on disk.
    pub(crate) fn push(&mut self, segment: u64, byte: u64, length: usize, frame: Frame) {
        self.unread = self.unread.saturating_add(length);
        if self.unread > self.max_bytes {
            // Whoever comes now finds no more than a part of what it missed.
            self.frames.clear();
            self.bytes = 0;
            return;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Body;

    fn frame(base_offset: u64) -> Frame {
        Frame {
            base_offset,
            epoch: 1,
            producer: 0,
            body: Body::Watermark { watermark: 0, idle: false },
        }
    }

    #[test]
    fn frames_are_kept_while_a_reader_follows() {
        let mut tail = Tail::new(100);
        let push = |tail: &mut Tail, byte: u64| tail.push(0, byte, 40, frame(byte));
        push(&mut tail, 0);
        assert!(tail.at(0, 0).is_none(), "nobody follows");
        tail.follow();
        push(&mut tail, 40);
        push(&mut tail, 80);
        assert!(tail.at(0, 40).is_some() && tail.at(0, 80).is_some());
        tail.follow();
        push(&mut tail, 120);
        assert!(tail.at(0, 40).is_none() && tail.at(0, 80).is_some() && tail.at(0, 120).is_some());
        push(&mut tail, 160);
        push(&mut tail, 200);
        assert!(tail.at(0, 200).is_none(), "nobody has followed for the length of a tail");
        assert_eq!(tail.bytes, 0);
        tail.follow();
        push(&mut tail, 240);
        assert!(tail.at(0, 200).is_none() && tail.at(0, 240).is_some());
    }
}
