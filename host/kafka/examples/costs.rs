//! What sending, reading, committing and restoring cost, against a broker on this machine.
//!
//! `cargo run --release -p wasmill-kafka --example costs [records]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use wasmill_kafka::{
    Admin, Batch, Error, Event, Fetcher, Limit, Membership, NO_HEADERS, Offsets, Producer, Record,
    Settings, Source, Strategy, TopicSpec, Waker, read_to_end,
};
use wasmill_test_kafka::{Cluster, Jvm, Options};

const PARTITIONS: u32 = 4;
const WAIT: Duration = Duration::from_secs(30);
const LIMIT: Limit = Limit { records: 1_000, bytes: 1 << 20 };

/// The time that this thread was running, in ns.
fn cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().context("schedstat is empty")?.parse()?)
}

fn main() -> Result<()> {
    let records: u32 = std::env::args().nth(1).map_or(Ok(1_000_000), |n| n.parse())?;
    let options = Options { jvm: Jvm::Throughput, heap_mib: Some(1024), ..Options::default() };
    let cluster = Cluster::start(options)?;
    let settings = Settings::new(cluster.bootstrap());
    let admin = Admin::connect(&settings, WAIT)?;
    for (name, partitions) in [("in", PARTITIONS), ("out", PARTITIONS), ("log", 1)] {
        let partitions = Some(partitions);
        let spec = TopicSpec { name: name.to_owned(), partitions, ..TopicSpec::default() };
        admin.ensure_topics(&[spec])?;
    }
    send(&settings, records)?;
    for _ in 0..2 {
        read_safely(&settings, records)?;
        read(&settings, &admin, records)?;
    }
    for _ in 0..2 {
        pass(&settings, &admin, records)?;
    }
    commits(&settings)?;
    restore(&settings)?;
    Ok(())
}

fn send(settings: &Settings, records: u32) -> Result<()> {
    let mut producer = Producer::at_least_once(settings, WAIT)?;
    let topic = producer.topic("in")?;
    let value = vec![b'x'; 200];
    let (start, busy) = (Instant::now(), cpu()?);
    for i in 0..records {
        let key = format!("u{i:09}");
        let record = Record {
            topic,
            partition: i % PARTITIONS,
            key: Some(key.as_bytes()),
            value: Some(&value),
            timestamp: Some(i64::from(i)),
        };
        producer.send(record, NO_HEADERS)?;
    }
    producer.drain()?;
    let (per, n) = ((cpu()? - busy) / f64::from(records), f64::from(records));
    let rate = n / start.elapsed().as_secs_f64();
    println!("send: {per:.0} ns of the worker's CPU a record, {rate:.0} records/s");
    Ok(())
}

/// With nothing but `rdkafka`, for comparison.
fn read_safely(settings: &Settings, records: u32) -> Result<()> {
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", &settings.brokers).set("group.id", "safe");
    config.set("fetch.queue.backoff.ms", "5").set("isolation.level", "read_committed");
    config.set("enable.auto.commit", "false").set("queued.max.messages.kbytes", "1048576");
    config.set("queued.min.messages", "10000000");
    let client: BaseConsumer = config.create()?;
    let mut list = rdkafka::TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset("in", partition.cast_signed(), rdkafka::Offset::Beginning)?;
    }
    client.assign(&list)?;
    std::thread::sleep(Duration::from_secs(5));
    let (busy, mut read, mut batch) = (cpu()?, 0, Batch::new(false));
    while read < records {
        batch.clear();
        for _ in 0..1_000 {
            let Some(message) = client.poll(Duration::from_millis(10)) else { break };
            let message = message?;
            use rdkafka::Message;
            batch.offsets.push(message.offset());
            batch.timestamps.push(message.timestamp().to_millis().unwrap_or(-1));
            batch.keys.push_opt(message.key());
            batch.values.push_opt(message.payload());
            read += 1;
        }
    }
    let per = (cpu()? - busy) / f64::from(records);
    println!(
        "read by rdkafka alone: {per:.0} ns of the worker's CPU a record (all fetched before)"
    );
    Ok(())
}

fn read(settings: &Settings, admin: &Admin, records: u32) -> Result<()> {
    for fetched in [true, false] {
        let mut settings = settings.clone();
        if fetched {
            let consumer = &mut settings.consumer;
            consumer.insert("queued.max.messages.kbytes".to_owned(), "1048576".to_owned());
            consumer.insert("queued.min.messages".to_owned(), "10000000".to_owned());
        }
        let waker = Waker::default();
        let fetcher = Fetcher::new(&settings, "costs", &waker)?;
        let mut partitions = vec![];
        for partition in 0..PARTITIONS {
            let start = admin.offsets("in", partition)?.start;
            partitions.push(fetcher.assign("in", partition, start)?);
        }
        if fetched {
            std::thread::sleep(Duration::from_secs(5));
        }
        let (start, busy, mut total, mut batch) = (Instant::now(), cpu()?, 0, Batch::new(false));
        while total < records as usize {
            let mut read = 0;
            for partition in &mut partitions {
                batch.clear();
                read += partition.read(&mut batch, LIMIT)?;
            }
            if read == 0 {
                fetcher.wait(Duration::from_millis(100));
            }
            total += read;
        }
        let per = (cpu()? - busy) / f64::from(records);
        let rate = f64::from(records) / start.elapsed().as_secs_f64();
        let how = if fetched { "all fetched before" } else { "while fetching" };
        println!("read: {per:.0} ns of the worker's CPU a record, {rate:.0} records/s ({how})");
    }
    Ok(())
}

