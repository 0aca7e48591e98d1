//! The broker of the benchmark, and what is in its topics.
//!
//! Invariant: what is counted in a topic is what a reader that waits for commits can see, up to the
//! end that the topic had when the count began.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};
use wasmill_test_kafka::{Cluster, Jvm, Options};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const REQUEST: Duration = Duration::from_secs(30);
/// How long a count waits for the next record.
const SILENCE: Duration = Duration::from_secs(30);
/// The partitions of every topic.
pub const PARTITIONS: i32 = 4;

/// One broker.
pub struct Broker {
    _cluster: Cluster,
    /// Where it is.
    pub address: String,
}

/// What a topic holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content {
    /// Records that are committed.
    pub records: u64,
    /// The sum of a hash of each record's key, value and time: the same for the same records in any
    /// order.
    pub sum: u64,
}

impl Content {
    /// Adds a record, its time in ms since the Unix epoch.
    pub fn add(&mut self, key: &[u8], value: &[u8], time: i64) {
        let key = xxh3_64_with_seed(key, time.cast_unsigned());
        self.records += 1;
        self.sum = self.sum.wrapping_add(xxh3_64_with_seed(value, key));
    }
}

impl Broker {
    /// Starts a broker.
    pub fn start() -> anyhow::Result<Self> {
        let properties = vec![("log.segment.delete.delay.ms".to_owned(), "1000".to_owned())];
        let jvm = Jvm::Throughput;
        let options = Options { jvm, heap_mib: Some(1024), properties, ..Options::default() };
        let cluster = Cluster::start(options)?;
        let address = cluster.bootstrap();
        Ok(Self { _cluster: cluster, address })
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    fn consumer(&self, group: &str) -> anyhow::Result<BaseConsumer> {
        Ok(self
            .config()
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.wait.max.ms", "5")
            .set("check.crcs", "false")
            .create()?)
    }

    fn admin(&self) -> anyhow::Result<AdminClient<DefaultClientContext>> {
        Ok(self.config().create()?)
    }

    /// The names of all topics, without those of the broker itself.
    pub fn topics(&self) -> anyhow::Result<Vec<String>> {
        let metadata = self.consumer("bench-look")?.fetch_metadata(None, REQUEST)?;
        let names = metadata.topics().iter().map(|t| t.name().to_owned());
        Ok(names.filter(|name| !name.starts_with("__")).collect())
    }

    /// Makes a topic anew.
    pub fn create(&self, name: &str) -> anyhow::Result<()> {
        self.remove(&[name])?;
        let admin = self.admin()?;
        let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(REQUEST));
        let start = Instant::now();
        loop {
            let result = futures::executor::block_on(admin.create_topics([&topic], &options))?;
            match result.into_iter().next() {
                Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists)))
                    if start.elapsed() < REQUEST =>
                {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Some(Err((_, code))) => anyhow::bail!("topic {name} can't be made: {code}"),
                _ => return Ok(()),
            }
        }
    }

    /// Removes topics.
    pub fn remove(&self, names: &[&str]) -> anyhow::Result<()> {
        let options = AdminOptions::new().operation_timeout(Some(REQUEST));
        if !names.is_empty() {
            // One that is not there is removed.
            let _ = futures::executor::block_on(self.admin()?.delete_topics(names, &options))?;
        }
        Ok(())
    }

    /// Removes all topics but those that hold inputs, whose names start with `in`.
    pub fn clean(&self) -> anyhow::Result<()> {
        let all = self.topics()?;
        let old: Vec<&str> =
            all.iter().map(String::as_str).filter(|name| !name.starts_with("in")).collect();
        self.remove(&old)
    }

    /// Offsets of each partition of a topic.
    fn all(topic: &str, at: Offset) -> anyhow::Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, at)?;
        }
        Ok(list)
    }

    /// Counts the committed records of a topic.
    pub fn content(&self, topic: &str) -> anyhow::Result<Content> {
        let consumer = self.consumer("bench-count")?;
        consumer.assign(&Self::all(topic, Offset::Beginning)?)?;
        let (mut content, mut ended) = (Content::default(), 0);
        while ended < PARTITIONS {
            match consumer.poll(SILENCE) {
                Some(Ok(message)) => {
                    let time = message.timestamp().to_millis().unwrap_or(-1);
                    let (key, value) = (message.key(), message.payload());
                    content.add(key.unwrap_or_default(), value.unwrap_or_default(), time);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                Some(Err(error)) if passes(&error) => {}
                Some(Err(error)) => return Err(error).context(format!("reading {topic}")),
                None => anyhow::bail!("reading {topic}: nothing came for {SILENCE:?}"),
            }
        }
        Ok(content)
    }

    /// Waits until a topic has so many records, at most `patience`.
    pub fn await_records(
        &self,
        topic: &str,
        records: u64,
        patience: Duration,
        mut check: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let consumer = self.consumer("bench-wait")?;
        consumer.assign(&Self::all(topic, Offset::Beginning)?)?;
        let (start, mut found) = (Instant::now(), 0);
        while found < records {
            check()?;
            anyhow::ensure!(
                start.elapsed() < patience,
                "topic {topic} has {found} of {records} records after {patience:?}"
            );
            match consumer.poll(Duration::from_millis(20)) {
                Some(Ok(_)) => found += 1,
                Some(Err(KafkaError::PartitionEOF(_))) | None => {}
                Some(Err(error)) if passes(&error) => {}
                Some(Err(error)) => return Err(error).context(format!("reading {topic}")),
            }
        }
        Ok(())
    }

    /// Begins to look at what comes into a topic from now on.
    pub fn follow(&self, topic: &str) -> anyhow::Result<Follower> {
        let consumer = self.consumer("bench-follow")?;
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            let (_, end) = consumer.fetch_watermarks(topic, partition, REQUEST)?;
            list.add_partition_offset(topic, partition, Offset::Offset(end))?;
        }
        consumer.assign(&list)?;
        Ok(Follower(consumer))
    }

    /// Waits until a group has committed the end of a topic.
    pub fn await_group(
        &self,
        group: &str,
        topic: &str,
        patience: Duration,
        mut check: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let consumer = self.consumer(group)?;
        let mut ends = HashMap::new();
        for partition in 0..PARTITIONS {
            ends.insert(partition, consumer.fetch_watermarks(topic, partition, REQUEST)?.1);
        }
        let start = Instant::now();
        loop {
            check()?;
            let list = Self::all(topic, Offset::Invalid)?;
            let committed = match consumer.committed_offsets(list, REQUEST) {
                Ok(committed) => Some(committed),
                Err(error) if passes(&error) => None,
                Err(error) => return Err(error.into()),
            };
            let there = committed.as_ref().is_some_and(|committed| {
                let next = |partition: i32| ends[&partition];
                let mut each = committed.elements().into_iter();
                each.all(|e| {
                    e.offset().to_raw().is_some_and(|offset| offset >= next(e.partition()))
                })
            });
            if there {
                return Ok(());
            }
            anyhow::ensure!(
                start.elapsed() < patience,
                "group {group} has not come to the end of {topic} in {patience:?}: {committed:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Writes records into a topic: key, value and time of number `i` by a function.
    pub fn fill(
        &self,
        topic: &str,
        numbers: std::ops::Range<u64>,
        mut record: impl FnMut(u64, &mut Vec<u8>, &mut Vec<u8>) -> i64,
    ) -> anyhow::Result<()> {
        let producer: BaseProducer =
            self.config().set("linger.ms", "5").set("batch.size", "1000000").create()?;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for i in numbers {
            key.clear();
            value.clear();
            let timestamp = record(i, &mut key, &mut value);
            let mut record = BaseRecord::to(topic).key(&key).payload(&value).timestamp(timestamp);
            while let Err((error, back)) = producer.send(record) {
                let full = RDKafkaErrorCode::QueueFull;
                anyhow::ensure!(error.rdkafka_error_code() == Some(full), "{topic}: {error}");
                producer.poll(Duration::from_millis(1));
                record = back;
            }
        }
        Ok(producer.flush(REQUEST)?)
    }
}

/// Whether the client goes on by itself after an error: the broker was slow to answer, as it may be on
/// a busy machine, or has just begun to look after groups.
fn passes(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as E;
    let passing = [
        E::AllBrokersDown,
        E::BrokerTransportFailure,
        E::OperationTimedOut,
        E::NotCoordinator,
        E::CoordinatorNotAvailable,
        E::CoordinatorLoadInProgress,
    ];
    error.rdkafka_error_code().is_some_and(|code| passing.contains(&code))
}

/// What comes into a topic.
pub struct Follower(BaseConsumer);

impl Follower {
    /// Waits for the next record.
    pub fn next(
        &self,
        patience: Duration,
        mut check: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        while start.elapsed() < patience {
            match self.0.poll(Duration::from_millis(5)) {
                Some(Ok(_)) => return Ok(()),
                Some(Err(KafkaError::PartitionEOF(_))) | None => check()?,
                Some(Err(error)) if passes(&error) => {}
                Some(Err(error)) => return Err(error.into()),
            }
        }
        anyhow::bail!("nothing came out for {patience:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_records_does_not_show_and_all_else_does() {
        let of = |records: &[(&str, &str, i64)]| {
            let mut content = Content::default();
            records.iter().for_each(|(k, v, t)| content.add(k.as_bytes(), v.as_bytes(), *t));
            content
        };
        let both = of(&[("a", "1", 5), ("b", "2", 6)]);
        assert_eq!(of(&[("b", "2", 6), ("a", "1", 5)]), both);
        for other in [("a", "1", 6), ("a", "2", 5), ("b", "1", 5)] {
            assert_ne!(of(&[other, ("b", "2", 6)]), both);
        }
        assert_ne!(of(&[("a", "1", 5), ("a", "1", 5), ("b", "2", 6)]), both);
    }
}
