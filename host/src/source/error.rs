//! What can go wrong while reading. Invariant: every message names the file and the place in it, and
//! says what to do.

use std::io;

use super::Position;

/// A failure of a source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A pattern is no glob.
    #[error(
        "source.{source_name}: {glob:?} is not a pattern: {message}. A pattern has *, ?, ** and \
         [...]; write [[], [*] or [?] for the signs themselves"
    )]
    Pattern {
        /// The source.
        source_name: String,
        /// The pattern.
        glob: String,
        /// What is wrong with it.
        message: String,
    },
    /// A pattern matches no file.
    #[error(
        "source.{source_name}: no file matches {glob:?} in {folder}{}. Check the spelling, and \
         that the files are there",
        match folders {
            0 => String::new(),
            1 => ", only a folder, which isn't read".to_owned(),
            n => format!(", only {n} folders, which aren't read"),
        }
    )]
    NoMatch {
        /// The source.
        source_name: String,
        /// The pattern.
        glob: String,
        /// The folder that the pattern is relative to.
        folder: String,
        /// How many folders it matches.
        folders: usize,
    },
    /// A file is of a kind that can't be read as one.
    #[error("source.{source_name}: {path} is {found}, expected a file. {help}")]
    Kind {
        /// The source.
        source_name: String,
        /// The path.
        path: String,
        /// What it is.
        found: &'static str,
        /// What to do.
        help: &'static str,
    },
    /// The name of a file is not UTF-8.
    #[error("source.{source_name}: the name of {path} is not UTF-8. Rename the file")]
    Name {
        /// The source.
        source_name: String,
        /// The path, with replacements.
        path: String,
    },
    /// The operating system refused.
    #[error("source.{source_name}: cannot {action} {path}: {source}{}", hint(source))]
    Io {
        /// The source.
        source_name: String,
        /// The file, or what else is read.
        path: String,
        /// What was tried, as a verb.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A compressed file ends too early.
    #[error(
        "source.{source_name}: {path} is cut off: its {compression} data ends after {byte} \
         decompressed bytes without its end mark. Get the whole file; or, to use what is there, \
         decompress it to another file and read that"
    )]
    CutOff {
        /// The source.
        source_name: String,
        /// The file.
        path: String,
        /// The compression.
        compression: &'static str,
        /// How many decompressed bytes came before.
        byte: u64,
    },
    /// A compressed file can't be decompressed.
    #[error(
        "source.{source_name}: {path} is no {compression} file or is damaged, after {byte} \
         decompressed bytes: {message}. Get an intact copy; if the file is not compressed at all, \
         set compression = \"none\""
    )]
    Damaged {
        /// The source.
        source_name: String,
        /// The file.
        path: String,
        /// The compression.
        compression: &'static str,
        /// How many decompressed bytes came before.
        byte: u64,
        /// What the decompressor says.
        message: String,
    },
    /// A file is shorter than what was read of it.
    #[error(
        "source.{source_name}: {path} shrank or was replaced: {} bytes (line {}) were read of it, \
         but it has {length} now. Restore the file; or, if its content may be read anew, start \
         with empty state",
        position.byte, position.line
    )]
    Shrank {
        /// The source.
        source_name: String,
        /// The file.
        path: String,
        /// How far it was read.
        position: Position,
        /// Its length now, in bytes, decompressed.
        length: u64,
    },
    /// A file is another one than what was read before.
    #[error(
        "source.{source_name}: {path} was changed or replaced: reading should go on at byte {} \
         (line {}), but no line begins there. Restore the file; or, if its content may be read \
         anew, start with empty state",
        position.byte, position.line
    )]
    Changed {
        /// The source.
        source_name: String,
        /// The file.
        path: String,
        /// How far it was read.
        position: Position,
    },
    /// A file that is followed is no longer found under its path.
    #[error(
        "source.{source_name}: {path} was moved, replaced or removed while it was followed, after \
         {} bytes (line {}). Let what writes it only append to it",
        position.byte, position.line
    )]
    Moved {
        /// The source.
        source_name: String,
        /// The file.
        path: String,
        /// How far it was read.
        position: Position,
    },
    /// A position is that of another file.
    #[error(
        "source.{source_name}: partition {partition} was {before} and is {path} now. The files of a \
         source must stay the same; restore them, or start with empty state"
    )]
    OtherFile {
        /// The source.
        source_name: String,
        /// The partition.
        partition: u32,
        /// The file of the position.
        before: String,
        /// The partition's file.
        path: String,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => ". Check the spelling, and that the file is there",
        io::ErrorKind::PermissionDenied => ". Let the user that runs this process read it",
        _ => "",
    }
}
