//! A process that is killed while it appends and commits, again and again on the same directory.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::json;
use wasmill_log::{Log, Options};

use crate::{content, records, segments_of};

/// Set in the process that is to be killed.
const DIR: &str = "WASMILL_LOG_KILL_TEST_DIR";

#[test]
fn a_killed_process_leaves_payload_and_partitions_of_one_commit() {
    if let Some(dir) = std::env::var_os(DIR) {
        append_until_killed(dir.as_ref());
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut epoch, mut grown) = (0, 0);
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "kills::a_killed_process_leaves_payload_and_partitions_of_one_commit",
            ])
            .env(DIR, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(40 + 17 * round));
        child.kill().unwrap();
        child.wait().unwrap();

        let log = Log::open(dir.path(), Options::default()).unwrap();
        assert!(log.epoch() >= epoch, "round {round}: epoch {} after {epoch}", log.epoch());
        grown += u32::from(log.epoch() > epoch);
        epoch = log.epoch();
        if epoch == 0 {
            continue;
        }
        assert_eq!(log.payload()["epoch"], epoch);
        for partition in 0..2 {
            let count = log.payload()["counts"][partition as usize].as_u64().unwrap();
            let handle = log.partition("t", partition).unwrap();
            assert_eq!(handle.end_offset(), count, "round {round}");
            let expected = (handle.start_offset()..count).map(|i| i.to_string());
            assert!(content(&log, "t", partition).into_iter().eq(expected), "round {round}");
        }
    }
    assert!(grown > 0, "no process lived long enough to commit");
}

/// Numbers in two partitions; commits that lag one barrier behind, in another thread.
fn append_until_killed(dir: &std::path::Path) -> ! {
    let log = Log::open(dir, Options { tail_bytes: 1000 }).unwrap();
    log.create_topic("t", 2, segments_of(3_000)).unwrap();
    let partitions = [0, 1].map(|p| log.partition("t", p).unwrap());
    let mut committing: Option<thread::JoinHandle<()>> = None;
    let mut epoch = log.epoch();
    loop {
        epoch += 1;
        for i in 0..20 {
            let partition = &partitions[i % 2];
            let from = partition.end_offset();
            let values: Vec<String> = (from..from + 5).map(|i| i.to_string()).collect();
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            partition.append(epoch, 0, records(&values)).unwrap();
        }
        if let Some(previous) = committing.take() {
            previous.join().unwrap();
        }
        partitions[0].delete_before(partitions[0].end_offset().saturating_sub(300));
        let payload =
            json!({"epoch": epoch, "counts": partitions.each_ref().map(|p| p.end_offset())});
        let (snapshot, log) = (log.freeze().unwrap(), log.clone());
        committing = Some(thread::spawn(move || log.commit(snapshot, epoch, payload).unwrap()));
    }
}
