//! Dropping what is old.

use serde_json::json;
use wasmill_log::{Error, Log, Position, Retention, TopicOptions};

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
    partition.release(None);
    for epoch in 1..20 {
        partition.append(epoch, 0, records(&["a"])).unwrap();
        commit(&log, epoch);
        let snapshot = log.freeze().unwrap();
        assert!(epoch < 4 || (200..320).contains(&snapshot.size_bytes()));
    }
    assert!(partition.start_offset() > 15);
    assert_eq!(segment_files(dir.path(), "t", 0).len() as u64, 19 - partition.start_offset());
}

#[test]
fn retention_leaves_what_is_still_to_be_read_also_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let options = TopicOptions { segment_bytes: 1, retention: Retention::Bytes(1) };
    log.create_topic("t", 1, options).unwrap();
    let partition = log.partition("t", 0).unwrap();
    let mut slow = partition.reader(Position::start());
    for epoch in 1..10 {
        partition.append(epoch, 0, records(&[&epoch.to_string()])).unwrap();
        commit(&log, epoch);
    }
    assert_eq!(partition.start_offset(), 0, "nobody has said yet who reads it");
    for read in 1..5 {
        slow.next().unwrap().unwrap();
        partition.release(Some(slow.position()));
        commit(&log, 9 + read);
        // The reader stands at the end of the segment of the record that it has just read.
        assert_eq!(partition.start_offset(), read - 1);
        let crashed = copy(dir.path());
        let again = open(crashed.path());
        let mut reader = again.partition("t", 0).unwrap().reader(slow.position());
        let rest: Vec<String> = (read + 1..10).map(|n| n.to_string()).collect();
        assert_eq!(drain(&mut reader).unwrap(), rest);
    }
    assert_eq!(drain(&mut slow).unwrap(), ["5", "6", "7", "8", "9"]);
    partition.release(None);
    commit(&log, 20);
    assert_eq!((partition.start_offset(), partition.end_offset()), (8, 9));
}

/// Watermarks take no offset. So a segment of nothing but watermarks could once not be followed by
/// another, and a topic without records grew as long as its producers lived.
#[test]
fn a_topic_that_gets_only_watermarks_does_not_grow() {
    for retention in [Retention::Forever, Retention::Bytes(1)] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        log.create_topic("t", 1, TopicOptions { segment_bytes: 300, retention }).unwrap();
        let partition = log.partition("t", 0).unwrap();
        partition.append(1, 0, records(&["a"])).unwrap();
        let mut reader = partition.reader(Position::start());
        let mut seen = Vec::new();
        for epoch in 1..200 {
            for i in 0..3 {
                partition.append_watermark(epoch, 0, epoch as i64 * 10 + i, false).unwrap();
            }
            if epoch % 20 == 0 {
                seen.extend(drain(&mut reader).unwrap());
            }
            commit(&log, epoch);
            partition.release(Some(reader.position()));
            let files = segment_files(dir.path(), "t", 0);
            assert!(files.len() < 20, "epoch {epoch}: {files:?}");
        }
        seen.extend(drain(&mut reader).unwrap());
        let marks = (1..200).flat_map(|e| (0..3).map(move |i| format!("~{}", e * 10 + i)));
        assert_eq!(seen, std::iter::once("a".to_owned()).chain(marks).collect::<Vec<_>>());
        // Records go on with the next offset, and only they count.
        assert_eq!(partition.append(200, 0, records(&["b", "c"])).unwrap(), 1);
        partition.release(Some(reader.position()));
        commit(&log, 200);
        let copied = copy(dir.path());
        drop((log, partition, reader));
        let log = open(copied.path());
        let left = content(&log, "t", 0);
        let kept = if retention == Retention::Forever { &["a"][..] } else { &[] };
        assert_eq!(left.iter().filter(|v| !v.starts_with('~')).collect::<Vec<_>>(), {
            let all: Vec<_> = kept.iter().chain(&["b", "c"]).collect();
            all
        });
        assert!(left.len() < 20, "{left:?}");
        assert_eq!(log.partition("t", 0).unwrap().append(201, 0, records(&["d"])).unwrap(), 3);
    }
}

#[test]
fn a_reader_of_another_process_gets_over_segments_of_watermarks_that_went_away() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.create_topic("t", 1, segments_of(1)).unwrap();
    let partition = log.partition("t", 0).unwrap();
    partition.append(1, 0, records(&["a"])).unwrap();
    for watermark in 1..5 {
        partition.append_watermark(1, 0, watermark, false).unwrap();
    }
    commit(&log, 1);
    let outside = Log::open_read_only(dir.path()).unwrap();
    let mut reader = outside.reader("t", 0, Position::start()).unwrap();
    reader.next().unwrap().unwrap();
    reader.next().unwrap().unwrap();
    partition.append(2, 0, records(&["b"])).unwrap();
    partition.release(None);
    commit(&log, 2);
    assert_eq!(segment_files(dir.path(), "t", 0).len(), 2);
    assert!(outside.refresh().unwrap());
    assert_eq!(drain(&mut reader).unwrap(), ["b"]);
    assert_eq!(outside.position_of("t", 0, 1).unwrap().offset, 1);
}
