//! `wasmill state`: the state of a pipeline that stands still.

use std::fs;

use serde_json::{Value, json};

use super::ran;
use crate::support::{stdout_of, wasmill};

fn state(folder: &std::path::Path, args: &[&str]) -> String {
    stdout_of(wasmill(folder, &[&["state", "--data-dir", "data"], args].concat()))
}

#[test]
fn each_stage_is_listed_by_task_with_its_keys_and_map_entries() {
    let site = ran();
    let text = state(site.path(), &["ls"]);
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["STAGE", "TASK", "KEYS", "MAP", "ENTRIES"]);
    let tasks: Vec<_> = rows[1..].iter().map(|row| (row[0], row[1])).collect();
    assert_eq!(tasks, [("count", "1-0"), ("count", "1-1")], "{text}");
    for column in [2, 3] {
        let count: u32 = rows[1..].iter().map(|row| row[column].parse::<u32>().unwrap()).sum();
        assert_eq!(count, 7, "{text}");
    }
}

#[test]
fn a_key_is_shown_with_its_state_and_map_entries_as_of_the_last_commit() {
    let site = ran();
    let found: Value = serde_json::from_str(&state(site.path(), &["get", "count", "u3"])).unwrap();
    // 86 of 600 records, as the compact binary format has it; the last of them in the map.
    let last = json!([{"map": 0, "entry": "last", "value": "{\"user\":\"u3\",\"n\":598}"}]);
    assert_eq!((&found["key"], &found["state"]), (&json!("u3"), &json!("V")));
    assert_eq!((&found["maps"], &found["timers"]), (&last, &json!([])));
    let missing = wasmill(site.path(), &["state", "get", "count", "u7", "--data-dir", "data"]);
    assert_eq!(missing.status.code(), Some(1));
    let errors = String::from_utf8(missing.stderr).unwrap();
    assert!(errors.contains("stage count has no state for key \"u7\""), "{errors}");
}

#[test]
fn the_keys_of_a_prefix_are_scanned_up_to_a_limit_for_each_task() {
    let site = ran();
    let keys = |args: &[&str]| -> Vec<String> {
        let text = state(site.path(), &[&["scan", "count"], args].concat());
        let key = |line: &str| {
            let value: Value = serde_json::from_str(line).unwrap();
            value["key"].as_str().unwrap().to_owned()
        };
        let mut keys: Vec<String> = text.lines().map(key).collect();
        keys.sort_unstable();
        keys
    };
    let all: Vec<String> = (0..7).map(|user| format!("u{user}")).collect();
    assert_eq!(keys(&[]), all);
    assert_eq!(keys(&["--prefix", "u"]), all);
    assert_eq!(keys(&["--prefix", "u3"]), ["u3"]);
    assert_eq!(keys(&["--prefix", "x"]), [] as [&str; 0]);
    assert_eq!(keys(&["--limit", "1"]).len(), 2);
}

#[test]
fn a_data_directory_that_does_not_exist_is_said_to_and_not_made() {
    let site = ran();
    for what in [&["ls"][..], &["get", "count", "u1"], &["scan", "count"]] {
        let args = [&["state", "--data-dir", "typo"], what].concat();
        let output = wasmill(site.path(), &args);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("typo"), "{errors}");
        assert!(!site.path().join("typo").exists());
    }
    // A folder with something else in it stays as it is.
    fs::create_dir(site.path().join("typo")).unwrap();
    assert_eq!(wasmill(site.path(), &["state", "ls", "--data-dir", "typo"]).status.code(), Some(2));
    assert_eq!(fs::read_dir(site.path().join("typo")).unwrap().count(), 0);
}
