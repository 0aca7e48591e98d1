//! A broker, a folder, a pipeline in it, and instances of the program that run it.
//!
//! Invariant: what is read of a topic is what transactions have committed, and an instance ends with
//! its value.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wasmill_kafka::{
    Admin, Batch, Fetcher, Limit, NO_HEADERS, Producer, Record as Sent, Settings, TopicSpec, Waker,
};
use wasmill_test_kafka::{Cluster, Options, cluster_or_skip};

use crate::support::{self, Record, by_key, program, root, stdout_of};

/// How long requests to the broker may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// A broker, a folder, and a pipeline in it.
pub struct World {
    pub cluster: Cluster,
    folder: tempfile::TempDir,
}

impl World {
    /// None where there is no broker to be had.
    pub fn new(test: &str, pipeline: &str) -> Option<Self> {
        Self::with(test, pipeline, 1)
    }

    /// The same, with a broker of a kind.
    pub fn with(test: &str, pipeline: &str, options: impl Into<Options>) -> Option<Self> {
        let cluster = cluster_or_skip(test, options)?;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pipeline.toml"), pipeline).unwrap();
        Some(Self { cluster, folder })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn settings(&self) -> Settings {
        Settings::new(self.cluster.bootstrap())
    }

    pub fn admin(&self) -> Admin {
        Admin::connect(&self.settings(), TIMEOUT).unwrap()
    }

    pub fn command(&self, verb: &str, data_dir: &str, more: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args([verb, "pipeline.toml", "--json"]).current_dir(self.folder.path());
        command.arg("--data-dir").arg(self.path(data_dir));
        command.arg("--plugins").arg(root().join("target/plugins"));
        let brokers = format!("kafka.brokers={}", self.cluster.bootstrap());
        let dead = ["session.timeout.ms=1500", "heartbeat.interval.ms=300"];
        let dead = dead.map(|set| format!("kafka.consumer.{set}"));
        for set in std::iter::once(&brokers).chain(&dead) {
            command.args(["--set", set]);
        }
        command.args(more).env("WASMILL_CACHE_DIR", root().join("target/wasmill-cache"));
        command
    }

    pub fn wasmill(&self, verb: &str, data_dir: &str, more: &[&str]) -> Output {
        self.command(verb, data_dir, more).output().expect("the program starts")
    }

    /// Runs the pipeline to its end; gives its summary.
    pub fn run(&self, data_dir: &str, more: &[&str]) -> Value {
        let text = stdout_of(self.wasmill("run", data_dir, more));
        serde_json::from_str(&text).expect("the summary is JSON")
    }

    /// Starts an instance with one worker that can be asked how it stands.
    pub fn start(&self, data_dir: &str, more: &[&str]) -> Instance {
        self.start_with(data_dir, more, &[])
    }

    /// The same, with variables in its environment.
    pub fn start_with(&self, data_dir: &str, more: &[&str], set: &[(&str, &str)]) -> Instance {
        let more = [&["--workers", "1", "--admin", "127.0.0.1:0"], more].concat();
        let mut command = self.command("run", data_dir, &more);
        command.envs(set.iter().copied());
        Instance::start(command, &self.path(data_dir))
    }

    /// What the pipeline gives on the embedded log, by topic.
    pub fn expected(&self, topics: &[&str], more: &[&str]) -> BTreeMap<String, Vec<Record>> {
        let data_dir = self.path("embedded");
        support::run(self.folder.path(), "pipeline.toml", &data_dir, more);
        let of = |topic: &&str| ((*topic).to_owned(), support::topic(&data_dir, topic));
        topics.iter().map(of).collect()
    }

    /// The committed records of a topic, by partition, in order, as `topic read` prints those of the
    /// embedded log, but for headers.
    pub fn topic(&self, name: &str) -> Vec<Record> {
        let admin = self.admin();
        let partitions =
            admin.partitions(name).unwrap().unwrap_or_else(|| panic!("no topic {name}"));
        let waker = Waker::default();
        let fetcher = Fetcher::new(&self.settings(), "test", &waker).unwrap();
        let limit = Limit { records: 10_000, bytes: 4 << 20 };
        let mut records = Vec::new();
        for partition in 0..partitions {
            let range = admin.offsets(name, partition).unwrap();
            let mut reading = fetcher.assign(name, partition, range.start).unwrap();
            let begun = Instant::now();
            while reading.position() < range.end {
                let mut batch = Batch::new(false);
                if reading.read(&mut batch, limit).unwrap() == 0 {
                    assert!(begun.elapsed() < PATIENCE, "{name}/{partition} can't be read");
                    fetcher.wait(Duration::from_millis(20));
                }
                for (row, offset) in batch.offsets.iter().enumerate() {
                    let value = batch.values.get(row).map(|value| {
                        serde_json::from_slice(value).unwrap_or_else(|_| Value::String(text(value)))
                    });
                    records.push(json!({
                        "key": batch.keys.get(row).map(text), "value": value,
                        "timestamp": batch.timestamps[row], "partition": partition, "offset": offset,
                    }));
                }
            }
        }
        records
    }

    /// Topics hold what is expected, in the same order per key.
    pub fn assert_topics(&self, expected: &BTreeMap<String, Vec<Record>>, suffix: &str) {
        for (topic, expected) in expected {
            let found = self.topic(&format!("{topic}{suffix}"));
            assert_eq!(found.len(), expected.len(), "records in {topic}{suffix}");
            let plain = |records: &[Record]| {
                // A record that can't be read has the time at which that was found.
                let time = |r: &Record| (topic != "dead").then(|| r["timestamp"].clone());
                let of = |r: &Record| json!({ "key": r["key"], "value": r["value"], "timestamp": time(r) });
                by_key(&records.iter().map(of).collect::<Vec<_>>())
            };
            let (found, expected) = (plain(&found), plain(expected));
            for (key, expected) in &expected {
                assert_eq!(found.get(key), Some(expected), "key {key} of {topic}{suffix}");
            }
        }
    }

    /// Makes a topic.
    pub fn make(&self, topic: &str, partitions: u32, config: &[(&str, &str)]) {
        let spec = TopicSpec {
            name: topic.to_owned(),
            partitions: Some(partitions),
            replication: None,
            config: config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..TopicSpec::default()
        };
        self.admin().ensure_topics(&[spec]).unwrap();
    }

    pub fn produce(&self, topic: &str, partitions: u32, values: impl Iterator<Item = String>) {
        self.produce_from(topic, partitions, 0, values);
    }

    /// Sends records, of which number `n`, counted from `first`, is in partition `n % partitions` and has
    /// the time 1,700,000,000,000 + n ms.
    pub fn produce_from(
        &self,
        topic: &str,
        partitions: u32,
        first: u64,
        values: impl Iterator<Item = String>,
    ) {
        self.make(topic, partitions, &[]);
        let mut producer = Producer::at_least_once(&self.settings(), TIMEOUT).unwrap();
        let handle = producer.topic(topic).unwrap();
        producer.begin().unwrap();
        for (n, value) in (first..).zip(values) {
            let record = Sent {
                topic: handle,
                partition: n as u32 % partitions,
                key: None,
                value: Some(value.as_bytes()),
                timestamp: Some(1_700_000_000_000 + n.cast_signed()),
            };
            producer.send(record, NO_HEADERS).unwrap();
        }
        producer.commit_records().unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An instance that runs until it is dropped.
pub struct Instance {
    child: Child,
    log: PathBuf,
    address: String,
}

impl Instance {
    fn start(mut command: Command, data_dir: &Path) -> Self {
        let mut starts = 1;
        let log = |n: u32| data_dir.with_extension(format!("{n}.log"));
        while log(starts).exists() {
            starts += 1;
        }
        let log = log(starts);
        command.args(["--log", "info,wasmill=debug"]).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let child = command.spawn().expect("the program starts");
        let mut instance = Self { child, log, address: String::new() };
        let said = |said: &str| {
            let line = said.split_inclusive('\n').find(|line| line.ends_with('\n'))?;
            line.trim().strip_prefix("admin: listening on http://").map(str::to_owned)
        };
        let begun = Instant::now();
        instance.address = loop {
            if let Some(address) = said(&instance.said()) {
                break address;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not listen: {}", instance.said());
            std::thread::sleep(Duration::from_millis(10));
        };
        instance
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has said.
    pub fn said(&self) -> String {
        text(&std::fs::read(&self.log).unwrap_or_default())
    }

    /// Where it answers over HTTP.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its metrics, as Prometheus gets them.
    pub fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!("host: {}\r\nconnection: close\r\n\r\n", self.address);
        stream.write_all(format!("GET /metrics HTTP/1.1\r\n{head}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// How it stands; none while it does not say.
    pub fn try_status(&self) -> Option<Value> {
        let mut command = Command::new(program());
        let output = command.args(["status", "--json", "--admin", &self.address]).output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Waits until it stands as wanted, and gives how.
    pub fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.try_status();
            if let Some(status) = status.as_ref().filter(|status| wanted(status)) {
                return status.clone();
            }
            if begun.elapsed() > PATIENCE {
                panic!("waiting for {what}: {:#}\n{}", json!(status), self.said());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it has so many tasks and opens none; gives how it stands then.
    pub fn wait_tasks(&self, count: usize) -> Value {
        self.wait(&format!("{count} tasks"), |status| {
            tasks(status).len() == count && status["workers"]["0"]["opening"] == 0
        })
    }

    /// Kills it (SIGKILL).
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let (signal, id) = (format!("-{name}"), self.child.id().to_string());
        assert!(Command::new("kill").args([signal, id]).status().unwrap().success());
    }

    /// Has it end in good order (SIGINT).
    pub fn end(mut self) {
        self.signal("INT");
        let status = self.wait_end(PATIENCE);
        assert!(status.success(), "{status}: {}", self.said());
    }

    /// Waits until it has ended.
    pub fn wait_end(&mut self, patience: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < patience, "it does not end: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The tasks that are open by a status.
pub fn tasks(status: &Value) -> Vec<String> {
    status["tasks"].as_object().map_or_else(Vec::new, |tasks| tasks.keys().cloned().collect())
}
