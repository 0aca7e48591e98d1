//! A stateless plugin that misbehaves at records with "evil" in their value.

use serde_json::{Value, json};
use wasmill_sdk::testing::Piped;

use super::{BATCH_TIME, Bounds, dead, harness};

/// Pipes eight records in, the third and the eighth evil, and checks that exactly these are in the
/// dead letter queue, of this class and with this in the reason, and that all others came out.
fn only_evil_is_dead(config: Value, bounds: &Bounds, class: &str, reason: &str) {
    let mut h = harness("evil", &config, bounds);
    let values = ["a", "b", "evil 1", "c", "d", "e", "f", "evil 2"];
    let records: Vec<_> =
        values.iter().enumerate().map(|(i, v)| Piped::new("k", i as i64, v)).collect();
    h.pipe_batch(&records);
    assert_eq!(h.error(), None, "{config}");
    assert_eq!(h.texts("out"), ["a", "b", "c", "d", "e", "f"], "{config}");
    let dead = dead(h.rejected());
    let values: Vec<_> = dead.iter().map(|d| d.0.as_str()).collect();
    assert_eq!(values, ["evil 1", "evil 2"], "{config}");
    for (_, found, why) in &dead {
        assert_eq!(found, class, "{config}: {why}");
        assert!(why.contains(reason), "{config}: {why:?} does not say {reason:?}");
    }
    assert_eq!((h.metrics().dead, h.metrics().poison), (2, 2), "{config}");
    // And it goes on.
    h.pipe_batch(&[Piped::new("k", 9, "later")]);
    assert_eq!(h.texts("out"), ["later"], "{config}");
}

fn misdeed(name: &str, class: &str, reason: &str) {
    only_evil_is_dead(json!({ "call": name }), &Bounds::default(), class, reason);
}

fn endless(name: &str) {
    let bounds = Bounds { batch_time: BATCH_TIME, ..Bounds::default() };
    let reason = "longer than batch-time = 250ms";
    only_evil_is_dead(json!({ "call": name }), &bounds, "timeout", reason);
}

fn forgery(name: &str, reason: &str) {
    let bounds = Bounds::default();
    only_evil_is_dead(json!({ "reply": name }), &bounds, "malformed-reply", reason);
}

#[test]
fn an_endless_loop_is_a_timeout() {
    endless("loop");
}

#[test]
fn an_endless_log_is_a_timeout() {
    endless("log");
}

#[test]
fn endless_output_is_a_timeout() {
    endless("print");
}

#[test]
fn memory_without_end_passes_the_limit() {
    let bounds = Bounds { memory: 32 << 20, ..Bounds::default() };
    let reason = "the limit memory = 33554432";
    only_evil_is_dead(json!({ "call": "memory" }), &bounds, "memory", reason);
}

#[test]
fn recursion_without_end_uses_up_the_stack() {
    misdeed("stack", "stack", "used up its stack");
}

#[test]
fn large_frames_without_end_trap() {
    misdeed("frames", "trap", "out of bounds memory access");
}

#[test]
fn a_trap_says_what_it_is() {
    misdeed("trap", "trap", "unreachable");
}

#[test]
fn a_panic_says_its_message() {
    misdeed("panic", "trap", "this plugin has no conscience");
}

#[test]
fn a_plugin_cannot_sleep() {
    misdeed("sleep", "trap", "a plugin can't sleep: use a timer");
}

#[test]
fn a_plugin_that_exits_ends_only_itself() {
    misdeed("exit", "trap", "ended itself with exit code 0");
}

#[test]
fn a_line_of_the_log_has_the_size_of_a_reply_at_most() {
    let bounds = Bounds { memory: 1 << 30, ..Bounds::default() };
    only_evil_is_dead(json!({ "call": "long-line" }), &bounds, "limit", "limit output");
}

#[test]
fn a_reply_of_a_gibibyte_passes_the_limit() {
    let bounds = Bounds { memory: 3 << 30, ..Bounds::default() };
    only_evil_is_dead(json!({ "reply": "large-reply" }), &bounds, "limit", "limit output");
    only_evil_is_dead(json!({ "reply": "large-reply" }), &Bounds::default(), "memory", "memory");
}

