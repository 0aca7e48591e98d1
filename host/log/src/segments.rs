//! The segment files of a partition that is being written.
//!
//! Invariant: `list` describes every byte that was appended, in the files or still in the write
//! buffer. After a failed write that is no longer known and the whole must not be used any more.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Error;
use crate::manifest::{PartitionEntry, Segment, segment_path};
use crate::topic::{Retention, TopicOptions};

/// How much is collected before it goes to the operating system, in bytes.
pub(crate) const WRITE_BUFFER_BYTES: usize = 256 << 10;

/// The segments, ascending; the last takes the appends.
#[derive(Debug)]
pub(crate) struct Segments {
    dir: PathBuf,
    pub(crate) options: TopicOptions,
    list: Vec<Segment>,
    /// The offset of the next record.
    end: u64,
    /// What was appended to the last segment and did not go to its file yet.
    buffer: Vec<u8>,
    /// The files written to in this run that a commit may still have to sync, ascending.
    files: Vec<SegmentFile>,
    /// Numbers of segments dropped but perhaps named by the commit in force.
    condemned: Vec<u64>,
    /// The number of the first segment that somebody still has to read, who must not miss anything.
    pub(crate) released: u64,
}

/// A segment file that is open for appending or waits to be synced.
#[derive(Debug, Clone)]
pub(crate) struct SegmentFile {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<File>,
    /// How many of its bytes are committed.
    synced_bytes: u64,
    /// Whether its name is committed.
    named: bool,
}

/// What a commit of the segments has to do.
#[derive(Debug)]
pub(crate) struct Frozen {
    /// What it writes into the manifest.
    pub(crate) entry: PartitionEntry,
    /// The files that the commit in force does not have or has with another length.
    pub(crate) changed: Vec<SegmentFile>,
    /// The directory, when it has files that are new.
    pub(crate) new_names: Option<PathBuf>,
    /// The numbers of the segments that it no longer names.
    pub(crate) condemned: Vec<u64>,
}

impl Segments {
    /// The segments in `dir` as they were committed.
    pub(crate) fn recovered(dir: PathBuf, options: TopicOptions, entry: PartitionEntry) -> Self {
        let PartitionEntry { end, segments: list } = entry;
        let (buffer, files, condemned) = (Vec::new(), Vec::new(), Vec::new());
        Self { dir, options, list, end, buffer, files, condemned, released: 0 }
    }

    pub(crate) fn list(&self) -> &[Segment] {
        &self.list
    }

    /// The offset of the next record.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn path(&self, number: u64) -> PathBuf {
        segment_path(&self.dir, number)
    }

    /// Appends a frame, after which the next record has the offset `end`. Returns the segment as it
    /// was before.
    pub(crate) fn append(&mut self, frame: &[u8], end: u64) -> Result<Segment, Error> {
        self.prepare(frame.len() as u64)?;
        if self.buffer.len() + frame.len() > WRITE_BUFFER_BYTES {
            self.flush()?;
        }
        if frame.len() >= WRITE_BUFFER_BYTES {
            self.write(frame)?;
        } else {
            self.buffer.extend_from_slice(frame);
        }
        let last = self.list.last_mut().expect("prepare makes one when there is none");
        let before = *last;
        last.bytes += frame.len() as u64;
        self.end = end;
        Ok(before)
    }

    /// Hands everything to the operating system.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        self.write(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    /// Drops the segments of which every record is below `offset`, but never the last.
    pub(crate) fn drop_before(&mut self, offset: u64) {
        let pairs = self.list.windows(2).take_while(|pair| pair[1].base <= offset);
        self.discard(pairs.map(|pair| pair[0].number()).collect());
    }

    /// Drops what was read and the options don't keep.
    pub(crate) fn retain(&mut self) {
        self.discard(expired(&self.list, self.options.retention, self.released));
    }

    /// What a commit needs to know. Everything must have been flushed.
    pub(crate) fn freeze(&self) -> Frozen {
        let bytes = |number| self.find(number).map(|i| self.list[i].bytes);
        let changed = |file: &&SegmentFile| bytes(file.number) != Some(file.synced_bytes);
        Frozen {
            entry: PartitionEntry { end: self.end, segments: self.list.clone() },
            changed: self.files.iter().filter(changed).cloned().collect(),
            new_names: self.files.iter().any(|file| !file.named).then(|| self.dir.clone()),
            condemned: self.condemned.clone(),
        }
    }

    /// Notes that a commit is in force.
    pub(crate) fn committed(&mut self, entry: &PartitionEntry) {
        for segment in &entry.segments {
            let number = segment.number();
            if let Ok(i) = self.files.binary_search_by_key(&number, |file| file.number) {
                self.files[i].synced_bytes = segment.bytes;
                self.files[i].named = true;
            }
        }
        let active = self.list.last().map(Segment::number);
        let list = &self.list;
        self.files.retain(|file| {
            let segment = list.iter().find(|s| s.number() == file.number);
            active == Some(file.number) || segment.map(|s| s.bytes) != Some(file.synced_bytes)
        });
    }

    /// Notes that the files of dropped segments are gone.
    pub(crate) fn removed(&mut self, numbers: &[u64]) {
        self.condemned.retain(|number| !numbers.contains(number));
    }

    /// Makes sure that the last segment has a file that is open and room for a frame.
    fn prepare(&mut self, frame_bytes: u64) -> Result<(), Error> {
        let last = self.list.last().copied().filter(|last| {
            last.bytes == 0 || last.bytes + frame_bytes <= self.options.segment_bytes
        });
        let Some(last) = last else {
            self.flush()?;
            let segment = Segment::behind(self.list.last(), self.end);
            self.open(File::options().append(true).create_new(true), segment, false)?;
            self.list.push(segment);
            return Ok(());
        };
        if self.files.last().is_none_or(|file| file.number != last.number()) {
            self.open(File::options().append(true), last, true)?;
        }
        Ok(())
    }

    fn open(&mut self, options: &OpenOptions, segment: Segment, named: bool) -> Result<(), Error> {
        let (number, synced_bytes) = (segment.number(), segment.bytes);
        let path = self.path(number);
        let file = Arc::new(options.open(&path).map_err(Error::io(&path, "open"))?);
        self.files.push(SegmentFile { number, path, file, synced_bytes, named });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let SegmentFile { path, file, .. } =
            self.files.last().expect("the last segment's file is open once something is appended");
        let mut file: &File = file;
        file.write_all(bytes).map_err(Error::io(path, "append to"))
    }

    fn discard(&mut self, numbers: Vec<u64>) {
        if numbers.is_empty() {
            return;
        }
        self.list.retain(|segment| !numbers.contains(&segment.number()));
        self.files.retain(|file| !numbers.contains(&file.number));
        self.condemned.extend(numbers);
    }

    fn find(&self, number: u64) -> Option<usize> {
        self.list.binary_search_by_key(&number, Segment::number).ok()
    }

    /// Whether `path` is one of the segments.
    pub(crate) fn contains(&self, path: &Path) -> bool {
        self.list.iter().any(|s| self.path(s.number()) == path)
    }

    #[cfg(test)]
    pub(crate) fn replace_file(&mut self, file: File) {
        self.files.last_mut().expect("something was appended").file = Arc::new(file);
    }
}

