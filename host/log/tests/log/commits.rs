//! Epochs, topics and the lock.

use std::thread;

use serde_json::json;
use wasmill_log::{Error, Log, Options};

use crate::{commit, content, copy, open, records, segments_of};

#[test]
fn appends_after_a_freeze_are_not_part_of_its_commit() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.create_topic("t", 1, segments_of(150)).unwrap();
    let partition = log.partition("t", 0).unwrap();
    partition.append(1, 0, records(&["a", "b"])).unwrap();
    let first = log.freeze().unwrap();
    partition.append(2, 0, records(&["c"])).unwrap();
    let second = log.freeze().unwrap();
    assert_eq!((first.end_offset("t", 0), second.end_offset("t", 0)), (Some(2), Some(3)));
    partition.append(3, 0, records(&["d"])).unwrap();

    log.commit(first, 1, json!({"at": "first"})).unwrap();
    let copied = copy(dir.path());
    let crashed = open(copied.path());
    assert_eq!(content(&crashed, "t", 0), ["a", "b"]);
    assert_eq!(crashed.payload(), &json!({"at": "first"}));
    log.commit(second, 2, json!({"at": "second"})).unwrap();
    let copied = copy(dir.path());
    let crashed = open(copied.path());
    assert_eq!(content(&crashed, "t", 0), ["a", "b", "c"]);
    assert_eq!((crashed.epoch(), crashed.payload()), (2, &json!({"at": "second"})));
    assert_eq!(log.payload(), &json!(null), "the payload is that of the commit opened at");
}

#[test]
fn commits_out_of_order_are_refused_and_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let [first, second, third] = [(); 3].map(|()| log.freeze().unwrap());
    log.commit(second, 5, json!(5)).unwrap();
    let error = log.commit(first, 6, json!(6)).unwrap_err();
    assert!(matches!(error, Error::CommitOrder { epoch: 6, committed: 5 }), "{error}");
    let error = log.commit(third, 5, json!(5)).unwrap_err();
    assert!(matches!(error, Error::CommitOrder { epoch: 5, committed: 5 }), "{error}");
    commit(&log, 6);
    assert_eq!(log.epoch(), 6);
}

#[test]
fn after_a_failed_commit_there_is_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    commit(&log, 1);
    let in_the_way = dir.path().join("COMMIT.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    let error = log.commit(log.freeze().unwrap(), 2, json!(2)).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    let error = log.commit(log.freeze().unwrap(), 2, json!(2)).unwrap_err();
    assert!(matches!(error, Error::CommitFailed { .. }), "{error}");
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.epoch(), 1);
    commit(&log, 2);
}

#[test]
fn a_second_writer_learns_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let error = Log::open(dir.path(), Options::default()).unwrap_err();
    let Error::Locked { pid, .. } = &error else { panic!("{error}") };
    assert_eq!(*pid, Some(std::process::id()));
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    let clone = log.clone();
    drop(log);
    assert!(Log::open(dir.path(), Options::default()).is_err(), "a clone keeps the lock");
    clone.create_topic("t", 1, segments_of(100)).unwrap();
    let partition = clone.partition("t", 0).unwrap();
    drop(clone);
    assert!(Log::open(dir.path(), Options::default()).is_err(), "whoever can append keeps it");
    drop(partition);
    open(dir.path());
}

#[test]
fn creating_a_topic_again_is_fine_but_its_partitions_stay() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.create_topic("orders", 3, segments_of(100)).unwrap();
    log.create_topic("orders", 3, segments_of(200)).unwrap();
    assert_eq!(log.partitions("orders").unwrap(), 3);
    assert_eq!(log.topic_options("orders").unwrap(), segments_of(200));
    let error = log.create_topic("orders", 4, segments_of(100)).unwrap_err();
    assert!(error.to_string().contains("has 3 partitions, 4 were asked for"), "{error}");
    let error = log.partition("orders", 3).unwrap_err();
    assert!(error.to_string().contains("partitions 0 to 2"), "{error}");
    let error = log.partition("order", 0).unwrap_err();
    assert!(error.to_string().contains("nearest is \"orders\""), "{error}");
    assert!(matches!(log.create_topic("../x", 1, segments_of(1)), Err(Error::TopicName { .. })));
    assert!(log.create_topic("none", 0, segments_of(1)).is_err());
}

#[test]
fn malformed_columns_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.create_topic("t", 1, segments_of(100)).unwrap();
    let partition = log.partition("t", 0).unwrap();
    let mut bad = records(&["a", "b"]);
    bad.clocks.pop();
    let error = partition.append(1, 0, bad).unwrap_err();
    assert!(error.to_string().contains("clocks: 1 rows, but 2 timestamps"), "{error}");
    assert_eq!(partition.append(1, 0, records(&[])).unwrap(), 0);
    assert_eq!(partition.append(1, 0, records(&["c"])).unwrap(), 0);
    assert_eq!(content(&log, "t", 0), ["c"]);
}

#[test]
fn threads_that_share_a_partition_keep_their_own_order_while_commits_run() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.create_topic("t", 1, segments_of(2_000)).unwrap();
    let partition = log.partition("t", 0).unwrap();
    thread::scope(|scope| {
        for producer in 0..4 {
            let partition = &partition;
            scope.spawn(move || {
                for i in 0..100 {
                    let (a, b) = (
                        format!("{producer} {:03}", 2 * i),
                        format!("{producer} {:03}", 2 * i + 1),
                    );
                    partition.append(1, producer, records(&[&a, &b])).unwrap();
                }
            });
        }
        for epoch in 1..10 {
            commit(&log, epoch);
        }
    });
    commit(&log, 10);
    drop((log, partition));
    let all = content(&open(dir.path()), "t", 0);
    assert_eq!(all.len(), 800);
    for producer in 0..4 {
        let own: Vec<&String> =
            all.iter().filter(|v| v.starts_with(&producer.to_string())).collect();
        assert_eq!(own.len(), 200);
        assert!(own.is_sorted());
    }
}
