//! Sinks against real files.

use std::collections::BTreeMap;
use std::path::Path;

use wasmill_abi::{Column, Headers};
use wasmill_core::flow::Flow;
use wasmill_pipeline::{Sink, SinkFormat, SinkKind};

use super::*;

fn sink(path: &Path, format: SinkFormat) -> Sink {
    let partitioned = path.to_string_lossy().contains("{partition}");
    let kind = SinkKind::File { path: path.to_owned(), partitioned };
    Sink { name: "out".to_owned(), at: None, from: Vec::new(), kind, format }
}

fn values(values: &[Option<&[u8]>]) -> Flow {
    let column: Column = values.iter().copied().collect();
    let keys: Column = values.iter().map(|_| None).collect();
    Flow { timestamps: vec![7; values.len()], keys, values: column, ..Flow::default() }
}

fn lengths(opened: &Opened) -> BTreeMap<String, u64> {
    opened.outputs.iter().map(|o| (o.id().to_owned(), o.flush().unwrap())).collect()
}

#[test]
fn what_follows_the_last_commit_is_cut_off_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/out.txt");
    let sink = sink(&path, SinkFormat::Value);
    let mut first = open(&sink, &[0], &BTreeMap::new()).unwrap();
    first.writers[0].write(&values(&[Some(b"one"), None])).unwrap();
    let committed = lengths(&first);
    first.outputs[0].sync().unwrap();
    assert_eq!(committed.values().copied().collect::<Vec<_>>(), [5]);
    first.writers[0].write(&values(&[Some(b"lost")])).unwrap();
    first.outputs[0].flush().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"one\n\nlost\n");
    drop(first);
    let mut second = open(&sink, &[0], &committed).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"one\n\n");
    second.writers[0].write(&values(&[Some(b"two")])).unwrap();
    assert_eq!(second.outputs[0].flush().unwrap(), 9);
    assert_eq!(std::fs::read(&path).unwrap(), b"one\n\ntwo\n");
}

#[test]
fn a_file_that_does_not_fit_the_commit_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.txt");
    let sink = sink(&path, SinkFormat::Value);
    std::fs::write(&path, "mine").unwrap();
    let refused = open(&sink, &[0], &BTreeMap::new()).unwrap_err().to_string();
    assert!(refused.contains("4 bytes that this pipeline has not written. Remove"), "{refused}");
    let id = std::path::absolute(&path).unwrap().display().to_string();
    let committed = BTreeMap::from([(id, 5)]);
    let refused = open(&sink, &[0], &committed).unwrap_err().to_string();
    assert!(refused.contains("committed with 5 bytes, but has 4."), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    std::fs::remove_file(&path).unwrap();
    let refused = open(&sink, &[0], &committed).unwrap_err().to_string();
    assert!(refused.contains("but is gone."), "{refused}");
    assert!(!path.exists());
    std::fs::create_dir(&path).unwrap();
    let refused = open(&sink, &[0], &BTreeMap::new()).unwrap_err().to_string();
    assert!(refused.contains("is a folder, expected a file"), "{refused}");
    std::fs::write(dir.path().join("f"), "").unwrap();
    let below = self::sink(&dir.path().join("f/out.txt"), SinkFormat::Value);
    assert!(matches!(open(&below, &[0], &BTreeMap::new()), Err(Error::Io { .. })));
}

#[test]
fn an_empty_file_that_was_there_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.txt");
    std::fs::write(&path, "").unwrap();
    let opened = open(&sink(&path, SinkFormat::Value), &[0], &BTreeMap::new()).unwrap();
    assert_eq!(opened.outputs[0].flush().unwrap(), 0);
}

