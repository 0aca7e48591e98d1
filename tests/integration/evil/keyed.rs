//! A plugin with state that misbehaves: a call that fails leaves no trace in states, maps and timers.

use serde_json::{Value, json};
use wasmill_abi::TimeDomain;
use wasmill_sdk::testing::Piped;

use super::{BATCH_TIME, Bounds, dead, harness};

/// Pipes records of three keys in, two of them evil, and checks that exactly these are in the dead
/// letter queue, and that the states, maps and timers of all keys are as if they had never come.
fn only_evil_is_dead(config: Value, bounds: &Bounds, class: &str, reason: &str) {
    let mut h = harness("evil-keyed", &config, bounds);
    let records = [
        ("a", 100, "a1"),
        ("b", 101, "b1 timer"),
        ("a", 102, "a2 evil"),
        ("a", 103, "a3"),
        ("c", 104, "c1 evil timer"),
        ("b", 105, "b2"),
        ("a", 120, "a4"),
    ];
    let records: Vec<_> = records.iter().map(|(k, t, v)| Piped::new(k, *t, v)).collect();
    h.pipe_batch(&records);
    assert_eq!(h.error(), None, "{config}");
    let mut out = h.texts("out");
    out.sort();
    let b = ["b1 timer 1 ", "b2 2 b1 timer"];
    let expected = ["a1 1 ", "a3 2 a1", "a4 3 a3", b[0], b[1], "timer 2"];
    assert_eq!(out, expected, "{config}");
    let mut dead = dead(h.rejected());
    dead.sort();
    let values: Vec<_> = dead.iter().map(|d| d.0.as_str()).collect();
    assert_eq!(values, ["a2 evil", "c1 evil timer"], "{config}");
    for (_, found, why) in &dead {
        assert_eq!(found, class, "{config}: {why}");
        assert!(why.contains(reason), "{config}: {why:?} does not say {reason:?}");
    }
    assert_eq!(h.keys(), ["a", "b"], "{config}");
    assert_eq!((h.state::<u64>("a"), h.state::<u64>("b")), (Some(3), Some(2)), "{config}");
    assert!(["a", "b", "c"].iter().all(|k| h.timers(k).is_empty()), "{config}");
    // And it goes on, from the state and the map as they were.
    h.pipe_batch(&[Piped::new("c", 130, "c2"), Piped::new("a", 131, "a5")]);
    let mut out = h.texts("out");
    out.sort();
    assert_eq!(out, ["a5 4 a4", "c2 1 "], "{config}");
}

fn forgery(name: &str, class: &str, reason: &str) {
    only_evil_is_dead(json!({ "keyed-reply": name }), &Bounds::default(), class, reason);
}

#[test]
fn an_endless_loop_leaves_no_trace_in_the_state() {
    let bounds = Bounds { batch_time: BATCH_TIME, ..Bounds::default() };
    only_evil_is_dead(json!({ "call": "loop" }), &bounds, "timeout", "batch-time = 250ms");
}

#[test]
fn other_misdeeds_leave_no_trace_in_the_state() {
    let bounds = Bounds { memory: 32 << 20, ..Bounds::default() };
    for (misdeed, class, reason) in [
        ("memory", "memory", "the limit memory"),
        ("stack", "stack", "used up its stack"),
        ("trap", "trap", "unreachable"),
        ("panic", "trap", "this plugin has no conscience"),
        ("sleep", "trap", "can't sleep"),
        ("exit", "trap", "ended itself"),
    ] {
        only_evil_is_dead(json!({ "call": misdeed }), &bounds, class, reason);
    }
}

#[test]
fn a_reply_with_wrong_columns_is_refused() {
    for (name, reason) in [
        ("rows-out-of-range", "rows names source"),
        ("fewer-values", "values has"),
        ("ends-beyond-data", "values: the last end is"),
        ("unknown-output", "output 9 is unknown"),
        ("rejected-out-of-range", "rejections.rows names record"),
    ] {
        let bounds = Bounds::default();
        only_evil_is_dead(json!({ "reply": name }), &bounds, "malformed-reply", reason);
    }
}

#[test]
fn a_reply_with_wrong_clocks_is_refused() {
    forgery("fewer-clocks", "malformed-reply", "clocks has");
    forgery("clock-beyond-end", "malformed-reply", "beyond the end watermark");
}

#[test]
fn a_reply_with_wrong_states_is_refused() {
    forgery("changed-out-of-range", "malformed-reply", "changed names slot");
    forgery("changed-twice", "malformed-reply", "changed must ascend");
    forgery("fewer-states", "malformed-reply", "states has 0 elements");
}

#[test]
fn a_state_of_100_mib_passes_the_limit() {
    forgery("large-state", "limit", "has 104857600 bytes, the limit state = 1048576");
}

