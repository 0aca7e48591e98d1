//! Reading topics as others do: what is committed, in the order of each partition.
//!
//! Invariant: [`everything`] returns what a partition has up to its end, and waits for transactions
//! that are still open there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::check::Progress;
use crate::input::PARTITIONS;

/// The topic that the pipeline writes.
pub const TOPIC: &str = "out";
/// How long it is waited for a topic.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long one wait for a record takes at most.
pub const PAUSE: Duration = Duration::from_millis(50);

/// A consumer of all partitions of a topic, from their beginnings, that is no member of any group.
///
/// Waits until all partitions have leaders.
///
/// # Errors
/// When librdkafka refuses, or there is no such topic for too long.
pub fn consumer(
    brokers: &str,
    topic: &str,
    partitions: u32,
    committed: bool,
) -> anyhow::Result<BaseConsumer> {
    let (consumer, start) = (client(brokers, committed)?, Instant::now());
    while !has_leaders(&consumer, topic, partitions) {
        ensure!(start.elapsed() < PATIENCE, "{topic} has not {partitions} partitions with leaders");
        std::thread::sleep(PAUSE);
    }
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition.cast_signed(), Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

fn has_leaders(client: &BaseConsumer, topic: &str, partitions: u32) -> bool {
    client.fetch_metadata(Some(topic), Duration::from_secs(5)).is_ok_and(|metadata| {
        let found = metadata.topics().iter().flat_map(|topic| topic.partitions());
        found.filter(|partition| partition.leader() >= 0).count() == partitions as usize
    })
}

/// A consumer of nothing yet.
///
/// # Errors
/// When librdkafka refuses.
pub fn client(brokers: &str, committed: bool) -> anyhow::Result<BaseConsumer> {
    let isolation = if committed { "read_committed" } else { "read_uncommitted" };
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "chaos-reads")
        .set("enable.auto.commit", "false")
        // With "error" a partition whose beginning could not be asked for would never be read.
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", isolation)
        .set("enable.partition.eof", "true")
        .set("socket.timeout.ms", "5000")
        .set("reconnect.backoff.max.ms", "500")
        .set("topic.metadata.refresh.interval.ms", "1000")
        .set("fetch.wait.max.ms", "50")
        .set("log_level", "0")
        .create()
        .context("a consumer can't be made")
}

/// Reads a topic of [`PARTITIONS`] up to where each partition ends once no transaction is open there.
///
/// # Errors
/// When that does not come within `patience`.
pub fn everything(
    brokers: &str,
    topic: &str,
    patience: Duration,
    mut each: impl FnMut(i32, i64, Option<&[u8]>),
) -> anyhow::Result<()> {
    let start = Instant::now();
    let consumer = consumer(brokers, topic, PARTITIONS, true)?;
    let (committed, uncommitted) = (client(brokers, true)?, client(brokers, false)?);
    for partition in 0..PARTITIONS.cast_signed() {
        loop {
            let end = |c: &BaseConsumer| {
                c.fetch_watermarks(topic, partition, Duration::from_secs(5)).map(|(_, end)| end)
            };
            if let (Ok(stable), Ok(end)) = (end(&committed), end(&uncommitted))
                && stable == end
            {
                break;
            }
            if start.elapsed() > patience {
                bail!("{topic}/{partition}: a transaction is still open after {patience:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let mut ended = BTreeSet::new();
    while ended.len() < PARTITIONS as usize {
        if start.elapsed() > patience {
            bail!("{topic} was not read to its end within {patience:?}");
        }
        match consumer.poll(PAUSE) {
            Some(Ok(m)) => each(m.partition(), m.offset(), m.payload()),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            Some(Err(_)) | None => {}
        }
    }
    Ok(())
}

/// A thread that reads along, for a run to know how far the pipeline is.
#[derive(Debug)]
pub struct Reader {
    stop: Arc<AtomicBool>,
    progress: Arc<Mutex<Progress>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts to read the pipeline's output.
    ///
    /// # Errors
    /// When librdkafka refuses.
    pub fn start(brokers: &str) -> anyhow::Result<Self> {
        let consumer = consumer(brokers, TOPIC, PARTITIONS, true)?;
        let (stop, progress) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Progress>>::default());
        let (stopped, into) = (stop.clone(), progress.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // Errors are of brokers that are gone; it goes on when they are back.
                if let Some(Ok(m)) = consumer.poll(PAUSE) {
                    into.lock().unwrap_or_else(PoisonError::into_inner).take(m.payload());
                }
            }
        });
        Ok(Self { stop, progress, thread: Some(thread) })
    }

    /// What was read so far.
    pub fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed.
            let _ = thread.join();
        }
    }
}
