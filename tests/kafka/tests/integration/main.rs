//! Tests of the brokers that other tests run against, with a real client.

#![allow(clippy::unwrap_used)]

mod cluster;
mod ends;
mod fetch;
mod links;
mod skips;
mod standalone;

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseRecord, ProducerContext, ThreadedProducer},
};
use wasmill_test_kafka::Options;

const TOPIC: &str = "records";

/// A number of brokers that make topics as they are named.
fn brokers(brokers: usize) -> Options {
    let properties = vec![("auto.create.topics.enable".into(), "true".into())];
    Options { brokers, properties, ..Options::default() }
}

/// Passes on what became of each record.
struct Outcomes(mpsc::Sender<Result<(), KafkaError>>);

impl ClientContext for Outcomes {}

impl ProducerContext for Outcomes {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        let outcome = result.as_ref().map(drop).map_err(|(error, _)| error.clone());
        self.0.send(outcome).expect("the test waits for the outcome");
    }
}

/// A client that writes to the first partition.
struct Writer {
    producer: ThreadedProducer<Outcomes>,
    outcomes: mpsc::Receiver<Result<(), KafkaError>>,
}

impl Writer {
    /// Each record has so long to be acknowledged by all brokers that are in sync.
    fn new(bootstrap: &str, timeout: Duration) -> Self {
        let (sender, outcomes) = mpsc::channel();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("reconnect.backoff.max.ms", "200")
            .set("message.timeout.ms", timeout.as_millis().to_string())
            .create_with_context(Outcomes(sender))
            .unwrap();
        Self { producer, outcomes }
    }

    fn write(&self, value: &str) -> Result<(), KafkaError> {
        let record = BaseRecord::<(), str>::to(TOPIC).partition(0).payload(value);
        self.producer.send(record).map_err(|(error, _)| error)?;
        self.outcomes.recv().expect("the producer lives")
    }
}

/// Long enough for whatever ends well.
const PATIENCE: Duration = Duration::from_secs(60);

fn write(bootstrap: &str, value: &str) {
    Writer::new(bootstrap, PATIENCE).write(value).unwrap();
}

/// The first `count` records of the first partition, or those that came before patience ended.
fn read(bootstrap: &str, count: usize) -> Vec<String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(TOPIC, 0, Offset::Beginning).unwrap();
    consumer.assign(&partitions).unwrap();
    let start = Instant::now();
    let mut values = Vec::new();
    while values.len() < count && start.elapsed() < PATIENCE {
        // An error here is a broker that is not there yet.
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            values.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
        }
    }
    values
}

/// The broker that leads the first partition.
fn leader(bootstrap: &str) -> usize {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let metadata = consumer.fetch_metadata(Some(TOPIC), PATIENCE).unwrap();
    let partition = metadata.topics()[0].partitions().iter().find(|p| p.id() == 0).unwrap();
    usize::try_from(partition.leader()).expect("the partition has a leader")
}
