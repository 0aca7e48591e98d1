//! The log as a whole: its topics, its epochs.
//!
//! Invariant: epochs and snapshots are committed in ascending order, and none after a failed one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use crate::commit::Part;
use crate::locking::DirLock;
use crate::manifest::{PartitionEntry, TopicEntry};
use crate::topic::{self, MAX_PARTITIONS, Topic, TopicOptions};
use crate::{Error, Partition, ReadOnlyLog, Snapshot, disk, recovery};

/// How a log is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How much of the most recent frames is kept in memory per partition, in bytes on disk.
    pub tail_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { tail_bytes: 4 << 20 }
    }
}

/// A log that is open for writing. Clones are the same log. When the last of them, of its partition
/// handles, readers and snapshots is dropped, it is closed, and what was not committed is gone.
#[derive(Debug, Clone)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    dir: PathBuf,
    options: Options,
    payload: serde_json::Value,
    topics: RwLock<BTreeMap<String, Topic>>,
    epoch: AtomicU64,
    snapshots: AtomicU64,
    turn: Mutex<Turn>,
    lock: Arc<DirLock>,
}

/// Which commits may come next.
#[derive(Debug, Default)]
struct Turn {
    /// The sequence number of the last snapshot committed.
    sequence: u64,
    /// The first failure.
    failed: Option<String>,
}

