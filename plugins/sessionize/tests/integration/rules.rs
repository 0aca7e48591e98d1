//! The rules one by one, on short inputs.

use serde_json::Value;

use crate::driver::{Driver, Input};
use sessionize::{FINAL, LIVE, Sessionize};
use wasmill_sdk::abi::{RejectionKind, WATERMARK_END};
use wasmill_sdk::config;
use wasmill_sdk::keyed::Keyed;
use wasmill_sdk::prelude::Setup;

/// An event of user `u` and the watermark before it.
fn at(time: i64, watermark: i64, page: &str) -> Input {
    let kind = if page == "/buy" { "purchase" } else { "view" };
    let value = format!(r#"{{"path":"{page}","type":"{kind}"}}"#);
    Input { watermark, ..Input::new("u", time, value) }
}

/// The closed sessions as `start-end events ended_by`, in the order of their reports.
fn closed(driver: &Driver<Sessionize>) -> Vec<String> {
    let line = |v: &Value| {
        format!("{}-{} {} {}", v["start_ms"], v["end_ms"], v["events"], text(&v["ended_by"]))
    };
    driver.values(FINAL).iter().map(line).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn ids(driver: &Driver<Sessionize>) -> Vec<String> {
    driver.values(LIVE).iter().map(|v| text(&v["session_id"]).to_owned()).collect()
}

#[test]
fn a_closed_session_has_these_fields_in_this_order() {
    let inputs = [at(1_000, 0, "/a"), at(4_500, 0, "/b"), at(2_000, 0, "/a")];
    let driver = Driver::<Sessionize>::run(r#"{"gap":"1m"}"#, &inputs);
    let live: Vec<_> = driver.outputs.iter().filter(|o| o.output == LIVE).collect();
    assert_eq!(
        live[2].value,
        r#"{"path":"/a","type":"view","session_id":"u-3e8","session_seq":3,"session_duration_ms":3500}"#
    );
    assert_eq!((live[2].time, live[2].key.as_str()), (2_000, "u"));
    let last = driver.outputs.last().unwrap();
    assert_eq!(
        last.value,
        r#"{"session_id":"u-3e8","user":"u","start_ms":1000,"end_ms":4500,"duration_ms":3500,"events":3,"unique_pages":2,"entry_page":"/a","exit_page":"/b","ended_by":"inactivity"}"#
    );
    // It carries the clock at which it closed: end + gap.
    assert_eq!((last.output, last.time), (1, 64_500));
}

#[test]
fn a_merge_keeps_the_earlier_id_and_names_the_other() {
    let config = r#"{"gap":10}"#;
    let inputs = [at(30, 0, "/b"), at(15, 0, "/a"), at(22, 0, "/m"), at(31, 0, "/c")];
    let driver = Driver::<Sessionize>::run(config, &inputs);
    assert_eq!(ids(&driver), ["u-1e", "u-f", "u-f", "u-f"]);
    let closed = &driver.values(FINAL)[0];
    assert_eq!(closed["merged_ids"], serde_json::json!(["u-1e"]));
    assert_eq!((text(&closed["entry_page"]), text(&closed["exit_page"])), ("/a", "/c"));
    let numbers: Vec<_> = driver.values(LIVE).iter().map(|v| v["session_seq"].clone()).collect();
    assert_eq!(numbers, [1, 1, 3, 4]);
}

#[test]
fn an_event_is_late_from_the_instant_at_which_its_session_closes() {
    let config = r#"{"gap":10,"lateness":5}"#;
    let run = |watermark| {
        let driver = Driver::<Sessionize>::run(config, &[at(0, watermark, "/a")]);
        driver.rejected.first().map(|r| (r.kind, r.reason.clone()))
    };
    assert_eq!(run(14), None);
    let (kind, reason) = run(15).unwrap();
    assert_eq!(kind, RejectionKind::Late);
    assert!(reason.contains("at 0 closed at 15, 0 ms before"), "{reason}");
    assert!(run(25).unwrap().1.contains("10 ms before the watermark 25"));
    // An open session within the gap saves it.
    let inputs = [at(8, -100, "/a"), at(0, 20, "/a")];
    let driver = Driver::<Sessionize>::run(config, &inputs);
    assert_eq!(closed(&driver), ["0-8 2 inactivity"]);
}

const COMPLETE: &str = r#"{"gap":10,"lateness":2,"complete":{"values":["purchase"]}}"#;

#[test]
fn a_completing_action_ends_a_session_for_later_events() {
    let inputs = [at(0, -5, "/a"), at(4, -5, "/buy"), at(6, -5, "/b"), at(3, -5, "/c")];
    let mut driver = Driver::<Sessionize>::new(COMPLETE);
    driver.feed(&inputs, &[1], 5);
    assert_eq!(closed(&driver), [] as [&str; 0], "it stays open for stragglers");
    driver.batch(&[], 6);
    assert_eq!(closed(&driver), ["0-4 3 completion"]);
    assert_eq!(driver.outputs.last().unwrap().time, 6);
    // Up to the completion, events are late now, even within the gap of the session that is open.
    driver.batch(&[at(4, 6, "/d"), at(5, 6, "/d")], WATERMARK_END);
    assert_eq!(driver.rejected.len(), 1);
    assert!(driver.rejected[0].reason.contains("at 4 closed at 6"), "{:?}", driver.rejected);
    assert_eq!(closed(&driver), ["0-4 3 completion", "5-6 2 inactivity"]);
}

#[test]
fn a_completing_action_does_not_join_what_is_later() {
    let inputs = [at(5, -50, "/a"), at(0, -50, "/buy"), at(3, -50, "/b")];
    let driver = Driver::<Sessionize>::run(COMPLETE, &inputs);
    assert_eq!(closed(&driver), ["0-0 1 completion", "3-5 2 inactivity"]);
}

#[test]
fn a_completing_action_out_of_order_completes_what_has_been_counted() {
    let inputs = [at(0, -50, "/a"), at(6, -50, "/b"), at(4, -50, "/buy"), at(7, -50, "/c")];
    let driver = Driver::<Sessionize>::run(COMPLETE, &inputs);
    assert_eq!(closed(&driver), ["0-6 3 completion", "7-7 1 inactivity"]);
}

#[test]
fn a_completion_behind_the_watermark_closes_at_once() {
    let inputs = [at(0, 9, "/buy"), at(12, 9, "/a")];
    let mut driver = Driver::<Sessionize>::new(COMPLETE);
    driver.feed(&inputs, &[1], 9);
    assert_eq!(closed(&driver), ["0-0 1 completion"]);
    assert_eq!(driver.outputs[1].time, 10);
}

#[test]
fn a_session_is_cut_with_its_last_allowed_event() {
    let config = r#"{"gap":10,"max-events":2}"#;
    let inputs: Vec<_> = [5, 5, 5, 5, 4, 6].iter().map(|t| at(*t, 3, "/a")).collect();
    let mut driver = Driver::<Sessionize>::new(config);
    driver.feed(&inputs, &[1], 3);
    assert_eq!(closed(&driver), ["5-5 2 max-events", "5-5 2 max-events", "4-6 2 max-events"]);
    // The three start anew each time, two of them in the same millisecond, under ids of their own.
    assert_eq!(ids(&driver), ["u-5", "u-5", "u-5.1", "u-5.1", "u-4.2", "u-4.2"]);
    assert_eq!(driver.keys_kept().len(), 1, "ids are remembered while they could come again");
    driver.batch(&[], 16);
    assert!(driver.keys_kept().is_empty());
}

#[test]
fn a_cut_session_is_reported_at_once_but_never_behind_the_watermark() {
    let config = r#"{"gap":10,"max-events":1}"#;
    let driver = Driver::<Sessionize>::run(config, &[at(5, 7, "/a"), at(20, 7, "/a")]);
    let times: Vec<_> = driver.outputs.iter().filter(|o| o.output == 1).map(|o| o.time).collect();
    assert_eq!(times, [8, 20]);
}

#[test]
fn an_event_that_would_make_a_session_too_long_starts_the_next() {
    let config = r#"{"gap":10,"max-duration":15}"#;
    let inputs = [at(0, -9, "/a"), at(8, -9, "/a"), at(15, -9, "/a"), at(16, -9, "/b")];
    let driver = Driver::<Sessionize>::run(config, &inputs);
    assert_eq!(closed(&driver), ["0-15 3 max-duration", "16-16 1 inactivity"]);
    assert_eq!(ids(&driver)[3], "u-10.1");
    // Before a session, it stands alone; the session goes on.
    let inputs = [at(10, -9, "/a"), at(20, -9, "/a"), at(3, -9, "/a"), at(21, -9, "/a")];
    let driver = Driver::<Sessionize>::run(config, &inputs);
    assert_eq!(closed(&driver), ["3-3 1 inactivity", "10-21 3 inactivity"]);
}

#[test]
fn a_merge_that_would_break_a_limit_does_not_take_place() {
    let config = r#"{"gap":10,"max-events":3}"#;
    let inputs = [at(0, -9, "/a"), at(15, -9, "/b"), at(16, -9, "/b"), at(7, -9, "/c")];
    let driver = Driver::<Sessionize>::run(config, &inputs);
    assert_eq!(closed(&driver), ["0-7 2 inactivity", "15-16 2 inactivity"]);
    let config = r#"{"gap":10,"max-events":4}"#;
    let driver = Driver::<Sessionize>::run(config, &inputs);
    assert_eq!(closed(&driver), ["0-16 4 max-events"]);
}

#[test]
fn events_that_extend_a_session_do_not_move_its_timer() {
    let inputs: Vec<_> = (0..1_000).map(|t| at(t, t - 1, "/a")).collect();
    let mut driver = Driver::<Sessionize>::new(r#"{"gap":100}"#);
    driver.feed(&inputs, &[1], 998);
    let set = driver.harness.usage().timers_set;
    assert!(set <= 11, "{set}");
    driver.batch(&[], WATERMARK_END);
    assert_eq!(closed(&driver), ["0-999 1000 inactivity"]);
    assert_eq!(driver.outputs.last().unwrap().time, 1_099);
}

#[test]
fn what_is_no_event_is_malformed() {
    let inputs = [Input::new("u", 0, "[1]"), Input::new("u", 0, r#"{"path":"/a"#)];
    let mut driver = Driver::<Sessionize>::run("{}", &inputs);
    assert!(driver.rejected.iter().all(|r| r.kind == RejectionKind::Malformed));
    assert_eq!(driver.rejected.len(), 2);
    assert!(driver.keys_kept().is_empty());
}

#[test]
fn field_names_are_those_of_the_configuration() {
    let config = r#"{"page-field":"screen","complete":{"field":"do","values":["pay"]}}"#;
    let value = r#"{"screen":"home","do":"pay","path":"/x"}"#;
    let driver = Driver::<Sessionize>::run(config, &[Input::new("u", 0, value)]);
    let closed = &driver.values(FINAL)[0];
    assert_eq!((text(&closed["entry_page"]), text(&closed["ended_by"])), ("home", "completion"));
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_by_key() {
    let refused = |json: &str| {
        let config = match config::parse(json) {
            Ok(config) => config,
            Err(e) => return e.path,
        };
        Sessionize::new(config, &Setup::default()).unwrap_err().path
    };
    assert_eq!(refused(r#"{"max-events":0}"#), "max-events");
    assert_eq!(refused(r#"{"complete":{"values":[]}}"#), "complete.values");
    assert_eq!(refused(r#"{"gap":"soon"}"#), "gap");
}

#[test]
fn the_schema_has_the_keys_of_the_configuration() {
    let schema: Value = serde_json::from_str(&Sessionize::describe().config_schema).unwrap();
    let keys: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["complete", "gap", "lateness", "max-duration", "max-events", "page-field"]);
    for key in keys {
        let error = config::parse::<sessionize::Config>(&format!(r#"{{"{key}":[]}}"#));
        assert!(error.unwrap_err().path.starts_with(key.as_str()), "{key} is read");
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
    let [input, live, closed] = blocks.as_slice() else { panic!("three blocks of JSON") };
    let event = |line: &&str| {
        let time = serde_json::from_str::<Value>(line).unwrap()["ts"].as_i64().unwrap();
        Input { watermark: time - 1, ..Input::new("u7", time, *line) }
    };
    let inputs: Vec<_> = input.iter().map(event).collect();
    let config = r#"{"gap":"30m","complete":{"values":["purchase"]}}"#;
    let mut driver = Driver::<Sessionize>::new(config);
    driver.feed(&inputs, &[1], 121_000);
    let found: Vec<_> = driver.outputs.iter().map(|o| o.value.as_str()).collect();
    assert_eq!(found, [live.as_slice(), closed.as_slice()].concat());
    assert_eq!(driver.outputs.last().unwrap().time, 121_000);
}
