//! Lateness, gaps between windows, and what is refused.

use serde_json::Value;

use crate::driver::{Driver, Input};
use crate::results;
use aggregate::Aggregate;
use wasmill_sdk::abi::{RejectionKind, WATERMARK_END};
use wasmill_sdk::config;
use wasmill_sdk::keyed::Keyed;
use wasmill_sdk::prelude::Setup;

fn at(time: i64, watermark: i64) -> Input {
    Input { watermark, ..Input::new("/a", time, r#"{"user":"ann"}"#) }
}

#[test]
fn a_record_is_late_from_the_instant_at_which_its_window_closes() {
    let config = r#"{"measure":"pages","window":{"size":10},"lateness":5}"#;
    let run = |watermark| Driver::<Aggregate>::run(config, &[at(3, watermark)]).rejected;
    assert_eq!(run(13), []);
    let late = run(14);
    assert_eq!(late[0].kind, RejectionKind::Late);
    assert!(late[0].reason.contains("0..10 closed at 14, 0 ms before"), "{late:?}");
    assert!(run(20)[0].reason.contains("6 ms before the watermark 20"));
}

#[test]
fn a_record_counts_in_those_of_its_windows_that_are_open() {
    let config = r#"{"measure":"pages","window":{"size":10,"hop":5}}"#;
    let driver = Driver::<Aggregate>::run(config, &[at(6, 9)]);
    assert_eq!(driver.rejected, []);
    assert_eq!(
        results(&driver),
        [r#"{"window_start_ms":5,"window_end_ms":15,"page":"/a","count":1,"unique_users":1}"#]
    );
    let driver = Driver::<Aggregate>::run(config, &[at(6, 14)]);
    assert_eq!(driver.rejected.len(), 1);
    assert!(driver.rejected[0].reason.contains("5..15"), "the last to close is named");
}

#[test]
fn a_record_between_windows_belongs_to_none_and_leaves_nothing() {
    let config = r#"{"measure":"pages","window":{"size":3,"hop":10}}"#;
    let mut driver = Driver::<Aggregate>::new(config);
    driver.batch(&[at(5, 0)], 0);
    assert!(driver.rejected.is_empty() && driver.keys_kept().is_empty());
    driver.batch(&[at(12, 0)], WATERMARK_END);
    assert_eq!(results(&driver).len(), 1);
}

#[test]
fn the_timer_is_set_once_for_a_window() {
    let config = r#"{"measure":"pages","window":{"size":100}}"#;
    let inputs: Vec<_> = (0..100).map(|t| at(t, t - 1)).collect();
    let mut driver = Driver::<Aggregate>::new(config);
    driver.feed(&inputs, &[1], 98);
    assert_eq!((driver.harness.usage().timers_set, driver.outputs.len()), (1, 0));
    driver.batch(&[], 99);
    assert_eq!(driver.values(0)[0]["count"], 100);
}

#[test]
fn what_a_measure_needs_and_does_not_find_is_invalid() {
    let rejected = |config: &str, value: &str| {
        let mut driver = Driver::<Aggregate>::run(config, &[Input::new("k", 0, value)]);
        assert!(driver.keys_kept().is_empty() && driver.outputs.is_empty());
        (driver.rejected[0].kind, driver.rejected[0].reason.clone())
    };
    let pages = r#"{"measure":"pages","window":{"size":10},"user-field":"who"}"#;
    let (kind, reason) = rejected(pages, r#"{"user":"ann"}"#);
    assert!(kind == RejectionKind::Invalid && reason.contains("\"who\""), "{reason}");
    assert_eq!(rejected(pages, "who").0, RejectionKind::Malformed);
    let visits = r#"{"measure":"visits","window":{"size":10}}"#;
    assert!(rejected(visits, r#"{"events":-1,"duration_ms":0}"#).1.contains("\"events\" is -1"));
    let top = r#"{"measure":"top"}"#;
    let (_, reason) = rejected(top, r#"{"window_start_ms":5,"window_end_ms":5,"count":1}"#);
    assert!(reason.contains("5..5"), "{reason}");
    let (_, reason) = rejected(top, r#"{"window_start_ms":5,"window_end_ms":9,"count":"1"}"#);
    assert!(reason.contains("a number"), "{reason}");
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_by_key() {
    let refused = |json: &str| match config::parse(json) {
        Ok(config) => Aggregate::new(config, &Setup::default()).unwrap_err().path,
        Err(e) => e.path,
    };
    assert_eq!(refused(r#"{"measure":"pages"}"#), "window");
    assert_eq!(refused(r#"{"measure":"top","window":{"size":1}}"#), "window");
    assert_eq!(refused(r#"{"measure":"pages","window":{"size":0}}"#), "window");
    assert_eq!(refused(r#"{"measure":"visits","window":{"size":1},"top":3}"#), "top");
    assert_eq!(refused(r#"{"measure":"users","window":{"size":1},"rank-by":"x"}"#), "rank-by");
    assert_eq!(refused(r#"{"measure":"top","top":0}"#), "top");
    assert_eq!(refused(r#"{"measure":"top","emit-every":"1m"}"#), "emit-every");
    assert_eq!(refused(r#"{"measure":"users","window":{"size":1},"emit-every":0}"#), "emit-every");
    assert_eq!(refused(r#"{"measure":"sum"}"#), "measure");
}

#[test]
fn the_schema_has_the_keys_of_the_configuration() {
    let schema: Value = serde_json::from_str(&Aggregate::describe().config_schema).unwrap();
    for key in schema["properties"].as_object().unwrap().keys().filter(|k| *k != "measure") {
        let wrong = format!(r#"{{"measure":"top","{key}":[]}}"#);
        let error = config::parse::<aggregate::Config>(&wrong).unwrap_err();
        assert!(error.path.starts_with(key.as_str()), "{key}: {error}");
    }
}

#[test]
fn the_example_of_the_readme_is_what_comes_out() {
    let readme = include_str!("../../README.md");
    let blocks: Vec<Vec<&str>> = readme
        .split("```json\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap().lines().collect())
        .collect();
    let [input, output, ranking] = blocks.as_slice() else { panic!("three blocks of JSON") };
    let inputs: Vec<_> = input
        .iter()
        .zip([600_000, 2_400_000])
        .map(|(line, time)| Input::new("/a", time, *line))
        .collect();
    let config = r#"{"measure":"pages","window":{"size":"1h","hop":"30m"}}"#;
    let pages = Driver::<Aggregate>::run(config, &inputs);
    assert_eq!(results(&pages), *output);
    let early: Vec<_> = readme.split("```text\n").nth(1).unwrap().split("```").collect();
    let config = r#"{"measure":"pages","window":{"size":"1h","hop":"30m"},"emit-every":"10m"}"#;
    let mut pages_early = Driver::<Aggregate>::new(config);
    // The watermark follows the event times.
    let watermark =
        |(i, input): (usize, &Input)| Input { watermark: i as i64 * 2_399_999, ..input.clone() };
    let inputs: Vec<_> = inputs.iter().enumerate().map(watermark).collect();
    pages_early.feed(&inputs, &[1], 2_399_999);
    let found: Vec<_> = pages_early.outputs.iter().map(|o| o.value.as_str()).collect();
    assert_eq!(found, early[0].lines().collect::<Vec<_>>());
    // The ranking has another page, with these figures.
    let other =
        r#"{"window_start_ms":0,"window_end_ms":3600000,"page":"/b","count":9,"unique_users":4}"#;
    let inputs = [Input::new("all", 0, output[1]), Input::new("all", 0, other)];
    let top = Driver::<Aggregate>::run(r#"{"measure":"top","top":3}"#, &inputs);
    assert_eq!(results(&top), *ranking);
}
