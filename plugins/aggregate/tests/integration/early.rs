//! Results of windows that are still open.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;

use crate::driver::{Driver, Input, Output};
use crate::properties::records;
use crate::{onward, results};
use aggregate::Aggregate;
use wasmill_sdk::abi::WATERMARK_END;
use wasmill_sdk::testing::{Emission, Harness, Options, Piped};

fn view(time: i64, watermark: i64, user: &str) -> Input {
    Input { watermark, ..Input::new("/a", time, format!(r#"{{"user":"{user}"}}"#)) }
}

/// The emissions as `time: start count final`.
fn told(driver: &Driver<Aggregate>) -> Vec<String> {
    let told = |(output, v): (&Output, &Value)| {
        format!("{}: {} {} {}", output.time, v["window_start_ms"], v["count"], v["final"])
    };
    driver.outputs.iter().zip(&driver.values(0)).map(told).collect()
}

const TUMBLING: &str = r#"{"measure":"pages","window":{"size":30},"emit-every":10,"lateness":5}"#;

#[test]
fn an_open_window_tells_its_result_just_before_each_multiple_of_emit_every() {
    let inputs = [view(1, 0, "ann"), view(12, 8, "bob"), view(15, 11, "ann"), view(29, 14, "ann")];
    let mut driver = Driver::<Aggregate>::new(TUMBLING);
    driver.feed(&inputs, &[1], WATERMARK_END);
    // Up to 9 came two, up to 19 all; after that nothing came to be told before the close.
    assert_eq!(told(&driver), ["9: 0 2 false", "19: 0 4 false", "34: 0 4 true"]);
    assert_eq!(
        driver.outputs[0].value,
        r#"{"window_start_ms":0,"window_end_ms":30,"page":"/a","count":2,"unique_users":2,"final":false}"#
    );
    assert!(driver.outputs.iter().all(|o| o.watermark < o.time), "never late for what is behind");
}

#[test]
fn a_window_that_stays_open_for_late_records_tells_of_them() {
    let inputs = [view(1, 0, "ann"), view(29, 28, "ann"), view(3, 29, "ann"), view(4, 33, "ann")];
    let config = TUMBLING.replace(":5", ":50");
    let driver = Driver::<Aggregate>::run(&config, &inputs);
    let expected = ["9: 0 1 false", "29: 0 2 false", "39: 0 4 false", "79: 0 4 true"];
    assert_eq!(told(&driver), expected);
}

#[test]
fn a_window_ahead_of_the_watermark_tells_nothing_before_it_begins() {
    let inputs = [view(1, 0, "ann"), view(35, 0, "ann"), view(65, 0, "ann")];
    let driver = Driver::<Aggregate>::run(TUMBLING, &inputs);
    assert_eq!(
        told(&driver),
        [
            "9: 0 1 false",
            "34: 0 1 true",
            "39: 30 1 false",
            "64: 30 1 true",
            "69: 60 1 false",
            "94: 60 1 true",
        ]
    );
}

#[test]
fn an_instant_at_which_the_window_closes_has_the_final_result_alone() {
    let config = r#"{"measure":"pages","window":{"size":10},"emit-every":10}"#;
    let driver = Driver::<Aggregate>::run(config, &[view(1, 0, "ann")]);
    assert_eq!(told(&driver), ["9: 0 1 true"]);
}

#[test]
fn a_long_silence_brings_no_results_over_and_over() {
    let config = r#"{"measure":"pages","window":{"size":"30d"},"emit-every":1}"#;
    let mut driver = Driver::<Aggregate>::new(config);
    driver.batch(&[view(1, 0, "ann")], 86_400_000);
    assert_eq!(told(&driver), ["1: 0 1 false"]);
}

#[test]
fn every_measure_but_a_ranking_has_early_results_and_a_ranking_passes_them_over() {
    let value = r#"{"events":2,"duration_ms":7}"#;
    let input = Input { watermark: 0, ..Input::new("ann", 3, value) };
    let mut all = Vec::new();
    for measure in ["visits", "users"] {
        let config =
            format!(r#"{{"measure":"{measure}","window":{{"size":30}},"emit-every":"10ms"}}"#);
        let driver = Driver::<Aggregate>::run(&config, std::slice::from_ref(&input));
        assert_eq!(driver.outputs.len(), 2);
        assert!(driver.outputs[0].value.ends_with(r#","final":false}"#));
        assert!(driver.outputs[1].value.ends_with(r#","final":true}"#));
        all = driver.outputs;
    }
    let config = r#"{"measure":"top","rank-by":"duration_ms"}"#;
    let top = Driver::<Aggregate>::run(config, &onward(&all, "all"));
    assert_eq!(
        results(&top),
        [
            r#"{"window_start_ms":0,"window_end_ms":30,"ranking":[{"rank":1,"user":"ann","visits":1,"events":2,"duration_ms":7}]}"#
        ]
    );
}

#[test]
fn the_setting_may_come_and_go_between_runs() {
    let (with, without) = (TUMBLING, TUMBLING.replace(r#""emit-every":10,"#, ""));
    let view = |time| Piped::new("/a", time, r#"{"user":"ann"}"#).at_watermark(time - 1);
    let mut harness = Harness::keyed::<Aggregate>(with).unwrap();
    harness.pipe_batch(&[view(1)]);
    let mut harness = harness.reopen::<Aggregate>(&without, &Options::default()).unwrap();
    harness.pipe_batch(&[view(12)]);
    let mut harness = harness.reopen::<Aggregate>(with, &Options::default()).unwrap();
    harness.pipe_batch(&[view(23)]);
    harness.end();
    let told = |e: &Emission| {
        let v: Value = e.json();
        format!("{}: {} {}", e.timestamp, v["count"], v["final"])
    };
    let told: Vec<_> = harness.output("out").iter().map(told).collect();
    assert_eq!(told, ["29: 3 false", "34: 3 true"]);
    assert_eq!(harness.keys_kept(), [] as [&str; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn early_results_hold_what_had_come_by_then_and_final_ones_are_those_without_them(
        inputs in records(100),
        size in 1..40_i64, hop in 1..40_i64, lateness in 0..20_i64, every in 1..25_i64,
        cuts in prop::collection::vec(1..20_usize, 1..12),
    ) {
        let config = format!(
            r#"{{"measure":"pages","window":{{"size":{size},"hop":{hop}}},"lateness":{lateness}"#
        );
        let run = |config: &str| {
            let mut driver = Driver::<Aggregate>::new(config);
            driver.feed(&inputs, &cuts, WATERMARK_END);
            assert!(driver.keys_kept().is_empty());
            driver
        };
        let without = run(&format!("{config}}}"));
        let with = run(&format!(r#"{config},"emit-every":{every}}}"#));
        prop_assert_eq!(&with.rejected, &without.rejected);
        let (last, early): (Vec<_>, Vec<_>) =
            with.outputs.iter().partition(|o| o.value.ends_with(r#","final":true}"#));
        let mut last: Vec<_> =
            last.iter().map(|o| (o.time, o.value.replace(r#","final":true"#, ""))).collect();
        last.sort();
        let mut expected: Vec<_> =
            without.outputs.iter().map(|o| (o.time, o.value.clone())).collect();
        expected.sort();
        prop_assert_eq!(last, expected);
        // The records of each window, by the watermarks that they came at.
        let mut windows = BTreeMap::<(&str, i64), Vec<i64>>::new();
        for input in &inputs {
            for start in (-200..800).map(|i| i * hop) {
                let within = (start..start + size).contains(&input.time);
                if within && start + size - 1 + lateness > input.watermark {
                    windows.entry((&input.key, start)).or_default().push(input.watermark);
                }
            }
        }
        let mut seen = BTreeSet::new();
        for (output, v) in with.outputs.iter().zip(with.values(0)) {
            if v["final"] == true {
                continue;
            }
            let start = v["window_start_ms"].as_i64().unwrap();
            prop_assert_eq!((output.time + 1).rem_euclid(every), 0);
            prop_assert!(start < output.time && output.time < start + size - 1 + lateness);
            prop_assert!(output.watermark < output.time);
            let came = windows[&(output.key.as_str(), start)].iter();
            let count = came.filter(|watermark| **watermark < output.time).count();
            prop_assert_eq!(v["count"].as_u64(), Some(count as u64));
            prop_assert!(seen.insert((output.key.as_str(), start, output.time)), "told twice");
        }
        prop_assert_eq!(seen.len(), early.len());
        // Every record is told of at the first instant after it, unless its window closes before.
        for ((key, start), watermarks) in &windows {
            for watermark in watermarks {
                let after = *watermark.max(start);
                let instant = ((after + 1).div_euclid(every) + 1) * every - 1;
                if instant < start + size - 1 + lateness {
                    prop_assert!(seen.contains(&(*key, *start, instant)), "{} {}", start, instant);
                }
            }
        }
    }
}
