//! Looking into the keyed state of a pipeline that stands still.

use std::path::Path;

use wasmill_log::{Log, Options};

use super::Error;
use super::apply::Follower;
use crate::store::State;

/// What is cached of each state file, in bytes.
const CACHE_BYTES: usize = 16 << 20;

/// The state of a stage in one task.
pub struct StageState {
    /// The stage's name.
    pub name: String,
    /// The task: sub-topology and partition.
    pub task: String,
    /// The stage's number in the task's state.
    pub number: u16,
    /// The state of the task.
    pub state: State,
}

impl StageState {
    /// What the store keys of the stage's rows begin with.
    pub fn rows(&self) -> Vec<u8> {
        let mut start = Vec::new();
        wasmill_core::row::row_key(self.number, b"", &mut start);
        start
    }

    /// Where the store keys of the stage end.
    pub fn end(&self) -> Vec<u8> {
        (u32::from(self.number) + 1).to_be_bytes()[2..].to_vec()
    }
}

/// Opens the state of every stage in a data directory, as of the last commit.
///
/// # Errors
/// When the pipeline is running, or the folder is no data directory; then nothing is made.
pub fn open(data_dir: &Path) -> Result<Vec<StageState>, Error> {
    let dir = data_dir.join("log");
    // Opening makes a log where there is none.
    Log::open_read_only(&dir)?;
    let log = Log::open(&dir, Options::default())?;
    let shape = log.payload().get("shape").cloned().unwrap_or_default();
    let pipeline = shape["pipeline"].as_str().unwrap_or_default().to_owned();
    let mut states = Vec::new();
    let subs = shape["sub-topologies"].as_array().cloned().unwrap_or_default();
    for (id, sub) in subs.iter().enumerate() {
        let topic = format!("{pipeline}-{id}-changelog");
        let Ok(partitions) = log.partitions(&topic) else { continue };
        let stages = sub["stages"].as_array().cloned().unwrap_or_default();
        for partition in 0..partitions {
            let task = format!("{id}-{partition}");
            let path = data_dir.join(format!("state/{task}.redb"));
            let state = State::open(&path, CACHE_BYTES)?;
            let changelog = log.partition(&topic, partition)?;
            let follower = Follower { task: task.clone(), changelog, state: state.clone() };
            follower.catch_up(follower.changelog.end_offset())?;
            for (number, name) in stages.iter().enumerate() {
                states.push(StageState {
                    name: name.as_str().unwrap_or_default().to_owned(),
                    task: task.clone(),
                    number: number as u16,
                    state: state.clone(),
                });
            }
        }
    }
    Ok(states)
}
