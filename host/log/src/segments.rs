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
    /// Segments dropped but perhaps named by the commit in force.
    condemned: Vec<u64>,
}

/// A segment file that is open for appending or waits to be synced.
#[derive(Debug, Clone)]
pub(crate) struct SegmentFile {
    pub(crate) base: u64,
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
    /// The segments that it no longer names.
    pub(crate) condemned: Vec<u64>,
}

impl Segments {
    /// The segments in `dir` as they were committed.
    pub(crate) fn recovered(dir: PathBuf, options: TopicOptions, entry: PartitionEntry) -> Self {
        let PartitionEntry { end, segments: list } = entry;
        let (buffer, files, condemned) = (Vec::new(), Vec::new(), Vec::new());
        Self { dir, options, list, end, buffer, files, condemned }
    }

    pub(crate) fn list(&self) -> &[Segment] {
        &self.list
    }

    /// The offset of the next record.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn path(&self, base: u64) -> PathBuf {
        segment_path(&self.dir, base)
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
        let count = self.list.windows(2).take_while(|pair| pair[1].base <= offset).count();
        self.drop_first(count);
    }

    /// Drops what the options don't keep.
    pub(crate) fn retain(&mut self) {
        if let Retention::Bytes(keep) = self.options.retention {
            self.drop_first(surplus(&self.list, keep));
        }
    }

    /// What a commit needs to know. Everything must have been flushed.
    pub(crate) fn freeze(&self) -> Frozen {
        let bytes = |base| self.find(base).map(|i| self.list[i].bytes);
        let changed = |file: &&SegmentFile| bytes(file.base) != Some(file.synced_bytes);
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
            if let Ok(i) = self.files.binary_search_by_key(&segment.base, |file| file.base) {
                self.files[i].synced_bytes = segment.bytes;
                self.files[i].named = true;
            }
        }
        let active = self.list.last().map(|s| s.base);
        let list = &self.list;
        self.files.retain(|file| {
            let segment = list.iter().find(|s| s.base == file.base);
            active == Some(file.base) || segment.map(|s| s.bytes) != Some(file.synced_bytes)
        });
    }

    /// Notes that the files of dropped segments are gone.
    pub(crate) fn removed(&mut self, bases: &[u64]) {
        self.condemned.retain(|base| !bases.contains(base));
    }

    /// Makes sure that the last segment has a file that is open and room for a frame.
    fn prepare(&mut self, frame_bytes: u64) -> Result<(), Error> {
        let last = self.list.last().copied().filter(|last| {
            // A segment without a record can't be followed: both would have the same base offset.
            last.bytes + frame_bytes <= self.options.segment_bytes || last.base == self.end
        });
        let Some(last) = last else {
            self.flush()?;
            let segment = Segment { base: self.end, bytes: 0 };
            self.open(File::options().append(true).create_new(true), segment, false)?;
            self.list.push(segment);
            return Ok(());
        };
        if self.files.last().is_none_or(|file| file.base != last.base) {
            self.open(File::options().append(true), last, true)?;
        }
        Ok(())
    }

    fn open(&mut self, options: &OpenOptions, segment: Segment, named: bool) -> Result<(), Error> {
        let Segment { base, bytes: synced_bytes } = segment;
        let path = self.path(base);
        let file = Arc::new(options.open(&path).map_err(Error::io(&path, "open"))?);
        self.files.push(SegmentFile { base, path, file, synced_bytes, named });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let SegmentFile { path, file, .. } =
            self.files.last().expect("the last segment's file is open once something is appended");
        let mut file: &File = file;
        file.write_all(bytes).map_err(Error::io(path, "append to"))
    }

    fn drop_first(&mut self, count: usize) {
        let dropped: Vec<u64> = self.list.drain(..count).map(|s| s.base).collect();
        self.files.retain(|file| !dropped.contains(&file.base));
        self.condemned.extend(dropped);
    }

    fn find(&self, base: u64) -> Option<usize> {
        self.list.binary_search_by_key(&base, |s| s.base).ok()
    }

    /// Whether `path` is one of the segments.
    pub(crate) fn contains(&self, path: &Path) -> bool {
        self.list.iter().any(|s| self.path(s.base) == path)
    }

    #[cfg(test)]
    pub(crate) fn replace_file(&mut self, file: File) {
        self.files.last_mut().expect("something was appended").file = Arc::new(file);
    }
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
    use super::*;

    #[test]
    fn retention_by_bytes_keeps_at_least_the_bytes_and_the_last_segment() {
        let segments = [10, 20, 30].map(|bytes| Segment { base: bytes, bytes });
        for (keep, gone) in [(0, 2), (30, 2), (31, 1), (50, 1), (51, 0), (100, 0)] {
            assert_eq!(surplus(&segments, keep), gone, "keep {keep}");
        }
        assert_eq!(surplus(&[], 0), 0);
    }
}
