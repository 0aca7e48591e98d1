//! Kinds of sources and sinks, as pipelines that run as a process.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::support::{root, stdout_of, wasmill};

fn pipeline(folder: &Path, source: &str, sink: &str) {
    let text = format!(
        "name = \"copy\"\n[engine]\ncheckpoint-interval = \"20ms\"\n[source.raw]\n{source}\n\
         [stage.copy]\nplugin = \"identity\"\nfrom = \"source.raw\"\n\
         [sink.out]\nfrom = \"stage.copy\"\n{sink}\n"
    );
    fs::write(folder.join("copy.toml"), text).unwrap();
}

fn lines(from: usize, to: usize) -> String {
    (from..to).map(|i| format!("{{\"n\":{i}}}\n")).collect()
}

fn run(folder: &Path, more: &[&str]) -> std::process::Output {
    let plugins = root().join("target/plugins").display().to_string();
    let args = ["run", "copy.toml", "--data-dir", "data", "--plugins", &plugins];
    wasmill(folder, &[&args[..], more].concat())
}

#[test]
fn standard_output_has_the_records_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    pipeline(dir.path(), "path = \"in.jsonl\"", "type = \"stdout\"");
    fs::write(dir.path().join("in.jsonl"), lines(0, 500)).unwrap();
    let output = run(dir.path(), &[]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("500 records read"));
    assert_eq!(stdout_of(output), lines(0, 500));
    // The summary as JSON gives way to them.
    let output = run(dir.path(), &["--fresh", "--json"]);
    let errors = String::from_utf8(output.stderr.clone()).unwrap();
    let summary: Value = serde_json::from_str(errors.lines().last().unwrap()).unwrap();
    assert_eq!(summary["records"], 500);
    assert_eq!(stdout_of(output), lines(0, 500));
    // Records with their keys and times, one line of JSON each.
    let output = run(dir.path(), &["--fresh", "--set", "sink.out.format=record"]);
    let text = stdout_of(output);
    let values: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(values.len(), 500);
    assert_eq!(values[7]["value"]["n"], 7);
}

/// What is compressed says so itself, each file by its name or its first bytes.
#[test]
fn files_of_a_glob_are_read_each_as_it_is_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in");
    fs::create_dir(&input).unwrap();
    fs::write(input.join("a.jsonl"), lines(0, 100)).unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(lines(100, 200).as_bytes()).unwrap();
    fs::write(input.join("b.jsonl.gz"), gzip.finish().unwrap()).unwrap();
    let zstd = zstd::encode_all(lines(200, 300).as_bytes(), 3).unwrap();
    fs::write(input.join("c.jsonl.zst"), zstd).unwrap();
    // Not named as what it is.
    fs::write(input.join("d.jsonl"), zstd::encode_all(lines(300, 400).as_bytes(), 3).unwrap())
        .unwrap();
    fs::write(dir.path().join("e.jsonl"), lines(400, 500)).unwrap();
    pipeline(dir.path(), "path = \"in/*.jsonl*\"", "path = \"out-{partition}.jsonl\"");
    stdout_of(run(dir.path(), &[]));
    for (partition, from) in [0, 100, 200, 300].into_iter().enumerate() {
        let out = fs::read_to_string(dir.path().join(format!("out-{partition}.jsonl"))).unwrap();
        assert_eq!(out, lines(from, from + 100), "partition {partition}");
    }
    assert!(!dir.path().join("out-4.jsonl").exists());
}

#[test]
fn a_compressed_file_that_is_cut_off_goes_on_where_it_was_when_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let whole = zstd::encode_all(lines(0, 40_000).as_bytes(), 3).unwrap();
    let file = dir.path().join("in.zst");
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    pipeline(dir.path(), "path = \"in.zst\"", "path = \"out.jsonl\"");
    let output = run(dir.path(), &[]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("in.zst is cut off") && errors.contains("zstd"), "{errors}");
    File::create(&file).unwrap().write_all(&whole).unwrap();
    stdout_of(run(dir.path(), &[]));
    assert_eq!(fs::read_to_string(dir.path().join("out.jsonl")).unwrap(), lines(0, 40_000));
}
