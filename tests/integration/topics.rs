//! `wasmill topic` and `wasmill generate` on Kafka: as on the embedded log.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use wasmill_kafka::{Admin, NO_HEADERS, Producer, Record as Sent, Settings, TopicSpec};
use wasmill_test_kafka::{Cluster, cluster_or_skip};

use crate::support::{self, Record, by_key, program, stdout_of};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A test's own topics on the broker that all tests of this file share.
struct World {
    brokers: String,
    prefix: String,
    folder: tempfile::TempDir,
}

impl World {
    /// None where there is no broker to be had.
    fn new(test: &str) -> Option<Self> {
        static SHARED: Mutex<Option<Cluster>> = Mutex::new(None);
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.is_none() {
            *shared = Some(cluster_or_skip(test, 1)?);
        }
        let brokers = shared.as_ref()?.bootstrap();
        let prefix = format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        Some(Self { brokers, prefix, folder: tempfile::tempdir().unwrap() })
    }

    /// A name of this test's own.
    fn name(&self, topic: &str) -> String {
        format!("{}-{topic}", self.prefix)
    }

    fn settings(&self) -> Settings {
        Settings::new(self.brokers.clone())
    }

    fn admin(&self) -> Admin {
        Admin::connect(&self.settings(), TIMEOUT).unwrap()
    }

    fn create(&self, topic: &str, partitions: u32, config: &[(&str, &str)]) -> String {
        let name = self.name(topic);
        let config = config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let partitions = Some(partitions);
        let spec = TopicSpec { name: name.clone(), partitions, config, ..TopicSpec::default() };
        self.admin().ensure_topics(&[spec]).unwrap();
        name
    }

    /// `wasmill topic VERB ARGS` on this broker.
    fn command(&self, verb: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(["topic", verb]).args(args).args(["--brokers", &self.brokers]);
        command.current_dir(self.folder.path()).env_remove("WASMILL_DATA_DIR");
        command
    }

    fn topic(&self, verb: &str, args: &[&str]) -> Output {
        self.command(verb, args).stdin(Stdio::null()).output().expect("the program starts")
    }

    fn write(&self, args: &[&str], lines: &str) -> Output {
        piped(self.command("write", args), lines)
    }

    fn read(&self, args: &[&str]) -> Vec<Record> {
        records(&stdout_of(self.topic("read", args)))
    }

    /// The end of every partition.
    fn ends(&self, topic: &str) -> Vec<i64> {
        let found = self.admin().survey_topic(topic).unwrap().expect("the topic exists");
        found.partitions.iter().map(|p| p.unwrap().end).collect()
    }
}

/// Runs a command with this input.
fn piped(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // It may refuse to read on, and that shows in its output.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn records(text: &str) -> Vec<Record> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn error_of(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    said
}

/// Records without partition and offset.
fn plain(records: &[Record]) -> Vec<Value> {
    let mut records = records.to_vec();
    for record in &mut records {
        let fields = record.as_object_mut().unwrap();
        fields.remove("partition");
        fields.remove("offset");
    }
    records
}

fn values(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record["value"].as_str().unwrap()).collect()
}

