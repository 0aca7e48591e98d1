//! Why a task must stop: what no record alone is to blame for.

use crate::operator::CallError;
use crate::store;

/// Why a task must stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The state store can't be read.
    #[error("stage {stage}: {error}")]
    Store {
        /// The stage.
        stage: String,
        /// What happened.
        error: store::Error,
    },
    /// Records keep making the plugin fail, or one did and the stage says `on-failure = "halt"`.
    #[error(
        "stage {stage}: plugin {plugin} failed on {in_a_row} record(s) in a row, the last time: \
         {error}; mend the plugin, or raise max-failures, and run again: nothing is lost"
    )]
    Halted {
        /// The stage.
        stage: String,
        /// The plugin's name and version.
        plugin: String,
        /// How many records in a row.
        in_a_row: u32,
        /// The last failure.
        error: CallError,
    },
    /// The plugin can't be instantiated any more.
    #[error("stage {stage}: the plugin can't be started again: {message}")]
    Broken {
        /// The stage.
        stage: String,
        /// What happened.
        message: String,
    },
    /// A stored state has a version that the plugin can't read.
    #[error(
        "stage {stage}: plugin {plugin} writes state version {writes} and reads {reads:?}, but a \
         stored state has version {found}; run the version that wrote it, or one that migrates it"
    )]
    StateVersion {
        /// The stage.
        stage: String,
        /// The plugin's name and version.
        plugin: String,
        /// What is stored.
        found: u32,
        /// What the plugin writes.
        writes: u32,
        /// What it can migrate.
        reads: Vec<u32>,
    },
    /// The plugin failed to migrate a stored state.
    #[error("stage {stage}: {message}")]
    Migration {
        /// The stage.
        stage: String,
        /// What the plugin said.
        message: String,
    },
}
