//! What can go wrong. Invariant: every message says what was found, what was expected and what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::Position;

/// A failure of the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused. Of a [`Error::Io`] while appending nothing is ever committed.
    #[error("cannot {action} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried, as a verb.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another writer has the data directory.
    #[error(
        "{} is in use by {}: one process writes a data directory at a time. Stop that process, \
         or choose another directory",
        dir.display(),
        pid.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The data directory.
        dir: PathBuf,
        /// The other writer, as far as its lock file says.
        pid: Option<u32>,
    },
    /// Committed bytes are not what was written.
    #[error(
        "{} is damaged at byte {byte}: found {found}, expected {expected}. Check the disk and \
         restore the data directory from a backup; what lies before this byte is still readable",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file, in bytes from its start.
        byte: u64,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// A committed segment is shorter than it was, or gone.
    #[error(
        "lost data: {} was committed with {committed} bytes, but {}. Restore the data directory \
         from a backup",
        path.display(),
        found.map_or("is gone".to_owned(), |found| format!("has {found}"))
    )]
    Lost {
        /// The segment file.
        path: PathBuf,
        /// Its committed length in bytes.
        committed: u64,
        /// Its length in bytes, none when there is no such file.
        found: Option<u64>,
    },
    /// There are topics but no commit that says what of them counts.
    #[error(
        "{} has topics but no COMMIT file. Restore COMMIT from a backup, or remove the directory \
         to start with an empty log",
        dir.display()
    )]
    CommitMissing {
        /// The data directory.
        dir: PathBuf,
    },
    /// Nothing was ever committed here.
    #[error("{} is not a data directory: it has no COMMIT file. Check the path", dir.display())]
    NoLog {
        /// The directory.
        dir: PathBuf,
    },
    /// The file was written by another version of Wasmill.
    #[error(
        "{} has format version {found}, this Wasmill reads version {supported}. Use the version \
         of Wasmill that wrote it",
        path.display()
    )]
    FormatVersion {
        /// The file.
        path: PathBuf,
        /// The version it has.
        found: u32,
        /// The version that can be read.
        supported: u32,
    },
    /// No topic has this name.
    #[error("there is no topic {topic:?}{}", instead(nearest))]
    NoSuchTopic {
        /// The name asked for.
        topic: String,
        /// The most similar names that exist, the nearest first; none in an empty log.
        nearest: Vec<String>,
    },
    /// The topic has fewer partitions.
    #[error("topic {topic:?} has partitions 0 to {}, there is no partition {partition}", count - 1)]
    NoSuchPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: u32,
        /// How many it has, at least 1.
        count: u32,
    },
    /// A topic can't have this name.
    #[error(
        "{topic:?} can't name a topic: use 1 to 200 of the characters a-z A-Z 0-9 . _ - and not \
         \".\" or \"..\" alone"
    )]
    TopicName {
        /// The name.
        topic: String,
    },
    /// The topic exists with another number of partitions, which never changes.
    #[error(
        "topic {topic:?} has {existing} partitions, {requested} were asked for: ask for \
         {existing}, or use a topic with another name"
    )]
    PartitionCount {
        /// The topic.
        topic: String,
        /// How many it has.
        existing: u32,
        /// How many were asked for.
        requested: u32,
    },
    /// A topic can't have this few or this many partitions.
    #[error("topic {topic:?} can't have {requested} partitions: ask for 1 to {max}")]
    PartitionLimit {
        /// The topic.
        topic: String,
        /// How many were asked for.
        requested: u32,
        /// How many it may have.
        max: u32,
    },
    /// The columns handed to an append don't belong together. Nothing was appended.
    #[error("records for topic {topic:?} partition {partition} are malformed: {reason}")]
    Malformed {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The rule that is broken.
        reason: String,
    },
    /// One record is larger than a frame may be. Nothing was appended.
    #[error(
        "a record for topic {topic:?} partition {partition} takes {bytes} bytes, at most {max} \
         are possible: split it"
    )]
    RecordTooLarge {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// Its size with key, headers and framing.
        bytes: u64,
        /// The largest size.
        max: u64,
    },
    /// An earlier write to the partition failed, so it takes nothing more.
    #[error(
        "topic {topic:?} partition {partition} is closed, an earlier write failed ({reason}). \
         Remedy that and reopen the log, which continues at its last commit"
    )]
    Poisoned {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The earlier failure.
        reason: String,
    },
    /// The records wanted were dropped by retention.
    #[error(
        "topic {topic:?} partition {partition}: offset {offset} was dropped, the first is \
         {start}. Continue there, or keep records for longer"
    )]
    Dropped {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset wanted.
        offset: u64,
        /// The first offset that is left.
        start: u64,
    },
    /// A position that this partition never gave out.
    #[error(
        "topic {topic:?} partition {partition}: position {position:?} does not belong to it \
         ({reason}). Use positions only with the log and partition they come from"
    )]
    ForeignPosition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The position.
        position: Position,
        /// What does not fit.
        reason: String,
    },
    /// Commits must ascend, in epoch and in the order of their snapshots.
    #[error(
        "commit of epoch {epoch} is out of order: epoch {committed} is committed already. Commit \
         snapshots in the order they were taken, with ascending epochs"
    )]
    CommitOrder {
        /// The epoch to be committed.
        epoch: u64,
        /// The last committed epoch.
        committed: u64,
    },
    /// An earlier commit failed, so what is on disk is uncertain until the log is reopened.
    #[error(
        "the log commits nothing more, an earlier commit failed ({reason}). Remedy that and \
         reopen the log, which continues at its last commit"
    )]
    CommitFailed {
        /// The earlier failure.
        reason: String,
    },
}

impl Error {
    /// For `map_err`: an [`Error::Io`] of `action` on `path`.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }
}

/// What to ask for instead of a topic that does not exist.
fn instead(nearest: &[String]) -> String {
    let quoted: Vec<String> = nearest.iter().map(|name| format!("{name:?}")).collect();
    let named = match quoted.split_last() {
        None => return ", there are no topics yet: run the pipeline first".to_owned(),
        Some((only, [])) => format!("is {only}"),
        Some((last, others)) => format!("are {} and {last}", others.join(", ")),
    };
    format!(". The nearest {named}; `wasmill topic ls` lists them all")
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull => {
            ". The disk is full: free some space and start again, the log continues at its last \
             commit"
        }
        io::ErrorKind::QuotaExceeded => {
            ". The disk quota is used up: raise it or free some space and start again, the log \
             continues at its last commit"
        }
        io::ErrorKind::PermissionDenied => {
            ". Give the user that runs Wasmill read and write access to the data directory"
        }
        io::ErrorKind::ReadOnlyFilesystem => ". The data directory must be on a writable disk",
        _ => "",
    }
}
