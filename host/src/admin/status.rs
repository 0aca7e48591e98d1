//! How a run stands, as plain data: what `GET /status` answers.
//!
//! Invariant: fields are only ever added, so that programs of another version can read it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wasmill_core::metrics;

use super::latency::Latency;

/// How a run stands in this process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The pipeline.
    pub pipeline: String,
    /// The consumer group; none on the embedded log.
    pub group: Option<String>,
    /// How long the run has been going on, in seconds.
    pub uptime_seconds: f64,
    /// Records read from outside.
    pub records: u64,
    /// Bytes read from outside.
    pub bytes: u64,
    /// The tasks that are open here, by name.
    pub tasks: BTreeMap<String, Task>,
    /// How often each task was assigned to a worker of this process.
    pub assignments: BTreeMap<String, u64>,
    /// The workers, by name. On the embedded log there is one, which stands for all: they commit
    /// together.
    pub workers: BTreeMap<String, Worker>,
    /// Changelogs that state is being restored from.
    pub restores: Vec<Restore>,
    /// The copies that are kept here of the state of other instances' tasks, by task.
    #[serde(default)]
    pub standbys: BTreeMap<String, Standby>,
}

/// A task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its sub-topology.
    pub subtopology: usize,
    /// The partition that it reads.
    pub partition: u32,
    /// The worker that has it.
    pub worker: String,
    /// The watermark behind its last stage, in ms since the Unix epoch; none before there is one,
    /// `i64::MAX` at the end of all inputs.
    pub watermark_ms: Option<i64>,
    /// Bytes of keyed state in memory, about.
    pub state_bytes: u64,
    /// Whether its inputs have ended.
    pub ended: bool,
    /// Whether it reads nothing until its state is applied: memory is full.
    pub full: bool,
    /// Its stages, in their order.
    pub stages: Vec<Stage>,
    /// Its inputs, in their order.
    pub inputs: Vec<Input>,
}

/// A stage of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// The stage's name.
    pub name: String,
    /// Its counts since the task was opened.
    pub counts: metrics::Stage,
}

/// An input of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The topic, or `source.NAME` for one that reads no topic.
    pub topic: String,
    /// The partition of the topic; for files, the number of the file.
    pub partition: u32,
    /// The offset to be read next, or the line, from 0; none when it has ended.
    pub next: Option<u64>,
    /// Offsets between that and the end, as far as the task knows. In topics that the pipeline writes
    /// for itself on Kafka, each offset is a batch of records.
    pub lag: Option<u64>,
    /// Its watermark, as in [`Task::watermark_ms`].
    pub watermark_ms: Option<i64>,
}

/// A worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// How often the group has given it partitions or taken some.
    pub rebalances: u64,
    /// Units of tasks that it has: the tasks of one partition that are assigned together.
    pub units: u64,
    /// How many of them are being opened, which may take a restore.
    pub opening: u64,
    /// Commits, and how long each took.
    pub commits: Latency,
    /// How often what was not committed was dropped and done again.
    pub rollbacks: u64,
}

/// A restore that is going on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// The changelog.
    pub topic: String,
    /// The partition of the changelog.
    pub partition: u32,
    /// Where it began.
    pub from: i64,
    /// The offset to be read next.
    pub position: i64,
    /// Where it ends.
    pub end: i64,
}

/// A copy of a task's state that follows its changelog.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standby {
    /// The changelog.
    pub topic: String,
    /// The partition of the changelog.
    pub partition: u32,
    /// The offset to be read next.
    pub position: i64,
    /// Offsets between that and the end; none until the first answer from Kafka. It is seldom 0 while
    /// the task's owner commits.
    pub lag: Option<u64>,
}

impl Restore {
    /// How much of it is done, 0 to 1.
    pub fn ratio(&self) -> f64 {
        let (done, all) = (self.position - self.from, self.end - self.from);
        if all <= 0 { 1.0 } else { (done as f64 / all as f64).clamp(0.0, 1.0) }
    }
}

impl Task {
    /// The lag of all inputs of which it is known; none when of none.
    pub fn lag(&self) -> Option<u64> {
        self.inputs.iter().filter_map(|input| input.lag).reduce(u64::saturating_add)
    }
}
