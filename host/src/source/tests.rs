//! Sources against real files.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc;

use proptest::prelude::*;
use wasmill_core::task::Records;
use wasmill_pipeline::{Compression, Encoding, Format, Pattern, Policy, Source, SourceKind};

use super::*;

const NOW: i64 = 1_000;

fn source(folder: &Path, glob: &str, format: Format) -> Source {
    let paths = vec![Pattern { folder: folder.to_owned(), glob: glob.to_owned() }];
    let encoding = Encoding { format, compression: Compression::Auto };
    Source {
        name: "s".to_owned(),
        at: None,
        kind: SourceKind::File { paths, encoding },
        policy: Policy::default(),
        bounded: true,
    }
}

/// The one partition of a file with this content.
fn file(dir: &tempfile::TempDir, name: &str, content: &[u8]) -> Partition {
    std::fs::write(dir.path().join(name), content).unwrap();
    partitions(&source(dir.path(), name, Format::Lines)).unwrap().remove(0)
}

type Seen = Vec<(i64, Vec<u8>)>;

fn seen(records: &Records) -> Seen {
    assert_eq!(records.keys.len(), records.offsets.len());
    assert_eq!(records.timestamps.len(), records.offsets.len());
    records.values.check("values").unwrap();
    records.keys.check("keys").unwrap();
    let values = records.values.iter().map(|v| v.unwrap().to_vec());
    records.offsets.iter().copied().zip(values).collect()
}

/// Everything up to the end, with the position behind each batch.
fn drain(reader: &mut Reader, most_records: usize, most_bytes: usize) -> Vec<(Seen, Position)> {
    let mut all = Vec::new();
    loop {
        match reader.read(most_records, most_bytes, NOW).unwrap() {
            Batch::Records { records, bad } => {
                assert!(bad.is_empty());
                all.push((seen(&records), reader.position().clone()));
            }
            Batch::End => return all,
            Batch::Pending => panic!("a file that ends is never waited for"),
        }
    }
}

fn all(partition: &Partition) -> Seen {
    let batches = drain(&mut partition.open(None).unwrap(), 1_000, 1 << 20);
    batches.into_iter().flat_map(|b| b.0).collect()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    // As the command line tool does it.
    encoder.include_checksum(true).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// In two members or frames, cut somewhere.
fn compress(content: &[u8], how: usize) -> Vec<u8> {
    let (a, b) = content.split_at(content.len() / 3);
    match how {
        0 => content.to_vec(),
        1 => [gzip(a), gzip(b)].concat(),
        _ => [zstd(a), zstd(b)].concat(),
    }
}

#[test]
fn lines_become_records_with_their_index_and_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let partition = file(&dir, "a.log", b"one\r\n\ntwo\n\r\n three\rx");
    assert_eq!((partition.index, partition.source.as_str()), (0, "s"));
    let expected =
        [(0, b"one".to_vec()), (2, b"two".to_vec()), (4, b" three\rx".to_vec())].to_vec();
    let mut reader = partition.open(None).unwrap();
    let Batch::Records { records, bad } = reader.read(10, 1_000, NOW).unwrap() else { panic!() };
    assert_eq!((seen(&records), bad), (expected, Vec::new()));
    assert_eq!(records.timestamps, [NOW; 3]);
    assert!((0..3).all(|i| records.keys.is_null(i)) && records.clocks.is_empty());
    assert_eq!((reader.position().line, reader.position().byte), (5, 20));
    assert_eq!(reader.read(10, 1_000, NOW).unwrap(), Batch::End);
    assert_eq!(reader.read(10, 1_000, NOW).unwrap(), Batch::End);
}

#[test]
fn a_reader_may_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Reader>();
}

