//! One partition that is being written, and what can be done with it.
//!
//! Invariant: offsets are given out without a gap, in the order of the frames; after a failed write
//! the partition takes nothing more, so nothing half-written is ever committed.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::commit::Part;
use crate::frame::{self, Body, Frame, MAX_PAYLOAD_BYTES, Seal};
use crate::locking::DirLock;
use crate::manifest::PartitionEntry;
use crate::position::Extent;
use crate::reader::{Located, Source};
use crate::segments::Segments;
use crate::tail::Tail;
use crate::topic::TopicOptions;
use crate::{Error, Position, Reader, Records, disk};

/// Frames above this size are split, in bytes.
const FRAME_BYTES: usize = 4 << 20;

/// A handle on one partition of an open log; clones are the same partition.
#[derive(Debug, Clone)]
pub struct Partition(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    topic: String,
    index: u32,
    state: Mutex<State>,
    /// Whoever can append has the directory, even when the log itself was dropped.
    _lock: Arc<DirLock>,
}

#[derive(Debug)]
struct State {
    segments: Segments,
    tail: Tail,
    /// Why nothing more is taken.
    failure: Option<String>,
}

impl Partition {
    /// A partition as it was committed, in the directory `dir`.
    pub(crate) fn recovered(
        (topic, index): (&str, u32),
        dir: PathBuf,
        options: TopicOptions,
        tail_bytes: usize,
        entry: PartitionEntry,
        lock: Arc<DirLock>,
    ) -> Self {
        let segments = Segments::recovered(dir, options, entry);
        let state = State { segments, tail: Tail::new(tail_bytes), failure: None };
        let (topic, state) = (topic.to_owned(), Mutex::new(state));
        Self(Arc::new(Shared { topic, index, state, _lock: lock }))
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
        self.lock().segments.end()
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
            let first = state.segments.end();
            for (run, (seal, range)) in runs.into_iter().zip(seals) {
                let body = Body::Records(run);
                let frame = Frame { base_offset: state.segments.end(), epoch, producer, body };
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
        let frame = Frame { base_offset: state.segments.end(), epoch, producer, body };
        self.write(&mut state, &mut bytes, seal, frame)
    }

    /// Drops whole segments of which every record is below `offset`, never the last segment. The
    /// files go away after the next commit, so that until then a crash finds them again.
    pub fn delete_before(&self, offset: u64) {
        let mut state = self.lock();
        state.segments.drop_before(offset);
        state.trim_tail();
    }

    /// Says where those stand who must not miss anything: what comes from `read` on is still to be
    /// read, and with none there is nobody. Retention drops only what lies before, and nothing at
    /// all before this was called once; so a process that does not know the readers drops nothing.
    ///
    /// To be called with positions of the last finished commit, at which a crash begins anew.
    pub fn release(&self, read: Option<Position>) {
        self.lock().segments.released = read.map_or(u64::MAX, |position| position.segment);
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
        let Some(limit) = self.extent(&state).settle(position)? else {
            state.tail.follow();
            return Ok(Located::End);
        };
        let recent = state.tail.at(position.segment, position.byte);
        if let Some((frame, bytes)) = recent
            && frame.base_offset <= position.offset
        {
            state.tail.follow();
            return Ok(Located::Memory { frame, bytes });
        }
        if state.segments.list().last().is_some_and(|last| last.number() == position.segment) {
            self.flush(&mut state)?;
        }
        Ok(Located::File { path: state.segments.path(position.segment), limit })
    }

    /// Whether `path` is one of the segments.
    pub(crate) fn has_segment(&self, path: &Path) -> bool {
        self.lock().segments.contains(path)
    }

    pub(crate) fn set_options(&self, options: TopicOptions) {
        self.lock().segments.options = options;
    }

    /// What a commit needs to know, with everything flushed to the operating system.
    pub(crate) fn freeze(&self) -> Result<Part, Error> {
        let mut state = self.writable()?;
        self.flush(&mut state)?;
        state.segments.retain();
        state.trim_tail();
        Ok(Part { partition: self.clone(), frozen: state.segments.freeze() })
    }

    /// Notes that a part is committed and removes the files that no commit needs any more.
    pub(crate) fn committed(&self, part: &Part) {
        let condemned = &part.frozen.condemned;
        let paths: Vec<PathBuf> = {
            let mut state = self.lock();
            state.segments.committed(&part.frozen.entry);
            condemned.iter().map(|number| state.segments.path(*number)).collect()
        };
        let removed = |(number, path): (&u64, PathBuf)| match disk::remove(&path) {
            Ok(()) => Some(*number),
            Err(error) => {
                tracing::warn!("{error}; the next commit tries again");
                None
            }
        };
        let removed: Vec<u64> = condemned.iter().zip(paths).filter_map(removed).collect();
        self.lock().segments.removed(&removed);
    }

    fn write(
        &self,
        state: &mut State,
        bytes: &mut [u8],
        seal: Seal,
        frame: Frame,
    ) -> Result<(), Error> {
        seal.close(bytes, frame.base_offset);
        let written = state.segments.append(bytes, frame.end_offset());
        let at = state.guard(written)?;
        state.tail.push(at.number(), at.bytes, bytes.len(), frame);
        Ok(())
    }

    fn flush(&self, state: &mut State) -> Result<(), Error> {
        if let Some(reason) = &state.failure {
            return Err(self.poisoned(reason));
        }
        let flushed = state.segments.flush();
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
            segments: state.segments.list(),
            end: state.segments.end(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nothing panics while it holds a partition")
    }
}

impl State {
    /// Closes the partition when writing failed.
    fn guard<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            self.failure = Some(error.to_string());
        }
        result
    }

    /// Forgets the frames of segments that were dropped.
    fn trim_tail(&mut self) {
        if let Some(first) = self.segments.list().first() {
            self.tail.drop_before(first.number());
        }
    }
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::segments::WRITE_BUFFER_BYTES;
    use crate::{Log, Options, TopicOptions};

    fn record(value: &[u8]) -> Records {
        let mut records = Records { timestamps: vec![1], clocks: vec![0], ..Records::default() };
        records.keys.push_null();
        records.values.push(value);
        records
    }

    #[test]
    fn after_a_full_disk_nothing_more_is_taken_and_the_last_commit_holds() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), Options::default()).unwrap();
        log.create_topic("t", 1, TopicOptions::default()).unwrap();
        let partition = log.partition("t", 0).unwrap();
        partition.append(1, 0, record(b"kept")).unwrap();
        log.commit(log.freeze().unwrap(), 1, serde_json::Value::Null).unwrap();

        let full = File::options().write(true).open("/dev/full").unwrap();
        partition.lock().segments.replace_file(full);
        let error = partition.append(2, 0, record(&[0; WRITE_BUFFER_BYTES])).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(error.to_string().contains("00.log: No space left"), "{error}");
        assert!(error.to_string().contains("free some space"), "{error}");
        let again = partition.append(2, 0, record(b"more")).unwrap_err();
        assert!(matches!(again, Error::Poisoned { .. }), "{again}");
        assert!(matches!(log.freeze(), Err(Error::Poisoned { .. })));

        drop((log, partition));
        let log = Log::open(dir.path(), Options::default()).unwrap();
        assert_eq!(log.partition("t", 0).unwrap().end_offset(), 1);
    }
}
