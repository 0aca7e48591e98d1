//! Cuts a stream of bytes into lines. Invariant: where the stream was cut into blocks never shows.

use std::io::{self, Read};
use std::ops::Range;

/// The most bytes of a line, without what ends it.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// How much of a line that is too long is kept, in bytes.
pub const LONG_LINE_HEAD_BYTES: usize = 4 << 10;

/// How many bytes are asked for at once.
pub(super) const BLOCK_BYTES: usize = 256 << 10;

/// A line that has not been taken yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Its content, to be looked up by [`Lines::bytes`].
    Whole(Range<usize>),
    /// One of more than [`MAX_LINE_BYTES`]: how it begins, and its length in bytes with what ends it.
    Long(Range<usize>, u64),
}

/// A window on the stream, and how far its lines were taken.
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Where the line that is next begins in the buffer.
    start: usize,
    /// Up to where it is known to have no end.
    scanned: usize,
    /// Up to where the buffer has data.
    end: usize,
    /// Bytes dropped from the middle of the line that is next, since it is too long.
    dropped: u64,
    /// How many bytes the line found last takes in the buffer, with what ends it.
    found: usize,
}

impl Lines {
    pub fn new() -> Self {
        let buffer = vec![0; BLOCK_BYTES];
        Self { buffer, start: 0, scanned: 0, end: 0, dropped: 0, found: 0 }
    }

    /// The line that is next, if all of it is there. `ended`: what is there is the last line even
    /// without its end.
    #[inline]
    pub fn peek(&mut self, ended: bool) -> Option<Line> {
        let at = match memchr::memchr(b'\n', &self.buffer[self.scanned..self.end]) {
            Some(n) => {
                let at = self.scanned + n;
                self.found = at + 1 - self.start;
                at - usize::from(at > self.start && self.buffer[at - 1] == b'\r')
            }
            None => {
                self.scanned = self.end;
                if !ended || self.start == self.end {
                    return None;
                }
                self.found = self.end - self.start;
                self.end
            }
        };
        if self.dropped == 0 && at - self.start <= MAX_LINE_BYTES {
            return Some(Line::Whole(self.start..at));
        }
        let head = self.start..self.start + LONG_LINE_HEAD_BYTES;
        Some(Line::Long(head, self.dropped + self.found as u64))
    }

    /// Bytes of a line found.
    #[inline]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// Goes on behind the line found last, and returns how many bytes of the stream it was.
    #[inline]
    pub fn take(&mut self) -> u64 {
        self.start += self.found;
        self.scanned = self.start;
        std::mem::take(&mut self.dropped) + std::mem::take(&mut self.found) as u64
    }

    /// Bytes of the stream that were read and not taken.
    pub fn waiting(&self) -> u64 {
        self.dropped + (self.end - self.start) as u64
    }

    /// Reads once, up to a block; 0 at the end of the stream.
    pub fn fill<R: Read + ?Sized>(&mut self, input: &mut R) -> io::Result<usize> {
        self.make_room();
        loop {
            match input.read(&mut self.buffer[self.end..]) {
                Ok(n) => {
                    self.end += n;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.scanned, self.end) = (self.scanned - self.start, self.end - self.start);
            self.start = 0;
        }
        // A \r may belong to what ends the line. What is over the limit can't become whole.
        if self.scanned == self.end && (self.end > MAX_LINE_BYTES + 1 || self.dropped > 0) {
            let drop = self.end - LONG_LINE_HEAD_BYTES;
            self.dropped += drop as u64;
            (self.scanned, self.end) = (LONG_LINE_HEAD_BYTES, LONG_LINE_HEAD_BYTES);
        }
        if self.buffer.len() > 4 * BLOCK_BYTES && self.end <= BLOCK_BYTES {
            self.buffer.truncate(2 * BLOCK_BYTES);
            self.buffer.shrink_to_fit();
        }
        if self.buffer.len() < self.end + BLOCK_BYTES / 2 {
            let double = 2 * self.buffer.len();
            self.buffer.resize(double.min(MAX_LINE_BYTES + 2 * BLOCK_BYTES), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives at most a few bytes at a time.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(to.len());
            let (now, later) = self.0.split_at(n);
            to[..n].copy_from_slice(now);
            self.0 = later;
            Ok(n)
        }
    }

    /// The lines, long ones by their length, and the bytes that each takes.
    fn cut(bytes: &[u8], step: usize) -> Vec<(Result<Vec<u8>, u64>, u64)> {
        let mut input = Trickle(bytes, step);
        let mut lines = Lines::new();
        let mut cut = Vec::new();
        let mut ended = false;
        loop {
            while let Some(line) = lines.peek(ended) {
                let content = match line {
                    Line::Whole(range) => Ok(lines.bytes(range).to_vec()),
                    Line::Long(head, length) => {
                        assert!(lines.bytes(head) == vec![b'x'; LONG_LINE_HEAD_BYTES]);
                        Err(length)
                    }
                };
                cut.push((content, lines.take()));
            }
            if ended {
                assert_eq!(lines.waiting(), 0);
                return cut;
            }
            ended = lines.fill(&mut input).unwrap() == 0;
        }
    }

    proptest! {
        #[test]
        fn lines_end_at_newlines_however_the_stream_comes(text in "[ab\r\n]{0,40}", step in 1..9usize) {
            let mut expected: Vec<_> = text.split_inclusive('\n').map(|line| {
                let content = match line.strip_suffix('\n') {
                    Some(content) => content.strip_suffix('\r').unwrap_or(content),
                    None => line,
                };
                (Ok(content.as_bytes().to_vec()), line.len() as u64)
            }).collect();
            if text.is_empty() {
                expected.clear();
            }
            prop_assert_eq!(cut(text.as_bytes(), step), expected);
        }
    }

    #[test]
    fn a_line_at_the_limit_is_whole_and_one_over_it_is_long() {
        let most = vec![b'x'; MAX_LINE_BYTES];
        for (over, end) in [(0, "\n"), (0, "\r\n"), (1, "\n"), (1, "\r\n"), (0, ""), (1, "")] {
            let mut bytes = [&most[..], &most[..over], end.as_bytes()].concat();
            let taken = bytes.len() as u64;
            if !end.is_empty() {
                bytes.extend_from_slice(b"next\n");
            }
            for step in [BLOCK_BYTES, 100_001] {
                let cut = cut(&bytes, step);
                match over {
                    0 => assert!(cut[0] == (Ok(most.clone()), taken)),
                    _ => assert_eq!(cut[0], (Err(taken), taken)),
                }
                match end {
                    "" => assert_eq!(cut.len(), 1),
                    _ => assert_eq!(cut[1..], [(Ok(b"next".to_vec()), 5)]),
                }
            }
        }
    }

    #[test]
    fn a_line_without_end_takes_little_memory() {
        let mut lines = Lines::new();
        let mut input = io::repeat(b'x').take(200 << 20);
        while lines.fill(&mut input).unwrap() > 0 {
            assert_eq!(lines.peek(false), None);
            assert!(lines.buffer.len() <= MAX_LINE_BYTES + 2 * BLOCK_BYTES);
        }
        assert_eq!(lines.peek(true), Some(Line::Long(0..LONG_LINE_HEAD_BYTES, 200 << 20)));
        assert_eq!(lines.take(), 200 << 20);
    }
}
