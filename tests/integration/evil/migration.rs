//! State that an older version of a plugin has written, and newer versions that can't deal with it.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use wasmill::engine::{self, Options, Prepared};

use super::{ordered, runtime};
use crate::support::{topic, wasmill};

/// One stage that counts the lines of each key.
const PIPELINE: &str = r#"
name = "migration"
[engine]
partitions = 1
checkpoint-interval = "20ms"

[source.raw]
path = "in.jsonl"
format = "jsonl"
key = "k"
bounded = false

[stage.count]
plugin = "count.wasm"
from = "source.raw"
repartition = false
limits = { batch-time = "250ms", memory = "64MiB" }

[topic.out]
from = "stage.count"
"#;

/// A pipeline whose plugin is changed between its runs.
struct Case(tempfile::TempDir);

impl Case {
    fn new() -> Self {
        let case = Self(tempfile::tempdir().unwrap());
        fs::write(case.path().join("migration.toml"), PIPELINE).unwrap();
        case
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn plugin(&self, orders: &Value) {
        fs::write(self.path().join("count.wasm"), ordered("evil-keyed", orders)).unwrap();
    }

    /// Appends a line for each of the keys, to be read by the next run that succeeds.
    fn lines(&self, keys: &[&str]) {
        let mut options = fs::File::options();
        let mut file =
            options.append(true).create(true).open(self.path().join("in.jsonl")).unwrap();
        for key in keys {
            writeln!(file, "{{\"k\":\"{key}\"}}").unwrap();
        }
    }

    /// Runs until this many lines were read, then stops cleanly; gives all counts there are.
    fn counts_after(&self, lines: u64) -> Vec<String> {
        let file = self.path().join("migration.toml");
        let prepared = Prepared::load(&file, &[], &[], runtime().clone(), &|_| None);
        let prepared = prepared.unwrap_or_else(|e| panic!("{}", e[0]));
        let options = Options { data_dir: self.path().join("data"), ..Options::default() };
        std::thread::scope(|scope| {
            let run = scope.spawn(|| engine::run(&prepared, &options));
            while options.progress.records.load(Ordering::Relaxed) < lines && !run.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
            options.stop.store(true, Ordering::Relaxed);
            run.join().unwrap().unwrap();
        });
        let count = |r: &Value| {
            let words: Vec<_> = r["value"].as_str().unwrap().split(' ').collect();
            format!("{} {}", r["key"].as_str().unwrap(), words[1])
        };
        topic(&self.path().join("data"), "out").iter().map(count).collect()
    }

    /// Runs as a process, which must fail; gives what it says.
    fn failure(&self) -> String {
        let args = ["run", "migration.toml", "--data-dir", "data"];
        let output =
            wasmill(self.path(), &[&args[..], &["--set", "source.raw.bounded=true"]].concat());
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(
            errors.contains("stage count") && errors.contains("plugin evil-keyed 0.1.0"),
            "{errors}"
        );
        errors
    }
}

#[test]
fn a_migration_that_fails_stops_the_pipeline_and_leaves_the_state_as_it_was() {
    let case = Case::new();
    case.plugin(&json!({}));
    case.lines(&["a", "b", "a"]);
    assert_eq!(case.counts_after(3), ["a 1", "b 1", "a 2"]);
    case.lines(&["a"]);
    for (what, how, reason) in [
        ("migrate", "loop", "the call ran longer than batch-time = 250ms"),
        ("migrate", "panic", "this plugin has no conscience"),
        ("migrate", "trap", "unreachable"),
        ("migrate", "memory", "the limit memory = 67108864"),
        ("migrate", "stack", "used up its stack"),
        ("migrate", "exit", "ended itself with exit code 0"),
        ("migrated", "none", "migrate returned 0 state(s) for 1"),
        ("migrated", "one-more", "migrate returned 2 state(s) for 1"),
        ("migrated", "ends-beyond-data", "the migrated states: the last end is"),
        ("migrated", "large", "memory"),
        ("migrated", "failure", "I can't read my own writing"),
    ] {
        case.plugin(&json!({ "state-version": 2, what: how }));
        let error = case.failure();
        assert!(error.contains("a state of version 1 can't be migrated"), "{how}: {error}");
        assert!(error.contains(reason), "{how}: {error}");
        let what_to_do = "the stored state is as it was: mend migrate, or run the version";
        assert!(error.contains(what_to_do), "{how}: {error}");
    }
    // Neither the count nor the map has noticed.
    case.plugin(&json!({}));
    assert_eq!(case.counts_after(1), ["a 1", "b 1", "a 2", "a 3"]);
    // A sound migration takes over from there, key by key.
    case.plugin(&json!({ "state-version": 2 }));
    case.lines(&["a"]);
    assert_eq!(case.counts_after(1)[4..], ["a 4"]);
    // The old version can't read the new state, says so, and harms nothing.
    case.plugin(&json!({}));
    case.lines(&["a"]);
    let error = case.failure();
    let expected = "writes state version 1 and reads [], but a stored state has version 2; run the \
                    version that wrote it";
    assert!(error.contains(expected), "{error}");
    case.plugin(&json!({ "state-version": 2 }));
    case.lines(&["b"]);
    assert_eq!(case.counts_after(2)[5..], ["a 5", "b 2"]);
}
