//! Pipelines on Apache Kafka itself: what comes out is what the embedded log gives, whatever happens.

use std::collections::BTreeSet;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wasmill_kafka::{Batch, Fetcher, Limit, NO_HEADERS, Producer, Record as Sent, Waker};

use crate::support::{self, Record, root, stdout_of};
use crate::world::{TIMEOUT, World};

/// A generated access log, and a pipeline with a repartition by user that reads it from a file.
fn from_file(test: &str) -> Option<World> {
    let pipeline = r#"
        name = "visits"
        [engine]
        partitions = 3
        [source.raw]
        path = "access.log"
        out-of-orderness = "60s"
        [stage.clean]
        plugin = "clean"
        from = "source.raw"
        [topic.clean]
        from = "stage.clean"
        [stage.sessionize]
        plugin = "sessionize"
        from = "topic.clean"
        [topic.live]
        from = "stage.sessionize.live"
        [topic.sessions]
        from = "stage.sessionize.final"
    "#;
    let world = World::new(test, pipeline)?;
    let config = wasmill_generate::Config {
        events: Some(20_000),
        users: 300,
        rate: 2.0,
        ..wasmill_generate::Config::default()
    };
    std::fs::write(world.path("access.log"), support::clickstream(&config)).unwrap();
    Some(world)
}

/// An instance that is to die commits after each batch of a task: there are many.
const MANY_COMMITS: [&str; 2] = ["--set", "engine.batch-records=50"];
const OUTPUTS: [&str; 4] = ["clean", "live", "sessions", "dead"];

#[test]
fn the_example_gives_on_kafka_what_it_gives_on_the_embedded_log() {
    let test = "the_example_on_kafka";
    let Some(log) = support::shared(test, "data/apache_logs") else { return };
    let text = std::fs::read_to_string(root().join("examples/weblog/pipeline.toml")).unwrap();
    let Some(world) = World::new(test, &text) else { return };
    let table = root().join("examples/weblog/sections.csv");
    std::fs::copy(table, world.path("sections.csv")).unwrap();
    let set = format!("source.raw.path={}", log.canonicalize().unwrap().display());
    let topics = ["clean", "live", "sessions", "pages", "visits", "users", "bounced", "other"];
    let expected = world.expected(&topics, &["--set", &set]);
    let summary = world.run("data", &["--set", &set]);
    assert_eq!(summary["complete"], true);
    assert_eq!(expected["sessions"].len(), 3_052);
    world.assert_topics(&expected, "");
    // What is complete is not done again.
    let again = world.run("data", &["--set", &set]);
    assert_eq!((&again["was_complete"], &again["records"]), (&json!(true), &json!(0)));
    world.assert_topics(&expected, "");
}

#[test]
fn a_process_that_dies_at_a_commit_loses_nothing_and_repeats_nothing() {
    let Some(world) = from_file("a_process_that_dies_at_a_commit") else { return };
    let expected = world.expected(&OUTPUTS, &[]);
    let mut deaths = 0;
    for n in [1, 2, 3, 5] {
        for instant in ["before-commit", "before-end", "after-commit"] {
            let mut command = world.command("run", "data", &MANY_COMMITS);
            let output =
                command.env("WASMILL_CRASH_AT", format!("{instant}:{n}")).output().unwrap();
            deaths += u32::from(!output.status.success());
        }
    }
    assert!(deaths >= 9, "only {deaths} processes have died: the test shows little");
    assert_eq!(world.run("data", &[])["complete"], true);
    world.assert_topics(&expected, "");
}

#[test]
fn state_that_is_gone_is_restored_from_the_changelog() {
    let Some(world) = from_file("state_that_is_gone") else { return };
    let expected = world.expected(&OUTPUTS, &[]);
    for n in [3, 4] {
        let mut command = world.command("run", "data", &MANY_COMMITS);
        command.env("WASMILL_CRASH_AT", format!("after-commit:{n}"));
        assert!(!command.output().unwrap().status.success());
        std::fs::remove_dir_all(world.path("data/state")).unwrap();
    }
    assert_eq!(world.run("data", &[])["complete"], true);
    world.assert_topics(&expected, "");
}

#[test]
fn at_least_once_loses_nothing() {
    let Some(world) = from_file("at_least_once") else { return };
    let expected = world.expected(&OUTPUTS, &[]);
    let set = [&MANY_COMMITS[..], &["--set", "kafka.guarantee=at-least-once"]].concat();
    for instant in ["before-commit:3", "after-commit:2", "before-commit:1", "after-commit:4"] {
        let mut command = world.command("run", "data", &set);
        let output = command.env("WASMILL_CRASH_AT", instant).output().unwrap();
        assert!(!output.status.success(), "{instant}");
    }
    assert_eq!(world.run("data", &set)["complete"], true);
    // A record that is processed twice counts twice in its session; but none is missing.
    let lines = |records: &[Record]| -> BTreeSet<String> {
        records.iter().map(|r| format!("{} {}", r["key"], r["value"])).collect()
    };
    let ids = |records: &[Record]| -> BTreeSet<String> {
        records.iter().map(|r| r["value"]["session_id"].to_string()).collect()
    };
    let missing = |expected: BTreeSet<String>, found: BTreeSet<String>| -> Vec<String> {
        expected.difference(&found).cloned().collect()
    };
    let none: [String; 0] = [];
    assert_eq!(missing(lines(&expected["clean"]), lines(&world.topic("clean"))), none);
    assert_eq!(missing(ids(&expected["sessions"]), ids(&world.topic("sessions"))), none);
}

