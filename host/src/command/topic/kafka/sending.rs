//! Writing into a topic of Kafka. Invariant: what was pushed since the last commit becomes visible
//! as a whole, or not at all.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use wasmill_kafka::{Admin, CommitError, PartitionOffsets, Producer, Record, TopicSpec};

use super::{Cluster, TIMEOUT};
use crate::command::topic::Turns;
use crate::command::topic::appender::Header;

/// librdkafka's setting for how long brokers leave a transaction open that nobody ends.
const TRANSACTION_TIMEOUT: &str = "transaction.timeout.ms";
/// How long a transaction may take, besides the time that its bytes take.
const LEAST: Duration = Duration::from_secs(60);
/// The most that brokers allow by default (`transaction.max.timeout.ms`).
const MOST: Duration = Duration::from_secs(900);
/// How fast bytes are sent at least, per second.
const SLOWEST_BYTES: u64 = 1 << 20;
/// How long it may take until readers see what is committed.
const SHOWING: Duration = Duration::from_secs(2);
/// How often it is looked whether they do.
const LOOK: Duration = Duration::from_millis(10);

/// A topic that is to be written: it is there, or it is to be made.
#[derive(Debug)]
pub struct Target {
    cluster: Cluster,
    admin: Admin,
    topic: String,
    partitions: u32,
    exists: bool,
}

impl Target {
    /// Looks at a topic, which must exist unless `partitions` says how many it is to have.
    ///
    /// # Errors
    /// When there is no such topic, naming the nearest; when it has another number of partitions; when
    /// Kafka can't be asked.
    pub fn find(cluster: Cluster, topic: &str, partitions: Option<u32>) -> anyhow::Result<Self> {
        let admin = cluster.connect()?;
        let found = admin.partitions(topic)?;
        let count = match (found, partitions) {
            (Some(found), Some(asked)) if found != asked => bail!(
                "topic {topic:?} has {found} partitions, {asked} were asked for: leave --partitions \
                 out to write into it as it is"
            ),
            (Some(0), _) => bail!("topic {topic:?} has no partitions at the moment: try again"),
            (Some(found), _) => found,
            (None, Some(asked)) => asked,
            (None, None) => {
                let advice = "--partitions N creates it with N partitions";
                return Err(cluster.unknown(&admin, topic, advice)?);
            }
        };
        let (topic, exists) = (topic.to_owned(), found.is_some());
        Ok(Self { cluster, admin, topic, partitions: count, exists })
    }

    /// Makes the topic where it does not exist, and begins to write. One transaction is to have at
    /// most `bytes`.
    ///
    /// # Errors
    /// When the topic can't be made, or no transaction can be had.
    pub fn open(self, bytes: u64) -> anyhow::Result<Sender> {
        if !self.exists {
            self.admin.ensure_topics(&[TopicSpec {
                name: self.topic.clone(),
                partitions: Some(self.partitions),
                replication: self.cluster.replication,
                ..TopicSpec::default()
            }])?;
        }
        let mut settings = self.cluster.settings.clone();
        let time = transaction_timeout(bytes);
        let given = [&settings.properties, &settings.producer];
        if !given.iter().any(|settings| settings.contains_key(TRANSACTION_TIMEOUT)) {
            let time = time.as_millis().to_string();
            settings.producer.insert(TRANSACTION_TIMEOUT.to_owned(), time);
        }
        let id = format!("{}-topic-write-{:016x}", self.cluster.group, random());
        let mut producer =
            Producer::connect(&settings, &id, TIMEOUT).context("no transaction can be had")?;
        producer.set_timeout(time);
        let topic = producer.topic(&self.topic)?;
        Ok(Sender {
            admin: self.admin,
            producer,
            name: self.topic,
            topic,
            partitions: self.partitions,
            turns: Turns::default(),
            records: 0,
            committed: 0,
            undecided: false,
            interrupted: interrupted(),
        })
    }
}

/// A topic that is being written.
#[derive(Debug)]
pub struct Sender {
    admin: Admin,
    producer: Producer,
    name: String,
    topic: wasmill_kafka::Topic,
    partitions: u32,
    turns: Turns,
    /// How many records were pushed.
    records: u64,
    /// How many of them are committed.
    committed: u64,
    /// Whether it is not known if the others are.
    undecided: bool,
    interrupted: Arc<AtomicBool>,
}

