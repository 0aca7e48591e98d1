//! Evil plugins in a pipeline, next to good ones, with the program as a process.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::json;

use super::files::{exporting, text};
use super::ordered;
use crate::support::{self, root, stdout_of, topic, wasmill};

/// A stage that misbehaves, next to one that does not, behind one topic.
const PIPELINE: &str = r#"
name = "evil"
[engine]
partitions = 1
checkpoint-interval = "20ms"

[source.raw]
path = "in.txt"

[topic.raw]
from = "source.raw"

[stage.bad]
plugin = "evil"
from = "topic.raw"
limits = { batch-time = "500ms", memory = "64MiB" }

[topic.bad]
from = "stage.bad"

[stage.good]
plugin = "evil-keyed"
from = "topic.raw"
key-by = { constant = "all" }

[topic.good]
from = "stage.good"
"#;

const RECORDS: usize = 200;

/// The lines of the input; the evil ones are 60 and 199.
fn lines() -> Vec<String> {
    let evil = |i| if i == 60 || i == 199 { "evil" } else { "line" };
    (0..RECORDS).map(|i| format!("{} {i}", evil(i))).collect()
}

fn prepare(folder: &Path) {
    fs::write(folder.join("evil.toml"), PIPELINE).unwrap();
    fs::write(folder.join("in.txt"), lines().join("\n") + "\n").unwrap();
}

fn run(folder: &Path, more: &[&str]) -> Output {
    let plugins = root().join("target/plugins").display().to_string();
    let args = ["run", "evil.toml", "--data-dir", "data", "--plugins", &plugins];
    wasmill(folder, &[&args[..], more].concat())
}

fn values(folder: &Path, name: &str) -> Vec<String> {
    let text = |r: &serde_json::Value| r["value"].as_str().unwrap().to_owned();
    topic(&folder.join("data"), name).iter().map(text).collect()
}

/// What the good stage makes of every line.
fn counted() -> Vec<String> {
    counts(&lines())
}

/// What a stage that counts makes of lines.
fn counts(lines: &[String]) -> Vec<String> {
    let before = |i: usize| if i == 0 { "" } else { lines[i - 1].as_str() };
    (0..lines.len()).map(|i| format!("{} {} {}", lines[i], i + 1, before(i))).collect()
}

fn honest() -> Vec<String> {
    lines().into_iter().filter(|line| line.starts_with("line")).collect()
}

/// Runs a pipeline whose stage `bad` gives what is said and sends its evil records to the dead letters
/// with a class, and nothing else suffers.
#[track_caller]
fn only_evil_is_dead(folder: &Path, more: &[&str], bad: &[String], class: &str) {
    stdout_of(run(folder, more));
    let dead = topic(&folder.join("data"), "dead");
    assert_eq!(values(folder, "bad"), bad, "{more:?}");
    assert_eq!(values(folder, "good"), counted(), "{more:?}");
    assert_eq!(dead.len(), 2, "{dead:?}");
    for (letter, value) in dead.iter().zip(["evil 60", "evil 199"]) {
        assert_eq!(letter["value"], value, "{more:?}");
        let headers = letter["headers"].to_string();
        for part in [class, "plugin evil", " 0.1.0: ", "bad", "sha256:"] {
            assert!(headers.contains(part), "{more:?}: {headers} does not say {part:?}");
        }
    }
}

