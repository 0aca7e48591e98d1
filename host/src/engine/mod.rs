//! Running a pipeline on one machine: tasks on worker threads, topics in the embedded log, state on
//! disk, everything committed together.
//!
//! Invariant: what a commit makes visible (records, offsets, state, lengths of output files) belongs
//! to one cut through all tasks; after a crash everything goes back to the last commit.

mod apply;
mod checkpoint;
mod cut;
mod embedded;
mod feed;
pub mod inspect;
pub mod kafka;
mod open;
mod pieces;
pub mod prepare;
pub mod report;
mod resources;
mod retention;
mod run;
mod shown;
mod task;
mod topology;
mod worker;

use std::path::PathBuf;

pub use prepare::Prepared;
pub use report::Report;
pub use run::run;

/// How a pipeline is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The folder of the log and the state.
    pub data_dir: PathBuf,
    /// Worker threads; none for what the pipeline file says, or one a core.
    pub workers: Option<usize>,
    /// Stop cleanly when this is set: a last checkpoint, then the end.
    pub stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    /// Set for a run over history.
    pub replay: Option<Replay>,
    /// Counts what has been read, for a progress bar.
    pub progress: std::sync::Arc<report::Progress>,
    /// How the run stands, for whoever asks.
    pub figures: std::sync::Arc<crate::admin::Figures>,
}

/// A run over history, beside the one that runs.
#[derive(Debug, Clone)]
pub struct Replay {
    /// What the names of the topics that it writes end in.
    pub suffix: String,
    /// Where it ends; none for where the topics end when it begins.
    pub until: Option<Until>,
}

/// Where a replay ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Until {
    /// Before the first record with this or a later timestamp, in ms since the Unix epoch.
    Timestamp(i64),
    /// Before an offset, by partition; partitions that are not named end where they end now.
    Offsets(std::collections::BTreeMap<u32, i64>),
}

/// Why a run has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log can't be used.
    #[error(transparent)]
    Log(#[from] wasmill_log::Error),
    /// The state can't be used.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// A savepoint can't be used.
    #[error(transparent)]
    Savepoint(#[from] crate::savepoint::Error),
    /// A source can't be read.
    #[error(transparent)]
    Source(#[from] crate::source::Error),
    /// A sink can't be written.
    #[error(transparent)]
    Sink(#[from] crate::sink::Error),
    /// A component can't be used.
    #[error(transparent)]
    Runtime(#[from] crate::runtime::Error),
    /// A task had to stop.
    #[error("task {task}: {error}")]
    Task {
        /// The sub-topology and partition.
        task: String,
        /// Why.
        error: wasmill_core::keyed::Error,
    },
    /// Kafka can't be used.
    #[error(transparent)]
    Kafka(#[from] wasmill_kafka::Error),
    /// A transaction has failed.
    #[error("transaction: {0}")]
    Commit(wasmill_kafka::CommitError),
    /// The consumer group can't be used.
    #[error("group {group}: {why}")]
    Group {
        /// The group.
        group: String,
        /// What Kafka says.
        why: String,
    },
    /// The data directory belongs to another pipeline or another shape of it.
    #[error("{0}")]
    Shape(String),
    /// A worker thread has panicked: a defect of the host.
    #[error("a worker thread has failed: {0}; this is a defect of Wasmill, please report it")]
    Panic(String),
}
