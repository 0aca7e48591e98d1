//! A pipeline that keeps a ledger for each account, the numbers that go into it, and what must come
//! out: every number once, in the order of its account, from a state that had all before it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use wasmill_kafka::{NO_HEADERS, Producer, Record as Sent};

use crate::support::Record;
use crate::world::{TIMEOUT, World};

/// Partitions of every topic, and so the tasks of each part of the pipeline.
pub const PARTITIONS: u32 = 6;
/// How many accounts there are. Number `n` is of account `n % ACCOUNTS`.
pub const ACCOUNTS: u64 = 60;
/// The event time of number 0; that of the others is 1 ms after the one before.
pub const BEGIN_MS: i64 = 1_700_000_000_000;
/// Longer than any test's event time.
pub const SPAN_MS: i64 = 3_600_000;
pub const RESIDUES: u64 = 5;

/// How long nothing may come out.
const PATIENCE: Duration = Duration::from_secs(90);

/// Records bear the time at which the broker took them, and so about that of their processing.
const PIPELINE: &str = r#"
name = "ledger"
[engine]
partitions = 6
[source.in]
topic = "in"
[stage.ledger]
plugin = "ledger"
from = "source.in"
repartition = false
config = { span-ms = 3600000, residues = 5 }
[topic.out]
from = "stage.ledger"
[topic.out.config]
"message.timestamp.type" = "LogAppendTime"
"#;

/// The pipeline, with an input that is empty so far.
pub fn world(test: &str) -> Option<World> {
    let world = World::new(test, PIPELINE)?;
    world.make("in", PARTITIONS, &[]);
    Some(world)
}

/// Sends records of accounts: account, event time, and what of it.
pub fn send(producer: &mut Producer, records: impl Iterator<Item = (u64, i64, String)>) {
    let topic = producer.topic("in").unwrap();
    for (account, time, what) in records {
        let key = name(account);
        let value = format!(r#"{{"account":"{key}",{what}}}"#);
        let record = Sent {
            topic,
            partition: partition(account),
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            timestamp: Some(time),
        };
        producer.send(record, NO_HEADERS).unwrap();
    }
    producer.drain().unwrap();
}

/// Sends numbers.
pub fn send_numbers(producer: &mut Producer, numbers: Range<u64>) {
    let of = |n: u64| (n % ACCOUNTS, BEGIN_MS + n.cast_signed(), format!(r#""n":{n}"#));
    send(producer, numbers.map(of));
}

pub fn producer(world: &World) -> Producer {
    Producer::at_least_once(&world.settings(), TIMEOUT).unwrap()
}

pub fn name(account: u64) -> String {
    format!("a{account:02}")
}

/// The partition of an account in the input.
pub fn partition(account: u64) -> u32 {
    (account % u64::from(PARTITIONS)) as u32
}

/// Numbers that go in at a steady rate, until it is dropped.
pub struct Feed {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Feed {
    /// Sends so many numbers a second, from 0 on.
    pub fn start(world: &World, rate: u64) -> Self {
        let (stop, mut producer) = (Arc::<AtomicBool>::default(), producer(world));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (begun, mut next) = (Instant::now(), 0);
            while !stopped.load(Ordering::Relaxed) {
                let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
                send_numbers(&mut producer, next..due);
                next = due;
                std::thread::sleep(Duration::from_millis(10));
            }
            next
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it; gives how many numbers went in.
    pub fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("a feed ends once").join().expect("the feed sends")
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Waits until so many records have come out, and gives all.
pub fn wait_for(world: &World, total: u64) -> Vec<Record> {
    let begun = Instant::now();
    loop {
        let records = world.topic("out");
        if records.len() as u64 >= total {
            return records;
        }
        assert!(begun.elapsed() < PATIENCE, "{} of {total} records came", records.len());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until more has come out than there is by now.
pub fn wait_for_more(world: &World) {
    let now = world.topic("out").len() as u64;
    wait_for(world, now + 1);
}

/// The number that a record tells of.
pub fn number(record: &Record) -> u64 {
    record["value"]["n"].as_u64().unwrap_or_else(|| panic!("{record} tells of no number"))
}

/// Every number below `total` came out once, in the order of its account, from a state that had all
/// before it.
pub fn assert_exact(records: &[Record], total: u64) {
    let mut came: BTreeMap<u64, u64> = BTreeMap::new();
    for record in records {
        let n = number(record);
        let count = came.entry(n % ACCOUNTS).or_default();
        assert_eq!(n, n % ACCOUNTS + *count * ACCOUNTS, "after {count} of its account: {record}");
        *count += 1;
        assert_eq!(record["value"]["count"], Value::from(*count), "{record}");
    }
    assert_eq!(records.len() as u64, total, "numbers that came out");
}