#[test]
fn partitions_are_files_in_the_order_of_their_paths() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b.log", "a.log", "c.log.gz"] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    let found = partitions(&source(dir.path(), "*.log*", Format::Lines)).unwrap();
    let shown: Vec<_> = found.iter().map(|p| (p.index, p.what.to_string())).collect();
    let path = |name: &str| dir.path().join(name).display().to_string();
    assert_eq!(shown, [(0, path("a.log")), (1, path("b.log")), (2, path("c.log.gz"))]);
    let other = found[1].open(None).unwrap().position().clone();
    let refused = found[0].open(Some(other)).err().unwrap().to_string();
    assert!(refused.contains("partition 0 was ") && refused.contains("b.log and is"), "{refused}");
}

#[test]
fn limits_cut_batches_but_never_records() {
    let dir = tempfile::tempdir().unwrap();
    let partition = file(&dir, "a.log", b"aaaa\nbb\nc\ndddddd\ne\n");
    let sizes = |records, bytes| -> Vec<usize> {
        let batches = drain(&mut partition.open(None).unwrap(), records, bytes);
        batches.iter().map(|b| b.0.len()).collect()
    };
    assert_eq!(sizes(2, 100), [2, 2, 1]);
    assert_eq!(sizes(0, 100), [1; 5]);
    assert_eq!(sizes(9, 6), [2, 1, 1, 1]);
    assert_eq!(sizes(9, 0), [1; 5]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn reading_on_from_any_line_gives_the_same_rest(
        text in "([a-c]{0,5}(\n|\r\n)){0,12}[a-c]{0,3}", how in 0..3usize, bytes in 0..12usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let partition = file(&dir, "a", &compress(text.as_bytes(), how));
        let lines = text.split('\n').map(|l| l.strip_suffix('\r').unwrap_or(l));
        let expected: Seen = (0..)
            .zip(lines.map(|l| l.as_bytes().to_vec()))
            .filter(|(_, l)| !l.is_empty())
            .collect();
        prop_assert_eq!(&all(&partition), &expected);
        let mut before = 0;
        for (batch, position) in drain(&mut partition.open(None).unwrap(), 1, bytes) {
            before += batch.len();
            let json = serde_json::to_string(&position).unwrap();
            let position: Position = serde_json::from_str(&json).unwrap();
            let mut reader = partition.open(Some(position)).unwrap();
            let rest: Seen =
                drain(&mut reader, 3, bytes).into_iter().flat_map(|b| b.0).collect();
            prop_assert_eq!(&rest, &expected[before..]);
        }
        prop_assert_eq!(before, expected.len());
    }
}

#[test]
fn a_large_file_comes_through_blocks_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let line = |i: usize| format!("{i}-{}", "x".repeat(i * 7919 % 3_000));
    let text: String = (0..1_500).map(|i| line(i) + "\n").collect();
    for how in 0..3 {
        let partition = file(&dir, "a", &compress(text.as_bytes(), how));
        let read = all(&partition);
        assert_eq!(read.len(), 1_500);
        assert!(
            read.iter().enumerate().all(|(i, (o, l))| *o == i as i64 && *l == line(i).as_bytes())
        );
        let mut reader = partition.open(None).unwrap();
        reader.read(1_000, 1 << 30, NOW).unwrap();
        let position = reader.position().clone();
        let rest = drain(&mut partition.open(Some(position)).unwrap(), 9_999, 1 << 30);
        assert_eq!(rest[0].0[..], read[1_000..]);
    }
}

/// Reads to the error; returns the records that came before, and the error.
fn fails(partition: &Partition) -> (Seen, Error) {
    let mut before = Vec::new();
    let mut reader = match partition.open(None) {
        Ok(reader) => reader,
        Err(e) => return (before, e),
    };
    loop {
        match reader.read(100, 1 << 20, NOW) {
            Ok(Batch::Records { records, .. }) => before.extend(seen(&records)),
            Ok(other) => panic!("{other:?} after {} records", before.len()),
            Err(e) => {
                assert!(matches!(reader.read(100, 1 << 20, NOW), Err(Error::Io { .. })));
                return (before, e);
            }
        }
    }
}