#[test]
fn each_partition_has_its_file_where_the_path_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let sink = sink(&dir.path().join("{partition}/p{partition}.txt"), SinkFormat::Value);
    let mut opened = open(&sink, &[2, 10], &BTreeMap::new()).unwrap();
    assert_eq!(opened.outputs.len(), 2);
    for (writer, text) in opened.writers.iter_mut().zip(["two", "ten"]) {
        writer.write(&values(&[Some(text.as_bytes())])).unwrap();
    }
    lengths(&opened);
    assert_eq!(std::fs::read(dir.path().join("2/p2.txt")).unwrap(), b"two\n");
    assert_eq!(std::fs::read(dir.path().join("10/p10.txt")).unwrap(), b"ten\n");
}

#[test]
fn tasks_that_share_a_file_never_mix_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.txt");
    let sink = sink(&path, SinkFormat::Value);
    let opened = open(&sink, &[0, 1, 2], &BTreeMap::new()).unwrap();
    assert_eq!((opened.outputs.len(), opened.writers.len()), (1, 3));
    let line = |i: usize| vec![b'a' + i as u8; 1000];
    std::thread::scope(|scope| {
        for (i, mut writer) in opened.writers.into_iter().enumerate() {
            scope.spawn(move || {
                for _ in 0..300 {
                    writer.write(&values(&[Some(&line(i)), Some(&line(i))])).unwrap();
                }
            });
        }
        opened.outputs[0].flush().unwrap();
        opened.outputs[0].sync().unwrap();
    });
    assert_eq!(opened.outputs[0].flush().unwrap(), 3 * 600 * 1001);
    let text = std::fs::read(&path).unwrap();
    let mut counts = [0; 3];
    for found in text.split_inclusive(|b| *b == b'\n') {
        let i = usize::from(found[0] - b'a');
        assert_eq!(found[..1000], line(i));
        counts[i] += 1;
    }
    assert_eq!(counts, [600; 3]);
}

#[test]
fn records_are_written_as_json_with_all_they_have() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.jsonl");
    let sink = sink(&path, SinkFormat::Record);
    let mut opened = open(&sink, &[0], &BTreeMap::new()).unwrap();
    let mut flow = values(&[Some(b"{\"n\":1}"), None]);
    flow.keys = [Some(&b"k"[..]), None].into_iter().collect();
    let mut headers = Headers::default();
    headers.close_row();
    headers.add("h", Some(b"v"));
    headers.close_row();
    flow.headers = Some(headers);
    opened.writers[0].write(&flow).unwrap();
    opened.outputs[0].flush().unwrap();
    let expected = "{\"timestamp\":7,\"key\":\"k\",\"value\":{\"n\":1}}\n\
                    {\"timestamp\":7,\"key\":null,\"value\":null,\"headers\":[[\"h\",\"v\"]]}\n";
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
}

#[cfg(target_os = "linux")]
#[test]
fn after_a_failed_write_nothing_more_is_written() {
    // A device that is always full.
    let sink = sink(Path::new("/dev/full"), SinkFormat::Value);
    let mut opened = open(&sink, &[0], &BTreeMap::new()).unwrap();
    opened.writers[0].write(&values(&[Some(b"x")])).unwrap();
    let refused = opened.outputs[0].flush().unwrap_err().to_string();
    assert!(refused.contains("cannot write to /dev/full"), "{refused}");
    assert!(refused.contains("Free some space"), "{refused}");
    assert!(matches!(opened.outputs[0].flush(), Err(Error::Failed { .. })));
    let refused = opened.writers[0].write(&values(&[Some(b"y")]));
    assert!(matches!(refused, Err(Error::Failed { .. })));
}

#[test]
fn standard_output_is_one_output_that_counts_on_from_its_commit() {
    let kind = SinkKind::Stdout;
    let sink = Sink { kind, ..sink(Path::new("x"), SinkFormat::Value) };
    let committed = BTreeMap::from([("-out".to_owned(), 40)]);
    let mut opened = open(&sink, &[0, 1], &committed).unwrap();
    assert_eq!((opened.outputs.len(), opened.outputs[0].id()), (1, "-out"));
    opened.writers[1].write(&values(&[Some(b"a line of a test")])).unwrap();
    assert_eq!(opened.outputs[0].flush().unwrap(), 57);
    opened.outputs[0].sync().unwrap();
}
