//! What holds for any input.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;

use crate::driver::{Driver, Input, watermarks};
use crate::finals;
use sessionize::{FINAL, LIVE, Sessionize};
use wasmill_sdk::abi::WATERMARK_END;

/// Records of a few users, in disorder, some of them far behind.
fn records(users: usize, count: usize) -> impl Strategy<Value = Vec<Input>> {
    let step = prop_oneof![6 => 0..4_i64, 2 => 0..30_i64, 1 => Just(60_i64)];
    let back = prop_oneof![5 => Just(0_i64), 3 => 0..8_i64, 1 => 0..60_i64];
    let page = prop_oneof![4 => "[a-c]".prop_map(Some), 1 => Just(None)];
    let action = prop_oneof![8 => Just("view"), 1 => Just("purchase")];
    let event = (0..users, step, back, page, action);
    (prop::collection::vec(event, 0..count), 0..12_i64).prop_map(|(events, delay)| {
        let mut now = -50;
        let mut inputs = Vec::new();
        for (n, (user, step, back, page, action)) in events.into_iter().enumerate() {
            now += step;
            let page = page.map_or(String::new(), |page| format!(r#""path":"{page}","#));
            let value = format!(r#"{{"n":{n},{page}"type":"{action}","time":{}}}"#, now - back);
            inputs.push(Input::new(["ann", "bob", "cy"][user], now - back, value));
        }
        watermarks(&mut inputs, delay);
        inputs
    })
}

fn configs() -> impl Strategy<Value = String> {
    let limit = |range: std::ops::Range<i64>| prop::option::of(range);
    (0..12_i64, 0..8_i64, limit(1..6), limit(0..25), any::<bool>()).prop_map(
        |(gap, lateness, events, duration, complete)| {
            let mut config = serde_json::json!({ "gap": gap, "lateness": lateness });
            if let Some(events) = events {
                config["max-events"] = events.into();
            }
            if let Some(duration) = duration {
                config["max-duration"] = duration.into();
            }
            if complete {
                config["complete"] = serde_json::json!({ "values": ["purchase"] });
            }
            config.to_string()
        },
    )
}

/// What the live events of one closed session add up to.
fn summary(mut events: Vec<(usize, Value)>) -> (i64, i64, u64, usize, Value, Value) {
    events.sort_by_key(|(arrival, event)| (event["time"].as_i64().unwrap(), *arrival));
    let time = |event: &(usize, Value)| event.1["time"].as_i64().unwrap();
    let (start, end) = (time(&events[0]), time(&events[events.len() - 1]));
    let paths: Vec<_> = events.iter().filter_map(|(_, e)| e["path"].as_str()).collect();
    // The entry page among ties is the first to arrive, the exit page the last.
    let page = |page: Option<&&str>| page.map_or(Value::Null, |page| Value::from(*page));
    let unique = paths.iter().collect::<BTreeSet<_>>().len();
    let (first, last) = (page(paths.first()), page(paths.last()));
    (start, end, events.len() as u64, unique, first, last)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn batching_never_shows(
        inputs in records(3, 120),
        config in configs(),
        cuts in prop::collection::vec(1..20_usize, 1..12),
    ) {
        let run = |sizes: &[usize]| {
            let mut driver = Driver::<Sessionize>::new(&config);
            driver.feed(&inputs, sizes, WATERMARK_END);
            assert!(driver.keys_kept().is_empty());
            driver.by_key()
        };
        let one_by_one = run(&[1]);
        for sizes in [&[7][..], &[1000], &cuts] {
            prop_assert_eq!(&run(sizes), &one_by_one);
        }
    }

    #[test]
    fn every_accepted_event_is_counted_in_one_closed_session(
        inputs in records(2, 120), config in configs(),
    ) {
        let driver = Driver::<Sessionize>::run(&config, &inputs);
        let live = driver.values(LIVE);
        prop_assert_eq!(live.len() + driver.rejected.len(), inputs.len());
        let mut events = BTreeMap::<String, Vec<(usize, Value)>>::new();
        for (arrival, event) in live.into_iter().enumerate() {
            let id = event["session_id"].as_str().unwrap().to_owned();
            events.entry(id).or_default().push((arrival, event));
        }
        let mut seen = BTreeSet::new();
        for closed in driver.values(FINAL) {
            let merged = closed["merged_ids"].as_array().cloned().unwrap_or_default();
            let mut own = Vec::new();
            for id in std::iter::once(&closed["session_id"]).chain(&merged) {
                let id = id.as_str().unwrap();
                prop_assert!(seen.insert(id.to_owned()), "{} was given twice", id);
                own.extend(events.remove(id).unwrap_or_default());
            }
            let (start, end, count, unique, entry, exit) = summary(own);
            let expected = serde_json::json!({
                "start_ms": start, "end_ms": end, "duration_ms": end - start, "events": count,
                "unique_pages": unique, "entry_page": entry, "exit_page": exit,
            });
            for (name, value) in expected.as_object().unwrap() {
                prop_assert_eq!(&closed[name], value, "{} of {}", name, closed);
            }
        }
        prop_assert!(events.is_empty(), "in no closed session: {:?}", events);
    }

    #[test]
    fn a_session_id_and_number_are_given_once(inputs in records(2, 120), config in configs()) {
        let driver = Driver::<Sessionize>::run(&config, &inputs);
        let mut seen = BTreeSet::new();
        for event in driver.values(LIVE) {
            let id = event["session_id"].as_str().unwrap().to_owned();
            prop_assert!(seen.insert((id, event["session_seq"].as_u64().unwrap())));
        }
    }

    #[test]
    fn limits_hold(inputs in records(2, 120), config in configs()) {
        let config_json: Value = serde_json::from_str(&config).unwrap();
        let driver = Driver::<Sessionize>::run(&config, &inputs);
        for closed in driver.values(FINAL) {
            let events = closed["events"].as_u64().unwrap();
            prop_assert!(events <= config_json["max-events"].as_u64().unwrap_or(u64::MAX));
            let duration = closed["duration_ms"].as_i64().unwrap();
            prop_assert!(duration <= config_json["max-duration"].as_i64().unwrap_or(i64::MAX));
        }
    }

    #[test]
    fn results_are_never_late_for_a_later_stage(inputs in records(2, 120), config in configs()) {
        let driver = Driver::<Sessionize>::run(&config, &inputs);
        for output in driver.outputs.iter().filter(|o| o.output == FINAL) {
            prop_assert!(output.time > output.watermark, "{:?}", output);
        }
    }

    #[test]
    fn with_disorder_within_bounds_sessions_are_the_runs_of_the_sorted_input(
        inputs in records(3, 150), gap in 0..20_i64, lateness in 0..5_i64,
    ) {
        // The watermark allows for the worst disorder, so that nothing is late.
        let mut inputs = inputs;
        let mut latest = i64::MIN;
        let mut disorder = 0;
        for input in &inputs {
            latest = latest.max(input.time);
            disorder = disorder.max(latest - input.time);
        }
        watermarks(&mut inputs, disorder + 1);
        let driver =
            Driver::<Sessionize>::run(&format!(r#"{{"gap":{gap},"lateness":{lateness}}}"#), &inputs);
        prop_assert_eq!(&driver.rejected, &[]);
        let mut sorted: Vec<_> = inputs.iter().map(|i| (i.key.clone(), i.time)).collect();
        sorted.sort();
        let runs: Vec<_> = sorted
            .chunk_by(|a, b| a.0 == b.0 && b.1 - a.1 <= gap)
            .map(|run| (run[0].0.clone(), run[0].1, run[run.len() - 1].1, run.len() as u64))
            .collect();
        prop_assert_eq!(finals(&driver), runs);
    }
}
