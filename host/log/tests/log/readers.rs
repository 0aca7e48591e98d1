//! Reading from memory, from disk, from the middle, and from another process.

use std::fs;

use serde_json::json;
use wasmill_log::{Error, Log, Options, Position};

use crate::{commit, content, drain, open, records, segments_of};

/// A partition of 40 frames of one to three records and some watermarks, in many segments.
fn filled(dir: &std::path::Path, tail_bytes: usize) -> (Log, Vec<String>) {
    let log = Log::open(dir, Options { tail_bytes }).unwrap();
    log.create_topic("t", 1, segments_of(500)).unwrap();
    let partition = log.partition("t", 0).unwrap();
    let mut expected = Vec::new();
    for i in 0..40 {
        let values: Vec<String> = (0..=i % 3).map(|j| format!("{i}.{j}")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        partition.append(1, 0, records(&values)).unwrap();
        expected.extend(values.iter().map(|v| v.to_string()));
        if i % 4 == 0 {
            partition.append_watermark(1, 0, i, i % 8 == 0).unwrap();
            expected.push(format!("~{i}"));
        }
    }
    (log, expected)
}

#[test]
fn memory_and_disk_give_the_same_frames_and_positions() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let mut walks = Vec::new();
    for (dir, tail_bytes) in dirs.iter().zip([0, 900, 1 << 20]) {
        let (log, expected) = filled(dir.path(), tail_bytes);
        assert_eq!(content(&log, "t", 0), expected);
        let partition = log.partition("t", 0).unwrap();
        let mut reader = partition.reader(Position::start());
        let mut walk = Vec::new();
        while let Some((frame, first)) = reader.next().unwrap() {
            walk.push((reader.frame_position(), frame, first, reader.position()));
        }
        walks.push(walk);
    }
    assert_eq!(walks[0].len(), 50);
    assert_eq!(walks[0], walks[1]);
    assert_eq!(walks[0], walks[2]);
}

#[test]
fn every_position_and_every_offset_can_be_resumed_from() {
    for tail_bytes in [0, 900, 1 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let (log, expected) = filled(dir.path(), tail_bytes);
        let partition = log.partition("t", 0).unwrap();
        let mut reader = partition.reader(Position::start());
        let mut seen = 0;
        while let Some((frame, _)) = reader.next().unwrap() {
            let rows = frame.records().map_or(1, |r| r.len());
            for row in 0..rows {
                let mut inside = reader.frame_position();
                inside.offset = frame.base_offset + row as u64;
                let rest = drain(&mut partition.reader(inside)).unwrap();
                assert_eq!(rest, expected[seen + row..]);
            }
            seen += rows;
            let json = serde_json::to_string(&reader.position()).unwrap();
            let after = serde_json::from_str(&json).unwrap();
            assert_eq!(drain(&mut partition.reader(after)).unwrap(), expected[seen..]);
        }
        let values: Vec<&String> = expected.iter().filter(|v| !v.starts_with('~')).collect();
        for offset in 0..=partition.end_offset() {
            let at = partition.position_of(offset).unwrap();
            let mut rest = drain(&mut partition.reader(at)).unwrap();
            rest.retain(|v| !v.starts_with('~'));
            assert!(rest.iter().eq(values[offset as usize..].iter().copied()), "offset {offset}");
        }
    }
}

#[test]
fn a_reader_at_the_end_sees_what_comes_later() {
    for tail_bytes in [0, 1 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), Options { tail_bytes }).unwrap();
        log.create_topic("t", 1, segments_of(200)).unwrap();
        let partition = log.partition("t", 0).unwrap();
        let mut reader = partition.reader(Position::start());
        assert!(reader.next().unwrap().is_none());
        for i in 0..10 {
            let value = i.to_string();
            partition.append(1, 0, records(&[&value])).unwrap();
            assert_eq!(drain(&mut reader).unwrap(), [value]);
            assert!(reader.next().unwrap().is_none());
        }
    }
}