#[test]
fn a_stage_that_misbehaves_harms_neither_its_other_records_nor_other_stages() {
    let large = "stage.bad.limits.memory=2GiB";
    let slow = "stage.bad.limits.batch-time=1m";
    // So that few calls take that much.
    let few = "engine.batch-records=4";
    for (order, class, more) in [
        ("call=loop", "timeout", [].as_slice()),
        ("call=memory", "memory", &[]),
        ("call=stack", "stack", &[]),
        ("call=exit", "trap", &[]),
        ("call=trap", "trap", &[]),
        ("call=panic", "trap", &[]),
        ("reply=unknown-output", "malformed-reply", &[]),
        ("reply=large-reply", "limit", &[large, slow, few]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        prepare(folder);
        let order = format!("stage.bad.config.{order}");
        let more = more.iter().copied().chain([order.as_str()]);
        let more: Vec<&str> = more.flat_map(|set| ["--set", set]).collect();
        only_evil_is_dead(folder, &more, &honest(), class);
    }
}

#[test]
fn a_stage_that_misbehaves_in_its_state_and_timers_harms_nothing_else() {
    for reply in ["large-state", "many-timers"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        prepare(folder);
        let keyed = PIPELINE
            .replace(
                "plugin = \"evil\"\n",
                "plugin = \"evil-keyed\"\nkey-by = { constant = \"x\" }\n",
            )
            .replace("memory = \"64MiB\"", "memory = \"512MiB\"")
            .replace("batch-time = \"500ms\"", "batch-time = \"1m\"");
        fs::write(folder.join("evil.toml"), keyed).unwrap();
        let order = format!("stage.bad.config.keyed-reply={reply}");
        only_evil_is_dead(folder, &["--set", &order], &counts(&honest()), "limit");
    }
}

#[test]
fn a_file_that_is_no_plugin_of_this_host_is_named_at_the_start_and_harms_no_data() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let half = ["--set", "stage.bad.config.call=panic", "--set", "stage.bad.on-failure=halt"];
    assert_eq!(run(folder, &half).status.code(), Some(1));
    let before = committed(folder);
    let whole = fs::read(support::plugin("evil")).unwrap();
    let other = ["wasmill:plugin/lifecycle@0.2.0", "wasmill:plugin/stateless@0.2.0"];
    for (bytes, reason) in [
        (exporting(&other), "speaks version 0.1.0"),
        (text("(component)"), "it exports nothing of wasmill:plugin"),
        (text("(module)"), "it is a core module"),
        (b"#!/bin/sh\n".to_vec(), "no WebAssembly in it"),
        (whole[..whole.len() / 2].to_vec(), "not a WebAssembly component"),
        (Vec::new(), "the file is empty"),
    ] {
        fs::write(folder.join("bad.wasm"), bytes).unwrap();
        let output = run(folder, &["--set", "stage.bad.plugin=bad.wasm"]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{reason}: {errors}");
        for part in ["error: stage.bad.plugin", "bad.wasm", reason] {
            assert!(errors.contains(part), "{errors} does not say {part:?}");
        }
        assert_eq!(committed(folder), before, "{reason}");
    }
    stdout_of(run(folder, &[]));
    assert_eq!(values(folder, "bad"), lines());
    assert_eq!(values(folder, "good"), counted());
}

#[test]
fn what_a_plugin_writes_is_in_the_log_within_bounds() {
    for (order, expected) in [
        ("log", ["WARN plugin: all work and no play stage=\"bad\""].as_slice()),
        ("print", &["INFO plugin: all work and no play stage=\"bad\"", "makes a dull plugin"]),
        ("panic", &["INFO plugin: this plugin has no conscience stage=\"bad\""]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        prepare(folder);
        let config = format!("stage.bad.config.call={order}");
        let few = "engine.batch-records=4";
        let more = ["--set", &config, "--set", few, "--log", "warn,plugin=info", "--json"];
        let output = run(folder, &more);
        let log = String::from_utf8(output.stderr.clone()).unwrap();
        let summary: serde_json::Value = serde_json::from_str(&stdout_of(output)).unwrap();
        for part in expected {
            assert!(log.contains(part), "{order}: the log does not say {part:?}");
        }
        let stages = summary["stages"].as_array().unwrap();
        let calls = stages[0]["counts"]["failed_calls"].as_u64().unwrap() as usize;
        assert!(calls >= 2, "{summary}");
        let lines = log.lines().filter(|line| line.contains("plugin: ")).count();
        let bounded = lines <= 1_000 * calls && (order == "panic" || lines == 1_000 * calls);
        assert!(bounded, "{order}: {lines} lines of {calls} calls");
        let dropped = log.matches("lines of the plugin were dropped").count();
        assert_eq!(dropped, if order == "panic" { 0 } else { calls }, "{order}");
        assert_eq!(values(folder, "good"), counted(), "{order}");
    }
}

#[test]
fn a_stage_that_is_to_halt_does_so_and_goes_on_with_a_mended_plugin_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let halt = ["--set", "stage.bad.config.call=panic", "--set", "stage.bad.on-failure=halt"];
    for _ in 0..2 {
        let output = run(folder, &halt);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        for part in ["stage bad", "plugin evil 0.1.0", "no conscience", "nothing is lost"] {
            assert!(errors.contains(part), "{errors} does not say {part:?}");
        }
    }
    stdout_of(run(folder, &[]));
    assert_eq!(values(folder, "bad"), lines());
    assert_eq!(values(folder, "good"), counted());
}

#[test]
fn a_stage_whose_plugin_fails_too_often_in_a_row_stops_the_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    fs::write(folder.join("in.txt"), "evil\n".repeat(50)).unwrap();
    let call = ["--set", "stage.bad.config.call=panic", "--set", "stage.bad.max-failures=50"];
    let output = run(folder, &call);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("failed on 50 record(s) in a row"), "{errors}");
    assert!(errors.contains("raise max-failures"), "{errors}");
    stdout_of(run(folder, &[call[0], call[1], "--set", "stage.bad.max-failures=51"]));
    assert_eq!(values(folder, "dead"), vec!["evil"; 50]);
}

/// The commit point of the data directory.
fn committed(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("data/log/COMMIT")).unwrap()
}

