//! What the test suites of Kafka Streams and Flink expect of such joins, run as data.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use wasmill_sdk::abi::{WATERMARK_END, WATERMARK_START};

use crate::driver::{Driver, Input, watermarks};
use crate::{LEFT, RIGHT, at};

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

/// Kafka Streams keeps a record while `time + window + grace >= stream time`, where stream time is the
/// latest event time of the partition. The latest time seen before, less 1, is our watermark. Kafka
/// Streams still looks for partners of a record that comes behind it; here that is late unless the
/// lateness covers it. The cases have records up to 205 ms behind, so that is the lateness.
#[test]
fn pairs_are_those_of_kafka_streams() {
    let mut checks = 0;
    for case in cases("kstreams_windows_join.json") {
        let name = case["name"].as_str().unwrap();
        if !name.starts_with("join_") {
            continue;
        }
        let config = &case["config"];
        let config = json!({"before": config["before"], "after": config["after"], "lateness": 206});
        let mut inputs: Vec<Input> = Vec::new();
        for event in case["input"].as_array().unwrap() {
            let port = if event[0] == "l" { LEFT } else { RIGHT };
            let time = event[3].as_i64().unwrap();
            let value = event[2].to_string();
            inputs.push(Input::new(port, &event[1].to_string(), time, value));
        }
        watermarks(&mut inputs, 1);
        let driver = Driver::run(&config.to_string(), &inputs);
        assert_eq!(driver.rejected, [], "{name}");
        let found: Vec<Value> = driver
            .outputs
            .iter()
            .map(|o| {
                let value: Value = serde_json::from_str(&o.value).unwrap();
                let [left, right] = ["left", "right"].map(|side| value[side].as_str().unwrap());
                json!([o.key.parse::<i64>().unwrap(), format!("{left}+{right}"), o.time])
            })
            .collect();
        let sorted = |list: &[Value]| list.iter().map(Value::to_string).collect::<BTreeSet<_>>();
        let expected = case["expected"].as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{name}");
        assert_eq!(sorted(&found), sorted(expected), "{name}");
        checks += 1;
    }
    assert!(checks == 0 || checks == 2, "{checks} cases of joins");
}

/// Flink's bounds by ours: right in `left + lower ..= left + upper`; those that are not inclusive are a
/// millisecond further in.
fn bounds(config: &Value) -> String {
    let bound = |name: &str| {
        let inclusive = config[format!("{name}_inclusive")].as_bool().unwrap();
        (config[name].as_i64().unwrap(), i64::from(!inclusive))
    };
    let ((lower, lower_in), (upper, upper_in)) = (bound("lower"), bound("upper"));
    json!({"before": -(lower + lower_in), "after": upper - upper_in}).to_string()
}

fn times(list: &Value) -> Vec<i64> {
    serde_json::from_value(list.clone()).unwrap()
}

/// Flink's results are a pair of times each and bear the later one.
fn pairs(driver: &Driver) -> BTreeSet<(i64, i64)> {
    let mut pairs = BTreeSet::new();
    for (output, value) in driver.outputs.iter().zip(driver.values()) {
        let pair = (value["left"].as_i64().unwrap(), value["right"].as_i64().unwrap());
        assert_eq!(output.time, pair.0.max(pair.1));
        assert!(pairs.insert(pair), "{pair:?} comes twice");
    }
    pairs
}

#[test]
fn pairs_are_those_of_flink_whichever_side_comes_first() {
    let mut checks = 0;
    for case in cases("flink_interval_join.json") {
        let Some(expected) = case.get("expected") else { continue };
        let expected: Vec<(i64, i64)> = serde_json::from_value(expected.clone()).unwrap();
        let expected: BTreeSet<_> = expected.into_iter().collect();
        let sides = [(LEFT, times(&case["left"])), (RIGHT, times(&case["right"]))];
        let all = sides.iter().flat_map(|(port, times)| times.iter().map(|time| at(*port, *time)));
        let mut orders: [Vec<Input>; 3] = std::array::from_fn(|_| all.clone().collect());
        orders[0].sort_by_key(|i| (i.time, i.port));
        orders[1].sort_by_key(|i| (i.time, RIGHT - i.port));
        // One side, then the other: as Flink does it, no watermark comes in between.
        for inputs in orders {
            let driver = Driver::run(&bounds(&case["config"]), &inputs);
            assert_eq!(pairs(&driver), expected, "{}", case["name"]);
            checks += 1;
        }
    }
    assert!(checks == 0 || checks == 24, "{checks} orders");
}

#[test]
fn a_join_goes_on_from_its_state_as_flinks_does() {
    let cases = cases("flink_interval_join.json");
    let Some(case) = cases.iter().find(|c| c["name"] == "restore_from_snapshot") else { return };
    let inputs: Vec<Input> = case["input"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| {
            let (side, time) = event.as_str().unwrap().split_at(1);
            Some(at(if side == "l" { LEFT } else { RIGHT }, time.parse().ok()?))
        })
        .collect();
    let expected = |name: &str| -> BTreeSet<(i64, i64)> {
        serde_json::from_value::<Vec<(i64, i64)>>(case[name].clone()).unwrap().into_iter().collect()
    };
    let mut driver = Driver::new(&bounds(&case["config"]));
    driver.feed(&inputs[..6], &[6], WATERMARK_START);
    assert_eq!(pairs(&driver), expected("expected_before"));
    driver.outputs.clear();
    // Nothing but the states, timers and maps of the host is handed to the next call.
    driver.feed(&inputs[6..], &[2], WATERMARK_END);
    assert_eq!(pairs(&driver), expected("expected_after"));
}

/// Flink's buffers after a watermark, from records at 1 to 5 on both sides. Ours may keep records that
/// can't come out alone a little longer, so all of them come out alone here, and both sides are exact.
#[test]
fn what_is_kept_after_a_watermark_is_what_flink_keeps() {
    let mut checks = 0;
    for case in cases("flink_interval_join.json") {
        let Some(kept) = case.get("buffers_after_watermark") else { continue };
        let mut config: Value = serde_json::from_str(&bounds(&case["config"])).unwrap();
        config["join"] = "outer".into();
        for (watermark, kept) in kept.as_object().unwrap() {
            let mut inputs: Vec<Input> = Vec::new();
            for (port, side) in [(LEFT, "left"), (RIGHT, "right")] {
                inputs.extend(times(&case[side]).into_iter().map(|time| at(port, time)));
            }
            let mut driver = Driver::new(&config.to_string());
            driver.feed(&inputs, &[inputs.len()], watermark.parse().unwrap());
            let expected = times(&kept["left"]).len() + times(&kept["right"]).len();
            assert_eq!(driver.kept(), expected, "{} at {watermark}", case["name"]);
            checks += 1;
        }
    }
    assert!(checks == 0 || checks == 6, "{checks} watermarks");
}