/// The numbers of the segments that can go: of those that were read (their numbers are below
/// `released`) what the retention does not keep, and those of nothing but watermarks, which nobody
/// asks for any more. Never the last.
fn expired(segments: &[Segment], retention: Retention, released: u64) -> Vec<u64> {
    let surplus = match retention {
        Retention::Bytes(keep) => surplus(segments, keep),
        Retention::Forever => 0,
    };
    let read = segments.windows(2).take_while(|pair| pair[0].number() < released);
    let goes = |(i, pair): &(usize, &[Segment])| *i < surplus || pair[0].base == pair[1].base;
    read.enumerate().filter(goes).map(|(_, pair)| pair[0].number()).collect()
}

/// How many of the oldest segments can go when `keep` bytes are to be left; never all.
fn surplus(segments: &[Segment], keep: u64) -> usize {
    let mut left: u64 = segments.iter().map(|s| s.bytes).sum();
    let closed = &segments[..segments.len().saturating_sub(1)];
    let goes = |segment: &&Segment| {
        left -= segment.bytes;
        left >= keep
    };
    closed.iter().take_while(goes).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Segments with these numbers of records and of bytes.
    fn segments(sizes: &[(u64, u64)]) -> Vec<Segment> {
        let mut all: Vec<Segment> = Vec::new();
        let mut base = 0;
        for (records, bytes) in sizes {
            let mut segment = Segment::behind(all.last(), base);
            segment.bytes = *bytes;
            all.push(segment);
            base += records;
        }
        all
    }

    #[test]
    fn retention_by_bytes_keeps_at_least_the_bytes_and_the_last_segment() {
        let segments = segments(&[(1, 10), (1, 20), (1, 30)]);
        for (keep, gone) in [(0, 2), (30, 2), (31, 1), (50, 1), (51, 0), (100, 0)] {
            assert_eq!(surplus(&segments, keep), gone, "keep {keep}");
        }
        assert_eq!(surplus(&[], 0), 0);
    }

    #[test]
    fn segments_without_a_record_have_numbers_of_their_own() {
        let numbers = |sizes: &[(u64, u64)]| {
            segments(sizes).iter().map(|s| (s.base, s.number())).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&[(3, 1), (2, 1), (1, 1)]), [(0, 0), (3, 3), (5, 5)]);
        assert_eq!(
            numbers(&[(0, 1), (0, 1), (1, 1), (9, 1), (1, 1)]),
            [(0, 0), (0, 1), (0, 2), (1, 3), (10, 10)]
        );
    }

    #[test]
    fn segments_of_nothing_but_watermarks_go_once_they_were_read() {
        let all = segments(&[(0, 9), (5, 9), (0, 9), (0, 9), (1, 9), (0, 9)]);
        assert_eq!(expired(&all, Retention::Forever, 0), [0_u64; 0]);
        assert_eq!(expired(&all, Retention::Forever, all[3].number()), [0, 5]);
        assert_eq!(expired(&all, Retention::Forever, u64::MAX), [0, 5, 6]);
        assert_eq!(expired(&all, Retention::Bytes(30), u64::MAX), [0, 1, 5, 6]);
    }

    proptest! {
        #[test]
        fn what_somebody_has_to_read_and_the_last_segment_never_go(
            sizes in prop::collection::vec((0..4_u64, 1..100_u64), 0..20),
            keep in prop::option::of(0..500_u64),
            released in 0..40_u64,
        ) {
            let all = segments(&sizes);
            let retention = keep.map_or(Retention::Forever, Retention::Bytes);
            let gone = expired(&all, retention, released);
            prop_assert!(gone.iter().all(|number| *number < released));
            let left = |s: &&Segment| !gone.contains(&s.number());
            prop_assert!(all.last().is_none_or(|last| left(&last)));
            let records = |s: &Segment| {
                let next = all.iter().find(|n| n.number() > s.number());
                next.map_or(0, |n| n.base - s.base)
            };
            if keep.is_none() {
                prop_assert!(all.iter().filter(|s| !left(s)).all(|s| records(s) == 0));
            }
        }
    }
}
