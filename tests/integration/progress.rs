//! How much of a bounded run there is to do, which a progress bar shows.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmill::engine::report::Extent;
use wasmill::engine::{self, Options, Prepared};
use wasmill::runtime::Runtime;

use crate::support::root;

const PIPELINE: &str = r#"name = "copy"
[source.raw]
path = "in/*"
[topic.raw]
from = "source.raw"
[stage.copy]
plugin = "identity"
from = "topic.raw"
[topic.out]
from = "stage.copy"
"#;

/// Runs a pipeline of a folder in this process, to its end or until `records` were read.
fn run(folder: &Path, pipeline: &str, records: u64) -> Options {
    let file = folder.join("copy.toml");
    std::fs::write(&file, pipeline).unwrap();
    let runtime = Arc::new(Runtime::new(Some(&root().join("target/wasmill-cache"))).unwrap());
    let folders = [root().join("target/plugins")];
    let prepared = Prepared::load(&file, &[], &folders, runtime, &|_| Some(1)).unwrap();
    let options = Options { data_dir: folder.join("data"), ..Options::default() };
    std::thread::scope(|scope| {
        let run = scope.spawn(|| engine::run(&prepared, &options).unwrap());
        while options.progress.records.load(Ordering::Relaxed) < records && !run.is_finished() {
            std::thread::yield_now();
        }
        if records < u64::MAX {
            options.stop.store(true, Ordering::Relaxed);
        }
        run.join().unwrap();
    });
    options
}

#[test]
fn a_run_that_goes_on_knows_what_was_read_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in");
    std::fs::create_dir(&input).unwrap();
    let mut total = 0;
    for file in ["a", "b"] {
        let text: String = (0..50_000).map(|i| format!("{file} {i}\n")).collect();
        total += text.len() as u64;
        std::fs::write(input.join(file), text).unwrap();
    }
    let first = run(dir.path(), PIPELINE, 1);
    assert_eq!(first.progress.extent.get(), Some(&Extent::Bytes { before: 0, total }));
    let read = first.progress.bytes.load(Ordering::Relaxed);
    let second = run(dir.path(), PIPELINE, u64::MAX);
    let Some(Extent::Bytes { before, total: of }) = second.progress.extent.get() else {
        panic!("{:?}", second.progress)
    };
    // What was read behind the last commit is read again.
    assert!(*before > 0 && *before <= read && *of == total, "{before} of {of}, {read} were read");
    assert_eq!(before + second.progress.bytes.load(Ordering::Relaxed), total);
    let third = run(dir.path(), PIPELINE, u64::MAX);
    assert_eq!(third.progress.extent.get(), Some(&Extent::Bytes { before: total, total }));

    // Another pipeline reads the topic of the first, a record for each line.
    let of_topic = PIPELINE
        .replace("path = \"in/*\"", "type = \"topic\"\ntopic = \"raw\"\nbounded = true")
        .replace("[topic.raw]\nfrom = \"source.raw\"\n", "")
        .replace("from = \"topic.raw\"", "from = \"source.raw\"");
    let text = std::fs::read_to_string(input.join("a")).unwrap();
    let data = dir.path().join("data");
    std::fs::remove_dir_all(&data).unwrap();
    let log = wasmill_log::Log::open(data.join("log"), wasmill_log::Options::default()).unwrap();
    log.create_topic("raw", 1, wasmill_log::TopicOptions::default()).unwrap();
    let lines = text.lines().take(1_000).map(str::as_bytes);
    let records = wasmill_log::Records {
        timestamps: vec![0; 1_000],
        clocks: vec![i64::MIN; 1_000],
        keys: lines.clone().collect(),
        values: lines.collect(),
        headers: None,
    };
    log.partition("raw", 0).unwrap().append(1, 0, records).unwrap();
    log.commit(log.freeze().unwrap(), 1, serde_json::Value::Null).unwrap();
    drop(log);
    let topic = run(dir.path(), &of_topic, u64::MAX);
    assert_eq!(topic.progress.extent.get(), Some(&Extent::Records(1_000)));
    assert_eq!(topic.progress.records.load(Ordering::Relaxed), 1_000);
}

#[test]
fn of_what_is_compressed_nobody_knows_how_much_there_is() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("in")).unwrap();
    std::fs::write(dir.path().join("in/a"), "plain\n").unwrap();
    let packed = zstd::encode_all(&b"packed\n"[..], 3).unwrap();
    std::fs::write(dir.path().join("in/b.zst"), packed).unwrap();
    assert_eq!(run(dir.path(), PIPELINE, u64::MAX).progress.extent.get(), None);
}
