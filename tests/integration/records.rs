//! Records of every form through a pipeline on Kafka: headers, tombstones, bytes that are no text, and
//! times that the broker sets.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::{self, Record, by_key, program, stdout_of};
use crate::world::World;

/// What comes in goes out as it is, and through a plugin that takes no tombstones.
const PIPELINE: &str = r#"
name = "forms"
[engine]
partitions = 1
[source.in]
type = "topic"
topic = "in"
bounded = true
[topic.copy]
from = "source.in"
[stage.pass]
plugin = "identity"
from = "source.in"
[topic.out]
from = "stage.pass"
"#;

/// Of each form one.
fn records() -> Vec<Value> {
    let mut records = vec![
        json!({ "key": "a", "value": "one", "timestamp": 1_000,
                "headers": [["h", "1"], ["h", "2"], ["nothing", null], ["b", { "base64": "/wA=" }]] }),
        json!({ "key": "b", "value": null, "timestamp": 2_000, "headers": [["why", "gone"]] }),
        json!({ "key": null, "value": "two", "timestamp": 3_000 }),
        json!({ "key": { "base64": "/w==" }, "value": { "base64": "AP8=" }, "timestamp": 4_000 }),
        json!({ "key": "", "value": "", "timestamp": 5_000 }),
        json!({ "key": "b", "value": { "n": 3 }, "timestamp": 6_000 }),
    ];
    for record in &mut records {
        record["partition"] = 0.into();
    }
    records
}

/// `wasmill topic write in` at a place, with one partition.
fn write(place: &[&str], topic: &str, records: &[Value]) {
    let mut command = Command::new(program());
    command.args(["topic", "write", topic, "--partitions", "1"]).args(place);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// `wasmill topic read` at a place.
fn read(place: &[&str], topic: &str) -> Vec<Record> {
    let output: Output =
        support::wasmill(Path::new("."), &[&["topic", "read", topic], place].concat());
    stdout_of(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Key, value, time and headers.
fn content(record: &Value) -> Value {
    json!([record["key"], record["value"], record["timestamp"], record["headers"]])
}

fn header<'a>(record: &'a Record, name: &str) -> Option<&'a Value> {
    let mut headers = record["headers"].as_array().into_iter().flatten();
    headers.find(|header| header[0] == name).map(|header| &header[1])
}

#[test]
fn records_of_every_form_and_rejected_ones_are_on_kafka_what_they_are_on_the_embedded_log() {
    let Some(world) = World::new("records_of_every_form", PIPELINE) else { return };
    let (brokers, embedded) = (world.cluster.bootstrap(), world.path("embedded"));
    let kafka = ["--brokers", &brokers];
    let log = ["--data-dir", embedded.to_str().unwrap()];
    write(&kafka, "in", &records());
    write(&log, "in", &records());
    let expected = world.expected(&["copy", "out", "dead"], &[]);
    // Each is read for the copy and for the stage.
    assert_eq!(world.run("data", &[])["records"], 12);

    let copy = read(&kafka, "copy");
    let given: Vec<Value> = records().iter().map(content).collect();
    assert_eq!(copy.iter().map(content).collect::<Vec<_>>(), given, "nothing is changed or lost");
    for (topic, expected) in &expected {
        let found = read(&kafka, topic);
        assert_eq!(by_key(&found), by_key(expected), "{topic}");
    }
    let out = read(&kafka, "out");
    assert_eq!(out.len(), 5, "all but the tombstone: {out:?}");
    assert_eq!(out[0]["headers"], records()[0]["headers"], "they go with what is emitted");

    let dead = read(&kafka, "dead");
    assert_eq!(dead.len(), 1, "{dead:?}");
    let record = &dead[0];
    assert_eq!((&record["key"], &record["value"]), (&json!("b"), &Value::Null));
    assert_eq!(record["timestamp"], 2_000);
    for (name, value) in [
        ("why", "gone"),
        ("wasmill.error.class", "malformed"),
        ("wasmill.stage", "pass"),
        ("wasmill.origin.topic", "in"),
        ("wasmill.origin.partition", "0"),
        ("wasmill.origin.offset", "1"),
    ] {
        assert_eq!(header(record, name), Some(&json!(value)), "{name} of {record}");
    }
    for name in ["wasmill.error.reason", "wasmill.plugin", "wasmill.plugin.digest"] {
        assert!(header(record, name).is_some(), "{name} of {record}");
    }
}

#[test]
fn event_time_is_the_time_that_the_broker_sets_where_a_topic_says_so() {
    let Some(world) = World::new("event_time_is_the_time", PIPELINE) else { return };
    let brokers = world.cluster.bootstrap();
    let kafka = ["--brokers", &brokers];
    world.make("in", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    let before = now();
    write(&kafka, "in", &records());
    let after = now();
    world.run("data", &[]);
    let appended = read(&kafka, "in");
    let copy = read(&kafka, "copy");
    assert_eq!(copy.len(), 6);
    for (copy, appended) in copy.iter().zip(&appended) {
        let time = copy["timestamp"].as_i64().unwrap();
        assert_eq!(copy["timestamp"], appended["timestamp"]);
        assert!((before..=after).contains(&time), "{time} is not in {before} to {after}");
    }
}
