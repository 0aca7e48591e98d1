//! Topics of which only the latest records are kept.

use std::fs;
use std::path::Path;

use wasmill_log::{Log, Records, Retention, TopicOptions};

use crate::support::{run, stdout_of, topic, wasmill};

/// A topic that something else writes, and a stage that is behind by more than is kept of it.
const PIPELINE: &str = r#"
name = "slow"
[engine]
partitions = 1
checkpoint-interval = "10ms"
batch-records = 256

[topic.raw]
partitions = 1
retention-bytes = "1MiB"

[source.raw]
topic = "raw"
bounded = true

[stage.slow]
plugin = "identity"
from = "source.raw"

[topic.out]
from = "stage.slow"
"#;

const RECORDS: u64 = 4_000;
const VALUE_BYTES: usize = 1_000;

/// Writes the topic before the pipeline is there: more than is to be kept, in many segments.
fn write(data_dir: &Path) {
    let log = Log::open(data_dir.join("log"), wasmill_log::Options::default()).unwrap();
    let options = TopicOptions { segment_bytes: 128 << 10, retention: Retention::Forever };
    log.create_topic("raw", 1, options).unwrap();
    let partition = log.partition("raw", 0).unwrap();
    for number in 0..RECORDS {
        let mut records =
            Records { timestamps: vec![1], clocks: vec![i64::MIN], ..Records::default() };
        records.keys.push_null();
        records.values.push(format!("{number:0>VALUE_BYTES$}").as_bytes());
        partition.append(1, 0, records).unwrap();
    }
    log.commit(log.freeze().unwrap(), 1, serde_json::Value::Null).unwrap();
}

/// The first offset and how many bytes there are of the topic that is written.
fn raw(data_dir: &Path) -> (u64, u64) {
    let log = Log::open_read_only(data_dir.join("log")).unwrap();
    let folder = data_dir.join("log/topics/raw/0");
    let bytes = fs::read_dir(folder).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    (log.start_offset("raw", 0).unwrap(), bytes)
}

#[test]
fn retention_waits_for_a_stage_that_is_behind() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let data = folder.join("data");
    fs::write(folder.join("slow.toml"), PIPELINE).unwrap();
    write(&data);
    assert_eq!(raw(&data).0, 0);
    run(folder, "slow.toml", &data, &[]);
    let out = topic(&data, "out");
    let numbers: Vec<u64> =
        out.iter().map(|r| r["value"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (0..RECORDS).collect::<Vec<_>>());
    // What was read goes with the next commit.
    run(folder, "slow.toml", &data, &[]);
    let (start, bytes) = raw(&data);
    assert!(start > 0, "everything is still there");
    assert!((1 << 20..3 << 20).contains(&bytes), "{bytes} bytes are left");
}

#[test]
fn a_topic_that_does_not_exist_is_answered_with_those_that_do() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let data = folder.join("data");
    write(&data);
    let dir = data.display().to_string();
    let output = wasmill(folder, &["topic", "read", "rwa", "--data-dir", &dir]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("there is no topic \"rwa\". The nearest is \"raw\"; `wasmill topic ls`"),
        "{errors}"
    );
    assert!(stdout_of(wasmill(folder, &["topic", "ls", "--data-dir", &dir])).contains("raw"));
}
