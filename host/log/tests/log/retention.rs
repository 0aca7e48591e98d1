//! Dropping what is old.

use serde_json::json;
use wasmill_log::{Error, Position, Retention, TopicOptions};

use crate::{commit, content, copy, drain, open, records, segment_files, segments_of};

#[test]
fn dropped_segments_stay_on_disk_until_no_commit_needs_them() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.create_topic("t", 1, segments_of(1)).unwrap();
    let partition = log.partition("t", 0).unwrap();
    for value in ["a", "b", "c", "d"] {
        partition.append(1, 0, records(&[value])).unwrap();
    }
    commit(&log, 1);
    let before = log.freeze().unwrap();
    partition.delete_before(2);
    assert_eq!(partition.start_offset(), 2);
    assert_eq!(content(&log, "t", 0), ["c", "d"]);
    let at_offset_1 = Position { offset: 1, segment: 1, byte: 0 };
    let error = partition.reader(at_offset_1).next().unwrap_err();
    assert!(matches!(error, Error::Dropped { offset: 1, start: 2, .. }), "{error}");
    assert!(matches!(partition.position_of(1), Err(Error::Dropped { .. })));

    log.commit(before, 2, json!(2)).unwrap();
    assert_eq!(segment_files(dir.path(), "t", 0).len(), 4, "epoch 2 was frozen before");
    let crashed = copy(dir.path());
    assert_eq!(content(&open(crashed.path()), "t", 0), ["a", "b", "c", "d"]);

    commit(&log, 3);
    assert_eq!(segment_files(dir.path(), "t", 0).len(), 2);
    let copied = copy(dir.path());
    let crashed = open(copied.path());
    assert_eq!(content(&crashed, "t", 0), ["c", "d"]);
    assert_eq!(crashed.partition("t", 0).unwrap().start_offset(), 2);
}

#[test]
fn the_last_segment_is_never_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.create_topic("t", 1, segments_of(1)).unwrap();
    let partition = log.partition("t", 0).unwrap();
    partition.delete_before(100);
    partition.append(1, 0, records(&["a"])).unwrap();
    partition.append(1, 0, records(&["b"])).unwrap();
    partition.delete_before(100);
    assert_eq!((partition.start_offset(), partition.end_offset()), (1, 2));
    commit(&log, 1);
    let crashed = copy(dir.path());
    assert_eq!(content(&open(crashed.path()), "t", 0), ["b"]);
}

#[test]
fn a_reader_within_a_dropped_segment_is_told_and_one_beyond_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.create_topic("t", 1, segments_of(1)).unwrap();
    let partition = log.partition("t", 0).unwrap();
    for value in ["a", "b", "c"] {
        partition.append(1, 0, records(&[value])).unwrap();
    }
    let (mut slow, mut quick) =
        (partition.reader(Position::start()), partition.reader(Position::start()));
    slow.next().unwrap().unwrap();
    quick.next().unwrap().unwrap();
    quick.next().unwrap().unwrap();
    partition.delete_before(2);
    commit(&log, 1);
    assert!(matches!(slow.next(), Err(Error::Dropped { offset: 1, start: 2, .. })));
    assert_eq!(drain(&mut quick).unwrap(), ["c"]);
}

#[test]
fn a_topic_with_a_limit_of_bytes_keeps_its_newest_segments() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let options = TopicOptions { segment_bytes: 1, retention: Retention::Bytes(200) };
    log.create_topic("t", 1, options).unwrap();
    let partition = log.partition("t", 0).unwrap();
    for epoch in 1..20 {
        partition.append(epoch, 0, records(&["a"])).unwrap();
        commit(&log, epoch);
        let snapshot = log.freeze().unwrap();
        assert!(epoch < 4 || (200..320).contains(&snapshot.size_bytes()));
    }
    assert!(partition.start_offset() > 15);
    assert_eq!(segment_files(dir.path(), "t", 0).len() as u64, 19 - partition.start_offset());
}
