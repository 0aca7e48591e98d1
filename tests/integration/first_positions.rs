//! Where reading begins, and that it stays there whatever happens before the first record.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wasmill_kafka::Committed;

use crate::support::{self, Record, program, root, stdout_of};
use crate::world::{TIMEOUT, World};

/// A pipeline that hands on what comes from where its topic ends when it starts the first time.
const FROM_NOW_ON: &str = r#"
    name = "follow"
    [engine]
    partitions = 2
    [source.in]
    topic = "in"
    start = "latest"
    [stage.pass]
    plugin = "identity"
    from = "source.in"
    [topic.out]
    from = "stage.pass"
"#;
const PATIENCE: Duration = Duration::from_secs(60);

fn numbers(range: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    range.map(|n| n.to_string())
}

/// Waits until the group has committed where it reads on in each partition of the input.
fn committed(world: &World) -> Vec<Option<i64>> {
    let group = Committed::new(&world.settings(), "follow").unwrap();
    let partitions = [("in".to_owned(), 0), ("in".to_owned(), 1)];
    let begun = Instant::now();
    loop {
        let positions = group.read(&partitions, TIMEOUT).unwrap();
        let offsets: Vec<_> = positions.into_iter().map(|position| position.offset).collect();
        if offsets.iter().all(Option::is_some) || begun.elapsed() > PATIENCE {
            return offsets;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn wait_for(world: &World, count: usize) -> Vec<Record> {
    let begun = Instant::now();
    loop {
        let records = world.topic("out");
        if records.len() >= count || begun.elapsed() > PATIENCE {
            return records;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Where it was to begin was first committed with the first record. An instance that died before that
/// left nothing of it, and the next one began at what was the end by then: what had come in between
/// was lost, and nothing said so.
#[test]
fn a_start_at_the_end_stays_where_it_was_though_no_record_was_read_yet() {
    let Some(world) = World::new("a_start_at_the_end", FROM_NOW_ON) else { return };
    world.produce("in", 2, numbers(0..10));
    let first = world.start("a", &[]);
    first.wait_tasks(2);
    assert_eq!(committed(&world), [Some(5), Some(5)], "it says where it begins before it reads");
    first.kill();
    world.produce("in", 2, numbers(10..30));
    let second = world.start("b", &[]);
    let mut found: Vec<u64> =
        wait_for(&world, 20).iter().map(|record| record["value"].as_u64().unwrap()).collect();
    found.sort_unstable();
    second.end();
    assert_eq!(found, (10..30).collect::<Vec<_>>());
}

/// The policy counted when a task was opened only; offsets that went while it read ended the process.
#[test]
fn offsets_that_go_while_an_input_is_read_are_answered_by_its_policy() {
    let Some(world) = World::new("offsets_that_go", FROM_NOW_ON) else { return };
    world.make("in", 2, &[]);
    let set = [
        "--set",
        "source.in.start=earliest",
        "--set",
        "source.in.lost-offsets=earliest",
        "--set",
        "kafka.consumer.session.timeout.ms=30000",
    ];
    let instance = world.start("a", &set);
    world.produce("in", 2, numbers(0..10));
    assert_eq!(wait_for(&world, 10).len(), 10);
    instance.signal("STOP");
    // Until nothing waits for an answer any more.
    std::thread::sleep(Duration::from_millis(500));
    world.produce("in", 2, numbers(10..30));
    world.admin().delete_records("in", 0, 12).unwrap();
    instance.signal("CONT");
    let found = wait_for(&world, 23).len();
    let said = instance.said();
    assert!(said.contains("is gone; reading goes on"), "{said}");
    assert_eq!(found, 23, "{said}");
    instance.end();
}

/// The same on the embedded log, where the first commit came with the first checkpoint.
#[test]
fn a_start_at_the_end_of_an_embedded_topic_stays_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("follow.toml"), FROM_NOW_ON).unwrap();
    let write = |numbers: std::ops::Range<u32>| {
        let mut command = Command::new(program());
        command.args(["topic", "write", "in", "--partitions", "2", "--data-dir", "data"]);
        let mut child = command.current_dir(folder).stdin(Stdio::piped()).spawn().unwrap();
        let line = |n: u32| format!("{{\"key\":\"{n}\",\"value\":\"{n}\"}}\n");
        let lines: String = numbers.map(line).collect();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    };
    write(0..10);
    let plugins = root().join("target/plugins");
    let mut run = Command::new(program());
    run.args(["run", "follow.toml", "--data-dir", "data", "--set"]);
    run.args(["engine.checkpoint-interval=1h", "--plugins"]).arg(&plugins).current_dir(folder);
    let mut run = run.stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    // The first commit says what topics there are, the one after it where each task stands.
    let commit = || std::fs::read_to_string(folder.join("data/log/COMMIT")).unwrap();
    while !commit().contains("\"0-1\":") && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(2));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    write(10..30);
    let plugins = plugins.to_str().unwrap();
    let bounded = ["--set", "source.in.bounded=true", "--json", "--plugins", plugins];
    let args = [&["run", "follow.toml", "--data-dir", "data"][..], &bounded].concat();
    let summary: serde_json::Value =
        serde_json::from_str(&stdout_of(support::wasmill(folder, &args))).unwrap();
    assert_eq!(summary["records"], 20, "{summary}");
}
