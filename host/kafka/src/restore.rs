//! Reading a partition from an offset to what was its end. Invariant: transactions that were open at
//! the beginning are decided, one way or the other, before the reading ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::admin::Admin;
use crate::batch::Batch;
use crate::fetch::{Fetcher, Limit};
use crate::{Error, Waker};

/// How far a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The offset to read next.
    pub position: i64,
    /// The offset where it ends.
    pub end: i64,
    /// The bytes of keys and values that were read.
    pub bytes: u64,
}

/// What is to be restored.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: u32,
    /// The offset to begin with; none for the first that exists.
    pub from: Option<i64>,
    /// The group that access rules may ask for; it is never joined.
    pub group: &'a str,
    /// How long to wait when nothing comes, for instance for a transaction that is never decided.
    pub patience: Duration,
}

/// Reads every committed record from `source.from` to the end that the partition has at the
/// beginning, and returns the offset that comes after. `progress` is called after every batch.
///
/// The end is taken with transactions that are still open, so this waits until they are committed or
/// aborted: at most Kafka's `transaction.timeout.ms` when their producer is dead.
///
/// # Errors
/// What `each` returns; [`Error::OffsetGone`] when `from` is not there any more; [`Error::Request`]
/// and [`Error::Read`] when Kafka can't be read; [`Error::Interrupted`] once `stop` is set.
pub fn read_to_end<E: From<Error>>(
    admin: &Admin,
    source: &Source<'_>,
    stop: &Arc<AtomicBool>,
    mut progress: impl FnMut(Progress),
    mut each: impl FnMut(i64, Option<&[u8]>, Option<&[u8]>) -> Result<(), E>,
) -> Result<i64, E> {
    let Source { topic, partition, .. } = *source;
    let range = admin.offsets(topic, partition)?;
    let from = source.from.unwrap_or(range.start);
    if from < range.start || from > range.end {
        let range = Some((range.start, range.end));
        Err(Error::OffsetGone { topic: topic.to_owned(), partition, offset: from, range })?;
    }
    let mut now = Progress { position: from, end: range.end, bytes: 0 };
    if from == range.end {
        return Ok(from);
    }
    let waker = Waker::default();
    let fetcher = Fetcher::for_restore(admin.settings(), source.group, &waker)?;
    let mut reading = fetcher.assign(topic, partition, from)?;
    let mut batch = Batch::new(false);
    let mut last_read = Instant::now();
    let limit = Limit { records: 10_000, bytes: 4 << 20 };
    while now.position < range.end {
        if stop.load(Ordering::Relaxed) {
            Err(Error::Interrupted { what: format!("restoring from {topic}/{partition}") })?;
        }
        batch.clear();
        match reading.read(&mut batch, limit) {
            Ok(_) => {}
            Err(error) if error.is_retriable() => tracing::debug!(%error, "restoring"),
            Err(error) => return Err(error.into()),
        }
        for (i, offset) in batch.offsets.iter().enumerate() {
            // What was written after the beginning belongs to whoever reads next.
            if *offset < range.end {
                each(*offset, batch.keys.get(i), batch.values.get(i))?;
            }
        }
        let before = now.position;
        now.position = reading.position().min(range.end);
        now.bytes += batch.size_bytes() as u64;
        if now.position > before {
            last_read = Instant::now();
            progress(now);
        } else if last_read.elapsed() > source.patience {
            Err(Error::Read {
                topic: topic.to_owned(),
                partition,
                offset: now.position,
                why: format!(
                    "nothing came for {:?}, though there are records up to {}: the brokers can't \
                     be reached, or a transaction stays open",
                    source.patience, range.end
                ),
                retriable: true,
            })?;
        } else {
            fetcher.wait(Duration::from_millis(50));
        }
    }
    Ok(range.end)
}
