//! The admetrics example on its sample data. What must come out is found by comparing every ad that
//! was served with every view and every click.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::support::{self, Record, by_key, root, topic};
use crate::world::World;

const FOLDER: &str = "examples/admetrics";

/// Views and clicks of a minute of a campaign.
type Metrics = BTreeMap<(String, i64), [u64; 2]>;

fn events(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root().join(FOLDER).join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The pairs of an ad that was served and an event within so many ms after it.
fn pairs(file: &str, within: i64) -> Vec<(Value, Value)> {
    let (served, events) = (events("served.jsonl"), events(file));
    let mut pairs = Vec::new();
    for event in &events {
        for ad in served.iter().filter(|ad| ad["ad"] == event["ad"]) {
            let delay = event["ts"].as_i64().unwrap() - ad["ts"].as_i64().unwrap();
            if (0..=within).contains(&delay) {
                pairs.push((ad.clone(), event.clone()));
            }
        }
    }
    assert!(pairs.len() > 40 && pairs.len() < events.len(), "{file} has some of both");
    pairs
}

fn expected() -> Metrics {
    let mut metrics = Metrics::new();
    let both = [pairs("views.jsonl", 600_000), pairs("clicks.jsonl", 3_600_000)];
    for (which, pairs) in both.iter().enumerate() {
        for (ad, event) in pairs {
            let minute = event["ts"].as_i64().unwrap().div_euclid(60_000) * 60_000;
            let campaign = ad["campaign"].as_str().unwrap().to_owned();
            metrics.entry((campaign, minute)).or_default()[which] += 1;
        }
    }
    metrics
}

fn found(records: &[Record]) -> Metrics {
    let mut metrics = Metrics::new();
    for record in records {
        let value = &record["value"];
        let number = |field: &str| value[field].as_u64().unwrap();
        let start = value["window_start_ms"].as_i64().unwrap();
        assert_eq!(value["window_end_ms"], start + 60_000);
        assert_eq!(record["key"], value["key"]);
        assert_eq!(number("count"), number("views") + number("clicks"));
        let campaign = record["key"].as_str().unwrap().to_owned();
        let known = metrics.insert((campaign, start), [number("views"), number("clicks")]);
        assert_eq!(known, None, "a minute of a campaign has one result");
    }
    metrics
}

/// The pairs that a join has given, as text.
fn joined(records: &[Record], name: &str) -> BTreeSet<String> {
    let texts = records.iter().map(|record| {
        let value = &record["value"];
        assert_eq!(record["key"], value["served"]["ad"]);
        assert_eq!(record["timestamp"], value[name]["ts"], "the event came after its ad");
        format!("{} {}", value["served"], value[name])
    });
    texts.collect()
}

fn run(data_dir: &Path, more: &[&str]) -> Value {
    support::run(&root(), &format!("{FOLDER}/pipeline.toml"), data_dir, more)
}

#[test]
fn views_and_clicks_per_campaign_and_minute_are_those_of_trying_every_pair() {
    let dir = tempfile::tempdir().unwrap();
    let summary = run(dir.path(), &[]);
    assert_right(&summary, |name| topic(dir.path(), name));
}

/// What a run has told and given is what trying every pair gives.
fn assert_right(summary: &Value, topic: impl Fn(&str) -> Vec<Record>) {
    assert_eq!(summary["complete"], true);
    for stage in summary["stages"].as_array().unwrap() {
        for kind in ["dead", "invalid", "late", "expired", "failed_calls"] {
            assert_eq!(stage["counts"][kind], 0, "{kind} of {stage}");
        }
    }
    for (name, event, file, within) in [
        ("ad-views", "view", "views.jsonl", 600_000),
        ("ad-clicks", "click", "clicks.jsonl", 3_600_000),
    ] {
        let records = topic(name);
        let pairs = pairs(file, within);
        assert_eq!(records.len(), pairs.len(), "topic {name}");
        let expected = pairs.iter().map(|(ad, event)| format!("{ad} {event}")).collect();
        assert_eq!(joined(&records, event), expected, "topic {name}");
    }
    assert_eq!(found(&topic("campaign-metrics")), expected());
}

/// Records by key, without their order: which of two inputs is read first is chance, and so is the
/// order of a key's pairs.
fn unordered(records: &[Record]) -> BTreeMap<String, Vec<String>> {
    let mut keys = by_key(records);
    keys.values_mut().for_each(|values| values.sort_unstable());
    keys
}

#[test]
fn on_kafka_the_example_gives_the_same_with_no_change_but_where_the_brokers_are() {
    let Some(world) = World::new("admetrics_on_kafka", "") else { return };
    let (embedded, kafka) = (world.path("embedded"), world.path("kafka"));
    run(&embedded, &[]);
    let brokers = format!("kafka.brokers={}", world.cluster.bootstrap());
    let summary = run(&kafka, &["--set", &brokers]);
    assert_right(&summary, |name| world.topic(name));
    for name in ["served", "views", "clicks", "ad-views", "ad-clicks", "campaign-metrics"] {
        let (expected, found) = (unordered(&topic(&embedded, name)), unordered(&world.topic(name)));
        assert!(!expected.is_empty() && found == expected, "topic {name} differs");
    }
}

#[test]
fn ads_that_were_never_seen_come_out_with_a_left_join() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["--set", "stage.ad-views.config.join=left"]);
    let alone: BTreeSet<String> = topic(dir.path(), "ad-views")
        .iter()
        .filter(|record| record["value"]["view"].is_null())
        .map(|record| {
            // It is known ten minutes after the ad was served, and that is the result's time.
            let served = record["value"]["served"]["ts"].as_i64().unwrap();
            assert_eq!(record["timestamp"], served + 600_000);
            record["key"].as_str().unwrap().to_owned()
        })
        .collect();
    let ad = |event: &Value| event["ad"].as_str().unwrap().to_owned();
    let seen: BTreeSet<String> =
        pairs("views.jsonl", 600_000).iter().map(|(served, _)| ad(served)).collect();
    let all: BTreeSet<String> = events("served.jsonl").iter().map(ad).collect();
    assert!(!alone.is_empty());
    assert_eq!(alone, all.difference(&seen).cloned().collect());
}

#[test]
fn neither_workers_nor_partitions_nor_the_size_of_batches_show() {
    let dir = tempfile::tempdir().unwrap();
    let one = dir.path().join("one");
    run(&one, &["--workers", "1"]);
    for (name, set) in [
        ("workers", "engine.workers=4"),
        ("partitions", "engine.partitions=7"),
        ("batches", "engine.batch-records=3"),
    ] {
        let other = dir.path().join(name);
        run(&other, &["--set", set]);
        for outputs in ["ad-views", "ad-clicks", "campaign-metrics"] {
            let [one, other] = [&one, &other].map(|dir| unordered(&topic(dir, outputs)));
            assert!(!one.is_empty() && one == other, "topic {outputs} differs with {set}");
        }
    }
}
