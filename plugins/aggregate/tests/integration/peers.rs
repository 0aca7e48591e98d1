//! What the test suites of Kafka Streams and Beam expect of time windows, run as data.

use std::collections::BTreeMap;

use aggregate::Aggregate;
use serde_json::{Value, json};
use wasmill_sdk::abi::{RejectionKind, WATERMARK_END};

use crate::driver::{Driver, Input, watermarks};

fn cases(file: &str) -> Vec<Value> {
    let root = std::env::var("WASMILL_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").into());
    let path = std::path::Path::new(&root).join("cases").join(file);
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: {} is not there", path.display());
        return Vec::new();
    };
    let suite: Value = serde_json::from_str(&text).unwrap();
    suite["cases"].as_array().unwrap().clone()
}

/// A window of a key: key, start, end.
type Place = (String, i64, i64);
/// How many records of each value a window has.
type Values = BTreeMap<String, u64>;

/// A case of Kafka Streams, whose windows count how often each value is in them.
///
/// Kafka Streams drops a record from a window when `end <= stream time - grace`, where stream time is
/// the latest event time of the partition, over all keys, this record included. That is
/// `end - 1 + grace <= stream time - 1`, and so our rule `end - 1 + lateness <= W` under
///
/// - lateness = grace,
/// - W = the latest event time seen before, minus 1 (no event with that time itself is ruled out).
///
/// That the record itself is not in our W makes no difference: one that advances stream time is never
/// late. Kafka Streams makes no windows that start before the epoch; ours are left out.
struct Case {
    name: String,
    config: String,
    inputs: Vec<Input>,
    values: Vec<String>,
}

impl Case {
    fn of(case: &Value) -> Self {
        let (mut inputs, mut values) = (Vec::new(), Vec::new());
        for event in case["input"].as_array().unwrap() {
            let value = event[2].as_str().unwrap().to_owned();
            let fields = json!({ value.clone(): true }).to_string();
            inputs.push(Input::new(event[1].as_str().unwrap(), event[3].as_i64().unwrap(), fields));
            values.push(value);
        }
        watermarks(&mut inputs, 1);
        let counts: BTreeMap<&String, &String> = values.iter().map(|v| (v, v)).collect();
        let config = &case["config"];
        let config = json!({
            "measure": "count",
            "window": {"size": config["size"], "hop": config["advance"]},
            "lateness": config["grace"],
            "counts": counts,
        });
        let name = case["name"].as_str().unwrap().to_owned();
        Self { name, config: config.to_string(), inputs, values }
    }

    /// Feeds the first `records` in batches of `size`, up to the watermark `end`.
    fn run(&self, records: usize, size: usize, end: i64) -> Driver<Aggregate> {
        let mut driver = Driver::new(&self.config);
        driver.feed(&self.inputs[..records], &[size], end);
        let kinds = driver.rejected.iter().map(|r| r.kind);
        assert!(kinds.into_iter().all(|kind| kind == RejectionKind::Late), "{}", self.name);
        driver
    }

    /// The windows that Kafka Streams makes for a record, found by trying all.
    fn windows(&self, record: usize) -> Vec<Place> {
        let config: Value = serde_json::from_str(&self.config).unwrap();
        let [size, hop] = ["size", "hop"].map(|name| config["window"][name].as_i64().unwrap());
        let Input { key, time, .. } = &self.inputs[record];
        let starts = (0..=time / hop).map(|n| n * hop).filter(|start| time - start < size);
        starts.map(|start| (key.clone(), start, start + size)).collect()
    }
}

/// The results, by window.
fn results(driver: &Driver<Aggregate>) -> BTreeMap<Place, Values> {
    let mut results = BTreeMap::new();
    for mut value in driver.values(0) {
        let fields = value.as_object_mut().unwrap();
        let mut take = |name: &str| fields.remove(name).unwrap();
        let key = take("key").as_str().unwrap().to_owned();
        let [start, end] =
            ["window_start_ms", "window_end_ms"].map(|name| take(name).as_i64().unwrap());
        let count = take("count").as_u64().unwrap();
        let mut values: Values = serde_json::from_value(value).unwrap();
        values.retain(|_, count| *count > 0);
        assert_eq!(values.values().sum::<u64>(), count);
        if start >= 0 {
            assert_eq!(results.insert((key, start, end), values), None, "a window has one result");
        }
    }
    results
}

fn counts(results: &BTreeMap<Place, Values>) -> Vec<(String, i64, i64, u64)> {
    let count = |(place, values): (&Place, &Values)| {
        let (key, start, end) = place.clone();
        (key, start, end, values.values().sum())
    };
    results.iter().map(count).collect()
}