/// A pipeline that reads lines from a topic.
const FROM_TOPIC: &str = r#"
    name = "lines"
    [engine]
    partitions = 2
    [source.lines]
    type = "topic"
    topic = "lines"
    bounded = true
    [stage.clean]
    plugin = "clean"
    from = "source.lines"
    [topic.clean]
    from = "stage.clean"
"#;

fn lines(n: u32) -> impl Iterator<Item = String> {
    (0..n).map(|n| {
        format!(
            "10.0.0.{} - - [17/May/2015:10:{:02}:{:02} +0000] \"GET /{n} HTTP/1.1\" 200 5 \"-\" \"t\"",
            n % 7,
            n / 60 % 60,
            n % 60
        )
    })
}

#[test]
fn a_replay_runs_over_a_part_of_history_beside_the_pipeline() {
    let Some(world) = World::new("a_replay", FROM_TOPIC) else { return };
    world.produce("lines", 2, lines(600));
    assert_eq!(world.run("data", &[])["records"], 600);
    assert_eq!(world.topic("clean").len(), 600);

    let all = ["--from", "earliest", "--as", "all"];
    let text = stdout_of(world.wasmill("replay", "all", &all));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["records"], 600);
    assert_eq!(world.topic("clean-all").len(), 600);

    let part = ["--from", "0=100,1=250", "--until", "0=150,1=260", "--as", "part"];
    let text = stdout_of(world.wasmill("replay", "part", &part));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["records"], 60);
    let text = stdout_of(world.wasmill("replay", "part", &[&part[..], &["--fresh"]].concat()));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["records"], 60);
    assert_eq!(world.topic("clean-part").len(), 60);

    // Record n has the time 1,700,000,000,000 + n ms.
    let times = ["--from", "2023-11-14T22:13:20.500Z", "--as", "late"];
    let text = stdout_of(world.wasmill("replay", "late", &times));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["records"], 100);
    assert_eq!(world.topic("clean").len(), 600, "the pipeline's own topic is not touched");
}

