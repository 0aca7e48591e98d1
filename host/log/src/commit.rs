//! Making a snapshot durable.
//!
//! Invariant: `COMMIT` is replaced only after everything it names is synced, and segments go away
//! only after a `COMMIT` that does not name them is in place.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{panic, thread};

use crate::log::Inner;
use crate::manifest::{Manifest, TopicEntry};
use crate::segments::{Frozen, SegmentFile};
use crate::topic::TopicOptions;
use crate::{Error, Partition, disk};

/// The most files that are synced at a time: the disk, not the processor, is waited for.
const SYNC_THREADS: usize = 8;

/// The state of a log at a barrier, to be committed or dropped.
#[derive(Debug)]
#[must_use = "nothing is durable before the snapshot is committed"]
pub struct Snapshot {
    pub(crate) log: Weak<Inner>,
    /// Ascends with each snapshot of a log.
    pub(crate) sequence: u64,
    pub(crate) topics: BTreeMap<String, (TopicOptions, Vec<Part>)>,
}

/// One partition in a snapshot.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) partition: Partition,
    pub(crate) frozen: Frozen,
}

impl Snapshot {
    /// How many bytes the log has in this snapshot.
    pub fn size_bytes(&self) -> u64 {
        self.parts().flat_map(|part| &part.frozen.entry.segments).map(|s| s.bytes).sum()
    }

    /// The end offset of a partition in this snapshot; none when there is no such partition.
    pub fn end_offset(&self, topic: &str, partition: u32) -> Option<u64> {
        let (_, parts) = self.topics.get(topic)?;
        parts.get(partition as usize).map(|part| part.frozen.entry.end)
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.topics.values().flat_map(|(_, parts)| parts)
    }

    /// Syncs everything the snapshot names.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        let files: Vec<&SegmentFile> = self.parts().flat_map(|part| &part.frozen.changed).collect();
        sync_files(&files)?;
        self.parts()
            .filter_map(|part| part.frozen.new_names.as_ref())
            .try_for_each(|d| disk::sync_dir(d))
    }

    pub(crate) fn manifest(&self, epoch: u64, payload: serde_json::Value) -> Manifest {
        let topic = |(name, (options, parts)): (&String, &(TopicOptions, Vec<Part>))| {
            let partitions = parts.iter().map(|part| part.frozen.entry.clone()).collect();
            (name.clone(), TopicEntry { options: *options, partitions })
        };
        Manifest::new(epoch, self.topics.iter().map(topic).collect(), payload)
    }
}

fn sync_files(files: &[&SegmentFile]) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            file.file.sync_data().map_err(Error::io(&file.path, "sync"))?;
        }
        Ok(())
    };
    let helpers = SYNC_THREADS.min(files.len()).saturating_sub(1);
    let Some(helpers) = NonZero::new(helpers) else { return work() };
    thread::scope(|scope| {
        let helpers: Vec<_> = (0..helpers.get()).map(|_| scope.spawn(work)).collect();
        let own = work();
        let join = |helper: thread::ScopedJoinHandle<'_, _>| {
            helper.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked))
        };
        helpers.into_iter().map(join).fold(own, Result::and)
    })
}
