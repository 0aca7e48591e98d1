//! A standby takes over with the state that it has, and reads only the end of the changelog.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use wasmill_chaos::input::PARTITIONS;
use wasmill_chaos::instance::{Instance, Start};
use wasmill_chaos::output;
use wasmill_chaos::run::{tell, turn};
use wasmill_kafka::{Admin, NO_HEADERS, Producer, Record, Settings, TopicSpec};
use wasmill_test_kafka::{Options, cluster_or_skip};

/// How many keys have state.
const KEYS: u64 = 100_000;
/// How long any step may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How much of a changelog a warm task may read again: the end of a few commits.
const MOST_READ: i64 = 20;
/// How long a changelog is at least when its owner goes, for that to be little.
const LEAST_WRITTEN: i64 = 100;

const PIPELINE: &str = r#"
name = "warm"

[engine]
partitions = PARTITIONS
checkpoint-interval = "100ms"
plugins = ["PLUGINS"]

[kafka]
brokers = "127.0.0.1:1"
standby = 1

[kafka.consumer]
"session.timeout.ms" = 6000
"heartbeat.interval.ms" = 500

[source.in]
topic = "in"
start = "earliest"

[stage.pass]
plugin = "identity"
from = "source.in"

[stage.ledger]
plugin = "ledger"
from = "stage.pass"
key-by = "account"
config = { span-ms = 3600000, residues = 2 }

[topic.out]
from = "stage.ledger"
"#;

/// One task's state that was restored: its changelog and partition, and from where to where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Restored {
    task: (String, i64),
    from: i64,
    to: i64,
}