fn error_of(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_wrong_with_topics_and_settings_is_said() {
    let Some(world) = World::new("what_is_wrong", FROM_TOPIC) else { return };
    let error = error_of(&world.wasmill("run", "a", &[]));
    assert!(error.contains("lines") && error.contains("exist"), "{error}");

    world.produce("lines", 2, lines(10));
    world.produce("clean", 5, std::iter::empty());
    let set = ["--set", "topic.clean.partitions=3"];
    let error = error_of(&world.wasmill("run", "a", &set));
    let both =
        "clean: has 5 partitions, but 3 are needed; keys are placed by the number of partitions";
    assert!(error.contains(both), "{error}");

    let set = ["--set", "kafka.properties.no.such.setting=1"];
    let error = error_of(&world.wasmill("run", "a", &set));
    assert!(error.contains("no.such.setting"), "{error}");

    let secret = [
        "--set",
        "kafka.properties.sasl.password=hunter2",
        "--set",
        "kafka.properties.security.protocol=nonsense",
    ];
    let error = error_of(&world.wasmill("run", "a", &secret));
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn offsets_that_are_gone_are_an_error_unless_the_source_says_otherwise() {
    let Some(world) = World::new("offsets_that_are_gone", FROM_TOPIC) else { return };
    world.produce("lines", 1, lines(100));
    assert_eq!(world.run("data", &[])["records"], 100);
    world.produce("lines", 1, lines(50));
    world.admin().delete_records("lines", 0, 120).unwrap();
    // Ended inputs are not read on: another group begins where nothing is any more.
    let start = ["--set", "source.lines.start.0=5", "--set", "kafka.group=other"];
    let error = error_of(&world.wasmill("run", "other", &start));
    for word in ["lines", "5", "120", "150"] {
        assert!(error.contains(word), "{word} in {error}");
    }
    let earliest = [&start[..], &["--set", "source.lines.lost-offsets=earliest"]].concat();
    assert_eq!(world.run("other", &earliest)["records"], 30);
}

#[test]
fn records_that_the_pipeline_wrote_for_itself_and_that_are_missing_end_the_run() {
    let Some(world) = from_file("records_for_itself") else { return };
    let mut command = world.command("run", "data", &MANY_COMMITS);
    let died = command.env("WASMILL_CRASH_AT", "after-commit:8").output().unwrap();
    assert!(!died.status.success());
    let frames = "visits-clean-frames";
    assert!(world.admin().list_topics("visits-").unwrap().iter().any(|topic| topic == frames));
    // It has read some of them; one more in each partition is surely not read yet.
    world.produce(frames, 3, lines(3));
    let admin = world.admin();
    let ends = (0..3).map(|p| admin.offsets(frames, p).unwrap().end).collect::<Vec<_>>();
    (0..3).zip(&ends).for_each(|(p, end)| admin.delete_records(frames, p, *end).unwrap());
    let error = error_of(&world.wasmill("run", "data", &[]));
    assert!(error.contains(frames) && error.contains("is gone"), "{error}");
    assert!(ends.iter().any(|end| error.contains(&end.to_string())), "{error}");
}

#[test]
fn a_data_directory_belongs_to_one_process_and_one_group() {
    let Some(world) = World::new("a_data_directory", FROM_TOPIC) else { return };
    world.produce("lines", 2, lines(10));
    let unbounded = ["--set", "source.lines.bounded=false"];
    let mut first = world.command("run", "data", &unbounded).spawn().unwrap();
    let running = || world.path("data/instance").exists();
    while !running() {
        assert!(first.try_wait().unwrap().is_none(), "the first process has ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    // It has the lock as soon as the file is written.
    while std::fs::read_to_string(world.path("data/instance")).unwrap().is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let error = error_of(&world.wasmill("run", "data", &unbounded));
    assert!(error.contains("in use"), "{error}");
    first.kill().unwrap();
    first.wait().unwrap();
    let error = error_of(&world.wasmill("run", "data", &["--set", "kafka.group=another"]));
    assert!(error.contains("group lines") && error.contains("group another"), "{error}");
}

#[test]
fn sinks_that_kafka_can_not_keep_exact_are_refused() {
    let text = format!("{FROM_TOPIC}\n[sink.out]\ntype = \"stdout\"\nfrom = \"stage.clean\"\n");
    let Some(world) = World::new("sinks_on_kafka", &text) else { return };
    world.produce("lines", 2, lines(10));
    let error = error_of(&world.wasmill("run", "data", &[]));
    assert!(error.contains("sink.out") && error.contains("topic"), "{error}");
}

/// Records of a changelog: key, value.
type Raw = Vec<(Vec<u8>, Vec<u8>)>;

/// The records of a partition, and where each is.
fn raw(world: &World, topic: &str, partition: u32) -> Raw {
    let range = world.admin().offsets(topic, partition).unwrap();
    let waker = Waker::default();
    let fetcher = Fetcher::new(&world.settings(), "test", &waker).unwrap();
    let mut reading = fetcher.assign(topic, partition, range.start).unwrap();
    let (mut batch, begun) = (Batch::new(false), Instant::now());
    while reading.position() < range.end {
        assert!(begun.elapsed() < Duration::from_secs(60), "{topic}/{partition} can't be read");
        let limit = Limit { records: usize::MAX, bytes: usize::MAX };
        if reading.read(&mut batch, limit).unwrap() == 0 {
            fetcher.wait(Duration::from_millis(20));
        }
    }
    let bytes = |column: Option<&[u8]>| column.unwrap_or_default().to_vec();
    (0..batch.len()).map(|i| (bytes(batch.keys.get(i)), bytes(batch.values.get(i)))).collect()
}

/// What a process without transactions that slept for long sends when it wakes up: old changes and
/// where its tasks stood, behind what their new owner has written. The next restore took them.
#[test]
fn what_a_former_owner_sends_late_is_not_restored() {
    let Some(world) = from_file("a_former_owner") else { return };
    let set = [&MANY_COMMITS[..], &["--set", "kafka.guarantee=at-least-once"]].concat();
    let mut command = world.command("run", "data", &set);
    let died = command.env("WASMILL_CRASH_AT", "after-commit:3").output().unwrap();
    assert!(!died.status.success());
    let changelogs = ["visits-0-changelog", "visits-1-changelog"];
    let admin = world.admin();
    let partitions = changelogs.map(|topic| (topic, admin.partitions(topic).unwrap().unwrap()));
    let partitions: Vec<(&str, u32)> =
        partitions.into_iter().flat_map(|(topic, n)| (0..n).map(move |p| (topic, p))).collect();
    let before: Vec<Raw> = partitions.iter().map(|(t, p)| raw(&world, t, *p)).collect();
    assert!(before.iter().any(|records| !records.is_empty()), "the first has written something");
    assert_eq!(world.run("data", &set)["complete"], true);
    let sessions = world.topic("sessions").len();

    let mut producer = Producer::at_least_once(&world.settings(), TIMEOUT).unwrap();
    producer.begin().unwrap();
    for ((topic, partition), records) in partitions.iter().zip(&before) {
        let topic = producer.topic(topic).unwrap();
        for (key, value) in records {
            let (key, value) = (Some(key.as_slice()), Some(value.as_slice()));
            let record = Sent { topic, partition: *partition, key, value, timestamp: None };
            producer.send(record, NO_HEADERS).unwrap();
        }
    }
    producer.commit_records().unwrap();
    std::fs::remove_dir_all(world.path("data/state")).unwrap();
    let again = world.run("data", &set);
    assert_eq!((&again["was_complete"], &again["records"]), (&json!(true), &json!(0)));
    assert_eq!(world.topic("sessions").len(), sessions);
}