/// The windows and values of a case that says them as lists.
fn expected(list: &Value) -> BTreeMap<Place, Values> {
    let list: Vec<(String, i64, i64, Vec<String>)> = serde_json::from_value(list.clone()).unwrap();
    let mut expected = BTreeMap::<Place, Values>::new();
    for (key, start, end, values) in list {
        let window = expected.entry((key, start, end)).or_default();
        for value in values {
            *window.entry(value).or_default() += 1;
        }
    }
    expected
}

#[test]
fn windows_are_those_of_kafka_streams() {
    let mut checks = 0;
    for json in cases("kstreams_windows_join.json") {
        // The others are joins.
        if json["config"]["size"].is_null() {
            continue;
        }
        let case = Case::of(&json);
        let (name, all) = (&case.name, case.inputs.len());
        for size in [1, 2, 100] {
            let stream_time = case.inputs.iter().map(|input| input.time).max().unwrap();
            let mut driver = case.run(all, size, stream_time - 1);
            let closed = &json["expected_closed"];
            if !closed.is_null() {
                let closed: Vec<(String, i64, i64, u64)> =
                    serde_json::from_value(closed.clone()).unwrap();
                assert_eq!(counts(&results(&driver)), closed, "{name}");
                checks += 1;
            }
            driver.batch(&[], WATERMARK_END);
            if let Some(dropped) = json["expected_dropped"].as_u64() {
                assert_eq!(driver.rejected.len() as u64, dropped, "{name}");
                checks += 1;
            }
            let found = results(&driver);
            if !json["expected_final"].is_null() {
                assert_eq!(found, expected(&json["expected_final"]), "{name}");
                checks += 1;
            }
            if let Some(dropped) = json["expected_dropped_window_updates"].as_array() {
                let missing: Vec<Value> = (0..all)
                    .flat_map(|record| case.windows(record).into_iter().map(move |w| (record, w)))
                    .map(|(record, window)| (window, &case.values[record]))
                    .filter(|(window, value)| {
                        !found.get(window).is_some_and(|v| v.contains_key(*value))
                    })
                    .map(|((key, start, end), value)| json!([key, start, end, value]))
                    .collect();
                assert_eq!(&missing, dropped, "{name}");
                checks += 1;
            }
            assert!(driver.keys_kept().is_empty(), "{name}");
        }
    }
    assert!(checks == 0 || checks == 3 * 6, "{checks} checks");
}

/// An update of Kafka Streams is what a record changes: the difference between what would be reported
/// if the input ended before it and if it ended behind it.
#[test]
fn each_record_updates_the_windows_that_it_updates_in_kafka_streams() {
    let mut checks = 0;
    for json in cases("kstreams_windows_join.json") {
        if json["expected_updates"].is_null() {
            continue;
        }
        let case = Case::of(&json);
        let after = |records| counts(&results(&case.run(records, 1, WATERMARK_END)));
        let mut before = Vec::new();
        let mut updates = Vec::new();
        for records in 1..=case.inputs.len() {
            let now = after(records);
            updates.extend(now.iter().filter(|result| !before.contains(*result)).cloned());
            before = now;
        }
        let expected: Vec<(String, i64, i64, u64)> =
            serde_json::from_value(json["expected_updates"].clone()).unwrap();
        assert_eq!(updates, expected, "{}", case.name);
        checks += 1;
    }
    assert!(checks == 0 || checks == 1, "{checks} cases");
}

#[test]
fn counts_of_keyed_sliding_windows_are_those_of_beam() {
    let cases = cases("beam_windows.json");
    let Some(case) = cases.iter().find(|c| c["name"] == "count_per_key_sliding") else { return };
    let input: Vec<(String, i64)> = serde_json::from_value(case["input_keyed"].clone()).unwrap();
    let inputs: Vec<_> = input.iter().map(|(key, time)| Input::new(key, *time, "{}")).collect();
    let window = json!({"size": case["config"]["size"], "hop": case["config"]["slide"]});
    let driver = Driver::<Aggregate>::run(
        &json!({"measure": "count", "window": window}).to_string(),
        &inputs,
    );
    let mut found: Vec<_> = driver
        .values(0)
        .iter()
        .map(|v| {
            let number = |name: &str| v[name].as_i64().unwrap();
            let key = v["key"].as_str().unwrap().to_owned();
            (key, number("count"), number("window_start_ms"), number("window_end_ms"))
        })
        .collect();
    found.sort_by_key(|(key, _, start, _)| (key.clone(), *start));
    let expected: Vec<(String, i64, i64, i64)> =
        serde_json::from_value(case["expected_counts"].clone()).unwrap();
    assert_eq!(found, expected);
}
