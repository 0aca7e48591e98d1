//! Where a source of type topic begins to read on Kafka: each way of `start`, the first time and after it.

use serde_json::Value;

use crate::support::Record;
use crate::world::{Instance, World, tasks};

/// What is read goes out, with the time of each record.
const PIPELINE: &str = r#"
name = "starts"
[engine]
partitions = 2
[source.in]
type = "topic"
topic = "in"
[topic.out]
from = "source.in"
"#;

/// Record `n` is in partition `n % 2` and has the time 1,700,000,000,000 + n ms.
const BEGIN_MS: i64 = 1_700_000_000_000;

fn produce(world: &World, numbers: std::ops::Range<u64>) {
    // Numbers are placed and timed by where they are in the list; the first of a batch is even.
    assert_eq!(numbers.start % 2, 0);
    world.produce_from("in", 2, numbers.start, numbers.map(|n| n.to_string()));
}

/// The numbers that came out from these offsets on, ascending.
fn numbers(world: &World, from: &[i64]) -> Vec<u64> {
    let is_new = |r: &&Record| {
        let partition = r["partition"].as_u64().unwrap() as usize;
        r["offset"].as_i64().unwrap() >= from[partition]
    };
    let records = world.topic("out");
    let of = |r: &Record| {
        let n = r["value"].as_u64().unwrap();
        assert_eq!(r["timestamp"].as_i64(), Some(BEGIN_MS + n.cast_signed()), "{r}");
        n
    };
    let mut numbers: Vec<u64> = records.iter().filter(is_new).map(of).collect();
    numbers.sort_unstable();
    numbers
}

/// Where the output ends.
fn ends(world: &World) -> Vec<i64> {
    let admin = world.admin();
    (0..2).map(|p| admin.offsets("out", p).unwrap().end).collect()
}

#[test]
fn a_source_begins_where_its_start_says_and_later_where_it_stood() {
    let Some(world) = World::new("a_source_begins", PIPELINE) else { return };
    world.make("out", 2, &[]);
    produce(&world, 0..100);
    // Partition 0 has the even numbers, so that offset 45 is number 90, and 91 is at offset 45 of 1.
    let time = "source.in.start=2023-11-14T22:13:20.030Z";
    for (group, start, expected) in [
        ("earliest", vec!["source.in.start=earliest"], (0..100).collect::<Vec<u64>>()),
        ("time", vec![time], (30..100).collect()),
        ("between", vec!["source.in.start=2023-11-14T22:13:20.031Z"], (31..100).collect()),
        ("late", vec!["source.in.start=2024-01-01T00:00:00Z"], vec![]),
        (
            "offsets",
            vec!["source.in.start.0=45", "source.in.start.1=47"],
            vec![90, 92, 94, 95, 96, 97, 98, 99],
        ),
        // A partition that is not named begins at its beginning.
        ("one", vec!["source.in.start.1=49"], {
            let mut all: Vec<u64> = (0..100).step_by(2).collect();
            all.push(99);
            all
        }),
        ("latest", vec!["source.in.start=latest"], vec![]),
    ] {
        let group_is = format!("kafka.group={group}");
        let mut set = vec!["--set", "source.in.bounded=true", "--set", &group_is];
        start.iter().for_each(|start| set.extend(["--set", start]));
        let before = ends(&world);
        let summary = world.run(group, &set);
        assert_eq!(summary["records"], expected.len(), "{group}");
        assert_eq!(numbers(&world, &before), expected, "{group}");
    }
}

#[test]
fn from_latest_on_only_what_is_written_after_the_start_is_read_and_nothing_is_left_out_later() {
    let Some(world) = World::new("from_latest_on", PIPELINE) else { return };
    world.make("out", 2, &[]);
    produce(&world, 0..100);
    let set = ["--set", "source.in.start=latest"];
    let stands_at = |instance: &Instance, next: u64| {
        instance.wait("both inputs", |status: &Value| {
            let inputs = status["tasks"].as_object().unwrap().values();
            let inputs: Vec<&Value> =
                inputs.flat_map(|task| task["inputs"].as_array().unwrap()).collect();
            tasks(status).len() == 2 && inputs.iter().all(|input| input["next"] == next)
        });
    };
    let instance = world.start("data", &set);
    stands_at(&instance, 50);
    produce(&world, 100..140);
    stands_at(&instance, 70);
    instance.end();
    assert_eq!(numbers(&world, &[0, 0]), (100..140).collect::<Vec<_>>());
    // A start is for the first time: what was written since it stopped is read.
    produce(&world, 140..150);
    let instance = world.start("data", &set);
    stands_at(&instance, 75);
    instance.end();
    assert_eq!(numbers(&world, &[0, 0]), (100..150).collect::<Vec<_>>());
}
