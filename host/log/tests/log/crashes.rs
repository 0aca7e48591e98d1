//! What is left after the process stopped at any instant.

use std::fs::{self, File};

use proptest::prelude::*;
use serde_json::{Value, json};
use wasmill_log::{Error, Log, Options};

use crate::{commit, content, copy, open, records, segment_files, segments_of};

#[test]
fn a_new_directory_is_an_empty_log_and_stays_one_without_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir.path().join("a/b"));
    assert_eq!((log.epoch(), log.payload()), (0, &Value::Null));
    log.create_topic("t", 2, segments_of(100)).unwrap();
    log.partition("t", 1).unwrap().append(1, 0, records(&["lost"])).unwrap();
    let _frozen_but_not_committed = log.freeze().unwrap();
    let crashed = copy(log.dir());
    let log = open(crashed.path());
    assert!(log.topics().is_empty());
    assert_eq!(fs::read_dir(crashed.path().join("topics")).unwrap().count(), 0);
}

#[test]
fn every_length_of_the_uncommitted_tail_recovers_to_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.create_topic("t", 1, segments_of(1000)).unwrap();
    let partition = log.partition("t", 0).unwrap();
    partition.append(1, 0, records(&["a", "b"])).unwrap();
    commit(&log, 1);
    let file = dir.path().join("topics/t/0/00000000000000000000.log");
    let committed = fs::metadata(&file).unwrap().len();
    partition.append(2, 0, records(&["c"])).unwrap();
    partition.append_watermark(2, 0, 5, false).unwrap();
    let _flushed = log.freeze().unwrap();
    let full = fs::metadata(&file).unwrap().len();
    assert!(full > committed + 100);
    for length in committed..=full {
        let crashed = copy(dir.path());
        let file = crashed.path().join("topics/t/0/00000000000000000000.log");
        File::options().write(true).open(&file).unwrap().set_len(length).unwrap();
        let log = open(crashed.path());
        assert_eq!(content(&log, "t", 0), ["a", "b"], "tail up to byte {length}");
        assert_eq!(fs::metadata(&file).unwrap().len(), committed);
        let partition = log.partition("t", 0).unwrap();
        assert_eq!(partition.append(2, 0, records(&["d"])).unwrap(), 2);
        assert_eq!(content(&log, "t", 0), ["a", "b", "d"]);
    }
}

#[test]
fn a_crash_between_writing_and_renaming_the_commit_leaves_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.create_topic("t", 1, segments_of(1000)).unwrap();
    let partition = log.partition("t", 0).unwrap();
    partition.append(1, 0, records(&["a"])).unwrap();
    commit(&log, 1);
    let old = fs::read(dir.path().join("COMMIT")).unwrap();
    partition.append(2, 0, records(&["b"])).unwrap();
    commit(&log, 2);
    for length in [0, old.len() / 2, old.len()] {
        let crashed = copy(dir.path());
        let new = fs::read(crashed.path().join("COMMIT")).unwrap();
        fs::write(crashed.path().join("COMMIT.tmp"), &new[..length]).unwrap();
        fs::write(crashed.path().join("COMMIT"), &old).unwrap();
        let log = open(crashed.path());
        assert_eq!((log.epoch(), log.payload()), (1, &json!(1)));
        assert_eq!(content(&log, "t", 0), ["a"]);
        assert!(!crashed.path().join("COMMIT.tmp").exists());
    }
}

#[test]
fn segments_and_topics_that_were_not_committed_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.create_topic("kept", 1, segments_of(1)).unwrap();
    let kept = log.partition("kept", 0).unwrap();
    kept.append(1, 0, records(&["a"])).unwrap();
    commit(&log, 1);
    kept.append(2, 0, records(&["b"])).unwrap();
    log.create_topic("gone", 1, segments_of(1)).unwrap();
    log.partition("gone", 0).unwrap().append(2, 0, records(&["c"])).unwrap();
    let _flushed = log.freeze().unwrap();
    let crashed = copy(dir.path());
    assert_eq!(segment_files(crashed.path(), "kept", 0).len(), 2);
    let log = open(crashed.path());
    assert_eq!(log.topics(), ["kept"]);
    assert_eq!(segment_files(crashed.path(), "kept", 0), ["00000000000000000000.log"]);
    assert!(!crashed.path().join("topics/gone").exists());
    assert_eq!(log.topic_options("kept").unwrap(), segments_of(1));
}

