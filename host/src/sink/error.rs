//! What can go wrong while writing. Invariant: every message names the file and says what to do.

use std::io;

/// A failure of a sink.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused. What was written since the last commit is in doubt: the sink
    /// must be opened again.
    #[error("sink.{sink}: cannot {action} {path}: {source}{}", hint(source))]
    Io {
        /// The sink.
        sink: String,
        /// The file or folder, or `stdout`.
        path: String,
        /// What was tried, as a verb.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file of a sink that never committed has something in it.
    #[error(
        "sink.{sink}: {path} has {length} bytes that this pipeline has not written. Remove the \
         file, or give the sink another path"
    )]
    Occupied {
        /// The sink.
        sink: String,
        /// The file.
        path: String,
        /// Its length in bytes.
        length: u64,
    },
    /// The file is shorter than it was at the last commit, or gone.
    #[error(
        "sink.{sink}: lost data: {path} was committed with {committed} bytes, but {}. Restore the \
         file; or, if its records may be written anew, start with empty state",
        found.map_or("is gone".to_owned(), |found| format!("has {found}"))
    )]
    Lost {
        /// The sink.
        sink: String,
        /// The file.
        path: String,
        /// The length in bytes that was committed.
        committed: u64,
        /// The length now; none when there is no file.
        found: Option<u64>,
    },
    /// The path is a folder.
    #[error("sink.{sink}: {path} is a folder, expected a file. Add the name of a file to the path")]
    Folder {
        /// The sink.
        sink: String,
        /// The path.
        path: String,
    },
    /// A write has failed before, so how much is in the file is unknown.
    #[error(
        "sink.{sink}: an earlier write to {path} failed. Start the pipeline again from its last \
         commit"
    )]
    Failed {
        /// The sink.
        sink: String,
        /// The file, or `stdout`.
        path: String,
    },
}

impl Error {
    /// Whether whoever read standard output has gone, as `head` does.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ". Let the user that runs this process write there",
        io::ErrorKind::StorageFull => ". Free some space; the last commit is safe",
        _ => "",
    }
}
