//! What all tests begin with: a broker, names, records.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use wasmill_kafka::{
    Admin, Batch, Event, Fetcher, Limit, Membership, NO_HEADERS, Partition, Producer, Record,
    Settings, Strategy, TopicSpec, Waker,
};
use wasmill_test_kafka::{Cluster, Options, cluster_or_skip};

pub const TIMEOUT: Duration = Duration::from_secs(20);
pub const ALL: Limit = Limit { records: usize::MAX, bytes: usize::MAX };

/// A test's own corner of the broker that all tests share.
pub struct Corner {
    pub settings: Settings,
    pub name: String,
}

/// None when no broker can be had, which is said by the test's name.
pub fn corner(test: &str) -> Option<Corner> {
    static SHARED: Mutex<Option<Cluster>> = Mutex::new(None);
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.is_none() {
        *shared = Some(cluster_or_skip(test, Options::default())?);
    }
    let settings = Settings::new(shared.as_ref()?.bootstrap());
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Some(Corner { settings, name: format!("{test}-{number}") })
}

pub fn text(bytes: Option<&[u8]>) -> Option<&str> {
    bytes.map(|b| std::str::from_utf8(b).unwrap())
}

impl Corner {
    /// On a cluster of the test's own.
    pub fn at(cluster: &Cluster, name: &str) -> Self {
        Self { settings: Settings::new(cluster.bootstrap()), name: name.to_owned() }
    }

    pub fn admin(&self) -> Admin {
        Admin::connect(&self.settings, TIMEOUT).unwrap()
    }

    pub fn topic(&self, suffix: &str, partitions: u32) -> String {
        self.topic_with(suffix, partitions, &[])
    }

    pub fn topic_with(&self, suffix: &str, partitions: u32, config: &[(&str, &str)]) -> String {
        let name = format!("{}-{suffix}", self.name);
        let config: BTreeMap<_, _> =
            config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let spec = TopicSpec {
            name: name.clone(),
            partitions: Some(partitions),
            config,
            ..TopicSpec::default()
        };
        self.admin().ensure_topics(&[spec]).unwrap();
        name
    }

    /// Gives a topic as many partitions.
    pub fn grow(&self, topic: &str, partitions: usize) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.settings.brokers).create().unwrap();
        let wanted = [NewPartitions::new(topic, partitions)];
        let options = AdminOptions::new();
        let grown = block_on(admin.create_partitions(&wanted, &options)).unwrap();
        assert!(grown.iter().all(Result::is_ok), "{grown:?}");
    }

    pub fn producer(&self, id: &str) -> Producer {
        Producer::connect(&self.settings, &format!("{}-{id}", self.name), TIMEOUT).unwrap()
    }

    /// Sends values without a transaction, to partition 0.
    pub fn fill(&self, topic: &str, values: impl IntoIterator<Item = String>) {
        let mut producer = Producer::at_least_once(&self.settings, TIMEOUT).unwrap();
        for value in values {
            send(&mut producer, topic, &value);
        }
        producer.drain().unwrap();
    }

    pub fn fetcher(&self, waker: &Waker) -> Fetcher {
        Fetcher::new(&self.settings, &self.name, waker).unwrap()
    }

    /// All values that a read-committed reader sees in partition 0.
    pub fn values(&self, topic: &str) -> Vec<String> {
        let waker = Waker::default();
        let fetcher = self.fetcher(&waker);
        let offsets = self.admin().offsets(topic, 0).unwrap();
        let mut partition = fetcher.assign(topic, 0, offsets.start).unwrap();
        let batch = read_until(&fetcher, &mut partition, offsets.stable);
        batch.values.iter().map(|v| text(v).unwrap_or("-").to_owned()).collect()
    }

    pub fn join(&self, topic: &str, strategy: Strategy) -> Membership {
        let waker = Waker::default();
        Membership::join(&self.settings, &self.name, &[topic], strategy, None, &waker).unwrap()
    }
}

pub fn send(producer: &mut Producer, topic: &str, value: &str) {
    let record = record(producer, topic, value);
    producer.send(record, NO_HEADERS).unwrap();
}

pub fn record<'a>(producer: &mut Producer, topic: &str, value: &'a str) -> Record<'a> {
    Record {
        topic: producer.topic(topic).unwrap(),
        partition: 0,
        key: Some(b"key"),
        value: Some(value.as_bytes()),
        timestamp: None,
    }
}

/// Reads until the position is at `end`.
pub fn read_until(fetcher: &Fetcher, partition: &mut Partition, end: i64) -> Batch {
    let mut batch = Batch::new(true);
    let deadline = Instant::now() + TIMEOUT;
    while partition.position() < end {
        assert!(Instant::now() < deadline, "at {partition:?} instead of {end}");
        if partition.read(&mut batch, ALL).unwrap() == 0 {
            fetcher.wait(Duration::from_millis(100));
        }
    }
    batch
}

/// Polls all members until one has an event, and returns whose and which.
pub fn next_event(members: &mut [&mut Membership]) -> (usize, Event) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        for (i, member) in members.iter_mut().enumerate() {
            let mut events = member.poll(Duration::from_millis(10));
            events.retain(|event| !matches!(event, Event::Error { .. }));
            assert!(events.len() <= 1, "one event at a time: {events:?}");
            if let Some(event) = events.pop() {
                return (i, event);
            }
        }
        assert!(Instant::now() < deadline, "the group asks for nothing");
    }
}

/// Polls a member, which acknowledges everything, until it has got partitions.
pub fn until_assigned(member: &mut Membership) -> Vec<(String, u32)> {
    loop {
        let (_, event) = next_event(&mut [member]);
        member.acknowledge(&event).unwrap();
        if let Event::Assigned(partitions) = event
            && !partitions.is_empty()
        {
            return partitions;
        }
    }
}

/// Polls members for a while; none may be asked for anything, but to take no more than it has.
pub fn nothing_happens(members: &mut [&mut Membership], time: Duration) {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        for member in members.iter_mut() {
            for event in member.poll(Duration::from_millis(10)) {
                assert_eq!(event, Event::Assigned(vec![]));
                member.acknowledge(&event).unwrap();
            }
        }
    }
}