#[test]
fn compressed_data_that_is_cut_off_is_never_taken_for_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = (0..200).map(|i| format!("line {}\n", i * 7919 % 1000)).collect();
    for (name, whole) in [("a.gz", gzip(text.as_bytes())), ("a.zst", zstd(text.as_bytes()))] {
        let records = all(&file(&dir, name, &whole));
        assert_eq!(records.len(), 200);
        for length in 0..whole.len() {
            let (before, error) = fails(&file(&dir, name, &whole[..length]));
            assert!(records.starts_with(&before));
            assert!(matches!(error, Error::CutOff { .. }), "{name} at {length}: {error}");
            let shown = error.to_string();
            assert!(shown.contains(name) && shown.contains("Get the whole file"), "{shown}");
        }
    }
}

#[test]
fn damaged_data_is_an_error_that_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = (0..50_000).map(|i| format!("line {}\n", i * 7919 % 99_991)).collect();
    for (name, mut whole) in [("a.gz", gzip(text.as_bytes())), ("a.zst", zstd(text.as_bytes()))] {
        let middle = whole.len() / 2;
        for byte in &mut whole[middle..middle + 50] {
            *byte ^= 0xa5;
        }
        let (before, error) = fails(&file(&dir, name, &whole));
        let Error::Damaged { byte, .. } = &error else { panic!("{name}: {error}") };
        assert!(!before.is_empty() && *byte > 0, "{name}: {} records, {byte} bytes", before.len());
        assert!(error.to_string().contains("Get an intact copy"));
    }
    // Garbage behind the data, and text under the name of compressed data.
    let behind = [gzip(b"x\n"), b"garbage, more than a header".to_vec()].concat();
    let (before, error) = fails(&file(&dir, "b.gz", &behind));
    assert!(before.len() == 1 && matches!(error, Error::Damaged { .. }), "{error}");
    let text = fails(&file(&dir, "c.gz", b"just text, more than a header\n")).1.to_string();
    assert!(text.contains("no gzip file") && text.contains("compression = \"none\""), "{text}");
}

#[test]
fn a_file_that_is_not_the_one_that_was_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for how in 0..3 {
        let write = |text: &[u8]| file(&dir, "a", &compress(text, how));
        let mut reader = write(b"one\ntwo\nthree").open(None).unwrap();
        reader.read(2, 100, NOW).unwrap();
        let middle = reader.position().clone();
        reader.read(2, 100, NOW).unwrap();
        let end = reader.position().clone();
        let shrunk = write(b"one\ntwo").open(Some(middle.clone())).err().unwrap().to_string();
        assert!(shrunk.contains("shrank or was replaced: 8 bytes (line 2) were read"), "{shrunk}");
        assert!(shrunk.contains("it has 7 now"), "{shrunk}");
        let changed = write(b"one, two, three\n").open(Some(middle)).err().unwrap();
        assert!(matches!(changed, Error::Changed { .. }), "{changed}");
        let grown = write(b"one\ntwo\nthree and more\n").open(Some(end.clone())).err().unwrap();
        assert!(matches!(grown, Error::Changed { .. }), "{grown}");
        let mut same = write(b"one\ntwo\nthree");
        if how == 0 {
            // The last line was a record without its newline; more of it could still come.
            same.bounded = false;
            assert!(matches!(same.open(Some(end.clone())), Err(Error::Changed { .. })));
            same.bounded = true;
        }
        let same = same.open(Some(end)).unwrap().read(1, 1, NOW).unwrap();
        assert_eq!(same, Batch::End);
    }
    let position = file(&dir, "b", b"x\n").open(None).unwrap().position().clone();
    let partition = file(&dir, "b", b"x\n");
    std::fs::remove_file(dir.path().join("b")).unwrap();
    let gone = partition.open(Some(position)).err().unwrap().to_string();
    assert!(gone.contains("cannot open") && gone.contains("that the file is there"), "{gone}");
}

