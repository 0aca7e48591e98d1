//! What the README says, rule by rule.

use join::{Config, Join};
use wasmill_sdk::abi::{RejectionKind, WATERMARK_END};
use wasmill_sdk::config::{self, Setup};
use wasmill_sdk::keyed::Keyed;

use crate::driver::{Driver, Input, watermarks};
use crate::{LEFT, RIGHT, at, one_call};

/// Runs records that come in order, each at the watermark just before it.
fn run(config: &str, inputs: &[Input]) -> Driver {
    let mut inputs = inputs.to_vec();
    watermarks(&mut inputs, 1);
    Driver::run(config, &inputs)
}

fn refused(json: &str) -> String {
    let made = config::parse::<Config>(json).and_then(|c| Join::new(c, &Setup::default()));
    made.expect_err(json).to_string()
}

#[test]
fn a_pair_comes_out_with_its_second_record_and_bears_the_later_time() {
    let mut inputs = [at(LEFT, 10), at(RIGHT, 14), at(LEFT, 15), at(RIGHT, 21)];
    watermarks(&mut inputs, 1);
    let mut driver = Driver::new(r#"{"within": 5}"#);
    driver.feed(&inputs[..1], &[1], 9);
    assert_eq!(driver.results(), []);
    driver.feed(&inputs[1..2], &[1], 13);
    assert_eq!(driver.results(), [(14, r#"{"left":10,"right":14}"#)]);
    driver.feed(&inputs[2..], &[2], WATERMARK_END);
    assert_eq!(driver.results()[1..], [(15, r#"{"left":15,"right":14}"#)]);
    assert_eq!(driver.keys_kept(), 0);
}

#[test]
fn a_record_that_comes_second_but_happened_first_pairs_at_the_time_of_the_other() {
    let driver = run(r#"{"within": 5, "lateness": 10}"#, &[at(RIGHT, 12), at(LEFT, 9)]);
    assert_eq!(driver.results(), [(12, r#"{"left":9,"right":12}"#)]);
}

#[test]
fn records_of_different_keys_never_pair() {
    let other = Input::new(RIGHT, "other", 10, "10");
    assert_eq!(run(r#"{"within": 5}"#, &[at(LEFT, 10), other]).results(), []);
}

#[test]
fn one_record_pairs_with_many_in_the_order_of_their_times_then_of_arrival() {
    let value = |time, text: &str| Input { value: text.into(), ..at(LEFT, time) };
    let inputs = [
        value(12, "1"),
        value(11, "2"),
        value(12, "3"),
        value(3, "4"),
        at(RIGHT, 13),
        at(RIGHT, 13),
    ];
    let driver = run(r#"{"within": 5, "lateness": 20}"#, &inputs);
    let values = driver.texts();
    let once = [r#"{"left":2,"right":13}"#, r#"{"left":1,"right":13}"#, r#"{"left":3,"right":13}"#];
    assert_eq!(values, [once, once].concat());
}

#[test]
fn a_left_record_without_partner_comes_out_when_its_last_partner_could_have_come() {
    let config = r#"{"join": "left", "after": 5, "before": 100, "lateness": 2}"#;
    let mut driver = Driver::new(config);
    driver.feed(&[at(LEFT, 10)], &[1], 16);
    assert_eq!(driver.results(), []);
    driver.feed(&[], &[1], 17);
    assert_eq!(driver.results(), [(17, r#"{"left":10,"right":null}"#)]);
    assert_eq!(driver.outputs[0].watermark, 16, "no later stage finds it late");
    assert_eq!(driver.keys_kept(), 0);
}

#[test]
fn a_record_that_had_a_partner_does_not_come_out_alone() {
    let inputs = [at(LEFT, 10), at(RIGHT, 11), at(RIGHT, 12), at(LEFT, 13), at(LEFT, 30)];
    let alone = r#"{"left":30,"right":null}"#;
    let driver = run(r#"{"join": "left", "within": 2}"#, &inputs);
    let values = driver.texts();
    assert_eq!(values.len(), 5, "{values:?}");
    assert_eq!(values.iter().filter(|v| v.contains("null")).collect::<Vec<_>>(), [&alone]);
}

#[test]
fn the_kind_of_join_says_whose_records_come_out_alone() {
    let inputs = [at(LEFT, 10), at(RIGHT, 30), at(LEFT, 50), at(RIGHT, 50)];
    let pair = r#"{"left":50,"right":50}"#;
    let left = r#"{"left":10,"right":null}"#;
    let right = r#"{"left":null,"right":30}"#;
    for (kind, expected) in [
        ("inner", &[pair][..]),
        ("left", &[left, pair]),
        ("right", &[right, pair]),
        ("outer", &[left, right, pair]),
    ] {
        let mut driver = run(&format!(r#"{{"join": "{kind}", "within": 3}}"#), &inputs);
        let values = driver.texts();
        assert_eq!(values, expected, "{kind}");
        assert_eq!(driver.keys_kept(), 0, "{kind}");
    }
}

#[test]
fn a_record_is_late_when_the_watermark_has_reached_its_time_and_the_lateness() {
    for (lateness, late) in [(0, true), (4, true), (5, false)] {
        let mut driver = Driver::new(&format!(r#"{{"within": 50, "lateness": {lateness}}}"#));
        let partner = Input { watermark: 10, ..at(LEFT, 11) };
        let record = Input { watermark: 14, ..at(RIGHT, 10) };
        driver.feed(&[partner, record], &[2], 14);
        assert_eq!(driver.outputs.len(), usize::from(!late), "lateness {lateness}");
        assert_eq!(driver.rejected.len(), usize::from(late), "lateness {lateness}");
        for rejected in &driver.rejected {
            assert_eq!(rejected.kind, RejectionKind::Late);
            assert_eq!(
                rejected.reason,
                format!(
                    "the record of input \"right\" has event time 10, 4 ms behind the watermark 14; \
                     the lateness is {lateness} ms"
                )
            );
        }
    }
}

#[test]
fn records_that_are_done_with_are_removed_though_nothing_pairs_with_them() {
    let mut driver = Driver::new(r#"{"within": 100}"#);
    for i in 0..1_000 {
        driver.feed(&[at(LEFT, i * 10)], &[1], i * 10);
    }
    assert!((10..=10 + 10 / 2 + 2).contains(&driver.kept()), "{} are kept", driver.kept());
    assert!(
        driver.harness.usage().timers_set < 450,
        "{} timers for 1,000 records",
        driver.harness.usage().timers_set
    );
}

#[test]
fn a_side_is_not_read_when_it_can_have_no_partner() {
    let mut inputs: Vec<_> = (0..500).map(|i| at(LEFT, i)).collect();
    inputs.extend((0..500).map(|i| at(RIGHT, 2_000 + i)));
    let (outputs, scans) = one_call::run(r#"{"after": 100, "lateness": "1h"}"#, &inputs);
    assert_eq!(outputs.len(), 0);
    assert!(scans < 10, "{scans} scans for removing what is done with");
}

#[test]
fn thousands_of_partners_are_read_page_by_page() {
    let mut inputs: Vec<_> = (0..2_500).map(|i| at(LEFT, i / 2)).collect();
    inputs.push(at(RIGHT, 1_249));
    for kind in ["inner", "outer"] {
        let mut driver = run(&format!(r#"{{"join": "{kind}", "within": "10s"}}"#), &inputs);
        assert_eq!(driver.outputs.len(), 2_500, "{kind}");
        let expected = (0..2_500).map(|i| format!(r#"{{"left":{},"right":1249}}"#, i / 2));
        assert!(driver.outputs.iter().map(|o| o.value.clone()).eq(expected), "{kind}");
        assert_eq!(driver.keys_kept(), 0, "{kind}");
    }
}

#[test]
fn a_window_that_lies_on_one_side_does_not_keep_what_can_have_no_partner() {
    // The right record is 5 to 8 ms after the left one: no left record waits for one that is there.
    let config = r#"{"join": "outer", "before": -5, "after": 8}"#;
    let mut driver = Driver::new(config);
    driver.feed(&[at(LEFT, 10), Input { watermark: 14, ..at(RIGHT, 15) }], &[2], 14);
    assert_eq!(driver.results(), [(15, r#"{"left":10,"right":15}"#)]);
    assert_eq!(driver.kept(), 1, "the left record still has later partners");
    driver.feed(&[Input { watermark: 30, ..at(RIGHT, 31) }], &[1], 30);
    assert_eq!(driver.results()[1..], [(31, r#"{"left":null,"right":31}"#)]);
    assert_eq!(driver.keys_kept(), 0);
}

#[test]
fn records_at_the_ends_of_time_are_no_trouble() {
    let inputs = [at(LEFT, i64::MIN + 2), at(RIGHT, i64::MIN + 3), at(LEFT, i64::MAX - 1)];
    for kind in ["inner", "outer"] {
        let mut driver = run(&format!(r#"{{"join": "{kind}", "within": "1d"}}"#), &inputs);
        assert_eq!(driver.outputs.len(), if kind == "inner" { 1 } else { 2 }, "{kind}");
        assert_eq!(driver.keys_kept(), 0, "{kind}");
    }
}

#[test]
fn prefixed_results_have_the_fields_of_both_sides() {
    let config = r#"{"join": "outer", "left": "ad-served", "right": "view", "within": 5, "layout": "prefixed"}"#;
    let with = |port, time, value: &str| Input { value: value.into(), ..at(port, time) };
    let inputs = [
        with(LEFT, 1, r#" { "ad" : "x", "a\"b": {"n": [1, 2]} } "#),
        with(RIGHT, 2, r#"{"ad":"x","ts":2}"#),
        with(RIGHT, 100, "[7]"),
        with(LEFT, 200, "{}"),
    ];
    let values: Vec<_> = run(config, &inputs).outputs.into_iter().map(|o| o.value).collect();
    let pair = r#"{"ad-served_ad":"x","ad-served_a\"b":{"n": [1, 2]},"view_ad":"x","view_ts":2}"#;
    assert_eq!(values, [pair, r#"{"view":[7]}"#, "{}"]);
}

#[test]
fn what_is_no_json_is_malformed() {
    let broken = Input { value: "{\"a\":1} {".into(), ..at(RIGHT, 10) };
    let driver = run(r#"{"within": 5}"#, &[at(LEFT, 10), broken]);
    assert_eq!(driver.rejected[0].kind, RejectionKind::Malformed);
    assert_eq!(driver.results(), []);
}

#[test]
fn inputs_are_named_as_configured() {
    let config = config::parse(r#"{"left": "served", "right": "view", "within": "1h"}"#).unwrap();
    let ports = Join::new(config, &Setup::default()).unwrap().ports().unwrap();
    let names: Vec<_> = ports.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["served", "view"]);
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_by_the_key() {
    for (json, path, part) in [
        ("{}", "within", "found no window"),
        (r#"{"within": 1, "after": 1}"#, "after", "sets both bounds"),
        (r#"{"within": 1, "before": 1}"#, "before", "sets both bounds"),
        (r#"{"within": -1}"#, "within", "negative"),
        (r#"{"before": "5m", "after": "-5m 1ms"}"#, "after", "less than 0"),
        (r#"{"after": "-"}"#, "after", "no length of time"),
        (r#"{"within": 1, "left": "Ad"}"#, "left", "letter a-z"),
        (r#"{"within": 1, "right": ""}"#, "right", "letter a-z"),
        (r#"{"within": 1, "left": "a", "right": "a"}"#, "right", "two names"),
        (r#"{"within": 1, "join": "full"}"#, "join", "outer"),
        (r#"{"within": 1, "layout": "flat"}"#, "layout", "prefixed"),
        (r#"{"within": 1, "grace": 1}"#, "", "lateness"),
    ] {
        let error = refused(json);
        assert!(error.starts_with(path) && error.contains(part), "{json}: {error}");
    }
    let exact = config::parse::<Config>(r#"{"before": "-5m", "after": "5m"}"#).unwrap();
    Join::new(exact, &Setup::default()).expect("a window of one instant");
}

#[test]
fn the_schema_knows_every_key_and_its_choices() {
    let schema: serde_json::Value = serde_json::from_str(&Join::describe().config_schema).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    let mut known: Vec<&str> = properties.keys().map(String::as_str).collect();
    known.sort_unstable();
    let expected = ["after", "before", "join", "lateness", "layout", "left", "right", "within"];
    assert_eq!(known, expected);
    for key in ["join", "layout"] {
        for choice in properties[key]["enum"].as_array().unwrap() {
            config::parse::<Config>(&format!(r#"{{"within": 1, "{key}": {choice}}}"#)).unwrap();
        }
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
    let [given, nested, prefixed] = &blocks[..] else { panic!("{blocks:?}") };
    let mut inputs = [
        Input::new(LEFT, "a7", 1_000, given[0]),
        Input::new(LEFT, "a8", 2_000, given[1]),
        Input::new(RIGHT, "a7", 31_000, given[2]),
    ];
    watermarks(&mut inputs, 60_000);
    for (layout, expected) in [("nested", nested), ("prefixed", prefixed)] {
        let config = format!(
            r#"{{"join": "left", "left": "served", "right": "view", "after": "10m", "layout": "{layout}"}}"#
        );
        let driver = Driver::run(&config, &inputs);
        assert_eq!(driver.texts(), *expected, "{layout}");
        let times: Vec<i64> = driver.outputs.iter().map(|o| o.time).collect();
        assert_eq!(times, [31_000, 602_000], "{layout}");
    }
}