#[test]
fn a_plugin_that_misbehaves_before_its_first_record_is_named_and_harms_no_data() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let half = ["--set", "stage.bad.config.call=panic", "--set", "stage.bad.on-failure=halt"];
    assert_eq!(run(folder, &half).status.code(), Some(1));
    let before = committed(folder);
    let mend = "mend the plugin and build it again with `wasmill build`";
    for (orders, at, reason, help) in [
        (json!({ "describe": "loop" }), "stage.bad.plugin", "describe failed: it took", mend),
        (json!({ "describe": "panic" }), "stage.bad.plugin", "no conscience", mend),
        (json!({ "description": "large" }), "stage.bad.plugin", "describe failed: limit: ", mend),
        (json!({ "described": "no-outputs" }), "stage.bad.plugin", "has 0 outputs", mend),
        (json!({ "configure": "loop" }), "stage.bad.plugin", "batch-time = 500ms", mend),
        (json!({ "configure": "trap" }), "stage.bad.plugin", "unreachable", mend),
        (json!({ "configured": "output-twice" }), "stage.bad.plugin", "two outputs", mend),
        (json!({ "refuse": "" }), "stage.bad.config: ", "I won't", "`wasmill describe bad.wasm`"),
        (
            json!({ "refuse": "a..\n.9" }),
            "stage.bad.config.a.. .9: ",
            "I won't",
            "shows what it takes",
        ),
        (json!({ "refuse": "resources.x" }), "stage.bad.resources.x: ", "I won't", "shows what"),
        (
            json!({ "refuse": "😈", "repeat": 9_999_999 }),
            "stage.bad.config.😈",
            "😈…: I won't",
            "shows",
        ),
    ] {
        fs::write(folder.join("bad.wasm"), ordered("evil", &orders)).unwrap();
        for command in ["run", "check"] {
            let plugins = root().join("target/plugins").display().to_string();
            let mut args = vec![command, "evil.toml", "--plugins", &plugins];
            args.extend(["--set", "stage.bad.plugin=bad.wasm"]);
            if command == "run" {
                args.extend(["--data-dir", "data"]);
            }
            let output = wasmill(folder, &args);
            let errors = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{orders}: {errors}");
            assert!(errors.starts_with(&format!("error: {at}")), "{orders}: {errors}");
            assert!(errors.contains(reason) && errors.contains(help), "{orders}: {errors}");
            assert!(errors.contains("bad.wasm"), "{orders}: {errors}");
            assert!(errors.len() < 3_000 && !errors.contains('\u{1b}'), "{orders}: {errors}");
        }
        assert_eq!(committed(folder), before, "{orders}");
    }
    stdout_of(run(folder, &[]));
    assert_eq!(values(folder, "bad"), lines());
    assert_eq!(values(folder, "good"), counted());
}

#[test]
fn what_refers_to_an_output_that_the_configured_plugin_does_not_have_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    let others = ordered("evil", &json!({ "configured": "others" }));
    fs::write(folder.join("bad.wasm"), others).unwrap();
    let plugin = ["--set", "stage.bad.plugin=bad.wasm", "--set"];
    let output = run(folder, &[&plugin[..], &["topic.bad.from=stage.bad.out"]].concat());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("topic.bad.from") && errors.contains("other"), "{errors}");
    stdout_of(run(folder, &[&plugin[..], &["topic.bad.from=stage.bad.other"]].concat()));
    assert_eq!(values(folder, "bad"), lines());
}

#[test]
fn a_trusted_stage_gives_the_same_and_is_bounded_in_memory_and_output() {
    let trusted = ["--set", "stage.bad.trusted=true", "--set", "stage.good.trusted=true"];
    let honest: Vec<_> = lines().iter().filter(|l| l.starts_with("line")).cloned().collect();
    for (order, class) in [
        (None, ""),
        (Some("call=memory"), "memory"),
        (Some("call=stack"), "stack"),
        (Some("call=exit"), "trap"),
        (Some("call=sleep"), "trap"),
        (Some("reply=larger-reply"), "limit"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        prepare(folder);
        let config = order.map(|order| format!("stage.bad.config.{order}"));
        let mut more = trusted.to_vec();
        more.extend(["--set", "stage.bad.limits.output=1MiB"]);
        more.extend(config.iter().flat_map(|config| ["--set", config]));
        stdout_of(run(folder, &more));
        let dead = topic(&folder.join("data"), "dead");
        assert_eq!(values(folder, "good"), counted(), "{order:?}");
        let (expected, count) = if order.is_some() { (&honest, 2) } else { (&lines(), 0) };
        assert_eq!(values(folder, "bad"), *expected, "{order:?}");
        assert_eq!(dead.len(), count, "{order:?}: {dead:?}");
        for letter in dead {
            assert!(letter["headers"].to_string().contains(class), "{order:?}: {letter}");
        }
    }
}
