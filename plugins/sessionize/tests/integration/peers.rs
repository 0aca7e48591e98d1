//! What the test suites of Kafka Streams and Beam expect of session windows, run as data.

use serde_json::{Value, json};

use crate::driver::{Driver, Input};
use crate::{finals, shared};
use sessionize::{LIVE, Sessionize};
use wasmill_sdk::abi::{RejectionKind, WATERMARK_END, WATERMARK_START};

fn cases(file: &str) -> Vec<Value> {
    let Some(path) = shared(&format!("cases/{file}")) else { return Vec::new() };
    let text = std::fs::read_to_string(path).unwrap();
    let suite: Value = serde_json::from_str(&text).unwrap();
    suite["cases"].as_array().unwrap().clone()
}

/// Kafka Streams drops a record when the end of its merged session < stream time - grace - gap,
/// where stream time is the latest event time of the partition, over all keys, this record included.
/// That is `end + gap + grace <= stream time - 1`, and so our rule `end + gap + lateness <= W` under
///
/// - lateness = grace,
/// - W = the latest event time seen before, minus 1 (no event with that time itself is ruled out).
///
/// That the record itself is not in our W makes no difference: one that advances stream time is
/// never late. A session is final under the same condition, so the same mapping holds for closing.
///
/// The cases that give no grace emit every update and let an event still change a session that is
/// over, for as long as the store retains it (`merge_by_out_of_order_event` joins a session whose gap
/// stream time has passed by one). There lateness is the grace that Kafka Streams gave when none was
/// asked for: 24 hours less the gap.
fn as_in_kafka_streams(case: &Value) -> (String, Vec<Input>, i64) {
    let config = &case["config"];
    let gap = config["gap"].as_i64().unwrap();
    let grace = config["grace"].as_i64().unwrap_or(86_400_000 - gap);
    let json = format!(r#"{{"gap": {gap}, "lateness": {grace}}}"#);
    let mut inputs = Vec::new();
    for event in case["input"].as_array().unwrap() {
        let (key, page) = (event[1].as_str(), event[2].as_str().unwrap());
        // A record without a key reaches no keyed operator: the host rejects it.
        let Some(key) = key else { continue };
        let value = format!(r#"{{"path":"{page}"}}"#);
        inputs.push(Input::new(key, event[3].as_i64().unwrap(), value));
    }
    crate::driver::watermarks(&mut inputs, 1);
    let last = inputs.iter().map(|i| i.time - 1).max().unwrap_or(WATERMARK_START);
    (json, inputs, last)
}

fn expected(list: &Value) -> Vec<(String, i64, i64, u64)> {
    let mut expected: Vec<(String, i64, i64, u64)> = serde_json::from_value(list.clone()).unwrap();
    expected.sort_unstable();
    expected
}

/// An update of Kafka Streams is a session as an event has left it. Of that our live output says the
/// user, the duration so far and the number of events; what an update withdraws (`null`), it does not.
fn live_updates(list: &Value) -> Vec<(String, i64, u64)> {
    let updates: Vec<(String, i64, i64, Option<u64>)> =
        serde_json::from_value(list.clone()).unwrap();
    let live =
        |(user, start, end, events): (_, _, _, Option<_>)| Some((user, end - start, events?));
    let mut live: Vec<_> = updates.into_iter().filter_map(live).collect();
    live.sort_unstable();
    live
}

fn lives(driver: &Driver<Sessionize>) -> Vec<(String, i64, u64)> {
    let live = driver.outputs.iter().filter(|o| o.output == LIVE);
    let mut live: Vec<_> = live
        .zip(driver.values(LIVE))
        .map(|(o, v)| {
            let (duration, seq) = (&v["session_duration_ms"], &v["session_seq"]);
            (o.key.clone(), duration.as_i64().unwrap(), seq.as_u64().unwrap())
        })
        .collect();
    live.sort_unstable();
    live
}

/// The sessions that there would be if the input ended after so many records.
fn sessions_after(config: &str, inputs: &[Input]) -> Vec<(String, i64, i64, u64)> {
    finals(&Driver::run(config, inputs))
}

#[test]
fn each_event_changes_the_sessions_that_it_changes_in_kafka_streams() {
    let mut checks = 0;
    for case in cases("kstreams_session.json") {
        if case["expected_updates"].is_null() {
            continue;
        }
        let (config, inputs, _) = as_in_kafka_streams(&case);
        let mut updates = Vec::new();
        let mut before = Vec::new();
        for records in 1..=inputs.len() {
            let after = sessions_after(&config, &inputs[..records]);
            let gone = before.iter().filter(|session| !after.contains(*session));
            updates.extend(gone.map(|(user, start, end, _)| json!([user, start, end, null])));
            let new = after.iter().filter(|session| !before.contains(*session));
            updates.extend(new.map(|session| json!(session)));
            before = after;
        }
        assert_eq!(Value::from(updates), case["expected_updates"], "{}", case["name"]);
        checks += 1;
    }
    assert!(checks == 2 || checks == 0, "{checks}");
}

#[test]
fn sessions_are_those_of_kafka_streams() {
    let mut checks = 0;
    for case in cases("kstreams_session.json") {
        let name = case["name"].as_str().unwrap();
        let (config, inputs, end) = as_in_kafka_streams(&case);
        for size in [1, 2, 100] {
            let mut driver = Driver::<Sessionize>::new(&config);
            driver.feed(&inputs, &[size], end);
            let late: Vec<_> = driver.rejected.iter().map(|r| (r.key.clone(), r.kind)).collect();
            assert!(late.iter().all(|(_, kind)| *kind == RejectionKind::Late), "{name}");
            let without_key = case["input"].as_array().unwrap().len() - inputs.len();
            let dropped = case["expected_dropped"].as_u64().unwrap_or(0) as usize;
            assert_eq!(late.len() + without_key, dropped, "{name}");
            if let Some(named) = case["dropped"].as_array() {
                let named: Vec<_> = named.iter().map(|d| d[0].as_str().unwrap()).collect();
                assert_eq!(late.iter().map(|l| &l.0).collect::<Vec<_>>(), named, "{name}");
            }
            if !case["expected_closed"].is_null() {
                assert_eq!(finals(&driver), expected(&case["expected_closed"]), "{name}");
            }
            if !case["expected_updates"].is_null() {
                assert_eq!(lives(&driver), live_updates(&case["expected_updates"]), "{name}");
            }
            driver.batch(&[], WATERMARK_END);
            if !case["expected_final"].is_null() {
                assert_eq!(finals(&driver), expected(&case["expected_final"]), "{name}");
            }
            assert!(driver.keys_kept().is_empty(), "{name}");
            checks += 1;
        }
    }
    assert!(checks == 30 || checks == 0, "{checks}");
}

#[test]
fn two_sessions_are_open_until_an_event_joins_them_as_in_kafka_streams() {
    for case in cases("kstreams_session.json") {
        let Some(steps) = case["after_step"].as_object() else { continue };
        let (config, inputs, _) = as_in_kafka_streams(&case);
        for (step, open) in steps {
            let inputs = &inputs[..step.parse().unwrap()];
            assert_eq!(sessions_after(&config, inputs), expected(open));
        }
    }
}

/// Beam's sessions are windows [time, time + gap) that merge when they overlap: events belong
/// together when they are less than `gap` apart, where ours may be exactly `gap` apart. So Beam's gap
/// is ours + 1, and its window ends at our end + its gap.
#[test]
fn sessions_are_those_of_beam() {
    let mut checks = 0;
    for case in cases("beam_windows.json") {
        let Some(gap) = case["config"]["gap"].as_i64() else { continue };
        let times: Vec<i64> = serde_json::from_value(case["input"].clone()).unwrap();
        let inputs: Vec<_> = times.iter().map(|t| Input::new("k", *t, "{}")).collect();
        let driver = Driver::run(&format!(r#"{{"gap": {}}}"#, gap - 1), &inputs);
        let found: Vec<_> =
            finals(&driver).into_iter().map(|(_, start, end, n)| (start, end + gap, n)).collect();
        let expected: Vec<(i64, i64, Vec<i64>)> =
            serde_json::from_value(case["expected"].clone()).unwrap();
        let expected: Vec<_> =
            expected.into_iter().map(|(s, e, t)| (s, e, t.len() as u64)).collect();
        assert_eq!(found, expected, "{}", case["name"]);
        checks += 1;
    }
    assert!(checks == 4 || checks == 0, "{checks}");
}
