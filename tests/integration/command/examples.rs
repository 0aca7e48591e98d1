//! What `demo`, `describe`, `build`, `check` and `run` print when all goes well.

use serde_json::Value;

use super::{plugins, site};
use crate::support::{root, stdout_of, wasmill};

#[test]
fn the_demo_runs_and_what_it_says_to_look_at_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let output = wasmill(folder.path(), &["demo", "--events", "3000", "--dir", "demo"]);
    let notes = String::from_utf8(output.stderr.clone()).unwrap();
    let shown = stdout_of(output);
    for part in ["generating 3000 lines", "running demo/pipeline.toml", "3000 records read in "] {
        assert!(notes.contains(part), "{notes}");
    }
    let row = |stage: &str| notes.lines().find(|line| line.starts_with(stage)).unwrap().to_owned();
    let heads: Vec<&str> = notes.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(heads, ["stage", "in", "out", "dead", "invalid", "late", "expired", "watermark"]);
    assert_eq!(row("clean ").split_whitespace().nth(1), Some("3000"));
    assert!(row("sessionize ").ends_with(" end"), "{notes}");
    let session = shown.split("a closed session, from topic sessions:\n").nth(1).unwrap();
    let session: Value = serde_json::from_str(session.lines().next().unwrap()).unwrap();
    assert!(session["session_id"].is_string() && session["events"].is_u64());
    assert!(shown.contains("a ranking of pages, from topic pages:\n{\"window_start_ms\":"));
    let (_, commands) = shown.split_once("look around:\n").unwrap();
    assert_eq!(commands.lines().count(), 3, "{shown}");
    for command in commands.lines() {
        let args: Vec<&str> = command.split_whitespace().skip(1).collect();
        assert!(!stdout_of(wasmill(folder.path(), &args)).is_empty(), "{command}");
    }
    // Again: what the first one left is removed.
    stdout_of(wasmill(folder.path(), &["demo", "--events", "100", "--dir", "demo"]));
}

/// Lines with what changes from build to build left out.
fn steady(text: &str) -> Vec<String> {
    let number = |word: &str| word.parse::<u64>().is_ok();
    let steady = |line: &str| match line {
        _ if line.starts_with("digest   sha256:") => "digest   sha256:...".to_owned(),
        _ if line.ends_with(" bytes)") => line
            .split(' ')
            .map(|word| if number(word) { "N" } else { word })
            .collect::<Vec<_>>()
            .join(" "),
        _ => line.to_owned(),
    };
    text.lines().map(steady).collect()
}

#[test]
fn a_plugin_is_described_with_ports_state_and_imports() {
    let file = root().join("target/plugins/evil-keyed.wasm").display().to_string();
    let text = stdout_of(wasmill(&root(), &["describe", &file]));
    let lines = steady(&text);
    assert_eq!(
        lines[..7],
        [
            "evil-keyed 0.1.0  (keyed, N bytes)",
            "A plugin with state that does everything a plugin must not do, for tests of the host",
            "digest   sha256:...",
            "input    in: The records.",
            "output   out: What the plugin emits.",
            "state    version 1, reads []",
            "map      last",
        ],
        "{text}"
    );
    assert!(lines.iter().any(|l| l.starts_with("import   wasmill:plugin/map-state@")), "{text}");
    // The name of a plugin in the standard folders does as well.
    let text = stdout_of(wasmill(&root(), &["describe", "clean"]));
    assert!(text.starts_with("clean 0.1.0  (stateless, "), "{text}");
    assert!(text.contains("\nconfig   {"), "{text}");
}

#[test]
fn a_description_as_json_has_the_schema_of_the_configuration() {
    let text = stdout_of(wasmill(&root(), &["describe", "sessionize", "--json"]));
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&found["name"], &found["kind"]), (&"sessionize".into(), &"keyed".into()));
    let outputs: Vec<_> = found["outputs"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
    assert_eq!(outputs, ["live", "final"]);
    assert!(found["digest"].as_str().unwrap().starts_with("sha256:"));
    assert!(found["bytes"].as_u64().unwrap() > 10_000);
    assert!(found["config_schema"]["properties"]["gap"].is_object(), "{text}");
}

#[test]
fn a_component_that_is_built_is_named_with_its_size_and_can_be_described() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("made/copy.wasm").display().to_string();
    let source = root().join("tests/plugins/identity").display().to_string();
    let text = stdout_of(wasmill(&root(), &["build", &source, "--out", &out]));
    let (path, size) = text.trim_end().split_once("  ").unwrap();
    assert_eq!(path, out);
    assert!(size.ends_with(" kB"), "{text}");
    let described = stdout_of(wasmill(folder.path(), &["describe", &out]));
    assert!(described.starts_with("identity 0.1.0  (stateless, "), "{described}");
}

#[test]
fn a_sound_pipeline_is_shown_as_it_is_cut() {
    let site = site();
    let text = stdout_of(wasmill(site.path(), &["check", "count.toml"]));
    let expected = "sub-topology 0, 1 task
  source.raw, 1 partition, watermarks 0s behind
    -> topic.raw

sub-topology 1, 2 tasks
  topic.raw, 2 partitions, watermarks as written
    -> stage.count
  stage.count
    out
      -> sink.out
    rejects: malformed to dead, invalid, late, expired

topics
  raw      fed, 2 partitions, written by 0
  dead     rejects, 2 partitions, written by 1
  invalid  rejects, 2 partitions, written by 1
  late     rejects, 2 partitions, written by 1
  expired  rejects, 2 partitions, written by 1
count.toml: no problems found
";
    assert_eq!(text, expected);
    assert!(!site.path().join("data").exists(), "nothing is made by looking");
}

#[test]
fn a_run_tells_what_each_stage_has_done_and_how_fast() {
    let site = site();
    let output = wasmill(site.path(), &["run", "count.toml", "--data-dir", "data"]);
    let notes = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(stdout_of(output), "");
    let lines: Vec<&str> = notes.lines().collect();
    assert_eq!(lines[0], "stage   in  out  dead  invalid  late  expired  watermark");
    assert_eq!(lines[1], "count  600  600     0        0     0        0  end");
    assert!(lines[2].starts_with("600 records read in "), "{notes}");
    assert!(lines[2].contains(" records/s, ") && lines[2].ends_with(" commits"), "{notes}");
    let output = wasmill(site.path(), &["run", "count.toml", "--data-dir", "data"]);
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(notes.contains("Nothing to do: all inputs were processed before"), "{notes}");
    let more = ["run", "count.toml", "--data-dir", "other", "--fresh", "--json"];
    let plugins = plugins();
    let out = ["--set", "sink.out.path=other-{partition}.txt", "--plugins", &plugins];
    let summary = stdout_of(wasmill(site.path(), &[&more[..], &out].concat()));
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["records"], 600);
    assert_eq!(summary["stages"][0]["counts"]["records_out"], 600);
}
