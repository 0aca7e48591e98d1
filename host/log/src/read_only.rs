//! Reading what another process commits.
//!
//! Invariant: nothing beyond the commit last read is seen, and nothing in the directory is changed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use crate::manifest::{Manifest, PartitionEntry, segment_path};
use crate::position::Extent;
use crate::reader::{Located, Source};
use crate::{Error, Position, Reader, topic};

/// The committed state of a log, for reading. Clones share what [`ReadOnlyLog::refresh`] reads.
#[derive(Debug, Clone)]
pub struct ReadOnlyLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    manifest: RwLock<Arc<Manifest>>,
}

impl ReadOnlyLog {
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let manifest = RwLock::new(Arc::new(read(dir)?));
        Ok(Self(Arc::new(Inner { dir: dir.to_owned(), manifest })))
    }

    /// Reads the commit again and says whether it is another one. Readers then see what was added.
    ///
    /// # Errors
    /// [`Error::NoLog`], [`Error::Corrupt`], [`Error::Io`]; then the old commit stays.
    pub fn refresh(&self) -> Result<bool, Error> {
        let manifest = Arc::new(read(&self.0.dir)?);
        let mut current = self.0.manifest.write().expect(UNBROKEN);
        // Two refreshes may finish in another order than they began.
        let news = manifest.epoch > current.epoch;
        if news {
            *current = manifest;
        }
        Ok(news)
    }

    /// The epoch of the commit.
    pub fn epoch(&self) -> u64 {
        self.manifest().epoch
    }

    /// What the application committed along with it.
    pub fn payload(&self) -> serde_json::Value {
        self.manifest().payload.clone()
    }

    /// The names of the topics, sorted.
    pub fn topics(&self) -> Vec<String> {
        self.manifest().topics.keys().cloned().collect()
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`].
    pub fn partitions(&self, topic: &str) -> Result<u32, Error> {
        let manifest = self.manifest();
        let unknown = || topic::unknown(topic, manifest.topics.keys());
        manifest.topics.get(topic).map(|t| t.partitions.len() as u32).ok_or_else(unknown)
    }

    /// The offset of the first record that is left in a partition.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`], [`Error::NoSuchPartition`].
    pub fn start_offset(&self, topic: &str, partition: u32) -> Result<u64, Error> {
        self.with_entry(topic, partition, |entry| Ok(entry.start()))
    }

    /// The offset that follows the last committed record of a partition.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`], [`Error::NoSuchPartition`].
    pub fn end_offset(&self, topic: &str, partition: u32) -> Result<u64, Error> {
        self.with_entry(topic, partition, |entry| Ok(entry.end))
    }

    /// The position from which a reader gets the record at `offset`.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`], [`Error::NoSuchPartition`], [`Error::Dropped`] below the start
    /// offset, [`Error::ForeignPosition`] above the end offset.
    pub fn position_of(&self, topic: &str, partition: u32, offset: u64) -> Result<Position, Error> {
        self.with_entry(topic, partition, |e| extent(topic, partition, e).segment_of(offset))
    }

    /// A reader of what is committed in a partition, from `position` on.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`], [`Error::NoSuchPartition`].
    pub fn reader(&self, topic: &str, partition: u32, position: Position) -> Result<Reader, Error> {
        self.with_entry(topic, partition, |_| Ok(()))?;
        let source = CommittedPartition { log: self.clone(), topic: topic.to_owned(), partition };
        Ok(Reader::new(Source::Committed(source), position))
    }

    fn manifest(&self) -> Arc<Manifest> {
        self.0.manifest.read().expect(UNBROKEN).clone()
    }

    fn with_entry<T>(
        &self,
        topic: &str,
        partition: u32,
        get: impl FnOnce(&PartitionEntry) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let manifest = self.manifest();
        let Some(entry) = manifest.topics.get(topic) else {
            return Err(topic::unknown(topic, manifest.topics.keys()));
        };
        let (topic, count) = (topic.to_owned(), entry.partitions.len() as u32);
        match entry.partitions.get(partition as usize) {
            Some(entry) => get(entry),
            None => Err(Error::NoSuchPartition { topic, partition, count }),
        }
    }
}

/// A partition as far as it is committed.
#[derive(Debug)]
pub(crate) struct CommittedPartition {
    log: ReadOnlyLog,
    topic: String,
    partition: u32,
}

impl CommittedPartition {
    pub(crate) fn locate(&self, position: &mut Position) -> Result<Located, Error> {
        self.log.with_entry(&self.topic, self.partition, |entry| {
            Ok(match extent(&self.topic, self.partition, entry).settle(position)? {
                Some(limit) => Located::File { path: self.path(position.segment), limit },
                None => Located::End,
            })
        })
    }

    /// Whether a newer commit, which is then read, has no segment `path`.
    pub(crate) fn has_dropped(&self, path: &Path) -> Result<bool, Error> {
        self.log.refresh()?;
        self.log.with_entry(&self.topic, self.partition, |entry| {
            Ok(!entry.segments.iter().any(|segment| self.path(segment.number()) == path))
        })
    }

    fn path(&self, segment: u64) -> PathBuf {
        let dir = topic::partition_dir(&self.log.0.dir, &self.topic, self.partition);
        segment_path(&dir, segment)
    }
}

fn extent<'a>(topic: &'a str, partition: u32, entry: &'a PartitionEntry) -> Extent<'a> {
    Extent { topic, partition, segments: &entry.segments, end: entry.end }
}

fn read(dir: &Path) -> Result<Manifest, Error> {
    Manifest::read(dir)?.ok_or_else(|| Error::NoLog { dir: dir.to_owned() })
}

const UNBROKEN: &str = "nothing panics while it holds the commit";