#[test]
fn a_followed_file_gives_lines_as_they_are_completed() {
    let dir = tempfile::tempdir().unwrap();
    let mut partition = file(&dir, "a.log", b"one\ntw");
    partition.bounded = false;
    let mut log = std::fs::OpenOptions::new().append(true).open(dir.path().join("a.log")).unwrap();
    let mut reader = partition.open(None).unwrap();
    let read = |reader: &mut Reader| match reader.read(10, 100, NOW).unwrap() {
        Batch::Records { records, .. } => Some(seen(&records)),
        Batch::Pending => None,
        Batch::End => panic!("it never ends"),
    };
    assert_eq!(read(&mut reader), Some(vec![(0, b"one".to_vec())]));
    assert_eq!(read(&mut reader), None);
    log.write_all(b"o\nthree\n").unwrap();
    let position = reader.position().clone();
    let rest = Some(vec![(1, b"two".to_vec()), (2, b"three".to_vec())]);
    assert_eq!(read(&mut reader), rest);
    assert_eq!(read(&mut reader), None);
    let mut again = partition.open(Some(position)).unwrap();
    assert_eq!((read(&mut again), read(&mut again)), (rest, None));
    log.set_len(3).unwrap();
    assert!(matches!(again.read(1, 1, NOW), Err(Error::Shrank { length: 3, .. })));
}

#[test]
fn a_followed_file_that_is_moved_is_read_out_and_then_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut partition = file(&dir, "a.log", b"one\n");
    partition.bounded = false;
    let mut reader = partition.open(None).unwrap();
    std::fs::rename(dir.path().join("a.log"), dir.path().join("b.log")).unwrap();
    std::fs::write(dir.path().join("a.log"), b"other, longer\n").unwrap();
    let Batch::Records { records, .. } = reader.read(9, 99, NOW).unwrap() else { panic!() };
    assert_eq!(seen(&records), [(0, b"one".to_vec())]);
    let moved = reader.read(9, 99, NOW).unwrap_err().to_string();
    assert!(moved.contains("was moved, replaced or removed while it was followed"), "{moved}");
}

#[test]
fn json_lines_give_keys_and_times_and_what_lacks_them_is_bad() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "\u{feff}{\"u\":{\"k\":\"a\"},\"t\":5}\n\n{\"u\":{},\"t\":6}\nnonsense\n\
                 {\"t\":\"1970-01-01T00:00:00.007Z\",\"u\":{\"k\":8}}\r\n{\"u\":{\"k\":1}}\n";
    std::fs::write(dir.path().join("a"), lines).unwrap();
    let path = |p: &str| Some(p.split('.').map(str::to_owned).collect());
    let format = Format::JsonLines { key: path("u.k"), timestamp: path("t") };
    let partition = partitions(&source(dir.path(), "a", format)).unwrap().remove(0);
    let mut reader = partition.open(None).unwrap();
    let Batch::Records { records, bad } = reader.read(100, 10_000, NOW).unwrap() else { panic!() };
    let keys: Vec<_> = records.keys.iter().map(|k| k.unwrap().to_vec()).collect();
    assert_eq!(keys, [b"a", b"8"]);
    assert_eq!(records.timestamps, [5, 7]);
    assert_eq!(records.offsets, [0, 4]);
    assert_eq!(records.values.bytes(0), b"{\"u\":{\"k\":\"a\"},\"t\":5}");
    let shown: Vec<_> = bad.iter().map(|b| (b.offset, b.reason.as_str())).collect();
    assert_eq!(shown[0], (2, "the key u.k is missing, or is no text, number or truth value"));
    assert!(shown[1].0 == 3 && shown[1].1.starts_with("not JSON: "), "{}", shown[1].1);
    assert_eq!(shown[2], (5, "the timestamp t is missing"));
    assert_eq!(bad[1].value, b"nonsense");
    assert_eq!(reader.read(100, 10_000, NOW).unwrap(), Batch::End);
}

