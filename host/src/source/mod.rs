//! Sources outside of the log: files and standard input, as partitions that are read in batches.
//!
//! Invariant: reading on from a [`Position`] gives exactly the records that come after it.

mod compression;
mod error;
mod expand;
mod file;
mod jsonl;
mod lines;
mod reader;
mod stdin;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wasmill_pipeline::{Encoding, Source, SourceKind};

pub use error::Error;
pub use lines::{LONG_LINE_HEAD_BYTES, MAX_LINE_BYTES};
pub use reader::{Bad, Batch, MAX_BATCH_BYTES, Reader};

/// A part of a source that is read in order: a file, or standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The source's name.
    pub source: String,
    /// The partition, from 0.
    pub index: u32,
    /// What is read.
    pub what: What,
    /// What is in it.
    pub encoding: Encoding,
    /// Whether it ends with the last line there is. Otherwise a file is looked at again and again
    /// for lines that were appended, unless it is compressed: then it ends all the same.
    pub bounded: bool,
}

/// What a partition is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A file, with a path as the pipeline file has it.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl What {
    /// What stands for it in a [`Position`]: the absolute path, or `-`. It stays the same when the
    /// process is started again in another folder.
    pub fn id(&self) -> String {
        match self {
            Self::File(path) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                path.to_string_lossy().into_owned()
            }
            Self::Stdin => "-".to_owned(),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("stdin"),
        }
    }
}

/// Where the next line begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The file, as [`What::id`] has it.
    pub path: String,
    /// The index of the next line, from 0; empty lines count.
    pub line: u64,
    /// Where it begins, in bytes of the decompressed content.
    pub byte: u64,
}

/// The partitions of a source. For files: those that its patterns match, in the order of their
/// paths, each once. As in a shell, `*` does not match a leading dot; folders that a pattern with
/// wildcards matches are passed over.
///
/// # Errors
/// [`Error::Pattern`], [`Error::NoMatch`] for a pattern that matches no file, [`Error::Kind`],
/// [`Error::Name`], and [`Error::Io`] for a file that can't be opened.
///
/// # Panics
/// When the source is a topic, whose partitions are those of the log.
pub fn partitions(source: &Source) -> Result<Vec<Partition>, Error> {
    let (whats, encoding) = match &source.kind {
        SourceKind::File { paths, encoding } => {
            let paths = expand::expand(&source.name, paths)?;
            (paths.into_iter().map(What::File).collect(), encoding)
        }
        SourceKind::Stdin { encoding } => (vec![What::Stdin], encoding),
        SourceKind::Topic { topic, .. } => panic!("topic {topic} is read from the log"),
    };
    let partition = |(index, what)| Partition {
        source: source.name.clone(),
        index,
        what,
        encoding: encoding.clone(),
        bounded: source.bounded,
    };
    Ok((0..).zip(whats).map(partition).collect())
}

impl Partition {
    /// Begins to read, at the start or where a reader has stopped before.
    ///
    /// Standard input can't be read again: with a position, only the counting of lines goes on, and
    /// what an earlier process has read and not processed is gone.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::OtherFile`], [`Error::Shrank`] and [`Error::Changed`] when the file
    /// isn't the one that the position is from; [`Error::CutOff`] and [`Error::Damaged`] when what
    /// lies before the position can no longer be decompressed.
    pub fn open(&self, position: Option<Position>) -> Result<Reader, Error> {
        let start = match position {
            Some(position) if position.path != self.what.id() => {
                return Err(Error::OtherFile {
                    source_name: self.source.clone(),
                    partition: self.index,
                    before: position.path,
                    path: self.what.to_string(),
                });
            }
            Some(position) => position,
            None => Position { path: self.what.id(), line: 0, byte: 0 },
        };
        let input = match &self.what {
            What::File(path) => file::open(self, path, &start)?,
            What::Stdin => stdin::open(self, std::io::stdin())?,
        };
        Ok(Reader::new(self.clone(), start, input))
    }

    /// How many bytes it has, where they are to be read once and as they are: none of standard input,
    /// of what is compressed, and of what has no end.
    pub fn length(&self) -> Option<u64> {
        match &self.what {
            What::File(path) if self.bounded => file::length(self, path).ok().flatten(),
            _ => None,
        }
    }

    fn io(&self, action: &'static str, source: std::io::Error) -> Error {
        let (source_name, path) = (self.source.clone(), self.what.to_string());
        Error::Io { source_name, path, action, source }
    }
}