impl Log {
    /// Opens the data directory `dir`, which is created when it does not exist, as its last commit
    /// left it. What was written after that commit is removed.
    ///
    /// # Errors
    /// [`Error::Locked`] when it is open for writing already; [`Error::Corrupt`],
    /// [`Error::FormatVersion`], [`Error::CommitMissing`] when the commit can't be read, and
    /// [`Error::Lost`] when what it names is not there: then nothing is changed. [`Error::Io`].
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        let dir = dir.as_ref();
        disk::create_dir_durably(dir)?;
        let lock = Arc::new(DirLock::acquire(dir)?);
        let manifest = recovery::recover(dir)?;
        let recovered = |(name, entry): (String, TopicEntry)| {
            let partition = |(index, partition): (u32, PartitionEntry)| {
                let path = topic::partition_dir(dir, &name, index);
                let (options, tail) = (entry.options, options.tail_bytes);
                Partition::recovered((&name, index), path, options, tail, partition, lock.clone())
            };
            let partitions = (0..).zip(entry.partitions).map(partition).collect();
            (name.clone(), Topic { options: entry.options, partitions })
        };
        Ok(Self(Arc::new(Inner {
            dir: dir.to_owned(),
            options,
            payload: manifest.payload,
            topics: RwLock::new(manifest.topics.into_iter().map(recovered).collect()),
            epoch: AtomicU64::new(manifest.epoch),
            snapshots: AtomicU64::new(0),
            turn: Mutex::default(),
            lock,
        })))
    }

    /// Opens what is committed in `dir` for reading, while another process may be writing there.
    ///
    /// # Errors
    /// [`Error::NoLog`] when nothing was ever committed there, [`Error::Corrupt`],
    /// [`Error::FormatVersion`], [`Error::Io`].
    pub fn open_read_only(dir: impl AsRef<Path>) -> Result<ReadOnlyLog, Error> {
        ReadOnlyLog::open(dir.as_ref())
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The payload of the commit that the log was opened at; null for a new log.
    pub fn payload(&self) -> &serde_json::Value {
        &self.0.payload
    }

    /// The epoch of the last finished commit; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Acquire)
    }

    /// Makes sure that a topic exists and has these options. It is durable with the next commit.
    ///
    /// # Errors
    /// [`Error::TopicName`], [`Error::PartitionLimit`], [`Error::PartitionCount`] when it exists
    /// with another number of partitions, [`Error::Io`].
    pub fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        options: TopicOptions,
    ) -> Result<(), Error> {
        topic::check_name(name)?;
        if partitions == 0 || partitions > MAX_PARTITIONS {
            return Err(Error::PartitionLimit {
                topic: name.to_owned(),
                requested: partitions,
                max: MAX_PARTITIONS,
            });
        }
        let mut topics = self.0.topics.write().expect(UNBROKEN);
        if let Some(known) = topics.get_mut(name) {
            let existing = known.partitions.len() as u32;
            if existing != partitions {
                let topic = name.to_owned();
                return Err(Error::PartitionCount { topic, existing, requested: partitions });
            }
            known.options = options;
            known.partitions.iter().for_each(|partition| partition.set_options(options));
            return Ok(());
        }
        let create = |index: u32| {
            let dir = topic::partition_dir(&self.0.dir, name, index);
            disk::create_dir(&dir)?;
            let (tail, entry) = (self.0.options.tail_bytes, PartitionEntry::default());
            Ok(Partition::recovered((name, index), dir, options, tail, entry, self.0.lock.clone()))
        };
        let created = (0..partitions).map(create).collect::<Result<_, Error>>()?;
        let root = topic::root(&self.0.dir);
        disk::sync_dir(&root.join(name))?;
        disk::sync_dir(&root)?;
        disk::sync_dir(&self.0.dir)?;
        topics.insert(name.to_owned(), Topic { options, partitions: created });
        Ok(())
    }

    /// The names of the topics, sorted.
    pub fn topics(&self) -> Vec<String> {
        self.0.topics.read().expect(UNBROKEN).keys().cloned().collect()
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`].
    pub fn partitions(&self, topic: &str) -> Result<u32, Error> {
        self.with_topic(topic, |t| Ok(t.partitions.len() as u32))
    }

    /// The options of a topic.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`].
    pub fn topic_options(&self, topic: &str) -> Result<TopicOptions, Error> {
        self.with_topic(topic, |t| Ok(t.options))
    }

    /// The handle of a partition, to be kept by whoever appends or reads.
    ///
    /// # Errors
    /// [`Error::NoSuchTopic`], [`Error::NoSuchPartition`].
    pub fn partition(&self, topic: &str, partition: u32) -> Result<Partition, Error> {
        self.with_topic(topic, |t| {
            t.partitions.get(partition as usize).cloned().ok_or_else(|| Error::NoSuchPartition {
                topic: topic.to_owned(),
                partition,
                count: t.partitions.len() as u32,
            })
        })
    }

    /// Takes the state of all partitions, for [`Log::commit`]. To be called at a barrier where
    /// nobody appends: what is appended later is not part of the snapshot, and what is appended
    /// meanwhile is part of it or not, partition by partition. Does not wait for the disk.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when an append failed before, [`Error::Io`].
    pub fn freeze(&self) -> Result<Snapshot, Error> {
        let topics = self.0.topics.read().expect(UNBROKEN);
        let freeze = |(name, topic): (&String, &Topic)| {
            let parts = topic.partitions.iter().map(Partition::freeze);
            Ok((name.clone(), (topic.options, parts.collect::<Result<Vec<Part>, Error>>()?)))
        };
        Ok(Snapshot {
            log: Arc::downgrade(&self.0),
            sequence: self.0.snapshots.fetch_add(1, Ordering::Relaxed) + 1,
            topics: topics.iter().map(freeze).collect::<Result<_, Error>>()?,
        })
    }

    /// Makes a snapshot and a payload durable, as one. When this returns, the log opens again as it
    /// was at the snapshot, with this payload; until then, as it was before. Appending may go on.
    ///
    /// Snapshots are committed in the order they were taken, with ascending epochs. One may be
    /// dropped: the next has all of it.
    ///
    /// # Errors
    /// [`Error::CommitOrder`] before anything is done. After [`Error::Io`] it
    /// is open whether the commit is in force; further ones fail with [`Error::CommitFailed`].
    ///
    /// # Panics
    /// When the snapshot is of another log.
    pub fn commit(
        &self,
        snapshot: Snapshot,
        epoch: u64,
        payload: serde_json::Value,
    ) -> Result<(), Error> {
        assert!(
            snapshot.log.ptr_eq(&Arc::downgrade(&self.0)),
            "a snapshot is committed to the log it was taken of"
        );
        let mut turn = self.0.turn.lock().expect(UNBROKEN);
        if let Some(reason) = &turn.failed {
            return Err(Error::CommitFailed { reason: reason.clone() });
        }
        let committed = self.epoch();
        if epoch <= committed || snapshot.sequence <= turn.sequence {
            return Err(Error::CommitOrder { epoch, committed });
        }
        let manifest = snapshot.manifest(epoch, payload);
        if let Err(error) = snapshot.sync().and_then(|()| manifest.write(&self.0.dir)) {
            turn.failed = Some(error.to_string());
            return Err(error);
        }
        turn.sequence = snapshot.sequence;
        self.0.epoch.store(epoch, Ordering::Release);
        snapshot.parts().for_each(|part| part.partition.committed(part));
        Ok(())
    }

    fn with_topic<T>(
        &self,
        name: &str,
        get: impl FnOnce(&Topic) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let topics = self.0.topics.read().expect(UNBROKEN);
        topics.get(name).map_or_else(|| Err(topic::unknown(name, topics.keys())), get)
    }
}

const UNBROKEN: &str = "nothing panics while it holds the log";