#[test]
fn what_is_written_is_read_with_key_time_and_headers() {
    let Some(world) = World::new("what_is_written_is_read") else { return };
    let topic = world.name("all");
    let written = [
        json!({"timestamp": 1_700_000_000_000_i64, "key": "21", "value": {"a": 1.5}}),
        json!({"timestamp": 1_700_000_000_001_i64, "key": "21", "value": null}),
        json!({"timestamp": 1_700_000_000_002_i64, "key": null, "value": "text"}),
        json!({"timestamp": 1_700_000_000_003_i64, "key": {"base64": "/wA="}, "value": {"base64": "AP8="}}),
        json!({"timestamp": 1_700_000_000_004_i64, "key": null, "value": null,
               "headers": [["h", "1"], ["h", null], ["i", {"base64": "/w=="}]]}),
        json!({"timestamp": 1_700_000_000_005_i64, "key": "", "value": ""}),
    ];
    let lines: String = written.iter().map(|record| format!("{record}\n")).collect();
    let output = world.write(&[&topic, "--partitions", "3"], &format!("{lines}\n"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    stdout_of(output);
    assert!(said.contains("(3 partitions)") && said.trim_end().ends_with(": 6"), "{said}");

    let read = world.read(&[&topic]);
    let mut sorted = plain(&read);
    sorted.sort_by_key(|record| record["timestamp"].as_i64());
    assert_eq!(sorted, written);
    let partition_of = |n: i64| {
        let time = 1_700_000_000_000 + n;
        let record = read.iter().find(|record| record["timestamp"] == time);
        record.unwrap()["partition"].as_u64().unwrap()
    };
    // As the Java client places "21" among three; those without a key go round.
    assert_eq!((partition_of(0), partition_of(1)), (0, 0));
    assert_eq!((partition_of(2), partition_of(4)), (0, 1));

    let copy = world.create("copy", 3, &[]);
    let text = stdout_of(world.topic("read", &[&topic]));
    stdout_of(world.write(&[&copy], &text));
    let again = plain(&world.read(&[&copy]));
    assert_eq!(by_key(&again), by_key(&plain(&read)));
}

#[test]
fn one_bad_line_and_nothing_is_written() {
    let Some(world) = World::new("one_bad_line") else { return };
    let topic = world.create("t", 2, &[]);
    let good = "{\"value\":\"x\"}\n".repeat(500);
    let said = error_of(&world.write(&[&topic], &format!("{good}nonsense\n{good}")));
    assert!(said.contains("nothing was written") && said.contains("line 501"), "{said}");
    assert_eq!(world.ends(&topic), [0, 0]);
    let said = error_of(&world.write(&[&topic], &format!("{good}{{\"value\":1,\"timestamp\":0}}")));
    assert!(said.contains("line 501") && said.contains("leave it out"), "{said}");
    assert_eq!(world.ends(&topic), [0, 0]);

    let new = world.name("new");
    error_of(&world.write(&[&new, "--partitions", "2"], "nonsense"));
    assert_eq!(world.admin().partitions(&new).unwrap(), None, "no topic was made for it");
}

#[test]
fn one_record_that_kafka_refuses_and_nothing_is_there() {
    let Some(world) = World::new("one_record_that_kafka_refuses") else { return };
    let topic = world.create("t", 1, &[("max.message.bytes", "2000")]);
    let large = format!("{{\"value\":\"{}\"}}\n", "x".repeat(5_000));
    let small = "{\"value\":\"x\"}\n";
    let said = error_of(&world.write(&[&topic], &format!("{small}{large}{small}")));
    assert!(said.contains("nothing was written") && said.contains("size"), "{said}");
    assert_eq!(world.read(&[&topic]), [Value::Null; 0]);
    stdout_of(world.write(&[&topic], small));
    assert_eq!(values(&world.read(&[&topic])), ["x"]);
}

#[test]
fn only_what_is_committed_is_read_unless_more_is_asked_for() {
    let Some(world) = World::new("only_what_is_committed") else { return };
    let topic = world.create("t", 1, &[]);
    let id = world.name("producer");
    let mut settings = world.settings();
    // One transaction is open while the command runs, however slow the machine is.
    settings.producer.insert("transaction.timeout.ms".to_owned(), "600000".to_owned());
    let mut producer = Producer::connect(&settings, &id, TIMEOUT).unwrap();
    let handle = producer.topic(&topic).unwrap();
    let send = |producer: &mut Producer, value: &str| {
        producer.begin().unwrap();
        let value = Some(value.as_bytes());
        let record = Sent { topic: handle, partition: 0, key: None, value, timestamp: None };
        producer.send(record, NO_HEADERS).unwrap();
        producer.drain().unwrap();
    };
    send(&mut producer, "committed");
    producer.commit_records().unwrap();
    send(&mut producer, "aborted");
    producer.abort().unwrap();
    // This also waits until the end of the transactions before is to be seen.
    stdout_of(world.write(&[&topic], "{\"value\":\"written\"}"));
    assert_eq!(values(&world.read(&[&topic])), ["committed", "written"]);

    send(&mut producer, "open");
    let output = world.topic("read", &[&topic]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(values(&records(&stdout_of(output))), ["committed", "written"]);
    assert!(said.contains("a transaction is open") && said.contains("--uncommitted"), "{said}");
    let all = world.read(&[&topic, "--uncommitted"]);
    assert_eq!(values(&all), ["committed", "aborted", "written", "open"]);
    producer.abort().unwrap();
}

#[test]
fn a_topic_that_does_not_exist_is_answered_with_the_nearest() {
    let Some(world) = World::new("a_topic_that_does_not_exist") else { return };
    let orders = world.create("orders", 2, &[]);
    let wrong = world.name("ordres");
    let said = error_of(&world.topic("read", &[&wrong]));
    assert!(said.contains(&format!("no topic {wrong:?} on Kafka {}", world.brokers)), "{said}");
    assert!(said.contains(&format!("{orders:?}")) && said.contains("topic ls"), "{said}");
    let said = error_of(&world.write(&[&wrong], "{\"value\":1}"));
    assert!(said.contains(&format!("{orders:?}")) && said.contains("--partitions N"), "{said}");
    assert_eq!(world.admin().partitions(&wrong).unwrap(), None, "it was not made by asking");

    let said = error_of(&world.topic("read", &[&orders, "--partition", "2"]));
    assert!(said.contains("partitions 0 to 1, there is no partition 2"), "{said}");
    let said = error_of(&world.write(&[&orders, "--partitions", "3"], "{\"value\":1}"));
    assert!(said.contains("has 2 partitions, 3 were asked for"), "{said}");
}

#[test]
fn partition_offset_and_limit_narrow_what_is_read() {
    let Some(world) = World::new("partition_offset_and_limit") else { return };
    let topic = world.create("t", 2, &[]);
    let lines = ["a", "b", "c", "d", "e"].map(|value| format!("{{\"value\":\"{value}\"}}\n"));
    stdout_of(world.write(&[&topic], &lines.concat()));
    let of = |args: &[&str]| {
        let read = world.read(&[&[topic.as_str()], args].concat());
        values(&read).join("")
    };
    assert_eq!(of(&[]), "acebd");
    assert_eq!(of(&["--limit", "4"]), "aceb");
    assert_eq!(of(&["--limit", "0"]), "");
    assert_eq!(of(&["--partition", "1"]), "bd");
    assert_eq!(of(&["--from", "1"]), "ced");
    assert_eq!(of(&["--from", "end"]), "");
    assert_eq!(of(&["--from", "99"]), "");

    world.admin().delete_records(&topic, 0, 2).unwrap();
    let output = world.topic("read", &[&topic, "--from", "1"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("partition 0: records before offset 2 were dropped"), "{said}");
    assert_eq!(values(&records(&stdout_of(output))), ["e", "d"]);
}

#[test]
fn following_goes_on_with_what_comes_later() {
    let Some(world) = World::new("following") else { return };
    let topic = world.create("t", 2, &[]);
    let write = |value: &str| {
        stdout_of(world.write(&[&topic], &format!("{{\"value\":\"{value}\"}}\n")));
    };
    write("first");
    let mut command = world.command("read", &[&topic, "--follow", "--limit", "3"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || {
        let line: Record = serde_json::from_str(&lines.next()?.unwrap()).unwrap();
        Some(line["value"].as_str().unwrap().to_owned())
    };
    for value in ["first", "second", "third"] {
        // The first is there; each of the others is written when the one before was printed.
        assert_eq!(next().as_deref(), Some(value));
        match value {
            "first" => write("second"),
            "second" => write("third"),
            _ => {}
        }
    }
    assert_eq!(next(), None, "the limit counts also here");
    assert!(child.wait().unwrap().success());
}

#[test]
fn topics_are_listed_without_those_that_kafka_keeps_for_itself() {
    let Some(world) = World::new("topics_are_listed_without") else { return };
    let (a, b) = (world.create("a", 1, &[]), world.create("b", 3, &[]));
    let lines = "{\"value\":1}\n{\"value\":2}\n{\"value\":3}\n{\"value\":4}\n";
    stdout_of(world.write(&[&b], lines));
    let rows = |args: &[&str]| -> BTreeMap<String, Vec<Vec<String>>> {
        let text = stdout_of(world.topic("ls", args));
        let mut rows: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
        for line in text.lines() {
            let mut cells = line.split_whitespace().map(str::to_owned);
            let topic = cells.next().unwrap();
            rows.entry(topic).or_default().push(cells.collect());
        }
        rows
    };
    let found = rows(&[]);
    assert_eq!(found["TOPIC"], [["PARTITIONS", "~RECORDS", "START", "END"]]);
    assert_eq!(found[&a], [["1", "0", "0", "0"]]);
    // Two records and the transaction's mark in the first partition, one and one in the others.
    assert_eq!(found[&b], [["3", "7", "0", "3"]]);
    assert!(!found.keys().any(|topic| topic.starts_with("__")), "{found:?}");
    assert_eq!(rows(&["--partitions"])[&b][0], ["0", "3", "0", "3"]);
    assert!(rows(&["--all"]).contains_key("__transaction_state"));
}

#[test]
fn a_pipeline_file_says_where_its_topics_are() {
    let Some(world) = World::new("a_pipeline_file_says") else { return };
    let topic = world.create("t", 2, &[]);
    let pipeline = format!(
        "name = \"lines\"\n[source.lines]\ntype = \"topic\"\ntopic = \"{topic}\"\n\
         [topic.copy]\nfrom = \"source.lines\"\n"
    );
    let kafka = "[kafka]\nbrokers = \"127.0.0.1:1\"\n[kafka.properties]\n\"client.id\" = \"me\"\n";
    std::fs::write(world.folder.path().join("embedded.toml"), &pipeline).unwrap();
    std::fs::write(world.folder.path().join("kafka.toml"), format!("{pipeline}{kafka}")).unwrap();
    let run = |args: &[&str], input: &str| {
        let mut command = Command::new(program());
        command.arg("topic").args(args).current_dir(world.folder.path());
        command.env_remove("WASMILL_DATA_DIR");
        piped(command, input)
    };
    let set = format!("kafka.brokers={}", world.brokers);
    let on_kafka = ["--pipeline", "kafka.toml", "--set", &set];
    let embedded = ["--pipeline", "embedded.toml"];
    for place in [&on_kafka[..], &embedded] {
        stdout_of(run(&[&["write", &topic], place].concat(), "{\"value\":\"x\"}"));
        let text = stdout_of(run(&[&["read", &topic], place].concat(), ""));
        assert_eq!(values(&records(&text)), ["x"]);
        assert!(stdout_of(run(&[&["ls"], place].concat(), "")).contains(&topic));
    }
    assert!(world.folder.path().join(".wasmill/lines/log/COMMIT").exists());
    assert_eq!(values(&world.read(&[&topic])), ["x"]);
}

#[test]
fn generated_records_are_on_kafka_what_they_are_on_the_embedded_log() {
    let Some(world) = World::new("generated_records") else { return };
    let topic = world.name("raw");
    let generate = |more: &[&str]| {
        let start = ["--start", "2026-01-31T00:00:00Z", "--partitions", "3"];
        let mut args = vec!["generate", "clickstream", "--events", "2000", "--topic", &topic];
        args.extend(start.iter().chain(more));
        support::wasmill(world.folder.path(), &args)
    };
    let data_dir = world.folder.path().join("data");
    stdout_of(generate(&["--brokers", &world.brokers]));
    stdout_of(generate(&["--data-dir", &data_dir.display().to_string()]));
    let (kafka, embedded) = (world.read(&[&topic]), support::topic(&data_dir, &topic));
    assert_eq!(kafka.len(), 2_000);
    assert_eq!(plain(&kafka), plain(&embedded), "in the same partitions, in the same order");
}

#[test]
fn what_is_wrong_with_the_place_is_said() {
    let run = |args: &[&str]| error_of(&support::wasmill(Path::new("."), args));
    let said = run(&["topic", "ls", "--brokers", "127.0.0.1:1"]);
    assert!(said.contains("no broker answers at Kafka 127.0.0.1:1"), "{said}");
    assert!(said.contains("security.protocol"), "{said}");
    let with = |property: &str| run(&["topic", "ls", "--brokers", "b:1", "--property", property]);
    let said = with("sasl.mechanizm=PLAIN");
    assert!(said.contains("--property") && said.contains("did you mean `sasl.mechanism"), "{said}");
    let said = with("isolation.level=read_uncommitted");
    assert!(said.contains("`isolation.level` can't be set"), "{said}");
    let said = with("sasl.password=${env:WASMILL_NO_SUCH_VARIABLE}");
    assert!(said.contains("WASMILL_NO_SUCH_VARIABLE, which is not set"), "{said}");
    let said = run(&["topic", "read", "t", "--brokers", "b:1", "--data-dir", "d"]);
    assert!(said.contains("cannot be used with"), "{said}");
}