fn member(settings: &Settings, group: &str, waker: &Waker) -> Result<Membership> {
    let strategy = Strategy::Cooperative;
    let mut member = Membership::join(settings, group, &["in"], strategy, None, waker)?;
    loop {
        for event in member.poll(Duration::from_millis(100)) {
            member.acknowledge(&event)?;
            if matches!(event, Event::Assigned(_)) {
                return Ok(member);
            }
        }
    }
}

/// From topic to topic in transactions of 100 ms, offsets in them.
fn pass(settings: &Settings, admin: &Admin, records: u32) -> Result<()> {
    let waker = Waker::default();
    let group = format!("pass-{}", std::process::id());
    let mut member = member(settings, &group, &waker)?;
    let mut producer = Producer::connect(settings, &group, WAIT)?;
    let topic = producer.topic("out")?;
    let fetcher = Fetcher::new(settings, &group, &waker)?;
    let mut partitions = vec![];
    for partition in 0..PARTITIONS {
        let start = admin.offsets("in", partition)?.start;
        partitions.push(fetcher.assign("in", partition, start)?);
    }
    let (start, busy, mut total, mut batch) = (Instant::now(), cpu()?, 0, Batch::new(false));
    let (mut began, mut commits, mut committing) = (Instant::now(), 0, Duration::ZERO);
    producer.begin()?;
    while total < records as usize {
        let mut read = 0;
        for partition in &mut partitions {
            batch.clear();
            read += partition.read(&mut batch, LIMIT)?;
            for i in 0..batch.len() {
                let record = Record {
                    topic,
                    partition: partition.partition(),
                    key: batch.keys.get(i),
                    value: batch.values.get(i),
                    timestamp: Some(batch.timestamps[i]),
                };
                producer.send(record, NO_HEADERS)?;
            }
        }
        total += read;
        if began.elapsed() >= Duration::from_millis(100) || total >= records as usize {
            member.poll(Duration::ZERO);
            let offsets: Vec<_> = partitions
                .iter()
                .map(|p| Offsets {
                    topic: "in",
                    partition: p.partition(),
                    next: p.position(),
                    metadata: None,
                })
                .collect();
            let now = Instant::now();
            producer.commit(&offsets, &member.metadata()?)?;
            committing += now.elapsed();
            commits += 1;
            began = Instant::now();
            producer.begin()?;
        } else if read == 0 {
            fetcher.wait(Duration::from_millis(5));
        }
    }
    producer.abort()?;
    let per = (cpu()? - busy) / f64::from(records);
    let rate = f64::from(records) / start.elapsed().as_secs_f64();
    let ms = 1e3 * committing.as_secs_f64() / f64::from(commits);
    println!(
        "pass-through, commit every 100 ms: {rate:.0} records/s, {per:.0} ns of the worker's CPU a \
         record, {ms:.1} ms a commit"
    );
    Ok(())
}

fn commits(settings: &Settings) -> Result<()> {
    let waker = Waker::default();
    let member = member(settings, "commits", &waker)?;
    let mut producer = Producer::connect(settings, "commits", WAIT)?;
    let topic = producer.topic("out")?;
    let mut times = vec![];
    for next in 1..=300 {
        producer.begin()?;
        for i in 0..100 {
            let (key, value) = (None, Some(&b"value"[..]));
            let partition = i % PARTITIONS;
            producer.send(Record { topic, partition, key, value, timestamp: None }, NO_HEADERS)?;
        }
        let now = Instant::now();
        let offsets = [Offsets { topic: "in", partition: 0, next, metadata: None }];
        producer.commit(&offsets, &member.metadata()?)?;
        times.push(now.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    }
    times.sort();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("commit of 100 records in 4 partitions and an offset: p50 {p50:.1?}, p99 {p99:.1?}");
    Ok(())
}

/// A million entries of 100 bytes in packed records of 900 kB.
fn restore(settings: &Settings) -> Result<()> {
    let mut producer = Producer::connect(settings, "restore", WAIT)?;
    let topic = producer.topic("log")?;
    let value = vec![b'x'; 900_000];
    producer.begin()?;
    for _ in 0..112 {
        let (key, value) = (None, Some(&value[..]));
        producer.send(Record { topic, partition: 0, key, value, timestamp: None }, NO_HEADERS)?;
    }
    producer.commit_records()?;
    let admin = Admin::connect(settings, WAIT)?;
    for _ in 0..2 {
        let source =
            Source { topic: "log", partition: 0, from: None, group: "costs", patience: WAIT };
        let (start, mut bytes) = (Instant::now(), 0);
        read_to_end(
            &admin,
            &source,
            &Arc::default(),
            |_| {},
            |_, _, value| {
                bytes += value.map_or(0, <[u8]>::len);
                Ok::<_, Error>(())
            },
        )?;
        let rate = bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
        println!("restore: {bytes} bytes in {:.2?}, {rate:.0} MB/s", start.elapsed());
    }
    Ok(())
}