#[test]
fn a_reply_that_is_a_little_too_large_passes_the_limit() {
    let mut bounds = Bounds::default();
    bounds.limits.output_bytes = 1 << 20;
    let reason = "the limit output = 1048576";
    only_evil_is_dead(json!({ "reply": "larger-reply" }), &bounds, "limit", reason);
}

#[test]
fn a_failure_that_the_plugin_returns_says_its_message() {
    let config = json!({ "raw": "failure" });
    only_evil_is_dead(config, &Bounds::default(), "failed", "I don't feel like it");
}

#[test]
fn a_reply_with_wrong_rows_is_refused() {
    forgery("rows-out-of-range", "rows names source");
}

#[test]
fn a_reply_with_wrong_values_is_refused() {
    forgery("fewer-values", "values has");
    forgery("more-values", "values has");
    forgery("ends-descend", "values: ends must never decrease");
    forgery("ends-beyond-data", "values: the last end is");
    forgery("validity-too-long", "bytes of validity");
}

#[test]
fn a_reply_with_columns_of_other_lengths_is_refused() {
    forgery("fewer-keys", "keys has 0 elements");
    forgery("more-timestamps", "timestamps has");
    forgery("more-outputs", "outputs has");
    forgery("fewer-headers", "headers.added.ends has 0 elements");
    forgery("dropped-too-long", "headers.dropped is too long");
}

#[test]
fn a_reply_with_an_unknown_output_is_refused() {
    forgery("unknown-output", "output 9 is unknown, there are 1");
}

#[test]
fn a_header_whose_name_is_no_text_is_refused() {
    forgery("header-name", "a header's name must be UTF-8");
}

#[test]
fn a_reply_with_wrong_rejections_is_refused() {
    forgery("rejected-twice", "rejections.rows must ascend");
    forgery("rejected-out-of-range", "rejections.rows names record");
    forgery("fewer-kinds", "rejections.kinds has 0 elements, expected 1");
    forgery("fewer-reasons", "rejections.reasons has 0 elements, expected 1");
}

#[test]
fn lists_that_are_not_in_the_memory_of_the_plugin_are_refused() {
    let raw = |name: &str, class: &str, reason: &str| {
        only_evil_is_dead(json!({ "raw": name }), &Bounds::default(), class, reason);
    };
    raw("beyond-memory", "malformed-reply", "out of bounds");
    raw("enormous", "malformed-reply", "");
    raw("unaligned", "malformed-reply", "not aligned");
    raw("not-utf8", "malformed-reply", "utf-8");
}

#[test]
fn a_plugin_finds_out_nothing_about_the_outside() {
    let look = || {
        let mut h = harness("evil", &json!({ "probe": true }), &Bounds::default());
        h.advance_clock(1_234_567_890_123);
        h.pipe("k", 1, "evil");
        assert_eq!(h.rejected(), []);
        assert_eq!(h.error(), None);
        h.output("out")[0].json::<Value>()
    };
    let found = look();
    assert_eq!(found["variables"], 0, "{found}");
    assert_eq!(found["arguments"], 0, "{found}");
    assert_eq!(found["stdin_bytes"], 0, "{found}");
    assert_eq!(found["possible"], json!([]), "{found}");
    // Time and randomness are those of the batch: a replay sees what the first run saw.
    assert_eq!(found["wall_ms"], json!(1_234_567_890_123_u64), "{found}");
    assert_eq!(found["elapsed_ns"], 0, "{found}");
    assert_eq!(found, look());
}

#[test]
fn a_plugin_that_is_blamed_for_every_record_stops_the_task_only_when_that_is_asked_for() {
    let mut h = harness("evil", &json!({ "call": "panic" }), &Bounds::default());
    let records: Vec<_> = (0..300).map(|i| Piped::new("k", i, format!("evil {i}"))).collect();
    h.pipe_batch(&records);
    assert_eq!(h.error(), None);
    assert_eq!(dead(h.rejected()).len(), 300);
}