#[test]
fn records_beyond_a_frame_are_split_and_a_large_one_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.create_topic("t", 1, segments_of(6 << 20)).unwrap();
    let partition = log.partition("t", 0).unwrap();
    let large = "x".repeat(9 << 20);
    let value = "y".repeat(100_000);
    let mut values = vec![value.as_str(); 60];
    values.push(&large);
    values.push("z");
    let mut batch = records(&values);
    batch.keys = values.iter().map(|_| None).collect();
    assert_eq!(partition.append(1, 3, batch).unwrap(), 0);
    assert_eq!(partition.end_offset(), 62);
    let mut reader = partition.reader(Position::start());
    let mut frames = Vec::new();
    while let Some((frame, _)) = reader.next().unwrap() {
        assert_eq!((frame.epoch, frame.producer), (1, 3));
        frames.push(frame.base_offset);
    }
    assert_eq!(frames, [0, 41, 60, 61]);
    assert!(content(&log, "t", 0).iter().eq(values.iter()));
}

#[test]
fn a_position_of_another_partition_is_an_error_and_not_a_wrong_record() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = filled(dir.path(), 0);
    let partition = log.partition("t", 0).unwrap();
    let read = |position| partition.reader(position).next().unwrap_err();
    let end = partition.end_offset();
    let error = read(Position { offset: end + 1, segment: 0, byte: 0 });
    assert!(matches!(error, Error::ForeignPosition { .. }), "{error}");
    let error = read(Position { offset: 0, segment: 0, byte: 1 << 40 });
    assert!(matches!(error, Error::ForeignPosition { .. }), "{error}");
    let error = read(Position { offset: 0, segment: 0, byte: 3 });
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(partition.position_of(end + 1).is_err());
    drop((log, partition));

    let log = Log::open(dir.path(), Options::default()).unwrap();
    log.create_topic("u", 1, segments_of(10_000)).unwrap();
    let partition = log.partition("u", 0).unwrap();
    let mut reader = partition.reader(Position::start());
    partition.append(1, 0, records(&["a", "b"])).unwrap();
    reader.next().unwrap().unwrap();
    let past = reader.position();
    partition.append(1, 0, records(&["c"])).unwrap();
    let error = partition.reader(Position { offset: 1, ..past }).next().unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "from memory as from disk: {error}");
}

#[test]
fn a_read_only_log_sees_what_is_committed_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let error = Log::open_read_only(dir.path()).unwrap_err();
    assert!(matches!(error, Error::NoLog { .. }), "{error}");
    let (writer, expected) = filled(dir.path(), 1 << 20);
    let log = Log::open_read_only(dir.path()).unwrap();
    assert!(log.topics().is_empty());
    assert!(log.reader("t", 0, Position::start()).is_err());

    commit(&writer, 1);
    writer.partition("t", 0).unwrap().append(2, 0, records(&["open"])).unwrap();
    let frozen = writer.freeze().unwrap();
    assert!(log.refresh().unwrap());
    assert!(!log.refresh().unwrap());
    assert_eq!((log.epoch(), log.payload()), (1, json!(1)));
    assert_eq!((log.topics(), log.partitions("t").unwrap()), (vec!["t".to_owned()], 1));
    let mut reader = log.reader("t", 0, Position::start()).unwrap();
    assert_eq!(drain(&mut reader).unwrap(), expected);
    assert_eq!(log.end_offset("t", 0).unwrap(), writer.partition("t", 0).unwrap().end_offset() - 1);

    writer.commit(frozen, 2, json!(2)).unwrap();
    assert!(reader.next().unwrap().is_none(), "before it is refreshed");
    assert!(log.refresh().unwrap());
    assert_eq!(drain(&mut reader).unwrap(), ["open"]);
    let at = log.position_of("t", 0, 5).unwrap();
    let (frame, row) = log.reader("t", 0, at).unwrap().next().unwrap().unwrap();
    assert_eq!(frame.base_offset + row as u64, 5);
}

#[test]
fn a_read_only_reader_copes_with_segments_that_vanish() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, _) = filled(dir.path(), 0);
    commit(&writer, 1);
    let log = Log::open_read_only(dir.path()).unwrap();
    let mut waiting = log.reader("t", 0, Position::start()).unwrap();
    let mut resumed = log.reader("t", 0, Position { offset: 2, segment: 0, byte: 0 }).unwrap();
    let partition = writer.partition("t", 0).unwrap();
    partition.delete_before(partition.end_offset());
    commit(&writer, 2);
    assert_eq!(fs::read_dir(dir.path().join("topics/t/0")).unwrap().count(), 1);
    let (frame, row) = waiting.next().unwrap().unwrap();
    assert_eq!((frame.base_offset, row), (partition.start_offset(), 0));
    let error = resumed.next().unwrap_err();
    assert!(matches!(error, Error::Dropped { offset: 2, .. }), "{error}");
    assert_eq!(log.epoch(), 2);
}
