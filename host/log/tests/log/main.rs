//! The log as its users see it: on a real disk, closed, copied and reopened.

#![expect(clippy::unwrap_used, reason = "tests")]

mod commits;
mod crashes;
mod kills;
mod readers;
mod retention;

use std::fs;
use std::path::Path;

use serde_json::Value;
use wasmill_log::{Body, Error, Log, Options, Position, Reader, Records, TopicOptions};

/// Opens a log that keeps nothing in memory, so that everything is read from disk.
pub fn open(dir: &Path) -> Log {
    Log::open(dir, Options { tail_bytes: 0 }).unwrap()
}

/// Options of a topic whose segments end after about this many bytes.
pub fn segments_of(segment_bytes: u64) -> TopicOptions {
    TopicOptions { segment_bytes, ..TopicOptions::default() }
}

/// Records with these values; a value is its own key.
pub fn records(values: &[&str]) -> Records {
    let mut records = Records::default();
    for (i, value) in values.iter().enumerate() {
        records.timestamps.push(i as i64);
        records.clocks.push(-1);
        records.keys.push(value.as_bytes());
        records.values.push(value.as_bytes());
    }
    records
}

/// Commits the log as it is.
pub fn commit(log: &Log, epoch: u64) {
    log.commit(log.freeze().unwrap(), epoch, Value::from(epoch)).unwrap();
}

/// What a reader has to say up to the end: values and, as `~7`, watermarks.
pub fn drain(reader: &mut Reader) -> Result<Vec<String>, Error> {
    let mut all = Vec::new();
    while let Some((frame, first)) = reader.next()? {
        match &frame.body {
            Body::Records(records) => {
                let text = |row| String::from_utf8(records.values.bytes(row).to_vec()).unwrap();
                all.extend((first..records.len()).map(text));
            }
            Body::Watermark { watermark, .. } => all.push(format!("~{watermark}")),
        }
    }
    Ok(all)
}

/// Everything in a partition.
pub fn content(log: &Log, topic: &str, partition: u32) -> Vec<String> {
    drain(&mut log.partition(topic, partition).unwrap().reader(Position::start())).unwrap()
}

/// The directory as it is right now, as a crash would leave it, in a new place.
pub fn copy(from: &Path) -> tempfile::TempDir {
    fn copy_dir(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy_dir(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy_dir(from, to.path());
    to
}

/// The segment files of a partition, by name.
pub fn segment_files(dir: &Path, topic: &str, partition: u32) -> Vec<String> {
    let dir = dir.join("topics").join(topic).join(partition.to_string());
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