#[test]
fn a_standby_takes_over_and_reads_only_the_end_of_the_changelog() {
    let _turn = turn().unwrap();
    let Some(cluster) = cluster_or_skip("standby", Options::default()) else { return };
    let root = wasmill_chaos::root();
    let folder = root.join(format!("target/chaos/standby-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let pipeline = folder.join("pipeline.toml");
    let plugins = root.join("target/plugins");
    let text = PIPELINE.replace("PARTITIONS", &PARTITIONS.to_string());
    std::fs::write(&pipeline, text.replace("PLUGINS", plugins.to_str().unwrap())).unwrap();
    let settings = Settings::new(cluster.bootstrap());
    let admin = Admin::connect(&settings, PATIENCE).unwrap();
    let topic = |name: &str| TopicSpec {
        name: name.to_owned(),
        partitions: Some(PARTITIONS),
        ..TopicSpec::default()
    };
    admin.ensure_topics(&[topic("in"), topic(output::TOPIC)]).unwrap();
    let program = std::env::var_os("CHAOS_WASMILL");
    let start = Start {
        program: program.map_or_else(|| root.join("target/release/wasmill"), PathBuf::from),
        pipeline,
        cache: root.join("target/chaos/compiled"),
        brokers: cluster.bootstrap(),
        workers: 1,
        full: None,
    };
    let mut instances = ["first", "second"].map(|name| Instance::new(&folder, name, start.clone()));
    instances[0].start().unwrap();
    await_that(&instances[0], "the first tasks", || opens(&instances[0]));
    instances[1].start().unwrap();

    let mut producer = Producer::at_least_once(&settings, PATIENCE).unwrap();
    let mut next = 0;
    // All keys twice, slowly enough for many commits.
    while next < 2 * KEYS {
        next = send(&mut producer, next, KEYS / 50);
        std::thread::sleep(Duration::from_millis(150));
    }
    let [first, second] = &instances;
    await_that(second, "a copy of each task", || {
        warm(first).len() + warm(second).len() == PARTITIONS as usize
    });
    await_output(&cluster.bootstrap(), next);
    // Whose state the other one has more of.
    let (goes, stays) = if warm(second).len() >= warm(first).len() { (0, 1) } else { (1, 0) };
    let expected = warm(&instances[stays]);
    // It goes in the midst of work.
    next = send(&mut producer, next, KEYS / 10);
    std::thread::sleep(Duration::from_millis(300));
    let before = restored(&instances[stays]).len();
    instances[goes].kill().unwrap();
    let killed = Instant::now();
    next = send(&mut producer, next, KEYS / 10);
    let stays = &mut instances[stays];
    await_that(stays, "the other's tasks", || takeover(stays, before).len() >= expected.len());
    let took = killed.elapsed();
    await_output(&cluster.bootstrap(), next);

    let tasks = takeover(stays, before);
    for restored in &tasks {
        let Restored { from, to, .. } = restored;
        assert!(*to >= LEAST_WRITTEN, "{restored:?} has too little to tell anything");
        assert!(to - from <= MOST_READ, "{restored:?} was not warm\n{}", stays.tail());
    }
    tell(&format!("standby: {took:?} after the kill its tasks were open: {tasks:?}"));
    assert!(!stays.said().contains("a standby has failed"), "{}", stays.tail());
    stays.end(PATIENCE).unwrap();
    if !wasmill_chaos::is_set("CHAOS_KEEP") {
        // What is left is found by its age.
        let _ = std::fs::remove_dir_all(&folder);
    }
}

/// The tasks of which an instance has a copy that has caught up.
fn warm(instance: &Instance) -> BTreeSet<String> {
    let mut warm = BTreeSet::new();
    for line in plain(&instance.said()).lines() {
        let Some((_, rest)) = line.split_once(" task=\"") else { continue };
        let task = rest.split('"').next().unwrap_or_default().to_owned();
        if line.contains("a standby has caught up") {
            warm.insert(task);
        } else if line.contains("a standby lets go") {
            warm.remove(&task);
        }
    }
    warm
}

/// Sends numbers from `next` on; the account of each follows from it.
fn send(producer: &mut Producer, next: u64, count: u64) -> u64 {
    let topic = producer.topic("in").unwrap();
    for n in next..next + count {
        let value = format!(r#"{{"account":"a-{}","n":{n}}}"#, n % KEYS);
        let partition = (n % u64::from(PARTITIONS)) as u32;
        let value = Some(value.as_bytes());
        let record = Record { topic, partition, key: None, value, timestamp: Some(1_000_000) };
        producer.send(record, NO_HEADERS).unwrap();
    }
    producer.drain().unwrap();
    next + count
}

/// Waits until the pipeline has told of every number below `total`, and checks that it told of each
/// once, with a state that had taken each number of its account once.
fn await_output(brokers: &str, total: u64) {
    let start = Instant::now();
    loop {
        let mut told = vec![0u32; total as usize];
        output::everything(brokers, output::TOPIC, PATIENCE, |_, _, value| {
            let entry: serde_json::Value = serde_json::from_slice(value.unwrap()).unwrap();
            let n = entry["n"].as_u64().unwrap();
            told[n as usize] += 1;
            assert_eq!(entry["count"].as_u64(), Some(n / KEYS + 1), "{entry}");
        })
        .unwrap();
        assert!(told.iter().all(|times| *times <= 1), "a number came twice");
        if told.iter().all(|times| *times == 1) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "numbers are missing");
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn await_that(instance: &Instance, what: &str, there: impl Fn() -> bool) {
    let start = Instant::now();
    while !there() {
        assert!(start.elapsed() < PATIENCE, "waiting for {what}: {}", instance.tail());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn opens(instance: &Instance) -> bool {
    instance.said().matches("task is open").count() >= PARTITIONS as usize
}

/// Tasks of state that an instance has opened after its first `before`.
fn takeover(instance: &Instance, before: usize) -> Vec<Restored> {
    restored(instance).split_off(before)
}

/// What an instance has restored.
fn restored(instance: &Instance) -> Vec<Restored> {
    let number = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}="))?;
        rest.split(' ').next()?.parse::<i64>().ok()
    };
    let one = |line: &str| {
        let (_, changelog) = line.split_once("changelog=\"")?;
        let changelog = changelog.split('"').next()?.to_owned();
        let task = (changelog, number(line, "partition")?);
        Some(Restored { task, from: number(line, "from")?, to: number(line, "to")? })
    };
    let said = plain(&instance.said());
    said.lines().filter(|line| line.contains("state is restored")).filter_map(one).collect()
}

/// A text without the colours of a terminal.
fn plain(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or("", |(_, rest)| rest))
}
