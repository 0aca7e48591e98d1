//! What is done now and then beside the stream: dropping what nobody needs any more, and looking for
//! what the stream would not notice.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::setup::Setup;
use super::topics::look_for_growth;
use crate::engine::Error;

/// How often it is looked whether inputs have got partitions.
const GROWTH: Duration = Duration::from_secs(30);
/// How often records are dropped.
const DROP: Duration = Duration::from_secs(10);
/// How often the folder of state is looked through: as often as state is to be kept, within these.
const LOOK: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(30);

/// Records that nobody needs any more: those of a partition before an offset.
pub(super) struct Needless {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) before: i64,
}

/// Works until all senders are gone.
pub(super) fn work(setup: &Setup<'_>, needless: &Receiver<Needless>) {
    let mut before: BTreeMap<(String, u32), i64> = BTreeMap::new();
    let mut dropped: BTreeMap<(String, u32), i64> = BTreeMap::new();
    let mut strangers = BTreeMap::new();
    let look = setup.cleanup_delay.clamp(*LOOK.start(), *LOOK.end());
    let (mut last, mut looked, mut grown) = (Instant::now(), Instant::now(), Instant::now());
    loop {
        match needless.recv_timeout(Duration::from_millis(200)) {
            Ok(n) => {
                let known = before.entry((n.topic, n.partition)).or_insert(n.before);
                *known = (*known).max(n.before);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if setup.ending.load(Ordering::Relaxed) {
            continue;
        }
        if last.elapsed() >= DROP {
            last = Instant::now();
            for (partition, offset) in std::mem::take(&mut before) {
                if dropped.get(&partition) == Some(&offset) {
                    continue;
                }
                match setup.admin.delete_records(&partition.0, partition.1, offset) {
                    Ok(()) => {
                        dropped.insert(partition, offset);
                    }
                    // It is tried again the next time: nobody may ask for it a second time.
                    Err(e) => {
                        tracing::debug!("{e}");
                        before.insert(partition, offset);
                    }
                }
            }
        }
        if grown.elapsed() >= GROWTH {
            grown = Instant::now();
            match look_for_growth(&setup.admin, &setup.topology, &setup.ways) {
                Err(Error::Kafka(e)) => tracing::debug!("{e}"),
                Err(error) => setup.fail(error),
                Ok(()) => {}
            }
        }
        if looked.elapsed() >= look {
            looked = Instant::now();
            clean(setup, &mut strangers);
        }
    }
}

/// Removes state files of tasks that have been elsewhere for long.
fn clean(setup: &Setup<'_>, strangers: &mut BTreeMap<String, Instant>) {
    let folder = setup.data_dir.join("state");
    let tasks = std::fs::read_dir(&folder).into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_suffix(".redb").map(str::to_owned)
    });
    let tasks: Vec<String> = tasks.collect();
    strangers.retain(|task, _| tasks.contains(task));
    for task in tasks {
        let Some(_taken) = setup.open_files.try_take(&task) else {
            strangers.remove(&task);
            continue;
        };
        let since = strangers.entry(task.clone()).or_insert_with(Instant::now);
        if since.elapsed() >= setup.cleanup_delay {
            remove(&folder.join(format!("{task}.redb")));
        }
    }
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Ok(()) => tracing::info!("{}: removed, the task is elsewhere", path.display()),
        Err(e) => tracing::warn!("{}: can't be removed: {e}", path.display()),
    }
}
