//! Sinks: what leaves the pipeline for files and standard output.
//!
//! Invariant: after [`open`] with the lengths of a commit, each file has exactly the bytes that the
//! commit covers. Standard output can't be taken back: after a crash, what followed the last commit
//! is written again (at least once).

mod error;
mod file;
mod format;
mod output;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wasmill_core::flow::Flow;
use wasmill_pipeline::{Sink, SinkFormat, SinkKind};

pub use error::Error;
pub use output::Output;

/// An opened sink.
#[derive(Debug)]
pub struct Opened {
    /// A writer for each partition that [`open`] was given, in that order.
    pub writers: Vec<Writer>,
    /// What they write to, each once: a file for each partition, or one for all, or stdout.
    pub outputs: Vec<Output>,
}

/// Writes the records of one task to a sink.
#[derive(Debug)]
pub struct Writer {
    format: SinkFormat,
    output: Output,
    lines: Vec<u8>,
}

impl Writer {
    /// Writes records, each as a line:
    ///
    /// - [`SinkFormat::Value`]: the bytes of the value as they are, and a newline. A null value is
    ///   an empty line, so that there are as many lines as records (unless values have newlines).
    /// - [`SinkFormat::Record`]: JSON as [`crate::record_json::write()`] writes it.
    ///
    /// They may stay in memory until [`Output::flush`].
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Failed`].
    pub fn write(&mut self, flow: &Flow) -> Result<(), Error> {
        self.lines.clear();
        format::write(&mut self.lines, flow, self.format);
        self.output.append(&self.lines)
    }

    /// Where it writes, perhaps with others.
    pub fn output(&self) -> &Output {
        &self.output
    }
}

/// Opens a sink for the tasks of these partitions. `committed` has the length of each output at the
/// last commit, by [`Output::id`]; outputs that are not in it are new.
///
/// A file that is new is created, with its folders. One that was committed is cut off at that length.
/// Lengths must be committed once, as 0, before anything is written: what a crash leaves in a file
/// that was never committed can't be told from what someone else has put there.
///
/// # Errors
/// [`Error::Occupied`] for a new file that has content, [`Error::Lost`] for a committed one that is
/// too short or gone, [`Error::Folder`], [`Error::Io`].
pub fn open(
    sink: &Sink,
    partitions: &[u32],
    committed: &BTreeMap<String, u64>,
) -> Result<Opened, Error> {
    let mut opened = Opened { writers: Vec::new(), outputs: Vec::new() };
    for partition in partitions {
        let path = match &sink.kind {
            SinkKind::File { path, partitioned: true } => Some(partition_path(path, *partition)),
            SinkKind::File { path, partitioned: false } => Some(path.clone()),
            SinkKind::Stdout => None,
        };
        let id = output_id(sink, path.as_deref());
        let output = match opened.outputs.iter().find(|o| o.id() == id) {
            Some(output) => output.clone(),
            None => {
                let before = committed.get(&id).copied();
                let output = match &path {
                    Some(path) => file::open(&sink.name, path, id, before)?,
                    None => Output::stdout(&sink.name, id, before.unwrap_or(0)),
                };
                opened.outputs.push(output.clone());
                output
            }
        };
        opened.writers.push(Writer { format: sink.format, output, lines: Vec::new() });
    }
    Ok(opened)
}

/// The absolute path, which stays the same when the process is started in another folder; for
/// standard output the name of the sink behind a `-`.
fn output_id(sink: &Sink, path: Option<&Path>) -> String {
    match path {
        Some(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            path.to_string_lossy().into_owned()
        }
        None => format!("-{}", sink.name),
    }
}

/// The path with the partition filled in, in each of its parts that is UTF-8, as all are that the
/// pipeline file has written.
fn partition_path(path: &Path, partition: u32) -> PathBuf {
    let number = partition.to_string();
    let fill = |part: std::path::Component<'_>| match part.as_os_str().to_str() {
        Some(text) => PathBuf::from(text.replace("{partition}", &number)),
        None => PathBuf::from(part.as_os_str()),
    };
    path.components().map(fill).collect()
}