#[test]
fn a_damaged_or_missing_commit_is_an_error_and_nothing_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.create_topic("t", 1, segments_of(1000)).unwrap();
    log.partition("t", 0).unwrap().append(1, 0, records(&["a"])).unwrap();
    commit(&log, 1);
    let reopened = |change: &dyn Fn(&std::path::Path)| {
        let crashed = copy(dir.path());
        change(crashed.path());
        let error = Log::open(crashed.path(), Options::default()).unwrap_err();
        assert_eq!(segment_files(crashed.path(), "t", 0).len(), 1);
        error
    };
    let error = reopened(&|dir| fs::write(dir.join("COMMIT"), "{}\n").unwrap());
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("COMMIT is damaged at byte 2"), "{error}");
    let error = reopened(&|dir| fs::remove_file(dir.join("COMMIT")).unwrap());
    assert!(matches!(error, Error::CommitMissing { .. }), "{error}");
}

#[test]
fn committed_bytes_that_are_gone_are_reported_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.create_topic("t", 1, segments_of(1000)).unwrap();
    log.partition("t", 0).unwrap().append(1, 0, records(&["a"])).unwrap();
    commit(&log, 1);
    drop(log);
    let file = dir.path().join("topics/t/0/00000000000000000000.log");
    let length = fs::metadata(&file).unwrap().len();
    File::options().write(true).open(&file).unwrap().set_len(length - 1).unwrap();
    let error = Log::open(dir.path(), Options::default()).unwrap_err();
    assert!(error.to_string().contains("lost data"), "{error}");
    fs::remove_file(&file).unwrap();
    let error = Log::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(error, Error::Lost { found: None, .. }), "{error}");
}

#[test]
fn a_damaged_frame_names_file_and_byte_and_what_is_before_it_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.create_topic("t", 1, segments_of(10_000)).unwrap();
    let partition = log.partition("t", 0).unwrap();
    partition.append(1, 0, records(&["a"])).unwrap();
    drop(log.freeze().unwrap());
    let file = dir.path().join("topics/t/0/00000000000000000000.log");
    let second = fs::metadata(&file).unwrap().len();
    partition.append(1, 0, records(&["b"])).unwrap();
    commit(&log, 1);
    drop((log, partition));
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let log = open(dir.path());
    let mut reader = log.partition("t", 0).unwrap().reader(wasmill_log::Position::start());
    assert_eq!(reader.next().unwrap().unwrap().0.end_offset(), 1);
    for _again in 0..2 {
        let error = reader.next().unwrap_err();
        let at = format!("00000000000000000000.log is damaged at byte {}", second + 12);
        assert!(error.to_string().contains(&at), "{error}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(u32, usize),
    Watermark(u32),
    Freeze,
    Commit,
    Delete(u32, u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2_u32, 1..4_usize).prop_map(|(p, n)| Step::Append(p, n)),
        2 => (0..2_u32).prop_map(Step::Watermark),
        2 => Just(Step::Freeze),
        2 => Just(Step::Commit),
        1 => (0..2_u32, 0..30_u64).prop_map(|(p, o)| Step::Delete(p, o)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// After every step the directory is copied as a crash would leave it, and reopened.
    #[test]
    fn a_crash_after_any_step_leaves_exactly_the_last_commit(
        steps in proptest::collection::vec(any_step(), 1..25), segment_bytes in 1..600_u64) {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), Options { tail_bytes: 300 }).unwrap();
        log.create_topic("t", 2, segments_of(segment_bytes)).unwrap();
        commit(&log, 1);
        let now = |log: &Log| [content(log, "t", 0), content(log, "t", 1)];
        let (mut epoch, mut committed, mut count) = (1, now(&log), 0);
        let mut frozen = std::collections::VecDeque::new();
        for step in steps {
            let handle = |p| log.partition("t", p).unwrap();
            match step {
                Step::Append(p, rows) => {
                    let values: Vec<String> = (0..rows).map(|i| format!("{}", count + i)).collect();
                    let values: Vec<&str> = values.iter().map(String::as_str).collect();
                    handle(p).append(epoch, p, records(&values)).unwrap();
                    count += rows;
                }
                Step::Watermark(p) => {
                    handle(p).append_watermark(epoch, p, count as i64, false).unwrap();
                }
                Step::Freeze => frozen.push_back((log.freeze().unwrap(), now(&log))),
                Step::Commit => {
                    if let Some((snapshot, state)) = frozen.pop_front() {
                        epoch += 1;
                        log.commit(snapshot, epoch, json!({"epoch": epoch})).unwrap();
                        committed = state;
                    }
                }
                Step::Delete(p, offset) => handle(p).delete_before(offset),
            }
            let crashed = copy(dir.path());
            let again = open(crashed.path());
            prop_assert_eq!(again.epoch(), epoch);
            prop_assert_eq!(now(&again), committed.clone());
        }
    }
}