impl Sender {
    /// How many partitions the topic has.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// How many records were pushed.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Sends one record to the partition of its key, or to the next one when it has none.
    /// `timestamp_ms` is in ms since the Unix epoch.
    ///
    /// # Errors
    /// When it can't be sent, as [`check_time`] says of its time, or the command is interrupted:
    /// [`Sender::give_up`] is to follow.
    pub fn push(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp_ms: i64,
        headers: &[Header],
    ) -> anyhow::Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        check_time(timestamp_ms)?;
        self.producer.begin().map_err(explained)?;
        let partition = self.turns.partition(key, self.partitions);
        let (topic, timestamp) = (self.topic, Some(timestamp_ms));
        let record = Record { topic, partition, key, value, timestamp };
        let headers = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_deref()));
        self.records += 1;
        let Err(error) = self.producer.send(record, headers) else { return Ok(()) };
        // When a record before was refused, its reason is the one that counts.
        Err(self.producer.drain().err().map_or_else(|| error.into(), explained))
    }

    /// Commits what was pushed since the last commit. When it returns others see that, unless an open
    /// transaction of someone else is in the way.
    ///
    /// # Errors
    /// Why it was not committed, or that it is not known: [`Sender::give_up`] is to follow.
    pub fn commit(&mut self) -> anyhow::Result<()> {
        if !self.producer.is_open() {
            return Ok(());
        }
        self.producer.drain().map_err(explained)?;
        let ends = self.ends(|offsets| offsets.end);
        let mut result = self.producer.commit_records();
        if let Err(CommitError::Undecided { .. }) = result {
            result = self.producer.resume();
        }
        match result {
            Ok(_) => {
                self.committed = self.records;
                self.await_shown(&ends);
                Ok(())
            }
            Err(CommitError::Undecided { why }) => {
                self.undecided = true;
                Err(anyhow!(
                    "whether the last records were written is not known: {why}. See with `wasmill \
                     topic read` before you write them again"
                ))
            }
            Err(error) => Err(explained(error)),
        }
    }

    /// Takes back what was pushed since the last commit, and adds to the error that made it necessary
    /// what was written. Where Kafka can't be reached, Kafka takes it back by itself after a while.
    pub fn give_up(&mut self, error: anyhow::Error) -> anyhow::Error {
        if self.undecided {
            return error;
        }
        self.producer.set_timeout(TIMEOUT);
        if let Err(error) = self.producer.abort() {
            tracing::debug!(%error, "Kafka will abort the transaction by itself");
        }
        error.context(match self.committed {
            0 => "nothing was written".to_owned(),
            records => format!("{records} records were written, and none after them"),
        })
    }

    /// An offset of each partition, as far as they can be had.
    fn ends(&self, which: impl Fn(PartitionOffsets) -> i64) -> Vec<Option<i64>> {
        let found = self.admin.survey_topic(&self.name).ok().flatten();
        let partitions = found.map_or_else(Vec::new, |found| found.partitions);
        partitions.into_iter().map(|offsets| offsets.map(&which)).collect()
    }

    /// Waits until readers see everything before these offsets: Kafka says that a commit is done
    /// before it is to be seen in every partition.
    fn await_shown(&self, ends: &[Option<i64>]) {
        let deadline = Instant::now() + SHOWING;
        while Instant::now() < deadline {
            let stable = self.ends(|offsets| offsets.stable);
            if ends.iter().zip(stable).all(|(end, stable)| stable >= *end) {
                return;
            }
            thread::sleep(LOOK);
        }
    }
}

/// Why nothing was committed, without what that means for a program.
fn explained(error: CommitError) -> anyhow::Error {
    match error {
        CommitError::Abortable { why } | CommitError::Undelivered { why } => anyhow!(why),
        other => other.into(),
    }
}

/// Whether Kafka can keep a time, in ms since the Unix epoch.
///
/// # Errors
/// When it can't, saying what to do.
pub fn check_time(timestamp_ms: i64) -> anyhow::Result<()> {
    match timestamp_ms {
        1.. => Ok(()),
        // librdkafka takes 0 for now.
        _ => bail!(
            "\"timestamp\" is {timestamp_ms}, but Kafka's times begin at 1, a ms after the start of \
             1970: write a later one, or leave it out for the time of writing"
        ),
    }
}

/// How long a transaction of so many bytes may take.
fn transaction_timeout(bytes: u64) -> Duration {
    (LEAST + Duration::from_secs(bytes / SLOWEST_BYTES)).min(MOST)
}

/// A number that no other process has.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Becomes true on Ctrl-C or SIGTERM, so that a transaction can be aborted and stands in nobody's
/// way; a second one ends the process at once.
fn interrupted() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::debug!(%error, "an interruption ends the process at once");
    }
    interrupted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_has_a_minute_and_what_its_bytes_take_up_to_what_brokers_allow() {
        assert_eq!(transaction_timeout(0), LEAST);
        assert_eq!(transaction_timeout(SLOWEST_BYTES * 30), LEAST + Duration::from_secs(30));
        assert_eq!(transaction_timeout(u64::MAX), MOST);
    }

    #[test]
    fn times_that_kafka_can_not_keep_are_refused() {
        check_time(1).unwrap();
        check_time(1_700_000_000_000).unwrap();
        for time in [0, -1, i64::MIN] {
            let said = check_time(time).unwrap_err().to_string();
            assert!(said.contains(&time.to_string()) && said.contains("leave it out"), "{said}");
        }
    }

    #[test]
    fn two_writers_have_two_numbers() {
        assert_ne!(random(), random());
    }
}