#[test]
fn a_line_that_is_too_long_is_bad_and_the_next_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let long = [&vec![b'y'; MAX_LINE_BYTES + 1][..], b"\nnext\n"].concat();
    let partition = file(&dir, "a", &long);
    let mut reader = partition.open(None).unwrap();
    let Batch::Records { records, bad } = reader.read(9, 1 << 20, NOW).unwrap() else { panic!() };
    assert_eq!(seen(&records), [(1, b"next".to_vec())]);
    let reason = "the line has 16777218 bytes, more than 16777216; these are the first";
    let value = vec![b'y'; LONG_LINE_HEAD_BYTES];
    assert_eq!(bad, [Bad { offset: 0, value, reason: reason.to_owned() }]);
    assert_eq!(reader.position().byte, long.len() as u64);
}

/// Gives what is sent to it, and ends when the sender is dropped.
struct Pipe(mpsc::Receiver<Vec<u8>>);

impl Read for Pipe {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let Ok(bytes) = self.0.recv() else { return Ok(0) };
        to[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

fn stdin(input: impl Read + Send + 'static, line: u64) -> Reader {
    let encoding = Encoding { format: Format::Lines, compression: Compression::Auto };
    let source =
        Source { kind: SourceKind::Stdin { encoding }, ..source(Path::new(""), "", Format::Lines) };
    let partition = partitions(&source).unwrap().remove(0);
    assert_eq!((partition.what.to_string(), partition.what.id()), ("stdin".into(), "-".into()));
    let input = stdin::open(&partition, input).unwrap();
    Reader::new(partition, Position { path: "-".to_owned(), line, byte: 0 }, input)
}

/// The next batch that isn't pending.
fn wait(reader: &mut Reader) -> Result<Batch, Error> {
    loop {
        match reader.read(100, 1 << 20, NOW) {
            Ok(Batch::Pending) => std::thread::yield_now(),
            other => return other,
        }
    }
}

#[test]
fn standard_input_is_pending_until_a_line_is_complete() {
    let (sender, receiver) = mpsc::channel();
    let mut reader = stdin(Pipe(receiver), 7);
    assert_eq!(reader.read(1, 1, NOW).unwrap(), Batch::Pending);
    let mut next = |bytes: Option<&[u8]>| {
        bytes.into_iter().for_each(|b| sender.send(b.to_vec()).unwrap());
        let Batch::Records { records, .. } = wait(&mut reader).unwrap() else { panic!() };
        seen(&records)
    };
    assert_eq!(next(Some(b"a\n")), [(7, b"a".to_vec())]);
    sender.send(b"b".to_vec()).unwrap();
    assert_eq!(next(Some(b"c\n")), [(8, b"bc".to_vec())]);
    sender.send(b"last".to_vec()).unwrap();
    drop(sender);
    let Batch::Records { records, .. } = wait(&mut reader).unwrap() else { panic!() };
    assert_eq!(seen(&records), [(9, b"last".to_vec())]);
    assert_eq!(wait(&mut reader).unwrap(), Batch::End);
    assert_eq!(wait(&mut reader).unwrap(), Batch::End);
}

#[test]
fn standard_input_may_be_compressed_and_its_damage_is_an_error() {
    let text: String = (0..3_000).map(|i| format!("{i}\n")).collect();
    for how in 0..3 {
        let bytes = compress(text.as_bytes(), how);
        let mut reader = stdin(std::io::Cursor::new(bytes.clone()), 0);
        let mut count = 0;
        while let Batch::Records { records, .. } = wait(&mut reader).unwrap() {
            count += records.offsets.len();
        }
        assert_eq!(count, 3_000);
        if how > 0 {
            let cut = std::io::Cursor::new(bytes[..bytes.len() - 3].to_vec());
            let mut reader = stdin(cut, 0);
            let error = loop {
                match wait(&mut reader) {
                    Ok(batch) => assert_ne!(batch, Batch::End),
                    Err(e) => break e,
                }
            };
            assert!(matches!(error, Error::CutOff { .. }), "{error}");
        }
    }
}

#[test]
fn a_reading_thread_that_dies_is_not_the_end() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            panic!("as a test")
        }
    }
    let error = wait(&mut stdin(Broken, 0)).unwrap_err().to_string();
    assert!(error.contains("the reading thread died"), "{error}");
}
