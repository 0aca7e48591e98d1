//! A replay of a pipeline with state and a repartition, beside the pipeline that runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::changelog::fold;
use crate::ledger::{self, ACCOUNTS, BEGIN_MS, Feed, PARTITIONS, RESIDUES, name};
use crate::support::{Record, stdout_of};
use crate::world::World;

/// How many numbers are replayed: from one of these to the other, by their times.
const FROM: u64 = 500;
const UNTIL: u64 = 1_750;
/// The times of the two.
const TIMES: [&str; 2] = ["2023-11-14T22:13:20.500Z", "2023-11-14T22:13:21.750Z"];
/// Shorter than that, and none begins with it.
const SPAN_MS: i64 = 300;
const PATIENCE: Duration = Duration::from_secs(90);

const PIPELINE: &str = r#"
name = "ledger"
[engine]
partitions = 6
[source.in]
topic = "in"
[stage.pass]
plugin = "identity"
from = "source.in"
[stage.ledger]
plugin = "ledger"
from = "stage.pass"
key-by = "account"
config = { span-ms = 300, residues = 5 }
[topic.out]
from = "stage.ledger"
"#;

/// Those of a kind, by account, in their order.
fn by_account(records: &[Record], kind: &str) -> BTreeMap<String, Vec<Value>> {
    let mut by: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in records.iter().filter(|r| r["value"]["kind"] == kind) {
        let account = record["key"].as_str().unwrap().to_owned();
        by.entry(account).or_default().push(json!([record["timestamp"], record["value"]]));
    }
    by
}

/// What must come out for these numbers, by account: for each number, and for each span of time.
fn expected(numbers: std::ops::Range<u64>) -> [BTreeMap<String, Vec<Value>>; 2] {
    let (mut entries, mut spans) = (BTreeMap::new(), BTreeMap::new());
    for account in 0..ACCOUNTS {
        let had: Vec<u64> = numbers.clone().filter(|n| n % ACCOUNTS == account).collect();
        let told = |kind: &str, numbers: &[u64], more: Value| {
            let mut told = json!({ "kind": kind, "account": name(account) });
            for part in [fold(numbers), more] {
                told.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
            }
            told
        };
        let time = |n: u64| BEGIN_MS + n.cast_signed();
        let entry = |i: usize| {
            let (n, before) =
                (had[i], had[..i].iter().rev().find(|b| **b % RESIDUES == had[i] % RESIDUES));
            json!([time(n), told("entry", &had[..=i], json!({ "n": n, "before": before }))])
        };
        entries.insert(name(account), (0..had.len()).map(entry).collect::<Vec<_>>());
        let mut of: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        had.iter().for_each(|n| of.entry(time(*n) / SPAN_MS).or_default().push(*n));
        let span = |(span, numbers): (i64, Vec<u64>)| {
            json!([(span + 1) * SPAN_MS - 1, told("span", &numbers, json!({ "span": span }))])
        };
        spans.insert(name(account), of.into_iter().map(span).collect::<Vec<_>>());
    }
    [entries, spans]
}

/// Waits until so many numbers have come out of the pipeline that runs, and gives what tells of them.
fn wait_for_entries(world: &World, total: u64) -> Vec<Record> {
    let begun = Instant::now();
    loop {
        let mut records = world.topic("out");
        records.retain(|r| r["value"]["kind"] == "entry");
        if records.len() as u64 >= total {
            return records;
        }
        assert!(begun.elapsed() < PATIENCE, "{} of {total} numbers came", records.len());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_replay_with_state_gives_what_a_run_over_that_part_of_history_gives_beside_the_pipeline() {
    let Some(world) = World::new("a_replay_with_state", PIPELINE) else { return };
    world.make("in", PARTITIONS, &[]);
    world.make("out", PARTITIONS, &[]);
    let live = world.start("live", &[]);
    let feed = Feed::start(&world, 1_000);
    wait_for_entries(&world, UNTIL + 200);
    let before = live.wait("an instance at work", |status| status["workers"]["0"]["opening"] == 0);

    let [from, until] = TIMES;
    let part = ["--from", from, "--until", until, "--as", "fix"];
    let text = stdout_of(world.wasmill("replay", "replay", &part));
    let summary: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&summary["complete"], &summary["records"]), (&true.into(), &(UNTIL - FROM).into()));
    let replayed = world.topic("out-fix");
    let [entries, spans] = expected(FROM..UNTIL);
    assert_eq!(by_account(&replayed, "entry"), entries);
    assert_eq!(by_account(&replayed, "span"), spans);
    let count = entries.values().chain(spans.values()).map(Vec::len).sum::<usize>();
    assert_eq!(replayed.len(), count, "and nothing else");

    // It went on meanwhile, in a group that nobody else has joined.
    let sent = world.topic("out").len() as u64;
    wait_for_entries(&world, sent.min(UNTIL) + 1);
    let after = live.try_status().unwrap();
    for figure in ["rebalances", "rollbacks", "units"] {
        let [before, after] = [&before, &after].map(|status| &status["workers"]["0"][figure]);
        assert_eq!(before, after, "{figure}");
    }
    let total = feed.end();
    ledger::assert_exact(&wait_for_entries(&world, total), total);
    live.end();
}