#[test]
fn a_million_timers_pass_the_limit() {
    forgery("many-timers", "limit", "timers, the limit timers = 1000");
}

#[test]
fn a_reply_with_wrong_timers_is_refused() {
    forgery("timer-in-the-past", "malformed-reply", "the operator should have run it");
    forgery("timer-of-nobody", "malformed-reply", "timers name slot");
    forgery("timer-twice", "malformed-reply", "a timer is changed twice");
    forgery("fewer-tags", "malformed-reply", "timers.set.tags has 0 elements");
}

#[test]
fn misuse_of_map_state_is_refused() {
    for (misuse, reason) in [
        ("no-such-map", "there is no map state 9"),
        ("no-such-slot", "the batch has no key in slot"),
        ("too-many-bytes", "the limit map-write = 67108864 would be passed"),
        ("fewer-keys", "malformed map call"),
        ("ends-descend", "malformed map call"),
    ] {
        let bounds = Bounds { memory: 1 << 30, ..Bounds::default() };
        only_evil_is_dead(json!({ "map": misuse }), &bounds, "failed", reason);
    }
}

#[test]
fn a_refused_call_of_map_state_that_the_plugin_ignores_changes_nothing() {
    for misuse in ["no-such-map", "no-such-slot", "too-many-bytes", "fewer-keys", "ends-descend"] {
        let config = json!({ "map": misuse, "ignore": true });
        let bounds = Bounds { memory: 1 << 30, ..Bounds::default() };
        let mut h = harness("evil-keyed", &config, &bounds);
        h.pipe_batch(&[Piped::new("a", 1, "a1"), Piped::new("b", 2, "b1")]);
        h.pipe_batch(&[Piped::new("a", 3, "a2 evil"), Piped::new("b", 4, "b2")]);
        h.pipe_batch(&[Piped::new("a", 5, "a3")]);
        assert_eq!(h.rejected(), [], "{config}");
        assert_eq!(h.error(), None, "{config}");
        let expected = ["a1 1 ", "b1 1 ", "a2 evil 2 a1", "b2 2 b1", "a3 3 a2 evil"];
        assert_eq!(h.texts("out"), expected, "{config}");
    }
}

#[test]
fn timers_that_make_the_plugin_fail_are_dropped_and_the_state_of_their_key_stays() {
    for misdeed in ["panic", "stack", "exit"] {
        let config = json!({ "timer": misdeed });
        let mut h = harness("evil-keyed", &config, &Bounds::default());
        let records = [("a", 100, "timer"), ("evil", 101, "timer"), ("b", 102, "timer")];
        h.pipe_batch(&records.map(|(k, t, v)| Piped::new(k, t, v)));
        let set = (TimeDomain::EventTime, 1, 111);
        assert_eq!(h.timers("evil"), [set], "{misdeed}");
        assert_eq!(h.texts("out"), ["timer 1 "; 3], "{misdeed}");
        // The timers of all three keys fall due in one call, together with a record.
        h.pipe_batch(&[Piped::new("c", 200, "c1"), Piped::new("evil", 201, "still there")]);
        assert_eq!(h.error(), None, "{misdeed}");
        let mut out = h.texts("out");
        out.sort();
        assert_eq!(out, ["c1 1 ", "still there 2 timer", "timer 1", "timer 1"], "{misdeed}");
        let rejected = h.rejected();
        assert_eq!(rejected.len(), 1, "{rejected:?}");
        let timer = rejected[0].record.header("wasmill.timer");
        assert_eq!(timer.as_deref(), Some("{\"time_ms\":111,\"tag\":1}"), "{misdeed}");
        assert_eq!(rejected[0].record.key.as_deref(), Some(b"evil".as_slice()));
        assert!(rejected[0].reason.contains("plugin evil-keyed"), "{}", rejected[0].reason);
        assert!(h.timers("evil").is_empty(), "{misdeed}");
        assert_eq!(h.state::<u64>("evil"), Some(2), "{misdeed}");
    }
}

#[test]
fn timers_of_the_wall_clock_run_in_a_component_at_the_watermark_that_holds() {
    let mut h = harness("evil-keyed", &json!({}), &Bounds::default());
    h.pipe_batch(&[Piped::new("a", 100, "alarm"), Piped::new("b", 100, "alarm")]);
    h.pipe_batch(&[Piped::new("b", 101, "calm")]);
    h.advance_watermark(200);
    assert_eq!(h.timers("a"), [(TimeDomain::ProcessingTime, 2, 300)]);
    assert_eq!(h.timers("b"), []);
    h.output("out");
    h.advance_clock(299);
    assert_eq!(h.output("out"), []);
    h.advance_clock(300);
    let out = h.output("out");
    assert_eq!(
        (out[0].text(), out[0].clock, out[0].timestamp),
        ("alarm 1 at 200".into(), 200, 201)
    );
    assert_eq!((out.len(), h.error()), (1, None));
}
