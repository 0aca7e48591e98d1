//! One partition that is being written.
//!
//! Invariant: `segments` describes every byte that was appended, in the files or still in the write
//! buffer; after a failed write that is no longer known, so the partition refuses everything.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::commit::Part;
use crate::frame::{self, Body, Frame, MAX_PAYLOAD_BYTES, Seal};
use crate::manifest::{PartitionEntry, Segment, segment_path};
use crate::position::Extent;
use crate::reader::{Located, Source};
use crate::tail::Tail;
use crate::topic::{Retention, TopicOptions};
use crate::{Error, Position, Reader, Records};

/// Frames above this size are split, in bytes.
const FRAME_BYTES: usize = 4 << 20;

/// How much is collected before it goes to the operating system, in bytes.
const WRITE_BUFFER_BYTES: usize = 256 << 10;

/// A handle on one partition of an open log; clones are the same partition.
#[derive(Debug, Clone)]
pub struct Partition(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    topic: String,
    index: u32,
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    options: TopicOptions,
    /// Ascending; the last takes the appends. Counts what is in `buffer` too.
    segments: Vec<Segment>,
    /// The offset of the next record.
    end: u64,
    /// What was appended to the last segment and did not go to its file yet.
    buffer: Vec<u8>,
    /// The files written to in this run that a commit may still have to sync, ascending.
    files: Vec<SegmentFile>,
    /// Segments dropped but perhaps named by the commit in force.
    condemned: Vec<u64>,
    tail: Tail,
    /// Why nothing more is taken.
    failure: Option<String>,
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

impl Partition {
    /// A partition as it was committed, in the directory `dir`.
    pub(crate) fn recovered(
        (topic, index): (&str, u32),
        dir: PathBuf,
        options: TopicOptions,
        tail_bytes: usize,
        entry: PartitionEntry,
    ) -> Self {
        let state = State {
            options,
            segments: entry.segments,
            end: entry.end,
            buffer: Vec::new(),
            files: Vec::new(),
            condemned: Vec::new(),
            tail: Tail::new(tail_bytes),
            failure: None,
        };
        Self(Arc::new(Shared { topic: topic.to_owned(), index, dir, state: Mutex::new(state) }))
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// The number of the partition, from 0.
    pub fn index(&self) -> u32 {
        self.0.index
    }

    /// The offset of the first record that is left; the end offset when there is none.
    pub fn start_offset(&self) -> u64 {
        let state = self.lock();
        self.extent(&state).start()
    }

    /// The offset that the next record gets.
    pub fn end_offset(&self) -> u64 {
        self.lock().end
    }

    /// Appends records and returns the offset of the first of them; the others follow it.
    ///
    /// They are at once seen by readers of this process, and durable with the commit of the next
    /// snapshot. Without records nothing is written.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::RecordTooLarge`] before anything is written. [`Error::Io`]
    /// closes the partition: afterwards [`Error::Poisoned`].
    pub fn append(&self, epoch: u64, producer: u32, records: Records) -> Result<u64, Error> {
        if let Err(broken) = records.check() {
            return Err(Error::Malformed {
                topic: self.0.topic.clone(),
                partition: self.0.index,
                reason: broken.0,
            });
        }
        if records.is_empty() {
            return Ok(self.end_offset());
        }
        let runs = records.split(FRAME_BYTES);
        if let Some(largest) = runs.iter().map(Records::size_bytes).max()
            && largest > MAX_PAYLOAD_BYTES - 20
        {
            return Err(Error::RecordTooLarge {
                topic: self.0.topic.clone(),
                partition: self.0.index,
                bytes: largest as u64,
                max: MAX_PAYLOAD_BYTES as u64 - 20,
            });
        }
        with_scratch(|bytes| {
            let seals: Vec<_> = runs
                .iter()
                .map(|run| {
                    let start = bytes.len();
                    let seal = frame::encode_records(bytes, epoch, producer, run);
                    (seal, start..bytes.len())
                })
                .collect();
            let mut state = self.writable()?;
            let first = state.end;
            for (run, (seal, range)) in runs.into_iter().zip(seals) {
                let body = Body::Records(run);
                let frame = Frame { base_offset: state.end, epoch, producer, body };
                self.write(&mut state, &mut bytes[range], seal, frame)?;
            }
            Ok(first)
        })
    }

    /// Appends what a producer says about event time: no record of it to come is older than
    /// `watermark` (ms since the Unix epoch), and whether it is idle. Takes no offset.
    ///
    /// # Errors
    /// [`Error::Io`] closes the partition: afterwards [`Error::Poisoned`].
    pub fn append_watermark(
        &self,
        epoch: u64,
        producer: u32,
        watermark: i64,
        idle: bool,
    ) -> Result<(), Error> {
        let mut bytes = Vec::new();
        let seal = frame::encode_watermark(&mut bytes, epoch, producer, watermark, idle);
        let mut state = self.writable()?;
        let body = Body::Watermark { watermark, idle };
        let frame = Frame { base_offset: state.end, epoch, producer, body };
        self.write(&mut state, &mut bytes, seal, frame)
    }

    /// Drops whole segments of which every record is below `offset`, never the last segment. The
    /// files go away after the next commit, so that until then a crash finds them again.
    pub fn delete_before(&self, offset: u64) {
        let mut state = self.lock();
        let count = state.segments.windows(2).take_while(|pair| pair[1].base <= offset).count();
        state.drop_segments(count);
    }

    /// A reader from `position` on, which sees what is appended at once, committed or not. A
    /// position that does not fit is an error of the first [`Reader::next`].
    pub fn reader(&self, position: Position) -> Reader {
        Reader::new(Source::Live(self.clone()), position)
    }

    /// The position from which a reader gets the record at `offset`, from the start offset to the
    /// end offset. Cheap; the reader's first step may have to walk a segment.
    ///
    /// # Errors
    /// [`Error::Dropped`] below the start offset, [`Error::ForeignPosition`] above the end offset.
    pub fn position_of(&self, offset: u64) -> Result<Position, Error> {
        let state = self.lock();
        let position = self.extent(&state).segment_of(offset)?;
        Ok(match state.tail.find(offset) {
            Some((segment, byte)) => Position { offset, segment, byte },
            None => position,
        })
    }

    /// Where the frame of a reader is: in memory, in a file, or not there yet.
    pub(crate) fn locate(&self, position: &mut Position) -> Result<Located, Error> {
        let mut state = self.lock();
        let Some(limit) = self.extent(&state).settle(position)? else { return Ok(Located::End) };
        if let Some((frame, bytes)) = state.tail.at(position.segment, position.byte) {
            return Ok(Located::Memory { frame, bytes });
        }
        if state.segments.last().is_some_and(|last| last.base == position.segment) {
            self.flush(&mut state)?;
        }
        Ok(Located::File { path: segment_path(&self.0.dir, position.segment), limit })
    }

    pub(crate) fn set_options(&self, options: TopicOptions) {
        self.lock().options = options;
    }

    /// What a commit needs to know, with everything flushed to the operating system.
    pub(crate) fn freeze(&self) -> Result<Part, Error> {
        let mut state = self.writable()?;
        self.flush(&mut state)?;
        if let Retention::Bytes(keep) = state.options.retention {
            let count = surplus(&state.segments, keep);
            state.drop_segments(count);
        }
        let changed = |f: &&SegmentFile| state.bytes_of(f.base) != Some(f.synced_bytes);
        Ok(Part {
            changed: state.files.iter().filter(changed).cloned().collect(),
            new_names: state.files.iter().any(|f| !f.named).then(|| self.0.dir.clone()),
            condemned: state.condemned.clone(),
            entry: PartitionEntry { end: state.end, segments: state.segments.clone() },
            partition: self.clone(),
        })
    }

    /// Notes that a part is committed and removes the files that no commit needs any more.
    pub(crate) fn committed(&self, part: &Part) {
        let gone = |base: &u64| {
            fs::remove_file(segment_path(&self.0.dir, *base))
                .inspect_err(|e| tracing::warn!(topic = self.0.topic, base, "not removed: {e}"))
                .is_ok()
        };
        let mut state = self.lock();
        let due: Vec<u64> =
            part.condemned.iter().copied().filter(|b| state.condemned.contains(b)).collect();
        drop(state);
        let removed: Vec<u64> = due.into_iter().filter(gone).collect();
        state = self.lock();
        state.condemned.retain(|base| !removed.contains(base));
        for segment in &part.entry.segments {
            if let Ok(i) = state.files.binary_search_by_key(&segment.base, |f| f.base) {
                state.files[i].synced_bytes = segment.bytes;
                state.files[i].named = true;
            }
        }
        let State { segments, files, .. } = &mut *state;
        let active = segments.last().map(|s| s.base);
        files.retain(|file| {
            let length = segments.iter().find(|s| s.base == file.base).map(|s| s.bytes);
            active == Some(file.base) || length != Some(file.synced_bytes)
        });
    }

    fn write(
        &self,
        state: &mut State,
        bytes: &mut [u8],
        seal: Seal,
        frame: Frame,
    ) -> Result<(), Error> {
        seal.close(bytes, frame.base_offset);
        let written = self.write_bytes(state, bytes);
        let at = state.guard(written)?;
        state.end = frame.end_offset();
        state.tail.push(at.base, at.bytes, bytes.len(), frame);
        Ok(())
    }

    /// Appends to the buffer or the file; returns the segment as it was before.
    fn write_bytes(&self, state: &mut State, bytes: &[u8]) -> Result<Segment, Error> {
        let room = state.segments.last().is_some_and(|last| {
            // A segment without a record can't be followed: both would have the same base offset.
            last.bytes + bytes.len() as u64 <= state.options.segment_bytes
                || last.bytes == 0
                || last.base == state.end
        });
        let opened = state.files.last().map(|f| f.base) == state.segments.last().map(|s| s.base);
        if !room {
            state.flush()?;
            let path = segment_path(&self.0.dir, state.end);
            let mut options = File::options();
            options.append(true).create_new(true);
            state.open(path, &options, Segment { base: state.end, bytes: 0 }, false)?;
            state.segments.push(Segment { base: state.end, bytes: 0 });
        } else if let Some(last) = state.segments.last().copied()
            && !opened
        {
            let path = segment_path(&self.0.dir, last.base);
            state.open(path, File::options().append(true), last, true)?;
        }
        if state.buffer.len() + bytes.len() > WRITE_BUFFER_BYTES {
            state.flush()?;
        }
        if bytes.len() >= WRITE_BUFFER_BYTES {
            state.write_through(bytes)?;
        } else {
            state.buffer.extend_from_slice(bytes);
        }
        let last = state.segments.last_mut().expect("made above when there was none");
        let before = *last;
        last.bytes += bytes.len() as u64;
        Ok(before)
    }

    fn flush(&self, state: &mut State) -> Result<(), Error> {
        if let Some(reason) = &state.failure {
            return Err(self.poisoned(reason));
        }
        let flushed = state.flush();
        state.guard(flushed)
    }

    fn writable(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.lock();
        match &state.failure {
            Some(reason) => Err(self.poisoned(reason)),
            None => Ok(state),
        }
    }

    fn poisoned(&self, reason: &str) -> Error {
        Error::Poisoned {
            topic: self.0.topic.clone(),
            partition: self.0.index,
            reason: reason.to_owned(),
        }
    }

    fn extent<'a>(&'a self, state: &'a State) -> Extent<'a> {
        Extent {
            topic: &self.0.topic,
            partition: self.0.index,
            segments: &state.segments,
            end: state.end,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nothing panics while it holds a partition")
    }
}

impl State {
    fn bytes_of(&self, base: u64) -> Option<u64> {
        self.segments.binary_search_by_key(&base, |s| s.base).ok().map(|i| self.segments[i].bytes)
    }

    fn open(
        &mut self,
        path: PathBuf,
        options: &fs::OpenOptions,
        segment: Segment,
        named: bool,
    ) -> Result<(), Error> {
        let file = Arc::new(options.open(&path).map_err(Error::io(&path, "open"))?);
        let Segment { base, bytes: synced_bytes } = segment;
        self.files.push(SegmentFile { base, path, file, synced_bytes, named });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        self.write_through(&buffer)?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn write_through(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let SegmentFile { path, file, .. } =
            self.files.last().expect("the last segment's file is open once something is appended");
        let mut file: &File = file;
        file.write_all(bytes).map_err(Error::io(path, "append to"))
    }

    /// Closes the partition when writing failed.
    fn guard<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            self.failure = Some(error.to_string());
        }
        result
    }

    fn drop_segments(&mut self, count: usize) {
        let dropped: Vec<u64> = self.segments.drain(..count).map(|s| s.base).collect();
        self.files.retain(|file| !dropped.contains(&file.base));
        self.condemned.extend(dropped);
        if let Some(first) = self.segments.first() {
            self.tail.drop_before(first.base);
        }
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

/// Lends a buffer of this thread, empty, so that appending does not allocate each time.
fn with_scratch<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let mut bytes = SCRATCH.take();
    bytes.clear();
    let result = work(&mut bytes);
    if bytes.capacity() <= 2 * FRAME_BYTES {
        SCRATCH.set(bytes);
    }
    result
}
